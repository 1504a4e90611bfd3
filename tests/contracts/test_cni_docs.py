"""docs/cni.md cannot lie: its configurations are served, its tables are compared with the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fairlead.cni import config, install
from fairlead.cni.spec import Code
from tests.contracts.cni_calls import call
from tests.contracts.fake_door import FakeDoor

PAGE = (Path(__file__).parents[2] / "docs/cni.md").read_text()
EXAMPLES = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]


def derived(example: dict[str, Any]) -> dict[str, Any]:
    """What a runtime makes of a configuration for its first plugin."""
    plugins = example.pop("plugins", [{}])
    return {**plugins[0], **example}


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_are_served(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path))
    used = derived(dict(EXAMPLES[number]))
    kind = used["ipam"]["type"] if used["type"] not in {"fairlead", "fairlead-ipam"} else used["type"]
    if kind == "fairlead-ipam":
        used["ipam"]["dataDir"] = str(tmp_path / "networks")
    status, answer = call(FakeDoor(), "ADD", json.dumps(used).encode(), CNI_PLUGIN=kind)
    assert status == 0, answer
    assert answer["ips"]


def test_conflist_is_what_install_writes() -> None:
    assert json.loads(install.conflist("default", "fairlead")) in EXAMPLES


def test_every_code_is_listed() -> None:
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)] == sorted(Code)


def test_every_key_is_named() -> None:
    parts = (config.Config, config.Runtime)
    known = {key for part in parts for key in part.__struct_encode_fields__}
    assert [
        key for key in sorted(known - {"args", "cniVersion", "cgroupPath"}) if not re.search(rf'[`".]{key}[`"]', PAGE)
    ] == []
