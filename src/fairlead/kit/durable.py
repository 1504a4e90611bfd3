"""Durable: small files that only their owner reads. Nobody ever finds a half of one, and what is there outlives a crash."""

from __future__ import annotations

import os
from pathlib import Path


def draft(path: Path, data: bytes) -> Path:
    """Write what a file is to hold beside it, on disk when this returns; ``keep`` puts it in place."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return fresh


def keep(fresh: Path, path: Path) -> None:
    """Have a draft be the file, and the directory remember it."""
    fresh.replace(path)
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
