"""Both CNI plugins against any environment, configuration and lease files: what goes out is CNI's, nothing is out of place."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import strategies as st

from fairlead.cni import verbs
from fairlead.cni.call import HEADERS
from fairlead.cni.spec import Code
from tests.contracts.cni_calls import ERROR, PREVIOUS, VERSIONS
from tests.contracts.fake_door import FakeDoor
from tests.fuzz import TREES, encoded, explore, wrong_value

COMMANDS = st.sampled_from(["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "", "add"])
NAMES = st.sampled_from(
    ["c1", "eth0", "..", "../../etc/passwd", "a/b", "a;b", "a\nb", "é", "x" * 300, "", ".", "a:b", "a b", "'", "-"]
)
ADDRESSES = st.sampled_from(
    ["10.88.0.5", "10.88.0.5/24", "10.88.0.0/24", "fd00:88::/64", "0.0.0.0/0", "::", "10.88.0.0/31", "junk"]
)
POOL = wrong_value({"subnet": ADDRESSES, "rangeStart": ADDRESSES, "rangeEnd": ADDRESSES, "gateway": ADDRESSES})
IPAM = wrong_value(
    {
        "type": st.sampled_from(["host-local", "fairlead-ipam", "dhcp"]),
        "subnet": ADDRESSES,
        "ranges": st.lists(st.lists(POOL, max_size=2), max_size=2),
        "routes": st.lists(wrong_value({"dst": ADDRESSES, "gw": ADDRESSES}), max_size=2),
        "resolvConf": st.sampled_from(["/dev/zero", "/etc/shadow\0", "relative", "/nonexistent"]),
    }
)
RUNTIME = wrong_value(
    {
        "portMappings": st.lists(
            wrong_value({"hostPort": st.integers(), "containerPort": st.just(80), "protocol": NAMES, "hostIP": ADDRESSES}),
            max_size=2,
        ),
        "ips": st.lists(ADDRESSES, max_size=2),
        "mac": NAMES,
        "bandwidth": wrong_value({"ingressRate": st.integers(), "egressBurst": st.integers()}),
        "aliases": st.dictionaries(NAMES, st.lists(NAMES, max_size=2), max_size=2) | st.lists(NAMES, max_size=2),
        "ipRanges": st.lists(st.lists(POOL, max_size=2), max_size=2),
        "dns": wrong_value({"servers": st.lists(ADDRESSES, max_size=2), "searches": st.lists(NAMES, max_size=2)}),
    }
)
CONFIGS = wrong_value(
    {
        "cniVersion": st.sampled_from(VERSIONS),
        "name": st.just("mynet") | NAMES,
        "type": st.just("fairlead"),
        "network": NAMES,
        "bridge": NAMES,
        "mtu": st.integers(),
        "ipam": IPAM,
        "runtimeConfig": RUNTIME,
        "args": st.fixed_dictionaries({"cni": wrong_value({"ips": st.lists(ADDRESSES, max_size=2), "labels": TREES})}),
        "prevResult": st.just(PREVIOUS) | TREES,
        "cni.dev/valid-attachments": st.lists(wrong_value({"containerID": NAMES, "ifname": NAMES}), max_size=2),
    }
)
VARIABLES = st.fixed_dictionaries(
    {"CNI_COMMAND": COMMANDS, "CNI_CONTAINERID": st.just("c1") | NAMES, "CNI_IFNAME": st.just("eth0") | NAMES},
    optional={
        "CNI_NETNS": st.sampled_from(["/run/netns/c1", "/proc/self/ns/net", "", "x", "/\0"]),
        "CNI_ARGS": st.sampled_from(
            ["IP=10.88.0.7", "K8S_POD_NAME=../x;IgnoreUnknown=1", "K8S_POD_NAMESPACE=a\nb", "MAC=1", "=", "a"]
        ),
        "CNI_PLUGIN": st.sampled_from(["fairlead", "fairlead-ipam"]),
    },
)
ODD = st.dictionaries(
    st.sampled_from(sorted(HEADERS)), st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
LEASES = st.dictionaries(
    st.sampled_from(
        ["10.88.0.2", "10.88.0.3", "10.88.0.4", "fd00:88::2", "999.1.1.1", "last_reserved_ip.0", "last_reserved_ip.9", "x"]
    ),
    st.binary(max_size=40)
    | st.sampled_from([b"c1\r\neth0", b"c1", b"", b"\r\n", b"c1\neth0", b"x" * 5000, b"10.88.0.9", b"\xff\0", b"c1\r\n"]),
    max_size=6,
)


def speaks_cni(status: int, out: bytes) -> None:
    if not status:
        assert not out or json.loads(out)["cniVersion"] in VERSIONS
        return
    answer = json.loads(out)
    jsonschema.validate(answer, ERROR)
    assert answer["code"] != Code.INTERNAL, answer
    assert "Traceback" not in answer["msg"]


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path / "state"))


def test_any_call(tmp_path: Path) -> None:
    """Of either plugin. ``dataDir`` is the one field that may say where files go: it is the test's own."""

    def check(tree: Any, environment: dict[str, str], odd: dict[str, str]) -> None:
        if isinstance(tree, dict) and isinstance(tree.get("ipam"), dict):
            tree["ipam"]["dataDir"] = str(tmp_path / "leases")
        elif environment.get("CNI_PLUGIN") == "fairlead-ipam":
            return  # it would be host-local's own directory
        speaks_cni(*asyncio.run(verbs.serve(FakeDoor(), {**environment, **odd}, encoded(tree))))
        assert _outside(tmp_path) == set(), "nothing is written anywhere else"

    explore(check, 250, tree=CONFIGS | TREES, environment=VARIABLES, odd=ODD)


def test_any_lease_files(tmp_path: Path) -> None:
    """Whatever lies among host-local's files: nobody gets an address that somebody may have."""
    folder = tmp_path / "leases" / "mynet"
    ipam = {"type": "fairlead-ipam", "ranges": [[{"subnet": "10.88.0.0/29"}]], "dataDir": str(tmp_path / "leases")}
    conf = {"cniVersion": "1.1.0", "name": "mynet", "type": "bridge", "ipam": ipam, "cni.dev/valid-attachments": []}

    def check(files: dict[str, bytes], commands: list[str], strange: str) -> None:
        _clear(folder)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        _strange(folder, strange)
        for command in commands:
            before = {path.name for path in folder.iterdir()}
            environment = {"CNI_COMMAND": command, "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": "/run/netns/c1"}
            environment["CNI_PLUGIN"] = "fairlead-ipam"
            status, out = asyncio.run(verbs.serve(FakeDoor(), environment, encoded(conf)))
            speaks_cni(status, out)
            if command == "ADD" and not status:
                given = json.loads(out)["ips"][0]["address"].partition("/")[0]
                assert given not in before, "an address that had a file, whatever is in it"
                assert (folder / given).read_bytes() == b"c1\r\neth0"

    kinds = st.sampled_from(["", "directory", "pipe", "link", "loop", "device"])
    explore(
        check,
        250,
        files=LEASES,
        commands=st.lists(st.sampled_from(["ADD", "DEL", "CHECK", "GC", "STATUS"]), max_size=3),
        strange=kinds,
    )
    _clear(folder)


def _clear(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def _strange(folder: Path, kind: str) -> None:
    """Something under the name of an address that is no file of ours."""
    at = folder / "10.88.0.5"
    if kind == "directory":
        at.mkdir()
    elif kind == "pipe":
        os.mkfifo(at)
    elif kind == "link":
        at.symlink_to("/etc/passwd")
    elif kind == "loop":
        at.symlink_to(at)
    elif kind == "device":
        at.symlink_to("/dev/zero")


def _outside(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.iterdir()} - {"leases", "state"}
