"""A machine: network, mount, process, host name and IPC namespaces around one first process, which is all that holds them.

::

    parent                          child                        first process
    fork ─────────────────────────> new namespaces, fork ──────> mounts, host name, switches
    record its process <──────────────────────────────────────── "ready"
    go ────────────────────────────────────────────────────────> becomes `sleep`, which waits for ever

Killing it kills everything that ever ran on the machine, whatever that did to hide, and its interfaces go with it. A parent
that dies before it has recorded the process takes it along.

Files: /run is empty, /etc, /opt, /srv and /var are those of the real machine and keep to themselves what is written, and
``shares`` show directories of outside that outlast the machine. /proc, /sys and a bpffs are its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from fairlead.kernel import mounts, netns, process, sysctl
from fairlead.kernel.errors import KernelError
from fairlead.kernel.process import Process
from fairlead.model.errors import Failed, Unavailable

MARK = "FAIRLEAD_LAB"
"""An environment variable that every process of a machine has: the lab and the machine."""
SPACES = process.CLONE_NEWNET | process.CLONE_NEWNS | process.CLONE_NEWUTS | process.CLONE_NEWPID | process.CLONE_NEWIPC

_FIRST = ("sleep", "infinity")
_OVERLAID = ("/etc", "/opt", "/srv", "/var")
_OWN = Path("/run/lab")
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_READY = b"ready\n"
_NOT_PASSED_ON = ("FAIRLEAD_RUN_DIR", "FAIRLEAD_STATE_DIR")
_SWITCHES = {
    "net.ipv6.conf.all.accept_dad": 0,  # addresses are usable at once: a lab knows its neighbours
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.default.accept_ra": 0,
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
}


@dataclass(frozen=True)
class Making:
    """What a machine is to be. ``hide``: directories whose mounts it must not keep alive."""

    name: str
    lab: str
    forwards: bool = False
    shares: tuple[tuple[Path, str], ...] = ()
    boots: bool = True
    """Whether it has a boot id of its own, so that one that is started again has really been restarted."""
    hosts: str = ""
    """Its /etc/hosts."""
    hide: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """A machine that runs."""

    name: str
    process: Process
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> Path:
        """Its root directory, as seen from outside."""
        return Path(f"/proc/{self.process.pid}/root")

    @contextmanager
    def network(self) -> Iterator[int]:
        """Its network namespace, open for the block."""
        self.check()
        fd = netns.open_path(f"/proc/{self.process.pid}/ns/net")
        try:
            yield fd
        finally:
            os.close(fd)

    def check(self) -> None:
        """Raise ``Unavailable`` unless it runs."""
        if not self.process.alive:
            raise Unavailable(f"{self.name} does not run; start it with: fairlead lab start {self.name}")

    def attempt(self, *words: str, patience: float = 60.0, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command on it to its end."""
        self.check()
        try:
            return subprocess.run(
                self._inside(words),
                input=text,
                capture_output=True,
                text=True,
                timeout=patience,
                check=False,
                env=self.environment(),
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name}: {' '.join(words)} has not ended within {patience:g} s") from None

    def run(self, *words: str, patience: float = 60.0, text: str = "") -> str:
        """Run a command on it and return what it printed; raise ``Failed`` with its complaint if it fails."""
        done = self.attempt(*words, patience=patience, text=text)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise Failed(f"{self.name}: {' '.join(words)}: {said or f'exit status {done.returncode}'}")
        return done.stdout

    def start(self, *words: str, log: Path) -> None:
        """Start a program that runs until it ends or the machine does."""
        self.check()
        with log.open("ab") as out:
            # Its parent ends at once, so that it is the first process that takes its exit status.
            subprocess.run(
                self._inside(("setsid", "--fork", *words)), stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True,
                env=self.environment(), timeout=20,
            )  # fmt: skip

    def kill(self) -> None:
        """End everything on it; return at once."""
        self.process.send(signal.SIGKILL)

    def environment(self) -> dict[str, str]:
        """The environment of commands on it."""
        return {**passed_on(), **self.environ}

    def _inside(self, words: tuple[str, ...]) -> list[str]:
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid")
        return ["nsenter", f"--target={self.process.pid}", *spaces, "--", *words]


def make(wanted: Making, record: Callable[[Process], None]) -> Machine:
    """Start a machine. ``record`` is told its first process before that can outlive this one."""
    said_read, said_write = os.pipe()
    go_read, go_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(said_read)
        os.close(go_write)
        _child(wanted, said_write, go_read)
    os.close(said_write)
    os.close(go_read)
    with os.fdopen(said_read, "rb") as said, os.fdopen(go_write, "wb", buffering=0) as go:
        first = said.readline()
        os.waitpid(pid, 0)
        line = said.readline() if first.strip().isdigit() else first
        if line != _READY:
            raise Failed(f"making the machine {wanted.name}: {line.decode(errors='replace').strip() or 'it ended'}")
        made = Process.of(int(first))
        record(made)
        go.write(b"g")
        if line := said.readline():
            raise Failed(f"starting the machine {wanted.name}: {line.decode(errors='replace').strip()}")
    return Machine(wanted.name, made, machine_environ(wanted.lab, wanted.name))


def machine_environ(lab: str, name: str) -> dict[str, str]:
    """What is added to the environment of everything on a machine."""
    return {MARK: f"{lab}/{name}"}


def passed_on() -> dict[str, str]:
    """What commands on a machine get of this process's environment: nothing about the real machine's agent and etcd."""
    found = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON and not name.startswith("ETCD")}
    beside = str(Path(sys.executable).parent)  # where `fairlead` lies if it was installed with this Python
    found["PATH"] = os.pathsep.join(dict.fromkeys((beside, *os.get_exec_path(), "/usr/sbin", "/sbin")))
    if "PYTHONPATH" in found:
        found["PYTHONPATH"] = os.pathsep.join(str(Path(one).absolute()) for one in found["PYTHONPATH"].split(os.pathsep) if one)
    return found


def _child(wanted: Making, said: int, go: int) -> NoReturn:
    """Between the two forks; never returns."""
    try:
        os.setsid()
        process.unshare(SPACES)
        wait, told = os.pipe()
        pid = os.fork()
        if pid:
            os.write(said, f"{pid}\n".encode())
            os._exit(0)
        os.close(told)
        os.read(wait, 1)  # it ends when the line above is written: what comes now is said after it
        os.close(wait)
        os.environ.update(machine_environ(wanted.lab, wanted.name))
        _furnish(wanted)
        os.write(said, _READY)
        if os.read(go, 1) == b"g":
            _stay(said)
    except (OSError, KernelError) as problem:
        os.write(said, f"{problem}\n".encode())
    finally:
        os._exit(1)


def _stay(said: int) -> NoReturn:
    """Wait for ever, holding nothing open; whatever is left to it when it ends is forgotten by the kernel at once."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.closerange(3, said)
    os.closerange(said + 1, 65536)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.chdir("/")
    os.execvpe(_FIRST[0], _FIRST, os.environ)  # noqa: S606  # the first process


def _furnish(wanted: Making) -> None:
    """All that makes it a machine but its cables."""
    _mount(wanted)
    socket.sethostname(wanted.name)
    process.loopback_up()
    for key, value in {**_SWITCHES, "net.ipv4.ip_forward": int(wanted.forwards)}.items():
        sysctl.write(key, value)
    sysctl.write("net.ipv6.conf.all.forwarding", int(wanted.forwards))


def _mount(wanted: Making) -> None:
    sources = [(os.open(source, os.O_PATH | os.O_DIRECTORY), target) for source, target in wanted.shares]
    mounts.part()
    for hidden in ("/run", *wanted.hide):
        mounts.let_go(hidden)
    process.mount("tmpfs", "/run", "tmpfs", options="mode=755")
    for place in filter(os.path.isdir, _OVERLAID):
        mounts.overlay(place, _OWN / place.lstrip("/"))
    for folder in ("/run/lock", "/run/netns"):
        Path(folder).mkdir()
    for fd, target in sources:
        Path(target).mkdir(parents=True, exist_ok=True)
        process.mount(f"/proc/self/fd/{fd}", target, flags=process.MS_BIND)
        os.close(fd)
    process.mount("proc", "/proc", "proc", process.MS_NOSUID | process.MS_NODEV | process.MS_NOEXEC)
    mounts.sysfs(keep=("/sys/fs/cgroup",))
    with suppress(KernelError):  # a kernel without BPF
        process.mount("bpf", "/sys/fs/bpf", "bpf", options="mode=700")
    _write(wanted)


def _write(wanted: Making) -> None:
    Path("/etc/hosts").write_text(wanted.hosts)
    Path("/etc/hostname").write_text(f"{wanted.name}\n")
    if not wanted.boots:
        return
    boot = _OWN / "boot_id"
    boot.write_text(f"{uuid.uuid4()}\n")
    process.mount(str(boot), _BOOT_ID, flags=process.MS_BIND)


def lacking() -> str:
    """Which program that machines need is not installed; empty if none."""
    return next((one for one in ("nsenter", "setsid", _FIRST[0]) if not shutil.which(one)), "")
