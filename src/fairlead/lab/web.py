"""The server of a lab's pods and hosts: says its own name and whom it sees asking. ``web.py PORT NAME``.

Run by itself, with nothing but the standard library, so that a pod costs little: no thread, no framework.
"""

import socket
import sys
from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector

PATIENCE = 5.0
_MOST = 4096


def listening(port: int) -> socket.socket:
    """A socket for every address there is, of both families where the kernel has both."""
    if socket.has_dualstack_ipv6():
        with suppress(OSError):
            return socket.create_server(("::", port), family=socket.AF_INET6, backlog=128, dualstack_ipv6=True)
    return socket.create_server(("", port), backlog=128)


def answer(name: str, peer: str) -> bytes:
    """What anybody gets who asks anything."""
    body = f"{name}\nyou are {peer.removeprefix('::ffff:')}\n".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def serve(server: socket.socket, name: str) -> None:
    """Answer for ever. Somebody who connects and says nothing holds up nobody."""
    selector = DefaultSelector()
    selector.register(server, EVENT_READ)
    while True:
        for key, _ in selector.select():
            asking = key.fileobj
            if not isinstance(asking, socket.socket):
                continue
            if asking is server:
                with suppress(OSError):
                    connected, _ = server.accept()
                    connected.settimeout(PATIENCE)
                    selector.register(connected, EVENT_READ)
                continue
            selector.unregister(asking)
            with suppress(OSError), asking:
                if asking.recv(_MOST):
                    asking.sendall(answer(name, asking.getpeername()[0]))
                    asking.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    serve(listening(int(sys.argv[1])), sys.argv[2])
