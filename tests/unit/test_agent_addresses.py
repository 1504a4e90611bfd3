"""Addresses of containers that are stored and that nobody can read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fairlead.agent.addresses import Addresses
from fairlead.agent.rest import Rest
from fairlead.ipam.ledger import Ledger
from fairlead.ipam.pool import Holder
from fairlead.model.address import Prefix
from fairlead.model.broken import Broken
from fairlead.model.errors import Conflict
from fairlead.model.meta import Meta
from fairlead.model.network import Network, NetworkSpec, Subnet


def broken(name: str, **spec: Any) -> Broken:
    return Broken.of("endpoints", json.dumps({"metadata": {"name": name}, "spec": spec}).encode(), "it is of a newer version")


def test_they_are_given_to_nobody_else() -> None:
    ledger = Ledger()
    subnets = (Subnet(cidr=Prefix("10.1.0.0/29")), Subnet(cidr=Prefix("fd01::/64")))
    ledger.define(Network(metadata=Meta(name="blue"), spec=NetworkSpec(subnets=subnets)))
    none: Any = None
    it = Addresses(ledger, none, none, none, Rest(0))
    it.keep(
        [
            broken("one:eth0", network="blue", addresses=["10.1.0.2/29", "fd01::2/64"]),
            broken("two:eth0", network="blue", addresses=["10.1.0.9/29", "10.1.0.3/29"], mood=["new"]),
            broken("three:eth0", network="red", addresses=["10.9.0.2/24"]),
            broken("four:eth0", network=7, addresses={"v4": "10.1.0.4"}),
            broken("five:eth0", addresses=["what"]),
        ]
    )
    given = ledger.allocate("blue", Holder("new:eth0"))
    assert [one.address for one in given] == ["10.1.0.4", "fd01::3"]
    with pytest.raises(Conflict, match=r"10.1.0.2 of network blue is held by one:eth0, which cannot be read"):
        ledger.allocate("blue", Holder("newer:eth0"), wishes=["10.1.0.2"])
    ledger.release("one:eth0")
    assert ledger.allocate("blue", Holder("newer:eth0"), wishes=["10.1.0.2"])
