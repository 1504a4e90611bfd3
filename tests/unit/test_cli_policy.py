"""``fairlead policy``: the words of a question, and how answers are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from fairlead.api import wire
from fairlead.api.identities import Holder, Identity
from fairlead.api.schema import Asked, Difference, Elsewhere, Explained, Explaining, Flow, Peer, Previewed, RuleHits
from fairlead.cli.out import age
from tests.fake_agent import FakeAgent
from tests.unit.conftest import Run


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("db:5432", {"to": "db", "port": "5432"}),
        ("shop/db:53/udp", {"to": "shop/db", "port": "53", "protocol": "udp"}),
        ("shop/db:http", {"to": "shop/db", "port": "http"}),
        ("db/icmp", {"to": "db", "protocol": "icmp"}),
        ("db", {"to": "db"}),
        ("shop/db", {"to": "shop/db"}),
        ("fd00::1", {"to": "fd00::1"}),
        ("[fd00::1]:80", {"to": "fd00::1", "port": "80"}),
        ("192.0.2.1:80", {"to": "192.0.2.1", "port": "80"}),
        ("host:22", {"to": "host", "port": "22"}),
    ],
)
def test_a_question_is_taken_apart(fairlead: Run, agent: FakeAgent, target: str, asked: dict[str, str]) -> None:
    assert fairlead("policy", "explain", "web", target).status == 0
    assert agent.questions == [{"from": "web", **asked}]


@pytest.mark.parametrize("target", ["db:", "db:80:90", "db:80/", "[fd00::1", ":80", "db:a_b"])
def test_what_is_no_question(fairlead: Run, target: str) -> None:
    said = fairlead("policy", "explain", "web", target)
    assert said.status == 1
    assert f"to: {target!r} is not TO[:PORT][/PROTOCOL]" in said.err


def test_an_answer_that_the_kernel_contradicts_fails(fairlead: Run, agent: FakeAgent) -> None:
    agent.explained = Explained(
        allowed=True,
        steps=(
            Explaining(direction="egress", text="why", allows=True),
            Explaining(text="web to db, tcp port 80: allowed", allows=True),
        ),
        kernel=(Asked(direction="egress", link="flv1", allowed=False, reason="denied by policy", agrees=False),),
    )
    said = fairlead("policy", "explain", "web", "db:80")
    assert said.status == 1
    assert said.out.splitlines() == [
        "egress",
        "  ✓ why",
        "kernel",
        "  ✗ egress on flv1: denied by policy, against the above",
        "✓ web to db, tcp port 80: allowed",
    ]


def _far(*, answers: bool) -> Explained:
    """As the one node tells of an end on the other, and as the other tells of its own."""
    query = {"from": "10.0.0.1", "to": "fd00::2", "protocol": "tcp", "port": "80"}
    return Explained(
        allowed=True,
        steps=(
            Explaining(direction="egress", text="not isolated", allows=True),
            Explaining(direction="ingress", text="rule 0 matches", allows=True),
            Explaining(text="web to db, tcp port 80: allowed", allows=True),
        ),
        kernel=(
            Asked(direction="ingress" if answers else "egress", link="flv2" if answers else "flv1", allowed=True, agrees=True),
        ),
        elsewhere=() if answers else (Elsewhere(node="n2", direction="ingress", query=query),),
    )


def test_a_kernel_that_cannot_be_asked_is_said_to_be(fairlead: Run, agent: FakeAgent) -> None:
    agent.explained = _far(answers=False)
    said = fairlead("policy", "explain", "web", "db:80")
    assert said.status == 0
    assert said.out.splitlines()[-4:-1] == [
        "kernel",
        "  ✓ egress on flv1: passes",
        "  · ingress on node n2: not asked; run there: fairlead policy explain 10.0.0.1 [fd00::2]:80/tcp",
    ]


def test_the_kernel_of_another_node_is_asked_where_its_agent_is_reached(fairlead: Run, agent: FakeAgent) -> None:
    agent.explained = _far(answers=False)
    with FakeAgent(wire.node_socket("n2")) as other:
        other.explained = _far(answers=True)
        said = fairlead("policy", "explain", "web", "db:80")
        assert other.questions == [{"from": "10.0.0.1", "to": "fd00::2", "protocol": "tcp", "port": "80"}]
        assert said.out.splitlines()[-4:-1] == [
            "kernel",
            "  ✓ egress on flv1: passes",
            "  ✓ ingress on flv2 of node n2: passes",
        ]
        denies = Asked(direction="ingress", link="flv2", allowed=False, reason="denied by policy", agrees=True)
        other.explained = replace(other.explained, kernel=(denies,))
        said = fairlead("policy", "explain", "web", "db:80")
        assert said.status == 1, "its policies are others than ours"
        assert "ingress on flv2 of node n2: denied by policy, against the above" in said.out
    wire.node_socket("n2").touch()
    assert "not asked, its agent does not answer; run there: fairlead" in fairlead("policy", "explain", "web", "db:80").out


POLICY = "{kind: NetworkPolicy, metadata: {name: db, namespace: shop}, spec: {podSelector: {}}}"
FLOW = Flow(
    time="2026-11-23T10:15:02Z",
    event="close",
    verdict="forwarded",
    protocol="tcp",
    source=Peer(kind="endpoint", endpoint="spy", namespace="red", network="n", address="10.0.0.3", port=41234),
    destination=Peer(kind="endpoint", endpoint="db", namespace="shop", network="n", address="10.0.0.2", port=5432),
)
PREVIEWED = Previewed(
    differences=(
        Difference(allowed=False, sources=("red/spy", "world"), destinations=("shop/db",), ports="everything", pairs=2),
        Difference(allowed=True, sources=("*",), destinations=("shop/*",), ports="tcp 80", pairs=12),
    ),
    more=7,
    flows=(FLOW,),
    more_flows=2,
)


def test_a_preview_is_shown_with_what_would_be_cut(fairlead: Run, agent: FakeAgent, tmp_path: Path) -> None:
    agent.previewed = PREVIEWED
    (file := tmp_path / "new.yaml").write_text(POLICY)
    said = fairlead("policy", "preview", "-f", str(file))
    assert [line.split() for line in said.out.splitlines()[:3]] == [
        ["CHANGE", "FROM", "TO", "PORTS", "PAIRS"],
        ["-", "denied", "red/spy,world", "shop/db", "everything", "2"],
        ["+", "allowed", "*", "shop/*", "tcp", "80", "12"],
    ]
    assert "Seen lately, and would be cut (3):" in said.out
    assert "red/spy:41234 (n) -- shop/db:5432 (n) tcp close FORWARDED" in said.out
    assert "7 more rows" in said.err
    (proposal,) = agent.proposals
    assert (len(proposal.apply), proposal.delete, proposal.limit) == (1, (), 200)
    assert proposal.apply[0]["metadata"] == {"name": "db", "namespace": "shop"}
    fairlead("policy", "preview", "-f", str(file), "--delete", "--limit", "5")
    assert (agent.proposals[1].apply, len(agent.proposals[1].delete), agent.proposals[1].limit) == ((), 1, 5)
    assert json.loads(fairlead("policy", "preview", "-f", str(file), "-o", "json").out)["more"] == 7


def test_a_preview_without_change_says_so(fairlead: Run, agent: FakeAgent) -> None:
    assert "Nothing would change." in fairlead("policy", "preview", "-f", "-", stdin=POLICY).out
    assert len(agent.proposals) == 1
    assert "say which file" in fairlead("policy", "preview").err or "Usage" in fairlead("policy", "preview").out


def test_hits_are_listed_with_the_rules_that_never_decided(fairlead: Run, agent: FakeAgent) -> None:
    now = "2020-01-01T00:00:00Z"
    agent.hits = (
        RuleHits(policy="Admin/guard", direction="egress", index=2, action="Deny", name="no db", drops=4, last=now),
        RuleHits(policy="shop/db", direction="ingress", action="Accept", connections=17),
        RuleHits(direction="egress", action="Deny"),
        RuleHits(direction="ingress", action="Deny", drops=2, last=now),
    )
    rows = [line.split("  ") for line in fairlead("policy", "hits").out.splitlines()]
    shown = [[cell.strip() for cell in row if cell] for row in rows[1:]]
    assert shown == [
        ["Admin/guard", 'egress[2] "no db"', "Deny", "0", "4", f"{age(now)} ago"],
        ["shop/db", "ingress[0]", "Accept", "17", "0", "not known"],
        ["(default deny)", "egress", "Deny", "0", "0", "never"],
        ["(default deny)", "ingress", "Deny", "0", "2", f"{age(now)} ago"],
    ]
    assert fairlead("policy", "hits", "shop/db", "-o", "name").out == "shop/db ingress[0]\n"
    assert fairlead("policy", "hits", "-o", "name").out.endswith("egress default deny\ningress default deny\n")
    assert "there is no policy shop/x with rules" in fairlead("policy", "hits", "shop/x").err


IDENTITIES = (
    Identity(
        number="0000000000000abc",
        kind=Holder.CONTAINER,
        namespace="shop",
        labels={"app": "web"},
        namespace_labels={"team": "x"},
        ports={"http": "80/tcp"},
        cidrs=("10.0.0.0/8",),
        addresses=8,
        containers=("shop/a", "shop/b", "shop/c", "shop/d", "shop/e"),
    ),
    Identity(number="0000000000000def", kind=Holder.NODE, node_labels={"zone": "a", "old": "*"}, addresses=2),
    Identity(number="0000000000000fed", kind=Holder.CIDR, cidrs=("192.0.2.0/24",), addresses=1),
    Identity(number="00000000000000ff", kind=Holder.SERVICE, fronts=("tcp/80",), addresses=1),
    Identity(number="00000000000000fe", kind=Holder.OUTSIDE, addresses=2),
)


def test_identities_are_listed(fairlead: Run, agent: FakeAgent) -> None:
    agent.identities = IDENTITIES
    rows = [[cell.strip() for cell in line.split("  ") if cell] for line in fairlead("policy", "identities").out.splitlines()]
    assert rows == [
        ["NUMBER", "WHAT", "ADDRESSES", "CONTAINERS"],
        [
            "0000000000000abc",
            "shop,app=web,namespace team=x,port http=80/tcp,in 10.0.0.0/8",
            "8",
            "shop/a,shop/b,shop/c,and 2 more",
        ],
        ["0000000000000def", "node,node zone=a,node old=*", "2", "-"],
        ["0000000000000fed", "192.0.2.0/24", "1", "-"],
        ["00000000000000ff", "service,tcp/80", "1", "-"],
        ["00000000000000fe", "outside", "2", "-"],
    ]
    assert agent.questions == [{}]
    assert "container" in fairlead("policy", "identities", "-o", "wide").out
    assert json.loads(fairlead("policy", "identities", "-o", "json").out)[0]["containers"][4] == "shop/e"


def test_identities_are_chosen(fairlead: Run, agent: FakeAgent) -> None:
    agent.identities = IDENTITIES

    def names(*words: str) -> list[str]:
        return fairlead("policy", "identities", "-o", "name", *words).out.split()

    assert names("-n", "shop") == names("-l", "app=web") == ["0000000000000abc"]
    assert names("-l", "zone=a") == names("-l", "old=yes") == ["0000000000000def"]
    assert names("-n", "shop", "-l", "zone=a") == names("-n", "red") == []
    names("shop/web")
    assert agent.questions[-1] == {"who": "shop/web"}
    assert "write it like tier=web" in fairlead("policy", "identities", "-l", "app").err
