"""Whatever comes in, what goes out is CNI's: a result or an error with a code, never a traceback."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.cni import config, result, verbs
from fairlead.cni.call import HEADERS
from fairlead.cni.spec import Code
from fairlead.model.address import Address, Mac
from tests.contracts.cni_calls import ERROR, VERSIONS, call, conf, environment
from tests.contracts.fake_door import FakeDoor


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path))


# hostile input

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
KEYS = st.sampled_from(sorted(field.encode_name for field in msgspec.structs.fields(config.Config)))
PARTS = (config.Ipam, config.Pool, config.StaticRoute, config.Runtime, config.PortMapping, config.RuntimeDns, config.NetworkDns)
PARTS += (config.CniArgs, config.Label, config.Attachment, result.Result, result.Device, result.Given, result.Way, config.Args)
INNER = st.sampled_from(sorted({field.encode_name for part in PARTS for field in msgspec.structs.fields(part)}))
VALUES = st.recursive(
    TREES
    | st.sampled_from(
        ["10.0.0.0/8", "10.0.0.1", "fd00::/64", "eth0", "tcp", "mynet", 80, 1500, "/run/netns/c1", "02:00:00:00:00:01"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(INNER, inner, max_size=4),
    max_leaves=12,
)
CONFIGS = st.dictionaries(KEYS, VALUES, max_size=8)
TEXT = st.text(max_size=40) | st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


def speaks_cni(status: int, out: bytes) -> None:
    if status:
        answer = json.loads(out)
        jsonschema.validate(answer, ERROR)
        assert answer["code"] != Code.INTERNAL, answer
    elif out:
        answer = json.loads(out)
        if "supportedVersions" not in answer:
            assert answer["cniVersion"] in VERSIONS
    assert len(out) < 3 << 20


HOSTILE = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
COMMANDS = st.sampled_from(["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"])


@HOSTILE
@given(stdin=st.binary(max_size=400), command=COMMANDS)
def test_any_bytes(stdin: bytes, command: str) -> None:
    speaks_cni(*asyncio.run(verbs.serve(FakeDoor(), environment(command), stdin)))


@HOSTILE
@given(tree=CONFIGS, command=COMMANDS, version=st.sampled_from(VERSIONS))
def test_any_configuration(tree: dict, command: str, version: str) -> None:
    stdin = json.dumps({**tree, "cniVersion": version, "name": "mynet"}).encode("utf-8", "surrogatepass")
    door = FakeDoor()
    speaks_cni(*asyncio.run(verbs.serve(door, environment(command), stdin)))


@HOSTILE
@given(values=st.dictionaries(st.sampled_from(list(HEADERS)), TEXT), stdin=st.sampled_from([conf(), b"", b"{}"]))
def test_any_environment(values: dict[str, str], stdin: bytes) -> None:
    speaks_cni(*asyncio.run(verbs.serve(FakeDoor(), values, stdin)))
    speaks_cni(*asyncio.run(verbs.serve(FakeDoor(), {**environment("ADD"), **values}, stdin)))


@HOSTILE
@given(data=st.binary(max_size=300))
def test_any_remembered_file(data: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "pending-del"
    folder.mkdir(exist_ok=True)
    (folder / "c1.eth0.1").write_bytes(b"POST /cni HTTP/1.1\r\n" + data if len(data) % 2 else data)
    asyncio.run(verbs.finish_pending(FakeDoor(), folder))
    assert not list(folder.iterdir())


def test_addresses_of_the_model_are_what_goes_out() -> None:
    """What the agent answers with is the model's: nothing here prints an object by accident."""
    _, answer = call(FakeDoor(), "ADD", conf())
    assert Address(answer["ips"][0]["gateway"]).family == 4
    assert Mac(answer["interfaces"][2]["mac"])
