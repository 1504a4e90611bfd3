"""host-local's rules: how its configuration reads, and which address comes next.

host-local is the address plugin of containernetworking. Fairlead's own keeps its rules and its files (``store.leases``), so
that both can work on one directory and a node can move from one to the other without losing a lease::

    stdin, CNI_ARGS ─► parse ─► Config ─┐
    files of the network's directory ───┼─► decide ─► Given, one for each range set ─► files
                                        ┘

A configuration has range *sets*; a container gets one address out of each. Within a set the search goes round: on from
the address that was reserved last, through the ranges in order, back to where it began.

It differs from host-local where that gives out what cannot work: the network's own and the broadcast address are passed
over even if a range names them, and so is the gateway of every range of the set, not only of the range at hand. And all is
decided before anything is written, so that a request that cannot be met leaves no trace; host-local's moves the round on.
No I/O here, and nothing that takes long to import: a plugin's process pays for it on every container start.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from fairlead.model.address import Address, Family, Interface, Prefix
from fairlead.model.errors import Conflict, Exhausted, Invalid

DATA_DIR = "/var/lib/cni/networks"
"""Where host-local keeps its files unless its configuration says otherwise."""

MAX_RANGES = 1024

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_NAMED = 10

Owner = tuple[str, str]
"""(container id, interface name); the name is empty in leases of old versions, which hold for every interface."""


class Range(NamedTuple):
    """A run of addresses of one subnet, both ends included, with the subnet's gateway."""

    subnet: Prefix
    start: Address
    end: Address
    gateway: Address

    def __str__(self) -> str:
        return f"{self.start}-{self.end}"

    def __contains__(self, address: object) -> bool:
        return (
            isinstance(address, Address)
            and address.family == self.start.family
            and int(self.start.ip) <= int(address.ip) <= int(self.end.ip)
        )


RangeSet = tuple[Range, ...]


class Config(NamedTuple):
    """What the plugin was told, complete and checked. ``routes`` are passed on as they are."""

    network: str
    data_dir: str
    sets: tuple[RangeSet, ...]
    wishes: tuple[Address, ...]
    routes: tuple[Mapping[str, object], ...]
    resolv_conf: str
    version: str


class Given(NamedTuple):
    """One address out of one set, the ``order``-th of the configuration, from 0."""

    order: int
    interface: Interface
    gateway: Address

    @property
    def address(self) -> Address:
        """The address alone."""
        return self.interface.address


class Resolver(NamedTuple):
    """What a resolv.conf says."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse(tree: object, args: str = "") -> Config:
    """Read the plugin's stdin, decoded, and CNI_ARGS; raise ``Invalid`` that names the field."""
    config = _mapping(tree, "")
    ipam = config.get("ipam")
    if ipam is None:
        raise Invalid("is missing: the configuration of the addresses", field="ipam")
    ipam = _mapping(ipam, "ipam")
    version = _text(config, "cniVersion", "") or "0.1.0"
    sets = _sets(config, ipam)
    _check_families(sets, version)
    _check_overlap(sets)
    network, data_dir = place(tree)
    return Config(
        network=network,
        data_dir=data_dir,
        sets=sets,
        wishes=_wishes(config, args),
        routes=_routes(ipam),
        resolv_conf=_text(ipam, "resolvConf", "ipam"),
        version=version,
    )


def place(tree: object) -> tuple[str, str]:
    """The network's name and where its leases are: all that must be right to give them back."""
    config = _mapping(tree, "")
    data_dir = _text(_mapping(config.get("ipam"), "ipam"), "dataDir", "ipam") or DATA_DIR
    if not data_dir.startswith("/") or "\0" in data_dir:
        raise Invalid(f"{data_dir!r} is not an absolute path", field="ipam.dataDir")
    return _name(config), data_dir


def decide(config: Config, owner: Owner, leases: Mapping[Address, Owner], last: Mapping[int, Address]) -> tuple[Given, ...]:
    """One address out of each set for ``owner``, where ``leases`` are held and ``last`` was reserved last in each set."""
    left = list(config.wishes)
    given = []
    for index, ranges in enumerate(config.sets):
        if mine := next((address for address, who in leases.items() if _same(who, owner) and _range(ranges, address)), None):
            raise Conflict(
                f"container {owner[0]} already holds {mine} of network {config.network} on {owner[1]}; release it first"
            )
        wish = next((address for address in left if _range(ranges, address)), None)
        if wish is not None:
            left.remove(wish)
            given.append(_static(config.network, index, ranges, wish, leases))
        else:
            given.append(_next(config.network, index, ranges, leases, last.get(index)))
    if left:
        sets = "; ".join(_words(ranges) for ranges in config.sets)
        raise Invalid(
            f"{', '.join(left)} cannot be given: one address is taken out of each of the range sets {sets}", field="ips"
        )
    return tuple(given)


def resolver(text: str) -> Resolver:
    """Read a resolv.conf as host-local does: the last domain, all else added up, what is not understood passed over."""
    found: dict[str, list[str]] = {"nameserver": [], "domain": [], "search": [], "options": []}
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if rest and word in found:
            found[word] += rest[:1] if word in {"nameserver", "domain"} else rest
    return Resolver(tuple(found["nameserver"]), (found["domain"] or [""])[-1], tuple(found["search"]), tuple(found["options"]))


# -- choosing


def _same(lease: Owner, owner: Owner) -> bool:
    return lease[0] == owner[0] and lease[1] in {"", owner[1]}


def _range(ranges: RangeSet, address: Address) -> Range | None:
    return next((one for one in ranges if address in one), None)


def _static(network: str, index: int, ranges: RangeSet, wish: Address, leases: Mapping[Address, Owner]) -> Given:
    one = _range(ranges, wish)
    assert one is not None
    if int(wish.ip) in _never(ranges):
        raise Invalid(f"{wish} is the gateway, the network's own or the broadcast address of {one.subnet}", field="ips")
    if who := leases.get(wish):
        raise Conflict(f"{wish} of network {network} is held by {_who(who)}", field="ips")
    return Given(index, Interface.of(wish, one.subnet), one.gateway)


def _next(network: str, index: int, ranges: RangeSet, leases: Mapping[Address, Owner], last: Address | None) -> Given:
    family = ranges[0].start.family
    taken = {int(address.ip) for address in leases if address.family == family} | _never(ranges)
    for one, first, end in _round(ranges, last):
        number = first
        while number <= end and number in taken:
            number += 1
        if number <= end:
            return Given(index, Interface(f"{_address(family, number)}/{one.subnet.length}"), one.gateway)
    raise Exhausted(_full(network, ranges, leases))


def _round(ranges: RangeSet, last: Address | None) -> Iterator[tuple[Range, int, int]]:
    """The runs of a set in the order of the search: what follows ``last``, the other ranges, what comes before it."""
    at = next((at for at, one in enumerate(ranges) if last is not None and last in one), None)
    if at is None or last is None:
        for one in ranges:
            yield one, int(one.start.ip), int(one.end.ip)
        return
    here, number = ranges[at], int(last.ip)
    yield here, number + 1, int(here.end.ip)
    for one in (*ranges[at + 1 :], *ranges[:at]):
        yield one, int(one.start.ip), int(one.end.ip)
    yield here, int(here.start.ip), number


def _never(ranges: RangeSet) -> set[int]:
    """What is never given out of a set."""
    never = {int(one.gateway.ip) for one in ranges} | {int(one.subnet.net.network_address) for one in ranges}
    return never | {int(one.subnet.net.broadcast_address) for one in ranges if one.subnet.family == 4}


def _full(network: str, ranges: RangeSet, leases: Mapping[Address, Owner]) -> str:
    held = sorted((address for address in leases if _range(ranges, address)), key=lambda address: int(address.ip))
    some = ", ".join(f"{address} {_who(leases[address])}" for address in held[:_NAMED])
    more = f" and {len(held) - _NAMED} more" if len(held) > _NAMED else ""
    size = sum(int(one.end.ip) - int(one.start.ip) + 1 for one in ranges)
    size -= sum(any(int(one.start.ip) <= number <= int(one.end.ip) for one in ranges) for number in _never(ranges))
    return (
        f"network {network}: no address is left in {_words(ranges)}: {len(held)} of {size} are held, "
        f"by {some or 'nobody'}{more}; if these containers are gone, their leases were never released"
    )


def _who(owner: Owner) -> str:
    return f"{owner[0]}:{owner[1]}" if owner[1] else owner[0] or "an unreadable lease"


def _words(ranges: RangeSet) -> str:
    return ", ".join(map(str, ranges))


def _address(family: Family, number: int) -> Address:
    return Address(ipaddress.IPv4Address(number) if family == 4 else ipaddress.IPv6Address(number))


# -- reading


def _sets(config: Mapping[str, object], ipam: Mapping[str, object]) -> tuple[RangeSet, ...]:
    """The sets in host-local's order: those of the runtime, the old style's single range, then the configuration's."""
    runtime = _mapping(config.get("runtimeConfig"), "runtimeConfig")
    given = _range_sets(runtime, "ipRanges", "runtimeConfig")
    if ipam.get("subnet") is not None:
        given.append((_read_range(ipam, "ipam"),))
    given += _range_sets(ipam, "ranges", "ipam")
    if not given:
        raise Invalid('name at least one range set, such as [[{"subnet": "10.88.0.0/16"}]]', field="ipam.ranges")
    if sum(map(len, given)) > MAX_RANGES:
        raise Invalid(f"{sum(map(len, given))} ranges are too many; at most {MAX_RANGES}", field="ipam.ranges")
    return tuple(given)


def _range_sets(tree: Mapping[str, object], key: str, field: str) -> list[RangeSet]:
    return [
        _range_set(ranges, f"{field}.{key}[{index}]") for index, ranges in enumerate(_list(tree.get(key), f"{field}.{key}"))
    ]


def _range_set(tree: object, field: str) -> RangeSet:
    ranges = tuple(_read_range(_mapping(one, f"{field}[{at}]"), f"{field}[{at}]") for at, one in enumerate(_list(tree, field)))
    if not ranges:
        raise Invalid("is an empty range set", field=field)
    if len({one.start.family for one in ranges}) > 1:
        raise Invalid("mixes IPv4 and IPv6; a range set is of one family, put the other in a set of its own", field=field)
    return ranges


def _read_range(tree: Mapping[str, object], field: str) -> Range:
    try:
        subnet = Prefix(_text(tree, "subnet", field))
    except ValueError as problem:
        raise Invalid(str(problem), field=f"{field}.subnet") from None
    bits = 32 if subnet.family == 4 else 128
    if subnet.length > bits - 2:
        raise Invalid(f"{subnet} is too small: at least a /{bits - 2}", field=f"{field}.subnet")
    first, last = int(subnet.net.network_address), int(subnet.net.broadcast_address)
    gateway = _optional(tree, "gateway", field) or _address(subnet.family, first + 1)
    start = _optional(tree, "rangeStart", field) or _address(subnet.family, first + 1)
    end = _optional(tree, "rangeEnd", field) or _address(subnet.family, last - (subnet.family == 4))
    for key, address in (("rangeStart", start), ("rangeEnd", end)):
        if not subnet.holds(address):
            raise Invalid(f"{address} is not in {subnet}", field=f"{field}.{key}")
    if int(start.ip) > int(end.ip):
        raise Invalid(f"{end} comes before the start, {start}", field=f"{field}.rangeEnd")
    if gateway.family != subnet.family:
        raise Invalid(f"{gateway} is not of the family of {subnet}", field=f"{field}.gateway")
    return Range(subnet, start, end, gateway)


def _check_families(sets: Sequence[RangeSet], version: str) -> None:
    """Before 0.3.0 a result had one address of each family."""
    found = re.fullmatch(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})", version)
    if not found:
        raise Invalid(f"{version[:80]!r} is not a version such as 1.0.0", field="cniVersion")
    families = [ranges[0].start.family for ranges in sets]
    if len(set(families)) < len(families) and tuple(map(int, found.groups())) < (0, 3, 0):
        raise Invalid(f"CNI {version} has no place for two addresses of one family; write 0.3.1 or later", field="cniVersion")


def _check_overlap(sets: Sequence[RangeSet]) -> None:
    """No two ranges share an address, whatever set they are of."""
    ranges = sorted((one.start.family, int(one.start.ip), int(one.end.ip), str(one)) for ranges in sets for one in ranges)
    for before, after in pairwise(ranges):
        if before[0] == after[0] and after[1] <= before[2]:
            raise Invalid(f"{before[3]} and {after[3]} overlap", field="ipam.ranges")


def _wishes(config: Mapping[str, object], args: str) -> tuple[Address, ...]:
    """Static addresses from CNI_ARGS, from args.cni.ips and from the runtime's capability, each once."""
    texts = [(text, "CNI_ARGS.IP") for text in _env_ips(args)]
    cni = _mapping(_mapping(config.get("args"), "args").get("cni"), "args.cni")
    texts += _ips(cni, "args.cni") + _ips(_mapping(config.get("runtimeConfig"), "runtimeConfig"), "runtimeConfig")
    wishes = []
    for text, field in texts:
        try:
            wishes.append(Interface(text).address if "/" in text else Address(text))
        except ValueError as problem:
            raise Invalid(str(problem), field=field) from None
    return tuple(dict.fromkeys(wishes))


def _ips(tree: Mapping[str, object], field: str) -> list[tuple[str, str]]:
    found = []
    for at, text in enumerate(_list(tree.get("ips"), f"{field}.ips")):
        if not isinstance(text, str):
            raise Invalid(f"{text!r:.80} is not an address", field=f"{field}.ips[{at}]")
        found.append((text, f"{field}.ips[{at}]"))
    return found


def _env_ips(args: str) -> list[str]:
    pairs = [pair.partition("=") for pair in args.split(";") if pair]
    if broken := next((key for key, equals, _ in pairs if not equals), None):
        raise Invalid(f"{broken[:80]!r} is not of the form KEY=value", field="CNI_ARGS")
    return [value for key, _, value in pairs if key == "IP" and value]


def _routes(ipam: Mapping[str, object]) -> tuple[Mapping[str, object], ...]:
    routes = []
    for at, one in enumerate(_list(ipam.get("routes"), "ipam.routes")):
        field = f"ipam.routes[{at}]"
        route = _mapping(one, field)
        try:
            Interface(_text(route, "dst", field))
        except ValueError:
            raise Invalid(f"{route.get('dst')!r:.80} is not a destination such as 0.0.0.0/0", field=f"{field}.dst") from None
        _optional(route, "gw", field)
        routes.append(route)
    return tuple(routes)


def _name(config: Mapping[str, object]) -> str:
    name = _text(config, "name", "")
    if not _NAME.fullmatch(name):  # it becomes the name of a directory
        raise Invalid(
            f"{name[:80]!r} is not a network name: begin with a letter or digit, then those, '_', '.', '-'", field="name"
        )
    return name


def _mapping(tree: object, field: str) -> Mapping[str, object]:
    if tree is None:
        return {}
    if not isinstance(tree, Mapping):
        raise Invalid("is not a JSON object", field=field)
    return tree


def _list(tree: object, field: str) -> Sequence[object]:
    if tree is None:
        return ()
    if not isinstance(tree, list | tuple):
        raise Invalid("is not a JSON array", field=field)
    return tree


def _text(tree: Mapping[str, object], key: str, field: str) -> str:
    text = tree.get(key)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise Invalid(f"{text!r:.80} is not text", field=f"{field}.{key}".strip("."))
    return text


def _optional(tree: Mapping[str, object], key: str, field: str) -> Address | None:
    text = _text(tree, key, field)
    try:
        return Address(text) if text else None
    except ValueError as problem:
        raise Invalid(str(problem), field=f"{field}.{key}") from None
