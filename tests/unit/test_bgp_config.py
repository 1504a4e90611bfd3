"""From rows to what BIRD reads: the same rows, the same text, whatever order they came in; and nothing but what is meant."""

from __future__ import annotations

import random
import re

import pytest
from msgspec.structs import replace

from fairlead.bgp import config
from fairlead.desired.routing import Announcement, Channel, Narrow, Session, Sieve, Speaker
from fairlead.desired.state import NodeState, Rows
from fairlead.model import codec
from fairlead.model.address import Address, InterfaceName, Name, Prefix
from fairlead.model.bgp import Bfd, Community
from fairlead.model.bgpfilter import BGPFilter
from fairlead.model.secret import SecretKeyRef

SPEAKER = Speaker(
    asn=64512,
    router_id=Address("192.0.2.1"),
    addresses=(Address("192.0.2.1"), Address("2001:db8::1")),
    territory=(Prefix("10.1.0.0/16"), Prefix("fd00:1::/48")),
    port=179,
    restart=120,
)
V4, V6 = Channel(family=4, next_hop=Address("192.0.2.1")), Channel(family=6, next_hop=Address("2001:db8::1"))
KEY = SecretKeyRef(name=Name("bgp"), key="mesh")
FILTER = """
apiVersion: fairlead.dev/v1
kind: BGPFilter
metadata: {name: edge}
spec:
  importV4:
  - {action: Reject, matchOperator: Equal, cidr: 0.0.0.0/0}
  - {action: Accept, matchOperator: In, cidr: 10.0.0.0/8, prefixLength: {max: 24}, source: RemotePeers, interface: "eth*"}
  - {action: Reject, matchOperator: NotIn, cidr: 198.51.100.0/24}
  exportV6:
  - {action: Reject, matchOperator: NotEqual, cidr: "fd00:1::/64"}
  - {action: Accept}
"""


def session(name: str = "node.b", **given: object) -> Session:
    fields: dict[str, object] = {
        "name": name,
        "kind": "mesh",
        "peer": name.partition(".")[2],
        "asn": 64512,
        "local": Address("192.0.2.1"),
        "remote": Address("192.0.2.2"),
        "port": 179,
        "remote_asn": 64512,
        "channels": (V4, V6),
        "hold": 90,
        "restart": 120,
    }
    return Session(**{**fields, **given})  # type: ignore[arg-type]  # a test's own fields


def text(*rows: object, passwords: dict[SecretKeyRef, str] | None = None) -> str:
    state = NodeState().replace("test", (SPEAKER, *rows))  # type: ignore[arg-type]  # rows, all of them
    return config.text(state, passwords or {}, "var/bird.log")


def protocol(whole: str, name: str) -> str:
    """One protocol's part of the text."""
    found = re.search(rf"^protocol \w+ '?{re.escape(name)}'? {{\n(.*?)^}}", whole, re.DOTALL | re.MULTILINE)
    assert found, f"{name} in\n{whole}"
    return found[1]


def test_without_a_speaker_there_is_nothing() -> None:
    assert config.text(NodeState(), {}, "var/bird.log") == ""


WHOLE = """\
# Written by Fairlead; what is changed here by hand is lost with the next change of the cluster.
log "var/bird.log" 1048576 "var/bird.log.1" { info, remote, warning, error, auth, fatal, bug };
timeformat base "%F %T.%3f";
timeformat protocol "%s";
timeformat route "%s";
router id 192.0.2.1;
graceful restart wait 30;

protocol device {
}

# Which next hops are there. Told to nobody, written nowhere.
protocol direct {
  ipv4;
  ipv6;
}

# ---- IPv4 ----

function cluster4()
{
  return net ~ [ 10.1.0.0/16+ ];
}

protocol static own4 {
  ipv4;
  route 10.1.1.0/26 unreachable;
}

protocol kernel kernel4 {
  ipv4 {
    import none;
    export filter {
      if source != RTS_BGP then reject;
      if dest = RTD_UNREACHABLE && !cluster4() then reject;
      if dest = RTD_UNICAST then krt_prefsrc = 192.0.2.1;
      accept;
    };
  };
  metric 1102;
  persist;
  graceful restart;
  merge paths limit 16;
  scan time 10;
}

# ---- IPv6 ----

function cluster6()
{
  return net ~ [ fd00:1::/48+ ];
}

protocol static own6 {
  ipv6;
}

protocol kernel kernel6 {
  ipv6 {
    import none;
    export filter {
      if source != RTS_BGP then reject;
      if dest = RTD_UNREACHABLE && !cluster6() then reject;
      if dest = RTD_UNICAST then krt_prefsrc = 2001:db8::1;
      accept;
    };
  };
  metric 1102;
  persist;
  graceful restart;
  merge paths limit 16;
  scan time 10;
}

protocol bgp 'node.b' {
  description "b, mesh";
  local 192.0.2.1 port 179 as 64512;
  neighbor 192.0.2.2 port 179 as 64512;
  strict bind on;
  free bind on;
  direct;
  hold time 90;
  connect delay time 1;
  connect retry time 5;
  error wait time 1, 30;
  error forget time 60;
  graceful restart on;
  graceful restart time 120;
  ipv4 {
    import filter {
      if !cluster4() then reject;
      accept;
    };
    export filter {
      if !(proto = "own4") then reject;
      accept;
    };
    import keep filtered on;
    gateway recursive;
  };
}
"""
"""What a node of one block and one neighbour comes to."""


def test_the_whole_of_a_small_node() -> None:
    assert text(Announcement(prefix=Prefix("10.1.1.0/26")), session(channels=(V4,))) == WHOLE


def test_the_same_rows_are_the_same_text() -> None:
    (sieve,) = (Sieve(name=one.name, rules=one.spec) for one in codec.from_yaml(FILTER) if isinstance(one, BGPFilter))
    rows: list[object] = [
        SPEAKER,
        sieve,
        *(session(f"node.{name}", remote=Address(f"192.0.2.{at}"), filters=("edge",)) for at, name in enumerate("bcdef", 2)),
        *(Announcement(prefix=Prefix(f"10.1.{at}.0/24")) for at in (9, 10, 2)),
    ]
    texts = set()
    for _ in range(20):
        random.shuffle(rows)
        texts.add(config.text(NodeState().replace("test", tuple(rows)), {}, "l"))  # type: ignore[arg-type]  # rows, all of them
    (one,) = texts
    assert one.index("10.1.2.0/24") < one.index("10.1.9.0/24") < one.index("10.1.10.0/24")
    assert one.index("node.b") < one.index("node.f")


def test_communities_are_told_at_the_source() -> None:
    told = Announcement(prefix=Prefix("10.1.1.0/26"), communities=(Community("64512:7"), Community("4200000000:1:2")))
    assert (
        "  route 10.1.1.0/26 unreachable { bgp_community.add((64512,7)); bgp_large_community.add((4200000000,1,2)); };"
        in text(told).splitlines()
    )


def test_what_a_session_says_of_itself() -> None:
    made = protocol(
        text(
            session(
                "peer.tor",
                kind="external",
                remote_asn=65001,
                port=1790,
                hops=2,
                secure=True,
                hold=9,
                restart=0,
                keep=True,
                own=3,
                bfd=Bfd(interval=100, multiplier=5),
                gateway=Address("192.0.2.9"),
            )
        ),
        "peer.tor",
    )
    lines = [line.strip() for line in made.splitlines()]
    for wanted in (
        'description "tor, external";',
        "neighbor 192.0.2.2 port 1790 as 65001;",
        "multihop 2;",
        "ttl security on;",
        "hold time 9;",
        "graceful restart aware;",
        "allow local as 3;",
        "bfd { interval 100 ms; multiplier 5; };",
        "next hop keep on;",
        "next hop address 2001:db8::1;",
        "next hop prefer global;",
    ):
        assert wanted in lines, wanted
    assert "direct;" not in lines
    assert "gateway recursive;" not in lines, "that is for neighbours of our own AS"


def test_a_way_to_a_router_some_hops_away_is_told_to_nobody() -> None:
    whole = text(session("peer.tor", kind="external", remote_asn=1, hops=2, gateway=Address("192.0.2.9")))
    assert "route 192.0.2.2/32 via 192.0.2.9;" in protocol(whole, "way.peer.tor")
    assert 'if !(proto = "own4" ||' in protocol(whole, "peer.tor")


def test_bfd_is_spoken_only_where_a_session_asks() -> None:
    assert "protocol bfd" not in text(session())
    assert "protocol bfd {" in text(session(bfd=Bfd()))


def test_an_unnumbered_neighbour() -> None:
    extended = Channel(family=4, next_hop=Address("2001:db8::1"), extended=True)
    made = protocol(
        text(session("peer.x", local=None, remote=Address("fe80::1"), device=InterfaceName("eth0"), channels=(extended, V6))),
        "peer.x",
    )
    assert 'interface "eth0";' in made
    assert "local port 179 as 64512;" in made
    assert "strict bind" not in made
    assert "extended next hop on;" in made
    assert "prefer global" not in made, "there may be none"


def test_who_tells_whom_of_what() -> None:
    told = {
        kind: protocol(
            text(session("node.b", kind=kind, remote_asn=asn, cluster="10.0.0.1" if kind == "client" else "")), "node.b"
        )
        for kind, asn in (("mesh", 64512), ("reflector", 64512), ("client", 64512), ("external", 65001))
    }
    own, more = 'if !(proto = "own4") then reject;', 'if !(proto = "own4" || (proto ~ "node.*" && cluster4())) then reject;'
    assert own in told["mesh"]
    assert own in told["reflector"]
    assert more in told["client"]
    assert more in told["external"]
    assert {kind: "if !cluster4() then reject;" in made for kind, made in told.items()} == {
        "mesh": True,
        "reflector": True,
        "client": True,
        "external": False,
    }
    assert {kind: "bgp_med = 100;" in made for kind, made in told.items()} == {
        "mesh": False,
        "reflector": False,
        "client": False,
        "external": True,
    }
    assert "rr client on;\n  rr cluster id 10.0.0.1;" in told["client"]
    assert "bgp_med" not in protocol(text(session("peer.b", kind="external")), "peer.b"), (
        "a router of our own AS is told no MED"
    )


def test_filters_come_after_what_is_told_at_all_and_in_order() -> None:
    (sieve,) = (Sieve(name=one.name, rules=one.spec) for one in codec.from_yaml(FILTER) if isinstance(one, BGPFilter))
    whole = text(session("node.b", filters=("edge", "gone")), sieve)
    made = protocol(whole, "node.b")
    order = [made.index(part) for part in ("if !cluster4()", "'import4.edge'();", "'import4.gone'();", "accept;")]
    assert order == sorted(order)
    order = [made.index(part) for part in ('proto = "own6"', "'export6.edge'();", "'export6.gone'();")]
    assert order == sorted(order)
    assert (
        """function 'import4.edge'()
{
  if net = 0.0.0.0/0 then reject;
  if net ~ [ 10.0.0.0/8{8,24} ] && source = RTS_BGP && ifname ~ "eth*" then accept;
  if net !~ [ 198.51.100.0/24{24,32} ] then reject;
}"""
        in whole
    )
    assert (
        """function 'export6.edge'()
{
  if net != fd00:1::/64 then reject;
  accept;
}"""
        in whole
    )
    assert "# There is no BGPFilter gone, and so nothing passes" in whole
    assert "function 'export4.gone'()\n{\n  reject;\n}" in whole


def test_names_that_are_too_long_for_bird_stay_apart() -> None:
    names = ["x" * 63, "x" * 62 + "y"]
    whole = text(*(session(f"node.{at}", filters=(Name(name),)) for at, name in enumerate(names)))
    functions = re.findall(r"^function '(import4[^']*)'", whole, re.MULTILINE)
    assert len(set(functions)) == 2
    assert all(len(one) < 64 for one in functions)


def test_a_password_is_written_and_without_it_nothing_is_tried() -> None:
    row = session(password=KEY)
    assert '  password "it\'s a \\ # secret";' in text(row, passwords={KEY: "it's a \\ # secret"})
    made = text(row)
    assert "password" not in protocol(made, "node.b").replace("no password", "")
    assert "disabled on; # there is no password in default/bgp:mesh" in made
    assert "secret" not in repr(row.password).replace("SecretKeyRef", "")


@pytest.mark.parametrize("password", ["", "x" * 81, 'a"b', "a\nb", "pässword"])
def test_passwords_that_cannot_be(password: str) -> None:
    assert config.refuse_password(password)


@pytest.mark.parametrize("password", ["x", "x" * 80, "it's a \\ # secret; {really}", " "])
def test_passwords_that_can(password: str) -> None:
    assert not config.refuse_password(password)


def test_what_people_call_things_cannot_break_out() -> None:
    made = text(session("node.b", peer='x"; disabled on; #\n'))
    assert '  description "x?; disabled on; #?, mesh";' in made.splitlines()


def test_routes_through_a_node_to_which_less_gets() -> None:
    narrow = (Narrow(hop=Address("192.0.2.2"), mtu=1200), Narrow(hop=Address("2001:db8::2"), mtu=1200))
    made = config.text(NodeState().replace("test", (replace(SPEAKER, narrow=narrow),)), {}, "l")
    assert made.count("if bgp_next_hop = 192.0.2.2 then krt_mtu = 1200;") == 1
    assert made.count("if bgp_next_hop = 2001:db8::2 then krt_mtu = 1280;") == 1, "IPv6 carries no less"


def test_a_family_without_networks_has_a_territory_without_addresses() -> None:
    only = Speaker(asn=1, router_id=Address("192.0.2.1"), addresses=(), territory=(Prefix("10.1.0.0/16"),), port=179, restart=0)
    rows: Rows = (only,)
    made = config.text(NodeState().replace("test", rows), {}, "l")
    assert "function cluster6()\n{\n  return false;\n}" in made
    assert "krt_prefsrc" not in made
