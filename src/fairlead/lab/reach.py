"""Who gets an answer from whom: asked from inside each network namespace, by sockets that this process opens there.

A socket belongs to the namespace in which it was opened, so one process asks for all, many at a time, and nothing is started.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector

from fairlead.kernel import netns
from fairlead.kernel.errors import KernelError
from fairlead.model.address import Address

PORT = 80
PATIENCE = 1.0
_AT_ONCE = 400
_IN_PROGRESS = {0, errno.EINPROGRESS}
_QUESTION = b"GET / HTTP/1.0\r\n\r\n"
_MOST = 4096


@dataclass(frozen=True)
class Source:
    """Who asks: a name and the path of a network namespace."""

    name: str
    path: Path


@dataclass(frozen=True)
class Target:
    """Who is asked: a name and one of its addresses."""

    name: str
    address: Address
    port: int = PORT


@dataclass(frozen=True)
class Answer:
    """What came back: the server's name, and whom it saw asking (what source NAT made of the source)."""

    name: str
    peer: str


Question = tuple[Source, Target]


def ask(questions: Iterable[Question], patience: float = PATIENCE) -> dict[Question, Answer | None]:
    """The answer to each question, None if there was none within ``patience`` seconds of its being asked."""
    answers: dict[Question, Answer | None] = {}
    for some in _chunks(list(questions)):
        answers |= _together(some, patience)
    return answers


def _chunks(questions: Sequence[Question]) -> Iterator[Sequence[Question]]:
    return (questions[at : at + _AT_ONCE] for at in range(0, len(questions), _AT_ONCE))


def _together(questions: Sequence[Question], patience: float) -> dict[Question, Answer | None]:
    answers: dict[Question, Answer | None] = dict.fromkeys(questions)
    said: dict[Question, bytes] = {}
    with ExitStack() as stack, DefaultSelector() as selector:
        for question in questions:
            if opened := _connect(question):
                stack.enter_context(opened)
                selector.register(opened, EVENT_WRITE, question)
        end = time.monotonic() + patience
        while selector.get_map() and (left := end - time.monotonic()) > 0:
            for key, event in selector.select(left):
                asking = key.fileobj
                assert isinstance(asking, socket.socket)
                try:
                    if event & EVENT_WRITE:
                        asking.sendall(_QUESTION)
                        selector.modify(asking, EVENT_READ, key.data)
                    elif heard := asking.recv(_MOST):
                        said[key.data] = said.get(key.data, b"") + heard
                    else:
                        answers[key.data] = _read(said.get(key.data, b""))
                        selector.unregister(asking)
                except OSError:
                    selector.unregister(asking)
    return answers


def _connect(question: Question) -> socket.socket | None:
    """A socket in the source's namespace on its way to the target; None if it is refused at once."""
    source, target = question
    try:
        fd = netns.open_path(str(source.path))
    except KernelError:
        return None
    try:
        with netns.inside(fd):
            asking = socket.socket(socket.AF_INET6 if target.address.family == 6 else socket.AF_INET)
    except (OSError, KernelError):
        return None
    finally:
        os.close(fd)
    asking.setblocking(False)  # the standard library's own order
    with suppress(OSError):
        if asking.connect_ex((str(target.address), target.port)) in _IN_PROGRESS:
            return asking
    asking.close()
    return None


def _read(answer: bytes) -> Answer | None:
    """The answer of ``web``; of any other server, that there was one."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/"):
        return None
    lines = body.decode(errors="replace").splitlines() if found else []
    name = lines[0] if lines else ""
    peer = lines[1].removeprefix("you are ") if len(lines) > 1 else ""
    return Answer(name, peer)
