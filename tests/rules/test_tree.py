"""House rules for the repository as a whole: what lies where, links and commands that work, words that have no place here."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from tests.tree import ROOT, tracked

ROOT_ENTRIES = 20
TEXT = [path for path in tracked() if path.suffix not in {".png", ".svg", ".o", ".gif"}]
PAGES = tracked("*.md")
COMMAND = r"(?:`|^ *(?:\$ )?|&& )make ([a-z][a-z-]*)"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

WORDS = {
    "a tracker's number, which means nothing to a reader": r"(?<![/\w-])issue #?\d",
    "how the text came to be": r"\b(previous|next|earlier) session\b|\b(written|generated) by (an? )?AI\b",
    "a tool's name": r"\b(chatgpt|claude|copilot|codex|openai|anthropic|llms?)\b",
    "a package registry": r"pypi\.org|pythonhosted\.org|(deb|security)\.debian\.org|registry\.npmjs",
    "a place on one machine": r"(?<![\w./$}])/(work|tmp|home/\w+|root|opt/(wheels|pypi))/\w",
    "something left for later": r"\b(TODO|FIXME|XXX|HACK)\b",
}
"""What the text of the repository must not hold, and how it is recognised."""

ALLOWED = {
    "tests/rules/test_tree.py": set(WORDS),
    "LICENSE": set(WORDS),
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def found(text: str, what: str) -> list[str]:
    """Lines that hold what they must not."""
    return [line.strip() for line in text.splitlines() if re.search(WORDS[what], line, re.IGNORECASE)]


@pytest.mark.parametrize("what", WORDS)
def test_the_text_speaks_of_the_project_alone(what: str) -> None:
    excused = {path for path in TEXT if what in ALLOWED.get(name(path), ())}
    if what == "a place on one machine":
        excused.update(tracked("tests/*"))
    held = {name(path): lines for path in TEXT if path not in excused and (lines := found(path.read_text(), what))}
    assert not held


@pytest.mark.parametrize(
    ("what", "bad", "good"),
    [
        ("a tracker's number, which means nothing to a reader", "see issue 12", "see moby/issues/12"),
        ("how the text came to be", "left for the next session", "session affinity"),
        ("a tool's name", "as Claude said", "a clause said"),
        ("a package registry", "from pypi.org", "from the package index"),
        ("a place on one machine", "cd /work/main", "src/work/main, $HOME/tmp/x"),
        ("something left for later", "# TODO: x", "nothing to do"),
    ],
)
def test_the_words_are_recognised(what: str, bad: str, good: str) -> None:
    assert found(bad, what)
    assert not found(good, what)


def test_the_root_is_short() -> None:
    entries = sorted({path.relative_to(ROOT).parts[0] for path in tracked()})
    assert len(entries) < ROOT_ENTRIES, entries


def test_links_lead_somewhere() -> None:
    links = [(path, link) for path in PAGES for link in re.findall(r"\]\(([^)\s#]+)[^)\s]*\)", path.read_text())]
    local = [(path, link) for path, link in links if not re.match(r"[a-z]+:", link)]
    assert [(name(path), link) for path, link in local if not (path.parent / link).exists()] == []


def test_commands_in_the_text_are_targets() -> None:
    levels = {f"test-{folder.name}" for folder in (ROOT / "tests").iterdir() if folder.is_dir()}
    targets = levels | set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {(name(path), one) for path in PAGES for one in re.findall(COMMAND, path.read_text(), re.MULTILINE)}
    assert ("README.md", "demo") in named
    assert [(page, one) for page, one in sorted(named) if one not in targets] == []


def test_scripts_parse_and_can_be_run() -> None:
    shell = [path for path in tracked() if path.suffix == ".sh" or re.match(rb"#!.*\b(ba)?sh\b", path.read_bytes()[:40])]
    assert ROOT / ".ci/run" in shell
    assert [name(path) for path in shell if not path.stat().st_mode & 0o111] == []
    for path in shell:
        subprocess.run(["bash", "-n", path], check=True, timeout=20)


def test_imports_point_down() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-logo"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_dependency_has_its_reason_and_its_version() -> None:
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    names = [re.split(r"[<>=!\[; ]", one)[0].lower() for one in wanted]
    reasons = (ROOT / "docs/decisions/dependencies.md").read_text().lower()
    assert not [one for one in names if f"**{one}**" not in reasons], "docs/decisions/dependencies.md says why"
    assert not [one for one in names if one not in pinned()], "constraints.txt says which; run make constraints"


@pytest.mark.skipif(ROOT not in Path(sys.prefix).parents, reason="runs with another Python than make's own")
def test_what_is_installed_is_pinned() -> None:
    installed = {dist.name.lower().replace("_", "-"): dist.version for dist in metadata.distributions()}
    own = {"pip", "setuptools", PROJECT["name"]}
    assert {one: version for one, version in installed.items() if one not in own and pinned().get(one) != version} == {}


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {one.lower().replace("_", "-"): version for one, version in pairs}
