"""A process that has imported the agent and forks one for each line it reads, so that a hundred starts do not cost a minute.

    nursery.py LOG        reads one line for each agent: its options, as JSON; writes the new process's id

What runs in the fork is the agent's own ``main``. It is killed and waited for like any process; the nursery takes its exit
status, ``pidfd`` tells when it ended.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys

import fairlead.agent.main


def nurse(log: str) -> None:
    """Fork an agent for each line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel takes the exit statuses
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            nothing = os.open(os.devnull, os.O_RDONLY)
            for number, to in ((nothing, 0), (file, 1), (file, 2)):
                os.dup2(number, to)
            os.close(file)
            os.close(nothing)
            status = fairlead.agent.main.main(json.loads(line))
            sys.stderr.flush()
            os._exit(status)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    nurse(sys.argv[1])
