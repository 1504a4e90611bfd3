"""Commands of a document, as a reader would copy them."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
_BLOCK = re.compile(r"^( *)```console\n(.*?)^ *```$", flags=re.MULTILINE | re.DOTALL)


def section(page: str, title: str) -> str:
    """What stands under a heading, up to the next of its kind."""
    _, found, rest = (DOCS / page).read_text().partition(f"\n## {title}\n")
    assert found, f"{page} has no {title!r}"
    return rest.partition("\n## ")[0]


def commands(text: str, prompt: str) -> list[str]:
    """Every command after this prompt in the blocks of a section, with the lines that belong to it."""
    found: list[str] = []
    for indent, block in _BLOCK.findall(text):
        going = False
        for line in block.splitlines():
            bare = line.removeprefix(indent)
            if bare.startswith(prompt):
                found.append(bare.removeprefix(prompt))
            elif going and bare.startswith(" "):
                found[-1] += f"\n{bare}"
            going = bare.startswith(prompt) or (going and bare.startswith(" "))
    return found
