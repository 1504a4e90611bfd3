"""For the tests of the Kubernetes store: servers that stand in, each test's own, and stores that ask them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fairlead.store.kubernetes.store import Kubernetes
from tests.kubernetes.server import StoodIn, standing_in

Opens = Callable[..., AbstractAsyncContextManager[Kubernetes]]


@pytest.fixture
def server() -> Iterator[StoodIn]:
    """An API server of this test's own."""
    with standing_in() as server:
        yield server


@pytest.fixture
def opens(server: StoodIn) -> Opens:
    """Open a store of it; what is said of the access is said here."""

    @asynccontextmanager
    async def opened(**more: Any) -> AsyncIterator[Kubernetes]:
        store = Kubernetes(server.access(**{"patience": 5.0, **more}))
        try:
            yield store
        finally:
            await store.close()

    return opened


@pytest.fixture
def assets() -> Path:
    """Where a real kube-apiserver and its etcd lie."""
    found = os.environ.get("KUBEBUILDER_ASSETS", "")
    if not found:
        pytest.skip("KUBEBUILDER_ASSETS names no directory with kube-apiserver and etcd")
    return Path(found)
