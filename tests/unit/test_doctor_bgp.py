"""What doctor says of BGP: nothing without it, and of each session that is down what to do."""

from __future__ import annotations

import pytest

from fairlead.api.routing import BgpStatus, Neighbour, RouteCount
from fairlead.api.schema import Finding
from fairlead.doctor import bgp
from fairlead.doctor.base import Facts


def neighbour(**given: object) -> Neighbour:
    fields = {
        "name": "peer.tor",
        "peer": "tor",
        "type": "external",
        "address": "192.0.2.254",
        "asn": 65001,
        "state": "Established",
    }
    return Neighbour(**{**fields, **given})


def found(*neighbours: Neighbour, **given: object) -> list[Finding]:
    fields: dict[str, object] = {"wanted": True, "running": True, "asn": 64512, "neighbours": neighbours}
    return list(bgp.check(Facts(bgp=BgpStatus(**{**fields, **given}))))


def test_nothing_without_it() -> None:
    assert list(bgp.check(Facts())) == []
    assert found(wanted=False, running=False) == []


def test_all_is_well() -> None:
    (one,) = found(neighbour(), neighbour(peer="b"))
    assert (one.level, one.message) == ("ok", "AS 64512: 2 sessions, all established")
    (one,) = found()
    assert (one.level, one.message) == ("ok", "nobody to speak with")


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("", "both have the same password"),
        ("Socket: Connection refused", "nothing listens there"),
        ("Socket: No route to host", "ip route get 192.0.2.254"),
        ("Received: Bad peer AS", "see asNumber here, and remote-as there"),
        ("Bad BGP identifier", "set routerID"),
        ("Hold timer expired", "it fell silent"),
        ("BFD session down", "it fell silent"),
        ("Received: Connection rejected", "have it know this node as a neighbour"),
        ("there is no Secret default/tor:password", "a Secret with that key"),
        ("the password in Secret default/tor:password has 81 characters; 1 to 80 are possible", "a Secret with that key"),
    ],
)
def test_a_session_that_is_down(error: str, remedy: str) -> None:
    (one,) = found(neighbour(state="Active", error=error, address="192.0.2.254 port 1790"))
    assert one.level == "error"
    assert one.message.startswith("the session with tor (external, 192.0.2.254 port 1790, AS 65001) is Active")
    assert one.message.endswith(error)
    assert remedy in one.remedy


def test_a_speaker_that_does_not_run() -> None:
    (one,) = found(neighbour(state=""), running=False, reason="there is no program bird")
    assert (one.level, one.message) == ("error", "the BGP speaker: there is no program bird")


def test_what_may_hurt() -> None:
    silent, filtered = found(neighbour(bfd="Down"), neighbour(peer="b", routes=(RouteCount(family="ipv4", received=3),)))[:2]
    assert (silent.level, silent.message) == ("warning", "BFD with tor is Down")
    assert (filtered.level, filtered.message) == ("warning", "nothing that b tells passes")
    assert "--peer b --filtered" in filtered.remedy
