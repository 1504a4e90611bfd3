"""For the contract tests: the compiled CNI client, and every store."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.cni_client import ROOT, Client
from tests.contracts.etcd import Member, running
from tests.contracts.flaky import Flaky
from tests.contracts.stores import InEtcd, InFile, InKubernetes, InMemory, Opened, Whole
from tests.kubernetes.server import Server, serving


@pytest.fixture(scope="session")
def bin_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: apt-get install gcc libc6-dev")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec
    assert spec.loader
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    folder = tmp_path_factory.mktemp("bin")
    build.compile_client(program=folder / "fairlead")
    shutil.copy(folder / "fairlead", folder / "fairlead-ipam")
    return folder


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short path, as a socket needs one."""
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path / "state"))
    with tempfile.TemporaryDirectory(prefix="fairlead-") as folder:
        yield Path(folder)


@pytest.fixture
def client(bin_dir: Path, run_dir: Path, tmp_path: Path) -> Client:
    return Client(bin_dir, run_dir, tmp_path / "state")


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """One member that is a cluster, for all tests; each has a prefix of its own."""
    with running(tmp_path_factory.mktemp("etcd")) as (member,):
        yield member


class Fails(InMemory):
    """The fake that fails on command, while nothing is commanded."""

    async def open(self, *, shared: bool = False, **options: Any) -> Whole:  # noqa: ARG002  # nobody to share it with
        return Flaky(**options)


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One API server for all tests; each begins with an empty one."""
    with serving(tmp_path_factory.mktemp("kubernetes")) as server:
        yield server


@pytest.fixture(
    params=["memory", "flaky", "sqlite", pytest.param("etcd", marks=pytest.mark.needs("etcd", "setpriv")), "kubernetes"]
)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """An empty store of each kind."""
    if request.param == "etcd":
        return InEtcd(request.getfixturevalue("etcd"))
    if request.param == "kubernetes":
        return InKubernetes(request.getfixturevalue("api_server"))
    if request.param == "sqlite":
        return InFile(tmp_path)
    return Fails() if request.param == "flaky" else InMemory()
