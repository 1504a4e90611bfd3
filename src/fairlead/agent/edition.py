"""Which edition of Fairlead made what stands in the kernel, and under which key.

What another one left, or stands under another key, and nobody broke, is brought up to date.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import fairlead
from fairlead.policy.identity import Numbers

_FILE = "edition"
_MADE_OF = ("*.py", "*.o")


class Edition:
    """Remembered in the run directory, which belongs to this boot as the kernel's state does."""

    def __init__(self, run: Path, numbers: Numbers) -> None:
        self._path = run / _FILE
        self._here = f"{_digest(Path(fairlead.__file__).parent)} {numbers.of(_FILE):016x}"

    @property
    def is_other(self) -> bool:
        """Whether the last agent to bring the kernel in line was another one. Of before there was a memory nothing is known."""
        try:
            return self._path.read_text() != self._here
        except FileNotFoundError:
            return False

    def remember(self) -> None:
        """The kernel is as this one has it."""
        if not self._path.exists() or self.is_other:
            self._path.write_text(self._here)


def _digest(root: Path) -> str:
    """Made of all that the package consists of: no version number says what a developer changed, or a distribution patched."""
    found = blake2b(digest_size=8)
    for path in sorted(path for pattern in _MADE_OF for path in root.rglob(pattern)):
        found.update(f"{path.relative_to(root)}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()
