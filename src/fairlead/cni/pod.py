"""Pod: what a pod's object adds to what the runtime asks for it. Pure, no I/O.

What the runtime says itself (``runtimeConfig``, CNI_ARGS) counts before what stands in the object, and of labels the object's
alone: they are what policies select by. docs/kubernetes.md lists the annotations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from fairlead.api.schema import Attach
from fairlead.model.address import Address, Interface, InterfaceName, Mac, Name, Prefix
from fairlead.model.endpoint import Bandwidth, Endpoint, Protocol, PublishedPort
from fairlead.model.errors import Invalid
from fairlead.model.network import Network, Subnet
from fairlead.model.pod import UID_LABEL, Pod

from .translate import CONFIG_LABEL, fold

T = TypeVar("T")

ADDRESSES, MAC, POOL, NETWORK = "fairlead.dev/addresses", "fairlead.dev/mac", "fairlead.dev/pool", "fairlead.dev/network"
INGRESS, EGRESS = "kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"
NETWORKS, DEFAULT = "k8s.v1.cni.cncf.io/networks", "v1.multus-cni.io/default-network"
STATUS = "k8s.v1.cni.cncf.io/network-status"

BESIDE_LABEL = "fairlead.dev/beside"
"""On an endpoint: the interface of the same container that it was made with, and goes with."""

_MOST = 16
"""Further networks of one pod."""
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?)([eE][0-9]{1,2}|[kMGTPE]i?|Ki|m)?")
_TIMES = {"": Decimal(1), "m": Decimal("0.001")}
_TIMES |= {letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)}
_TIMES |= {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)}
_SHORT = re.compile(r"(?:(?P<namespace>[a-z0-9.-]+)/)?(?P<name>[A-Za-z0-9_.-]+)(?:@(?P<interface>[^/@:\s]{1,15}))?")


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """One network that a pod asks for besides (Network Plumbing Working Group, de-facto standard 1.3)."""

    name: str
    namespace: str = ""
    interface: str = ""
    ips: tuple[str, ...] = ()
    mac: str = ""


def network(pod: Pod) -> str:
    """The network that a pod asks for in place of the configuration's; empty if it does not."""
    asked = pod.metadata.annotations
    return asked.get(NETWORK, "") or asked.get(DEFAULT, "").rpartition("/")[2]


def dressed(request: Attach, pod: Pod, network: Network) -> Attach:
    """The request with what the pod's object says."""
    asked = pod.metadata.annotations
    own = {key: text for key, text in request.labels.items() if key == CONFIG_LABEL}
    request = replace(
        request,
        display=pod.name,
        namespace=pod.metadata.namespace,
        labels={**pod.metadata.labels, **own, UID_LABEL: pod.metadata.uid},
        named_ports={**pod.named_ports, **request.named_ports},
        ports=request.ports or tuple(fold(list(_ports(pod)))),
        bandwidth=request.bandwidth or _bandwidth(asked),
    )
    if request.chained is not None:
        return request
    return replace(
        request,
        addresses=request.addresses or _addresses(asked.get(ADDRESSES, "")),
        mac=request.mac or (_annotation(MAC, Mac, asked[MAC]) if MAC in asked else None),
        ranges=request.ranges or tuple(_pools(asked.get(POOL, ""), network)),
    )


def beside(pod: Pod) -> tuple[Selection, ...]:
    """The networks that a pod asks for besides its first, each with the interface that it gets."""
    text = pod.metadata.annotations.get(NETWORKS, "").strip()
    if not text:
        return ()
    found = list(_listed(text) if text.startswith("[") else map(_short, text.split(",")))
    if len(found) > _MOST:
        raise _wrong(NETWORKS, f"{len(found)} networks; at most {_MOST}")
    named = [replace(one, interface=one.interface or f"net{at}") for at, one in enumerate(found, 1)]
    if len({one.interface for one in named}) != len(named):
        raise _wrong(NETWORKS, "two of the networks ask for one interface")
    return tuple(named)


def further(first: Attach, chosen: Selection) -> Attach:
    """The request for one of them, beside the pod's first. What the pod publishes and is limited to is of the first alone."""
    interface = _annotation(NETWORKS, InterfaceName, chosen.interface)
    if interface == first.interface:
        raise _wrong(NETWORKS, f"{interface} is the interface of the pod's first network")
    return replace(
        first,
        network=_annotation(NETWORKS, Name, chosen.name),
        interface=interface,
        labels={**first.labels, BESIDE_LABEL: first.interface},
        addresses=_addresses(",".join(chosen.ips), NETWORKS),
        mac=_annotation(NETWORKS, Mac, chosen.mac) if chosen.mac else None,
        ports=(),
        bandwidth=None,
        routes=(),
        ranges=(),
        gateway=False,
    )


def status(pod: Pod, endpoints: Iterable[Endpoint]) -> str:
    """What a pod was given, as the annotation ``network-status`` says it (the same standard): its first network first."""
    asked = {one.interface: one for one in beside(pod)}
    told = sorted(endpoints, key=lambda one: (BESIDE_LABEL in one.metadata.labels, one.spec.interface))
    return msgspec.json.encode([_given(pod, one, asked.get(one.spec.interface)) for one in told]).decode()


def _given(pod: Pod, one: Endpoint, asked: Selection | None) -> dict[str, object]:
    spec = one.spec
    first = BESIDE_LABEL not in one.metadata.labels
    where = (asked.namespace if asked else "") or pod.metadata.namespace
    return {
        "name": str(spec.network) if first else f"{where}/{spec.network}",
        "interface": str(spec.interface),
        "ips": [str(each.address) for each in spec.addresses],
        **({"mac": str(spec.mac)} if spec.mac else {}),
        "default": first,
        "dns": {},
    }


def _ports(pod: Pod) -> Iterator[PublishedPort]:
    for one in pod.ports:
        if one.host_port and not pod.spec.host_network:
            yield PublishedPort(
                host_port=one.host_port,
                container_port=one.container_port,
                protocol=Protocol(one.protocol.lower()),
                host_ip=_host(one.host_ip),
            )


def _host(text: str) -> Address | None:
    return Address(text) if text and text not in {"0.0.0.0", "::"} else None  # noqa: S104  # all addresses: None here


def _bandwidth(asked: dict[str, str]) -> Bandwidth | None:
    rates = [_rate(key, asked[key]) if key in asked else 0 for key in (INGRESS, EGRESS)]
    if not any(rates):
        return None
    try:
        return Bandwidth(ingress_rate=rates[0], egress_rate=rates[1])
    except ValueError as problem:
        raise _wrong(INGRESS if rates[0] else EGRESS, str(problem)) from None


def _rate(key: str, text: str) -> int:
    """A quantity as Kubernetes writes it, in bit/s: ``10M``, ``1.5G``, ``512Ki``, ``1e6``."""
    found = _QUANTITY.fullmatch(text.strip())
    if found is None:
        raise _wrong(key, f"{text[:40]!r} is no quantity; write bit/s, such as 10M")
    number, suffix = found[1], found[2] or ""
    try:
        if suffix[1:].isdigit():
            return int(Decimal(number + suffix))
        return int(Decimal(number) * _TIMES[suffix])
    except (InvalidOperation, KeyError):
        raise _wrong(key, f"{text[:40]!r} is no quantity; write bit/s, such as 10M") from None


def _addresses(text: str, key: str = ADDRESSES) -> tuple[str, ...]:
    """Static wishes: at most one a family, with or without a prefix length."""
    found: dict[int, str] = {}
    for word in filter(None, (one.strip() for one in text.strip("[]").replace('"', "").split(","))):
        wish = _annotation(key, Interface, word) if "/" in word else _annotation(key, Address, word)
        if wish.family in found:
            raise _wrong(key, f"{found[wish.family]} and {wish}: at most one address a family")
        found[wish.family] = str(wish)
    return tuple(found.values())


def _pools(text: str, network: Network) -> Iterator[Subnet]:
    """Subnets of the network, at most one a family, of which the pod gets its addresses."""
    known = {one.cidr: one for one in network.spec.subnets}
    families: set[int] = set()
    for word in filter(None, (one.strip() for one in text.split(","))):
        cidr = _annotation(POOL, Prefix, word)
        if cidr not in known:
            raise _wrong(POOL, f"{cidr} is no subnet of network {network.name}; there are: {', '.join(known) or 'none'}")
        if cidr.family in families:
            raise _wrong(POOL, "at most one subnet a family")
        families.add(cidr.family)
        yield Subnet(cidr=cidr)


def _listed(text: str) -> list[Selection]:
    try:
        return [_renamed(one) for one in msgspec.json.decode(text, type=list[dict[str, object]])]
    except (msgspec.MsgspecError, UnicodeError) as problem:
        raise _wrong(NETWORKS, f"no list of networks: {problem}") from None


def _renamed(one: dict[str, object]) -> Selection:
    """What asks for something that is not done here is refused: a pod must not get half of what it needs."""
    known = {"name", "namespace", "interface", "ips", "mac"}
    if odd := sorted(key for key, value in one.items() if value and key not in known):
        raise _wrong(NETWORKS, f"{odd[0][:40]!r} is not supported; known: {', '.join(sorted(known))}")
    return msgspec.convert(one, Selection)


def _short(text: str) -> Selection:
    found = _SHORT.fullmatch(text.strip())
    if found is None:
        raise _wrong(NETWORKS, f"{text.strip()[:80]!r} is no network; write NAME, or NAME@INTERFACE")
    return Selection(name=found["name"], namespace=found["namespace"] or "", interface=found["interface"] or "")


def _annotation(key: str, make: Callable[[str], T], text: str) -> T:
    try:
        return make(text)
    except ValueError as problem:
        raise _wrong(key, str(problem)) from None


def _wrong(key: str, what: str) -> Invalid:
    return Invalid(what, field=f"metadata.annotations[{key}]")
