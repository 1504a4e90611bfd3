"""A command on a terminal of its own, typed at and read from."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time
from collections.abc import Mapping


class Terminal:
    """``fairlead`` on a terminal."""

    def __init__(self, environment: Mapping[str, str], *words: str) -> None:
        pid, self._fd = pty.fork()
        if pid == 0:
            try:
                os.execve(sys.executable, [sys.executable, "-m", "fairlead.cli", *words], environment)  # noqa: S606  # what is tested
            finally:
                os._exit(127)
        self.pid = pid
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def until(self, text: str, deadline: float = 20, *, since: str = "") -> None:
        """Read until ``text`` was printed, ``since`` something else was."""
        end = time.monotonic() + deadline
        while text not in (self.text.rpartition(since)[2] if since else self.text):
            ready, _, _ = select.select([self._fd], [], [], max(0, end - time.monotonic()))
            assert ready, f"no {text!r} in {self.text!r}"
            try:
                self.text += os.read(self._fd, 4096).decode()
            except OSError:
                assert text in self.text, self.text

    def wait(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """End the command if the test did not get that far."""
        os.close(self._fd)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
