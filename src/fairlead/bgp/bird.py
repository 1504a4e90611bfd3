"""The BIRD process: one a node, started, told, watched, and never ended with the agent.

::

    DIR/bird.conf    what it reads: root's, its group may read it, for passwords are in it
    DIR/bird.ctl     its control socket
    DIR/var/         its own: bird.pid, bird.log

BIRD is a daemon of its own, as its own user where there is one, in the agent's network namespace. An agent that starts finds it
by its socket and goes on with it; sessions notice nothing. One that died is started again, at once and then ever later while it
keeps dying, to recover gracefully: what it wrote to the kernel stays meanwhile (RFC 4724), and a little longer, for there are
routers that say they have told everything before they have (FRR holds its first routes back for a second).
"""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import pwd
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fairlead.model.errors import Failed, Problem, Unavailable, Unsupported

from . import control
from .control import Answer

log = logging.getLogger(__name__)

USER = "bird"
LOG = "var/bird.log"
_KERNEL = "kernel*"
"""The protocols that write to the kernel."""
_FIRST, _LONGEST = 0.1, 30.0
"""Seconds before it is started again: the first time, and at most."""
_WELL = 60.0
"""Seconds after which a start counts as a success, and the next failure as the first."""
_START = 15.0
_SETTLE = 5.0
"""Seconds after a restart in which the kernel is left as it is."""
_AWAKE, _NUDGE = 8.0, 0.25
"""For so long after a change BIRD is woken so often."""
_END = 10.0
_POLL = 0.5


class Bird:
    """The process, found or made. Times in seconds."""

    def __init__(self, directory: Path, command: Sequence[str] = ("bird",)) -> None:
        """``command``: what is executed, for a test that has it run in another namespace."""
        self.restarts = 0
        self._directory, self._command = directory, tuple(command)
        self._socket = directory / "bird.ctl"
        self._told = ""
        self._one = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._waking: asyncio.Task[None] | None = None

    async def tell(self, text: str) -> None:
        """Have it do what ``text`` says; start it if it is not there. ``Failed`` with its words if it does not understand."""
        async with self._one:
            if await control.answers(self._socket):
                if not self._told:
                    await self._release()  # whoever left it may not have come to that
                if text != self._told:
                    await self._configure(text)
            else:
                await self._start(text)
            self._told = text
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._tend())

    async def ask(self, command: str) -> Answer:
        """What it answers to a command that changes nothing."""
        return await control.ask(self._socket, command)

    async def running(self) -> bool:
        """Whether it answers."""
        return await control.answers(self._socket)

    async def end(self) -> None:
        """End it for good: neighbours are told, and forget what they were told. What it wrote to the kernel stays."""
        await self.leave()
        async with self._one:
            self._told = ""
            pid = self._pid()
            with suppress(Unavailable):
                await control.ask(self._socket, "down")
                try:
                    async with asyncio.timeout(_END):
                        await self._died(pid)
                except TimeoutError:
                    log.error("BIRD has not ended within %g s, and is killed", _END)  # noqa: TRY400  # there is no more to tell
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            for path in (self._directory / "bird.conf", self._socket):
                path.unlink(missing_ok=True)

    async def leave(self) -> None:
        """Look after it no more; it goes on."""
        watch, settling, waking = self._watch, self._settling, self._waking
        self._watch = self._settling = self._waking = None
        for task in (watch, settling, waking):
            if task and not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                if task is settling:
                    await self._release()

    # ---- with the lock held ----

    async def _configure(self, text: str) -> None:
        """A file that it does not understand never takes the place of the one that it runs by."""
        fresh = self._write(text)
        try:
            await control.ask(self._socket, f'configure check "{fresh.name}"')
        except Failed as problem:
            raise Failed(f"BIRD does not understand its new configuration, and goes on with the old: {problem}") from None
        fresh.rename(self._directory / "bird.conf")
        await control.ask(self._socket, "configure")
        self._wake()

    async def _start(self, text: str) -> None:
        again = (self._directory / "bird.conf").exists()  # what an earlier one wrote is still in the kernel
        if self._settling:
            self._settling.cancel()
        self._write(text).rename(self._directory / "bird.conf")
        command = [*self._command, "-c", "bird.conf", "-s", "bird.ctl", "-P", "var/bird.pid"]
        command += ["-u", USER, "-g", USER] if _own_ids() else []
        try:
            starting = await asyncio.create_subprocess_exec(
                *command,
                *(["-R"] if again else []),
                cwd=self._directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except FileNotFoundError:
            raise Unsupported("networks with driver bgp need BIRD 2, and there is no program bird: install bird2") from None
        except OSError as problem:
            raise Failed(f"BIRD cannot be started: {problem}") from None
        said = b""
        try:
            async with asyncio.timeout(_START):
                said, _ = await starting.communicate()
        except TimeoutError:
            starting.kill()
            await starting.wait()
            raise Unavailable(f"BIRD has not started within {_START:g} s") from None
        if starting.returncode:
            raise Failed(f"BIRD did not start: {said.decode(errors='replace').strip()[-500:]}")
        if not await control.answers(self._socket):  # it answers when it has written its pid and read everything
            raise Failed(f"BIRD started and does not answer; its log: {self._directory / LOG}")
        if again:
            await control.ask(self._socket, f'disable "{_KERNEL}"')
            self._settling = asyncio.create_task(self._settle())
        self._wake()
        log.info("BIRD runs, %s", "and takes up what an earlier one left" if again else "for the first time")

    def _write(self, text: str) -> Path:
        """The configuration beside the one in use, readable for root and BIRD alone."""
        user, group = _own_ids() or (0, 0)
        var, fresh = self._directory / "var", self._directory / "bird.conf.new"
        try:
            self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            var.mkdir(mode=0o750, exist_ok=True)
            os.chown(self._directory, 0, group)
            os.chown(var, user, group)
            fresh.unlink(missing_ok=True)
            file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
            with os.fdopen(file, "w") as writing:
                os.fchown(file, 0, group)
                writing.write(text)
        except OSError as problem:
            raise Failed(f"BIRD's configuration cannot be written: {problem}") from None
        return fresh

    async def _settle(self) -> None:
        await asyncio.sleep(_SETTLE)
        await self._release()

    def _wake(self) -> None:
        """See to it that BIRD does at once what follows from a change.

        It goes on with what a timer or a feed of its own began only when it is woken (2.0.12 polls for three seconds though
        events wait): in a quiet place a new session's first routes would come three seconds after the session.
        """
        if self._waking:
            self._waking.cancel()
        self._waking = asyncio.create_task(self._nudge())

    async def _nudge(self) -> None:
        for _ in range(int(_AWAKE / _NUDGE)):
            await asyncio.sleep(_NUDGE)
            await control.answers(self._socket)

    async def _release(self) -> None:
        """Have it write to the kernel."""
        with suppress(Problem):
            await control.ask(self._socket, f'enable "{_KERNEL}"')

    # ---- while it runs ----

    async def _tend(self) -> None:
        """Start it again whenever it has ended."""
        pause = _FIRST
        while True:
            since = time.monotonic()
            await self._died(self._pid())
            pause = _FIRST if time.monotonic() - since > _WELL else pause
            log.error("BIRD has ended by itself; it is started again in %g s. Its log: %s", pause, self._directory / LOG)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST)
            try:
                async with self._one:
                    if not await control.answers(self._socket):
                        await self._start(self._told)
            except Problem as problem:
                log.error("BIRD is not running: %s", problem)  # noqa: TRY400  # tried again
            else:
                self.restarts += 1

    def _pid(self) -> int:
        """Its process; 0 if that is not known."""
        with suppress(OSError, ValueError):
            pid = int((self._directory / "var/bird.pid").read_text())
            if Path(f"/proc/{pid}/comm").read_text().strip() == "bird":
                return pid
        return 0

    async def _died(self, pid: int) -> None:
        """Wait until the process has ended, or, if that is not known, until nothing answers."""
        try:
            held = os.pidfd_open(pid) if pid else -1
        except OSError:
            return
        if held < 0:
            while True:
                if not await control.answers(self._socket):
                    return
                await asyncio.sleep(_POLL)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(held, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(held)
            os.close(held)


def _own_ids() -> tuple[int, int] | None:
    """The user and group that it runs as; None: nobody made one for it, and it runs as root."""
    try:
        return pwd.getpwnam(USER).pw_uid, grp.getgrnam(USER).gr_gid
    except KeyError:
        return None
