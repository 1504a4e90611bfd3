"""The repository's own files, as git sees them: tracked, and new ones that are not ignored."""

from __future__ import annotations

import subprocess
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent


@cache
def _files() -> tuple[Path, ...]:
    # Root may run the tests in somebody else's clone, which git refuses without being told.
    command = ("git", "-c", f"safe.directory={ROOT}", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=20).stdout
    return tuple(sorted(path for name in listed.split("\0") if name and (path := ROOT / name).is_file()))


def tracked(pattern: str = "*") -> list[Path]:
    """Files whose path in the repository matches ``pattern``; ``*`` crosses folders."""
    return [path for path in _files() if fnmatchcase(str(path.relative_to(ROOT)), pattern)]
