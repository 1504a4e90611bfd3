"""The programs see packets as they are: whatever comes, it passes, and what it belongs to is counted once."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import nullcontext, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.datapath.ebpf.layout import Counter
from fairlead.datapath.ebpf.programs import PROGRAMS
from fairlead.datapath.seen import State
from fairlead.kernel.errors import KernelError
from tests.bpf import packets
from tests.bpf.conftest import Kernel
from tests.bpf.packets import ACK, ETHERNET, FIN, PSH, RST, SYN, Side, fragments, frame, tcp, udp, unreachable
from tests.wait import eventually

pytestmark = pytest.mark.kernel("ebpf")

SIDES = {
    4: (Side("10.0.0.2", 40000), Side("10.0.0.9", 80)),
    6: (Side("fd00::2", 40000), Side("fd00::9", 80)),
}
BUDGET = 40_000
"""Instructions that the verifier may walk through for one program; the kernel allows a million. Older ones walk further."""
Make = Callable[[Side, Side], bytes]
PROTOCOLS: dict[str, Make] = {
    "tcp": lambda a, b: tcp(a, b, SYN if a.port == 40000 else SYN | ACK),
    "udp": udp,
    "sctp": packets.sctp,
    "icmp": lambda a, b: packets.echo(a, b, 77, reply=a.port == 80),
}
each_family = pytest.mark.parametrize("family", [4, 6])


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_verifier_s_work_is_known(kernel: Kernel, program: str, record_figures: list[str]) -> None:
    verified = kernel.loaded.programs[program].info.verified
    record_figures.append(f"program {program}: the verifier walks through {verified:,} instructions")
    assert 0 < verified < BUDGET


@each_family
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("swapped", [False, True])
def test_both_directions_are_one_connection(kernel: Kernel, family: int, protocol: str, swapped: bool) -> None:
    client, server = SIDES[family]
    if swapped:
        client, server = Side(server.address, client.port), Side(client.address, server.port)
    forth, back = PROTOCOLS[protocol](client, server), PROTOCOLS[protocol](server, client)
    kernel.send(forth)
    kernel.send(back, hook="to_pod")
    kernel.send(forth)
    (new,) = kernel.events()
    one = kernel.only()
    assert (new.source, new.destination) == (client.mapped, server.mapped) == (one.source, one.destination)
    if protocol == "icmp":
        assert one.source_port == one.destination_port == 77
    else:
        assert (one.source_port, one.destination_port) == (client.port, server.port)
    assert (one.low, one.high) == tuple(sorted((client.mapped, server.mapped)))
    assert (new.forth_packets, new.forth_bytes, new.back_packets) == (1, len(forth), 0)
    assert (one.forth_packets, one.forth_bytes) == (2, 2 * len(forth))
    assert (one.back_packets, one.back_bytes) == (1, len(back))
    assert one.state == State.ESTABLISHED
    assert (one.outgoing, one.midway) == (1, 0)


def test_a_connection_to_the_container_is_incoming(kernel: Kernel) -> None:
    client, server = SIDES[4]
    kernel.send(tcp(client, server, SYN), hook="to_pod")
    assert kernel.only().outgoing == 0


@each_family
def test_the_life_of_a_tcp_connection(kernel: Kernel, family: int) -> None:
    client, server = SIDES[family]
    steps = [
        (client, SYN, State.OPENING),
        (server, SYN | ACK, State.ESTABLISHED),
        (client, ACK, State.ESTABLISHED),
        (client, PSH | ACK, State.ESTABLISHED),
        (client, FIN | ACK, State.ESTABLISHED),
        (server, ACK, State.ESTABLISHED),
        (server, FIN | ACK, State.CLOSING),
        (server, FIN | ACK, State.CLOSING),
        (client, ACK, State.CLOSED),
    ]
    for sender, flags, state in steps:
        other = server if sender is client else client
        kernel.send(tcp(sender, other, flags), hook="from_pod" if sender is client else "to_pod")
        assert kernel.only().state == state
    new, close = kernel.events()
    assert (new.kind, close.kind) == (1, 2)
    assert (close.forth_packets, close.back_packets) == (5, 4)
    kernel.send(tcp(client, server, ACK))
    kernel.send(tcp(server, client, RST), hook="to_pod")
    assert kernel.kinds() == [], "it closes once"
    kernel.send(tcp(client, server, SYN))
    assert kernel.kinds() == ["NEW"], "the same ports again are a new connection"
    assert kernel.only().forth_packets == 1


@each_family
def test_a_reset_closes(kernel: Kernel, family: int) -> None:
    client, server = SIDES[family]
    kernel.send(tcp(client, server, SYN))
    kernel.send(tcp(server, client, RST | ACK), hook="to_pod")
    new, close = kernel.events()
    assert (close.forth_packets, close.back_packets, close.state) == (1, 1, State.CLOSED)
    assert new.first == close.first <= close.last


@pytest.mark.parametrize("flags", [FIN | ACK, RST, RST | ACK])
def test_an_end_does_not_begin_a_connection(kernel: Kernel, flags: int) -> None:
    kernel.send(tcp(*SIDES[4], flags))
    assert kernel.table() == []


def test_a_connection_begun_before_it_was_seen(kernel: Kernel) -> None:
    client, server = SIDES[4]
    kernel.send(tcp(server, client, PSH | ACK), hook="to_pod")
    one = kernel.only()
    assert (one.source, one.midway, one.outgoing) == (client.mapped, 1, 1), "the lower port is the server's"
    assert (one.forth_packets, one.back_packets) == (0, 1)


@each_family
def test_an_icmp_error_belongs_to_what_it_quotes(kernel: Kernel, family: int) -> None:
    client, server = SIDES[family]
    router = Side("10.9.9.9" if family == 4 else "fd09::9")
    kernel.send(udp(client, server))
    error = unreachable(router, client, udp(client, server))
    kernel.send(error, hook="to_pod")
    one = kernel.only()
    assert (one.back_packets, one.back_bytes, one.state) == (1, len(error), State.OPENING), "an error is no answer"
    kernel.send(unreachable(router, client, udp(client, Side(server.address, 81))), hook="to_pod")
    assert kernel.only() == one, "about nothing that is known"
    assert kernel.kinds() == ["NEW"]


@each_family
def test_fragments_follow_the_first(kernel: Kernel, family: int) -> None:
    first, later = fragments(*SIDES[family], ident=5)
    kernel.send(later)
    assert kernel.table() == []
    assert kernel.counted(Counter.FRAGMENT_UNMATCHED) == 1
    kernel.send(first)
    kernel.send(later)
    one = kernel.only()
    assert (one.source_port, one.destination_port) == (40000, 80)
    assert (one.forth_packets, one.forth_bytes) == (2, len(first) + len(later))
    kernel.send(fragments(*SIDES[family], ident=6)[1])
    assert kernel.counted(Counter.FRAGMENT_UNMATCHED) == 2, "of another datagram"


def test_extension_headers_are_walked(kernel: Kernel) -> None:
    client, server = SIDES[6]
    plain = udp(client, server)[ETHERNET + 40 :]
    chain = struct.pack("!BB6x", 60, 0) + struct.pack("!BB14x", 43, 1) + struct.pack("!BB6x", 17, 0)
    kernel.send(frame(client, server, 17, plain, extra=chain, first=0))
    kernel.send(frame(client, server, 17, plain, extra=struct.pack("!BB6x", 60, 0) + chain[8:], first=60))
    assert kernel.only().destination_port == 80
    too_many = b"".join(struct.pack("!BB6x", 60, 0) for _ in range(7)) + struct.pack("!BB6x", 17, 0)
    kernel.send(frame(client, Side("fd00::77", 80), 17, plain, extra=too_many, first=60))
    assert len(kernel.table()) == 1
    assert kernel.counted(Counter.MALFORMED) == 1


@pytest.mark.parametrize(
    "packet",
    [
        bytes(12) + b"\x08\x06" + bytes(28),
        bytes(12) + b"\x81\x00\x00\x05\x08\x00" + tcp(*SIDES[4], SYN)[ETHERNET:],
        packets.frame(*SIDES[6], 58, struct.pack("!BBHI", 135, 0, 0, 0) + bytes(16)),
    ],
    ids=["ARP", "VLAN tag", "neighbour solicitation"],
)
def test_what_has_no_connection(kernel: Kernel, packet: bytes) -> None:
    kernel.send(packet)
    assert kernel.table() == []
    assert kernel.counted(Counter.NOT_TRACKED) == 1


@each_family
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_packet_cut_short_is_nothing(kernel: Kernel, family: int, protocol: str) -> None:
    whole = PROTOCOLS[protocol](*SIDES[family])
    header = {"tcp": 20, "udp": 4, "sctp": 4, "icmp": 8}[protocol]
    least = ETHERNET + (20 if family == 4 else 40)
    for length in range(ETHERNET + 1, least + header):
        # The kernel itself may take no test packet without a whole IP header.
        with suppress(KernelError) if length < least else nullcontext():
            kernel.send(whole[:length])
    assert kernel.table() == []
    assert kernel.events() == []
    kernel.send(whole[: least + header])
    assert len(kernel.table()) == 1


@pytest.mark.parametrize("change", [(14, 0x46), (14, 0x44), (14, 0x65), (14 + 20 + 12, 0x40)], ids=str)
def test_headers_that_contradict_themselves(kernel: Kernel, change: tuple[int, int]) -> None:
    """A header length with options that are not there, below the least, another version, a TCP header that is too short."""
    broken = bytearray(tcp(*SIDES[4], SYN)[: ETHERNET + 40])
    broken[change[0]] = change[1]
    kernel.send(bytes(broken))
    assert kernel.table() == []
    assert kernel.counted(Counter.MALFORMED) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.sampled_from([4, 6]), st.binary(max_size=120), st.sampled_from(["from_pod", "to_pod"]))
def test_no_bytes_do_harm(kernel: Kernel, family: int, content: bytes, hook: str) -> None:
    kind = b"\x08\0" if family == 4 else b"\x86\xdd"
    version = bytes([0x45 if family == 4 else 0x60])
    kernel.send(bytes(12) + kind + version + content + bytes(40), hook=hook)


def test_a_large_send_counts_as_what_is_on_the_wire(kernel: Kernel) -> None:
    packet = tcp(*SIDES[4], PSH | ACK, bytes(3000))
    kernel.send(packet, segments=3, segment=1000)
    one = kernel.only()
    assert (one.forth_packets, one.forth_bytes) == (3, len(packet) + 2 * 54)


def test_between_two_containers_a_packet_counts_once(kernel: Kernel) -> None:
    client, server = SIDES[4]
    request, answer = udp(client, server), udp(server, client, b"yes")
    for _ in range(3):
        kernel.send(request, hook="from_pod", at=kernel.one)
        kernel.send(request, hook="to_pod", at=kernel.other)
        kernel.send(answer, hook="from_pod", at=kernel.other)
        kernel.send(answer, hook="to_pod", at=kernel.one)
    one = kernel.only()
    assert (one.forth_packets, one.back_packets, one.ifindex) == (3, 3, kernel.one)
    assert kernel.kinds() == ["NEW"]


def test_another_interface_takes_over_from_one_that_sees_nothing_more(kernel: Kernel) -> None:
    kernel.send(udp(*SIDES[4]), at=kernel.one)

    def taken() -> bool:
        kernel.send(udp(*SIDES[4]), hook="to_pod", at=kernel.other)
        return kernel.only().ifindex == kernel.other

    eventually(taken, deadline=3)
    assert kernel.only().forth_packets == 2


def test_a_full_ring_buffer_loses_events_and_says_so(make: Callable[..., Kernel]) -> None:
    kernel = make(events=4096)
    client, server = SIDES[4]
    for port in range(1, 201):
        kernel.send(tcp(Side(client.address, port), server, SYN))
        kernel.send(tcp(server, Side(client.address, port), RST), hook="to_pod")
    kinds = kernel.kinds()
    assert kinds.count("NEW") + kernel.counted(Counter.NEW_LOST) == 200
    assert kinds.count("CLOSE") + kernel.counted(Counter.CLOSE_LOST) == 200
    assert kernel.counted(Counter.NEW_LOST) > 150
    assert len(kernel.table()) == 200, "what is counted is not lost"
    kernel.send(tcp(Side(client.address, 999), server, SYN))
    assert kernel.kinds() == ["NEW"], "there is room again"


def test_a_second_start_finds_what_the_first_pinned(kernel: Kernel, make: Callable[..., Kernel]) -> None:
    kernel.send(udp(*SIDES[4]))
    again = make()
    assert again.loaded.programs["from_pod"].info.id == kernel.loaded.programs["from_pod"].info.id
    assert again.only().forth_packets == 1


def test_another_build_takes_over_the_connections(kernel: Kernel, make: Callable[..., Kernel]) -> None:
    kernel.send(udp(*SIDES[4]))
    other = make(events=1 << 16)
    assert other.loaded.programs["from_pod"].info.id != kernel.loaded.programs["from_pod"].info.id
    other.send(udp(*SIDES[4]))
    assert other.only().forth_packets == 2
    assert other.loaded.maps["events"].info.max_entries == 1 << 16
