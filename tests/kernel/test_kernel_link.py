import errno
import threading
from dataclasses import replace

import pytest

from fairlead.kernel import netns, route
from fairlead.kernel.errors import Exists, Gone, KernelError, Unsettled
from fairlead.kernel.netlink import Message, Netlink
from fairlead.kernel.route import LinkInfo
from tests.kernel.room import Room, descriptors, ip, run

MAC = "02:00:00:00:00:05"


def _bridge(nl: Netlink, name: str = "br0") -> int:
    nl.do(route.new_bridge(name, mac="02:00:00:00:00:01", mtu=1400, up=True))
    found = route.link(nl, name)
    assert found
    return found.index


def _named(name: str, inside: str = "") -> dict:
    return ip("link", "show", name, inside=inside)[0]


def _settled(row: LinkInfo | None) -> LinkInfo:
    """Without what changes by itself a while after a link came up."""
    assert row
    return replace(row, running=False, flags=0)


def test_a_bridge_has_what_was_asked_for(nl: Netlink) -> None:
    nl.do(route.new_bridge("br0", mac="02:00:00:00:00:01", mtu=1400, group=7, up=True, snooping=False))
    row = _named("br0")
    data = row["linkinfo"]["info_data"]
    assert (row["address"], row["mtu"], row["group"], "UP" in row["flags"]) == ("02:00:00:00:00:01", 1400, "7", True)
    assert (data["stp_state"], data["forward_delay"], data["mcast_snooping"]) == (0, 0, 0)


def test_a_bridge_without_wishes_is_down_and_snoops(nl: Netlink) -> None:
    nl.do(route.new_bridge("br0"))
    row = _named("br0")
    assert "UP" not in row["flags"]
    assert row["linkinfo"]["info_data"]["mcast_snooping"] == 1


@pytest.mark.parametrize("snooping", [False, True])
@pytest.mark.parametrize("learning", [False, True])
def test_a_bridge_snoops_and_learns_as_told(nl: Netlink, snooping: bool, learning: bool) -> None:
    nl.do(route.new_bridge("br0", snooping=snooping, reserved_learning=learning))
    for wanted in ((snooping, learning), (not snooping, learning), (not snooping, not learning)):
        nl.do(route.set_bridge("br0", snooping=wanted[0], reserved_learning=wanted[1]))
        data = _named("br0")["linkinfo"]["info_data"]
        assert (data["mcast_snooping"], data["no_linklocal_learn"]) == (wanted[0], not wanted[1])
        row = route.link(nl, "br0")
        assert row
        assert (row.snooping, row.reserved_learning) == wanted
    nl.do(route.set_bridge("br0", snooping=snooping))
    row = route.link(nl, "br0")
    assert row
    assert (row.snooping, row.reserved_learning) == (snooping, not learning), "only what was given"


def test_what_is_no_bridge_neither_snoops_nor_learns(room: Room, nl: Netlink) -> None:
    nl.do(*route.new_veth("v0", "v1", room.fd))
    row = route.link(nl, "v0")
    assert row
    assert (row.snooping, row.reserved_learning) == (False, False)


def test_an_interface_takes_part_in_arp_or_not(room: Room, nl: Netlink) -> None:
    nl.do(*route.new_veth("v0", "v1", room.fd, arp=False))
    assert ("NOARP" in _named("v0")["flags"], "NOARP" in _named("v1")["flags"]) == (True, False)
    for arp in (True, False):
        nl.do(route.set_link("v0", arp=arp, mtu=1400))
        row = route.link(nl, "v0")
        assert row
        assert (row.arp, row.up, "NOARP" in _named("v0")["flags"]) == (arp, True, not arp)
        nl.do(route.set_link("v0", mtu=1300))
        assert ("NOARP" in _named("v0")["flags"]) is not arp


def test_a_veth_is_born_where_it_belongs(room: Room, nl: Netlink) -> None:
    other, fd = room.child()
    bridge = _bridge(nl)
    nl.do(
        *route.new_veth(
            "v0", "eth0", fd, master=bridge, mtu=1400, mac=MAC, host_mac="02:00:00:00:00:09", host_alias="web", group=5
        )
    )
    host, inner = _named("v0"), _named("eth0", other)
    assert (host["master"], host["mtu"], host["ifalias"], host["group"], host["address"]) == (
        "br0",
        1400,
        "web",
        "5",
        "02:00:00:00:00:09",
    )
    assert "UP" in host["flags"]
    assert (inner["address"], inner["mtu"], inner["group"], "UP" in inner["flags"]) == (MAC, 1400, "default", False)
    row = route.link(nl, "v0")
    assert row
    assert (row.peer_index, row.peer_nsid) == (inner["ifindex"], route.nsid_of(nl, fd))


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("hairpin", [False, True])
def test_a_veth_is_a_port_with_its_flags(room: Room, nl: Netlink, isolated: bool, hairpin: bool) -> None:
    _, fd = room.child()
    nl.do(*route.new_veth("v0", "eth0", fd, master=_bridge(nl), isolated=isolated, hairpin=hairpin))
    port = _named("v0")["linkinfo"]["info_slave_data"]
    assert (port["isolated"], port["hairpin"]) == (isolated, hairpin)
    row = route.link(nl, "v0")
    assert row
    assert (row.slave_kind, row.isolated, row.hairpin) == ("bridge", isolated, hairpin)


def test_the_host_end_makes_no_link_local_address(room: Room, nl: Netlink) -> None:
    _, fd = room.child()
    nl.do(*route.new_veth("v0", "eth0", fd, master=_bridge(nl)))
    with Netlink(netns=fd) as inner:
        inner.do(route.set_link("eth0", up=True))
    assert _named("v0")["inet6_addr_gen_mode"] == "none"
    assert not [a for row in ip("addr", "show", "v0") for a in row["addr_info"]]


def test_a_container_without_ipv6_makes_no_link_local_address(room: Room, nl: Netlink) -> None:
    other, fd = room.child()
    nl.do(*route.new_veth("v0", "eth0", fd))
    with Netlink(netns=fd) as inner:
        inner.do(route.set_link("eth0", link_local=False), route.set_link("eth0", up=True))
    row = ip("addr", "show", "eth0", inside=other)[0]
    assert "LOWER_UP" in row["flags"]
    assert row["addr_info"] == []


def test_an_ifb_is_up_and_has_no_address(nl: Netlink) -> None:
    nl.do(*route.new_ifb("ifb5", mtu=1400, group=3))
    row = ip("addr", "show", "ifb5")[0]
    assert (row["mtu"], row["group"], row["addr_info"], "UP" in row["flags"]) == (1400, "3", [], True)


def test_set_link_changes_what_is_given_and_nothing_else(room: Room, nl: Netlink) -> None:
    bridge = _bridge(nl)
    nl.do(*route.new_veth("v0", "v1", room.fd, host_alias="old"))
    row = route.link(nl, "v0")
    assert row
    nl.do(route.set_link(row.index, mtu=1300, mac=MAC, group=9, master=bridge))
    changed = _named("v0")
    assert (changed["mtu"], changed["address"], changed["group"], changed["master"]) == (1300, MAC, "9", "br0")
    assert (changed["ifalias"], "UP" in changed["flags"]) == ("old", True)
    nl.do(route.set_link("v0", up=False), route.set_link(row.index, name="renamed", alias="", master=0))
    changed = _named("renamed")
    assert ("UP" in changed["flags"], "master" in changed, "ifalias" in changed) == (False, False, False)
    with pytest.raises(KernelError, match="by its index"):
        route.set_link("renamed", name="again")


def test_a_link_moves_to_another_namespace(room: Room, nl: Netlink) -> None:
    other, fd = room.child()
    nl.do(*route.new_ifb("ifb5"))
    nl.do(route.set_link("ifb5", netns_fd=fd))
    assert route.link(nl, "ifb5") is None
    assert _named("ifb5", other)


def test_bridge_port_changes_what_is_given(room: Room, nl: Netlink) -> None:
    nl.do(*route.new_veth("v0", "v1", room.fd, master=_bridge(nl), isolated=True))
    nl.do(
        route.bridge_port(
            "v0", isolated=False, learning=False, unicast_flood=False, mcast_flood=False, bcast_flood=False, neigh_suppress=True
        )
    )
    port = _named("v0")["linkinfo"]["info_slave_data"]
    seen = (port["isolated"], port["learning"], port["flood"], port["mcast_flood"], port["bcast_flood"], port["neigh_suppress"])
    assert seen == (False, False, False, False, False, True)
    with pytest.raises(KernelError, match="change the bridge port br0"):
        nl.do(route.bridge_port("br0", isolated=True))


def test_every_row_agrees_with_ip(room: Room, nl: Netlink) -> None:
    _, fd = room.child()
    bridge = _bridge(nl)
    for i in range(70):  # more than one answer of the kernel holds
        nl.do(*route.new_veth(f"v{i}", f"e{i}", fd, master=bridge, group=i, isolated=bool(i % 2), host_alias=f"alias {i}"))
    names = {row["ifname"]: row["ifindex"] for row in ip("link")}
    expected = {
        (
            row["ifindex"],
            row["ifname"],
            row.get("linkinfo", {}).get("info_kind", ""),
            row["address"],
            row["mtu"],
            "UP" in row["flags"],
            names.get(row.get("master"), 0),
            row.get("ifalias", ""),
            0 if row["group"] == "default" else int(row["group"]),
            row.get("link_index", 0) or 0,
            row.get("link_netnsid"),
            row.get("linkinfo", {}).get("info_slave_data", {}).get("isolated", False),
        )
        for row in ip("link")
    }
    rows = route.links(nl)
    found = {
        (r.index, r.name, r.kind, r.mac, r.mtu, r.up, r.master, r.alias, r.group, r.peer_index, r.peer_nsid, r.isolated)
        for r in rows
    }
    assert found == expected
    assert len(rows) == 72
    assert [_settled(route.link(nl, row.index)) for row in rows] == [_settled(row) for row in rows]


def test_a_listing_is_whole_though_others_change_links_meanwhile(room: Room, nl: Netlink) -> None:
    for i in range(60):
        nl.do(*route.new_ifb(f"stay{i}"))
    stop = threading.Event()

    def churn() -> None:
        with Netlink(netns=room.fd) as mine:
            while not stop.is_set():
                mine.do(*route.new_veth("come", "go", room.fd))
                mine.do(route.del_link("come"))

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(100):
            try:
                names = [row.name for row in route.links(nl)]
            except Unsettled:
                continue
            assert len(names) == len(set(names))
            assert {f"stay{i}" for i in range(60)} <= set(names)
    finally:
        stop.set()
        thread.join(10)


def test_a_group_is_removed_at_once_and_nothing_else(room: Room, nl: Netlink) -> None:
    for i in range(20):
        nl.do(*route.new_veth(f"v{i}", f"p{i}", room.fd, group=77))
    nl.do(*route.new_ifb("stays", group=78))
    nl.do(route.del_group(77))
    assert {row["ifname"] for row in ip("link")} == {"lo", "stays"}
    with pytest.raises(Gone):
        nl.do(route.del_group(77))


def test_del_link_by_name_and_by_index(nl: Netlink) -> None:
    nl.do(*route.new_ifb("a"), *route.new_ifb("b"))
    found = route.link(nl, "b")
    assert found
    nl.do(route.del_link("a"), route.del_link(found.index))
    assert [row["ifname"] for row in ip("link")] == ["lo"]


def test_refusals_say_what_was_being_done_and_why(nl: Netlink) -> None:
    nl.do(route.new_bridge("br0"))
    with pytest.raises(Exists, match="make bridge interface br0: File exists"):
        nl.do(route.new_bridge("br0"))
    with pytest.raises(Gone, match="remove none"):
        nl.do(route.del_link("none"))
    with pytest.raises(Gone, match="change interface 4711"):
        nl.do(route.set_link(4711, up=True))
    with pytest.raises(KernelError, match="mtu"):
        nl.do(route.set_link("br0", mtu=10))
    assert route.link(nl, "none") is None
    assert route.link(nl, 4711) is None


def test_of_several_messages_all_are_tried_and_all_failures_told(nl: Netlink) -> None:
    messages = (
        route.new_bridge("br0"),
        route.del_link("none"),
        route.new_bridge("br1"),
        route.new_bridge("br0"),
        route.new_bridge("br2"),
    )
    with pytest.raises(Gone) as caught:
        nl.do(*messages)
    assert [(type(e), e.index, e.errno) for e in caught.value.failures] == [(Gone, 1, errno.ENODEV), (Exists, 3, errno.EEXIST)]
    assert {row["ifname"] for row in ip("link")} == {"lo", "br0", "br1", "br2"}


def test_accepted_refusals_are_success(nl: Netlink) -> None:
    nl.do(route.new_bridge("br0"))
    nl.do(route.new_bridge("br0").accepting(errno.EEXIST), route.del_link("none").accepting(errno.ENODEV))


def test_more_messages_than_one_system_call_takes(nl: Netlink) -> None:
    nl.do(route.new_bridge("br0"))
    nl.do(*(route.set_link("br0", alias=f"number {i}") for i in range(1000)))
    assert _named("br0")["ifalias"] == "number 999"
    with pytest.raises(Gone) as caught:
        nl.do(*(route.set_link("br0" if i != 700 else "none", alias="x") for i in range(1000)))
    assert caught.value.index == 700


def test_a_socket_works_on_after_a_refusal_and_an_unread_answer(nl: Netlink) -> None:
    nl.send((Message(18, 0, bytes(16), "list the interfaces and walk away"),), 0x304)
    with pytest.raises(Gone):
        nl.do(route.del_link("none"))
    while True:
        try:
            list(nl.receive("drain"))
        except KernelError:
            break
    assert [row.name for row in route.links(nl)] == ["lo"]


def test_a_socket_opened_inside_stays_there(room: Room) -> None:
    other, fd = room.child()
    with Netlink(netns=fd) as inner:
        inner.do(*route.new_ifb("ifb9"))
    assert "ifb9" in {row["ifname"] for row in ip("link", inside=other)}
    assert "ifb9" not in {row["ifname"] for row in ip("link")}


def test_numbers_of_namespaces(room: Room, nl: Netlink) -> None:
    _, fd = room.child()
    assert route.nsid_of(nl, fd) is None
    nl.do(route.new_nsid(fd, 42))
    assert route.nsid_of(nl, fd) == 42
    with pytest.raises(Exists):
        nl.do(route.new_nsid(fd))
    _, second = room.child()
    nl.do(route.new_nsid(second))
    assert route.nsid_of(nl, second) not in {None, 42}


def test_no_descriptor_is_left_behind(room: Room) -> None:
    before = descriptors()
    for _ in range(5):
        with Netlink(netns=room.fd) as mine:
            route.links(mine)
        netns.cookie(room.fd)
        with pytest.raises(KernelError):
            netns.open_path("/dev/null")
    assert descriptors() == before


def test_the_names_that_errors_use_are_those_of_ip(nl: Netlink) -> None:
    run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
    with pytest.raises(KernelError, match="change v0"):
        nl.do(route.set_link("v0", master=1))
