"""Between CNI's words and the agent's. Pure, no I/O.

::

    Call + Config  --attach-->  api.schema.Attach  --(the agent)-->  Attached  --result-->  Result

What a runtime says in several places counts in the order of the conventions: ``runtimeConfig``, ``args.cni``, CNI_ARGS.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import partial

from fairlead.api.schema import Attach, Attached, Chained
from fairlead.model.address import Address, ContainerID, Interface, InterfaceName, Mac, Name, NamedPort, PortName, Prefix
from fairlead.model.endpoint import Dns, Protocol, PublishedPort, Route
from fairlead.model.meta import check_label
from fairlead.model.network import Network, Subnet
from fairlead.model.pod import UID_LABEL

from .call import Call
from .config import Config, PortMapping, StaticRoute
from .inline import subnets
from .result import Device, Given, Names, Result, Way
from .spec import Code, Refused, checked

OWNER = "cni"

CONFIG_LABEL = "fairlead.dev/cni-network"
"""Which configuration an endpoint was made for: several may lead to one network, and GC speaks for one of them."""

_LONGEST_NAME = 253
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")


def attach(call: Call, config: Config, network: str, previous: Result | None, bridges: frozenset[str] = frozenset()) -> Attach:
    """The request to the agent. ``previous`` makes it a chained one; ``bridges`` are the host's interfaces that are bridges."""
    static, mac, ranges = _addresses(call, config), _mac(call, config), _ranges(config)
    link = None
    if previous is not None:
        link = _chained(call, previous, bridges)
        _refuse_late(link, static, mac)
        static, mac, ranges = (), None, ()
    routes = config.ipam.routes
    return Attach(
        container=ContainerID(call.container),
        path=call.netns,
        network=checked(Name, network, "network"),
        interface=InterfaceName(call.interface),
        display=checked(_display, call.extra.name, "CNI_ARGS: K8S_POD_NAME", Code.ENVIRONMENT),
        namespace=checked(Name, call.extra.namespace or "default", "CNI_ARGS: K8S_POD_NAMESPACE", Code.ENVIRONMENT),
        labels=_labels(call, config),
        owner=OWNER,
        addresses=static,
        mac=mac,
        ports=tuple(fold(_ports(config))),
        named_ports=_named_ports(config),
        bandwidth=config.limits,
        routes=tuple(_route(route, f"ipam.routes[{at}]") for at, route in enumerate(routes)),
        aliases=_aliases(config),
        dns=_dns(config),
        ranges=ranges,
        gateway=not routes if config.is_default_gateway is None else config.is_default_gateway,
        chained=link,
    )


def result(call: Call, attached: Attached) -> Result:
    """What a runtime is told of an endpoint: bridge, host side and container side, in this order."""
    spec = attached.endpoint.spec
    devices = [Device(name=attached.bridge, mac=attached.bridge_mac)] if attached.bridge else []
    if attached.host_interface:
        devices.append(Device(name=attached.host_interface, mac=attached.host_mac, mtu=attached.mtu))
    devices.append(Device(name=spec.interface, mac=spec.mac or "", mtu=attached.mtu, sandbox=call.netns))
    gateways = {gateway.family: gateway for gateway in attached.gateways}
    ips = tuple(Given(address=one, gateway=gateways.get(one.family), interface=len(devices) - 1) for one in spec.addresses)
    ways = tuple(Way(dst=dst, gw=route.gw or gateways.get(dst.family)) for route in spec.routes if (dst := Prefix(route.dst)))
    dns = spec.dns
    names = Names(nameservers=dns.nameservers, domain=dns.domain, search=dns.search, options=dns.options)
    return Result(interfaces=tuple(devices), ips=ips, routes=ways, dns=names)


def is_chained(call: Call, previous: Result | None) -> bool:
    """Whether another plugin made the interface; refuse a chain in which nobody did."""
    if previous is None or not (previous.interfaces or previous.ips):
        return False
    inside = [device.name for device in previous.interfaces if device.sandbox]
    if inside and previous.device(call.interface) is None:
        shown = ", ".join(inside)[:200]
        raise Refused(Code.CONFIG, f"prevResult.interfaces: none is {call.interface} in a sandbox; there are: {shown}")
    return True


def tag(name: str) -> str:
    """A configuration's name as the value of ``CONFIG_LABEL``."""
    try:
        check_label(CONFIG_LABEL, name)
    except ValueError:
        return f"sha256-{hashlib.sha256(name.encode()).hexdigest()[:40]}"
    return name


def differences(previous: Result, attached: Attached, network: Network | None) -> list[str]:
    """How ``prevResult`` differs from the endpoint. What a later plugin may have added is not ours to judge."""
    spec = attached.endpoint.spec
    found = []
    device = previous.device(spec.interface)
    if device is None and previous.interfaces:
        found.append(f"prevResult.interfaces: {spec.interface} is not there")
    if device is not None and device.mac and spec.mac and device.mac.lower() != spec.mac:
        found.append(f"prevResult.interfaces: {spec.interface} has MAC {device.mac[:80]}, the endpoint {spec.mac}")
    told = {given.address for given in previous.owned(spec.interface)}
    found += [f"prevResult.ips: {one} of the endpoint is not there" for one in spec.addresses if one not in told]
    pools = [subnet.cidr for subnet in network.spec.subnets] if network else []
    strange = sorted(told - set(spec.addresses))
    found += [
        f"prevResult.ips: {one} is not the endpoint's" for one in strange if any(pool.holds(one.address) for pool in pools)
    ]
    return found


def fold(ports: list[PublishedPort]) -> Iterator[PublishedPort]:
    """The same ports with neighbours in one run: runtimes write a range of ports as one mapping each."""
    last: PublishedPort | None = None
    for port in sorted(
        dict.fromkeys(ports), key=lambda one: (one.protocol, one.host_ip or "", one.host_port, one.container_port)
    ):
        if last is None:
            last = port
        elif (
            (port.protocol, port.host_ip) == (last.protocol, last.host_ip)
            and port.host_port == last.host_port + last.count
            and port.container_port == last.container_port + last.count
        ):
            last = PublishedPort(
                host_port=last.host_port,
                container_port=last.container_port,
                protocol=last.protocol,
                count=last.count + 1,
                host_ip=last.host_ip,
            )
        else:
            yield last
            last = port
    if last is not None:
        yield last


def _ports(config: Config) -> list[PublishedPort]:
    return [_port(one, f"runtimeConfig.portMappings[{at}]") for at, one in enumerate(config.runtime_config.port_mappings)]


def _named_ports(config: Config) -> dict[str, NamedPort]:
    found = config.args.cni.named_ports
    for name in found:
        checked(PortName, name, "args.cni.namedPorts")
    return found


def _port(mapping: PortMapping, field: str) -> PublishedPort:
    protocol = mapping.protocol.lower() or "tcp"
    if protocol not in set(Protocol):
        raise Refused(Code.CONFIG, f"{field}.protocol: {mapping.protocol[:20]!r} is not tcp, udp or sctp")
    host = checked(Address, mapping.host_ip, f"{field}.hostIP") if mapping.host_ip else None
    make = partial(
        PublishedPort, host_port=mapping.host_port, container_port=mapping.container_port, protocol=Protocol(protocol)
    )
    return checked(lambda given: make(host_ip=given), host, field)


def _route(route: StaticRoute, field: str) -> Route:
    return checked(lambda given: Route(dst=given.dst, gw=given.gw), route, field)


def _addresses(call: Call, config: Config) -> tuple[str, ...]:
    """The static wishes, one a family at most, from the first place that has any."""
    places = (
        ("runtimeConfig.ips", Code.CONFIG, config.runtime_config.ips),
        ("args.cni.ips", Code.CONFIG, config.args.cni.ips),
        ("CNI_ARGS: IP", Code.ENVIRONMENT, (call.extra.ip,) if call.extra.ip else ()),
    )
    field, code, wishes = next((place for place in places if place[2]), places[0])
    found = dict[int, str]()
    for text in wishes:
        wish = checked(Interface, text, field, code) if "/" in text else checked(Address, text, field, code)
        if wish.family in found:
            raise Refused(code, f"{field}: {found[wish.family]} and {wish}: at most one address a family")
        found[wish.family] = str(wish)
    return tuple(found.values())


def _mac(call: Call, config: Config) -> Mac | None:
    written = config.runtime_config.mac or config.args.cni.mac
    if written or not call.extra.mac:
        return written
    return checked(Mac, call.extra.mac, "CNI_ARGS: MAC", Code.ENVIRONMENT)


def _ranges(config: Config) -> tuple[Subnet, ...]:
    """The capability ipRanges, one subnet a family."""
    pools = subnets(config.runtime_config.ip_ranges, "runtimeConfig.ipRanges")
    if len({pool.family for pool in pools}) != len(pools):
        shown = ", ".join(pool.cidr for pool in pools)
        raise Refused(Code.UNSUPPORTED_FIELD, f"runtimeConfig.ipRanges: [{shown}]: one subnet a family is supported")
    return pools


def _labels(call: Call, config: Config) -> dict[str, str]:
    labels = {}
    for at, label in enumerate(config.args.cni.labels):
        checked(lambda one: check_label(one.key, one.value), label, f"args.cni.labels[{at}]")
        labels[label.key] = label.value
    if call.extra.uid:
        checked(lambda uid: check_label(UID_LABEL, uid), call.extra.uid, "CNI_ARGS: K8S_POD_UID", Code.ENVIRONMENT)
        labels[UID_LABEL] = call.extra.uid
    return {**labels, CONFIG_LABEL: tag(config.name)}


def _display(name: str) -> str:
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise ValueError(f"{name[:80]!r} must have at most {_LONGEST_NAME} printable characters")
    return name


def _aliases(config: Config) -> tuple[str, ...]:
    """The names for this network: by the conventions a list, by podman a list for each network."""
    given = config.runtime_config.aliases
    names = given.get(config.name, ()) if isinstance(given, dict) else given
    for name in names:
        if not _ALIAS.fullmatch(name):
            raise Refused(Code.CONFIG, f"runtimeConfig.aliases: {name[:80]!r} is not a name: letters, digits, '_', '.', '-'")
    return tuple(dict.fromkeys(names))


def _dns(config: Config) -> Dns:
    """The runtime's resolver settings, else the configuration's."""
    static, runtime = config.dns, config.runtime_config.dns
    make = partial(Dns, domain=static.domain)
    if runtime.servers or runtime.searches or runtime.options:
        return checked(
            lambda given: make(nameservers=given.servers, search=given.searches, options=given.options),
            runtime,
            "runtimeConfig.dns",
        )
    return checked(lambda given: make(nameservers=given.nameservers, search=given.search, options=given.options), static, "dns")


def _chained(call: Call, previous: Result, bridges: frozenset[str]) -> Chained:
    """What the earlier plugins made: the host side is the one interface of the host that is no bridge, if it is one."""
    outside = [device.name for device in previous.interfaces if not device.sandbox and device.name not in bridges]
    device = previous.device(call.interface)
    return Chained(
        host=checked(InterfaceName, outside[0], "prevResult.interfaces") if len(outside) == 1 else None,
        mac=_ethernet(device.mac) if device else None,
        addresses=tuple(given.address for given in previous.owned(call.interface)),
    )


def _ethernet(text: str) -> Mac | None:
    """The address if it is an Ethernet one; what other links have is not ours to judge."""
    try:
        return Mac(text)
    except ValueError:
        return None


def _refuse_late(link: Chained, static: tuple[str, ...], mac: Mac | None) -> None:
    """A wish for an address comes too late in a chain, unless an earlier plugin has fulfilled it."""
    have = {str(one) for one in link.addresses} | {str(one.address) for one in link.addresses}
    if late := [one for one in static if one not in have]:
        raise Refused(Code.UNSUPPORTED_FIELD, f"ips: {', '.join(late)}: an earlier plugin of the chain has given the addresses")
    if mac and mac != link.mac:
        raise Refused(Code.UNSUPPORTED_FIELD, f"mac: {mac}: an earlier plugin of the chain has given {link.mac or 'none'}")
