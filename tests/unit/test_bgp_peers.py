"""Whom a node speaks BGP with: from nodes, configurations and peers to rows."""

from __future__ import annotations

from typing import TypeVar

from fairlead.desired.routing import Announcement, Channel, Session, Sieve, Speaker
from fairlead.desired.state import NodeState, Rows
from fairlead.model import codec
from fairlead.model.address import Address, Name, Prefix
from fairlead.model.bgp import BGPConfiguration, BGPPeer
from fairlead.model.bgpfilter import BGPFilter
from fairlead.model.block import Block
from fairlead.model.meta import Object
from fairlead.model.network import Network
from fairlead.model.node import Node
from fairlead.model.secret import SecretKeyRef
from fairlead.topology import peers
from fairlead.topology.peers import Fabric
from fairlead.topology.voice import Voice

T = TypeVar("T", bound=Object)

PODS = """
apiVersion: fairlead.dev/v1
kind: Network
metadata: {name: pods}
spec: {driver: bgp, subnets: [{cidr: 10.1.0.0/16}, {cidr: "fd00:1::/48"}]}
---
apiVersion: fairlead.dev/v1
kind: Network
metadata: {name: tunnelled}
spec: {driver: vxlan, subnets: [{cidr: 10.2.0.0/16}]}
"""


def node(name: str, *addresses: str, labels: str = "{}", **annotations: str) -> str:
    said = "".join(f"    fairlead.dev/{key.replace('_', '-')}: '{value}'\n" for key, value in annotations.items())
    return (
        f"---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  labels: {labels}\n"
        f"  annotations:\n    fairlead.dev/underlay: '{', '.join(addresses)}'\n{said}"
    )


def peer(name: str, spec: str) -> str:
    return f"---\napiVersion: fairlead.dev/v1\nkind: BGPPeer\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def configuration(spec: str, name: str = "default") -> str:
    return f"---\napiVersion: fairlead.dev/v1\nkind: BGPConfiguration\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def fabric(me: str, *texts: str, networks: str = PODS) -> Fabric:
    objects = codec.from_yaml(networks + "".join(texts))

    def of(kind: type[T]) -> dict[str, T]:
        return {one.name: one for one in objects if isinstance(one, kind)}

    return Fabric(me, of(Node), of(Network), configurations=of(BGPConfiguration), peers=of(BGPPeer), filters=of(BGPFilter))


def sessions(given: Fabric) -> dict[str, Session]:
    return {row.peer: row for rows in peers.rows(given).values() for row in rows if isinstance(row, Session)}


def speaker(given: Fabric) -> Speaker:
    (row,) = peers.rows(given)["bgp/speaker"]
    assert isinstance(row, Speaker)
    return row


A = node("a", "192.0.2.1/24", "2001:db8::1/64")
B = node("b", "192.0.2.2/24", "2001:db8::2/64")
FAR = node("far", "198.51.100.3/24")
V6 = node("six", "2001:db8::6/64")


def test_nobody_speaks_without_a_network_that_asks_for_it() -> None:
    alone = "\n".join(PODS.split("---")[1:])
    assert peers.rows(fabric("a", A, B, networks=alone)) == {}
    assert peers.rows(fabric("stranger", A, B)) == {}


def test_a_speaker() -> None:
    made = speaker(fabric("a", A, B, configuration("{serviceClusterIPs: [{cidr: 10.96.0.0/12}], gracefulRestart: 0}")))
    assert made == Speaker(
        asn=64512,
        router_id=Address("192.0.2.1"),
        addresses=(Address("192.0.2.1"), Address("2001:db8::1")),
        territory=(Prefix("10.1.0.0/16"), Prefix("10.96.0.0/12"), Prefix("fd00:1::/48")),
        port=179,
        restart=0,
    )


def test_nodes_to_which_less_gets_than_leaves_here() -> None:
    given = fabric("a", A, B, FAR)
    assert speaker(given).narrow == ()
    limited = Fabric("a", given.nodes, given.networks, limit=lambda one: one._replace(mtu={"b": 1400}.get(one.name, one.mtu)))
    assert [(one.hop, one.mtu) for one in speaker(limited).narrow] == [("192.0.2.2", 1400), ("2001:db8::2", 1400)]


def test_a_router_id_without_ipv4_is_made_of_the_name() -> None:
    ids = {name: speaker(fabric(name, node(name, "2001:db8::6/64"))).router_id for name in ("six", "seven")}
    assert len(set(ids.values())) == 2
    assert all(one.family == 4 for one in ids.values())
    assert speaker(fabric("a", A, configuration("{routerID: hash}"))).router_id != "192.0.2.1"
    assert speaker(fabric("a", A, configuration("{routerID: 10.9.9.9}", "node.a"))).router_id == "10.9.9.9"


def test_the_mesh_goes_over_ipv4_where_both_have_it() -> None:
    given = fabric("a", A, B, FAR, V6)
    made = sessions(given)
    assert {name: (one.local, one.remote, one.hops) for name, one in made.items()} == {
        "b": ("192.0.2.1", "192.0.2.2", 0),
        "far": ("192.0.2.1", "198.51.100.3", 64),
        "six": ("2001:db8::1", "2001:db8::6", 0),
    }
    v4, v6 = Channel(family=4, next_hop=Address("192.0.2.1")), Channel(family=6, next_hop=Address("2001:db8::1"))
    assert made["b"].channels == (v4, v6)
    assert made["far"].channels == (v4,), "the other side has no IPv6"
    assert made["six"].channels == (Channel(family=4, next_hop=Address("2001:db8::1"), extended=True), v6)
    assert {one.kind for one in made.values()} == {"mesh"}
    assert all(one.internal for one in made.values())
    assert sessions(fabric("six", A, B, FAR, V6)).keys() == {"a", "b"}
    assert peers.unmet(fabric("six", V6, FAR), given.nodes["far"]) == "six and far have no address of one family"


def test_each_side_of_a_session_tells_the_other_the_same() -> None:
    texts = (A, B, configuration("{asNumber: 65100, listenPort: 1790, bfd: {}}"), configuration("{asNumber: 65200}", "node.b"))
    here, there = sessions(fabric("a", *texts))["b"], sessions(fabric("b", *texts))["a"]
    assert (here.asn, here.remote_asn, here.port) == (65100, 65200, 1790)
    assert (here.local, here.remote, here.asn, here.remote_asn) == (there.remote, there.local, there.remote_asn, there.asn)
    assert here.bfd == there.bfd is not None
    assert not here.internal


def test_a_mesh_takes_two() -> None:
    assert sessions(fabric("a", A, B, configuration("{nodeToNodeMesh: false}"))) == {}
    assert sessions(fabric("a", A, B, configuration("{nodeToNodeMesh: false}", "node.b"))) == {}
    some = fabric("a", A, B, configuration("{nodeToNodeMesh: false}"), configuration("{nodeToNodeMesh: true}", "node.a"))
    assert "not in a mesh" in peers.unmet(some, some.nodes["b"])


REFLECTORS = peer("rr", "{nodeSelector: {}, peerSelector: {matchLabels: {rr: 'yes'}}, bfd: {}, filters: [some]}")
NO_MESH = configuration("{nodeToNodeMesh: false}")
RR1 = node("rr1", "192.0.2.11/24", labels="{rr: 'yes'}", route_reflector_cluster_id="10.0.0.1")
RR2 = node("rr2", "192.0.2.12/24", labels="{rr: 'yes'}", route_reflector_cluster_id="7")


def test_reflectors() -> None:
    texts = (A, B, RR1, RR2, REFLECTORS, NO_MESH)
    assert {name: one.kind for name, one in sessions(fabric("a", *texts)).items()} == {"rr1": "reflector", "rr2": "reflector"}
    made = sessions(fabric("rr1", *texts))
    assert {name: (one.kind, one.cluster) for name, one in made.items()} == {
        "a": ("client", "10.0.0.1"),
        "b": ("client", "10.0.0.1"),
        "rr2": ("mesh", ""),
    }
    assert sessions(fabric("rr2", *texts))["a"].cluster == "7"
    assert made["a"].bfd is not None
    assert made["a"].filters == ("some",)


def test_a_cluster_id_that_makes_no_sense_reflects_nothing() -> None:
    for said in ("", "x", "0", "4294967296", "fd00::1"):
        odd = RR1.replace("'10.0.0.1'", f"'{said}'")
        assert sessions(fabric("a", A, odd, REFLECTORS, NO_MESH))["rr1"].kind == "mesh", said


def test_a_bgppeer_takes_the_place_of_the_mesh_between_the_same_two() -> None:
    made = sessions(fabric("a", A, B, RR1, REFLECTORS))
    assert {name: one.kind for name, one in made.items()} == {"b": "mesh", "rr1": "reflector"}
    assert made["rr1"].name == "node.rr1"


def test_a_router() -> None:
    text = peer(
        "tor",
        "{peerIP: '192.0.2.254:1790', asNumber: 65001, filters: [x], keepOriginalNextHop: true, maxRestartTime: 7, holdTime: 9,"
        " numAllowedLocalASNumbers: 2, password: {secretKeyRef: {name: s, key: k}}}",
    )
    made = sessions(fabric("a", A, text))["tor"]
    assert made == Session(
        name="peer.tor",
        kind="external",
        peer="tor",
        asn=64512,
        local=Address("192.0.2.1"),
        remote=Address("192.0.2.254"),
        port=1790,
        remote_asn=65001,
        channels=(
            Channel(family=4, next_hop=Address("192.0.2.1")),
            Channel(family=6, next_hop=Address("2001:db8::1")),
        ),
        hold=9,
        restart=7,
        keep=True,
        own=2,
        password=SecretKeyRef(name=Name("s"), key="k"),
        filters=("x",),
    )


def test_which_nodes_a_router_speaks_with() -> None:
    racks = (node("a", "192.0.2.1/24", labels="{rack: one}"), node("b", "192.0.2.2/24"))
    by_label = peer("tor", "{nodeSelector: {matchLabels: {rack: one}}, peerIP: 192.0.2.254, asNumber: 65001}")
    by_name = peer("tor", "{node: b, peerIP: 192.0.2.254, asNumber: 65001}")
    assert "tor" in sessions(fabric("a", *racks, by_label))
    assert "tor" not in sessions(fabric("b", *racks, by_label))
    assert "tor" not in sessions(fabric("a", *racks, by_name))
    assert "tor" in sessions(fabric("b", *racks, by_name))
    host = peer("tor", "{nodeSelector: {matchLabels: {kubernetes.io/hostname: a}}, peerIP: 192.0.2.254, asNumber: 65001}")
    assert "tor" in sessions(fabric("a", *racks, host))


def test_how_far_a_router_is() -> None:
    def made(spec: str) -> Session:
        return sessions(fabric("a", A, peer("tor", f"{{asNumber: 65001, {spec}}}")))["tor"]

    assert made("peerIP: 192.0.2.254").hops == 0
    assert made("peerIP: 203.0.113.1").hops == 64
    assert made("peerIP: 203.0.113.1, multihop: 3").hops == 3
    assert (made("peerIP: 203.0.113.1, ttlSecurity: 3").hops, made("peerIP: 203.0.113.1, ttlSecurity: 3").secure) == (3, True)
    assert (made("peerIP: 192.0.2.254, ttlSecurity: 1").hops, made("peerIP: 192.0.2.254, ttlSecurity: 1").secure) == (0, True)
    assert made("peerIP: 203.0.113.1, reachableBy: 192.0.2.9").gateway == "192.0.2.9"
    assert made("peerIP: 192.0.2.254, reachableBy: 192.0.2.9").gateway is None, "it is on a subnet of ours"
    assert made("peerIP: 203.0.113.1, sourceAddress: None").local is None
    assert made("peerIP: 203.0.113.1, sourceAddress: None, bfd: {}").bfd is None, "over several hops it needs an address"
    assert made("peerIP: 192.0.2.254, sourceAddress: 192.0.2.77").local == "192.0.2.77"


def test_what_a_session_with_a_router_carries() -> None:
    def made(spec: str, who: str = A) -> tuple[Channel, ...]:
        return sessions(fabric("a", who, peer("tor", f"{{asNumber: 65001, {spec}}}")))["tor"].channels

    v4, v6 = Channel(family=4, next_hop=Address("192.0.2.1")), Channel(family=6, next_hop=Address("2001:db8::1"))
    extended = Channel(family=4, next_hop=Address("2001:db8::1"), extended=True)
    assert made("peerIP: 192.0.2.254") == (v4, v6)
    assert made("peerIP: '2001:db8::254'") == (v4, v6)
    assert made("peerIP: '2001:db8::254', extendedNextHop: true") == (extended, v6)
    assert made("peerIP: 192.0.2.254, families: [IPv4]") == (v4,)
    assert made("peerIP: 'fe80::1', interface: eth0, extendedNextHop: true") == (extended, v6)
    only = node("a", "192.0.2.1/24")
    assert made("peerIP: 192.0.2.254", only) == (v4,)
    assert "tor" not in sessions(fabric("a", only, peer("tor", "{peerIP: 192.0.2.254, asNumber: 65001, families: [IPv6]}")))


def test_only_filters_that_are_used() -> None:
    text = "---\napiVersion: fairlead.dev/v1\nkind: BGPFilter\nmetadata: {name: %s}\nspec: {importV4: [{action: Reject}]}\n"
    given = fabric("a", A, peer("tor", "{peerIP: 192.0.2.254, asNumber: 1, filters: [x]}"), text % "x", text % "y")
    rows = [row for some in peers.rows(given).values() for row in some if isinstance(row, Sieve)]
    assert [row.name for row in rows] == ["x"]


def block(node: str, cidr: str, lent: dict[str, str] | None = None, network: str = "pods") -> Block:
    spec = {"network": network, "node": node, "cidr": cidr, "lent": lent or {}}
    return codec.from_tree({"kind": "Block", "metadata": {"name": cidr.replace("/", "-")}, "spec": spec}, Block)


def test_what_is_announced() -> None:
    given = fabric("a", A, B)
    blocks = [
        block("a", "10.1.1.0/26"),
        block("a", "10.1.0.0/26", {"10.1.0.5": "b"}),
        block("b", "10.1.2.0/26", {"10.1.2.9": "a", "10.1.2.10": "c"}),
        block("a", "10.2.0.0/26", network="tunnelled"),
        block("a", "fd00:1::/122"),
    ]
    told = peers.announced(given.networks["pods"], "a", blocks)
    assert told == ("10.1.0.0/26", "10.1.1.0/26", "10.1.2.9/32", "fd00:1::/122")
    assert peers.announced(given.networks["tunnelled"], "a", blocks) == ()
    assert peers.announced(given.networks["pods"], "b", blocks) == ("10.1.0.5/32", "10.1.2.0/26")


def test_communities_of_what_is_announced() -> None:
    voice = fabric(
        "a",
        A,
        configuration(
            "{communities: [{name: wide, value: '4200000000:1:2'}], prefixAdvertisements: ["
            "{cidr: 10.1.0.0/16, communities: [wide]}, {cidr: 10.1.2.0/24, communities: ['64512:7', wide]}]}"
        ),
    ).voice("a")
    wide = "4200000000:1:2"
    wanted = {"10.1.2.0/26": (wide, "64512:7"), "10.1.3.0/26": (wide,), "10.0.0.0/8": (), "fd00::/64": ()}
    for row in peers.announcement_rows(voice, [Prefix(one) for one in wanted]):
        assert isinstance(row, Announcement)
        assert row.communities == wanted[row.prefix]


def test_a_node_says_for_itself_what_all_say_otherwise() -> None:
    guarded = "nodeMeshPassword: {secretKeyRef: {name: s, key: k}}"
    everybody = f"{{asNumber: 65100, holdTime: 30, communities: [{{name: x, value: '1:1'}}], {guarded}}}"
    own = "{holdTime: 9, gracefulRestart: 0, communities: [{name: y, value: '2:2'}]}"
    given = fabric("a", A, configuration(everybody), configuration(own, "node.a"))
    voice = given.voice("a")
    assert (voice.asn, voice.hold, voice.restart, voice.mesh) == (65100, 9, 0, True)
    assert [one.name for one in voice.spec.communities] == ["y"], "a list is not mixed"
    assert str(voice.password) == "default/s:k"
    assert given.voice("b").hold == 30
    assert Voice.of({}, "a") == Voice.of({}, "b")


def test_owners_are_disjoint_and_rows_can_stand_together() -> None:
    given = fabric("rr1", A, B, RR1, RR2, V6, FAR, REFLECTORS, peer("tor", "{peerIP: 192.0.2.254, asNumber: 65001}"))
    found: dict[str, Rows] = peers.rows(given)
    state = NodeState().replace_all(found)
    assert state.replace_all(found) is state
    assert {one.peer for one in state.table(Session).values()} == {"a", "b", "rr2", "far", "tor"}, "and not six, without IPv4"
