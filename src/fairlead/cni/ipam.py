"""The plugin ``fairlead-ipam``: addresses for other plugins (bridge, macvlan, ptp), out of host-local's files.

It knows no networks and asks the agent for nothing: ``ipam.hostlocal`` decides, ``store.leases`` keeps the files, and both
plugins can work on one directory, so that a node moves from one to the other without losing a lease. The agent runs it
only because it runs already; whoever else holds the files' lock is waited for in a thread, not in the agent's loop.

A lease says nothing of a namespace. So GC removes one only when two lists in a row, some seconds apart, do not name its owner:
the first may have been written before the ADD that gave it.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from fairlead.ipam import hostlocal
from fairlead.kernel import boot
from fairlead.kernel.errors import KernelError
from fairlead.kernel.flock import locked
from fairlead.kit.suspects import Suspects
from fairlead.model import codec
from fairlead.model.address import Address, Interface
from fairlead.model.errors import Problem
from fairlead.store.leases import Book, Leases, Owner

from . import config as netconf
from . import result
from .call import Call
from .spec import Code, Refused

_LARGEST_RESOLV_CONF = 1 << 20
_NOBODY = ("\0", "")
"""An owner that no lease can have."""
_GRACE = 10.0
"""Seconds between two lists that must both leave out a lease's owner."""

suspects: Suspects[tuple[Address, Owner]] = Suspects(_GRACE)
"""Leases that the last GC did not find in its list."""


async def serve(call: Call, stdin: bytes) -> bytes:
    """One execution of the plugin; every failure is a ``Refused`` or a ``Problem``."""
    found = netconf.tree(stdin)
    if call.command != "DEL":
        netconf.version(found, call.command)
    return await asyncio.to_thread(_VERBS[call.command], call, found)


def _add(call: Call, found: dict[str, Any]) -> bytes:
    config = hostlocal.parse(found, f"IP={call.extra.ip}")
    routes = tuple(_route(route, f"ipam.routes[{at}]") for at, route in enumerate(config.routes))
    dns = _resolver(config.resolv_conf) if config.resolv_conf else result.Names()
    owner = (call.container, call.interface)
    with _book(config.data_dir, config.network) as book:
        given = hostlocal.decide(config, owner, book.owners, book.last(len(config.sets)))
        book.reserve(owner, ((one.order, one.address) for one in given))
        for one in given:
            suspects.acquit(book.path, (one.address, owner))
    ips = tuple(result.Given(address=one.interface, gateway=one.gateway) for one in given)
    return result.write(result.Result(ips=ips, routes=routes, dns=dns), config.version)


def _delete(call: Call, found: dict[str, Any]) -> bytes:
    with _place(found) as book:
        book.release((call.container, call.interface))
    return b""


def _check(call: Call, found: dict[str, Any]) -> bytes:
    config = hostlocal.parse(found)
    with _book(config.data_dir, config.network) as book:
        held = set(book.of((call.container, call.interface)))
    if not held:
        raise Refused(Code.UNKNOWN_CONTAINER, f"{call.container}:{call.interface} holds no address of {config.network}")
    previous = result.read(found.get("prevResult") or {})
    told = {one.address.address for one in previous.owned(call.interface)}
    ours = {address for address in told if any(address in one for ranges in config.sets for one in ranges)}
    wrong = [f"prevResult.ips: {address} is not held by the container" for address in sorted(ours - held)]
    wrong += [f"prevResult.ips: {address} of the container is not there" for address in sorted(held - told) if told]
    if wrong:
        raise Refused(Code.DIFFERENT, wrong[0], "; ".join(wrong[1:]))
    return b""


def _collect(_: Call, found: dict[str, Any]) -> bytes:
    keep = netconf.valid_attachments(found)
    with _place(found) as book:
        book.remove(address for address, _ in suspects.confirmed(book.path, [*book.missing(keep).items()]))
    return b""


def _status(_: Call, found: dict[str, Any]) -> bytes:
    """Ready if every set has an address left, which is tried out without taking one."""
    try:
        config = hostlocal.parse(found)
        with _book(config.data_dir, config.network) as book:
            hostlocal.decide(config._replace(wishes=()), _NOBODY, book.owners, book.last(len(config.sets)))
    except Problem as problem:
        raise Refused(Code.NOT_AVAILABLE, str(problem)) from None
    return b""


_VERBS: Mapping[str, Callable[[Call, dict[str, Any]], bytes]] = {
    "ADD": _add,
    "DEL": _delete,
    "CHECK": _check,
    "GC": _collect,
    "STATUS": _status,
}


def _place(found: Mapping[str, Any]) -> AbstractContextManager[Book]:
    """The leases of the network, of whose configuration no more is asked than where they are."""
    network, data_dir = hostlocal.place(found)
    return _book(data_dir, network)


@contextmanager
def _book(data_dir: str, network: str) -> Iterator[Book]:
    try:
        with Leases(data_dir, network, locked, boot.unique()).locked() as book:
            yield book
    except KernelError as error:
        raise Refused(Code.TRY_LATER if error.errno == errno.ETIMEDOUT else Code.IO, str(error)) from None


def _route(route: Mapping[str, object], field: str) -> result.Way:
    """A route as the result has it: host-local takes host bits in a destination, a result has none."""
    dst = Interface(route["dst"]).prefix
    return codec.from_tree({**route, "dst": dst}, result.Way, field=field)


def _resolver(path: str) -> result.Names:
    try:
        with Path(path).open("rb") as file:
            text = file.read(_LARGEST_RESOLV_CONF).decode("utf-8", "replace")
    except (OSError, ValueError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else problem
        raise Refused(Code.IO, f"ipam.resolvConf: cannot read {path[:200]}: {why}") from None
    found = hostlocal.resolver(text)
    return result.Names(nameservers=found.nameservers, domain=found.domain, search=found.search, options=found.options)
