"""The first process of a host: gives it files of its own over the machine's, says so, and reaps what is left to it.

::

    /run                          empty, so every daemon's sockets, locks and namespaces are private
    /etc /opt /srv /var           the machine's, and whatever is written stays in the host
    /var/lib/docker and others    empty: a daemon of the host must not find the machine's containers

It runs in new mount and PID namespaces: when it ends, all that was started there ends, and every mount is gone.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

OVER = ("/etc", "/opt", "/srv", "/var")
EMPTY = ("docker", "containerd", "containers", "cni", "fairlead")


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    mount("-t", "tmpfs", "-o", "mode=755", "run", "/run")
    for place in OVER:
        upper, work = (f"/run/host{place}/{part}" for part in ("upper", "work"))
        for folder in (upper, work):
            Path(folder).mkdir(parents=True)
        mount("-t", "overlay", "-o", f"lowerdir={place},upperdir={upper},workdir={work}", "overlay", place)
    for name in EMPTY:
        folder = Path("/var/lib", name)
        folder.mkdir(exist_ok=True)
        mount("-t", "tmpfs", "-o", "mode=755", name, str(folder))
    Path("/run/lock").mkdir()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        signal.sigwait({signal.SIGCHLD})
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


if __name__ == "__main__":
    main()
