"""The agent's part in encryption that takes time or lies on disk: keys in files, handshakes, what doctor says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from fairlead.agent.handshakes import Handshakes
from fairlead.agent.keyring import Keyring
from fairlead.api.encryption import Encryption, Key, Peer
from fairlead.doctor import encryption
from fairlead.doctor.base import Facts
from fairlead.kernel import wireguard
from fairlead.kernel.wireguard import Device, from_key, to_key
from fairlead.kit import x25519
from fairlead.topology.station import Station, published


class TestKeyring:
    """Private keys on disk."""

    def test_what_is_made_is_found_again(self, tmp_path: Path) -> None:
        now = 1000.0
        made = Keyring(tmp_path / "wireguard", lambda: now)
        assert made.public == {}
        made.make(7)
        made.make(8)
        again = Keyring(tmp_path / "wireguard")
        assert again.public == made.public
        assert list(again.public) == [7, 8]
        for public in again.public.values():
            assert from_key(x25519.public(to_key(again.secret(public)))) == public
        assert made.age(7) == 0
        assert again.secret("another") == ""

    def test_only_root_reads_it(self, tmp_path: Path) -> None:
        made = Keyring(tmp_path / "wireguard")
        made.make(7)
        (file,) = (tmp_path / "wireguard").iterdir()
        assert (file.name, file.stat().st_mode & 0o777) == ("7.key", 0o600)
        assert file.parent.stat().st_mode & 0o777 == 0o700

    def test_what_is_dropped_is_gone(self, tmp_path: Path) -> None:
        made = Keyring(tmp_path)
        made.make(7)
        public = made.public[7]
        made.drop(7)
        made.drop(7)
        assert made.public == {}
        assert made.secret(public) == ""
        assert list(tmp_path.iterdir()) == []

    def test_a_crash_while_a_key_is_written_leaves_the_old_one(self, tmp_path: Path) -> None:
        made = Keyring(tmp_path)
        made.make(7)
        (tmp_path / "8.new").write_text("half of a k")
        again = Keyring(tmp_path)
        assert again.public == made.public
        again.make(8)
        assert list(Keyring(tmp_path).public) == [7, 8]

    @pytest.mark.parametrize("text", ["", "AAAA", "x" * 44, "\0" * 44])
    def test_what_is_no_key_is_passed_over(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "7.key").write_text(text)
        (tmp_path / "seven.key").write_text(text)
        made = Keyring(tmp_path)
        assert made.public == {}
        made.make(7)
        assert list(Keyring(tmp_path).public) == [7]


def key(name: str, generation: int) -> str:
    return from_key(f"{name}/{generation}".encode().ljust(32, b"."))


def station(name: str, *generations: int) -> Station:
    return Station(name, (), key=published({number: key(name, number) for number in generations}))


class Kernel:
    """Devices with peers, whose handshakes a test lets happen."""

    def __init__(self) -> None:
        self.now = 0.0
        self.peers: dict[str, dict[str, wireguard.Peer]] = {"flw0": {}, "flw1": {}}
        self.called: list[str] = []

    async def devices(self) -> dict[str, Device]:
        return {name: Device(name, peers=peers) for name, peers in self.peers.items()}

    async def call(self, peers: Iterable[str]) -> None:
        self.called += peers

    def has(self, device: str, public: str, handshake: float = 0, sent: int = 0) -> None:
        self.peers[device][public] = wireguard.Peer(public, handshake=handshake, sent=sent)

    def handshakes(self) -> Handshakes:
        return Handshakes(self.devices, self.call, lambda: self.now)


def look(handshakes: Handshakes, *others: Station) -> set[str]:
    return asyncio.run(handshakes.look({one.name: one for one in others}))


class TestHandshakes:
    """When a way goes over to a newer key."""

    def test_once_there_was_one(self) -> None:
        kernel, b = Kernel(), station("b", 7, 8)
        handshakes = kernel.handshakes()
        handshakes.expect(station("a", 7, 8), [b])
        assert look(handshakes, b) == set()
        assert handshakes.waiting
        kernel.has("flw0", key("b", 8), handshake=5)
        assert look(handshakes, b) == {"b"}
        assert handshakes.met("b") == {8}
        kernel.has("flw1", key("b", 7), handshake=5)
        assert look(handshakes, b) == {"b"}
        assert not handshakes.waiting
        assert look(handshakes, b) == set()

    def test_or_after_a_while(self) -> None:
        kernel, b = Kernel(), station("b", 7, 8)
        handshakes = kernel.handshakes()
        handshakes.expect(station("a", 7, 8), [b])
        kernel.now = 9
        assert look(handshakes, b) == set()
        kernel.now = 11
        assert look(handshakes, b) == {"b"}
        assert handshakes.met("b") == {7, 8}

    def test_nobody_who_began_is_called(self) -> None:
        kernel, b = Kernel(), station("b", 7)
        handshakes = kernel.handshakes()
        handshakes.expect(station("a", 7), [b])
        kernel.has("flw1", key("b", 7), sent=148)
        kernel.now = 5
        look(handshakes, b)
        assert kernel.called == []

    def test_who_should_have_begun_is_called_once(self) -> None:
        kernel, b = Kernel(), station("b", 7)
        handshakes = kernel.handshakes()
        handshakes.expect(station("a", 7), [b])
        kernel.has("flw1", key("b", 7))
        look(handshakes, b)
        assert kernel.called == [], "not at once: both would fail"
        for kernel.now in (0.4, 0.5, 3):
            look(handshakes, b)
        assert kernel.called == [f"flw1 {key('b', 7)}"]

    def test_a_device_that_was_made_anew(self) -> None:
        kernel, b = Kernel(), station("b", 7)
        handshakes = kernel.handshakes()
        handshakes.expect(station("a", 7), [b])
        kernel.has("flw1", key("b", 7), handshake=5)
        look(handshakes, b)
        handshakes.again()
        handshakes.expect(station("a", 7), [b])
        assert handshakes.waiting
        assert handshakes.met("b") == {7}, "the way stays"

    def test_what_is_no_more_is_forgotten(self) -> None:
        kernel, b = Kernel(), station("b", 7, 8)
        handshakes = kernel.handshakes()
        handshakes.expect(station("a", 7, 8), [b])
        kernel.has("flw1", key("b", 7), handshake=5)
        look(handshakes, b)
        handshakes.expect(station("a", 8), [b])
        assert handshakes.met("b") == set()
        handshakes.expect(station("a", 8), [])
        assert not handshakes.waiting


KEY = Key(generation=7, public="k", device="flw1", port=51872, age=1, up=True)


def told(**now: object) -> list[tuple[str, str]]:
    facts = Facts(nodes=2, encryption=Encryption(**{"by": "kernel", "networks": ("farm",), "keys": (KEY,), **now}))  # type: ignore[arg-type]
    return [(one.level, f"{one.message}; {one.remedy}") for one in encryption.check(facts)]


class TestDoctor:
    """What is wrong, and what to do."""

    def test_nothing_where_nothing_is_encrypted(self) -> None:
        assert told(networks=()) == []
        assert list(encryption.check(Facts(nodes=1, encryption=Encryption(networks=("farm",), lacking="no")))) == []

    def test_all_is_well(self) -> None:
        ((level, said),) = told(peers=(Peer(node="b", generation=7, endpoint="192.0.2.2:51872", handshake=100, sent=9),))
        assert level == "ok"
        assert "to 1 other nodes on farm are encrypted by kernel" in said

    def test_no_wireguard(self) -> None:
        ((level, said),) = told(by="", lacking="this kernel has no WireGuard")
        assert level == "error"
        assert "install the package wireguard-go" in said

    def test_a_peer_without_a_key(self) -> None:
        ((level, said),) = told(peers=(Peer(node="b", problem="b has no WireGuard key"),))
        assert level == "error"
        assert "nothing is sent to b on farm: b has no WireGuard key; fairlead doctor on b" in said

    @pytest.mark.parametrize("handshake", [None, 301])
    def test_a_peer_that_does_not_answer(self, handshake: float | None) -> None:
        found = told(peers=(Peer(node="b", generation=7, endpoint="[2001:db8::2]:51872", handshake=handshake, sent=148),))
        assert found[0][0] == "warning"
        assert "let UDP port 51872 pass" in found[0][1]

    def test_a_peer_that_was_not_asked(self) -> None:
        assert [level for level, _ in told(peers=(Peer(node="b", generation=7, endpoint="192.0.2.2:51872"),))] == ["ok"]

    def test_a_device_that_is_missing(self) -> None:
        missing = Key(generation=7, public="k", device="flw1", port=51872, age=1, up=False)
        assert told(keys=(missing,))[0][0] == "error"
