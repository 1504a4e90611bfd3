"""Calls of the CNI plugin over a fake agent, and what the specification says of the answers."""

from __future__ import annotations

import asyncio
import json

import jsonschema

from fairlead.cni import verbs
from tests.contracts.fake_door import FakeDoor

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")

ERROR = {
    "type": "object",
    "required": ["cniVersion", "code", "msg"],
    "additionalProperties": False,
    "properties": {
        "cniVersion": {"enum": list(VERSIONS)},
        "code": {"type": "integer", "minimum": 1},
        "msg": {"type": "string", "minLength": 1, "maxLength": 2100},
        "details": {"type": "string", "maxLength": 2100},
    },
}


def success(version: str) -> dict[str, object]:
    """The specification's section 5 as a schema, per version."""
    interface = {"name": {"type": "string"}, "mac": {"type": "string"}, "sandbox": {"type": "string"}}
    if version == "1.1.0":
        interface |= {"mtu": {"type": "integer"}, "socketPath": {"type": "string"}, "pciID": {"type": "string"}}
    ip = {"address": {"type": "string"}, "gateway": {"type": "string"}, "interface": {"type": "integer", "minimum": 0}}
    needed = ["address"]
    if version in {"0.3.1", "0.4.0"}:
        ip["version"] = {"enum": ["4", "6"]}
        needed = ["address", "version"]
    strings = {"type": "array", "items": {"type": "string"}}
    return {
        "type": "object",
        "required": ["cniVersion"],
        "additionalProperties": False,
        "properties": {
            "cniVersion": {"const": version},
            "interfaces": {
                "type": "array",
                "items": {"type": "object", "required": ["name"], "properties": interface, "additionalProperties": False},
            },
            "ips": {
                "type": "array",
                "items": {"type": "object", "required": needed, "properties": ip, "additionalProperties": False},
            },
            "routes": {"type": "array", "items": {"type": "object", "required": ["dst"]}},
            "dns": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"nameservers": strings, "domain": {"type": "string"}, "search": strings, "options": strings},
            },
        },
    }


def environment(command: str, **more: str) -> dict[str, str]:
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/c1",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
        **more,
    }


def conf(version: str = "1.1.0", **more: object) -> bytes:
    return json.dumps({"cniVersion": version, "name": "mynet", "type": "fairlead", **more}).encode()


def call(door: FakeDoor, command: str, stdin: bytes, **more: str) -> tuple[int, dict]:
    status, out = asyncio.run(verbs.serve(door, environment(command, **more), stdin))
    answer = json.loads(out) if out else {}
    if status:
        jsonschema.validate(answer, ERROR)
    return status, answer


def refused(door: FakeDoor, command: str, stdin: bytes, code: int, *words: str, **more: str) -> dict:
    status, answer = call(door, command, stdin, **more)
    assert (status, answer["code"]) == (1, code), answer
    for word in words:
        assert word in answer["msg"], answer
    return answer


PREVIOUS = {
    "interfaces": [
        {"name": "cni0", "mac": "00:11:22:33:44:55"},
        {"name": "veth3243", "mac": "54:44:33:22:11:11"},
        {"name": "eth0", "mac": "98:88:77:66:55:44", "sandbox": "/run/netns/c1"},
    ],
    "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 2}],
    "routes": [{"dst": "0.0.0.0/0"}],
    "dns": {"nameservers": ["10.1.0.1"]},
    "extension": {"kept": [1, None]},
}
"""What a bridge plugin made, as the next plugin of the chain reads it."""
