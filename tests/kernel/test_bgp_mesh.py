"""Nodes that speak BGP with each other: the mesh, reflectors, one family and both, what a change and a death cost."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from fairlead.desired.routing import Speaker as Row
from fairlead.kernel.process import started
from fairlead.model.errors import Failed
from fairlead.model.secret import SecretKeyRef
from tests.kernel.speakers import Cluster, Speaker, Switch
from tests.kernel.traffic import Traffic
from tests.net import Namespace, kept
from tests.wait import eventually

pytestmark = pytest.mark.needs("bird")


def nodes(cleanup: ExitStack, cluster: Cluster, lan: Switch, names: str = "abc") -> tuple[list[Speaker], list[Namespace]]:
    """Nodes a, b, ... with one block and one pod of each family."""
    made, pods = [], []
    for number, name in enumerate(names, 1):
        addresses = (f"192.0.2.{number}/24", f"2001:db8:2::{number}/64")
        node = kept(cleanup, cluster.add(name, *addresses))
        lan.plug(node, *addresses)
        cluster.block(name, f"10.1.{number}.0/26")
        cluster.block(name, f"fd00:1:0:{number}::/64")
        made.append(node)
        pods.append(kept(cleanup, node.pod(f"pod-{name}", f"10.1.{number}.5", f"fd00:1:0:{number}::5")))
    return made, pods


def reaches(source: Namespace, address: str, why: str = "") -> None:
    """An echo request is answered; the first may come before IPv6 has settled on a link that was just made."""
    eventually(lambda: source.pings(address), what=f"{source.name} reaches {address} {why}")


def configure(cluster: Cluster, **spec: object) -> None:
    """Give all nodes a BGPConfiguration."""
    said = "".join(f"  {field}: {value}\n" for field, value in spec.items())
    cluster.apply(f"apiVersion: fairlead.dev/v1\nkind: BGPConfiguration\nmetadata: {{name: default}}\nspec:\n{said}")


def test_every_node_tells_every_other_of_its_blocks(cleanup: ExitStack, cluster: Cluster, lan: Switch) -> None:
    (a, b, c), pods = nodes(cleanup, cluster, lan)
    a.run("ip", "route", "add", "10.1.3.0/26", "via", "192.0.2.99")  # somebody's, to the same place
    cluster.settle()
    cluster.established()
    assert {peer: one.type for peer, one in a.neighbours().items()} == {"b": "mesh", "c": "mesh"}
    eventually(lambda: b.routes() == {"10.1.1.0/26": ["192.0.2.1"], "10.1.3.0/26": ["192.0.2.3"]}, what="IPv4 at b")
    there = {"fd00:1:0:1::/64": ["2001:db8:2::1"], "fd00:1:0:3::/64": ["2001:db8:2::3"]}
    eventually(lambda: b.routes(6) == there, what="IPv6 at b, by the same sessions")
    for source in pods[1:]:
        for number in (2, 3):
            reaches(source, f"10.1.{number}.5")
            reaches(source, f"fd00:1:0:{number}::5")
    counts = {one.family: (one.received, one.accepted, one.exported) for one in b.neighbours()["a"].routes}
    assert counts == {"ipv4": (1, 1, 1), "ipv6": (1, 1, 1)}
    # What the node itself sends has its own address, which others know the way to.
    assert "src 192.0.2.2" in b.run("ip", "route", "get", "10.1.3.5")
    # An address that no pod has is answered by its node, and not sent round in circles.
    assert "Unreachable" in pods[1].attempt("ping", "-c", 1, "-W", 2, "10.1.3.77").stdout
    # What somebody else wrote is there, and is what counts.
    assert "via 192.0.2.99" in a.run("ip", "route", "get", "10.1.3.5")
    assert a.routes()["10.1.3.0/26"] == ["192.0.2.3"]
    assert not re.search(r"<(ERR|BUG|AUTH|FATAL)>", c.log), c.log


def test_a_block_more_drops_no_session_and_no_packet(
    cleanup: ExitStack, cluster: Cluster, lan: Switch, record_figures: list[str]
) -> None:
    (a, b, _), pods = nodes(cleanup, cluster, lan)
    cluster.settle()
    cluster.established()
    eventually(lambda: len(a.routes()) == len(b.routes()) == 2)
    before = {one.node: {peer: seen.since for peer, seen in one.neighbours().items()} for one in (a, b)}
    going = Traffic(pods[0], pods[1], "10.1.2.5")
    times = []
    for number in range(8):
        cluster.block("b", f"10.1.2.{64 + 16 * number}/28")
        begin = time.monotonic()
        cluster.settle("b")
        eventually(lambda at=number: f"10.1.2.{64 + 16 * at}/28" in a.routes(), what="the block at a")
        times.append(time.monotonic() - begin)
    lent = kept(cleanup, a.pod("borrower", "10.1.2.33"))
    cluster.block("b", "10.1.2.0/26", **{"10_1_2_33": "a"})
    cluster.settle("a", "b")
    eventually(lambda: "10.1.2.33" in b.routes(), what="the way to a lent address at its block's node")
    reaches(pods[1], "10.1.2.33")
    reaches(pods[2], "10.1.2.33")
    reaches(lent, "10.1.3.5")
    configure(
        cluster,
        communities="[{name: racks, value: '64512:7'}]",
        prefixAdvertisements="[{cidr: 10.1.2.0/24, communities: [racks]}]",
    )
    cluster.settle()
    eventually(lambda: "(64512,7)" in a.ask("show route all for 10.1.2.64/28"))
    lost = going.stop()
    times.sort()
    record_figures.append(f"BGP, a block more: at the other node in {times[4] * 1000:.0f} ms (median of 8); {lost}")
    assert lost.nothing, lost
    assert before == {one.node: {peer: seen.since for peer, seen in one.neighbours().items()} for one in (a, b)}


def test_reflectors_tell_their_clients_what_others_told(cleanup: ExitStack, cluster: Cluster, lan: Switch) -> None:
    configure(cluster, nodeToNodeMesh="false")
    cluster.apply("""
apiVersion: fairlead.dev/v1
kind: BGPPeer
metadata: {name: reflectors}
spec: {nodeSelector: {}, peerSelector: {matchLabels: {reflector: "true"}}}
""")
    (a, b, c, d), pods = nodes(cleanup, cluster, lan, "abcd")
    for name in "cd":
        cluster.annotate(name, {"reflector": "true"}, route_reflector_cluster_id="10.0.0.1")
    cluster.settle()
    cluster.established()
    assert {peer: one.type for peer, one in a.neighbours().items()} == {"c": "reflector", "d": "reflector"}
    assert {peer: one.type for peer, one in c.neighbours().items()} == {"a": "client", "b": "client", "d": "mesh"}
    whole = {f"10.1.{number}.0/26": [f"192.0.2.{number}"] for number in (1, 3, 4)}
    eventually(lambda: b.routes() == whole, what="each block by its own node, and not by who told of it")
    reaches(pods[0], "10.1.2.5")
    reaches(pods[0], "fd00:1:0:2::5")
    told = b.ask("show route all for 10.1.1.0/26")
    assert "BGP.cluster_list: 10.0.0.1" in told
    assert "BGP.originator_id: 192.0.2.1" in told
    d.kill()
    lan.cut(d)
    reaches(pods[0], "10.1.2.5", "one reflector is enough")
    assert c.routes() | whole


def test_ipv4_through_ipv6_where_the_nodes_have_nothing_else(cleanup: ExitStack, cluster: Cluster, lan: Switch) -> None:
    made, pods = [], []
    for number, name in enumerate("ab", 1):
        node = kept(cleanup, cluster.add(name, f"2001:db8:2::{number}/64"))
        lan.plug(node, f"2001:db8:2::{number}/64")
        cluster.block(name, f"10.1.{number}.0/26")
        cluster.block(name, f"fd00:1:0:{number}::/64")
        made.append(node)
        pods.append(kept(cleanup, node.pod(f"pod-{name}", f"10.1.{number}.5", f"fd00:1:0:{number}::5")))
    cluster.settle()
    cluster.established()
    eventually(lambda: made[0].routes() == {"10.1.2.0/26": ["2001:db8:2::2"]}, what="IPv4 through an IPv6 neighbour")
    eventually(lambda: made[0].routes(6) == {"fd00:1:0:2::/64": ["2001:db8:2::2"]})
    reaches(pods[0], "10.1.2.5")
    reaches(pods[0], "fd00:1:0:2::5")
    ids = {row.router_id for one in made for row in one.state.table(Row).values()}
    assert len(ids) == 2, "32 bits of each node's name"


def test_racks_with_an_as_and_a_port_of_their_own(cleanup: ExitStack, cluster: Cluster, lan: Switch) -> None:
    (a, b, _), pods = nodes(cleanup, cluster, lan)
    cluster.apply("""
apiVersion: fairlead.dev/v1
kind: BGPConfiguration
metadata: {name: node.b}
spec: {asNumber: 4200000002, listenPort: 1790, routerID: 10.9.9.9}
""")
    cluster.settle()
    cluster.established()
    assert a.neighbours()["b"].asn == 4200000002
    assert a.neighbours()["b"].address == "192.0.2.2 port 1790"
    eventually(lambda: len(a.routes()) == len(b.routes()) == 2)
    reaches(pods[0], "10.1.2.5")
    assert "BGP.as_path: 4200000002" in a.ask("show route all for 10.1.2.0/26")


def test_passwords(cleanup: ExitStack, cluster: Cluster, lan: Switch) -> None:
    (a, b), _ = nodes(cleanup, cluster, lan, "ab")
    reference = SecretKeyRef(name="bgp", key="mesh")
    configure(cluster, nodeMeshPassword="{secretKeyRef: {name: bgp, key: mesh}}")
    cluster.settle()
    assert a.neighbours()["b"].state == "Down", "without its password no session is tried"
    cluster.passwords[reference] = r"it's a \ long # one; {really}"
    cluster.settle()
    cluster.established()
    cluster.passwords[reference] = "another"
    cluster.settle("a")
    eventually(lambda: not a.neighbours()["b"].up and not b.neighbours()["a"].up)
    since = time.monotonic()
    eventually(lambda: time.monotonic() - since > 6 and a.neighbours()["b"].state in {"Connect", "Active"}, deadline=10)
    cluster.settle()
    cluster.established()
    assert oct((a.directory / "bird.conf").stat().st_mode & 0o777) == "0o640"
    assert oct(a.directory.stat().st_mode & 0o777) == "0o750"


def test_what_bird_does_not_understand_changes_nothing(cleanup: ExitStack, cluster: Cluster, lan: Switch) -> None:
    (a, _), pods = nodes(cleanup, cluster, lan, "ab")
    cluster.settle()
    cluster.established()
    before = (a.directory / "bird.conf").read_text()
    with pytest.raises(Failed, match=r"goes on with the old: .*bird.conf.new:2:1 syntax error"):
        cluster.loop(a.bird.tell("router id 10.0.0.1;\nnonsense;\n"))
    assert (a.directory / "bird.conf").read_text() == before
    assert a.neighbours()["b"].up
    reaches(pods[0], "10.1.2.5")


@pytest.mark.parametrize(
    ("how", "limit", "why"),
    [("hold time", "3 s", "Hold timer expired"), ("BFD", "3 x 100 ms", "BFD session down")],
)
def test_a_dead_node_is_forgotten(
    cleanup: ExitStack, cluster: Cluster, lan: Switch, record_figures: list[str], how: str, limit: str, why: str
) -> None:
    """An address that two nodes announce goes on by the other; the block of the dead node is told of no more."""
    configure(cluster, **({"holdTime": 3} if how == "hold time" else {"bfd": "{interval: 100, multiplier: 3}"}))
    (a, b, c), pods = nodes(cleanup, cluster, lan)
    for node in (a, b):
        kept(cleanup, node.pod("service", "10.1.200.1"))
    cluster.announce("10.1.200.1/32", "a", "b")
    cluster.settle()
    cluster.established()
    eventually(lambda: c.routes()["10.1.200.1"] == ["192.0.2.1", "192.0.2.2"], what="two ways, of one weight")
    if how == "BFD":
        eventually(lambda: c.ask("show bfd sessions").count("Up") == 2, what="BFD with both")
    before = time.monotonic()
    lan.cut(a)
    eventually(lambda: c.routes().get("10.1.200.1") == ["192.0.2.2"], deadline=20, what="one way")
    gone = time.monotonic() - before
    reaches(pods[2], "10.1.200.1")
    eventually(lambda: "10.1.1.0/26" not in c.routes())
    record_figures.append(f"BGP, a dead node: its ways are gone after {gone:.2f} s (by {how}: {limit})")
    assert c.neighbours()["a"].error == why
    lan.mend(a)
    eventually(lambda: c.routes()["10.1.200.1"] == ["192.0.2.1", "192.0.2.2"], deadline=40, what="both again")


def test_a_speaker_that_dies_is_started_again_and_nothing_is_lost(
    cleanup: ExitStack, cluster: Cluster, lan: Switch, record_figures: list[str]
) -> None:
    (a, b, c), pods = nodes(cleanup, cluster, lan)
    cluster.settle()
    cluster.established()
    eventually(lambda: len(a.routes()) == len(b.routes()) == 2)
    going = Traffic(pods[0], pods[1], "10.1.2.5")
    for round_ in range(1, 4):
        before = time.monotonic()
        a.kill()
        eventually(lambda times=round_: a.bird.restarts == times, what="another one")
        cluster.established(deadline=30)
        # Until it has told everything anew; a second death before that is no restart.
        eventually(lambda: not any(one.waits() for one in (b, c)), deadline=40, what="recovery")
        record_figures.append(f"BGP, a speaker killed: it has recovered after {time.monotonic() - before:.1f} s")
    lost = going.stop()
    record_figures.append(f"BGP, a speaker killed three times: {lost}")
    assert lost.nothing, lost
    assert len(b.routes()) == 2


def test_another_agent_goes_on_with_the_speaker_it_finds(cleanup: ExitStack, cluster: Cluster, lan: Switch) -> None:
    (a, b), _ = nodes(cleanup, cluster, lan, "ab")
    cluster.settle()
    cluster.established()
    before, pid = a.neighbours()["b"].since, a.pid
    a.another()
    cluster.settle()
    assert (a.neighbours()["b"].since, a.pid) == (before, pid)
    cluster.block("a", "10.1.1.64/26")
    cluster.settle()
    eventually(lambda: "10.1.1.64/26" in b.routes())
    a.kill()
    eventually(lambda: a.bird.restarts == 1, what="the one that found it looks after it")
    cluster.established()


def test_the_end(cleanup: ExitStack, cluster: Cluster, lan: Switch) -> None:
    (a, b), _ = nodes(cleanup, cluster, lan, "ab")
    cluster.settle()
    cluster.established()
    eventually(lambda: len(b.routes()) == 1)
    pid = a.pid
    cluster.loop(a.bird.end())
    eventually(lambda: not b.routes(), what="b was told, and does not wait for its return")
    assert not cluster.loop(a.bird.running())
    assert not started(pid)
    cluster.settle("a")
    cluster.established()


def test_another_bird_on_the_host(cleanup: ExitStack, cluster: Cluster, lan: Switch, tmp_path: Path) -> None:
    """Debian's own service, as it is configured there: neither takes the other's routes for its own."""
    (a, _), pods = nodes(cleanup, cluster, lan, "ab")
    cluster.settle()
    cluster.established()
    eventually(lambda: a.routes() == {"10.1.2.0/26": ["192.0.2.2"]})
    going = Traffic(pods[0], pods[1], "10.1.2.5")
    config = tmp_path / "other.conf"
    config.write_text("""
router id 192.0.2.200;
debug protocols all;
protocol device { }
protocol kernel { ipv4 { export all; }; scan time 1; }
protocol kernel { ipv6 { export all; }; scan time 1; }
protocol static { ipv4; route 203.0.113.0/24 via 192.0.2.99; }
""")
    other = a.start("bird", "-d", "-c", config, "-s", tmp_path / "other.ctl")
    scans = 0
    assert other.stdout
    while scans < 6:
        scans += "Scanning routing table" in other.stdout.readline()
    both = {"10.1.2.0/26": ["192.0.2.2"], "203.0.113.0/24": ["192.0.2.99"]}
    assert a.routes() == both
    lost = going.stop()
    assert lost.nothing, lost
    a.run("ip", "route", "del", "10.1.2.0/26", "metric", 1102)
    eventually(lambda: a.routes() == both, deadline=20, what="what somebody removed is back once BIRD has looked")
