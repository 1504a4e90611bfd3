"""Starting and stopping the agent's process: as a systemd unit, as a daemon, or in this process's place."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from fairlead.agent.remedy import service
from fairlead.api.client import Client
from fairlead.api.schema import Status
from fairlead.api.wire import run_dir
from fairlead.model.errors import Failed, Unavailable

from .fault import note, remedy

DEADLINE = 15.0
"""Seconds from start to ready, and from SIGTERM to gone."""

UNIT = Path("/etc/systemd/system/fairlead.service")
_SYSTEMD = Path("/run/systemd/system")
_PASSED_ON = ("FAIRLEAD_RUN_DIR", "FAIRLEAD_STATE_DIR")
_LAST_LINES = 12


@dataclass(frozen=True)
class Start:
    """How the agent is to run."""

    group: str = ""
    node: str = ""
    node_ip: str = ""
    store: str = ""
    plane: str = "auto"
    log_level: str = "info"
    ipv6: bool = False
    node_access: bool = True
    map_sizes: tuple[str, ...] = ()
    key_age: float = 0.0
    metrics: str = ""

    @property
    def command(self) -> list[str]:
        """The agent's command line; what was left out is the agent's to choose."""
        given = {
            "--group": self.group,
            "--node": self.node,
            "--node-ip": self.node_ip,
            "--store": self.store,
            "--plane": self.plane,
            "--log-level": self.log_level,
            "--key-age": f"{self.key_age:.0f}" if self.key_age else "",
            "--metrics": self.metrics,
        }
        words = [word for flag, value in given.items() if value for word in (flag, value)]
        flags = ["--ipv6"] if self.ipv6 else []
        flags += [] if self.node_access else ["--no-node-access"]
        sizes = [word for size in self.map_sizes for word in ("--map-size", size)]
        return [sys.executable, "-m", "fairlead.agent", *words, *flags, *sizes]


def systemd() -> bool:
    """Whether systemd runs this machine (sd_booted(3))."""
    return _SYSTEMD.is_dir() and shutil.which("systemctl") is not None


def become(start: Start) -> NoReturn:
    """Replace this process by the agent."""
    sys.stdout.flush()
    os.execv(sys.executable, start.command)  # noqa: S606  # the agent in the foreground


def start(how: Start, client: Client) -> Status:
    """Start the agent as a daemon; return once it is ready. On failure, what it said last is part of the problem."""
    log = run_dir() / "agent.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        begin = out.tell()
        agent = subprocess.Popen(
            how.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", start_new_session=True, close_fds=True
        )
    status = _ready(client, lambda: agent.poll() is None)
    if status is None:
        code = agent.poll()
        why = f"ended with status {code}" if code is not None else f"was not ready within {DEADLINE:g} s"
        if code is None:
            agent.terminate()
        note(_tail(log, begin))
        raise remedy(Failed(f"the agent {why}; above is what it said last"), f"fairlead up --foreground, or read {log}")
    return status


def start_by_systemd(how: Start, client: Client) -> Status:
    """Write, enable and start the unit; return once the agent is ready."""
    text = unit(how)
    if not UNIT.exists() or UNIT.read_text() != text:
        UNIT.write_text(text)
        _systemctl("daemon-reload")
    _systemctl("enable", "--quiet", UNIT.name)
    _systemctl("start", UNIT.name)
    if status := _ready(client, lambda: True):
        return status
    raise remedy(Failed(f"the agent was not ready within {DEADLINE:g} s"), f"journalctl -u {UNIT.name} -n {_LAST_LINES}")


def stop(client: Client) -> None:
    """End the agent and wait until it is gone."""
    pid = client.pid()
    with os.fdopen(os.pidfd_open(pid), "rb") as fd:
        if systemd() and (name := service(Path(f"/proc/{pid}/cgroup").read_text())):
            _systemctl("stop", name)
        else:
            signal.pidfd_send_signal(fd.fileno(), signal.SIGTERM)
        waiting = select.poll()
        waiting.register(fd.fileno(), select.POLLIN)
        if not waiting.poll(DEADLINE * 1000):
            raise remedy(Failed(f"the agent (pid {pid}) has not ended within {DEADLINE:g} s"), f"kill -KILL {pid}")


def unit(how: Start) -> str:
    """The systemd unit. It owns no directory under /run: containers need what lies there while the agent is stopped."""
    environment = "".join(f"Environment={name}={os.environ[name]}\n" for name in _PASSED_ON if name in os.environ)
    return f"""\
[Unit]
Description=Fairlead container network
After=network-pre.target
Before=docker.service containerd.service crio.service kubelet.service
StartLimitIntervalSec=0

[Service]
ExecStart={" ".join(map(_quoted, how.command))}
{environment}SyslogIdentifier=fairlead
KillMode=process
Restart=always
RestartSec=1
LimitNOFILE=65536
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
"""


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or " " in word else word


def _ready(client: Client, alive: Callable[[], bool]) -> Status | None:
    """Ask until the agent says that it is ready; None if it ends or the deadline passes."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        try:
            status = client.status()
        except Unavailable:
            status = None
        if status is not None and status.ready:
            return status
        if not alive():
            return None
        time.sleep(0.02)
    return None


def _tail(log: Path, begin: int) -> str:
    with log.open("rb") as said:
        said.seek(begin)
        lines = said.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_LAST_LINES:]) or f"({log} is empty)"


def _systemctl(*words: str) -> None:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"systemctl {' '.join(words)}: {done.stderr.strip() or done.returncode}")
