"""What people say with ``-o``, ``--driver-opt`` and ``-p``, read from Docker's maps of strings.

Docker's own option names for bridge networks mean here what they mean there; Fairlead's own begin with ``fairlead.``. An
option that is not known is refused, so that a misspelt one is not silently without effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

from fairlead.api.schema import AnyPort
from fairlead.model import codec
from fairlead.model.address import Address, InterfaceName, Name, NamedPort, PortName
from fairlead.model.endpoint import Protocol, PublishedPort
from fairlead.model.errors import Invalid
from fairlead.model.meta import check_label
from fairlead.model.namespace import DEFAULT

from .protocol import GENERIC, PORTS, PREFIX, PortBinding

T = TypeVar("T")

NETWORK = "fairlead.network"
NAMESPACE, LABEL, PORT = "fairlead.namespace", "fairlead.label.", "fairlead.port."
_OWN = "fairlead."
HOST_BINDING = f"{PREFIX}.bridge.host_binding_ipv4"
INTERFACE_PREFIX = f"{PREFIX}.container_iface_prefix"

_TRUE, _FALSE = {"1", "t", "T", "TRUE", "true", "True"}, {"0", "f", "F", "FALSE", "false", "False"}
_PROTOCOLS = {6: Protocol.TCP, 17: Protocol.UDP, 132: Protocol.SCTP}
_CHOICE = (49152, 65535)
"""From where a host port is chosen that is left to us: the dynamic ports (RFC 6335)."""


def _flag(text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise ValueError(f"{text[:80]!r} is neither true nor false")
    return text in _TRUE


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ValueError(f"{text[:80]!r} is not a number")
    return int(text)


def _prefix(text: str) -> InterfaceName:
    if len(text) > 11:
        raise ValueError(f"{text[:80]!r} leaves no room for a number; at most 11 characters")
    return InterfaceName(text)


def _ipv4(text: str) -> Address:
    if (address := Address(text)).family != 4:
        raise ValueError(f"{text[:80]!r} is not an IPv4 address")
    return address


_SPEC: Mapping[str, tuple[str, Callable[[str], object]]] = {
    f"{PREFIX}.driver.mtu": ("mtu", _number),
    f"{PREFIX}.bridge.name": ("bridge", InterfaceName),
    f"{PREFIX}.bridge.enable_icc": ("interContainer", _flag),
    f"{PREFIX}.bridge.enable_ip_masquerade": ("masquerade", _flag),
    "fairlead.mtu": ("mtu", _number),
    "fairlead.bridge": ("bridge", InterfaceName),
    "fairlead.inter-container": ("interContainer", _flag),
    "fairlead.masquerade": ("masquerade", _flag),
    "fairlead.isolated": ("isolated", _flag),
}
"""Option to field of the network's spec."""

_KEPT: Mapping[str, Callable[[str], object]] = {HOST_BINDING: _ipv4, INTERFACE_PREFIX: _prefix}
"""Options that are Docker's way of asking later on; the network's annotations keep them."""


class NetworkOptions(NamedTuple):
    """The options of ``docker network create``: fields of the spec, what is to be remembered, and the network to be used."""

    spec: dict[str, object]
    kept: dict[str, str]
    network: Name | None


class EndpointOptions(NamedTuple):
    """What ``--network name=...,driver-opt=...`` says of a container, for policies."""

    namespace: Name
    labels: dict[str, str]
    named_ports: dict[str, NamedPort]


class Ports(NamedTuple):
    """What ``-p`` asks for: fixed host ports, and those left to us."""

    fixed: tuple[PublishedPort, ...]
    chosen: tuple[AnyPort, ...]


def network(options: Mapping[str, Any] | None) -> NetworkOptions:
    """Read the options of a network; raise ``Invalid`` that names the one that is wrong."""
    spec: dict[str, object] = {}
    kept: dict[str, str] = {}
    name = None
    for option, text in _strings(options).items():
        if option in _SPEC:
            field, read = _SPEC[option]
            value = _read(read, text, option)
            if spec.setdefault(field, value) != value:
                raise Invalid("it is given twice, differently, by Docker's name and by Fairlead's", field=f"-o {option}")
        elif option in _KEPT:
            kept[option] = str(_read(_KEPT[option], text, option))
        elif option == NETWORK:
            name = _read(Name, text, option)
        else:
            raise Invalid(f"not an option; there are {', '.join([*_SPEC, *_KEPT, NETWORK])}", field=f"-o {option[:100]}")
    return NetworkOptions(spec, kept, name)


def endpoint(options: Mapping[str, Any] | None) -> EndpointOptions:
    """Read what a container is to be called by policies. Docker tells a driver no labels of containers, but these options."""
    namespace, labels, named = Name(DEFAULT), dict[str, str](), dict[str, NamedPort]()
    for option, text in (options or {}).items():
        if not option.startswith(_OWN):
            continue  # Docker's own
        if not isinstance(text, str):
            raise Invalid("expected a string", field=f"driver-opt {option[:100]}")
        if option == NAMESPACE:
            namespace = _read(Name, text, option, flag="driver-opt")
        elif option.startswith(LABEL):
            key = option.removeprefix(LABEL)
            _read(partial(check_label, key), text, option, flag="driver-opt")
            labels[key] = text
        elif option.startswith(PORT):
            name = _read(PortName, option.removeprefix(PORT), option, flag="driver-opt")
            named[name] = _read(NamedPort, text, option, flag="driver-opt")
        else:
            known = f"{NAMESPACE}, {LABEL}KEY, {PORT}NAME"
            raise Invalid(f"not an option; there are {known}", field=f"driver-opt {option[:100]}")
    return EndpointOptions(namespace, labels, named)


def pool(options: Mapping[str, str] | None) -> Name | None:
    """Read the options of an address pool: the network whose addresses are meant."""
    for option in options or {}:
        if option != NETWORK:
            raise Invalid(f"not an option; there is {NETWORK}", field=f"--ipam-opt {option[:100]}")
    text = (options or {}).get(NETWORK)
    return None if text is None else _read(Name, text, NETWORK, flag="--ipam-opt")


def ports(options: Mapping[str, Any] | None, host_binding: str = "") -> Ports:
    """Read what a container publishes; ports that lie side by side become one run."""
    bindings = codec.from_tree((options or {}).get(PORTS) or [], tuple[PortBinding, ...], field="-p")
    fixed, chosen = [], []
    for binding in bindings:
        host_ip = _read(Address, text, "HostIP", flag="-p") if (text := binding.host_ip or host_binding) else None
        protocol = _PROTOCOLS.get(binding.proto)
        if protocol is None:
            raise Invalid(f"protocol {binding.proto} has no ports that can be published; TCP, UDP and SCTP have", field="-p")
        first, last = binding.host_port, binding.host_port_end or binding.host_port
        common = {"containerPort": binding.port, "protocol": protocol, "hostIp": host_ip}
        if first == 0 or last > first:
            first, last = (first, last) if first else _CHOICE
            chosen.append(codec.from_tree({**common, "first": first, "last": last}, AnyPort, field="-p"))
        else:
            fixed.append(codec.from_tree({**common, "hostPort": first}, PublishedPort, field="-p"))
    return Ports(tuple(_runs(fixed)), tuple(chosen))


def _runs(found: Iterable[PublishedPort]) -> list[PublishedPort]:
    """``8000->80`` and ``8001->81`` as one publication of two ports."""
    runs: list[PublishedPort] = []
    for port in sorted(found, key=lambda one: (one.protocol, one.host_ip or "", one.host_port)):
        before = runs[-1] if runs else None
        if before and _follows(before, port):
            runs[-1] = PublishedPort(
                host_port=before.host_port,
                container_port=before.container_port,
                protocol=before.protocol,
                count=before.count + 1,
                host_ip=before.host_ip,
            )
        else:
            runs.append(port)
    return runs


def _follows(before: PublishedPort, port: PublishedPort) -> bool:
    same = (before.protocol, before.host_ip) == (port.protocol, port.host_ip)
    return same and (before.last + 1, before.container_port + before.count) == (port.host_port, port.container_port)


def _strings(options: Mapping[str, Any] | None) -> dict[str, str]:
    return codec.from_tree((options or {}).get(GENERIC) or {}, dict[str, str], field="-o")


def _read(read: Callable[[str], T], text: str, option: str, flag: str = "-o") -> T:
    try:
        return read(text)
    except ValueError as problem:
        raise Invalid(str(problem), field=f"{flag} {option}") from None
