"""Words of the command line as values."""

from __future__ import annotations

import pytest

from fairlead.cli import parse
from fairlead.cli.network import pools
from fairlead.model.address import Address
from fairlead.model.endpoint import Bandwidth
from fairlead.model.errors import Invalid


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("", 0),
        ("8", 8),
        ("10M", 10_000_000),
        ("1.5G", 1_500_000_000),
        ("800k", 800_000),
        ("10mbit", 10_000_000),
        ("1Tbps", 10**12),
    ],
)
def test_rates(text: str, bits: int) -> None:
    assert parse.rate(text, "egress-rate") == bits


@pytest.mark.parametrize("text", ["x", "-1", "10 M", "10MB", "1e9", "7", "0", ".5M", "9" * 40])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse.rate(text, "egress-rate")
    assert caught.value.field == "egress-rate"


def test_labels() -> None:
    assert parse.labels(["tier=web", "example.com/a=", "x=1"]) == {"tier": "web", "example.com/a": "", "x": "1"}
    for wrong in ("tier", "=web", "a b=c", "tier=a b"):
        with pytest.raises(Invalid) as caught:
            parse.labels([wrong])
        assert caught.value.field == "label"


def test_named_ports() -> None:
    assert parse.port_names(["http=80", "dns=53/udp"]) == {"http": "80/tcp", "dns": "53/udp"}
    for wrong, told in (
        ("http", "has no port"),
        ("http=80/icmp", "is not a port and protocol"),
        ("80=80", "is not a port's name"),
    ):
        with pytest.raises(Invalid, match=told):
            parse.port_names([wrong])


def test_variables() -> None:
    own = {"HOME": "/root", "A": "1"}
    assert parse.environment(["A=2", "B=x=y", "HOME", "C="], own) == {"HOME": "/root", "A": "2", "B": "x=y", "C": ""}
    for wrong in ("=x", "", "A=\0"):
        with pytest.raises(Invalid, match="env"):
            parse.environment([wrong], own)


def test_values_that_are_wrong_name_the_option() -> None:
    with pytest.raises(Invalid) as caught:
        parse.values(Address, ["10.0.0.1", "10.0.0.300"], "ip")
    assert caught.value.field == "ip"
    assert "10.0.0.300" in caught.value.message


def test_values_that_are_wrong_together_name_the_field() -> None:
    with pytest.raises(Invalid) as caught:
        parse.made(Bandwidth, field="limits", ingress_burst=8)
    assert str(caught.value).startswith("limits.ingressBurst: a burst needs")


class TestPools:
    """Gateways, ranges and excludes find the subnet that they lie in."""

    def test_each_at_its_subnet(self) -> None:
        four, six = pools(
            ["10.1.0.0/24", "fd01::/64"],
            ["fd01::fe", "10.1.0.254"],
            ["10.1.0.64/26", "10.1.0.10-10.1.0.19", "fd01::100-fd01::1ff"],
            ["10.1.0.70", "fd01::110/124"],
        )
        assert (four.router, six.router) == ("10.1.0.254", "fd01::fe")
        assert [(one.start, one.end) for one in four.ranges] == [("10.1.0.64", "10.1.0.127"), ("10.1.0.10", "10.1.0.19")]
        assert [(one.start, one.end) for one in six.ranges] == [("fd01::100", "fd01::1ff")]
        assert (four.exclude, six.exclude) == (("10.1.0.70",), ("fd01::110/124",))

    @pytest.mark.parametrize(
        ("field", "arguments", "says"),
        [
            ("subnet", (["10.1.0.0"], [], [], []), "no prefix length"),
            ("subnet", (["10.1.0.5/24"], [], [], []), "the network is 10.1.0.0/24"),
            ("subnet.cidr", (["10.1.0.0/31"], [], [], []), "too small"),
            ("gateway", (["10.1.0.0/24"], ["10.2.0.1"], [], []), "in no subnet: 10.1.0.0/24"),
            ("gateway", ([], ["10.2.0.1"], [], []), "give --subnet too"),
            ("gateway", (["10.1.0.0/24"], ["10.1.0.1", "10.1.0.2"], [], []), "a subnet has one gateway"),
            ("subnet.gateway", (["10.1.0.0/24"], ["10.1.0.255"], [], []), "broadcast"),
            ("ip-range", (["10.1.0.0/24"], [], ["10.1.0.9-10.1.0.1"], []), "comes after"),
            ("ip-range", (["10.1.0.0/24"], [], ["10.1.0.9-x"], []), "not an IP address"),
            ("ip-range", (["10.1.0.0/24"], [], ["10.9.0.0/26"], []), "in no subnet"),
            ("subnet.ranges[0]", (["10.1.0.0/24"], [], ["10.1.0.9-10.1.1.1"], []), "is not in 10.1.0.0/24"),
            ("exclude", (["10.1.0.0/24"], [], [], ["gw"]), "not an IP address"),
            ("exclude", (["10.1.0.0/24"], [], [], ["10.9.0.1"]), "in no subnet"),
        ],
    )
    def test_what_is_wrong_is_named(self, field: str, arguments: tuple[list[str], ...], says: str) -> None:
        with pytest.raises(Invalid) as caught:
            pools(*arguments)
        assert caught.value.field == field
        assert says in caught.value.message
