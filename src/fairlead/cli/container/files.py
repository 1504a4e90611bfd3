"""A container's own ``/etc/hosts`` and ``/etc/resolv.conf``, as text. Pure, but for reading the host's resolver."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from pathlib import Path

from fairlead.model.address import Address

_RESOLV = Path("/etc/resolv.conf")
_SYSTEMD_RESOLV = Path("/run/systemd/resolve/resolv.conf")
"""The servers that systemd-resolved forwards to; /etc/resolv.conf names only its own stub on loopback."""

_LOCAL = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def hosts(addresses: Iterable[Address], names: Sequence[str]) -> str:
    """``/etc/hosts``: loopback, and the container's addresses with its names."""
    own = " ".join(dict.fromkeys(names))
    return _LOCAL + "".join(f"{address}\t{own}\n" for address in addresses)


def resolv(servers: Sequence[str], host: Sequence[str] = (), why: str = "") -> str:
    """``/etc/resolv.conf``: ``servers`` if there are any, else what the host uses and a container can reach.

    ``host`` holds the host's own files in order of preference; the first that names a server off loopback is used.
    """
    if servers:
        return "".join(f"nameserver {server}\n" for server in servers)
    for text in host:
        usable = reachable(text)
        if any(line.startswith("nameserver") for line in usable):
            return "# From the host, without resolvers that only the host can reach.\n" + "\n".join(usable) + "\n"
    reason = why or "the host's resolvers listen on loopback, which is another one here"
    return f"# No name server: {reason}. Give one with --dns.\n"


def reachable(text: str) -> list[str]:
    """The lines of a resolv.conf that mean the same in another network namespace."""
    return [line for line in map(str.strip, text.splitlines()) if line and line[0] not in "#;" and not _local(line)]


def host_resolvers() -> list[str]:
    """The host's resolver files, those that exist."""
    found = []
    for path in (_RESOLV, _SYSTEMD_RESOLV):
        try:
            found.append(path.read_text(errors="replace"))
        except OSError:
            continue
    return found


def _local(line: str) -> bool:
    """Whether a line names a server by a loopback or a link-local address."""
    word, *rest = line.split()
    if word != "nameserver":
        return False
    try:
        address = ipaddress.ip_address(rest[0].partition("%")[0])
    except (ValueError, IndexError):
        return True
    return address.is_loopback or address.is_link_local or address.is_unspecified
