"""docs/cli.md cannot lie about commands and options: each of its examples is read as the command line reads it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from fairlead.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
EXAMPLES = re.findall(r"^\$ fairlead (.*)$", PAGE, flags=re.MULTILINE)


def read(words: list[str]) -> None:
    """Read a command with its options as if it were to run; raises on what there is not."""
    command = get_command(main.app)
    context = command.make_context("fairlead", [], resilient_parsing=True)
    while hasattr(command, "commands"):
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, name
        command = found
    command.make_context(name, words)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_understood(example: str) -> None:
    read(shlex.split(example))


@pytest.mark.parametrize("example", ["ps --nope", "network create", "nope", "run --network"])
def test_what_is_not_understood_would_be_noticed(example: str) -> None:
    with pytest.raises((Exception, AssertionError)):  # typer's own, which has no public name
        read(shlex.split(example))


def test_every_command_has_an_example() -> None:
    group = get_command(main.app)
    context = group.make_context("fairlead", [], resilient_parsing=True)
    for name in main.COMMANDS:
        command = group.get_command(context, name)  # type: ignore[attr-defined]
        for path in [f"{name} {inner}" for inner in getattr(command, "commands", ())] or [name]:
            assert any(example == path or example.startswith(f"{path} ") for example in EXAMPLES), path
            if " " not in path or path.startswith("network"):
                assert f"### {path}" in PAGE


def test_every_long_option_that_the_page_names_exists() -> None:
    group = get_command(main.app)
    known = {"--install-completion", "--net", *(word for param in group.params for word in param.opts)}
    context = group.make_context("fairlead", [], resilient_parsing=True)
    for name in main.COMMANDS:
        command = group.get_command(context, name)  # type: ignore[attr-defined]
        for one in (command, *getattr(command, "commands", {}).values()):
            known |= {word for param in one.params for word in (*param.opts, *param.secondary_opts)}
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    assert set(re.findall(r"--[a-z][a-z0-9-]+", prose)) <= known | {"--help"}
