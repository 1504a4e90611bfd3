"""Addresses, prefixes and names as values that cannot be wrong.

Each type is a ``str`` in canonical form, so it compares, hashes, prints and travels as JSON like the text people write,
and can only be made from text that is valid: ``Address("10.0.0.256")`` raises ``ValueError`` with a message for people.
No value holds white space, quotes or control characters, so each can be written into a rule or a file as it is.
The address family is a value (``family`` is 4 or 6), never part of a name.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import ClassVar, Self

Family = int
"""4 or 6."""

FAMILIES: tuple[Family, ...] = (4, 6)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Text(str):
    """A string with a canonical form; the base of every value here. Subclasses say what is valid in ``canonical``."""

    __slots__ = ()

    def __new__(cls, text: object) -> Self:
        """Check ``text`` and keep its canonical form; raise ``ValueError`` that says what would be right."""
        if type(text) is cls:
            return text
        return super().__new__(cls, cls.canonical(str(text)))

    @classmethod
    def canonical(cls, text: str) -> str:
        """Return the one spelling of ``text``; raise ``ValueError`` if it has none."""
        raise NotImplementedError

    @classmethod
    def spelt(cls, text: str) -> Self:
        """What was made of canonical parts, and needs no second look: of addresses there can be very many."""
        return str.__new__(cls, text)


class Address(Text):
    """One IPv4 or IPv6 address, such as ``10.88.0.5`` or ``fd00::5``."""

    __slots__ = ()

    @classmethod
    def canonical(cls, text: str) -> str:
        try:
            return str(_address(text))
        except ValueError:
            raise ValueError(f"{text!r} is not an IP address; write it like 10.88.0.5 or fd00::5") from None

    @property
    def ip(self) -> IPAddress:
        """The address as the standard library's object, for arithmetic."""
        return _address(self)

    @property
    def family(self) -> Family:
        """4 or 6."""
        return 6 if ":" in self else 4

    @property
    def packed(self) -> bytes:
        """The address in network byte order, 4 or 16 bytes."""
        return self.ip.packed

    def host(self) -> Prefix:
        """The prefix that holds this address alone: a /32 or a /128."""
        return Prefix.spelt(f"{self}/{32 if self.family == 4 else 128}")

    @property
    def alone(self) -> Interface:
        """The same with the length of an address alone, as a routed link carries it."""
        return Interface.spelt(f"{self}/{32 if self.family == 4 else 128}")


class Prefix(Text):
    """One IP network without host bits, such as ``10.88.0.0/24`` or ``fd00:88::/64``."""

    __slots__ = ()

    @classmethod
    def canonical(cls, text: str) -> str:
        if "/" not in text:
            raise ValueError(f"{text!r} has no prefix length; write it like 10.88.0.0/24 or fd00:88::/64")
        try:
            return str(_network(text))
        except ValueError as problem:
            if "host bits" in str(problem):
                right = ipaddress.ip_network(text, strict=False)
                raise ValueError(f"{text!r} has host bits set; the network is {right}") from None
            raise ValueError(f"{text!r} is not an IP network; write it like 10.88.0.0/24 or fd00:88::/64") from None

    @property
    def net(self) -> IPNetwork:
        """The network as the standard library's object."""
        return _network(self)

    @property
    def family(self) -> Family:
        """4 or 6."""
        return 6 if ":" in self else 4

    @property
    def length(self) -> int:
        """The prefix length in bits."""
        return int(self.rpartition("/")[2])

    @property
    def run(self) -> tuple[int, int]:
        """The first and the last address as numbers."""
        return _run(self)

    def holds(self, address: Address) -> bool:
        """Whether ``address`` lies in this network."""
        return address.family == self.family and address.ip in self.net

    def overlaps(self, other: Prefix) -> bool:
        """Whether the two networks share an address; networks of different families never do."""
        (first, last), (begin, end) = self.run, other.run
        return self.family == other.family and first <= end and begin <= last


class Interface(Text):
    """An address with the prefix length of its network, as an interface carries it: ``10.88.0.5/24``."""

    __slots__ = ()

    @classmethod
    def canonical(cls, text: str) -> str:
        if "/" not in text:
            raise ValueError(f"{text!r} has no prefix length; write it like 10.88.0.5/24 or fd00:88::5/64")
        try:
            return str(ipaddress.ip_interface(_unscoped(text)))
        except ValueError:
            raise ValueError(f"{text!r} is not an address with a prefix length, such as 10.88.0.5/24") from None

    @classmethod
    def of(cls, address: Address, prefix: Prefix) -> Interface:
        """``address`` with the length of ``prefix``."""
        return cls(f"{address}/{prefix.length}")

    @property
    def address(self) -> Address:
        """The address alone."""
        return Address.spelt(self.partition("/")[0])

    @property
    def prefix(self) -> Prefix:
        """The network the address lies in."""
        return Prefix(str(ipaddress.ip_interface(str(self)).network))

    @property
    def length(self) -> int:
        """The prefix length in bits."""
        return int(self.rpartition("/")[2])

    @property
    def family(self) -> Family:
        """4 or 6."""
        return 6 if ":" in self else 4


_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class Mac(Text):
    """An Ethernet unicast address, lower case with colons: ``02:42:0a:58:00:05``."""

    __slots__ = ()

    @classmethod
    def canonical(cls, text: str) -> str:
        mac = text.lower().replace("-", ":")
        if not _MAC.fullmatch(mac):
            raise ValueError(f"{text!r} is not a MAC address; write it like 02:42:0a:58:00:05")
        if int(mac[:2], 16) & 1:
            raise ValueError(f"{text!r} is a multicast address; the first byte of a container's MAC must be even")
        if mac == "00:00:00:00:00:00":
            raise ValueError("a MAC address of all zeros cannot be used; leave it out to get one made")
        return mac

    @property
    def packed(self) -> bytes:
        """The six bytes."""
        return bytes.fromhex(self.replace(":", ""))

    @property
    def link_local(self) -> Address:
        """The link-local address that IPv6 makes of it (EUI-64; RFC 4291, appendix A)."""
        six = self.packed
        tail = bytes([six[0] ^ 2]) + six[1:3] + b"\xff\xfe" + six[3:]
        return Address(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + tail))


class InterfaceName(Text):
    """A network interface's name as Linux accepts it: 1 to 15 bytes, no slash, colon or white space (dev_valid_name)."""

    __slots__ = ()

    @classmethod
    def canonical(cls, text: str) -> str:
        if not 1 <= len(text.encode()) <= 15:
            raise ValueError(f"{text!r} is not an interface name: it must have 1 to 15 bytes")
        if text in {".", ".."} or not re.fullmatch(r"[A-Za-z0-9_.@=+-]+", text):
            raise ValueError(f"{text!r} is not an interface name: use letters, digits, '_', '.', '-', '@', '=' or '+'")
        if text in {"all", "default"}:
            raise ValueError(
                f"{text!r} is not an interface name: in the kernel's settings it stands for several; choose another"
            )
        return text


_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


class Name(Text):
    """An object's name: a DNS subdomain as in Kubernetes (RFC 1123): lower case letters, digits, '-' and '.', at most 63."""

    __slots__ = ()
    longest: ClassVar[int] = 63

    @classmethod
    def canonical(cls, text: str) -> str:
        if len(text) > cls.longest or not _NAME.fullmatch(text):
            raise ValueError(
                f"{text[:80]!r} is not a name: use lower case letters, digits, '-' and '.', begin and end each part "
                f"with a letter or digit, at most {cls.longest} characters"
            )
        return text


class LongName(Name):
    """The same of an object that Kubernetes allows a longer name: policies, and most that is nobody's address."""

    __slots__ = ()
    longest = 253


_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class ContainerID(Text):
    """A container's id as the CNI specification allows it: a letter or digit, then letters, digits, '_', '.' or '-'."""

    __slots__ = ()

    @classmethod
    def canonical(cls, text: str) -> str:
        if len(text) > 255 or not _CONTAINER.fullmatch(text):
            raise ValueError(
                f"{text[:80]!r} is not a container id: begin with a letter or digit, then letters, digits, '_', '.', '-', "
                "at most 255 characters"
            )
        return text


_PORT_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")


class PortName(Text):
    """A port's name as Kubernetes takes it (an IANA service name): ``http``, ``dns-tcp``."""

    __slots__ = ()

    @classmethod
    def canonical(cls, text: str) -> str:
        if not _PORT_NAME.fullmatch(text):
            raise ValueError(
                f"{text[:40]!r} is not a port's name: 1 to 15 lower case letters, digits and single '-' between them, "
                "at least one letter"
            )
        return text


_NAMED_PORT = re.compile(r"([0-9]{1,5})(/(tcp|udp|sctp))?")


class NamedPort(Text):
    """What a port's name stands for: its number and protocol, ``80/tcp``; without a protocol it is TCP."""

    __slots__ = ()

    @classmethod
    def canonical(cls, text: str) -> str:
        found = _NAMED_PORT.fullmatch(text.lower())
        if not found or not 1 <= int(found[1]) <= 65535:
            raise ValueError(f"{text[:40]!r} is not a port and protocol; write it like 80, 80/tcp, 53/udp or 36412/sctp")
        return f"{int(found[1])}/{found[3] or 'tcp'}"

    @property
    def number(self) -> int:
        """The port."""
        return int(self.partition("/")[0])

    @property
    def protocol(self) -> str:
        """tcp, udp or sctp."""
        return self.partition("/")[2]


def check_unmapped(one: Address | Prefix) -> None:
    """Raise ``ValueError`` for IPv4 in the clothes of IPv6, ``::ffff:10.0.0.0/104``: on the wire there is no such address."""
    net = ipaddress.ip_network(one)
    if not isinstance(net, ipaddress.IPv6Network) or not net.subnet_of(_MAPPED):
        return
    four = ipaddress.IPv4Address(int(net.network_address) & 0xFFFFFFFF)
    right = four if isinstance(one, Address) else f"{four}/{net.prefixlen - 96}"
    raise ValueError(f"{one} is IPv4 written as IPv6; write {right}")


_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


@lru_cache(maxsize=4096)
def _address(text: str) -> IPAddress:
    return ipaddress.ip_address(_unscoped(text))


@lru_cache(maxsize=1024)
def _network(text: str) -> IPNetwork:
    return ipaddress.ip_network(_unscoped(text))


@lru_cache(maxsize=65536)
def _run(text: str) -> tuple[int, int]:
    net = ipaddress.ip_network(text)
    return int(net.network_address), int(net.broadcast_address)


def _unscoped(text: str) -> str:
    """Refuse ``fe80::1%eth0``: the part after the sign names an interface of one machine, and may hold any character."""
    if "%" in text:
        raise ValueError(text)
    return text
