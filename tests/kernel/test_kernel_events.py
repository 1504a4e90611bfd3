"""Events from here, from containers' namespaces, and of nftables."""

import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairlead.kernel import nft, route
from fairlead.kernel.events import Event, Events
from fairlead.kernel.netlink import Netlink
from tests.kernel.room import Room, descriptors, run

FAMILIES = pytest.mark.parametrize("family", [4, 6])
INTERFACE = {4: "10.7.0.2/24", 6: "fd07::2/64"}
DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}
GATEWAY = {4: "10.7.0.1", 6: "fd07::1"}


@pytest.fixture
def events(room: Room) -> Iterator[Events]:
    made = Events(room.fd)
    yield made
    made.close()


def _wait(events: Events, wanted: Callable[[Event], bool]) -> list[Event]:
    """Everything read until something wanted has come; waits for the sockets, not for time."""
    seen: list[Event] = []
    until = time.monotonic() + 5
    while not any(map(wanted, seen)):
        assert select.select(events.filenos, (), (), until - time.monotonic())[0], f"nothing more came after {seen}"
        seen += events.read()
    return seen


def test_nothing_happened(events: Events) -> None:
    assert events.read() == []


def test_links_come_change_and_go(events: Events, nl: Netlink) -> None:
    nl.do(route.new_bridge("br0"))
    (event, *_) = _wait(events, lambda e: e.name == "br0")
    assert (event.kind, event.deleted, event.nsid, event.name) == ("link", False, None, "br0")
    nl.do(route.set_link("br0", up=True))
    _wait(events, lambda e: e.kind == "link" and e.link is not None and e.link.up)
    nl.do(route.del_link("br0"))
    gone = [e for e in _wait(events, lambda e: e.deleted and e.kind == "link") if e.deleted and e.kind == "link"]
    assert [(e.index, e.name) for e in gone] == [(event.index, "br0")]


def test_a_port_that_leaves_its_bridge_is_not_gone(events: Events, room: Room, nl: Netlink) -> None:
    nl.do(route.new_bridge("br0"), *route.new_veth("v0", "v1", room.fd))
    index = route.link(nl, "br0").index
    nl.do(route.set_link("v0", master=index))
    events.read()
    run("ip", "link", "set", "v0", "nomaster")
    seen = _wait(events, lambda e: e.name == "v0" and e.link is not None and not e.link.master)
    assert not [e for e in seen if e.kind == "link" and e.deleted]


def test_a_changed_port_flag_is_an_event(events: Events, room: Room, nl: Netlink) -> None:
    nl.do(route.new_bridge("br0"))
    nl.do(*route.new_veth("v0", "v1", room.fd, master=route.link(nl, "br0").index, isolated=True))
    events.read()
    run("bridge", "link", "set", "dev", "v0", "isolated", "off")
    seen = _wait(events, lambda e: e.kind == "link" and e.name == "v0")
    assert [e.link.isolated for e in seen if e.link and e.name == "v0"] == [False]
    run("bridge", "link", "set", "dev", "v0", "isolated", "on")
    seen = _wait(events, lambda e: e.kind == "link" and e.name == "v0")
    assert [e.link.isolated for e in seen if e.link and e.name == "v0"] == [True]


@FAMILIES
def test_addresses_and_routes_come_and_go(events: Events, room: Room, nl: Netlink, family: int) -> None:
    nl.do(*route.new_veth("v0", "v1", room.fd), route.set_link("v1", up=True))
    index = route.link(nl, "v0").index
    events.read()
    run("ip", "addr", "add", INTERFACE[family], "dev", "v0", *(("nodad",) if family == 6 else ()))
    run("ip", f"-{family}", "route", "add", "default", "via", GATEWAY[family])
    seen = _wait(events, lambda e: e.kind == "route" and e.name == DEFAULT[family])
    seen += _wait(events, lambda e: e in seen or e.kind == "address") if not [e for e in seen if e.kind == "address"] else []
    assert ("address", False, None, index, INTERFACE[family]) in {(e.kind, e.deleted, e.nsid, e.index, e.name) for e in seen}
    run("ip", f"-{family}", "route", "del", "default")
    _wait(events, lambda e: e.kind == "route" and e.deleted and e.name == DEFAULT[family])
    run("ip", "addr", "del", INTERFACE[family], "dev", "v0")
    _wait(events, lambda e: e.kind == "address" and e.deleted and e.name == INTERFACE[family])


@FAMILIES
def test_a_container_that_a_veth_leads_into_is_heard(events: Events, room: Room, nl: Netlink, family: int) -> None:
    name, fd = room.child()
    nl.do(*route.new_veth("v0", "eth0", fd))
    nsid = route.nsid_of(nl, fd)
    assert nsid is not None
    run("ip", "-n", name, "link", "set", "eth0", "up")
    run("ip", "-n", name, "addr", "add", INTERFACE[family], "dev", "eth0", *(("nodad",) if family == 6 else ()))
    seen = _wait(events, lambda e: e.kind == "address" and e.name == INTERFACE[family])
    assert {e.nsid for e in seen if e.kind == "address" and e.name == INTERFACE[family]} == {nsid}
    run("ip", "-n", name, f"-{family}", "route", "add", "default", "via", GATEWAY[family])
    _wait(events, lambda e: (e.kind, e.deleted, e.nsid, e.name) == ("route", False, nsid, DEFAULT[family]))
    run("ip", "-n", name, "link", "set", "eth0", "down")
    _wait(events, lambda e: e.kind == "link" and e.nsid == nsid and e.name == "eth0" and e.link is not None and not e.link.up)


def test_a_namespace_without_a_veth_is_heard_once_it_has_a_number(events: Events, room: Room, nl: Netlink) -> None:
    name, fd = room.child()
    run("ip", "-n", name, "link", "add", "unheard", "type", "ifb")
    nl.do(route.new_nsid(fd, 33))
    run("ip", "-n", name, "link", "add", "heard", "type", "ifb")
    seen = _wait(events, lambda e: e.name == "heard")
    assert {(e.nsid, e.name) for e in seen} == {(33, "heard")}


def test_a_container_that_dies_takes_its_link_along(events: Events, room: Room, nl: Netlink) -> None:
    path = room.new_path()
    name = path.rpartition("/")[2]
    run("ip", "netns", "add", name)
    with Path(path).open(encoding="ascii") as file:
        nl.do(*route.new_veth("v0", "eth0", file.fileno()))
    run("ip", "netns", "del", name)
    _wait(events, lambda e: e.kind == "link" and e.deleted and e.name == "v0" and e.nsid is None)


def test_own_transactions_are_told_from_others(events: Events, nft_nl: Netlink) -> None:
    nft.run("table inet t { set s { type ipv4_addr; }\n chain c { accept; }\n }")
    assert [(e.kind, e.name, e.ours, e.deleted) for e in events.read()] == [("nft", "inet t", True, False)]
    nft.change(nft_nl, [nft.Change("inet", "t", "s", [nft.Element(b"\x01\x02\x03\x04")])])
    assert [(e.name, e.ours, e.deleted) for e in events.read()] == [("inet t", True, False)]
    with subprocess.Popen(["nft", "flush chain inet t c; add table ip other; delete element inet t s { 1.2.3.4 }"]) as other:
        other.wait(10)
    seen = events.read()
    assert {(e.name, e.ours, e.deleted) for e in seen} == {("inet t", False, True), ("ip other", False, False)}
    assert {e.pid for e in seen} == {other.pid}
    run("nft", "delete", "table", "inet", "t")
    assert [(e.name, e.ours, e.deleted) for e in events.read()] == [("inet t", False, True)]


def test_programs_that_are_taken_off(events: Events, nl: Netlink) -> None:
    """What comes is none: it is there, or the next comparison finds that it is not."""
    nl.do(*route.new_ifb("ifb5"))
    index = route.link(nl, "ifb5").index
    nl.do(route.new_clsact(index))
    run("tc", "filter", "add", "dev", "ifb5", "ingress", "pref", "7", "u32", "match", "u32", "0", "0")
    run("tc", "filter", "add", "dev", "ifb5", "ingress", "pref", "8", "bpf", "bytecode", "1,6 0 0 0")
    assert not [e for e in events.read() if e.kind == "program"]
    for pref in (7, 8):
        run("tc", "filter", "del", "dev", "ifb5", "ingress", "pref", str(pref))
    run("tc", "qdisc", "del", "dev", "ifb5", "clsact")
    seen = [e for e in events.read() if e.kind == "program"]
    assert [(e.index, e.name, e.deleted) for e in seen] == [(index, "bpf", True), (index, "clsact", True)]


def test_who_is_behind_a_tunnel(events: Events, nl: Netlink) -> None:
    nl.do(*route.new_vxlan("vx0", route.Vxlan(7, 4789, "192.0.2.1"), mac="02:00:00:00:00:01", mtu=1400, group=7))
    index = route.link(nl, "vx0").index
    events.read()
    run("bridge", "fdb", "append", "02:00:5e:00:53:01", "dev", "vx0", "dst", "192.0.2.99")
    (event,) = (e for e in events.read() if e.kind == "neighbour")
    assert event.neighbour.remote
    assert (event.index, event.neighbour.address, event.deleted) == (index, "192.0.2.99", False)
    assert route.name_of(index) == "vx0"
    run("bridge", "fdb", "delete", "02:00:5e:00:53:01", "dev", "vx0", "dst", "192.0.2.99")
    assert [e.deleted for e in events.read() if e.kind == "neighbour"] == [True]
    assert not route.name_of(99999)


@pytest.mark.usefixtures("room")
def test_a_refused_transaction_is_no_event(events: Events) -> None:
    done = subprocess.run(["nft", "add table inet t; delete table inet none"], check=False, capture_output=True)
    assert done.returncode
    assert events.read() == []


@pytest.mark.parametrize("which", ["_route", "_nft"])
def test_what_the_kernel_had_to_drop_is_an_event(events: Events, nl: Netlink, which: str) -> None:
    getattr(events, which).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    nl.do(*route.new_ifb("ifb5"))
    nl.do(*(route.set_link("ifb5", alias=str(n)) for n in range(100)))
    nft.run("\n".join(f"add table inet t{n}" for n in range(100)))
    assert "overrun" in {e.kind for e in events.read()}
    getattr(events, which).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    events.read()
    nl.do(route.set_link("ifb5", alias="after"))
    nft.run("add table inet after")
    assert {"link", "nft"} <= {e.kind for e in events.read()}


def test_close_leaves_no_descriptor(room: Room) -> None:
    before = descriptors()
    made = Events(room.fd)
    assert descriptors() == before + 3
    made.close()
    assert descriptors() == before
