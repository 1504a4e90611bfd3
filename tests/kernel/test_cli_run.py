"""``fairlead run`` and what goes with it: real namespaces, mounts, processes and signals, and nothing of them left.

The agent is a fake with real interfaces, so that what is tested here is the runtime alone.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fairlead.api.schema import Attach
from fairlead.kernel import process
from fairlead.model import errors
from tests.fake_agent import FakeAgent, network
from tests.net import Containers
from tests.terminal import Terminal
from tests.wait import eventually

SH = ("sh", "-c")


@dataclass
class Fairlead:
    """The command line as people run it: a process of its own, with a run directory of its own."""

    run_dir: Path
    agent: FakeAgent
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    terminals: list[Terminal] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "FAIRLEAD_RUN_DIR": str(self.run_dir), "PYTHONPATH": os.pathsep.join(sys.path)}

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """Start a command; it is ended with the test."""
        command = [sys.executable, "-m", "fairlead.cli", *words]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
        self.started.append(subprocess.Popen(command, env=self.environment, **streams))
        return self.started[-1]

    def terminal(self, *words: str) -> Terminal:
        """Start a command on a terminal of its own; it is ended with the test."""
        self.terminals.append(Terminal(self.environment, *words))
        return self.terminals[-1]

    def attempt(self, *words: str, stdin: str = "", deadline: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = [sys.executable, "-m", "fairlead.cli", *words]
        return subprocess.run(
            command, env=self.environment, input=stdin, capture_output=True, text=True, timeout=deadline, check=False
        )

    def __call__(self, *words: str, stdin: str = "") -> str:
        """Run a command that must not fail; what it printed."""
        done = self.attempt(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def state(self, name: str) -> dict[str, Any]:
        """The record of a container."""
        found: dict[str, Any] = json.loads((self.run_dir / "containers" / name / "state.json").read_text())
        return found

    def runs(self, name: str) -> dict[str, Any]:
        """Wait until a container runs its command; its record."""

        def record() -> dict[str, Any] | None:
            path = self.run_dir / "containers" / name / "state.json"
            return self.state(name) if path.exists() and "process" in self.state(name) else None

        return eventually(record, what=f"{name} runs")  # type: ignore[return-value]

    @property
    def clean(self) -> bool:
        """Nothing of any container is left: no record, no namespace, no mount, no endpoint."""
        assert not self.agent.endpoints
        for folder in ("containers", "netns"):
            path = self.run_dir / folder
            assert not path.exists() or not list(path.iterdir()), list(path.iterdir())
        assert str(self.run_dir) not in Path("/proc/self/mountinfo").read_text()
        return True

    def close(self) -> None:
        """End what is still running, whatever the test came to."""
        for one in self.started:
            if one.poll() is None:
                one.kill()
            one.communicate(timeout=10)
        for terminal in self.terminals:
            terminal.close()
        containers = self.run_dir / "containers"
        for path in list(containers.iterdir()) if containers.exists() else ():
            self.attempt("rm", "-f", "-t", "0", path.name)


@pytest.fixture
def fairlead(tmp_path: Path) -> Iterator[Fairlead]:
    networks = {
        "front": network("front", "10.20.0.0/24", "fd20::/64"),
        "back": network("back", "10.30.0.0/24", dns=("10.30.0.1",)),
        "inner": network("inner", "10.40.0.0/24", internal=True),
    }
    run_dir = tmp_path / "run"  # containers do not see it
    run_dir.mkdir()
    with FakeAgent(run_dir / "agent.sock", real=True, networks=networks) as agent:
        made = Fairlead(run_dir, agent)
        try:
            yield made
        finally:
            made.close()
            assert made.clean


def alive(pid: int) -> bool:
    return process.started(pid) != 0


class TestForeground:
    def test_it_has_a_network_a_name_and_files_of_its_own(self, fairlead: Fairlead) -> None:
        said = fairlead(
            *("run", "--name", "web", "--network", "front", "--network", "back", "--ip", "10.30.0.77", "--"),
            *(*SH, "hostname; echo $HOSTNAME; ls /sys/class/net; cat /etc/hosts; ip -json address"),
        )
        *words, addresses = said.splitlines()
        assert words[:2] == ["web", "web"]
        assert words[2:5] == ["eth0", "eth1", "lo"]
        assert words[-3:] == ["10.20.0.2\tweb", "fd20::2\tweb", "10.30.0.77\tweb"]
        found = {link["ifname"]: link for link in json.loads(addresses)}
        assert "UP" in found["lo"]["flags"]
        assert {at["local"] for at in found["eth1"]["addr_info"]} >= {"10.30.0.77"}
        assert fairlead.clean

    def test_the_host_keeps_its_own(self, fairlead: Fairlead) -> None:
        before = [
            Path(path).read_bytes() for path in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname") if Path(path).exists()
        ]
        inside = "umount /etc/hosts; mount -t tmpfs none /mnt; hostname other; ls /sys/class/net"
        host = sorted(Path("/sys/class/net").iterdir())
        fairlead("run", "--network", "front", *SH, inside)
        assert before == [
            Path(path).read_bytes() for path in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname") if Path(path).exists()
        ]
        assert os.uname().nodename != "other"
        assert sorted(Path("/sys/class/net").iterdir()) == host
        assert "tmpfs /mnt" not in Path("/proc/mounts").read_text()

    def test_the_network_is_complete_before_the_command_starts(self, fairlead: Fairlead, tmp_path: Path) -> None:
        mark = tmp_path / "started"
        seen: list[bool] = []

        def before_attach(wanted: Attach) -> None:
            assert Path(wanted.path).stat().st_size == 0
            seen.append(mark.exists())

        fairlead.agent.before_attach = before_attach
        fairlead("run", "--network", "front", "--network", "back", "touch", str(mark))
        assert seen == [False, False]
        assert mark.exists()

    def test_name_servers(self, fairlead: Fairlead) -> None:
        read = ("cat", "/etc/resolv.conf")
        assert fairlead("run", "--network", "back", *read) == "nameserver 10.30.0.1\n"
        assert fairlead("run", "--network", "back", "--dns", "9.9.9.9", "--dns", "2620:fe::fe", *read).splitlines() == [
            "nameserver 9.9.9.9",
            "nameserver 2620:fe::fe",
        ]
        assert "nameserver 127." not in fairlead("run", "--network", "front", *read)
        assert fairlead("run", "--network", "none", *read).startswith("# No name server: this container has no network")

    def test_what_was_asked_reaches_the_agent(self, fairlead: Fairlead) -> None:
        fairlead(
            *("run", "--name", "web", "--network", "inner", "--network", "front", "--mac", "02:00:00:00:00:77"),
            *("-p", "127.0.0.1:8080:80", "-p", "9000-9001:9000-9001/udp", "--label", "tier=web", "--namespace", "shop"),
            *("--ingress-rate", "10M", "--egress-rate", "1G", "true"),
        )
        inner, front = fairlead.agent.attached
        assert [str(port) for port in front.ports] == ["127.0.0.1:8080->80/tcp", "9000-9001->9000-9001/udp"]
        assert (inner.gateway, inner.mac, inner.ports) == (False, "02:00:00:00:00:77", ())
        assert (front.gateway, front.mac, front.interface) == (True, None, "eth1")
        assert (front.labels, front.namespace, front.display) == ({"tier": "web"}, "shop", "web")
        assert front.bandwidth
        assert (front.bandwidth.ingress_rate, front.bandwidth.egress_rate) == (10_000_000, 1_000_000_000)
        assert front.path == str(fairlead.run_dir / "netns" / "web")

    def test_a_host_port_is_chosen_that_is_free(self, fairlead: Fairlead) -> None:
        fairlead("run", "--network", "front", "-p", "80", "-p", "[::1]::81/udp", "true")
        first, second = fairlead.agent.attached[0].ports
        assert 32768 <= first.host_port <= 60999
        assert (first.container_port, second.container_port, second.host_ip) == (80, 81, "::1")

    @pytest.mark.parametrize(
        ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
    )
    def test_the_exit_status_is_passed_on(self, fairlead: Fairlead, script: str, status: int) -> None:
        assert fairlead.attempt("run", "--network", "front", "--", *SH, script).returncode == status

    def test_streams_and_variables_are_passed_on(self, fairlead: Fairlead) -> None:
        done = fairlead.attempt(
            *("run", "--network", "none", "-e", "A=1 2", "-e", "HOSTNAME=x", "-i", "--", *SH, "cat; echo $A >&2; pwd"),
            stdin="hello\n",
        )
        assert (done.stdout, done.stderr) == (f"hello\n{Path.cwd()}\n", "1 2\n")

    def test_a_command_that_cannot_be_run_leaves_nothing(self, fairlead: Fairlead) -> None:
        missing = fairlead.attempt("run", "--network", "front", "no-such-program")
        assert (missing.returncode, missing.stderr) == (127, "Error: command: 'no-such-program' is not found in PATH\n")
        assert fairlead.attempt("run", "--network", "front", "/etc/passwd").returncode == 126
        assert fairlead.attempt("run", "-d", "--name", "x", "--network", "front", "no-such-program").returncode == 127
        assert fairlead.clean

    def test_an_attach_that_is_refused_undoes_what_was_done(self, fairlead: Fairlead, tmp_path: Path) -> None:
        fairlead.agent.refuse["attach back"] = errors.Exhausted("pool 10.30.0.0/24 of network back is full", field="addresses")
        done = fairlead.attempt("run", "--network", "front", "--network", "back", "touch", str(tmp_path / "ran"))
        assert done.returncode == 125
        assert done.stderr == "Error: ip: pool 10.30.0.0/24 of network back is full\nTry: fairlead status\n"
        assert not (tmp_path / "ran").exists()
        assert fairlead.clean

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["--network", "nope"], "network: there is no network 'nope'; there are: back, default, front, inner"),
            (["--network", "front", "--network", "host"], "network: host cannot be combined with another network (front)"),
            (["--network", "front", "--ip", "10.9.9.9"], "ip: 10.9.9.9 is in no subnet of its network"),
            (["--network", "front", "--mac", "ff:ff:ff:ff:ff:ff"], "mac: "),
            (["--network", "front", "-p", "80:0"], "publish: '80:0': container port '0' is not a port"),
            (["--network", "front", "-p", "80:80", "-p", "80:81"], "publish: 80->81/tcp and 80->80/tcp cannot both"),
            (["--network", "inner", "-p", "80:80"], "publish: nothing outside reaches inner"),
            (["--network", "none", "-p", "80:80"], "publish: cannot be used with --network none"),
            (["--name", "No"], "name: 'No' is not a name"),
            (["--network", "front", "--egress-rate", "fast"], "egress-rate: 'fast' is not a rate"),
            (["--network", "front", "-e", "=1"], "env: '=1' is not a variable"),
            (["--network", "front", "--hostname", "a b"], "hostname: 'a b' is not a host name"),
        ],
    )
    def test_what_is_wrong_is_named_before_anything_is_made(self, fairlead: Fairlead, words: list[str], says: str) -> None:
        done = fairlead.attempt("run", *words, "true")
        assert done.returncode == 125
        assert done.stderr.startswith(f"Error: {says}"), done.stderr
        assert not fairlead.agent.attached
        assert fairlead.clean

    def test_a_name_that_is_taken(self, fairlead: Fairlead) -> None:
        fairlead("run", "-d", "--name", "web", "--network", "none", "sleep", "60")
        done = fairlead.attempt("run", "--name", "web", "--network", "none", "true")
        assert done.returncode == 125
        assert re.match(r"Error: name: 'web' is taken: container [0-9a-f]{12} is running\nTry: fairlead rm -f web", done.stderr)
        assert fairlead.state("web")["process"]["pid"]

    def test_what_the_command_leaves_behind_ends_with_it(self, fairlead: Fairlead) -> None:
        pid = int(fairlead("run", "--network", "front", *SH, "sleep 300 >/dev/null 2>&1 </dev/null & echo $!"))
        eventually(lambda: not alive(pid), what="the sleep that the shell left is gone")


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
    def test_signals_are_passed_on(self, fairlead: Fairlead, number: signal.Signals, tmp_path: Path) -> None:
        script = f"trap 'exit 42' {number.value}; touch {tmp_path}/ready; while :; do sleep 0.05; done"
        running = fairlead.start("run", "--name", "web", "--network", "front", "--", *SH, script)
        eventually((tmp_path / "ready").exists, deadline=20)
        running.send_signal(number)
        assert running.wait(20) == 42
        assert fairlead.clean

    def test_a_signal_while_it_is_made_undoes_what_was_done(self, fairlead: Fairlead, tmp_path: Path) -> None:
        running: list[subprocess.Popen[str]] = []

        def interrupt(_: Attach) -> None:
            eventually(lambda: running)
            running[0].send_signal(signal.SIGTERM)

        fairlead.agent.before_attach = interrupt
        running.append(fairlead.start("run", "--network", "front", "touch", str(tmp_path / "ran")))
        assert running[0].wait(20) != 0
        assert not (tmp_path / "ran").exists()
        assert fairlead.clean

    def test_killed_without_a_word_it_takes_the_command_along(self, fairlead: Fairlead) -> None:
        running = fairlead.start("run", "--name", "web", "--network", "front", "sleep", "300")
        pid = fairlead.runs("web")["process"]["pid"]
        running.kill()
        eventually(lambda: not alive(pid), what="the command has ended with fairlead run")
        assert "exited" in fairlead("ps", "-a")
        # The next run finds what is left and cleans up, even under the same name.
        assert fairlead("run", "--name", "web", "--network", "front", "echo", "again") == "again\n"
        assert fairlead.clean


class TestTerminal:
    def test_the_command_has_the_terminal(self, fairlead: Fairlead) -> None:
        terminal = fairlead.terminal("run", "-it", "--network", "none", "sh")
        terminal.type("tty; stty size >/dev/null && echo is-a-terminal; read x; echo got-$x\n")
        terminal.until("is-a-terminal\r\n")
        terminal.type("this\n")
        terminal.until("got-this")
        terminal.type("exit 5\n")
        assert terminal.wait() == 5

    def test_ctrl_c_is_the_command_s(self, fairlead: Fairlead) -> None:
        terminal = fairlead.terminal(
            "run",
            "--network",
            "none",
            *SH,
            "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done",
        )
        terminal.until("ready")
        terminal.type("\x03")
        terminal.until("caught")
        assert terminal.wait() == 9
        assert fairlead.clean

    def test_ctrl_z_stops_both_and_both_go_on(self, fairlead: Fairlead) -> None:
        terminal = fairlead.terminal("run", "--network", "none", *SH, "echo ready; read x; echo got-$x")
        terminal.until("ready")
        terminal.type("\x1a")
        _, status = os.waitpid(terminal.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        os.kill(terminal.pid, signal.SIGCONT)
        terminal.type("this\n")
        terminal.until("got-this")
        assert terminal.wait() == 0


class TestDetached:
    def test_its_life(self, fairlead: Fairlead) -> None:
        script = "echo hello; trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done"
        assert fairlead("run", "-d", "--name", "web", "--network", "front", "-p", "8080:80", "--", *SH, script) == "web\n"
        record = fairlead.state("web")
        assert alive(record["process"]["pid"])
        assert alive(record["monitor"]["pid"])
        row = fairlead("ps").splitlines()[1].split()
        assert row[:6] == ["web", "cli", "running", "front", "10.20.0.2,fd20::2", "8080->80/tcp"]
        eventually(lambda: fairlead("logs", "web") == "hello\n")
        refused = fairlead.attempt("rm", "web")
        assert (refused.returncode, refused.stderr) == (1, "Error: name: web is running\nTry: fairlead rm -f web\n")
        assert fairlead("stop", "web") == "web\n"
        assert not fairlead.agent.endpoints
        assert fairlead("ps").count("\n") == 1
        assert "exited (3)" in fairlead("ps", "-a")
        assert fairlead("logs", "web", "-n", "1") == "bye\n"
        assert json.loads(fairlead("inspect", "web", "-o", "json"))["exitCode"] == 3
        assert fairlead("rm", "web") == "web\n"
        assert fairlead.clean

    def test_when_it_ends_its_network_goes_and_its_record_stays(self, fairlead: Fairlead) -> None:
        fairlead("run", "-d", "--name", "job", "--network", "front", *SH, "echo done; exit 4")
        eventually(lambda: "finished" in fairlead.state("job"), deadline=20)
        assert not fairlead.agent.endpoints
        assert not (fairlead.run_dir / "netns" / "job").exists()
        assert fairlead.state("job")["exitCode"] == 4
        assert fairlead("logs", "job", "-f") == "done\n"

    def test_rm_with_it_nothing_stays(self, fairlead: Fairlead) -> None:
        fairlead("run", "-d", "--rm", "--network", "front", "true")
        eventually(lambda: fairlead.clean, deadline=20)

    def test_it_survives_its_terminal(self, fairlead: Fairlead) -> None:
        starting = fairlead.start("run", "-d", "--name", "web", "--network", "front", "sleep", "60", start_new_session=True)
        assert starting.wait(20) == 0
        record = fairlead.state("web")
        for number in (signal.SIGHUP, signal.SIGINT):
            os.kill(record["monitor"]["pid"], number)
        assert os.getsid(record["process"]["pid"]) == record["monitor"]["pid"]
        assert alive(record["monitor"]["pid"])

    def test_one_that_does_not_listen_is_killed(self, fairlead: Fairlead) -> None:
        fairlead("run", "-d", "--name", "deaf", "--network", "front", *SH, "trap '' TERM; echo on; while :; do sleep 1; done")
        eventually(lambda: fairlead("logs", "deaf") == "on\n")
        assert fairlead("rm", "-f", "-t", "0.2", "deaf") == "deaf\n"
        assert fairlead.clean

    def test_the_monitor_is_small(self, fairlead: Fairlead) -> None:
        fairlead("run", "-d", "--name", "web", "--network", "none", "sleep", "60")
        pid = fairlead.state("web")["monitor"]["pid"]

        def small() -> bool:
            status = Path(f"/proc/{pid}/status").read_text()
            return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) < 12_000

        eventually(small, what="the monitor holds less than 12 MB")

    def test_a_monitor_that_was_killed_is_made_up_for(self, fairlead: Fairlead) -> None:
        fairlead("run", "-d", "--name", "web", "--network", "front", "sleep", "300")
        record = fairlead.state("web")
        os.kill(record["monitor"]["pid"], signal.SIGKILL)
        eventually(lambda: not alive(record["monitor"]["pid"]))
        assert alive(record["process"]["pid"])
        assert fairlead("rm", "-f", "web") == "web\n"
        assert not alive(record["process"]["pid"])
        assert fairlead.clean

    def test_a_pid_that_is_another_s_by_now_is_left_alone(self, fairlead: Fairlead) -> None:
        fairlead("run", "-d", "--name", "web", "--network", "front", "true")
        eventually(lambda: "finished" in fairlead.state("web"), deadline=20)
        with subprocess.Popen(["sleep", "60"]) as other:
            path = fairlead.run_dir / "containers" / "web" / "state.json"
            record = fairlead.state("web")
            record["process"] = {"pid": other.pid, "started": 1}
            path.write_text(json.dumps(record))
            assert fairlead("rm", "-f", "web") == "web\n"
            assert other.poll() is None
            other.kill()

    def test_it_ends_while_the_agent_is_down(self, fairlead: Fairlead) -> None:
        fairlead(
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "front",
            *SH,
            f"while [ ! -e {fairlead.run_dir.parent}/go ]; do sleep 0.05; done",
        )
        fairlead.agent.refuse["detach"] = errors.Unavailable("the agent is starting")
        (fairlead.run_dir.parent / "go").touch()
        eventually(lambda: fairlead.state("web").get("problem"), deadline=20)
        assert fairlead("ps", "-a").count("exited (0)") == 1
        failed = fairlead.attempt("rm", "web")
        assert failed.returncode == 1
        assert "the agent is starting" in failed.stderr
        fairlead.agent.refuse.clear()
        assert fairlead("rm", "web") == "web\n"
        assert fairlead.clean


class TestAlone:
    def test_host_says_what_is_given_up(self, fairlead: Fairlead) -> None:
        done = fairlead.attempt("run", "--name", "bare", "--network", "host", *SH, "readlink /proc/self/ns/net; hostname")
        assert done.stdout == f"{Path('/proc/self/ns/net').readlink()}\n{os.uname().nodename}\n"
        for word in ("ports", "interfaces", "firewall", "localhost"):
            assert word in done.stderr
        assert fairlead.clean

    def test_host_is_listed_and_entered_and_stopped(self, fairlead: Fairlead) -> None:
        fairlead("run", "-d", "--name", "bare", "--network", "host", "sleep", "60")
        assert fairlead("ps").splitlines()[1].split()[:5] == ["bare", "cli", "running", "host", "-"]
        assert fairlead("exec", "bare", "readlink", "/proc/self/ns/net").strip() == str(Path("/proc/self/ns/net").readlink())
        fairlead("rm", "-f", "bare")

    def test_none_has_loopback_alone_and_needs_no_agent(self, fairlead: Fairlead) -> None:
        fairlead.agent.path.unlink()
        said = fairlead("run", "--network", "none", "ip", "-o", "-brief", "address").split()
        assert said == ["lo", "UNKNOWN", "127.0.0.1/8", "::1/128"]
        assert not fairlead.agent.attached


class TestExec:
    def test_it_enters_network_mounts_and_host_name(self, fairlead: Fairlead) -> None:
        fairlead("run", "-d", "--name", "web", "--network", "front", "sleep", "60")
        done = fairlead.attempt("exec", "web", "--", *SH, "hostname; grep -c web /etc/hosts; ls /sys/class/net; pwd; exit 6")
        assert done.returncode == 6
        assert done.stdout.split() == ["web", "2", "eth0", "lo", str(Path.cwd())]

    def test_options_before_the_name(self, fairlead: Fairlead) -> None:
        fairlead("run", "-d", "--name", "web", "--network", "none", "sleep", "60")
        assert fairlead("exec", "-it", "-e", "A=1", "web", *SH, "echo $A $0 -x", "-y") == "1 -y -x\n"

    def test_what_cannot_be_entered(self, fairlead: Fairlead) -> None:
        fairlead("run", "-d", "--name", "web", "--network", "none", "true")
        eventually(lambda: "finished" in fairlead.state("web"), deadline=20)
        done = fairlead.attempt("exec", "web", "true")
        assert (done.returncode, done.stderr) == (125, "Error: name: web is not running\nTry: fairlead ps -a\n")
        fairlead("run", "-d", "--name", "two", "--network", "none", "sleep", "60")
        assert fairlead.attempt("exec", "two", "no-such-program").returncode == 127
        assert fairlead.attempt("exec", "two", "--").returncode == 125

    def test_a_container_of_another_runtime(self, fairlead: Fairlead, containers: Containers) -> None:
        other = containers.new()
        fairlead.agent.add("4f5a9c21d0b7", "front", display="pod", owner="cni", path=str(other.path))
        inside = fairlead("exec", "pod", "--", *SH, "readlink /proc/self/ns/net; ls /sys/class/net; hostname").split()
        assert inside == [other.run("readlink", "/proc/self/ns/net").strip(), "lo", os.uname().nodename]
        fairlead("rm", "-f", "pod")


class TestAttach:
    def test_by_name_path_and_process(self, fairlead: Fairlead, containers: Containers) -> None:
        other = containers.new()
        sleeping = other.start("sleep", "60")
        said = fairlead("attach", other.name, "--network", "front", "-p", "8080:80")
        assert said.splitlines() == [
            f"{other.name} eth0 attached to front 10.20.0.2/24 fd20::2/64",
            "  published 8080->80/tcp",
        ]
        assert "eth0" in other.run("ip", "-o", "link")
        assert "eth1 attached to back" in fairlead("attach", str(other.path), "--network", "back")
        pid = sleeping.pid
        assert "eth2 attached to inner" in fairlead("attach", str(pid), "--network", "inner")
        ids = {one.container for one in fairlead.agent.endpoints.values()}
        assert len(ids) == 1
        assert re.fullmatch(r"ns-\d+", ids.pop())
        assert [one.gateway for one in fairlead.agent.attached] == [True, False, False]
        row = fairlead("ps").splitlines()[1].split()
        assert row[:4] == [other.name, "cli", "attached", "front,back,inner"]
        assert f"{other.name} eth1 detached from back" in fairlead("detach", str(pid), "--network", "back")
        assert len(fairlead("detach", other.name).splitlines()) == 2
        assert "was not attached" in fairlead.attempt("detach", other.name).stderr

    def test_what_it_is_called(self, fairlead: Fairlead, containers: Containers) -> None:
        other = containers.new()
        fairlead("attach", str(other.path), "--network", "front", "--interface", "net1", "--name", "blue", "--ip", "10.20.0.9")
        (endpoint,) = fairlead.agent.endpoints.values()
        assert (endpoint.display, endpoint.spec.interface, endpoint.spec.addresses[0]) == ("blue", "net1", "10.20.0.9/24")
        assert fairlead("exec", "blue", "ls", "/sys/class/net").split() == ["lo", "net1"]
        assert "blue net1 detached" in fairlead("detach", "blue")

    def test_all_or_none(self, fairlead: Fairlead, containers: Containers) -> None:
        other = containers.new()
        fairlead.agent.refuse["attach back"] = errors.Exhausted("it is full")
        assert fairlead.attempt("attach", other.name, "--network", "front", "--network", "back").returncode == 1
        assert not fairlead.agent.endpoints
        assert "eth0" not in other.run("ip", "-o", "link")

    def test_one_more_network_for_a_container_of_one_s_own(self, fairlead: Fairlead) -> None:
        fairlead("run", "-d", "--name", "web", "--network", "front", "sleep", "60")
        assert fairlead("attach", "web", "--network", "back").startswith("web eth1 attached to back 10.30.0.2/24")
        assert fairlead("exec", "web", "ls", "/sys/class/net").split() == ["eth0", "eth1", "lo"]
        assert fairlead("ps").splitlines()[1].split()[3] == "front,back"
        fairlead("rm", "-f", "web")
        assert fairlead.clean

    @pytest.mark.parametrize("path", ["/proc/self/ns/net", "/proc/self/ns/uts"])
    def test_what_is_no_container_s(self, fairlead: Fairlead, path: str) -> None:
        done = fairlead.attempt("attach", path, "--network", "front")
        assert done.returncode == 1
        assert done.stderr.startswith("Error: target: ")
        assert not fairlead.agent.attached


def test_mounts_that_the_agent_could_not_see(fairlead: Fairlead) -> None:
    command = ["unshare", "--mount", sys.executable, "-m", "fairlead.cli", "run", "--network", "front", "true"]
    done = subprocess.run(command, env=fairlead.environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 125
    assert "this shell has mounts of its own" in done.stderr
    assert fairlead.clean


def test_a_namespace_is_not_kept_alive_by_other_containers(fairlead: Fairlead) -> None:
    fairlead("run", "-d", "--name", "first", "--network", "none", "sleep", "60")
    fairlead("run", "-d", "--name", "second", "--network", "none", "sleep", "60")
    mounts = Path(f"/proc/{fairlead.state('second')['process']['pid']}/mountinfo").read_text()
    assert str(fairlead.run_dir / "netns") not in mounts
