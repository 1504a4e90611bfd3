"""WireGuard devices: what every implementation promises, with real packets between two namespaces."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fairlead.kernel import netns, route
from fairlead.kernel.errors import Exists, Gone, KernelError, Unsupported
from fairlead.kernel.netlink import Netlink
from fairlead.kernel.wireguard import KEEPALIVE, Peer, Wireguard, choose, find, from_key, userspace
from fairlead.kernel.wireguard.kernel import Kernel
from fairlead.kernel.wireguard.userspace import Userspace
from fairlead.kit import x25519
from tests.kernel.room import Room, ip, run
from tests.wait import eventually

PORT = 51871
NAME = "wg0"


class Side:
    """One of two namespaces on a cable, with a WireGuard device of its own."""

    def __init__(self, fd: int, name: str, wireguard: Wireguard, number: int) -> None:
        self.fd, self.namespace, self.wireguard, self.number = fd, name, wireguard, number
        self.private = from_key(x25519.private())
        self.public = public(self.private)
        self.outer, self.inner = f"192.0.2.{number}", f"10.0.{number}.1"

    @contextmanager
    def inside(self) -> Iterator[Wireguard]:
        with netns.inside(self.fd):
            yield self.wireguard

    def make(self, other: Side, mtu: int = 1420) -> None:
        with self.inside() as wireguard:
            wireguard.make(NAME)
            with Netlink() as nl:
                nl.do(route.set_link(NAME, mtu=mtu, up=True))
                found = route.link(nl, NAME)
                assert found
                nl.do(route.new_address(found.index, f"{self.inner}/32"))
                nl.do(route.new_route(f"10.0.{other.number}.0/24", None, found.index))
            wireguard.set(NAME, private=self.private, port=PORT, peers=[self.peer(other)])

    @staticmethod
    def peer(other: Side, *more: str) -> Peer:
        return Peer(other.public, (other.outer, PORT), frozenset({f"10.0.{other.number}.0/24", *more}), KEEPALIVE)

    def pings(self, other: Side) -> bool:
        words = ["ip", "netns", "exec", self.namespace, "ping", "-n", "-c", "1", "-W", "1", other.inner]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0


def public(private: str) -> str:
    return subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout.strip()


def implementation(kind: str, directory: Path) -> Wireguard:
    return Kernel() if kind == "kernel" else Userspace(directory)


@pytest.fixture(
    params=[
        pytest.param("kernel", marks=pytest.mark.kernel("wireguard")),
        pytest.param("wireguard-go", marks=pytest.mark.needs("wireguard-go")),
    ]
)
def two(request: pytest.FixtureRequest, room: Room, tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    """Two namespaces on one cable."""
    sides = []
    for number, role in enumerate(("left", "right"), 1):
        name, fd = room.child()
        sides.append(Side(fd, name, implementation(request.param, tmp_path / role), number))
    one, other = sides
    run("ip", "link", "add", "eth0", "netns", one.namespace, "type", "veth", "peer", "name", "eth0", "netns", other.namespace)
    for side in sides:
        run("ip", "-n", side.namespace, "address", "add", f"{side.outer}/24", "dev", "eth0")
        run("ip", "-n", side.namespace, "link", "set", "eth0", "up")
    try:
        yield one, other
    finally:
        for side in sides:
            with side.inside() as wireguard:
                wireguard.remove(NAME)


pytestmark = pytest.mark.needs("wg")
Two = tuple[Side, Side]


def test_packets_pass(two: Two) -> None:
    one, other = two
    one.make(other)
    other.make(one)
    eventually(lambda: one.pings(other))
    with one.inside() as wireguard:
        device = wireguard.get(NAME)
    assert device
    assert (device.private, device.port) == (one.private, PORT)
    (peer,) = device.peers.values()
    assert peer == one.peer(other)
    assert abs(peer.handshake - time.time()) < 60
    assert peer.sent > 0
    assert peer.received > 0


def test_a_session_begins_by_itself(two: Two) -> None:
    """Nobody sends anything, and still each finds out that the other is there."""
    one, other = two
    one.make(other)
    other.make(one)

    def met() -> bool:
        with other.inside() as wireguard:
            device = wireguard.get(NAME)
        return bool(device and all(peer.handshake for peer in device.peers.values()))

    eventually(met)


def test_the_same_again_changes_nothing(two: Two) -> None:
    one, other = two
    one.make(other)
    with one.inside() as wireguard:
        before = wireguard.get(NAME)
        wireguard.make(NAME)
        wireguard.set(NAME, private=one.private, port=PORT, peers=[one.peer(other)])
        assert wireguard.get(NAME) == before


def test_peers_change(two: Two) -> None:
    one, other = two
    third = from_key(x25519.public(x25519.private()))
    one.make(other)
    with one.inside() as wireguard:

        def peers() -> dict[str, Peer]:
            device = wireguard.get(NAME)
            assert device
            return device.peers

        more = one.peer(other, "fd00::/64", "10.9.0.7/32")
        wireguard.set(NAME, peers=[more, Peer(third, None, frozenset({"10.8.0.0/24"}))])
        assert peers() == {other.public: more, third: Peer(third, None, frozenset({"10.8.0.0/24"}))}
        moved = Peer(other.public, ("2001:db8::7", 999), frozenset({"10.9.0.7/32"}))
        wireguard.set(NAME, peers=[moved])
        assert peers()[other.public] == moved
        wireguard.set(NAME, remove=[other.public, third])
        assert peers() == {}
        wireguard.set(NAME, remove=[third])


def test_an_address_is_behind_one_peer_alone(two: Two) -> None:
    one, other = two
    third = from_key(x25519.public(x25519.private()))
    one.make(other)
    with one.inside() as wireguard:
        wireguard.set(NAME, peers=[Peer(third, None, one.peer(other).allowed)])
        device = wireguard.get(NAME)
        assert device
        assert {public: peer.allowed for public, peer in device.peers.items()} == {
            other.public: frozenset(),
            third: one.peer(other).allowed,
        }


def test_hundreds_of_peers(two: Two) -> None:
    one, _ = two
    peers = [
        Peer(from_key(x25519.private()), ("2001:db8::7", PORT), frozenset(f"10.{at}.{each}.0/24" for each in range(20)))
        for at in range(200)
    ]
    with one.inside() as wireguard:
        wireguard.make(NAME)
        wireguard.set(NAME, private=one.private, port=PORT, peers=peers)
        device = wireguard.get(NAME)
        assert device
        assert device.peers == {peer.public: peer for peer in peers}


def test_what_is_not_there(two: Two) -> None:
    one, _ = two
    with one.inside() as wireguard:
        assert wireguard.get(NAME) is None
        wireguard.remove(NAME)
        with pytest.raises(Gone):
            wireguard.set(NAME, port=1)
        wireguard.make(NAME)
        assert wireguard.get(NAME)
        wireguard.remove(NAME)
        eventually(lambda: not ip("link", "show", "type", "wireguard") and NAME not in run("ip", "link"))
        assert wireguard.get(NAME) is None


def test_an_interface_of_somebody_else(two: Two) -> None:
    one, _ = two
    with one.inside() as wireguard:
        with Netlink() as nl:
            nl.do(route.new_bridge(NAME))
        with pytest.raises(KernelError):
            wireguard.make(NAME)
        assert wireguard.get(NAME) is None
        wireguard.remove(NAME)
        assert ip("link", "show", NAME)


@pytest.mark.needs("wireguard-go")
class TestTheProcess:
    """What is true of wireguard-go alone."""

    @pytest.fixture
    def wireguard(self, room: Room, tmp_path: Path) -> Iterator[Userspace]:  # noqa: ARG002
        made = Userspace(tmp_path / ("deep" * 30))
        yield made
        made.remove(NAME)

    def test_it_is_found_again(self, wireguard: Userspace, tmp_path: Path) -> None:
        wireguard.make(NAME)
        wireguard.set(NAME, port=PORT)
        index = ip("link", "show", NAME)[0]["ifindex"]
        another = Userspace(tmp_path / ("deep" * 30))
        another.make(NAME)
        found = another.get(NAME)
        assert found
        assert found.port == PORT
        assert ip("link", "show", NAME)[0]["ifindex"] == index

    def test_two_of_one_name_do_not_meet(self, wireguard: Userspace, room: Room, tmp_path: Path) -> None:
        wireguard.make(NAME)
        wireguard.set(NAME, port=PORT)
        neighbour = Userspace(tmp_path / "neighbour")
        _, fd = room.child()
        with netns.inside(fd):
            neighbour.make(NAME)
            try:
                found = neighbour.get(NAME)
                assert found
                assert found.port != PORT
            finally:
                neighbour.remove(NAME)
        assert wireguard.get(NAME)
        assert not Path("/var/run/wireguard").exists(), "where it would be without a directory of its own"

    @pytest.mark.parametrize("signal", ["TERM", "KILL"])
    def test_it_is_started_again(self, wireguard: Userspace, signal: str) -> None:
        wireguard.make(NAME)
        run("kill", f"-{signal}", pid())
        eventually(lambda: wireguard.get(NAME) is None)
        eventually(lambda: NAME not in run("ip", "link"))
        wireguard.make(NAME)
        assert wireguard.get(NAME)

    def test_one_that_hangs_is_told_apart_and_ended(self, wireguard: Userspace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(userspace, "_ANSWER", 0.1)
        monkeypatch.setattr(userspace, "_END", 0.1)
        wireguard.make(NAME)
        run("kill", "-STOP", pid())
        with pytest.raises(KernelError, match="does not answer"):
            wireguard.get(NAME)
        wireguard.remove(NAME)
        assert wireguard.get(NAME) is None
        eventually(lambda: NAME not in run("ip", "link"))

    def test_it_keeps_no_namespace_alive(self, wireguard: Userspace, room: Room) -> None:
        """What is unmounted outside is unmounted in its mount namespace too."""
        path = room.new_path()
        netns.create(path)
        wireguard.make(NAME)
        netns.delete(path)
        assert path not in Path(f"/proc/{pid()}/mountinfo").read_text()

    def test_a_name_that_is_taken(self, wireguard: Userspace) -> None:
        run("ip", "link", "add", NAME, "type", "veth")
        with pytest.raises((Exists, KernelError), match=NAME):
            wireguard.make(NAME)

    def test_a_port_that_is_taken(self, wireguard: Userspace) -> None:
        run("ip", "link", "set", "lo", "up")
        wireguard.make(NAME)
        with _bound(PORT), pytest.raises(KernelError) as refused:
            wireguard.set(NAME, port=PORT)
        assert "in use" in str(refused.value)


def test_which_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "in_kernel", lambda: "")
    assert find(tmp_path).name == "kernel"
    monkeypatch.setattr(choose, "TUN", "/dev/null")
    monkeypatch.setattr(choose, "in_kernel", lambda: "this kernel has no WireGuard")
    monkeypatch.setattr(choose, "program_path", lambda: "/usr/bin/wireguard-go")
    assert find(tmp_path).name == "wireguard-go"
    monkeypatch.setattr(choose, "program_path", lambda: None)
    with pytest.raises(Unsupported, match="no WireGuard, and wireguard-go is not installed"):
        find(tmp_path)
    monkeypatch.setattr(choose, "TUN", "/dev/absent")
    with pytest.raises(Unsupported, match="there is no /dev/absent"):
        find(tmp_path)


def pid() -> str:
    """The one process in this namespace that is no test."""
    own = Path("/proc/thread-self/ns/net").stat().st_ino
    (found,) = (
        one.name
        for one in Path("/proc").iterdir()
        if one.name.isdecimal() and _comm(one) == "wireguard-go" and (one / "ns/net").stat().st_ino == own
    )
    return found


def _comm(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip() if (process / "exe").readlink() else ""
    except OSError:  # it ended, or is a zombie
        return ""


@contextmanager
def _bound(port: int) -> Iterator[None]:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken:
        taken.bind(("::", port))
        yield
