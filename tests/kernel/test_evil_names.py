"""Evil names through every door of a real agent: refused with the field's name, and nothing happens anywhere."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from fairlead.cni.install import available
from tests.evil import EVIL
from tests.kernel.agents import Agent
from tests.kernel.test_cni import cni, conf
from tests.net import Containers, Node
from tests.wait import eventually

ATTACH = {
    "container": {"container": "?"},
    "interface": {"interface": "?"},
    "network": {"network": "?"},
    "namespace": {"namespace": "?"},
    "owner": {"owner": "?"},
    "a label's key": {"labels": {"?": "x"}},
    "a label's value": {"labels": {"x": "?"}},
    "alias": {"aliases": ["?"]},
    "path": {"path": "?"},
    "address": {"addresses": ["?"]},
    "mac": {"mac": "?"},
    "route": {"routes": [{"dst": "?"}]},
    "gateway": {"routes": [{"dst": "10.1.0.0/16", "gw": "?"}]},
    "host address": {"ports": [{"hostPort": 80, "containerPort": 80, "hostIp": "?"}]},
    "protocol": {"ports": [{"hostPort": 80, "containerPort": 80, "protocol": "?"}]},
    "name server": {"dns": {"nameservers": ["?"]}},
    "chained": {"chained": {"host": "?"}},
}
ALLOWED = {
    "a label's value": {""},
    "a label's key": {"a/b"},
    "alias": set[str](),
    "interface": {"-rf", "--help"},
    "chained": {"-rf", "--help"},
}
NETWORK = {
    "name": {"metadata": {"name": "?"}},
    "bridge": {"spec": {"bridge": "?"}},
    "parent": {"spec": {"driver": "macvlan", "parent": "?", "subnets": [{"cidr": "10.9.0.0/24"}]}},
    "subnet": {"spec": {"subnets": [{"cidr": "?"}]}},
    "label": {"metadata": {"name": "evil", "labels": {"?": "x"}}},
    "driver": {"spec": {"driver": "?"}},
}
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR) ")


def put(tree: Any, evil: str) -> Any:
    """``tree`` with ``evil`` in place of the question mark."""
    if isinstance(tree, dict):
        return {evil if key == "?" else key: put(value, evil) for key, value in tree.items()}
    if isinstance(tree, list):
        return [put(one, evil) for one in tree]
    return evil if tree == "?" else tree


def ask(node: Node, method: str, path: str, tree: Any = None) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("fairlead")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.sock.connect(str(node.run_dir / "agent.sock"))
        connection.request(method, path, None if tree is None else json.dumps(tree))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@contextmanager
def nothing_happens(agent: Agent, node: Node) -> Iterator[None]:
    """No file, interface, table or setting is other afterwards, and no line of the log is anybody else's."""

    def picture() -> tuple[object, ...]:
        files = {str(path) for folder in (node.run_dir, node.state_dir) for path in folder.rglob("*")}
        outside = {str(path) for folder in ("/etc", str(node.run_dir.parent)) for path in Path(folder).iterdir()}
        links = sorted(one["ifname"] for one in node.json("ip", "-j", "link"))
        forwarding = node.run("sh", "-c", "cat /proc/sys/net/ipv*/conf/*/forwarding")
        return files, outside, links, forwarding, node.run("nft", "-s", "list", "ruleset"), agent.client.objects("networks")

    before = picture()
    yield
    assert not agent.client.objects("endpoints")
    for now, then in zip(picture(), before, strict=True):
        assert now == then
    assert not [line for line in agent.log.splitlines() if not LOG_LINE.match(line)]
    assert "\x1b" not in agent.log
    assert "did not foresee" not in agent.log


@pytest.mark.parametrize("field", ATTACH)
def test_attach(agent: Agent, node: Node, containers: Containers, field: str) -> None:
    one = containers.new("one")
    whole = {"container": one.name, "path": str(one.path), "network": "default", "interface": "eth0"}
    with nothing_happens(agent, node):
        for evil in EVIL:
            status, said = ask(node, "POST", "/v1/attach", {**whole, **put(ATTACH[field], evil)})
            if evil in ALLOWED.get(field, ()):
                assert status in {200, 400}
                agent.detach(one)
                continue
            assert status in {400, 404}, (evil, said)
            assert said["message"].isprintable(), "what was sent is shown, and quoted"


def test_what_is_only_shown_may_hold_anything_that_can_be_shown(agent: Agent, node: Node, containers: Containers) -> None:
    one = containers.new("one")
    whole = {"container": one.name, "path": str(one.path), "network": "default", "interface": "eth0"}
    with nothing_happens(agent, node):
        for evil in EVIL:
            status, _ = ask(node, "POST", "/v1/attach", {**whole, "display": evil})
            assert status == (200 if evil.isprintable() and len(evil) <= 253 else 400), evil
            agent.detach(one)


@pytest.mark.parametrize("field", NETWORK)
def test_networks(agent: Agent, node: Node, field: str) -> None:
    whole = {"apiVersion": "fairlead.dev/v1", "kind": "Network", "metadata": {"name": "evil"}, "spec": {}}
    with nothing_happens(agent, node):
        for evil in EVIL:
            status, said = ask(node, "PUT", "/v1/objects", {**whole, **put(NETWORK[field], evil)})
            if status == 200:
                assert (field, evil) in {("bridge", "-rf"), ("bridge", "--help"), ("label", "a/b")}, said
                agent.client.delete("networks", "evil")
                continue
            assert status in {400, 501}, (evil, said)
            assert said["message"].isprintable()


def test_routes_and_detach(agent: Agent, node: Node) -> None:
    with nothing_happens(agent, node):
        for evil in EVIL:
            at = quote(evil, safe="")
            for method, path in (("GET", f"/v1/objects/networks/{at}"), ("DELETE", f"/v1/objects/networks/{at}")):
                assert ask(node, method, path)[0] in {400, 404}, (method, evil)
            assert ask(node, "GET", f"/v1/objects/{at}")[0] == 404
            assert ask(node, "DELETE", f"/v1/objects/endpoints/{at}")[0] in {400, 404}
            assert ask(node, "POST", "/v1/detach", {"container": evil})[0] == 400
            assert ask(node, "POST", "/v1/detach", {"container": "c1", "interface": evil})[0] in {200, 400}


def test_the_plugin(agent: Agent, node: Node, containers: Containers) -> None:
    one = containers.new("one")
    good = {"CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": str(one.path)}
    with nothing_happens(agent, node):
        for evil in filter(lambda text: "\0" not in text, EVIL):
            for variable in good:
                status, said = cni(node, "ADD", None, conf(), **{**good, variable: evil})
                if (variable, evil) in {("CNI_IFNAME", "-rf"), ("CNI_IFNAME", "--help")}:
                    assert cni(node, "DEL", None, conf(), **{**good, variable: evil})[0] == 0
                else:
                    assert (status, said["code"]) == (1, 4), (variable, evil, said)
            for used in ({"name": evil}, {"network": evil or "../"}, {"bridge": evil or "../"}):
                status, said = cni(node, "ADD", None, conf(**used), **good)
                if used == {"name": "x" * 300}:  # long, and used for nothing but to tell configurations apart
                    assert cni(node, "DEL", None, conf(), **good)[0] == 0
                    continue
                assert status == 1, (used, said)
                assert said["code"] in {2, 4, 6, 7}, said


def test_a_remembered_del_is_a_file_in_its_folder(agent: Agent, node: Node) -> None:
    """Without an agent the plugin writes files itself."""
    agent.stop()
    folder = node.state_dir / "pending-del"
    with_names = [evil for evil in EVIL if "\0" not in evil]
    before = {str(path) for path in node.run_dir.parent.rglob("*")}
    for evil in with_names:
        for variable in ("CNI_CONTAINERID", "CNI_IFNAME"):
            words = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", variable: evil}
            node.attempt("env", *(f"{key}={value}" for key, value in words.items()), available(), stdin=json.dumps(conf()))
    made = {path for path in node.run_dir.parent.rglob("*") if str(path) not in before}
    assert {path.parent for path in made} <= {folder, node.state_dir}
    assert all(path.is_file() for path in made if path.parent == folder)
    agent.start()
    eventually(lambda: not list(folder.iterdir()), what="none of them is a DEL, and none stays")
    assert not [line for line in agent.log.splitlines() if not LOG_LINE.match(line)]
