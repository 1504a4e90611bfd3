"""What people write after ``--publish``, as published ports. Pure.

::

    [HOSTIP:]HOST[-LAST]:CONTAINER[-LAST][/tcp|udp|sctp]      8080:80   127.0.0.1:53:53/udp   [::1]:9000-9009:9000-9009
    CONTAINER[/PROTOCOL]   HOSTIP::CONTAINER[/PROTOCOL]       80   127.0.0.1::80               (a free host port is chosen)

A run of host ports with one container port counts up from it: ``8000-8002:80`` leads to 80, 81 and 82.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fairlead.model.address import Address
from fairlead.model.endpoint import Protocol, PublishedPort
from fairlead.model.errors import Invalid

from .parse import made

FIELD = "publish"

_SPEC = re.compile(r"(?:(?P<ip>\[[^\]]*\]|[^:\[\]]*):)?(?:(?P<host>[^:\[\]]*):)?(?P<container>[^:\[\]]+)")


@dataclass(frozen=True)
class Wish:
    """One ``--publish``. ``host_port`` is None where any free port will do."""

    container_port: int
    count: int
    protocol: Protocol
    host_port: int | None
    host_ip: Address | None

    def publish(self, host_port: int) -> PublishedPort:
        """The wish with its host port settled."""
        return made(
            PublishedPort,
            field=FIELD,
            host_port=host_port,
            container_port=self.container_port,
            protocol=self.protocol,
            count=self.count,
            host_ip=self.host_ip,
        )


def parse(text: str) -> Wish:
    """Read one ``--publish``; raise ``Invalid`` that says which part is wrong and what would be right."""
    ports, slash, word = text.partition("/")
    found = _SPEC.fullmatch(ports)
    if found is None:
        if ports.count(":") > 2 and "[" not in ports:
            raise _wrong(text, "an IPv6 host address is written in brackets: [::1]:8080:80")
        raise _wrong(text, "write it like 8080:80, 127.0.0.1:8080:80/udp or [::1]:8000-8009:8000-8009")
    first, host, container = found["ip"], found["host"], found["container"]
    if first is not None and host is None:  # the pattern is greedy from the left: one colon leaves the host port in "ip"
        first, host = _not_address(text, first)
    container_port, count = _run(text, "container port", container)
    host_port = None
    if host:
        host_port, host_count = _run(text, "host port", host)
        count = _paired(text, (host, host_count), (container, count))
    elif first is None and host is not None:
        raise _wrong(text, f"the host port is empty; leave the colon out to have one chosen: {container}")
    elif count > 1:
        raise _wrong(text, f"a run of ports needs its host ports: {container}:{container}")
    if host_port is not None and max(host_port, container_port) + count - 1 > 65535:
        raise _wrong(text, f"{count} ports from {max(host_port, container_port)} go past 65535")
    return Wish(container_port, count, _protocol(text, word if slash else "tcp"), host_port, _address(text, first))


def _not_address(text: str, word: str) -> tuple[None, str]:
    if "." in word or "[" in word:
        raise _wrong(text, f"the host port is missing after {word}; to have one chosen write two colons")
    return None, word


def _run(text: str, what: str, run: str) -> tuple[int, int]:
    first, dash, last = run.partition("-")
    start = _port(text, what, first)
    end = _port(text, what, last) if dash else start
    if end < start:
        raise _wrong(text, f"the {what} range {run} runs backwards; write {end}-{start}")
    return start, end - start + 1


def _port(text: str, what: str, word: str) -> int:
    if not (word.isascii() and word.isdigit()) or len(word) > 5 or not 1 <= int(word) <= 65535:
        raise _wrong(text, f"{what} {word!r} is not a port; ports are 1 to 65535")
    return int(word)


def _paired(text: str, host: tuple[str, int], container: tuple[str, int]) -> int:
    (host_run, host_count), (container_run, count) = host, container
    if count not in {1, host_count}:
        raise _wrong(text, f"{host_run} is {host_count} ports and {container_run} is {count}; both sides must be as long")
    return host_count


def _protocol(text: str, word: str) -> Protocol:
    try:
        return Protocol(word.lower())
    except ValueError:
        raise _wrong(text, f"{word!r} is not a protocol with ports; use tcp, udp or sctp") from None


def _address(text: str, word: str | None) -> Address | None:
    if not word:
        return None
    try:
        return Address(word.strip("[]"))
    except ValueError as problem:
        raise _wrong(text, f"host address {problem}") from None


def _wrong(text: str, why: str) -> Invalid:
    return Invalid(f"{text[:80]!r}: {why}", field=FIELD)
