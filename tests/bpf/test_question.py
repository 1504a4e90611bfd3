"""A question to the programs is answered as a packet would be, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fairlead.datapath.base import Answer, Question
from fairlead.datapath.ebpf.plane import Ebpf
from fairlead.kernel import route
from fairlead.kernel.netlink import Netlink
from fairlead.model.address import Address
from tests.bpf.conftest import Kernel
from tests.bpf.packets import SYN, Side, echo, sctp, tcp, udp
from tests.bpf.test_policies import EGRESS, INGRESS, RULE, A, B, each_family, friend, isolate, only_friends

pytestmark = pytest.mark.kernel("ebpf")
PACKETS = {6: lambda a, b: tcp(a, b, SYN), 17: udp, 132: sctp, 1: lambda a, b: echo(a, b, 5)}


@pytest.fixture
def plane(kernel: Kernel) -> Iterator[Ebpf]:
    found = Ebpf(kernel.loaded)
    yield found
    found.close()


def _host(kernel: Kernel) -> str:
    with Netlink() as nl:
        return next(one.name for one in route.links(nl) if one.index == kernel.one)


def _question(kernel: Kernel, client: Side, server: Side, protocol: int, *, sends: bool) -> Question:
    number = 58 if protocol == 1 and client.family == 6 else protocol
    port = 0 if protocol == 1 else server.port
    return Question(_host(kernel), sends, Address(client.address), Address(server.address), number, port)


@each_family
@pytest.mark.parametrize("sends", [True, False])
@pytest.mark.parametrize("friends", [True, False])
def test_the_answer_is_what_happens(kernel: Kernel, plane: Ebpf, family: int, sends: bool, friends: bool) -> None:
    client, server = A[family], B[family]
    own = EGRESS if sends else INGRESS
    kernel.tables.change((*only_friends(own), *((friend(server if sends else client),) if friends else ())), ())
    isolate(kernel, **{"egress" if sends else "ingress": own})
    ports = (79, 80, 1000, 2999, 3000)
    asked = {
        (protocol, port): plane.ask(_question(kernel, client, Side(server.address, port), protocol, sends=sends))
        for protocol in PACKETS
        for port in ports
    }
    assert kernel.table() == []
    assert kernel.events() == []
    assert not any(kernel.observer.dropped().values())
    for (protocol, port), answer in asked.items():
        packet = PACKETS[protocol](client, Side(server.address, port))
        assert answer
        assert answer.allowed == kernel.passes(packet, hook="from_pod" if sends else "to_pod"), (protocol, port)
        assert answer.rule == (RULE if answer.allowed else 0)


def test_a_link_without_an_endpoint(kernel: Kernel, plane: Ebpf) -> None:
    kernel.tables.drop([kernel.one])
    answer = plane.ask(_question(kernel, A[4], B[4], 6, sends=True))
    assert answer == Answer(allowed=False, reason="the link has no endpoint", rule=0)


def test_to_itself(kernel: Kernel, plane: Ebpf) -> None:
    isolate(kernel, ingress=INGRESS)
    assert plane.ask(_question(kernel, A[4], A[4], 6, sends=False)) == Answer(allowed=True, reason="", rule=0)
