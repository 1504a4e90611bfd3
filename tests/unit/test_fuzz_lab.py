"""Topologies that are more or less right: what is read can be planned, and what cannot be read is refused in words."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import strategies as st

from fairlead.lab import cuts, plan, topology
from fairlead.lab.topology import LabSpec
from fairlead.model import codec
from fairlead.model.errors import Exhausted, Invalid
from tests.fuzz import TREES, explore, wrong_value

NAMES = st.sampled_from(["a", "b", "c", "x", "y", "switch", "etcd1", "mgmt", "lo", "link1", "A", "too-long-a-name", "../x"])
SUBNETS = st.lists(st.sampled_from(["x", "y", "z", "link1"]), max_size=3)
PREFIXES = st.sampled_from(["10.0.0.0/30", "10.0.0.0/24", "fd00::/126", "fd00::/64", "172.16.0.0/12", "10.0.0.1/8"])
CIDRS = st.lists(PREFIXES, max_size=2)
ADDRESSES = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::", "172.31.0.1"]), max_size=2)
MTU = st.sampled_from([None, 0, 576, 1280, 1500, 70000])
STATION: dict[str, st.SearchStrategy[Any]] = {"subnets": SUBNETS, "addresses": ADDRESSES, "mtu": MTU}
POD = wrong_value({"name": NAMES, "networks": SUBNETS, "labels": st.dictionaries(NAMES, NAMES, max_size=1)})
SPEC = {
    "nodes": st.lists(
        st.fixed_dictionaries({"name": NAMES}, optional={**STATION, "pods": st.integers(-1, 3) | st.lists(POD, max_size=2)}),
        max_size=4,
    ),
    "subnets": st.lists(st.fixed_dictionaries({"name": NAMES}, optional={"cidrs": CIDRS, "mtu": MTU}), max_size=3),
    "routers": st.lists(st.fixed_dictionaries({"name": NAMES}, optional=STATION), max_size=3),
    "hosts": st.lists(st.fixed_dictionaries({"name": NAMES}, optional=STATION), max_size=2),
    "links": st.lists(st.fixed_dictionaries({"routers": st.tuples(NAMES, NAMES)}, optional={"cidrs": CIDRS}), max_size=2),
    "store": st.fixed_dictionaries(
        {}, optional={"driver": st.sampled_from(["etcd", "own"]), "members": st.sampled_from([1, 3])}
    ),
    "families": st.lists(st.sampled_from([4, 6, 5]), max_size=2),
    "mtu": MTU,
}
LIKELY = st.fixed_dictionaries({"nodes": SPEC["nodes"]}, optional={name: of for name, of in SPEC.items() if name != "nodes"})


def read(spec: Any) -> LabSpec | None:
    """The topology, None if it is refused."""
    tree = {"apiVersion": "fairlead.dev/v1", "kind": "Lab", "spec": spec}
    try:
        return topology.read(yaml.safe_dump(json.loads(json.dumps(tree, default=str)), allow_unicode=True))[0].spec
    except Invalid as problem:
        said = str(problem)
    assert 0 < len(said) < 3000
    for word in ("Traceback", "Expected `", "object at 0x"):
        assert word not in said, said
    return None


def test_what_is_read_can_be_planned() -> None:
    planned = []

    def check(spec: Any) -> None:
        found = read(spec)
        if found is None:
            return
        try:
            whole = plan.complete(found)
        except Exhausted:
            return
        assert plan.complete(whole) == whole
        assert codec.from_tree(codec.to_tree(whole), LabSpec) == whole
        made = plan.plan(whole)
        ports = [wire.port for machine in made.machines.values() for wire in machine.wires]
        assert len({*ports, *(one.name for one in made.subnets)}) == len(ports) + len(made.subnets)
        names = list(made.machines)
        cuts.rules(made, [(one, other) for one in names for other in names if one < other], {})
        planned.append(whole)

    explore(check, 600, spec=LIKELY)
    assert planned


def test_any_spec() -> None:
    def check(spec: Any) -> None:
        read(spec)

    explore(check, 300, spec=wrong_value(SPEC) | TREES)
