"""Encryption between nodes: from stations to rows. Which key, which device, which way; when a key is replaced."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.desired.state import NodeState, Rows
from fairlead.desired.ways import Crypt, CryptPeer, Detour, Path
from fairlead.kernel.wireguard import from_key
from fairlead.model.address import Interface, Prefix
from fairlead.model.meta import Meta
from fairlead.model.network import Driver, Network, NetworkSpec, Subnet
from fairlead.model.node import MTU, PUBLIC_KEY, UNDERLAY, Node
from fairlead.topology import crypt, rotation, routes
from fairlead.topology.station import Station, published

V4, V6 = Prefix("10.60.1.0/26"), Prefix("fd60::1:0/122")


def key(name: str, generation: int) -> str:
    return from_key(f"{name}/{generation}".encode().ljust(32, b"."))


def station(name: str, *generations: int, addresses: str = "", mtu: int = 1500) -> Station:
    number = "abc".index(name) + 1
    given = addresses or f"192.0.2.{number}/24,2001:db8::{number}/64"
    keys = {number: key(name, number) for number in generations}
    return Station(name, tuple(Interface(one) for one in given.split(",")), mtu, published(keys))


def network(name: str = "farm", *, encrypt: bool = True, driver: Driver = Driver.VXLAN) -> Network:
    subnets = (Subnet(cidr=Prefix("10.60.0.0/16")), Subnet(cidr=Prefix("fd60::/64")))
    return Network(metadata=Meta(name=name), spec=NetworkSpec(driver=driver, encrypt=encrypt, subnets=subnets))


def rows(me: Station, other: Station, met: set[int] = frozenset(), **given: object) -> Rows:  # type: ignore[assignment]
    wanted = {"behind": (V4, V6), "plain": (), **given}
    return crypt.peer_rows(me, other, crypt.way(me, other, met), **wanted)  # type: ignore[arg-type]


def of(kind: type, found: Rows) -> list:
    return [one for one in found if isinstance(one, kind)]


class TestWhatIsPublished:
    """The annotation of a node."""

    @given(st.dictionaries(st.integers(1, 1 << 30), st.binary(min_size=32, max_size=32), max_size=2))
    def test_what_is_written_is_read(self, keys: dict[int, bytes]) -> None:
        texts = {number: from_key(one) for number, one in keys.items()}
        read = Station("a", (), key=published(texts)).keys
        latest = {number & 1: number for number in sorted(texts)}
        assert read == {number: texts[number] for number in latest.values()}

    @given(st.text())
    def test_what_makes_no_sense_counts_as_absent(self, text: str) -> None:
        assert isinstance(Station("a", (), key=text).keys, dict)

    @pytest.mark.parametrize(
        "text",
        ["", "key", "1:", ":", "0:" + key("a", 1), "-1:" + key("a", 1), "1:" + key("a", 1)[:-4], "9" * 40 + ":" + key("a", 1)],
    )
    def test_such_as(self, text: str) -> None:
        assert Station("a", (), key=text).keys == {}

    def test_a_node_says_it(self) -> None:
        said = {UNDERLAY: "192.0.2.1/24", MTU: "9000", PUBLIC_KEY: published({7: key("a", 7), 8: key("a", 8)})}
        found = Station.of(Node(metadata=Meta(name="a", annotations=said)))
        assert found.mtu == 9000
        assert found.keys == {7: key("a", 7), 8: key("a", 8)}


class TestTheWay:
    """By which device, with which MTU."""

    def test_the_newest_that_both_have(self) -> None:
        way = crypt.way(station("a", 7), station("b", 7), ())
        assert way == crypt.Way(7, "flw1", 0)

    def test_an_older_one_until_they_met(self) -> None:
        a, b = station("a", 7, 8), station("b", 7, 8)
        assert crypt.way(a, b, ())[:2] == (7, "flw1")  # type: ignore[index]
        assert crypt.way(a, b, {7})[:2] == (7, "flw1")  # type: ignore[index]
        assert crypt.way(a, b, {7, 8})[:2] == (8, "flw0")  # type: ignore[index]

    def test_none(self) -> None:
        for a, b in (
            (station("a"), station("b", 7)),
            (station("a", 7), station("b")),
            (station("a", 7), station("b", 9)),
            (station("a", 7, addresses="192.0.2.1/24"), station("b", 7, addresses="2001:db8::2/64")),
        ):
            assert crypt.way(a, b, ()) is None
            assert crypt.unreached(a, b)
            assert crypt.unreached(b, a)
        assert not crypt.unreached(station("a", 7), station("b", 7, 8))

    @pytest.mark.parametrize(
        ("mine", "theirs", "addresses", "mtu"),
        [
            (1500, 1500, "", 0),
            (1500, 9000, "", 0),
            (1500, 1400, "", 1328),  # 1340, of which WireGuard fills up the last 12 bytes
            (1500, 1404, "", 1344),
            (1500, 1500, "2001:db8::2/64", 1408),  # by IPv6, while the device is made for IPv4
            (9000, 1500, "", 1440),
        ],
    )
    def test_its_mtu(self, mine: int, theirs: int, addresses: str, mtu: int) -> None:
        way = crypt.way(station("a", 7, mtu=mine), station("b", 7, mtu=theirs, addresses=addresses), ())
        assert way
        assert way.mtu == mtu


class TestRows:
    """Devices, peers, routes."""

    def test_a_device_for_each_key(self) -> None:
        found = crypt.own_rows(station("a", 7, 8), [network()])
        assert of(Crypt, found) == [
            Crypt(name="flw1", port=51872, public=key("a", 7), mtu=1440),
            Crypt(name="flw0", port=51871, public=key("a", 8), mtu=1440),
        ]
        assert of(Detour, found) == [Detour(prefix=Prefix("10.60.0.0/16")), Detour(prefix=Prefix("fd60::/64"))]
        (by_six, *_) = of(Crypt, crypt.own_rows(station("a", 7, addresses="2001:db8::1/64"), [network()]))
        assert by_six.mtu == 1420
        assert crypt.own_rows(station("a", 7), []) == ()

    def test_the_other_on_each_device_that_both_have(self) -> None:
        a, b = station("a", 7, 8), station("b", 7, 8)
        peers = of(CryptPeer, rows(a, b))
        assert {(one.device, one.public, one.port) for one in peers} == {
            ("flw1", key("b", 7), 51872),
            ("flw0", key("b", 8), 51871),
        }
        for one in peers:
            assert one.endpoint == "192.0.2.2"
            assert set(one.allowed) == {V4, V6, "192.0.2.2/32", "2001:db8::2/128"}

    def test_of_two_one_calls(self) -> None:
        a, b = station("a", 7), station("b", 7)
        (mine,), (theirs,) = of(CryptPeer, rows(a, b)), of(CryptPeer, rows(b, a))
        assert mine.calls != theirs.calls

    def test_a_route_and_nobody_behind_it(self) -> None:
        a, b = station("a", 7), station("b", 7)
        found = routes.remote_rows(network(), a, b, [V4, V6], crypt.way(a, b, ()))
        assert found == (
            Path(dst=V4, device="flw1", source="192.0.2.1"),
            Path(dst=V4, metric=1064),
            Path(dst=V6, device="flw1", source="2001:db8::1"),
            Path(dst=V6, metric=1064),
        )

    @pytest.mark.parametrize("driver", [Driver.VXLAN, Driver.HOST_GW, Driver.BGP])
    def test_without_a_key_there_is_nobody_whatever_the_driver(self, driver: Driver) -> None:
        a, b = station("a", 7), station("b")
        assert routes.remote_rows(network(driver=driver), a, b, [V4]) == (Path(dst=V4, metric=1064),)
        assert not of(CryptPeer, rows(a, b))
        assert set(of(Path, rows(a, b))) == {
            Path(dst=Prefix("192.0.2.2/32"), metric=1064, apart=True),
            Path(dst=Prefix("2001:db8::2/128"), metric=1064, apart=True),
        }

    def test_what_is_apart(self) -> None:
        a, b = station("a", 7), station("b", 7)
        plain = Prefix("10.61.0.0/26")
        found = {(one.dst, one.device, one.metric) for one in of(Path, rows(a, b, behind=(V4, plain), plain=(plain,)))}
        assert found == {
            (dst, device, metric)
            for dst in ("192.0.2.2/32", "2001:db8::2/128", plain)
            for device, metric in (("flw1", 0), (None, 1064))
        }

    def test_no_tunnel_in_a_tunnel(self) -> None:
        own = routes.own_rows(network(), station("a", 7), ())
        assert {type(one) for one in own} == {Path}

    def test_all_of_it_is_one_state(self) -> None:
        """No two rows have one key, whoever brings them."""
        a, b, c = station("a", 7, 8), station("b", 7, 8), station("c", 8)
        state = NodeState().replace("encryption", crypt.own_rows(a, [network()]))
        state = state.replace("here", routes.own_rows(network(), a, ()))
        for at, other in enumerate((b, c)):
            prefix = Prefix(f"10.60.{at}.0/26")
            way = crypt.way(a, other, {8})
            state = state.replace(f"encryption/{other.name}", rows(a, other, {8}, behind=(prefix,)))
            state = state.replace(f"node/{other.name}", routes.remote_rows(network(), a, other, [prefix], way))
        assert len(state.table(CryptPeer)) == 3

    def test_a_network_of_one_block(self) -> None:
        """Nobody at the whole network, and the other at its only block: two routes to one destination."""
        small = Network(metadata=Meta(name="small"), spec=NetworkSpec(driver=Driver.VXLAN, subnets=(Subnet(cidr=V4),)))
        state = NodeState().replace("here", routes.own_rows(small, station("a"), ()))
        state = state.replace("there", routes.remote_rows(small, station("a"), station("b"), [V4]))
        assert len(state.table(Path)) == 2


def test_what_two_claim_is_neithers() -> None:
    a, b, c = station("a", 7), station("b", 7), station("c", 7)
    assert crypt.claimed_twice([a, b, c]) == {}
    copied = c._replace(key=b.key)
    assert set(crypt.claimed_twice([a, b, copied])) == {"b", "c"}
    moved = c._replace(addresses=a.addresses[:1])
    assert crypt.claimed_twice([a, b, moved]) == {"a": "192.0.2.1", "c": "192.0.2.1"}


class TestRotation:
    """Who makes a key of which generation, and who forgets one."""

    def test_the_first(self) -> None:
        assert rotation.wanted({}, []) == 1
        assert rotation.wanted({}, [station("b", 7)]) == 7
        assert rotation.wanted({}, [station("b", 7), station("c", 7, 8)]) == 7, "that which everybody understands"

    def test_who_sees_a_newer_one_follows(self) -> None:
        mine = {7: key("a", 7)}
        assert rotation.wanted(mine, [station("b", 7)]) == 0
        assert rotation.wanted(mine, [station("b", 7, 8)]) == 8
        assert rotation.wanted(mine, [station("b")]) == 0
        assert rotation.wanted(mine, [station("b", 5)]) == 0

    def test_an_old_one_is_kept_for_who_has_no_newer(self) -> None:
        mine = {7: key("a", 7), 8: key("a", 8)}
        assert rotation.spent(mine, [station("b", 7)]) == set()
        assert rotation.spent(mine, [station("b", 7, 8), station("c", 7)]) == set()
        assert rotation.spent(mine, [station("b", 7, 8), station("c", 8)]) == {7}
        assert rotation.spent(mine, [station("b")]) == {7}, "who has none needs none"
        assert rotation.spent({8: key("a", 8)}, []) == set()

    @given(st.lists(st.sampled_from("abc"), max_size=60), st.booleans())
    def test_whoever_acts_when_there_is_always_a_way(self, order: list[str], begin: bool) -> None:
        """Nodes see each other late and act in any order: two that had a common key always have one."""
        keys = {name: {7: key(name, 7)} for name in "abc"}
        if begin:
            keys["a"][8] = key("a", 8)
        seen = {name: {other: dict(keys[other]) for other in "abc"} for name in "abc"}
        for at, name in enumerate(order):
            others = [Station(other, (), key=published(seen[name][other])) for other in "abc" if other != name]
            if number := rotation.wanted(keys[name], others):
                keys[name][number] = key(name, number)
            for number in rotation.spent(keys[name], others):
                del keys[name][number]
            watcher = "abc"[at % 3]
            seen[watcher][name] = dict(keys[name])
            for one in "abc":
                for other in "abc":
                    assert keys[one].keys() & keys[other].keys(), (one, other, keys)
