"""The command line on a machine that is no node: by a kubeconfig, through the API server, to the agents' sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from fairlead.api.schema import Asked, Elsewhere, Explaining
from fairlead.cli import main
from fairlead.model.endpoint import Endpoint
from tests.fake_agent import FakeAgent, network
from tests.kubernetes.server import NAMESPACE, StoodIn
from tests.tree import ROOT

NODES = ("node-a", "node-b")


@pytest.fixture
def agents(server: StoodIn, tmp_path: Path) -> Iterator[dict[str, FakeAgent]]:
    """An agent on each of two nodes, in a pod of the DaemonSet each."""
    assert server.standin
    with ExitStack() as stack:
        found = {}
        for name in NODES:
            folder = tmp_path / name
            folder.mkdir()
            found[name] = stack.enter_context(FakeAgent(folder / "agent.sock", networks={name: network(name, "10.1.0.0/24")}))
            meta = {"name": f"fairlead-{name}", "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": "fairlead"}}
            pod = {
                "metadata": {**meta, "annotations": {"test/run-dir": str(folder)}},
                "spec": {"nodeName": name},
                "status": {"conditions": [{"type": "Ready", "status": "True" if name == "node-b" else "False"}]},
            }
            server.standin.put("pods", pod)
        yield found


@pytest.fixture
def config(server: StoodIn, tmp_path: Path) -> str:
    path = tmp_path / "config"
    tree = {
        "contexts": [{"name": "test", "context": {"cluster": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": server.url}}],
    }
    path.write_text(yaml.safe_dump(tree))
    return str(path)


def say(config: str, *words: str) -> int:
    return main.run(["--kubeconfig", config, "--context=test", *words])


@pytest.mark.usefixtures("agents")
def test_status_and_doctor_are_of_every_node(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("status", "doctor"):
        assert say(config, command) == 0
        said = capsys.readouterr().out
        assert "node-a:" in said
        assert "node-b:" in said


@pytest.mark.usefixtures("agents")
def test_of_two_ways_to_an_agent_one_is_taken(
    server: StoodIn, tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside agents that systemd runs lie relays, and perhaps somebody has both."""
    (relay,) = [one for one in yaml.safe_load_all((ROOT / "deploy/kubernetes/relay.yaml").read_text()) if one]
    template = relay["spec"]["template"]
    assert server.standin
    for name in NODES:
        pod = {
            "metadata": {
                **template["metadata"],
                "name": f"fairlead-relay-{name}",
                "namespace": NAMESPACE,
                "annotations": {"test/run-dir": str(tmp_path / name)},
            },
            "spec": {**template["spec"], "nodeName": name},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
        server.standin.put("pods", pod)
    server.standin.history.drop("pods", (NAMESPACE, "fairlead-node-b"))
    assert say(config, "status") == 0
    said = capsys.readouterr().out
    assert (said.count("node-a:"), said.count("node-b:")) == (1, 1)


def test_a_relay_has_no_rights() -> None:
    (relay,) = [one for one in yaml.safe_load_all((ROOT / "deploy/kubernetes/relay.yaml").read_text()) if one]
    spec = relay["spec"]["template"]["spec"]
    (container,), (volume,) = spec["containers"], spec["volumes"]
    assert volume["hostPath"]["path"] == container["volumeMounts"][0]["mountPath"] == "/run/fairlead"
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & spec.keys()
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "privileged" not in container["securityContext"]


@pytest.mark.usefixtures("agents")
def test_what_any_agent_knows_is_asked_of_one_that_is_ready(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(config, "get", "networks") == 0
    assert "node-b" in capsys.readouterr().out
    assert say(config, "--node", "node-a", "get", "networks") == 0
    assert "node-a" in capsys.readouterr().out
    assert say(config, "get", Endpoint.plural) == 0


def test_one_connection_after_another(agents: dict[str, FakeAgent], config: str) -> None:
    assert say(config, "policy", "explain", "web", "db") == 0
    assert agents["node-b"].questions


def test_the_kernels_of_two_nodes_are_asked(
    agents: dict[str, FakeAgent], config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    query = {"from": "10.1.0.2", "to": "10.1.1.2", "protocol": "tcp", "port": "80"}
    told = agents["node-b"].explained
    agents["node-b"].explained = replace(told, elsewhere=(Elsewhere(node="node-a", direction="ingress", query=query),))
    ends = (Asked(direction="ingress", link="flv2", allowed=True, agrees=True),)
    steps = (Explaining(direction="ingress", text="yes", allows=True), *told.steps)
    agents["node-a"].explained = replace(told, steps=steps, kernel=ends)
    agents["node-b"].explained = replace(agents["node-b"].explained, steps=steps)
    assert say(config, "--node", "node-b", "policy", "explain", "web", "db:80") == 0
    assert agents["node-a"].questions == [query]
    assert "ingress on flv2 of node node-a: passes" in capsys.readouterr().out


@pytest.mark.usefixtures("agents")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("flows",), "say of which node: --node NAME before the command; there are: node-a, node-b"),
        (("--node", "node-c", "status"), "no agent runs on a node 'node-c'; there are: node-a, node-b"),
        (("run", "--", "sh"), "run is for the node that it is run on"),
        (("--node",), "--node: it needs a value"),
    ],
)
def test_what_cannot_be_asked(config: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    assert say(config, *words) == 1
    assert said in capsys.readouterr().err


def test_an_agent_that_is_not_there_is_said_to_be(
    agents: dict[str, FakeAgent], config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    agents["node-a"].path.unlink()
    assert say(config, "--node", "node-a", "status") == 1
    assert "the agent does not answer" in capsys.readouterr().err


@pytest.mark.usefixtures("agents")
def test_kubectl_asks_the_cluster_that_it_would(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", config)
    assert main.run(["--context", "test", "status", "-o", "json"], away=True) == 0
    assert capsys.readouterr().out.count('"ready"') == len(NODES)
