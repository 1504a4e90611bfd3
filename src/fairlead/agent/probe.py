"""Probe: whether the agent of this machine answers, or is ready. For whoever starts it anew when it does not: kubelet.

    python -m fairlead.agent.probe alive     it answers
    python -m fairlead.agent.probe ready     it answers that containers can start; what else it says goes to standard output

Standard library only: it is run every few seconds on every node.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence

SECONDS = 4.0
_MOST = 1 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if it is so, 1 with the reason if not."""
    asked = list(sys.argv[1:] if arguments is None else arguments)
    if asked not in (["alive"], ["ready"]):
        return _say(2, "usage: python -m fairlead.agent.probe alive|ready")
    folder = os.environ.get("FAIRLEAD_RUN_DIR", "/run/fairlead")
    try:
        status = _ask(f"{folder}/agent.sock")
    except (OSError, ValueError) as problem:
        return _say(1, f"the agent does not answer: {problem}")
    if asked == ["ready"] and not status.get("ready"):
        return _say(1, f"not ready: {status.get('reason') or 'it does not say why'}")
    return 0


def _say(code: int, text: str) -> int:
    sys.stdout.write(f"{text}\n")
    return code


def _ask(path: str) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plug:
        plug.settimeout(SECONDS)
        plug.connect(path)
        plug.sendall(b"GET /v1/status HTTP/1.0\r\nHost: fairlead\r\n\r\n")
        parts: list[bytes] = []
        while (data := plug.recv(1 << 16)) and sum(map(len, parts)) < _MOST:
            parts.append(data)
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise ValueError(head.split(b"\r\n", 1)[0].decode(errors="replace"))
    status = json.loads(body)
    if not isinstance(status, dict):
        raise ValueError("its answer is none")  # it is about what came over the wire
    return status


if __name__ == "__main__":
    sys.exit(main())
