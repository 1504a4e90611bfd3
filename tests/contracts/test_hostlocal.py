"""Fairlead's leases beside the real host-local: the same answers, and one directory for both."""

from __future__ import annotations

import json
import random
import subprocess
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fairlead.ipam import hostlocal
from fairlead.kernel.flock import locked
from fairlead.model.address import Address
from fairlead.model.errors import Problem
from fairlead.store.leases import Leases
from tests.wait import eventually

HOST_LOCAL = "/usr/lib/cni/host-local"

Addresses = tuple[tuple[str, str], ...]
Add = Callable[[Mapping[str, Any], str, str, str], Addresses | None]
Delete = Callable[[Mapping[str, Any], str, str], None]

needs_host_local = pytest.mark.needs(HOST_LOCAL)


def conf(
    directory: Path, *, args: Mapping[str, Any] | None = None, runtime: Mapping[str, Any] | None = None, **ipam: Any
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "cniVersion": "1.0.0",
        "name": "blue",
        "ipam": {"type": "host-local", "dataDir": str(directory), **ipam},
    }
    return config | ({"args": args} if args else {}) | ({"runtimeConfig": runtime} if runtime else {})


def theirs(command: str, config: Mapping[str, Any], container: str, interface: str = "eth0", args: str = "") -> tuple[int, Any]:
    env = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_IFNAME": interface,
        "CNI_NETNS": "/proc/self/ns/net",
        "CNI_PATH": "/usr/lib/cni",
        "CNI_ARGS": args,
    }
    ran = subprocess.run(
        [HOST_LOCAL], input=json.dumps(config), env=env, capture_output=True, text=True, check=False, timeout=30
    )
    return ran.returncode, json.loads(ran.stdout) if ran.stdout else None


def their_add(config: Mapping[str, Any], container: str, interface: str = "eth0", args: str = "") -> Addresses | None:
    code, answer = theirs("ADD", config, container, interface, args)
    return None if code else tuple((one["address"], one["gateway"]) for one in answer["ips"])


def their_delete(config: Mapping[str, Any], container: str, interface: str = "eth0") -> None:
    assert theirs("DEL", config, container, interface)[0] == 0


def book(config: hostlocal.Config) -> Leases:
    return Leases(config.data_dir, config.network, partial(locked, deadline=30.0))


def our_add(config: Mapping[str, Any], container: str, interface: str = "eth0", args: str = "") -> Addresses | None:
    try:
        parsed = hostlocal.parse(config, args)
        with book(parsed).locked() as leases:
            given = hostlocal.decide(parsed, (container, interface), leases.owners, leases.last(len(parsed.sets)))
            leases.reserve((container, interface), ((one.order, one.address) for one in given))
    except Problem:
        return None
    return tuple((one.interface, one.gateway) for one in given)


def our_delete(config: Mapping[str, Any], container: str, interface: str = "eth0") -> None:
    with book(hostlocal.parse(config)).locked() as leases:
        leases.release((container, interface))


def files(directory: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in (directory / "blue").iterdir()} if (directory / "blue").exists() else {}


V4 = {"subnet": "10.1.2.0/29"}
V6 = {"subnet": "fd00::/125"}

# Where there are several sets the first is the smallest: host-local takes of the first before it sees that the second has
# nothing left, and does not take back that it did (last_reserved_ip); Fairlead decides all before it writes anything.
CONFIGS: dict[str, dict[str, Any]] = {
    "old style": {"subnet": "10.1.2.0/29"},
    "old style, all fields": {
        "subnet": "10.1.2.0/24",
        "rangeStart": "10.1.2.9",
        "rangeEnd": "10.1.2.12",
        "gateway": "10.1.2.10",
    },
    "one set": {"ranges": [[V4]]},
    "several ranges": {
        "ranges": [
            [{**V4, "rangeStart": "10.1.2.4"}, {"subnet": "10.1.3.0/30"}, {"subnet": "10.1.4.0/29", "gateway": "10.1.4.3"}]
        ]
    },
    "both families": {"ranges": [[V4], [V6]]},
    "two sets of a family": {"ranges": [[V4], [{"subnet": "10.1.3.0/29"}]]},
    "old style and sets": {"subnet": "fd01::/126", "ranges": [[V4]]},
    "gateway outside": {"ranges": [[{**V4, "gateway": "192.0.2.1"}]]},
    "two ranges of a subnet": {"ranges": [[{**V4, "rangeEnd": "10.1.2.2"}, {**V4, "rangeStart": "10.1.2.5"}]]},
    "the gateway first and last": {
        "ranges": [
            [{**V4, "rangeStart": "10.1.2.3", "rangeEnd": "10.1.2.5", "gateway": "10.1.2.5"}],
            [{**V6, "gateway": "fd00::1"}],
        ]
    },
}


@needs_host_local
@pytest.mark.parametrize("ipam", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("seed", range(2))
def test_the_same_history_gives_the_same_answers_and_files(tmp_path: Path, ipam: dict[str, Any], seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # the same in every run
    one, other = conf(tmp_path / "theirs", **ipam), conf(tmp_path / "ours", **ipam)
    for _ in range(40):
        container = f"c{chance.randrange(9)}"
        if chance.random() < 0.7:
            assert our_add(other, container) == their_add(one, container)
        else:
            their_delete(one, container)
            our_delete(other, container)
        ours, real = files(tmp_path / "ours"), files(tmp_path / "theirs")
        assert {name for name in ours if name[0] != "l"} == {name for name in real if name[0] != "l"}
        assert all(ours[name] == data for name, data in real.items() if not name.startswith("last"))


@needs_host_local
@pytest.mark.parametrize("seed", range(4))
def test_one_directory_for_both(tmp_path: Path, seed: int) -> None:
    """Whoever asks, whoever lets go: no address twice, every lease freed by either, exhaustion seen by both."""
    chance = random.Random(seed)  # noqa: S311  # the same in every run
    config = conf(tmp_path, ranges=[[V4, {"subnet": "10.1.3.0/30"}], [{"subnet": "fd00::/124"}]])
    adds: list[Add] = [their_add, our_add]
    deletes: list[Delete] = [their_delete, our_delete]
    held: dict[tuple[str, str], Addresses] = {}
    for _ in range(80):
        owner = f"c{chance.randrange(10)}", chance.choice(["eth0", "net1"])
        if chance.random() < 0.65:
            answer = chance.choice(adds)(config, *owner, "")
            if owner in held or len(held) == 6:
                assert answer is None
            else:
                assert answer is not None
                held[owner] = answer
        else:
            chance.choice(deletes)(config, *owner)
            held.pop(owner, None)
        given = [address for addresses in held.values() for address, _ in addresses]
        assert len(set(given)) == len(given)
        assert {name for name in files(tmp_path) if name[0] not in "l."} == {address.partition("/")[0] for address in given}
    for at, owner in enumerate(tuple(held)):
        deletes[at % 2](config, *owner)
    assert {name for name in files(tmp_path) if name[0] not in "l."} == set()


@needs_host_local
def test_at_once_they_never_give_an_address_twice(tmp_path: Path) -> None:
    config = conf(tmp_path, ranges=[[{"subnet": "10.1.2.0/26"}], [{"subnet": "fd00::/64"}]])
    answers: list[Addresses | None] = []

    def worker(who: int, add: Add) -> None:
        answers.extend(add(config, f"w{who}.{at}", "eth0", "") for at in range(10))

    threads = [threading.Thread(target=worker, args=(who, (their_add, our_add)[who % 2])) for who in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    given = [address for answer in answers if answer for address, _ in answer]
    assert len(given) == len(set(given)) == 120
    assert our_add(config, "one-more") is not None
    assert [their_add(config, "too-many"), our_add(config, "too-many")] == [None, None]


BAD: dict[str, dict[str, Any]] = {
    "no ranges": {},
    "empty set": {"ranges": [[]]},
    "host bits": {"subnet": "10.1.2.3/24"},
    "no prefix": {"subnet": "10.1.2.0"},
    "too small": {"subnet": "10.1.2.0/31"},
    "start outside": {"subnet": "10.1.2.0/24", "rangeStart": "10.1.3.1"},
    "end before start": {"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.8"},
    "mixed families": {"ranges": [[V4, V6]]},
    "overlap in a set": {"ranges": [[V4, {"subnet": "10.1.2.0/24"}]]},
    "overlap of sets": {"ranges": [[V4], [{"subnet": "10.1.0.0/16"}]]},
    "a number": {"subnet": 7},
    "ranges no list": {"ranges": {"subnet": "10.1.2.0/24"}},
    "set no list": {"ranges": [{"subnet": "10.1.2.0/24"}]},
    "bad gateway": {"subnet": "10.1.2.0/24", "gateway": "10.1.2.256"},
    "bad route": {"subnet": "10.1.2.0/24", "routes": [{"dst": "nowhere"}]},
}


@needs_host_local
@pytest.mark.parametrize("ipam", BAD.values(), ids=BAD)
def test_what_one_refuses_the_other_refuses(tmp_path: Path, ipam: dict[str, Any]) -> None:
    config = conf(tmp_path, **ipam)
    assert their_add(config, "c1") is None
    with pytest.raises(Problem) as refused:
        hostlocal.parse(config)
    assert refused.value.field.startswith("ipam")
    assert files(tmp_path).keys() <= {"lock"}


WISHES: dict[str, tuple[dict[str, Any], str]] = {
    "CNI_ARGS": ({}, "IgnoreUnknown=1;K8S_POD_NAME=x;IP=10.1.2.5"),
    "args": ({"args": {"cni": {"ips": ["10.1.2.5"]}}}, ""),
    "args with length": ({"args": {"cni": {"ips": ["10.1.2.5/29"]}}}, ""),
    "capability": ({"runtime": {"ips": ["10.1.2.5/29", "fd00::6"]}}, ""),
    "both": ({"runtime": {"ips": ["fd00::6"]}}, "IP=10.1.2.6"),
    "capability ipRanges": (
        {"runtime": {"ipRanges": [[{"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.9"}], [{"subnet": "fd09::/64"}]]}},
        "",
    ),
    "gateway": ({}, "IP=10.1.2.1"),
    "outside": ({}, "IP=10.7.7.7"),
    "two of one set": ({"args": {"cni": {"ips": ["10.1.2.5", "10.1.2.6"]}}}, ""),
    "nonsense": ({"args": {"cni": {"ips": ["nonsense"]}}}, ""),
    "no pair": ({}, "IP"),
}


@needs_host_local
@pytest.mark.parametrize(("extra", "args"), WISHES.values(), ids=WISHES)
def test_wishes_come_true_in_both_or_in_none(tmp_path: Path, extra: dict[str, Any], args: str) -> None:
    one = conf(tmp_path / "theirs", ranges=[[V4], [V6]], **extra)
    other = conf(tmp_path / "ours", ranges=[[V4], [V6]], **extra)
    for container in ("c1", "c2"):
        assert our_add(other, container, args=args) == their_add(one, container, args=args)
    leases = [{name for name in files(tmp_path / who) if name[0] != "l"} for who in ("ours", "theirs")]
    assert leases[0] == leases[1]


@needs_host_local
def test_check_sees_the_leases_of_the_other(tmp_path: Path) -> None:
    config = conf(tmp_path, ranges=[[V4]])
    our_add(config, "mine")
    their_add(config, "yours")
    assert theirs("CHECK", config, "mine")[0] == 0
    assert theirs("CHECK", config, "nobody")[0] != 0
    with book(hostlocal.parse(config)).locked() as leases:
        assert leases.of(("yours", "eth0")) == ("10.1.2.3",)
        assert leases.of(("nobody", "eth0")) == ()


@needs_host_local
def test_host_local_waits_for_our_lock(tmp_path: Path) -> None:
    config = conf(tmp_path, ranges=[[V4]])
    answers: list[Addresses | None] = []
    with book(hostlocal.parse(config)).locked() as leases:
        adding = threading.Thread(target=lambda: answers.append(their_add(config, "c1")))
        adding.start()
        lock = (tmp_path / "blue" / "lock").stat().st_ino
        locks = Path("/proc/locks")
        eventually(
            lambda: [line for line in locks.read_text(encoding="ascii").splitlines() if "->" in line and f":{lock} " in line]
        )
        leases.reserve(("mine", "eth0"), [(0, Address("10.1.2.2"))])
        assert not answers
    adding.join()
    assert answers == [(("10.1.2.3/29", "10.1.2.1"),)]
