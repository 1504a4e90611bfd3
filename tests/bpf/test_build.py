"""The programs are compiled when the package is built; where that cannot be, the message says what to install."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from fairlead.datapath.ebpf.programs import PROGRAMS
from tests.tree import ROOT


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_hook_becomes_an_object(build: ModuleType, tmp_path: Path) -> None:
    made = build.compile_hooks(objects=tmp_path)
    assert sorted(one.name for one in made) == sorted(f"{name}.bpf.o" for name in PROGRAMS)
    assert sorted(tmp_path.iterdir()) == sorted(made), "and nothing else is left there"


def test_no_compiler(build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLANG", "no-such-clang")
    with pytest.raises(SystemExit, match=r"no-such-clang.*apt-get install clang libbpf-dev"):
        build.compile_hooks(objects=tmp_path)


def test_a_source_that_is_wrong(build: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "odd.bpf.c").write_text("int odd(void) { return nothing; }\n")
    with pytest.raises(SystemExit, match=r"(?s)odd\.bpf\.c.*clang and libbpf-dev.*nothing"):
        build.compile_hooks(sources=tmp_path, objects=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_hooks_are_short_enough_to_read() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "bpf/prog").glob("*.c")}
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > 100} == {}


def test_every_source_says_its_licence() -> None:
    sources = [*(ROOT / "bpf").rglob("*.[ch]")]
    assert sources
    for path in sources:
        assert "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause" in path.read_text().splitlines()[0], path
