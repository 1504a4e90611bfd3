"""Traffic control: rate limits, and sending what an interface receives through an ifb so that it can be limited too.

::

    container sends  →  veth, ingress  →  new_redirect  →  ifb, new_tbf  →  bridge
    container receives  ←  veth, new_tbf  ←  bridge
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass, field

from fairlead.kernel.errors import KernelError
from fairlead.kernel.netlink import CREATE, EXCL, REPLACE, Message, Netlink, attr, nest, parse, string, text, u32
from fairlead.kernel.route.text import named

_NEW_QDISC, _DEL_QDISC, _GET_QDISC, _NEW_FILTER, _DEL_FILTER, _GET_FILTER = 36, 37, 38, 44, 45, 46
_KIND, _OPTIONS = 1, 2
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
_U32_SEL, _U32_ACT = 5, 7
_ACT_KIND, _ACT_OPTIONS = 1, 2
_MIRRED_PARMS = 2
_TERMINAL, _STOLEN, _EGRESS_REDIRECT = 1, 4, 1
_ETHERNET = 1
_ROOT, _INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
_RECEIVED = 0xFFFFFFF2
_INGRESS_HANDLE = 0xFFFF0000
_ALL_PROTOCOLS = socket.htons(3)
_LATENCY = 0.025
_TICK_NS = 64
_LARGEST = (1 << 32) - 1

_header = struct.Struct("=BxxxiIII")
_ratespec = struct.Struct("=BBHhHI")
_tbf = struct.Struct("=12s12sIII")
_selector = struct.Struct("=BBBxHHhhI")
_key = struct.Struct("=IIii")
_mirred = struct.Struct("=IIiiiiI")


@dataclass(frozen=True, slots=True)
class Tbf:
    """A token bucket: ``rate`` in bytes a second, ``burst`` and ``limit`` (of the queue) in bytes.

    The kernel keeps the burst as a time and gives it back rounded, so it does not count when two are compared; the limit does,
    and holds the burst.
    """

    rate: int
    limit: int
    burst: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class QdiscInfo:
    """One queueing discipline; ``handle`` is the number before the colon."""

    index: int
    kind: str
    handle: int
    parent: int
    tbf: Tbf | None


@dataclass(frozen=True, slots=True)
class FilterInfo:
    """One u32 filter on an ingress; ``target``: the interface that it redirects everything to, 0 if it does something else."""

    index: int
    kind: str
    priority: int
    target: int


def tbf(rate: int, burst: int) -> Tbf:
    """The bucket for ``rate`` bits a second and ``burst`` bits, which may wait 25 ms: as the CNI bandwidth plugin has it."""
    rate_bytes, burst_bytes = rate // 8, burst // 8
    if rate_bytes <= 0 or not 0 < burst_bytes <= _LARGEST:
        raise KernelError.of(
            errno.EINVAL, f"limit to {rate} bit/s with a burst of {burst} bits", "both start at 8, a burst ends at 32 Gbit"
        )
    return Tbf(rate_bytes, min(int(rate_bytes * _LATENCY) + burst_bytes, _LARGEST), burst_bytes)


def qdiscs(nl: Netlink) -> list[QdiscInfo]:
    """Every queueing discipline but the kernel's defaults."""
    return [
        _qdisc(row) for row in nl.dump(Message(_GET_QDISC, 0, _header.pack(0, 0, 0, 0, 0), "list the queueing disciplines"))
    ]


def filters(nl: Netlink, index: int) -> list[FilterInfo]:
    """The filters on the ingress of an interface; none if it has no ingress."""
    body = _header.pack(0, index, 0, _RECEIVED, 0)
    rows = nl.dump(Message(_GET_FILTER, 0, body, f"list the filters of {named(index)}"))
    return [row for row in map(_filter, rows) if row.target]


def redirects(nl: Netlink, index: int, priority: int) -> bool:
    """Whether the ingress of an interface has filters of ``priority``, be it that their target is gone."""
    body = _header.pack(0, index, 0, _RECEIVED, priority << 16)
    return bool(list(nl.dump(Message(_GET_FILTER, 0, body, f"list the filters of {named(index)}"))))


def new_tbf(index: int, bucket: Tbf, handle: int = 1) -> Message:
    """Limit what leaves through an interface, in place of whatever limit it had."""
    rate = min(bucket.rate, _LARGEST)
    # With the link layer named the kernel computes the times itself and needs no rate table.
    spec = _ratespec.pack(0, _ETHERNET, 0, -1, 0, rate)
    options = nest(
        _OPTIONS,
        attr(_TBF_PARMS, _tbf.pack(spec, bytes(12), bucket.limit, 0, 0)),
        u32(_TBF_BURST, bucket.burst),
        attr(_TBF_RATE64, struct.pack("=Q", bucket.rate)) if bucket.rate > rate else b"",
    )
    body = _header.pack(0, index, handle << 16, _ROOT, 0) + text(_KIND, "tbf") + options
    return Message(_NEW_QDISC, CREATE | REPLACE, body, f"limit the rate of {named(index)}")


def new_ingress(index: int) -> Message:
    """The place where filters see what an interface receives."""
    body = _header.pack(0, index, _INGRESS_HANDLE, _INGRESS, 0) + text(_KIND, "ingress")
    return Message(_NEW_QDISC, CREATE | EXCL, body, f"add an ingress to {named(index)}")


def new_redirect(index: int, target: int, priority: int = 1) -> Message:
    """Send everything that ``index`` receives out through ``target``. Needs ``new_ingress``."""
    act = nest(
        1,
        text(_ACT_KIND, "mirred"),
        nest(_ACT_OPTIONS, attr(_MIRRED_PARMS, _mirred.pack(0, 0, _STOLEN, 0, 0, _EGRESS_REDIRECT, target))),
    )
    # One key of all zeroes matches every packet. The match-all classifier would say it plainer, but not every kernel has it.
    everything = _selector.pack(_TERMINAL, 0, 1, 0, 0, 0, 0, 0) + _key.pack(0, 0, 0, 0)
    options = nest(_OPTIONS, attr(_U32_SEL, everything), nest(_U32_ACT, act))
    body = _header.pack(0, index, 0, _RECEIVED, priority << 16 | _ALL_PROTOCOLS) + text(_KIND, "u32") + options
    return Message(_NEW_FILTER, CREATE | EXCL, body, f"redirect what {named(index)} receives")


def del_redirects(index: int, priority: int) -> Message:
    """Remove the filters of ``priority``, and leave what else there is on the ingress."""
    body = _header.pack(0, index, 0, _RECEIVED, priority << 16 | _ALL_PROTOCOLS)
    return Message(_DEL_FILTER, 0, body, f"stop to redirect what {named(index)} receives")


def del_qdisc(index: int, *, ingress: bool = False) -> Message:
    """Remove the limit on what leaves, or the ingress with its filters."""
    handle, parent = (_INGRESS_HANDLE, _INGRESS) if ingress else (0, _ROOT)
    return Message(
        _DEL_QDISC, 0, _header.pack(0, index, handle, parent, 0), f"remove the queueing discipline of {named(index)}"
    )


def _qdisc(data: bytes) -> QdiscInfo:
    _, index, handle, parent, _ = _header.unpack_from(data)
    found = parse(data, 20)
    kind = string(found.get(_KIND, b""))
    return QdiscInfo(index, kind, handle >> 16, parent, _bucket(found.get(_OPTIONS, b"")) if kind == "tbf" else None)


def _bucket(data: bytes) -> Tbf | None:
    options = parse(data)
    if _TBF_PARMS not in options:
        return None
    spec, _, limit, buffer, _ = _tbf.unpack_from(options[_TBF_PARMS])
    rate = _ratespec.unpack(spec)[5]
    if _TBF_RATE64 in options:
        rate = struct.unpack("=Q", options[_TBF_RATE64])[0]
    return Tbf(rate, limit, round(buffer * _TICK_NS * rate / 1_000_000_000))


def _filter(data: bytes) -> FilterInfo:
    _, index, _, _, info = _header.unpack_from(data)
    found = parse(data, 20)
    target = 0
    for action in parse(parse(found.get(_OPTIONS, b"")).get(_U32_ACT, b"")).values():
        options = parse(parse(action).get(_ACT_OPTIONS, b""))
        if len(parms := options.get(_MIRRED_PARMS, b"")) >= _mirred.size:
            target = _mirred.unpack_from(parms)[6]
    return FilterInfo(index, string(found.get(_KIND, b"")), info >> 16, target)
