"""Relay: the agent's socket as standard input and output, for whoever can run a program beside the agent, and is elsewhere.

    kubectl -n fairlead-system exec -i POD -- python3 -m fairlead.agent.relay

One connection, until either side ends it. Standard library only.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

_PIECE = 1 << 16


def main() -> int:
    """Pass on what comes until one side has ended; 1 if there is no agent."""
    folder = os.environ.get("FAIRLEAD_RUN_DIR", "/run/fairlead")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plug:
        try:
            plug.connect(f"{folder}/agent.sock")
        except OSError as problem:
            sys.stderr.write(f"the agent does not answer: {problem}\n")
            return 1
        threading.Thread(target=_ask, args=(plug,), daemon=True).start()
        while data := plug.recv(_PIECE):
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]
    return 0


def _ask(plug: socket.socket) -> None:
    """What the other one says. When he has gone, so has what he asked for."""
    try:
        while data := os.read(0, _PIECE):
            plug.sendall(data)
    finally:
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
