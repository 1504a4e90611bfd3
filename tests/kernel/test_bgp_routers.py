"""Nodes and the routers around them: FRR and GoBGP learn of pods, and pods reach the hosts behind them."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from fairlead.model.secret import SecretKeyRef
from tests.kernel.speakers import Cluster, Frr, Machine, Switch
from tests.kernel.test_bgp_mesh import configure, nodes, reaches
from tests.kernel.traffic import Traffic
from tests.net import Namespace, kept
from tests.wait import eventually

DOCS = Path(__file__).parents[2] / "docs/bgp.md"

pytestmark = [pytest.mark.needs("bird"), pytest.mark.needs("vtysh")]

ROUTER4, ROUTER6 = "192.0.2.254", "2001:db8:2::254"
HOST4, HOST6 = "198.51.100.7", "2001:db8:51::7"


def router(cleanup: ExitStack, lan: Switch, text: str, role: str = "frr") -> tuple[Frr, Namespace]:
    """A router on the nodes' subnet, and a host behind it."""
    made = kept(cleanup, Frr(role))
    lan.plug(made, f"{ROUTER4}/24", f"{ROUTER6}/64")
    behind = kept(cleanup, made.host("host", f"{HOST4}/24", f"{HOST6}/64", device="office"))
    made.boot(text)
    return made, behind


def example(language: str, at: int = 0) -> str:
    """A block of the documentation, as it is."""
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(), re.DOTALL)[at]


def test_the_example_of_the_documentation(cleanup: ExitStack, cluster: Cluster, lan: Switch) -> None:
    cluster.apply(example("yaml", 0))
    cluster.apply(example("yaml", 1))
    (a, _), pods = nodes(cleanup, cluster, lan, "ab")
    frr, host = router(cleanup, lan, example("frr"))
    cluster.settle()
    cluster.established()
    assert a.neighbours()["tor"].type == "external"
    eventually(lambda: a.routes()["198.51.100.0/24"] == [ROUTER4])
    eventually(lambda: a.routes(6)["2001:db8:51::/64"] == [ROUTER6])
    blocks = {"10.1.1.0/26": ["192.0.2.1"], "10.1.2.0/26": ["192.0.2.2"]}
    eventually(lambda: frr.routes() == blocks, what="each block by its own node, though both tell of both")
    eventually(lambda: set(frr.routes(6)) == {"fd00:1:0:1::/64", "fd00:1:0:2::/64"})
    pods[0].serve("tcp", 80)
    reaches(host, "10.1.1.5")
    reaches(host, "fd00:1:0:2::5")
    reaches(pods[1], HOST4)
    reaches(pods[1], HOST6)
    answer = host.ask("10.1.1.5", 80)
    assert answer
    assert answer.peer.removeprefix("::ffff:") == HOST4, "nobody translates addresses"
    # What the router is told by whom: a node's own blocks are better there than what it heard of another's.
    told = {one["peerId"]: one.get("metric", 0) for one in frr.told()["10.1.1.0/26"]}
    assert told == {"192.0.2.1": 0, "192.0.2.2": 100}


OPEN = """
router bgp 65001
 bgp router-id 192.0.2.254
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor nodes peer-group
 neighbor nodes remote-as 64512
 {more}
 bgp listen range 192.0.2.0/24 peer-group nodes
 address-family ipv4 unicast
  network 198.51.100.0/24
  network 0.0.0.0/0
  network 10.200.0.0/16
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:51::/64
  neighbor nodes activate
 exit-address-family
"""
"""A router that says and believes everything."""


def peer(cluster: Cluster, name: str, **spec: object) -> None:
    """A BGPPeer."""
    said = "".join(f"  {field}: {value}\n" for field, value in spec.items())
    cluster.apply(f"apiVersion: fairlead.dev/v1\nkind: BGPPeer\nmetadata: {{name: {name}}}\nspec:\n{said}")


def test_communities_and_filters(cleanup: ExitStack, cluster: Cluster, lan: Switch) -> None:
    configure(
        cluster,
        communities="[{name: any, value: '64512:300'}, {name: wide, value: '4200000000:1:2'}]",
        prefixAdvertisements="[{cidr: 10.1.0.0/16, communities: [wide, '64512:20']}, {cidr: 10.1.2.0/24, communities: [any]}]",
    )
    cluster.apply("""
apiVersion: fairlead.dev/v1
kind: BGPFilter
metadata: {name: edge}
spec:
  importV4:
  - {action: Reject, matchOperator: Equal, cidr: 0.0.0.0/0}
  - {action: Accept, matchOperator: In, cidr: 198.51.100.0/24}
  - {action: Reject, source: RemotePeers, interface: "eth*"}
  exportV4:
  - {action: Reject, matchOperator: In, cidr: 10.1.1.0/24, prefixLength: {min: 32}}
  - {action: Accept, matchOperator: NotIn, cidr: 10.1.2.0/24, prefixLength: {max: 26}}
  - {action: Reject, source: RemotePeers}
  exportV6:
  - {action: Reject}
""")
    peer(cluster, "tor", peerIP=ROUTER4, asNumber=65001, filters="[edge]")
    (a, _), _ = nodes(cleanup, cluster, lan, "ab")
    cluster.announce("10.1.1.9/32", "a")
    cluster.announce("10.1.2.128/27", "a")
    cluster.announce("172.30.0.1/32", "a")
    frr, _ = router(cleanup, lan, OPEN.format(more=""))
    cluster.settle()
    cluster.established()
    eventually(lambda: a.routes()["198.51.100.0/24"] == [ROUTER4], what="what the filter lets in")
    counted = a.neighbours()["tor"].routes
    assert {one.family: (one.received, one.accepted) for one in counted} == {"ipv4": (3, 1), "ipv6": (1, 1)}
    eventually(lambda: [one.exported for one in a.neighbours()["tor"].routes] == [3, 0])
    assert set(a.routes()) == {"198.51.100.0/24", "10.1.2.0/26"}
    by_a = {prefix for prefix, paths in frr.told().items() for one in paths if one["peerId"] == "192.0.2.1"}
    assert by_a == {"10.1.1.0/26", "10.1.2.128/27", "172.30.0.1/32"}, "not 10.1.2.0/26, which was heard from b; not 10.1.1.9/32"
    assert frr.told(6).keys() == {"2001:db8:51::/64"}
    seen = frr.vtysh("show bgp ipv4 unicast 10.1.2.128/27 json")
    assert '"64512:20 64512:300"' in seen
    assert '"4200000000:1:2"' in seen
    since = a.neighbours()["tor"].since
    cluster.apply("apiVersion: fairlead.dev/v1\nkind: BGPFilter\nmetadata: {name: edge}\nspec: {importV4: [{action: Reject}]}")
    cluster.settle()
    eventually(lambda: set(a.routes()) == {"10.1.2.0/26"}, what="the rules changed, and count for what was told before")
    eventually(lambda: "10.1.1.9/32" in frr.told())
    assert a.neighbours()["tor"].since == since
    peer(cluster, "tor", peerIP=ROUTER4, asNumber=65001, filters="[gone]")
    cluster.settle()
    eventually(lambda: not frr.told().keys() & {"10.1.1.0/26", "10.1.2.0/26"}, what="no filter of that name: nothing passes")


def test_a_router_some_hops_away_with_all_that_guards_a_session(
    cleanup: ExitStack, cluster: Cluster, lan: Switch, record_figures: list[str]
) -> None:
    """A password (RFC 2385), packets from no farther than two hops (RFC 5082), and BFD over several hops (RFC 5883)."""
    (a,), pods = nodes(cleanup, cluster, lan, "a")
    middle = kept(cleanup, Switch("middle"))
    middle.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
    lan.plug(middle, "192.0.2.9/24", device="nodes")
    core = kept(cleanup, Frr("core"))
    middle.plug(core, "203.0.113.1/24")
    middle.run("ip", "address", "add", "203.0.113.9/24", "dev", "lan")
    a.run("ip", "route", "add", "203.0.113.0/24", "via", "192.0.2.9")
    core.run("ip", "route", "add", "192.0.2.0/24", "via", "203.0.113.9")
    behind = kept(cleanup, core.host("host", f"{HOST4}/24", device="office"))
    core.boot("""
router bgp 65001
 bgp router-id 203.0.113.1
 no bgp ebgp-requires-policy
 neighbor 192.0.2.1 remote-as 64512
 neighbor 192.0.2.1 ttl-security hops 2
 neighbor 192.0.2.1 password horse-battery
 neighbor 192.0.2.1 bfd
 address-family ipv4 unicast
  network 198.51.100.0/24
 exit-address-family
bfd
 peer 192.0.2.1 multihop local-address 203.0.113.1
  receive-interval 100
  transmit-interval 100
  minimum-ttl 60
 exit
exit
""")
    cluster.passwords[SecretKeyRef(name="core", key="md5")] = "horse-battery"
    guards = {"password": "{secretKeyRef: {name: core, key: md5}}", "ttlSecurity": 2, "bfd": "{interval: 100}"}
    peer(cluster, "core", peerIP="203.0.113.1", asNumber=65001, reachableBy="192.0.2.9", **guards)
    cluster.settle()
    cluster.established()
    eventually(lambda: "Up" in a.ask("show bfd sessions"), what="BFD")
    eventually(lambda: a.routes()["198.51.100.0/24"] == ["192.0.2.9"], what="through the gateway to the router")
    eventually(lambda: core.told().keys() >= {"10.1.1.0/26"})
    assert "203.0.113.1/32" not in core.told(), "how the router is reached is the node's own affair"
    # The router between is told by nobody; here it is by hand.
    middle.run("ip", "route", "add", "10.1.0.0/16", "via", "192.0.2.1")
    middle.run("ip", "route", "add", "198.51.100.0/24", "via", "203.0.113.1")
    core.run("ip", "route", "add", "10.1.1.0/26", "via", "203.0.113.9")
    reaches(pods[0], HOST4)
    reaches(behind, "10.1.1.5")
    before = time.monotonic()
    middle.cut(core)
    eventually(lambda: not a.routes()["198.51.100.0/24"], what="BFD sees it")
    record_figures.append(
        f"BGP, a router two hops away that died: forgotten after {time.monotonic() - before:.2f} s (3 x 100 ms)"
    )


def test_a_router_known_by_its_link_alone(cleanup: ExitStack, cluster: Cluster, lan: Switch) -> None:
    """Unnumbered: a session over link-local addresses, IPv4 through an IPv6 next hop (RFC 8950)."""
    (a,), pods = nodes(cleanup, cluster, lan, "a")
    frr, host = router(cleanup, lan, OPEN.format(more=""))
    near, there = (one.link_local() for one in (a, frr))
    frr.vtysh(
        "configure terminal",
        "router bgp 65001",
        f"neighbor {near} remote-as 64512",
        f"neighbor {near} interface eth0",
        f"neighbor {near} capability extended-nexthop",
        "address-family ipv6 unicast",
        f"neighbor {near} activate",
    )
    peer(cluster, "link", peerIP=f"'{there}'", interface="eth0", asNumber=65001, extendedNextHop="true")
    cluster.settle()
    cluster.established()
    eventually(lambda: a.routes()["198.51.100.0/24"] == [ROUTER6], what="IPv4 through an IPv6 neighbour")
    eventually(lambda: a.routes(6)["2001:db8:51::/64"] == [ROUTER6])
    eventually(lambda: frr.routes().keys() >= {"10.1.1.0/26"})
    reaches(pods[0], HOST4)
    reaches(host, "10.1.1.5")
    reaches(host, "fd00:1:0:1::5")


def taken(namespace: Namespace) -> int:
    """Bytes that TCP connections here have received."""
    return sum(int(one) for one in re.findall(r"bytes_received:(\d+)", namespace.run("ss", "-Htni")))


def test_two_routers_and_one_of_them_dies(cleanup: ExitStack, cluster: Cluster, lan: Switch, record_figures: list[str]) -> None:
    """Packets take both ways while there are two, and one within the time that BFD takes."""
    (a, b), pods = nodes(cleanup, cluster, lan, "ab")
    core = kept(cleanup, Switch("core"))
    text = """
router bgp 65001
 bgp router-id 192.0.2.{number}
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 192.0.2.1 remote-as 64512
 neighbor 192.0.2.1 bfd 3 100 100
 neighbor 192.0.2.2 remote-as 64512
 neighbor 192.0.2.2 bfd 3 100 100
 address-family ipv4 unicast
  network 198.51.100.0/24
 exit-address-family
"""
    routers = []
    for number in (251, 252):
        made = kept(cleanup, Frr(f"frr{number}"))
        lan.plug(made, f"192.0.2.{number}/24")
        core.plug(made, f"198.51.100.{number}/24", device="office")
        made.boot(text.format(number=number))
        peer(cluster, f"tor{number}", peerIP=f"192.0.2.{number}", asNumber=65001, bfd="{interval: 100}")
        routers.append(made)
    host = kept(cleanup, Namespace("host"))
    core.plug(host, "198.51.100.7/24")
    host.run("ip", "route", "add", "default", "nexthop", "via", "198.51.100.251", "nexthop", "via", "198.51.100.252")
    cluster.settle()
    cluster.established()
    eventually(lambda: a.routes()["198.51.100.0/24"] == ["192.0.2.251", "192.0.2.252"], what="both ways")
    eventually(lambda: a.ask("show bfd sessions").count("Up") == 2, what="BFD with both")
    eventually(lambda: all(one.routes().keys() >= {"10.1.1.0/26"} for one in routers))
    host.run("ip", "route", "replace", "default", "via", "198.51.100.252")  # its own way back is not what is looked at
    way = a.run("ip", "route", "get", "198.51.100.7", "from", "10.1.1.5", "iif", a.device(pods[0]))
    victim = 0 if "192.0.2.251" in way else 1
    host.run("ip", "route", "replace", "default", "via", f"198.51.100.{252 - victim}")
    reaches(pods[0], HOST4)
    going = Traffic(pods[0], host, HOST4)
    eventually(lambda: taken(host) > 100_000, what="the stream has begun")
    before = time.monotonic()
    lan.cut(routers[victim])
    eventually(lambda: a.routes()["198.51.100.0/24"] == [f"192.0.2.{252 - victim}"], what="the other way alone")
    gone = time.monotonic() - before
    so_far = taken(host)
    eventually(lambda: taken(host) > so_far + 100_000, what="the stream goes on")
    lost = going.stop()
    record_figures.append(f"BGP, one of two routers died: the other way after {gone:.2f} s (by BFD: 3 x 100 ms); {lost}")
    assert lost.bytes_sent == lost.bytes_taken > 0
    assert lost.stream_gap < 3
    del b


def test_a_router_keeps_the_ways_of_a_speaker_that_restarts(
    cleanup: ExitStack, cluster: Cluster, lan: Switch, record_figures: list[str]
) -> None:
    peer(cluster, "tor", peerIP=ROUTER4, asNumber=65001)
    (a,), pods = nodes(cleanup, cluster, lan, "a")
    # A neighbour that is named: FRR forgets one that came by a listen range together with its session.
    listed = OPEN.replace("bgp listen range 192.0.2.0/24 peer-group nodes", "neighbor 192.0.2.1 peer-group nodes")
    frr, host = router(cleanup, lan, listed.format(more=""))
    cluster.settle()
    cluster.established()
    eventually(lambda: "10.1.1.0/26" in frr.routes() and a.routes()["198.51.100.0/24"])
    going = Traffic(host, pods[0], "10.1.1.5")
    eventually(lambda: taken(pods[0]) > 100_000, what="the stream has begun")
    before = time.monotonic()
    a.kill()
    eventually(lambda: a.bird.restarts == 1)
    cluster.established()
    eventually(lambda: "Graceful restart done" in a.log, deadline=40)
    again = time.monotonic() - before
    eventually(lambda: "10.1.1.0/26" in frr.routes() and a.routes()["198.51.100.0/24"])
    lost = going.stop()
    record_figures.append(f"BGP, a speaker killed that a router speaks with: whole again after {again:.1f} s; {lost}")
    assert lost.nothing, lost


def test_one_node_speaks_with_the_router_for_all(cleanup: ExitStack, cluster: Cluster, lan: Switch) -> None:
    """The router hears of every block from one node, and sends each packet to the node whose block it is."""
    cluster.apply("""
apiVersion: fairlead.dev/v1
kind: BGPPeer
metadata: {name: tor}
spec: {node: a, peerIP: 192.0.2.254, asNumber: 65001, keepOriginalNextHop: true}
""")
    (a, b), pods = nodes(cleanup, cluster, lan, "ab")
    frr, host = router(cleanup, lan, OPEN.format(more=""))
    cluster.settle()
    cluster.established()
    assert set(b.neighbours()) == {"a"}
    eventually(lambda: frr.routes() == {"10.1.1.0/26": ["192.0.2.1"], "10.1.2.0/26": ["192.0.2.2"]})
    assert "198.51.100.0/24" not in b.routes(), "what routers say nodes do not pass on"
    b.run("ip", "route", "add", "default", "via", ROUTER4)
    reaches(host, "10.1.2.5")
    reaches(pods[1], HOST4)
    learned = {"198.51.100.0/24", "10.1.2.0/26", "default", "10.200.0.0/16"}
    eventually(lambda: a.routes().keys() == learned, what="what the router says, and the block by its own node")


def test_a_router_of_the_same_as_reflects(cleanup: ExitStack, cluster: Cluster, lan: Switch) -> None:
    configure(cluster, nodeToNodeMesh="false")
    (a, b), pods = nodes(cleanup, cluster, lan, "ab")
    frr, host = router(
        cleanup,
        lan,
        OPEN.format(more="")
        .replace("65001", "64512")
        .replace("network 198.51.100.0/24", "neighbor nodes route-reflector-client\n  network 198.51.100.0/24"),
    )
    peer(cluster, "rr", peerIP=ROUTER4, asNumber=64512)
    cluster.settle()
    cluster.established()
    eventually(lambda: a.routes()["10.1.2.0/26"] == ["192.0.2.2"], what="b's block, by b")
    eventually(lambda: frr.routes().keys() == {"10.1.1.0/26", "10.1.2.0/26"})
    reaches(pods[0], "10.1.2.5")
    reaches(host, "10.1.1.5")
    assert "tor" not in b.neighbours()


@pytest.mark.needs("gobgpd", "gobgp")
def test_gobgp(cleanup: ExitStack, cluster: Cluster, lan: Switch, tmp_path: Path) -> None:
    """A speaker of another make: what each tells is what the other learns, and a password that is not the same is noticed."""
    (a, b), _ = nodes(cleanup, cluster, lan, "ab")
    other = kept(cleanup, Machine("gobgp"))
    lan.plug(other, f"{ROUTER4}/24", f"{ROUTER6}/64")
    config = tmp_path / "gobgp.toml"
    config.write_text(
        '[global.config]\n  as = 65002\n  router-id = "192.0.2.254"\n'
        + "".join(
            f'[[neighbors]]\n  [neighbors.config]\n    neighbor-address = "192.0.2.{at}"\n    peer-as = 64512\n'
            '    auth-password = "s3cret"\n'
            + "".join(
                f'  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = "{one}-unicast"\n'
                for one in ("ipv4", "ipv6")
            )
            for at in (1, 2)
        )
    )
    other.start("gobgpd", "-f", config, "--api-hosts", "127.0.0.1:50051")
    eventually(lambda: other.attempt("gobgp", "neighbor").returncode == 0, what="gobgpd answers")
    other.run("gobgp", "global", "rib", "add", "203.0.113.0/24", "community", "65002:5", "-a", "ipv4")
    other.run("gobgp", "global", "rib", "add", "2001:db8:113::/48", "nexthop", ROUTER6, "-a", "ipv6")
    configure(
        cluster,
        communities="[{name: wide, value: '4200000000:1:2'}]",
        prefixAdvertisements="[{cidr: 10.1.0.0/16, communities: [wide, '64512:20']}]",
    )
    reference = SecretKeyRef(name="go", key="md5")
    cluster.passwords[reference] = "s3cret"
    peer(cluster, "go", peerIP=ROUTER4, asNumber=65002, password="{secretKeyRef: {name: go, key: md5}}")  # noqa: S106  # where it is
    cluster.settle()
    cluster.established()
    eventually(lambda: a.routes()["203.0.113.0/24"] == [ROUTER4])
    eventually(lambda: a.routes(6)["2001:db8:113::/48"] == [ROUTER6])
    assert "(65002,5)" in a.ask("show route all for 203.0.113.0/24")
    told = eventually(lambda: other.run("gobgp", "global", "rib", "10.1.1.0/26"))
    eventually(lambda: "64512:20" in other.run("gobgp", "global", "rib", "10.1.1.0/26"))
    assert "4200000000:1:2" in other.run("gobgp", "global", "rib", "10.1.1.0/26")
    assert "fd00:1:0:1::/64" in other.run("gobgp", "global", "rib", "-a", "ipv6")
    cluster.passwords[reference] = "wrong"
    cluster.settle("a")
    eventually(lambda: not a.neighbours()["go"].up and b.neighbours()["go"].up)
    eventually(lambda: "203.0.113.0/24" not in a.routes())
    del told
