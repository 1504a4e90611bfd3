"""Addresses, routes and neighbours: both families, checked with ip."""

import pytest

from fairlead.kernel import route
from fairlead.kernel.errors import Exists, Gone, KernelError
from fairlead.kernel.netlink import Netlink
from tests.kernel.room import Room, ip, run

FAMILIES = pytest.mark.parametrize("family", [4, 6])
HOST = {4: "10.5.0.2", 6: "fd05::2"}
GATEWAY = {4: "10.5.0.1", 6: "fd05::1"}
LENGTH = {4: 24, 6: 64}
NETWORK = {4: "10.5.0.0/24", 6: "fd05::/64"}
DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}
ELSEWHERE = {4: "192.0.2.0/24", 6: "2001:db8::/32"}
FOREIGN = {4: "198.51.100.1", 6: "2001:db8:ffff::1"}
MAC = "02:00:00:00:00:09"


@pytest.fixture
def index(room: Room, nl: Netlink) -> int:
    """A veth that is up, with its other end too."""
    nl.do(*route.new_veth("v0", "v1", room.fd), route.set_link("v1", link_local=False), route.set_link("v1", up=True))
    found = route.link(nl, "v0")
    assert found
    return found.index


def _addresses(family: int) -> list[dict]:
    return [a for row in ip(f"-{family}", "addr", "show", "v0") for a in row.get("addr_info", ())]


def _routes(family: int) -> dict[str, dict]:
    rows = {row["dst"]: row for row in ip(f"-{family}", "route", "show", "table", "main")}
    return {dst: row for dst, row in rows.items() if not dst.startswith("fe80")}


def _interface(family: int) -> str:
    return f"{HOST[family]}/{LENGTH[family]}"


@FAMILIES
def test_an_address_is_usable_at_once(nl: Netlink, index: int, family: int) -> None:
    nl.do(route.new_address(index, _interface(family)))
    (row,) = _addresses(family)
    assert (row["local"], row["prefixlen"], row["scope"], row.get("tentative", False)) == (
        HOST[family],
        LENGTH[family],
        "global",
        False,
    )
    assert NETWORK[family] in _routes(family)


@FAMILIES
def test_an_address_without_its_network_route(nl: Netlink, index: int, family: int) -> None:
    nl.do(route.new_address(index, _interface(family), prefix_route=False))
    assert [row["local"] for row in _addresses(family)] == [HOST[family]]
    assert _routes(family) == {}


def test_an_address_may_ask_its_neighbours_first(nl: Netlink, index: int) -> None:
    nl.do(route.new_address(index, _interface(6), nodad=False))
    (row,) = [row for row in route.addresses(nl) if row.address == HOST[6]]
    assert row.flags & route.address.TENTATIVE


@FAMILIES
def test_addresses_are_listed_and_removed(nl: Netlink, index: int, family: int) -> None:
    nl.do(*(route.new_address(index, _interface(each)) for each in (4, 6)))
    (row,) = route.addresses(nl, index, family)
    assert (row.index, row.address, row.length, row.family, row.interface) == (
        index, HOST[family], LENGTH[family], family, _interface(family),
    )  # fmt: skip
    assert {r.address for r in route.addresses(nl)} == {HOST[4], HOST[6]}
    nl.do(route.del_address(index, _interface(family)))
    assert _addresses(family) == []
    assert [r.address for r in route.addresses(nl)] == [HOST[10 - family]]


@FAMILIES
def test_an_address_that_is_there_or_not(nl: Netlink, index: int, family: int) -> None:
    nl.do(route.new_address(index, _interface(family)))
    with pytest.raises(Exists, match=f"add address {_interface(family)} to interface {index}"):
        nl.do(route.new_address(index, _interface(family)))
    nl.do(route.del_address(index, _interface(family)))
    with pytest.raises(Gone):
        nl.do(route.del_address(index, _interface(family)))
    with pytest.raises(Gone):
        nl.do(route.new_address(4711, _interface(family)))


@pytest.mark.parametrize(
    "interface", ["", "10.0.0.1/33", "fd00::1/129", "10.0.0/24", "::1::/64", "10.0.0.1/x", "10.0.0.1/-1", "10.0.0.1/"]
)
def test_what_is_no_address(interface: str) -> None:
    with pytest.raises(KernelError, match="as an IP"):
        route.new_address(1, interface)


@FAMILIES
def test_a_default_route(nl: Netlink, index: int, family: int) -> None:
    nl.do(route.new_address(index, _interface(family)), route.new_route(DEFAULT[family], GATEWAY[family], index))
    row = _routes(family)["default"]
    assert (row["gateway"], row["dev"], row["protocol"]) == (GATEWAY[family], "v0", "static")
    (found,) = [r for r in route.routes(nl, family) if r.dst == DEFAULT[family]]
    assert (found.via, found.index, found.family, found.protocol, found.table) == (GATEWAY[family], index, family, 4, 254)
    nl.do(route.del_route(DEFAULT[family], GATEWAY[family], index))
    assert "default" not in _routes(family)
    with pytest.raises(Gone):
        nl.do(route.del_route(DEFAULT[family], GATEWAY[family], index))


@FAMILIES
def test_a_route_with_every_wish(nl: Netlink, index: int, family: int) -> None:
    nl.do(route.new_address(index, _interface(family)))
    wish = route.new_route(ELSEWHERE[family], FOREIGN[family], index, protocol=77, metric=55, onlink=True, source=HOST[family])
    nl.do(wish)
    row = _routes(family)[ELSEWHERE[family]]
    assert (row["gateway"], row["protocol"], row["metric"], row["prefsrc"]) == (FOREIGN[family], "77", 55, HOST[family])
    assert "onlink" in row["flags"]
    (found,) = [r for r in route.routes(nl) if r.dst == ELSEWHERE[family]]
    assert (found.protocol, found.metric, found.source, found.onlink) == (77, 55, HOST[family], True)
    with pytest.raises(Exists):
        nl.do(wish)
    with pytest.raises(KernelError, match=r"nreachable|No route to host|invalid gateway"):
        nl.do(route.new_route(ELSEWHERE[family], FOREIGN[family], index, metric=56))


@FAMILIES
def test_a_route_without_a_gateway_and_its_replacement(nl: Netlink, index: int, family: int) -> None:
    nl.do(route.new_address(index, _interface(family)), route.new_route(ELSEWHERE[family], index=index))
    assert "gateway" not in _routes(family)[ELSEWHERE[family]]
    nl.do(route.new_route(ELSEWHERE[family], GATEWAY[family], index, replace=True))
    assert _routes(family)[ELSEWHERE[family]]["gateway"] == GATEWAY[family]


@FAMILIES
def test_a_route_in_another_table(nl: Netlink, index: int, family: int) -> None:
    assert route.routes(nl, family, table=1000) == []
    nl.do(route.new_address(index, _interface(family)), route.new_route(ELSEWHERE[family], GATEWAY[family], index, table=1000))
    assert ELSEWHERE[family] not in _routes(family)
    assert [row["dst"] for row in ip(f"-{family}", "route", "show", "table", "1000")] == [ELSEWHERE[family]]
    assert [(r.dst, r.table) for r in route.routes(nl, family, table=1000)] == [(ELSEWHERE[family], 1000)]
    nl.do(route.del_route(ELSEWHERE[family], table=1000))
    assert route.routes(nl, family, table=1000) == []


@FAMILIES
def test_a_route_of_several_hops_gives_its_first(nl: Netlink, index: int, family: int) -> None:
    nl.do(route.new_address(index, _interface(family)))
    second = GATEWAY[family] + "1"
    run("ip", f"-{family}", "route", "add", ELSEWHERE[family], "nexthop", "via", GATEWAY[family], "nexthop", "via", second)
    (found,) = [r for r in route.routes(nl, family) if r.dst == ELSEWHERE[family]]
    assert (found.via, found.index) == (GATEWAY[family], index)


def test_an_ipv4_route_over_an_ipv6_gateway(nl: Netlink, index: int) -> None:
    nl.do(route.new_address(index, _interface(6)), route.new_route(ELSEWHERE[4], GATEWAY[6], index))
    assert _routes(4)[ELSEWHERE[4]]["via"]["host"] == GATEWAY[6]
    assert [r.via for r in route.routes(nl, 4)] == [GATEWAY[6]]


def test_routes_of_both_families_without_local_ones(nl: Netlink, index: int) -> None:
    nl.do(*(route.new_address(index, _interface(family)) for family in (4, 6)))
    assert {r.dst for r in route.routes(nl)} - {"fe80::/64"} == {NETWORK[4], NETWORK[6]}


@FAMILIES
def test_a_neighbour_for_good(nl: Netlink, index: int, family: int) -> None:
    nl.do(route.new_address(index, _interface(family)), route.new_neighbour(index, GATEWAY[family], MAC))
    (row,) = ip(f"-{family}", "neigh", "show", "dev", "v0", "nud", "permanent")
    assert (row["dst"], row["lladdr"]) == (GATEWAY[family], MAC)
    (found,) = [r for r in route.neighbours(nl, family) if r.index == index and r.address == GATEWAY[family]]
    assert (found.mac, found.state, found.family) == (MAC, route.neighbour.PERMANENT, family)
    nl.do(route.new_neighbour(index, GATEWAY[family], "02:00:00:00:00:0a"))
    assert ip(f"-{family}", "neigh", "show", "dev", "v0", "nud", "permanent")[0]["lladdr"] == "02:00:00:00:00:0a"
    nl.do(route.del_neighbour(index, GATEWAY[family]))
    assert ip(f"-{family}", "neigh", "show", "dev", "v0", "nud", "permanent") == []
    assert GATEWAY[family] not in {r.address for r in route.neighbours(nl) if r.state == route.neighbour.PERMANENT}


def test_a_forwarding_entry_of_a_bridge(nl: Netlink, index: int) -> None:
    nl.do(route.new_bridge("br0", up=True))
    nl.do(route.set_link(index, master=route_index(nl, "br0")))
    nl.do(route.fdb_append(index, MAC))
    assert MAC in run("bridge", "fdb", "show", "dev", "v0")
    (found,) = [row for row in route.fdb(nl) if row.mac == MAC]
    assert (found.index, found.family, found.address, found.master) == (index, 0, None, route_index(nl, "br0"))
    nl.do(route.fdb_delete(index, MAC))
    assert MAC not in run("bridge", "fdb", "show", "dev", "v0")


@FAMILIES
def test_a_mac_behind_several_hosts_of_a_tunnel(nl: Netlink, index: int, family: int) -> None:
    nl.do(route.new_address(index, _interface(family)))
    run("ip", "link", "add", "vx0", "type", "vxlan", "id", "7", "dstport", "4789", "local", HOST[family], "nolearning")
    tunnel, zero = route_index(nl, "vx0"), "00:00:00:00:00:00"
    second = GATEWAY[family] + "1"
    nl.do(route.fdb_append(tunnel, zero, GATEWAY[family]), route.fdb_append(tunnel, zero, second))
    assert {row.address for row in route.fdb(nl) if row.index == tunnel} == {GATEWAY[family], second}
    assert run("bridge", "fdb", "show", "dev", "vx0").count(zero) == 2
    nl.do(route.fdb_delete(tunnel, zero, second))
    assert {row.address for row in route.fdb(nl) if row.index == tunnel} == {GATEWAY[family]}


def route_index(nl: Netlink, name: str) -> int:
    found = route.link(nl, name)
    assert found
    return found.index
