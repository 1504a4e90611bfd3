"""Keyring: this node's WireGuard keys, one file each, which nobody but root reads and which never leave the machine.

``STATE/wireguard/GENERATION.key`` holds a private key in base64, as ``wg genkey`` prints it. It is on disk before its public
key is told to anybody, so that a node that was told of one finds it answered, also after a crash.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fairlead.kernel.errors import KernelError, translated
from fairlead.kernel.wireguard import from_key, to_key
from fairlead.kit import durable, fault, x25519

log = logging.getLogger(__name__)


class _Pair(NamedTuple):
    public: str
    private: str
    made: float


class Keyring:
    """The keys by generation."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        """``directory``: made when the first key is."""
        self._directory, self._clock = directory, clock
        self._pairs: dict[int, _Pair] = {}
        self._load()

    @property
    def public(self) -> dict[int, str]:
        """The public keys by generation."""
        return {number: pair.public for number, pair in sorted(self._pairs.items())}

    def secret(self, public: str) -> str:
        """The private key that goes with a public one; empty if it is none of ours."""
        return next((pair.private for pair in self._pairs.values() if pair.public == public), "")

    def age(self, number: int) -> float:
        """Seconds since a key was made."""
        return self._clock() - self._pairs[number].made

    def make(self, number: int) -> None:
        """Make a key of a generation; blocks until it is durable."""
        private = x25519.private()
        path, text = self._path(number), base64.b64encode(private).decode()
        with translated(f"keep a WireGuard key in {self._directory}"):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = durable.draft(path, f"{text}\n".encode())
            fault.point("key.written")
            durable.keep(fresh, path)
        fault.point("key.kept")
        self._pairs[number] = _Pair(from_key(x25519.public(private)), text, self._clock())

    def drop(self, number: int) -> None:
        """Forget a key, on disk too."""
        self._pairs.pop(number, None)
        with translated(f"forget a WireGuard key in {self._directory}"):
            self._path(number).unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._directory / f"{number}.key"

    def _load(self) -> None:
        for path in sorted(self._directory.glob("*.key")) if self._directory.is_dir() else ():
            try:
                number, text = int(path.stem), path.read_text().strip()
                self._pairs[number] = _Pair(from_key(x25519.public(to_key(text))), text, path.stat().st_mtime)
            except (OSError, ValueError, KernelError) as problem:
                log.error("the WireGuard key %s is not used: %s", path, problem)  # noqa: TRY400  # a person reads this
