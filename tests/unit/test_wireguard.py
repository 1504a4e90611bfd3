"""What WireGuard's two implementations are told and what they say, without either: the messages and the lines."""

from __future__ import annotations

import errno
import re
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.kernel import genetlink
from fairlead.kernel.errors import KernelError
from fairlead.kernel.netlink import attr, each, nest, parse, string, text, u8, u16, u32
from fairlead.kernel.wireguard import Device, Peer, from_key, kernel, to_key, uapi

HEADER = Path("/usr/include/linux/wireguard.h")
ONE, TWO = from_key(bytes(range(32))), from_key(bytes(range(32, 64)))

PREFIXES = st.sampled_from(["10.0.0.0/26", "10.0.0.64/26", "10.0.0.7/32", "fd00::/122", "fd00::1/128"])
PEERS = st.builds(
    Peer,
    st.sampled_from([ONE, TWO]),
    st.sampled_from([None, ("192.0.2.1", 51871), ("2001:db8::1", 51872)]),
    st.frozensets(PREFIXES),
    st.sampled_from([0, 25]),
)


def bare(name: str = "flw0", *peers: Peer) -> Device:
    return Device(name, peers={peer.public: peer for peer in peers})


def told(number: int, have: Device, **change: object) -> list[dict[int, bytes]]:
    messages = list(kernel.to_set(number, have, **change))  # type: ignore[arg-type]
    assert {(one.type, one.body[:2]) for one in messages} <= {(number, bytes([kernel.SET, 1]))}
    return [parse(one.body, genetlink.HEADER) for one in messages]


def spoken(peer: Peer) -> bytes:
    """A peer as the kernel lists it."""
    host, port = peer.endpoint or ("0.0.0.0", 0)  # noqa: S104
    packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    where = (
        struct.pack("=HHI16sI", 10, socket.htons(port), 0, packed, 0)
        if ":" in host
        else struct.pack("=HH4s8x", 2, socket.htons(port), packed)
    )
    addresses = []
    for one in sorted(peer.allowed):
        address, _, length = one.partition("/")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        addresses.append(nest(0, u16(1, family), attr(2, socket.inet_pton(family, address)), u8(3, int(length))))
    return nest(
        0,
        attr(1, to_key(peer.public)),
        attr(2, bytes(32)),
        attr(4, where) if peer.endpoint else b"",
        u16(5, peer.keepalive),
        attr(6, struct.pack("=qq", 1_700_000_000, 500_000_000)),
        attr(7, struct.pack("=Q", 1 << 40)),
        attr(8, struct.pack("=Q", 7)),
        nest(9, *addresses),
        u32(10, 1),
    )


def row(*attributes: bytes) -> bytes:
    return bytes(4) + b"".join(attributes)


@pytest.mark.skipif(not HEADER.exists(), reason="the kernel's headers are not installed")
def test_the_numbers_are_those_of_the_kernels_header() -> None:
    numbers: dict[str, int] = {}
    for body in re.findall(r"enum \w+ \{(.*?)\};", HEADER.read_text(), re.DOTALL):
        names = re.findall(r"^\s*(W\w+)(?: = (1U << \d))?", body, re.MULTILINE)
        for at, (name, flag) in enumerate(names):
            numbers[name] = 1 << int(flag[-1]) if flag else at
    ours = {
        "WG_CMD_GET_DEVICE": kernel.GET,
        "WG_CMD_SET_DEVICE": kernel.SET,
        "WGDEVICE_A_IFNAME": kernel._NAME,
        "WGDEVICE_A_PRIVATE_KEY": kernel._PRIVATE,
        "WGDEVICE_A_LISTEN_PORT": kernel._PORT,
        "WGDEVICE_A_PEERS": kernel._PEERS,
        "WGPEER_A_PUBLIC_KEY": kernel._PUBLIC,
        "WGPEER_A_FLAGS": kernel._FLAGS,
        "WGPEER_A_ENDPOINT": kernel._ENDPOINT,
        "WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL": kernel._KEEPALIVE,
        "WGPEER_A_LAST_HANDSHAKE_TIME": kernel._HANDSHAKE,
        "WGPEER_A_RX_BYTES": kernel._RX,
        "WGPEER_A_TX_BYTES": kernel._TX,
        "WGPEER_A_ALLOWEDIPS": kernel._ALLOWED,
        "WGPEER_F_REMOVE_ME": kernel._REMOVE_ME,
        "WGPEER_F_REPLACE_ALLOWEDIPS": kernel._REPLACE_ALLOWED,
        "WGALLOWEDIP_A_FAMILY": kernel._IP_FAMILY,
        "WGALLOWEDIP_A_IPADDR": kernel._IP,
        "WGALLOWEDIP_A_CIDR_MASK": kernel._CIDR,
    }
    assert ours == {name: numbers[name] for name in ours}


class TestKernel:
    """Messages of generic netlink."""

    def test_the_device_itself(self) -> None:
        (message,) = told(31, bare(), private=ONE, port=51871)
        assert message == {2: b"flw0\0", 3: to_key(ONE), 6: struct.pack("=H", 51871)}

    def test_a_new_peer(self) -> None:
        peer = Peer(TWO, ("2001:db8::1", 51872), frozenset({"10.0.0.0/26", "fd00::/122"}), 25)
        (message,) = told(31, bare(), peers=[peer])
        ((_, piece),) = each(message[8])
        found = parse(piece)
        assert found[1] == to_key(TWO)
        assert 3 not in found, "nothing is taken away from a new peer"
        assert found[4] == struct.pack("=HHI16sI", 10, socket.htons(51872), 0, socket.inet_pton(10, "2001:db8::1"), 0)
        assert found[5] == struct.pack("=H", 25)
        allowed = [parse(one) for _, one in each(found[9])]
        assert allowed == [
            {1: struct.pack("=H", 2), 2: bytes([10, 0, 0, 0]), 3: b"\x1a"},
            {1: struct.pack("=H", 10), 2: socket.inet_pton(10, "fd00::"), 3: b"\x7a"},
        ]

    def test_what_a_peer_has_is_not_said_again(self) -> None:
        before = Peer(ONE, ("192.0.2.1", 51871), frozenset({"10.0.0.0/26"}))
        more = Peer(ONE, ("192.0.2.1", 51871), frozenset({"10.0.0.0/26", "10.0.0.64/26"}))
        (message,) = told(31, bare("flw0", before), peers=[more])
        ((_, piece),) = each(message[8])
        assert [parse(one)[2] for _, one in each(parse(piece)[9])] == [bytes([10, 0, 0, 64])]

    def test_a_peer_that_loses_an_address_is_given_all_others_anew(self) -> None:
        before = Peer(ONE, None, frozenset({"10.0.0.0/26", "10.0.0.64/26"}))
        less = Peer(ONE, None, frozenset({"10.0.0.64/26"}))
        (message,) = told(31, bare("flw0", before), peers=[less])
        ((_, piece),) = each(message[8])
        found = parse(piece)
        assert found[3] == struct.pack("=I", 2), "WGPEER_F_REPLACE_ALLOWEDIPS"
        assert [parse(one)[2] for _, one in each(found[9])] == [bytes([10, 0, 0, 64])]

    def test_a_peer_that_goes(self) -> None:
        (message,) = told(31, bare(), remove=[ONE])
        ((_, piece),) = each(message[8])
        assert parse(piece) == {1: to_key(ONE), 3: struct.pack("=I", 1)}

    def test_many_peers_and_many_addresses_travel_in_pieces(self) -> None:
        peers = [
            Peer(from_key(at.to_bytes(32, "big")), ("192.0.2.1", 51871), frozenset({f"10.{at >> 8}.{at & 255}.0/26"}))
            for at in range(2000)
        ]
        large = Peer(TWO, None, frozenset(f"10.{at >> 8}.{at & 255}.7/32" for at in range(5000)))
        messages = told(31, bare(), peers=[*peers, large])
        assert len(messages) > 4
        assert all(len(one[8]) < 1 << 16 for one in messages), "an attribute has at most 64 KiB"
        seen: dict[bytes, int] = {}
        for message in messages:
            for _, piece in each(message[8]):
                found = parse(piece)
                seen[found[1]] = seen.get(found[1], 0) + len(list(each(found.get(9, b""))))
        assert len(seen) == 2001
        assert seen[to_key(TWO)] == 5000

    @given(st.lists(PEERS, max_size=2, unique_by=lambda peer: peer.public))
    def test_what_it_lists_is_read(self, peers: list[Peer]) -> None:
        rows = [row(text(2, "flw0"), attr(3, to_key(ONE)), attr(4, bytes(32)), u16(6, 51871), nest(8, *map(spoken, peers)))]
        found = kernel.from_rows("flw0", rows)
        assert (found.private, found.port) == (ONE, 51871)
        assert found.peers == {peer.public: peer for peer in peers}
        for peer in found.peers.values():
            assert (peer.handshake, peer.received, peer.sent) == (1_700_000_000.5, 1 << 40, 7)

    def test_a_listing_in_pieces(self) -> None:
        """A peer goes on in the next message, with its key and addresses alone."""
        peer = Peer(ONE, ("192.0.2.1", 51871), frozenset({"10.0.0.0/26"}), 25)
        more = nest(0, attr(1, to_key(ONE)), nest(9, nest(0, u16(1, 2), attr(2, bytes([10, 0, 0, 64])), u8(3, 26))))
        found = kernel.from_rows("flw0", [row(text(2, "flw0"), nest(8, spoken(peer))), row(text(2, "flw0"), nest(8, more))])
        assert found.peers[ONE].allowed == {"10.0.0.0/26", "10.0.0.64/26"}
        assert found.peers[ONE].endpoint == ("192.0.2.1", 51871)

    def test_a_device_without_a_key(self) -> None:
        assert not kernel.from_rows("flw0", [row(text(2, "flw0"), attr(3, bytes(32)), u16(6, 0))]).private


class TestLines:
    """The cross-platform protocol."""

    def test_the_device_itself(self) -> None:
        said = uapi.to_set(bare(), private=ONE, port=51871)
        assert said == f"set=1\nprivate_key={to_key(ONE).hex()}\nlisten_port=51871\n\n".encode()

    def test_peers(self) -> None:
        before = Peer(TWO, None, frozenset({"10.0.0.0/26", "10.0.0.64/26"}))
        peers = [
            Peer(ONE, ("2001:db8::1", 51872), frozenset({"fd00::/122"}), 25),
            Peer(TWO, ("192.0.2.1", 51871), frozenset({"10.0.0.0/26"})),
        ]
        lines = uapi.to_set(bare("flw0", before), peers=peers, remove=[from_key(bytes(32))]).decode().splitlines()
        assert lines == [
            "set=1",
            f"public_key={bytes(32).hex()}",
            "remove=true",
            f"public_key={to_key(ONE).hex()}",
            "endpoint=[2001:db8::1]:51872",
            "allowed_ip=fd00::/122",
            "persistent_keepalive_interval=25",
            f"public_key={to_key(TWO).hex()}",
            "endpoint=192.0.2.1:51871",
            "replace_allowed_ips=true",
            "allowed_ip=10.0.0.0/26",
            "persistent_keepalive_interval=0",
            "",
        ]

    def test_an_answer(self) -> None:
        answer = (
            f"private_key={to_key(ONE).hex()}\nlisten_port=51871\npublic_key={to_key(TWO).hex()}\npreshared_key={'0' * 64}\n"
            "protocol_version=1\nendpoint=[2001:db8::1]:51872\nlast_handshake_time_sec=5\nlast_handshake_time_nsec=500000000\n"
            "tx_bytes=7\nrx_bytes=9\npersistent_keepalive_interval=25\nallowed_ip=10.0.0.0/26\nallowed_ip=fd00::/122\nerrno=0\n\n"
        )
        found = uapi.from_get("flw0", answer.encode())
        assert (found.private, found.port) == (ONE, 51871)
        peer = found.peers[TWO]
        assert peer == Peer(TWO, ("2001:db8::1", 51872), frozenset({"10.0.0.0/26", "fd00::/122"}), 25)
        assert (peer.handshake, peer.sent, peer.received) == (5.5, 7, 9)

    def test_a_refusal(self) -> None:
        with pytest.raises(KernelError) as refused:
            uapi.check(b"errno=-98\n\n", "set it up")
        assert refused.value.errno == errno.EADDRINUSE
        with pytest.raises(KernelError, match="cut short"):
            uapi.from_get("flw0", b"listen_port=51871\n")


def test_a_private_key_is_never_printed() -> None:
    assert ONE not in repr(Device("flw0", ONE, 1, {}))
    with pytest.raises(KernelError) as refused:
        to_key(ONE[:-4])
    assert ONE[:8] not in str(refused.value)


def test_names_are_short_strings() -> None:
    assert string(parse(kernel.to_get(31, "flw0").body, genetlink.HEADER)[2]) == "flw0"
