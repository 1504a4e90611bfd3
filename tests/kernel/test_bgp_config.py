"""BIRD reads every configuration that rows can come to, whatever people call things."""

from __future__ import annotations

import subprocess
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.bgp import config
from fairlead.desired import names
from fairlead.desired.routing import Announcement, Channel, Session, Sieve, Speaker
from fairlead.desired.state import NodeState
from fairlead.model.address import Address, InterfaceName, Name, Prefix
from fairlead.model.bgp import Bfd, Community
from fairlead.model.bgpfilter import BGPFilterRule, BGPFilterSpec, FilterAction, MatchOperator, PrefixLength
from fairlead.model.secret import SecretKeyRef

pytestmark = pytest.mark.needs("bird")

KEY = SecretKeyRef(name=Name("a"), key="b")
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?(\.[a-z0-9]{1,20})?", fullmatch=True) | st.just("x" * 63)
ODD = NAMES | st.text(max_size=12)
V4 = st.ip_addresses(v=4, network="10.0.0.0/8").map(lambda ip: Address(str(ip)))
V6 = st.ip_addresses(v=6, network="fd00::/8").map(lambda ip: Address(str(ip)))
P4 = st.builds(lambda ip, length: _prefix(str(ip), length), V4, st.integers(8, 32))
P6 = st.builds(lambda ip, length: _prefix(str(ip), length), V6, st.integers(8, 128))
ASNS = st.integers(1, 2**32 - 2)
PASSWORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"'), min_size=1, max_size=80)


def _prefix(address: str, length: int) -> Prefix:
    return Prefix(str(ip_network(f"{address}/{length}", strict=False)))


@st.composite
def rules(draw: st.DrawFn, prefixes: st.SearchStrategy[Prefix]) -> BGPFilterRule:
    operator = draw(st.none() | st.sampled_from(MatchOperator))
    cidr = draw(prefixes) if operator else None
    length = None
    if cidr and operator in {MatchOperator.IN, MatchOperator.NOT_IN} and draw(st.booleans()):
        low = draw(st.integers(cidr.length, 32 if cidr.family == 4 else 128))
        length = PrefixLength(min=low, max=draw(st.none() | st.integers(low, 32 if cidr.family == 4 else 128)))
    return BGPFilterRule(
        action=draw(st.sampled_from(FilterAction)),
        match_operator=operator,
        cidr=cidr,
        prefix_length=length,
        source=draw(st.none() | st.just("RemotePeers")),
        interface=draw(st.sampled_from(["", "eth0", "eth*", "en?.1@x+=-"])),
    )


SIEVES = st.lists(
    st.builds(
        Sieve,
        name=NAMES,
        rules=st.builds(
            BGPFilterSpec,
            import_v4=st.lists(rules(P4), max_size=3).map(tuple),
            export_v4=st.lists(rules(P4), max_size=3).map(tuple),
            import_v6=st.lists(rules(P6), max_size=3).map(tuple),
            export_v6=st.lists(rules(P6), max_size=3).map(tuple),
        ),
    ),
    max_size=3,
    unique_by=lambda one: one.name,
)


@st.composite
def sessions(draw: st.DrawFn, asn: int, filters: list[str]) -> Session:
    name = draw(ODD)
    kind = draw(st.sampled_from(["mesh", "reflector", "client", "external"]))
    internal = kind in {"reflector", "client"} or draw(st.booleans())
    over = draw(st.sampled_from([V4, V6]))
    hops = draw(st.just(0) | st.integers(2, 254))
    local = draw(over)
    remote = draw(over.filter(lambda one: one != local))
    linked = hops == 0 and local.family == 6 and draw(st.booleans())
    channels = draw(
        st.sampled_from(
            [
                (Channel(family=4, next_hop=Address("10.0.0.1")),),
                (Channel(family=6, next_hop=Address("fd00::1")),),
                (Channel(family=4, next_hop=Address("10.0.0.1")), Channel(family=6, next_hop=Address("fd00::1"))),
                (Channel(family=4, next_hop=Address("fd00::1"), extended=True), Channel(family=6, next_hop=Address("fd00::1"))),
            ]
        )
    )
    return Session(
        name=names.symbol(names.PEER if kind == "external" else names.NODE, name),
        kind=kind,
        peer=name,
        asn=asn,
        local=None if linked else local,
        remote=Address("fe80::1") if linked else remote,
        port=draw(st.integers(1, 65535)),
        remote_asn=asn if internal else draw(ASNS.filter(lambda one: one != asn)),
        channels=channels,
        device=InterfaceName("eth0") if linked else None,
        hops=hops,
        gateway=local if hops and draw(st.booleans()) else None,
        secure=draw(st.booleans()),
        hold=draw(st.integers(3, 65535)),
        restart=draw(st.integers(0, 4095)),
        bfd=draw(st.none() | st.builds(Bfd, interval=st.integers(10, 60000), multiplier=st.integers(2, 255))),
        cluster=draw(st.sampled_from(["10.0.0.1", "4294967295"])) if kind == "client" else "",
        keep=draw(st.booleans()),
        own=draw(st.integers(0, 10)),
        password=draw(st.none() | st.just(KEY)),
        filters=tuple(draw(st.lists(st.sampled_from([*filters, "gone"]), max_size=2, unique=True))),
    )


@st.composite
def states(draw: st.DrawFn) -> NodeState:
    asn = draw(ASNS)
    sieves = draw(SIEVES)
    speaker = Speaker(
        asn=asn,
        router_id=draw(V4),
        addresses=draw(st.tuples() | st.tuples(V4) | st.tuples(V6) | st.tuples(V4, V6)),
        territory=tuple(draw(st.lists(P4 | P6, max_size=4, unique=True))),
        port=draw(st.integers(1, 65535)),
        restart=120,
    )
    spoken = draw(st.lists(sessions(asn, [one.name for one in sieves]), max_size=5, unique_by=lambda one: one.name))
    community = st.sampled_from([Community("64512:7"), Community("4294967295:0:4294967295"), Community("0:65535")])
    announced = draw(
        st.lists(
            st.builds(Announcement, prefix=P4 | P6, communities=st.lists(community, max_size=3, unique=True).map(tuple)),
            max_size=5,
            unique_by=lambda one: one.prefix,
        )
    )
    return NodeState().replace("any", (speaker, *sieves, *spoken, *announced))


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(state=states(), password=PASSWORDS | st.none())
def test_bird_reads_it(tmp_path: Path, state: NodeState, password: str | None) -> None:
    text = config.text(state, {KEY: password} if password else {}, "var/bird.log")
    path = tmp_path / "bird.conf"
    path.write_text(text)
    read = subprocess.run(["bird", "-p", "-c", path], capture_output=True, text=True, timeout=20, check=False)
    assert read.returncode == 0, f"{read.stdout}{read.stderr}\n{text}"
