from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.ipam import hostlocal
from fairlead.ipam.hostlocal import Owner, Resolver
from fairlead.model.address import Address
from fairlead.model.errors import Conflict, Exhausted, Invalid, Problem

ME = ("c1", "eth0")


def tree(*, name: str = "blue", version: str = "1.0.0", extra: dict[str, Any] | None = None, **ipam: Any) -> dict[str, Any]:
    return {"cniVersion": version, "name": name, "ipam": ipam, **(extra or {})}


def config(**ipam: Any) -> hostlocal.Config:
    return hostlocal.parse(tree(**ipam))


def leases(*addresses: str) -> dict[Address, Owner]:
    return {Address(one): (f"h{at}", "eth0") for at, one in enumerate(addresses)}


def test_everything_is_read() -> None:
    found = hostlocal.parse(
        tree(
            subnet="10.1.0.0/16",
            rangeStart="10.1.0.9",
            rangeEnd="10.1.0.99",
            gateway="10.1.255.254",
            ranges=[[{"subnet": "fd00::/64"}]],
            routes=[{"dst": "0.0.0.0/0"}, {"dst": "fd01::/64", "gw": "fd00::9", "mtu": 1400}],
            dataDir="/run/leases",
            resolvConf="/etc/resolv.conf",
            extra={
                "args": {"cni": {"ips": ["10.1.0.10/16"]}},
                "runtimeConfig": {"ips": ["fd00::7"], "ipRanges": [[{"subnet": "10.9.0.0/24"}]]},
            },
        ),
        "K8S_POD_NAME=web;IP=10.9.0.5",
    )
    assert found.network == "blue"
    assert (found.data_dir, found.resolv_conf, found.version) == ("/run/leases", "/etc/resolv.conf", "1.0.0")
    assert [str(one) for ranges in found.sets for one in ranges] == [
        "10.9.0.1-10.9.0.254",
        "10.1.0.9-10.1.0.99",
        "fd00::1-fd00::ffff:ffff:ffff:ffff",
    ]
    assert [ranges[0].gateway for ranges in found.sets] == ["10.9.0.1", "10.1.255.254", "fd00::1"]
    assert found.wishes == ("10.9.0.5", "10.1.0.10", "fd00::7")
    assert found.routes[1] == {"dst": "fd01::/64", "gw": "fd00::9", "mtu": 1400}
    given = hostlocal.decide(found, ME, {}, {})
    assert [(one.order, one.interface, one.gateway) for one in given] == [
        (0, "10.9.0.5/24", "10.9.0.1"),
        (1, "10.1.0.10/16", "10.1.255.254"),
        (2, "fd00::7/64", "fd00::1"),
    ]


def test_what_is_left_out() -> None:
    found = hostlocal.parse({"name": "blue", "ipam": {"subnet": "10.1.0.0/24", "routes": None, "ranges": None}, "args": None})
    assert (found.data_dir, found.resolv_conf, found.version) == ("/var/lib/cni/networks", "", "0.1.0")
    assert (found.routes, found.wishes) == ((), ())


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ([], ""),
        ({"name": "blue"}, "ipam"),
        ({"name": "blue", "ipam": []}, "ipam"),
        (tree(), "ipam.ranges"),
        (tree(name="../etc", subnet="10.1.0.0/24"), "name"),
        (tree(name="a" * 256, subnet="10.1.0.0/24"), "name"),
        (tree(name="", subnet="10.1.0.0/24"), "name"),
        (tree(subnet="10.1.0.0/24", dataDir="relative"), "ipam.dataDir"),
        (tree(subnet="10.1.0.0/24", dataDir=7), "ipam.dataDir"),
        (tree(subnet="10.1.0.0/24", version="one"), "cniVersion"),
        (tree(ranges=[[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]], version="0.2.0"), "cniVersion"),
        (tree(ranges=[[{"subnet": "10.1.0.0/24"}, {"subnet": "x"}]]), "ipam.ranges[0][1].subnet"),
        (tree(ranges=[[{"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"}]]), "ipam.ranges[0][0].rangeStart"),
        (tree(ranges=[[{"subnet": "10.1.0.0/24", "rangeEnd": []}]]), "ipam.ranges[0][0].rangeEnd"),
        (tree(ranges=[[{"subnet": "10.1.0.0/24", "gateway": "fd00::1"}]]), "ipam.ranges[0][0].gateway"),
        (tree(ranges=[[{}]]), "ipam.ranges[0][0].subnet"),
        (tree(ranges=[[], []]), "ipam.ranges[0]"),
        (tree(ranges=[[{"subnet": "10.1.0.0/24"}] * 1025]), "ipam.ranges"),
        (tree(subnet="10.1.0.0/24", routes=[{"dst": "10.0.0.0/8", "gw": "x"}]), "ipam.routes[0].gw"),
        (tree(subnet="10.1.0.0/24", routes=[{}]), "ipam.routes[0].dst"),
        (tree(subnet="10.1.0.0/24", extra={"args": {"cni": {"ips": [7]}}}), "args.cni.ips[0]"),
        (tree(subnet="10.1.0.0/24", extra={"runtimeConfig": {"ips": ["10.1.0.5", "x"]}}), "runtimeConfig.ips[1]"),
        (
            tree(subnet="10.1.0.0/24", extra={"runtimeConfig": {"ipRanges": [[{"subnet": "x"}]]}}),
            "runtimeConfig.ipRanges[0][0].subnet",
        ),
    ],
)
def test_a_bad_field_is_named(bad: Any, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        hostlocal.parse(bad)
    assert refused.value.field == field
    assert refused.value.message


@pytest.mark.parametrize("args", ["IP", "IP=10.1.0.300"])
def test_bad_arguments_are_named(args: str) -> None:
    with pytest.raises(Invalid, match="CNI_ARGS"):
        hostlocal.parse(tree(subnet="10.1.0.0/24"), args)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=9)
    | st.sampled_from(["10.1.0.0/24", "10.1.0.5", "fd00::/64", "1.0.0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["subnet", "rangeStart", "gateway", "dst", "gw", "cni", "ips", "ipRanges", "ranges", "routes", "dataDir"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {"name": st.just("blue")}, optional=dict.fromkeys(["ipam", "args", "runtimeConfig", "cniVersion"], JSON)
    ),
    st.text(max_size=20),
)
def test_whatever_comes_in_is_read_or_refused(found: dict[str, Any], args: str) -> None:
    try:
        hostlocal.decide(hostlocal.parse(found, args), ME, {}, {})
    except Problem as problem:
        assert str(problem)  # noqa: PT017  # either outcome is right; a third is not


def test_the_search_goes_round() -> None:
    one = config(ranges=[[{"subnet": "10.1.0.0/29"}, {"subnet": "10.2.0.0/30"}]])
    order = ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6", "10.2.0.2"]
    for at, last in enumerate(order):
        (given,) = hostlocal.decide(one, ME, {}, {0: Address(last)})
        assert given.address == order[(at + 1) % len(order)]
    assert hostlocal.decide(one, ME, {}, {0: Address("192.0.2.1")})[0].address == "10.1.0.2"
    assert hostlocal.decide(one, ME, leases(*order[:3], *order[4:]), {0: Address("10.2.0.2")})[0].address == "10.1.0.5"
    assert hostlocal.decide(one, ME, leases(*order[1:]), {0: Address("10.1.0.2")})[0].address == "10.1.0.2"


def test_a_huge_set_is_not_enumerated() -> None:
    one = config(subnet="fd00::/16")
    end = "fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    assert hostlocal.decide(one, ME, leases("fd00::2", "fd00::3"), {0: Address(end)})[0].address == "fd00::4"


def test_never_the_ends_nor_a_gateway() -> None:
    ranges = [
        {"subnet": "10.1.0.0/29", "rangeStart": "10.1.0.0", "rangeEnd": "10.1.0.3"},
        {"subnet": "10.1.0.0/29", "rangeStart": "10.1.0.4", "rangeEnd": "10.1.0.7", "gateway": "10.1.0.2"},
    ]
    one = config(ranges=[ranges])
    held: dict[Address, Owner] = {}
    while len(held) < 4:
        (given,) = hostlocal.decide(one, (f"c{len(held)}", "eth0"), held, {})
        held[given.address] = (f"c{len(held)}", "eth0")
    assert list(held) == ["10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"]
    with pytest.raises(Exhausted, match="4 of 4 are held"):
        hostlocal.decide(one, ("late", "eth0"), held, {})
    for wish in ("10.1.0.0", "10.1.0.1", "10.1.0.2", "10.1.0.7"):
        with pytest.raises(Invalid, match=f"ips: {wish} is the gateway, the network's own or the broadcast address"):
            hostlocal.decide(one._replace(wishes=(Address(wish),)), ME, {}, {})


def test_exhaustion_names_the_set_and_its_holders() -> None:
    one = config(ranges=[[{"subnet": "10.1.0.0/28"}]])
    with pytest.raises(Exhausted) as refused:
        hostlocal.decide(one, ME, leases(*(f"10.1.0.{at}" for at in range(2, 15)), "10.9.9.9"), {})
    said = str(refused.value)
    assert said.startswith(
        "network blue: no address is left in 10.1.0.1-10.1.0.14: 13 of 13 are held, by 10.1.0.2 h0:eth0, 10.1.0.3 h1:eth0"
    )
    assert "and 3 more" in said


def test_one_who_has_is_refused() -> None:
    one = config(ranges=[[{"subnet": "10.1.0.0/28"}], [{"subnet": "fd00::/64"}]])
    for owner in (ME, ("c1", "")):
        with pytest.raises(Conflict, match=r"container c1 already holds fd00::9 of network blue on eth0"):
            hostlocal.decide(one, ME, {Address("fd00::9"): owner}, {})
    assert (
        hostlocal.decide(
            one, ME, {Address("fd00::9"): ("c1", "net1"), Address("10.9.0.1"): ME, Address("10.1.0.2"): ("", "")}, {}
        )[0].address
        == "10.1.0.3"
    )


def test_wishes() -> None:
    one = config(ranges=[[{"subnet": "10.1.0.0/28"}], [{"subnet": "fd00::/64"}]])
    with pytest.raises(Conflict, match=r"ips: 10\.1\.0\.5 of network blue is held by h0:eth0"):
        hostlocal.decide(one._replace(wishes=(Address("10.1.0.5"),)), ME, leases("10.1.0.5"), {})
    for wishes in (("10.7.0.1",), ("10.1.0.5", "10.1.0.6")):
        with pytest.raises(Invalid, match=r"ips: .* cannot be given.*10\.1\.0\.1-10\.1\.0\.14; fd00::1"):
            hostlocal.decide(one._replace(wishes=tuple(map(Address, wishes))), ME, {}, {})


def test_a_resolv_conf() -> None:
    lines = (
        "# a comment",
        "; another",
        "nameserver 10.0.0.53",
        "nameserver fd00::53 trailing",
        "domain a.example",
        "domain b.example",
        "search x y",
        "search z",
        "options ndots:5",
        "  options edns0  ",
        "nonsense",
        "nameserver",
        "",
    )
    expected = Resolver(("10.0.0.53", "fd00::53"), "b.example", ("x", "y", "z"), ("ndots:5", "edns0"))
    assert hostlocal.resolver("\n".join(lines)) == expected
    assert hostlocal.resolver("") == Resolver()
