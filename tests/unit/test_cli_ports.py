"""What people write after --publish."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.cli.ports import parse
from fairlead.model.endpoint import Protocol
from fairlead.model.errors import Invalid


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("8080:80", "8080->80/tcp"),
        ("8080:80/udp", "8080->80/udp"),
        ("8080:80/SCTP", "8080->80/sctp"),
        ("127.0.0.1:8080:80", "127.0.0.1:8080->80/tcp"),
        ("0.0.0.0:53:53/udp", "0.0.0.0:53->53/udp"),
        ("[::1]:8080:80", "[::1]:8080->80/tcp"),
        ("[FD00::0:5]:8080:80", "[fd00::5]:8080->80/tcp"),
        ("9000-9009:9000-9009", "9000-9009->9000-9009/tcp"),
        ("[::]:9000-9009:8000-8009/udp", "[::]:9000-9009->8000-8009/udp"),
        ("8000-8002:80", "8000-8002->80-82/tcp"),
        ("9000-9000:80", "9000->80/tcp"),
        ("1:65535", "1->65535/tcp"),
        ("65534-65535:65534-65535", "65534-65535->65534-65535/tcp"),
    ],
)
def test_a_host_port_is_named(text: str, published: str) -> None:
    wish = parse(text)
    assert wish.host_port
    assert str(wish.publish(wish.host_port)) == published


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("80", "40000->80/tcp"),
        ("53/udp", "40000->53/udp"),
        ("127.0.0.1::80", "127.0.0.1:40000->80/tcp"),
        ("[::1]::80/sctp", "[::1]:40000->80/sctp"),
    ],
)
def test_a_host_port_is_to_be_chosen(text: str, published: str) -> None:
    wish = parse(text)
    assert wish.host_port is None
    assert str(wish.publish(40000)) == published


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write it like 8080:80"),
        (":80", "the host port is empty"),
        ("80:", "write it like 8080:80"),
        ("a:80", "host port 'a' is not a port"),
        ("80:b", "container port 'b' is not a port"),
        ("0:80", "host port '0' is not a port; ports are 1 to 65535"),
        ("65536:80", "host port '65536' is not a port"),
        ("80:00000000080", "container port '00000000080' is not a port"),
        ("\u00b2:80", "is not a port"),
        ("80/", "'' is not a protocol with ports; use tcp, udp or sctp"),
        ("80/icmp", "'icmp' is not a protocol with ports"),
        ("8000-8001", "a run of ports needs its host ports: 8000-8001:8000-8001"),
        ("8001-8000:80", "runs backwards; write 8000-8001"),
        ("8000-8002:80-81", "8000-8002 is 3 ports and 80-81 is 2"),
        ("8000:80-81", "8000 is 1 ports and 80-81 is 2"),
        ("65534-65535:65535", "2 ports from 65535 go past 65535"),
        ("10.0.0.256:80:80", "host address '10.0.0.256' is not an IP address"),
        ("localhost:80:80", "host address 'localhost' is not an IP address"),
        ("127.0.0.1:80", "the host port is missing after 127.0.0.1"),
        ("[::1]:80", "the host port is missing after [::1]"),
        ("::1:80:80", "an IPv6 host address is written in brackets"),
        ("[::1:80:80", "write it like"),
        ("1:2:3:4", "in brackets"),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text)
    assert caught.value.field == "publish"
    assert says in caught.value.message


def test_a_host_address_that_cannot_be_one() -> None:
    wish = parse("224.0.0.1:80:80")
    with pytest.raises(Invalid, match="multicast") as caught:
        wish.publish(80)
    assert caught.value.field == "publish.hostIp"


@given(st.text(max_size=40) | st.text(alphabet="0123456789:-[]/.tcpud", max_size=40))
def test_no_input_raises_anything_else(text: str) -> None:
    with suppress(Invalid):
        wish = parse(text)
        assert 1 <= wish.container_port <= wish.container_port + wish.count - 1 <= 65535


@given(
    st.sampled_from(["", "127.0.0.1:", "[fd00::1]:"]),
    st.integers(1, 65000),
    st.integers(1, 65000),
    st.integers(1, 500),
    st.sampled_from(list(Protocol)),
)
def test_what_is_written_is_what_is_read(ip: str, host: int, container: int, count: int, protocol: Protocol) -> None:
    wish = parse(f"{ip}{host}-{host + count - 1}:{container}-{container + count - 1}/{protocol}")
    assert (wish.host_port, wish.container_port, wish.count, wish.protocol) == (host, container, count, protocol)
    assert (wish.host_ip or "") == ip.rstrip(":").strip("[]")
