"""How the agent is started: its command line, its systemd unit, and what systemd is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.agent import remedy
from fairlead.api import wire
from fairlead.api.client import Client
from fairlead.cli import daemon
from fairlead.cli.daemon import Start
from fairlead.model.errors import Failed
from tests.fake_agent import FakeAgent


def test_what_was_left_out_is_the_agent_s_to_choose() -> None:
    assert Start().command == [sys.executable, "-m", "fairlead.agent", "--plane", "auto", "--log-level", "info"]
    sizes = Start(node_access=False, map_sizes=("peers=9", "rulings=8")).command[7:]
    assert sizes == ["--no-node-access", "--map-size", "peers=9", "--map-size", "rulings=8"]
    assert Start(key_age=30 * 86400).command[-2:] == ["--key-age", "2592000"]
    command = Start(group="net", node="one", plane="nftables", log_level="debug", ipv6=True).command
    assert command[3:] == ["--group", "net", "--node", "one", "--plane", "nftables", "--log-level", "debug", "--ipv6"]


def test_the_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_RUN_DIR", "/run/other")
    monkeypatch.delenv("FAIRLEAD_STATE_DIR", raising=False)
    lines = daemon.unit(Start(group="net admins", node="50%$x")).splitlines()
    assert (
        f'ExecStart={sys.executable} -m fairlead.agent --group "net admins" --node "50%%$$x" --plane auto --log-level info'
        in lines
    )
    assert "Environment=FAIRLEAD_RUN_DIR=/run/other" in lines
    assert not any(line.startswith("Environment=FAIRLEAD_STATE_DIR") for line in lines)
    assert "KillMode=process" in lines
    assert not any(line.startswith("RuntimeDirectory") for line in lines)
    assert "WantedBy=multi-user.target" in lines


def test_whose_service_it_is() -> None:
    """The one that ``fairlead up`` writes, or another that a package brought."""
    assert remedy.service("0::/system.slice/fairlead-kubernetes.service\n") == "fairlead-kubernetes.service"
    assert remedy.service("9:memory:/\n1:name=systemd:/system.slice/fairlead.service\n0::/\n") == "fairlead.service"
    assert remedy.service("0::/user.slice/user-0.slice/session-3.scope\n") == ""
    assert remedy.service("0::/system.slice/cron.service\n") == "", "whoever typed fairlead up is not the agent's"


def test_who_misses_the_agent_is_told_how_it_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "NODE_NAME": "one"}
    service = "0::/system.slice/fairlead-kubernetes.service\n"
    assert remedy.words(service, {}, "") == "start it with `systemctl start fairlead-kubernetes`"
    assert remedy.words("0::/\n", pod, "net\n") == (
        "see why its pod does not run: `kubectl -n net describe pods --field-selector spec.nodeName=one`"
    )
    assert remedy.words("0::/user.slice\n", {}, "") == "start it with `fairlead up`"
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path))
    assert wire.remedy() == "start it with `fairlead up`"
    remedy.leave(tmp_path)
    assert wire.remedy() == wire.remedy_path(tmp_path).read_text().strip()
    wire.remedy_path(tmp_path).write_text("\x1b[2J")
    assert wire.remedy() == "start it with `fairlead up`"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine that systemd runs, as far as the command line can see; what systemctl was told."""
    log = tmp_path / "systemctl.log"
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >>{log}\n[ "$1" != "$REFUSED" ] || {{ echo "Unit is masked." >&2; exit 1; }}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr(daemon, "_SYSTEMD", tmp_path)
    monkeypatch.setattr(daemon, "UNIT", tmp_path / "fairlead.service")
    assert daemon.systemd()
    return log


def test_systemd_is_told(told: Path, tmp_path: Path) -> None:
    with FakeAgent(tmp_path / "agent.sock") as agent:
        assert daemon.start_by_systemd(Start(), Client(agent.path)).ready
        assert daemon.UNIT.read_text() == daemon.unit(Start())
        assert told.read_text().splitlines() == ["daemon-reload", "enable --quiet fairlead.service", "start fairlead.service"]
        daemon.start_by_systemd(Start(), Client(agent.path))
        assert told.read_text().count("daemon-reload") == 1
        daemon.start_by_systemd(Start(node="other"), Client(agent.path))
        assert told.read_text().count("daemon-reload") == 2


def test_what_systemd_refuses_is_passed_on(told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSED", "start")
    with pytest.raises(Failed, match=r"systemctl start fairlead\.service: Unit is masked\."):
        daemon.start_by_systemd(Start(), Client(tmp_path / "none.sock"))
    assert told.read_text().endswith("start fairlead.service\n")


def test_an_agent_that_does_not_come_up(told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "DEADLINE", 0.1)
    with pytest.raises(Failed, match=r"the agent was not ready within 0.1 s") as caught:
        daemon.start_by_systemd(Start(), Client(tmp_path / "none.sock"))
    assert "journalctl -u fairlead.service" in caught.value.__notes__[0]
    assert told.exists()
