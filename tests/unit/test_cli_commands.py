"""What each command prints, asks of the agent and exits with; the agent is a fake behind a real socket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from fairlead.api.schema import Drift, Finding
from fairlead.cli import main
from fairlead.model import codec, errors
from fairlead.model.address import ContainerID
from fairlead.model.endpoint import PublishedPort
from tests.fake_agent import FakeAgent
from tests.unit.conftest import Run


def pod(agent: FakeAgent) -> None:
    """A container that a CNI runtime attached to two networks."""
    ports = (
        PublishedPort(host_port=8080, container_port=80),
        PublishedPort(host_port=9000, container_port=9000, count=2, host_ip=None),
    )
    agent.add("4f5a9c21d0b7e36f", "front", display="nginx", owner="cni", path="/", labels={"app": "nginx"}, ports=ports)
    agent.add("4f5a9c21d0b7e36f", "back", "eth1", display="nginx", owner="cni", path="/", labels={"app": "nginx"})


class TestNetwork:
    def test_create_sends_what_was_asked(self, fairlead: Run, agent: FakeAgent) -> None:
        said = fairlead(
            *("network", "create", "shop", "--subnet", "10.40.0.0/24", "--subnet", "fd40::/64", "--gateway", "10.40.0.254"),
            *("--ip-range", "10.40.0.64/26", "--exclude", "10.40.0.70", "--mtu", "1400", "--internal", "--no-isolation"),
            *("--no-icc", "--no-masquerade", "--no-anti-spoofing", "--bridge", "shop0", "--dns", "9.9.9.9"),
            *("--label", "tier=web", "--opt", "a=b"),
        )
        assert (said.status, said.out, said.err) == (0, "shop\n", "")
        made = agent.networks["shop"]
        assert json.loads(codec.encode(made.spec)) == {
            "subnets": [
                {
                    "cidr": "10.40.0.0/24",
                    "gateway": "10.40.0.254",
                    "ranges": [{"start": "10.40.0.64", "end": "10.40.0.127"}],
                    "exclude": ["10.40.0.70"],
                },
                {"cidr": "fd40::/64"},
            ],
            "mtu": 1400,
            "bridge": "shop0",
            "internal": True,
            "isolated": False,
            "interContainer": False,
            "masquerade": False,
            "antiSpoofing": False,
            "dns": ["9.9.9.9"],
            "options": {"a": "b"},
        }
        assert made.metadata.labels == {"tier": "web"}

    def test_create_leaves_subnets_to_the_agent(self, fairlead: Run, agent: FakeAgent) -> None:
        assert fairlead("network", "create", "one").status == 0
        assert fairlead("network", "create", "two", "--ipv6").status == 0
        assert agent.networks["one"].spec.families == (4,)
        assert agent.networks["two"].spec.families == (4, 6)

    def test_ipv6_that_is_given_is_not_asked_for_again(self, fairlead: Run, agent: FakeAgent) -> None:
        assert fairlead("network", "create", "six", "--ipv6", "--subnet", "fd60::/64").status == 0
        assert agent.networks["six"].spec.options == {}

    def test_create_does_not_replace(self, fairlead: Run, agent: FakeAgent) -> None:
        said = fairlead("network", "create", "front", "--internal")
        assert (said.status, said.out) == (1, "")
        assert said.err.startswith("Error: name: network 'front' exists\nTry: fairlead network inspect front")
        assert not agent.networks["front"].spec.internal

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["Front"], "name: 'Front' is not a name"),
            (["x", "--subnet", "10.0.0.0/40"], "subnet: '10.0.0.0/40' is not an IP network"),
            (["x", "--subnet", "10.0.0.0/24", "--subnet", "10.0.0.0/16"], "subnets[1]: 10.0.0.0/16 overlaps 10.0.0.0/24"),
            (["x", "--mtu", "100"], "mtu: 100 is not between"),
            (["x", "--bridge", "much-too-long-a-name"], "bridge: 'much-too-long-a-name' is not an interface name"),
            (["x", "--dns", "one.one"], "dns: 'one.one' is not an IP address"),
            (["x", "--label", "tier"], "label: 'tier' has no value"),
            (["x", "--driver", "none", "--subnet", "10.0.0.0/24"], "subnets: a network with driver none has none"),
        ],
    )
    @pytest.mark.usefixtures("agent")
    def test_what_is_wrong_is_named_before_the_agent_is_asked(self, fairlead: Run, words: list[str], says: str) -> None:
        said = fairlead("network", "create", *words)
        assert said.status == 1
        assert said.err.startswith(f"Error: {says}"), said.err
        assert said.err.splitlines()[1:] == ["Try: fairlead network create --help"]

    def test_ls(self, fairlead: Run, agent: FakeAgent) -> None:
        pod(agent)
        said = fairlead("network", "ls")
        assert said.status == 0
        head, *rows = [line.split() for line in said.out.splitlines()]
        assert head == ["NAME", "DRIVER", "SUBNETS", "USED", "MODE", "AGE"]
        assert rows[0][:6] == ["back", "bridge", "10.30.0.0/24", "1/254", "internal,", "no"]
        assert rows[2][:5] == ["front", "bridge", "10.20.0.0/24,fd20::/64", "1/254,1/2^64", "nat"]

    @pytest.mark.usefixtures("agent")
    def test_ls_by_label_and_as_names(self, fairlead: Run) -> None:
        fairlead("network", "create", "shop", "--label", "tier=web")
        assert fairlead("network", "ls", "-l", "tier=web", "-o", "name").out == "network/shop\n"
        assert fairlead("network", "ls", "-l", "tier=db", "-o", "name").out == ""

    def test_inspect(self, fairlead: Run, agent: FakeAgent) -> None:
        said = fairlead("network", "inspect", "front")
        assert codec.from_yaml(said.out) == [agent.networks["front"]]
        assert said.out.startswith("apiVersion: fairlead.dev/v1\nkind: Network\n")
        assert json.loads(fairlead("network", "inspect", "front", "-o", "json").out)["metadata"]["name"] == "front"
        assert len(json.loads(fairlead("network", "inspect", "front", "back", "-o", "json").out)) == 2

    def test_rm(self, fairlead: Run, agent: FakeAgent) -> None:
        pod(agent)
        said = fairlead("network", "rm", "front", "default", "nope")
        assert (said.status, said.out) == (1, "default\n")
        assert "Error: name: network front is used by nginx\n" in said.err
        assert "Error: name: there is no network 'nope'\nTry: fairlead network ls\n" in said.err
        assert sorted(agent.networks) == ["back", "front"]


class TestObjects:
    YAML = """\
apiVersion: fairlead.dev/v1
kind: Network
metadata: {name: one}
spec: {subnets: [{cidr: 10.41.0.0/24}]}
---
kind: Network
apiVersion: fairlead.dev/v1
metadata: {name: two}
"""

    def test_apply_a_file(self, fairlead: Run, agent: FakeAgent, tmp_path: Path) -> None:
        path = tmp_path / "networks.yaml"
        path.write_text(self.YAML)
        assert fairlead("apply", "-f", str(path)).out == "network/one created\nnetwork/two created\n"
        assert fairlead("apply", "-f", str(path)).out.startswith("network/one unchanged\n")
        path.write_text(self.YAML.replace("10.41", "10.42"))
        assert fairlead("apply", "-f", str(path)).out.startswith("network/one configured\n")
        assert agent.networks["one"].spec.subnets[0].cidr == "10.42.0.0/24"

    def test_apply_stdin_and_a_directory(self, fairlead: Run, agent: FakeAgent, tmp_path: Path) -> None:
        assert fairlead("apply", "-f", "-", stdin=self.YAML).status == 0
        folder = tmp_path / "objects"
        folder.mkdir()
        (folder / "a.yml").write_text(self.YAML.replace("one", "three").replace("10.41", "10.43"))
        (folder / "b.json").write_text('{"kind": "Network", "apiVersion": "fairlead.dev/v1", "metadata": {"name": "four"}}')
        (folder / "README").write_text("not an object")
        assert fairlead("apply", "-f", str(folder)).status == 0
        assert {"one", "two", "three", "four"} <= set(agent.networks)

    def test_nothing_is_applied_unless_all_can_be_read(self, fairlead: Run, agent: FakeAgent, tmp_path: Path) -> None:
        path = tmp_path / "networks.yaml"
        path.write_text(self.YAML + "---\nkind: Network\napiVersion: fairlead.dev/v1\nmetadata: {name: x}\nspec: {mtu: big}\n")
        said = fairlead("apply", "-f", str(path))
        assert (said.status, said.out) == (1, "")
        assert said.err.startswith(f"Error: {path}: document 3.spec.mtu: expected a whole number")
        assert "mtu" in said.err
        assert sorted(agent.networks) == ["back", "default", "front"]

    def test_one_that_is_refused_does_not_hold_up_the_others(self, fairlead: Run, agent: FakeAgent) -> None:
        agent.refuse["apply one"] = errors.Conflict("10.41.0.0/24 overlaps network front", field="spec.subnets[0].cidr")
        said = fairlead("apply", "-f", "-", stdin=self.YAML)
        assert (said.status, said.out) == (1, "network/two created\n")
        assert said.err.startswith("Error: network/one: spec.subnets[0].cidr: 10.41.0.0/24 overlaps network front\n")

    @pytest.mark.usefixtures("agent")
    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["apply", "-f", "/nowhere.yaml"], "filename: there is no file /nowhere.yaml"),
            (["apply", "-f", "-"], "filename: there is no object in -"),
            (["get", "pods"], "kind: 'pods' is not a kind"),
            (["get", "net", "nope"], "name: there is no network 'nope'"),
            (["delete", "net"], "name: say which"),
            (["delete", "net", "x", "-f", "-"], "filename: give a kind and names, or files"),
        ],
    )
    def test_what_is_wrong_is_named(self, fairlead: Run, words: list[str], says: str) -> None:
        said = fairlead(*words)
        assert said.status == 1
        assert said.err.startswith(f"Error: {says}")

    def test_get(self, fairlead: Run, agent: FakeAgent) -> None:
        pod(agent)
        for word in ("networks", "network", "net"):
            assert fairlead("get", word, "-o", "name").out == "network/back\nnetwork/default\nnetwork/front\n"
        assert fairlead("get", "ep", "-o", "name").out == "endpoint/4f5a9c21d0b7e36f:eth0\nendpoint/4f5a9c21d0b7e36f:eth1\n"
        assert fairlead("get", "net/front", "-o", "name").out == "network/front\n"
        assert len(list(yaml.safe_load_all(fairlead("get", "net", "-o", "yaml").out))) == 3
        assert fairlead("get", "endpoints").out.split()[:4] == ["NAME", "CONTAINER", "NETWORK", "ADDRESSES"]
        assert "02:00:00" not in fairlead("get", "endpoints").out
        assert "02:00:00" in fairlead("get", "endpoints", "-o", "wide").out

    @pytest.mark.usefixtures("agent")
    def test_what_is_got_can_be_applied(self, fairlead: Run) -> None:
        written = fairlead("get", "net", "-o", "yaml").out
        assert set(fairlead("apply", "-f", "-", stdin=written).out.split()[1::2]) == {"unchanged"}

    def test_delete(self, fairlead: Run, agent: FakeAgent) -> None:
        assert fairlead("delete", "net/front").out == "network/front deleted\n"
        fairlead("apply", "-f", "-", stdin=self.YAML)
        assert fairlead("delete", "-f", "-", stdin=self.YAML).out == "network/two deleted\nnetwork/one deleted\n"
        assert sorted(agent.networks) == ["back", "default"]


class TestContainers:
    def test_ps_groups_endpoints_by_container(self, fairlead: Run, agent: FakeAgent) -> None:
        pod(agent)
        head, row = [line.split() for line in fairlead("ps").out.splitlines()]
        assert head == ["NAME", "OWNER", "STATE", "NETWORKS", "ADDRESSES", "PORTS", "PID", "COMMAND", "AGE"]
        assert row[:6] == [
            *("nginx", "cni", "attached", "front,back", "10.20.0.2,fd20::2,10.30.0.2"),
            "8080->80/tcp,9000-9001->9000-9001/tcp",
        ]

    def test_ps_of_a_namespace_that_is_gone(self, fairlead: Run, agent: FakeAgent) -> None:
        agent.add("abc", path="/run/netns/not-there")
        assert fairlead("ps").out.splitlines()[1].split()[:3] == ["abc", "cli", "gone"]

    def test_ps_by_label_and_as_trees(self, fairlead: Run, agent: FakeAgent) -> None:
        pod(agent)
        agent.add("other")
        assert fairlead("ps", "-l", "app=nginx", "-o", "name").out == "nginx\n"
        (tree,) = json.loads(fairlead("ps", "-l", "app=nginx", "-o", "json").out)
        assert tree["networks"][1] == {
            "network": "back",
            "interface": "eth1",
            "addresses": ["10.30.0.2/24"],
            "mac": "02:00:00:00:00:03",
        }

    def test_port(self, fairlead: Run, agent: FakeAgent) -> None:
        pod(agent)
        assert fairlead("port", "nginx").out.splitlines() == [
            "80/tcp -> 0.0.0.0:8080",
            "80/tcp -> [::]:8080",
            "9000/tcp -> 0.0.0.0:9000",
            "9000/tcp -> [::]:9000",
            "9001/tcp -> 0.0.0.0:9001",
            "9001/tcp -> [::]:9001",
        ]

    def test_inspect_by_the_beginning_of_the_id(self, fairlead: Run, agent: FakeAgent) -> None:
        pod(agent)
        tree = yaml.safe_load(fairlead("inspect", "4f5a").out)
        assert (tree["name"], tree["owner"], tree["labels"]) == ("nginx", "cni", {"app": "nginx"})

    def test_names_that_mean_none_or_several(self, fairlead: Run, agent: FakeAgent) -> None:
        agent.add("abc1", display="twin")
        agent.add("abc2", display="twin")
        assert "'twin' means several containers: twin (abc1), twin (abc2); write an id" in fairlead("inspect", "twin").err
        assert "'abc' means several containers" in fairlead("inspect", "abc").err
        said = fairlead("inspect", "nope")
        assert said.err == "Error: name: there is no container 'nope'; there are: twin, twin\nTry: fairlead ps -a\n"

    def test_rm_of_what_another_runtime_runs(self, fairlead: Run, agent: FakeAgent) -> None:
        pod(agent)
        said = fairlead("rm", "nginx")
        assert said.status == 1
        assert "nginx is in use: it belongs to cni, which removes it" in said.err
        assert fairlead("rm", "-f", "nginx").out == "nginx\n"
        assert agent.endpoints == {}

    @pytest.mark.usefixtures("agent")
    @pytest.mark.parametrize("name", ["", ".", "..", "../..", "/", "web/..", "web/state.json"])
    def test_rm_of_what_is_no_name_removes_nothing(self, fairlead: Run, tmp_path: Path, name: str) -> None:
        (tmp_path / "containers" / "web").mkdir(parents=True)
        (tmp_path / "containers" / "web" / "state.json").write_text("{}")
        assert fairlead("rm", "-f", name).status == 1
        assert (tmp_path / "containers" / "web" / "state.json").exists()

    @pytest.mark.usefixtures("agent")
    def test_rm_of_what_a_crash_has_left(self, fairlead: Run, tmp_path: Path) -> None:
        (tmp_path / "containers" / "web").mkdir(parents=True)
        assert fairlead("rm", "web").out == "web\n"
        assert list((tmp_path / "containers").iterdir()) == []

    def test_rm_of_what_is_gone(self, fairlead: Run, agent: FakeAgent) -> None:
        agent.add("abc", path="/run/netns/not-there")
        assert (fairlead("rm", "abc").status, agent.endpoints) == (0, {})

    def test_detach(self, fairlead: Run, agent: FakeAgent) -> None:
        pod(agent)
        assert fairlead("detach", "nginx", "--network", "back").out == "nginx eth1 detached from back\n"
        assert fairlead("detach", "nginx", "--network", "back").err == "nginx was not attached to back\n"
        assert fairlead("detach", "nginx", "--interface", "eth0").out == "nginx eth0 detached from front\n"
        assert agent.detached[-1].container == ContainerID("4f5a9c21d0b7e36f")
        both = fairlead("detach", "x", "--network", "a", "--interface", "b")
        assert (both.status, both.err.splitlines()[0]) == (1, "Error: network: give --network or --interface, not both")

    @pytest.mark.parametrize(
        ("where", "says"),
        [
            ("nope", "target: 'nope' is no container, no name of ip netns, no PID and no path"),
            ("999999999", "target: there is no process 999999999"),
            ("/nowhere/at/all", "target: "),
            ("/etc/passwd", "target: "),
            ("/", "target: "),
        ],
    )
    def test_attach_of_what_is_no_namespace(self, fairlead: Run, agent: FakeAgent, where: str, says: str) -> None:
        said = fairlead("attach", where)
        assert said.status == 1
        assert said.err.startswith(f"Error: {says}"), said.err
        assert agent.attached == []


class TestNode:
    def test_status(self, fairlead: Run, agent: FakeAgent) -> None:
        pod(agent)
        said = fairlead("status")
        assert said.status == 0
        assert {"state: ready", "pid: 1234", "uptime: 66m", "memory: 47.0 MiB", "endpoints: 2"} <= set(said.out.splitlines())
        assert ["front", "10.20.0.0/24", "1", "254", "0"] in [line.split() for line in said.out.splitlines()]
        assert json.loads(fairlead("status", "-o", "json").out)["plane"] == "nftables"

    def test_status_of_an_agent_that_is_not_ready(self, fairlead: Run, agent: FakeAgent) -> None:
        agent.ready = False
        said = fairlead("status")
        assert said.status == 1
        assert "state: not ready: the kernel is being brought in line" in said.out

    def test_status_as_a_picture(self, fairlead: Run, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
        pod(agent)
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "80")
        said = fairlead("status").out
        assert "╭" in said
        assert "1 of 2^64" in said
        assert all(len(line) <= 80 for line in said.replace("\x1b", "").splitlines() if "[" not in line)

    def test_doctor(self, fairlead: Run, agent: FakeAgent) -> None:
        assert fairlead("doctor").status == 0
        agent.findings = (
            Finding(check="forwarding", level="warning", message="it is off", remedy="sysctl -w x=1"),
            Finding(
                check="rules",
                level="error",
                message="1 difference",
                drift=(Drift(table="nftables", key="10.20.0.2", kind="missing", want="a rule"),),
            ),
        )
        said = fairlead("doctor")
        assert said.status == 1
        assert "! warning" in said.out
        assert "nftables 10.20.0.2: nothing instead of a rule" in said.out
        assert "sysctl -w x=1" in said.out

    @pytest.mark.usefixtures("agent")
    def test_version(self, fairlead: Run) -> None:
        assert fairlead("--version").out == "fairlead 0.1.0\n"
        assert fairlead("version").out == "fairlead 0.1.0\nagent    0.1.0\n"

    def test_the_agent_is_not_running(self, fairlead: Run, tmp_path: Path) -> None:
        for words in (["status"], ["doctor"], ["ps"], ["network", "ls"], ["get", "ep"], ["apply", "-f", "-"]):
            said = fairlead(*words, stdin=TestObjects.YAML)
            assert said.status == 1
            assert said.err == f"Error: the agent is not running (nothing listens on {tmp_path}/agent.sock)\nTry: fairlead up\n"
        assert fairlead("version").out.endswith("agent    not running\n")
        assert fairlead("down").err == "The agent is not running.\n"
        assert fairlead("down", "--purge").status == 1

    def test_purge_asks(self, fairlead: Run, agent: FakeAgent) -> None:
        pod(agent)
        said = fairlead("down", "--purge")
        assert said.err == "Error: nothing was removed\nTry: fairlead down --purge --yes\n"
        assert len(agent.endpoints) == 2


class TestCni:
    @pytest.mark.usefixtures("agent")
    def test_install_is_asked_of_the_plugins_own_package(
        self, fairlead: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        client = tmp_path / "client"
        client.write_bytes(b"Host: fairlead\r\n")
        monkeypatch.setattr("fairlead.cni.install._PROGRAM", client)
        where = ("--bin-dir", str(tmp_path / "bin"), "--conf-dir", str(tmp_path / "conf"), "--network", "front")
        assert fairlead("cni", "status", *where).status == 1
        said = fairlead("cni", "install", *where)
        assert (said.status, len(said.out.splitlines())) == (0, 4)
        assert "everything is in place" in fairlead("cni", "install", *where).err
        assert fairlead("cni", "status", *where).status == 0
        (conflist,) = (tmp_path / "conf").iterdir()
        conflist.write_text(conflist.read_text().replace("front", "back"))
        said = fairlead("cni", "install", *where)
        assert said.status == 1
        assert said.err.endswith("Try: fairlead cni install --force\n")
        assert "is otherwise than this version would write it" in fairlead("cni", "status", *where).out
        assert fairlead("cni", "install", *where, "--force").status == 0
        assert len(fairlead("cni", "uninstall", *where[:4]).out.splitlines()) == 4

    def test_status_names_what_is_missing(self, fairlead: Run, tmp_path: Path) -> None:
        said = fairlead("cni", "status", "--bin-dir", str(tmp_path), "--conf-dir", str(tmp_path))
        assert said.status == 1
        assert "the agent is not running" in said.out


class TestUsage:
    def test_every_command_has_help(self, fairlead: Run) -> None:
        whole = fairlead("--help").out
        for name in main.COMMANDS:
            assert name in whole
            said = fairlead(name, "--help")
            assert said.status == 0
            assert f"fairlead {name}" in said.out

    @pytest.mark.parametrize(
        ("words", "says", "hint"),
        [
            (["nework"], "there is no command 'nework'. Did you mean 'network'?", "fairlead --help"),
            (["ps", "--nope"], "no such option: --nope", "fairlead ps --help"),
            (["network", "creat", "x"], "no such command 'creat'", "fairlead network --help"),
            (["logs", "x", "--tail", "-1"], "invalid value for '--tail'", "fairlead logs --help"),
            (["get", "net", "-o", "xml"], "invalid value for '--output'", "fairlead get --help"),
        ],
    )
    def test_wrong_usage_is_two_lines_and_status_2(self, fairlead: Run, words: list[str], says: str, hint: str) -> None:
        said = fairlead(*words)
        first, second = said.err.splitlines()
        assert said.status == 2
        assert first.startswith(f"Error: {says}"), first
        assert second == f"Try: {hint}"

    @pytest.mark.usefixtures("agent")
    def test_no_fault_shows_a_traceback(self, fairlead: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fairlead.api.client.Client.status", lambda _: 1 / 0)
        said = fairlead("status")
        assert said.status == 1
        assert said.err.startswith("Error: a fault of Fairlead itself: ZeroDivisionError: division by zero\n")

    def test_errors_cannot_steer_the_terminal(self, fairlead: Run, agent: FakeAgent) -> None:
        agent.refuse["status"] = errors.Failed("\x1b[2Jone\ntwo")
        assert fairlead("status").err.splitlines()[0] == "Error: \ufffd[2Jone two"

    def test_colour_is_for_terminals(self, fairlead: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "\x1b" not in fairlead("status").err
        monkeypatch.setenv("FORCE_COLOR", "1")
        assert fairlead("status").err.startswith("\x1b[1;31mError:\x1b[0m ")
        monkeypatch.setenv("NO_COLOR", "1")
        assert "\x1b" not in fairlead("status").err
