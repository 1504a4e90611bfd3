"""Nodes of a lab that keep what they share in etcd, beside the underlay."""

from __future__ import annotations

from contextlib import suppress

import pytest

from fairlead.lab import lab as acts
from fairlead.lab import pods, shape, store
from fairlead.lab.topology import Store, StoreDriver
from fairlead.model.errors import Failed, Unsupported
from tests.lab.conftest import Labs
from tests.lab.town import Town
from tests.wait import eventually


def nodes(town: Town, asked: str) -> str:
    return town.fairlead(asked, "get", "nodes", "-o", "name")


def run(town: Town, home: str, name: str) -> None:
    """One container more."""
    town.fairlead(home, "run", "-d", "--name", name, "--network", "pods", "--", *pods.server(name))


@pytest.mark.needs("etcd")
class TestEtcd:
    @pytest.fixture
    def town(self, lab: Labs) -> Town:
        return lab(nodes=2, store="etcd", members=3, dual=True)

    def test_nodes_meet_there_and_not_on_the_underlay(self, town: Town) -> None:
        assert nodes(town, "node1").split() == ["node/node1", "node/node2"]
        assert town.pod(1).reaches(town.pod(2))
        said = town.run("etcd1", "etcdctl", "--endpoints=http://172.31.0.254:2379", "member", "list")
        assert all(f"name={name}" in said or f", {name}," in said for name in ("etcd1", "etcd2", "etcd3"))
        assert town.run("node1", "ip", "-brief", "address", "show", "mgmt0").split()[2:4] == ["172.31.0.1/24", "fd00:31::1/64"]
        assert town.lab.machine("outside").attempt("ping", "-c", "1", "-W", "1", "172.31.0.1").returncode != 0

    def test_one_of_three_members_may_crash(self, town: Town) -> None:
        town.stop("etcd2")
        try:
            run(town, "node1", "later")
            assert town.pod(2).reaches(town.pod("later"))
        finally:
            town.start("etcd2")
            town.fairlead("node1", "rm", "-f", "-t", 0, "later")

    def test_nodes_that_are_cut_off_from_each_other_still_have_the_store(self, town: Town) -> None:
        town.partition("node1", "node2")
        try:
            assert town.pod(1).misses(town.pod(2))
            town.fairlead("node1", "network", "create", "while-cut", "--subnet", "10.77.0.0/24")
            eventually(lambda: "while-cut" in town.fairlead("node2", "network", "ls"), deadline=15)
        finally:
            town.heal()
            town.fairlead("node1", "network", "rm", "while-cut")

    def test_a_node_without_the_store_goes_on(self, town: Town) -> None:
        """Cut off from everybody, it starts containers, and so does the other side; later they reach each other."""
        for other in ("etcd1", "etcd2", "etcd3", "node2"):
            town.partition("node1", other)
        try:
            assert town.pod(1).reaches(town.outside)
            assert nodes(town, "node2").split() == ["node/node1", "node/node2"]
            for home in (1, 2):
                run(town, f"node{home}", f"cut-{home}")
                assert town.pod(f"cut-{home}").reaches(town.pod(home))
        finally:
            town.heal()
        assert town.pod(1).reaches(town.pod("cut-2"))
        assert town.pod("cut-1").reaches(town.pod("cut-2"))

    def test_networks_of_one_range_hold_no_address_twice(self, town: Town) -> None:
        """Four addresses, two networks, two nodes, each address claimed by itself: whoever comes fifth is told who has them."""
        for at, name in enumerate(("lan", "cam")):
            options = (
                "--driver",
                "macvlan",
                "--parent",
                "eth0",
                "--subnet",
                "10.90.0.0/29",
                "--ip-range",
                "10.90.0.2-10.90.0.5",
            )
            town.fairlead(f"node{at + 1}", "network", "create", name, *options)
        crowd = [(home, name) for home in ("node1", "node2") for name in ("lan", "cam")]
        for home, name in crowd:
            eventually(lambda home=home, name=name: f"network/{name}" in town.fairlead(home, "network", "ls", "-o", "name"))
        try:
            for home, name in crowd:
                _idle(town, home, name)
            eventually(lambda: len(_singles(town)) == len(crowd))
            blocks = _singles(town)
            assert sorted(blocks) == [f"10.90.0.{last}/32" for last in range(2, 6)]
            assert sorted(blocks.values()) == sorted((name, home) for home, name in crowd)
            refusal = r"network cam: every address of 10.90.0.0/29 is taken; by node: .*; for network lan, by node: .*node2 1"
            with pytest.raises(Failed, match=refusal):
                _idle(town, "node1", "cam", "late")
            (cam,) = (line for line in town.fairlead("node1", "network", "ls").splitlines() if line.startswith("cam "))
            assert "1/4 (3 elsewhere)" in cam
            town.fairlead("node2", "rm", "-f", "-t", 0, "lan-node2")
            eventually(lambda: len(_singles(town)) == len(crowd) - 1)
            _idle(town, "node1", "cam", "late")
        finally:
            for home in ("node1", "node2"):
                for name in ("lan", "cam", "late"):
                    with suppress(Failed):
                        town.fairlead(home, "rm", "-f", "-t", 0, name if name == "late" else f"{name}-{home}")
        eventually(lambda: not _singles(town), what="what nobody needs went back")
        for name in ("lan", "cam"):
            town.fairlead("node1", "network", "rm", name)


def _idle(town: Town, home: str, network: str, name: str = "") -> None:
    """A container that does nothing."""
    town.fairlead(home, "run", "-d", "--name", name or f"{network}-{home}", "--network", network, "--", "sleep", "600")


def _singles(town: Town) -> dict[str, tuple[str, str]]:
    """Network and node of each single address that is held."""
    rows = (line.split()[:3] for line in town.fairlead("node1", "get", "blocks").splitlines() if "/32 " in line)
    return {cidr: (network, node) for cidr, network, node in rows}


def test_etcd_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = shape.spec(shape.Underlay.L2, 1, store=Store(driver=StoreDriver.ETCD))
    monkeypatch.setattr(store, "PROGRAM", "no-such-etcd")
    with pytest.raises(Unsupported, match="no-such-etcd is not installed; it is in Debian's etcd-server"):
        acts.check(spec)
