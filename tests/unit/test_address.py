"""Addresses, prefixes, MACs and names: what is taken, how it is spelt, and what the refusal says."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model.address import Address, ContainerID, Interface, InterfaceName, Mac, Name, Prefix, Text

ADDRESSES = st.ip_addresses()


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    address = draw(ADDRESSES)
    length = draw(st.integers(0, address.max_prefixlen))
    return Prefix(ipaddress.ip_network((address, length), strict=False))


@pytest.mark.parametrize(
    ("kind", "text", "canonical"),
    [
        (Address, "10.88.0.5", "10.88.0.5"),
        (Address, "FD00:0:0::0005", "fd00::5"),
        (Prefix, "10.88.0.0/255.255.255.0", "10.88.0.0/24"),
        (Prefix, "FD00:88:0::/64", "fd00:88::/64"),
        (Prefix, "0.0.0.0/0", "0.0.0.0/0"),
        (Interface, "10.88.0.5/24", "10.88.0.5/24"),
        (Interface, "FD00::0:5/64", "fd00::5/64"),
        (Mac, "02-42-0A-58-00-05", "02:42:0a:58:00:05"),
        (InterfaceName, "eth0.100@if3", "eth0.100@if3"),
        (Name, "front.end-2", "front.end-2"),
        (Name, "a" * 63, "a" * 63),
        (ContainerID, "Web_1.a-b", "Web_1.a-b"),
    ],
)
def test_one_spelling(kind: type[Text], text: str, canonical: str) -> None:
    value = kind(text)
    assert value == canonical
    assert isinstance(value, str)
    assert kind(value) is value


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        (Address, "10.0.0.256", "10.88.0.5 or fd00::5"),
        (Address, "10.0.0.01", "not an IP address"),
        (Address, " 10.0.0.1", "not an IP address"),
        (Address, "10.0.0.1\n", "not an IP address"),
        (Address, "", "not an IP address"),
        (Address, "1", "not an IP address"),
        (Address, "10.0.0.1/24", "not an IP address"),
        (Address, "fe80::1%eth0", "not an IP address"),
        (Address, "fe80::1%x; drop", "not an IP address"),
        (Address, "\u0661\u0660.0.0.1", "not an IP address"),
        (Prefix, "10.0.0.1/24", "the network is 10.0.0.0/24"),
        (Prefix, "10.0.0.0", "no prefix length"),
        (Prefix, "10.0.0.0/33", "10.88.0.0/24"),
        (Prefix, "10.0.0.0/", "10.88.0.0/24"),
        (Prefix, "fe80::%eth0/64", "10.88.0.0/24"),
        (Prefix, "/24", "10.88.0.0/24"),
        (Interface, "10.0.0.1", "no prefix length"),
        (Interface, "10.0.0.1/99", "10.88.0.5/24"),
        (Interface, "fe80::1%eth0/64", "10.88.0.5/24"),
        (Mac, "02:42:0a:58:00", "02:42:0a:58:00:05"),
        (Mac, "02:42:0a:58:00:0g", "02:42:0a:58:00:05"),
        (Mac, "01:00:5e:00:00:01", "multicast"),
        (Mac, "ff:ff:ff:ff:ff:ff", "multicast"),
        (Mac, "00:00:00:00:00:00", "leave it out"),
        (InterfaceName, "", "1 to 15 bytes"),
        (InterfaceName, "a" * 16, "1 to 15 bytes"),
        (InterfaceName, "é" * 8, "1 to 15 bytes"),
        (InterfaceName, "..", "use letters"),
        (InterfaceName, "a/b", "use letters"),
        (InterfaceName, "a:b", "use letters"),
        (InterfaceName, "a b", "use letters"),
        (InterfaceName, "eth0\n", "use letters"),
        (Name, "", "lower case letters"),
        (Name, "A", "lower case letters"),
        (Name, "-a", "begin and end"),
        (Name, "a..b", "each part"),
        (Name, "a.-b", "each part"),
        (Name, "a\n", "lower case letters"),
        (Name, "a" * 64, "at most 63"),
        (ContainerID, "", "begin with"),
        (ContainerID, "../x", "begin with"),
        (ContainerID, "a:b", "begin with"),
        (ContainerID, "a" * 256, "at most 255"),
    ],
)
def test_refused_with_what_would_be_right(kind: type[Text], text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as refused:
        kind(text)
    assert len(str(refused.value)) < 300


@given(st.text(), st.sampled_from([Address, Prefix, Interface, Mac, InterfaceName, Name, ContainerID]))
def test_whatever_is_taken_is_printable_and_stable(text: str, kind: type[Text]) -> None:
    try:
        value = kind(text)
    except ValueError:
        return
    assert str(value).isascii()
    assert str(value).isprintable()
    assert not set(value) & set(" \"'`;{}()$\\#,")
    assert kind(str(value)) == value


@given(ADDRESSES)
def test_an_address_is_what_the_standard_library_says(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    address = Address(ip)
    assert (address.ip, address.family, address.packed) == (ip, ip.version, ip.packed)
    assert address.host().holds(address)
    assert address.host().net.num_addresses == 1


@given(prefixes(), ADDRESSES)
def test_holding(prefix: Prefix, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert prefix.holds(Address(ip)) == (ip in prefix.net)
    assert prefix.length == prefix.net.prefixlen


@given(prefixes(), prefixes())
def test_overlap_is_one_holding_the_other(one: Prefix, other: Prefix) -> None:
    inside = one.holds(Address(other.net.network_address)) or other.holds(Address(one.net.network_address))
    assert one.overlaps(other) == other.overlaps(one) == inside


@given(ADDRESSES, st.data())
def test_an_interface_is_an_address_in_a_prefix(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, ip.max_prefixlen))
    interface = Interface(f"{ip}/{length}")
    assert interface.prefix.holds(interface.address)
    assert Interface.of(interface.address, interface.prefix) == interface
    assert (interface.family, interface.length) == (ip.version, length)


def test_a_mac_as_bytes() -> None:
    assert Mac("02:42:0a:58:00:05").packed == bytes([2, 0x42, 0x0A, 0x58, 0, 5])
