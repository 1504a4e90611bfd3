"""What BIRD 2.0.12 prints, as it prints it, read as values."""

from __future__ import annotations

from fairlead.api.routing import BgpRoute, RouteCount
from fairlead.bgp import report
from fairlead.bgp.control import Answer, Line


def answer(text: str) -> Answer:
    """An answer as it comes over the socket, each line with its code as ``birdc -v`` shows it."""
    lines, code = [], 0
    for raw in text.splitlines():
        if raw[:4].isdigit() and raw[4:5] in {" ", "-"}:
            code, raw = int(raw[:4]), " " + raw[5:]  # noqa: PLW2901  # what is left of it
        lines.append(Line(code, raw[1:]))
    return Answer(tuple(lines))


PROTOCOLS = """\
2002-Name       Proto      Table      State  Since         Info
1002-device1    Device     ---        up     1795696186    \n\
1006-
1002-own4       Static     master4    up     1795696186    \n\
1006-  Channel ipv4
       State:          UP
       Routes:         1 imported, 0 exported, 1 preferred
 \n\
1002-node.b     BGP        ---        up     1795696187    Established   \n\
1006-  Description:    b, mesh
   BGP state:          Established
     Neighbor address: 192.0.2.2
     Neighbor AS:      64512
     Hold timer:       79.746/90
     Last error:       Received: Administrative reset
   Channel ipv4
     State:          UP
     Input filter:   (unnamed)
     Routes:         2 imported, 3 filtered, 1 exported, 2 preferred
     Route change stats:     received   rejected   filtered    ignored   accepted
       Import updates:              5          0          3          0          2
   Channel ipv6
     State:          UP
     Routes:         4 imported, 0 filtered, 5 exported, 1 preferred
 \n\
1002-peer.tor   BGP        ---        start  1795697651    Active        Socket: Connection refused
1006-  Description:    tor, external
   BGP state:          Active
     Neighbor address: 192.0.2.254
     Last error:       Socket: Connection refused
   Channel ipv4
     State:          DOWN
     Table:          master4
 \n\
1002-peer.off   BGP        ---        down   1795697651    \n\
1006-  BGP state:          Down
     Last error:       BGP Error: Hold timer expired
0000 """


def test_sessions() -> None:
    seen = report.sessions(answer(PROTOCOLS))
    assert seen["node.b"] == report.Seen(
        "Established",
        "2026-11-26T12:29:47Z",
        "Received: Administrative reset",
        (
            RouteCount(family="ipv4", received=5, accepted=2, exported=1),
            RouteCount(family="ipv6", received=4, accepted=4, exported=5),
        ),
    )
    assert seen["peer.tor"][0] == "Active"
    assert seen["peer.tor"].error == "Socket: Connection refused"
    assert seen["peer.tor"].routes == (RouteCount(family="ipv4"),)
    assert (seen["peer.off"].state, seen["peer.off"].error) == ("Down", "Hold timer expired")
    assert seen.keys() == {"node.b", "peer.tor", "peer.off"}


def test_bfd() -> None:
    text = """\
1020-bfd1:
 IP address                Interface  State      Since         Interval  Timeout
 192.0.2.2                 eth0       Up         1795696187      0.300    0.900
 2001:db8::2               ---        Down       1795696187      1.000    0.000
 \n\
0000 """
    assert report.bfd(answer(text)) == {"192.0.2.2": "Up", "2001:db8::2": "Down"}


def test_version() -> None:
    assert report.version(answer("1000-BIRD 2.0.12\n1011-Router ID is 192.0.2.1\n0013 Daemon is up and running")) == "2.0.12"


ROUTES = """\
1007-Table master4:
 192.0.2.0/24         unicast [direct1 1795696186] * (240)
 \tdev eth0
1008-\tType: device univ
1007-10.1.0.0/26          unreachable [own4 1795696186] * (200)
1008-\tType: static univ
1012-\tBGP.community: (64512,100) (64512,7)
 \tBGP.large_community: (64512, 1, 2)
1007-198.51.100.0/24      unicast [peer.tor 1795696187 from 192.0.2.9] * (100) [AS65001i]
 \tvia 192.0.2.254 on eth0 weight 1
 \tvia 192.0.2.253 on eth0 weight 1
1008-\tType: BGP univ
1012-\tBGP.origin: IGP
 \tBGP.as_path: 65001 65002
 \tBGP.next_hop: 192.0.2.254 fe80::1
 \tBGP.med: 7
 \tBGP.local_pref: 100
1007-                     unicast [node.b 1795696187] (100) [i]
 \tvia 192.0.2.2 on eth0
1008-\tType: BGP univ
1012-\tBGP.as_path: \n\
1007-
 Table master6:
 fd00:1::/64          unreachable [node.b 1795696186] (100) [i]
0000 """


def test_routes() -> None:
    made = report.routes(answer(ROUTES), {"node.b": "b", "peer.tor": "tor"})
    at, since = "2026-11-26T12:29:46Z", "2026-11-26T12:29:47Z"
    assert made == [
        BgpRoute(prefix="10.1.0.0/26", best=True, since=at, communities=("64512:100", "64512:7", "64512:1:2")),
        BgpRoute(
            prefix="198.51.100.0/24",
            peer="tor",
            via=("192.0.2.254 on eth0", "192.0.2.253 on eth0"),
            best=True,
            since=since,
            next_hop="192.0.2.254",
            as_path="65001 65002",
            local_preference=100,
            med=7,
        ),
        BgpRoute(prefix="198.51.100.0/24", peer="b", via=("192.0.2.2 on eth0",), since=since),
        BgpRoute(prefix="fd00:1::/64", peer="b", since=at),
    ]
    assert all(one.filtered and not one.best for one in report.routes(answer(ROUTES), {"node.b": "b"}, filtered=True))


def test_what_is_not_known_is_passed_over() -> None:
    odd = answer("1002-x\n1006-\n1006-Channel\n1007-\n1012-\tBGP.as_path\n9999-what\n0000 ")
    assert report.sessions(odd) == {}
    assert report.routes(odd, {"x": "x"}) == []
    assert report.bfd(odd) == {}
    assert report.version(odd) == ""
