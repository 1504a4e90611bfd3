"""nftables: text and raw elements, checked with nft."""

import itertools
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable

import pytest

from fairlead.kernel import netns, nft
from fairlead.kernel.errors import Exists, Gone, KernelError
from fairlead.kernel.netlink import NETFILTER, Netlink
from fairlead.kernel.nft import Change, Element, field, ifname
from tests.kernel.room import Room, nft_list, run

TABLE = """
table inet t {
    counter hits { }
    set plain4 { type ipv4_addr; }
    set plain6 { type ipv6_addr; }
    set ports { type inet_service; flags interval; }
    map names { type ifname : mark; }
    map hash4 { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }
    map hash6 { type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service; }
    map range4 { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; flags interval; }
    map range6 { type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service; flags interval; }
    chain input {
        type filter hook input priority filter; policy accept;
        ct state established accept
        tcp dport { 22, 80 } counter accept
        ip saddr @plain4 counter name hits drop
    }
    chain extra { counter; }
}
"""
FAMILIES = pytest.mark.parametrize("family", [4, 6])
AF = {4: socket.AF_INET, 6: socket.AF_INET6}


@pytest.fixture
def table(room: Room) -> str:
    with netns.inside(room.fd):
        nft.run(TABLE)
    return "t"


def _in_t(name: str, add: Iterable[Element] = (), remove: Iterable[Element] = ()) -> Change:
    return Change("inet", "t", name, add, remove)


def _address(family: int, number: int) -> str:
    return f"10.0.{number >> 8}.{number & 0xFF}" if family == 4 else f"fd00::1:{number + 1:x}"


def _packed(family: int, number: int) -> bytes:
    return socket.inet_pton(AF[family], _address(family, number))


def _port(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _key(family: int, number: int, port: int) -> bytes:
    return field(b"\x06") + _packed(family, number) + field(_port(port))


def _published(family: int, number: int, port: int = 80, last: int | None = None) -> Element:
    """A port of a host address, or a range, that leads to a container."""
    end = _key(family, number, last) if last else None
    return Element(_key(family, number, port), end, _packed(family, 9) + field(_port(8080)))


def _listed(name: str) -> list:
    (row,) = [
        row for row in nft_list("table", "inet", "t") if name in {v.get("name") for k, v in row.items() if k in {"set", "map"}}
    ]
    return next(iter(row.values())).get("elem", [])


@FAMILIES
def test_elements_of_a_hash_map(nft_nl: Netlink, table: str, family: int) -> None:
    name = f"hash{family}"
    nft.change(nft_nl, [_in_t(name, [_published(family, 1), _published(family, 2)])])
    target = {"concat": [_address(family, 9), 8080]}
    keys = [[{"concat": ["tcp", _address(family, n), 80]}, target] for n in (1, 2)]
    assert sorted(map(str, _listed(name))) == sorted(map(str, keys))
    assert nft.elements(nft_nl, "inet", table, name) == {_published(family, 1), _published(family, 2)}
    nft.change(nft_nl, [_in_t(name, [], [_published(family, 1)])])
    assert nft.elements(nft_nl, "inet", table, name) == {_published(family, 2)}


@FAMILIES
def test_elements_of_a_map_of_ranges(nft_nl: Netlink, table: str, family: int) -> None:
    name = f"range{family}"
    wide, single = _published(family, 1, 8000, 8100), _published(family, 1, 9000, 9000)
    nft.change(nft_nl, [_in_t(name, [wide, single])])
    assert {str(e[0]["concat"][2]) for e in _listed(name)} == {"{'range': [8000, 8100]}", "9000"}
    assert nft.elements(nft_nl, "inet", table, name) == {wide, single}
    with pytest.raises(Exists):
        nft.change(nft_nl, [_in_t(name, [_published(family, 1, 8050, 8200)])])
    nft.change(nft_nl, [_in_t(name, [], [wide])])
    assert nft.elements(nft_nl, "inet", table, name) == {single}


@FAMILIES
@pytest.mark.usefixtures("table")
def test_elements_of_a_plain_set(nft_nl: Netlink, family: int) -> None:
    name = f"plain{family}"
    nft.change(nft_nl, [_in_t(name, [Element(_packed(family, n)) for n in (1, 2)])])
    assert set(_listed(name)) == {_address(family, 1), _address(family, 2)}


def test_interface_names_and_marks(nft_nl: Netlink, table: str) -> None:
    element = Element(ifname("eth0"), None, (5).to_bytes(4, "little"))
    nft.change(nft_nl, [_in_t("names", [element])])
    assert _listed("names") == [["eth0", 5]]
    assert nft.elements(nft_nl, "inet", table, "names") == {element}


def test_intervals_of_a_single_field(nft_nl: Netlink, table: str) -> None:
    first, last = nft.interval(_port(10), _port(20)), nft.interval(_port(65000), _port(65535))
    nft.change(nft_nl, [_in_t("ports", [*first, *last])])
    assert _listed("ports") == [{"range": [10, 20]}, {"range": [65000, 65535]}]
    assert nft.elements(nft_nl, "inet", table, "ports") == {*first, *last}
    nft.change(nft_nl, [_in_t("ports", [], first)])
    assert _listed("ports") == [{"range": [65000, 65535]}]


@FAMILIES
@pytest.mark.parametrize("kind", ["hash", "range"])
def test_thousands_of_elements_in_one_transaction(nft_nl: Netlink, table: str, family: int, kind: str) -> None:
    name = f"{kind}{family}"
    rows = [_published(family, n, 80, 80 if kind == "range" else None) for n in range(3000)]
    before = nft.generation(nft_nl)
    nft.change(nft_nl, [_in_t(name, rows)])
    assert nft.generation(nft_nl) == before + 1
    assert nft.elements(nft_nl, "inet", table, name) == set(rows)
    nft.change(nft_nl, [_in_t(name, [], rows[:500])])
    assert nft.elements(nft_nl, "inet", table, name) == set(rows[500:])


def test_what_is_there_already_may_be_added_again(nft_nl: Netlink, table: str) -> None:
    change = [_in_t(f"{kind}4", [_published(4, 1, 80, last)]) for kind, last in (("hash", None), ("range", 90))]
    for _ in range(2):
        nft.change(nft_nl, change)
    assert len(nft.elements(nft_nl, "inet", table, "hash4")) == 1
    assert len(nft.elements(nft_nl, "inet", table, "range4")) == 1


@pytest.mark.parametrize(("name", "last"), [("hash4", None), ("range4", 90)])
def test_a_key_gets_other_data_by_removal_and_addition(nft_nl: Netlink, table: str, name: str, last: int | None) -> None:
    old = _published(4, 1, 80, last)
    new = old._replace(data=_packed(4, 77) + field(_port(1)))
    nft.change(nft_nl, [_in_t(name, [old])])
    with pytest.raises(Exists):
        nft.change(nft_nl, [_in_t(name, [new])])
    nft.change(nft_nl, [_in_t(name, [new], [old])])
    assert nft.elements(nft_nl, "inet", table, name) == {new}


def test_all_or_nothing(nft_nl: Netlink, table: str) -> None:
    kept = _published(4, 1)
    nft.change(nft_nl, [_in_t("hash4", [kept])])
    with pytest.raises(Gone) as caught:
        nft.change(
            nft_nl,
            [
                _in_t("hash4", [_published(4, 2)], [kept]),
                _in_t("none", [_published(4, 3)]),
                _in_t("plain4", [], [Element(_packed(4, 5))]),
            ],
        )
    assert [type(e) for e in caught.value.failures] == [Gone, Gone]
    assert {e.doing for e in caught.value.failures} == {"add 1 elements to t none", "remove 1 elements from t plain4"}
    assert nft.elements(nft_nl, "inet", table, "hash4") == {kept}
    nft.change(nft_nl, [_in_t("hash4", [], [kept])])  # the socket works on


def test_several_tables_of_several_families_in_one_transaction(nft_nl: Netlink, table: str) -> None:
    nft.run("table bridge t { set macs { type ifname . ether_addr; }\n }")
    port = Element(ifname("v0") + field(bytes.fromhex("0a5801020304")))
    before = nft.generation(nft_nl)
    nft.change(nft_nl, [_in_t("hash4", [_published(4, 1)]), Change("bridge", "t", "macs", [port])])
    assert nft.generation(nft_nl) == before + 1
    assert nft.elements(nft_nl, "inet", table, "hash4") == {_published(4, 1)}
    assert nft.elements(nft_nl, "bridge", "t", "macs") == {port}
    assert '"v0" . 0a:58:01:02:03:04' in run("nft", "list", "set", "bridge", "t", "macs")
    with pytest.raises(Gone):
        nft.change(nft_nl, [_in_t("hash4", [_published(4, 2)]), Change("bridge", "t", "none", [port])])
    assert nft.elements(nft_nl, "inet", table, "hash4") == {_published(4, 1)}, "all or nothing over both"


@pytest.mark.usefixtures("table")
def test_nothing_to_change_sends_nothing(nft_nl: Netlink) -> None:
    before = nft.generation(nft_nl)
    nft.change(nft_nl, [_in_t("hash4", [])])
    nft.change(nft_nl, [])
    assert nft.generation(nft_nl) == before


@pytest.mark.usefixtures("room")
def test_a_table_that_is_not_there(nft_nl: Netlink) -> None:
    assert not nft.table_exists(nft_nl, "inet", "t")
    assert nft.fingerprint(nft_nl, "inet", "t") is None
    for act in (
        lambda: nft.delete_table(nft_nl, "inet", "t"),
        lambda: nft.change(nft_nl, [_in_t("x", [Element(b"abcd")])]),
        lambda: nft.elements(nft_nl, "inet", "t", "x"),
    ):
        with pytest.raises(Gone):
            act()


def test_a_table_is_removed_and_no_other(nft_nl: Netlink, table: str) -> None:
    nft.run("table inet other { chain c { accept; }\n }\ntable ip t { }")
    assert nft.table_exists(nft_nl, "inet", table)
    nft.delete_table(nft_nl, "inet", table)
    assert not nft.table_exists(nft_nl, "inet", table)
    assert {(row["table"]["family"], row["table"]["name"]) for row in nft_list("tables")} == {("inet", "other"), ("ip", "t")}


def test_sets_are_listed_by_name_without_anonymous_ones(nft_nl: Netlink, table: str) -> None:
    found = {row.name: row for row in nft.sets(nft_nl, "inet", table)}
    assert list(found) == sorted(["plain4", "plain6", "ports", "names", "hash4", "hash6", "range4", "range6"])
    assert (found["range6"].key_length, found["range6"].data_length) == (4 + 16 + 4, 16 + 4)
    assert found["range6"].flags & (nft.table.INTERVAL | nft.table.MAP) == nft.table.INTERVAL | nft.table.MAP


@pytest.mark.usefixtures("table")
def test_run_returns_what_is_printed_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert "map hash4" in nft.run("list table inet t")
    assert nft.run("add table inet u") == ""
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("add rule inet none c accept", Gone, "No such file"),
        ("create table inet t", Exists, "File exists"),
        ("add rule inet t input garbage", KernelError, "syntax error"),
        ("add element inet t plain4 { 10.0.0.256 }", KernelError, "not resolve|syntax error"),
    ],
)
@pytest.mark.usefixtures("table")
def test_run_says_what_was_wrong(text: str, kind: type[KernelError], words: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(kind, match=words):
        nft.run(text)
    assert capfd.readouterr() == ("", "")


def test_run_is_one_transaction(nft_nl: Netlink, table: str) -> None:
    with pytest.raises(KernelError):
        nft.run("add table inet u\nadd chain inet t more\nadd element inet t plain4 { 1.1.1.1 }\ndelete chain inet t input foo")
    with pytest.raises(Gone):
        nft.run("add table inet u\ndelete table inet none")
    assert not nft.table_exists(nft_nl, "inet", "u")
    assert nft.elements(nft_nl, "inet", table, "plain4") == set()


def test_run_works_where_the_thread_is(room: Room, nft_nl: Netlink) -> None:
    _, fd = room.child()
    with netns.inside(fd):
        nft.run("table inet there { }")
    nft.run("table inet here { }")
    assert not nft.table_exists(nft_nl, "inet", "there")
    assert nft.table_exists(nft_nl, "inet", "here")


ALTERATIONS = (
    "flush chain inet t input",
    "flush chain inet t extra",
    "add rule inet t extra accept",
    "insert rule inet t input drop",
    "delete rule inet t input handle {handle}",
    "replace rule inet t input handle {handle} ct state established counter accept",
    "add chain inet t more",
    "delete chain inet t extra",
    "chain inet t input { policy drop; }",
    "delete set inet t ports",
    "delete counter inet t hits",
    "add set inet t another { type ipv4_addr; }",
    "add counter inet t misses",
    "delete map inet t range6; add map inet t range6 { type inet_proto . ipv6_addr . inet_service : mark; }",
    "add table inet t { flags dormant; }",
)


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_the_fingerprint_tells_every_alteration(nft_nl: Netlink, table: str, alteration: str) -> None:
    before = nft.fingerprint(nft_nl, "inet", table)
    rules = [row["rule"] for row in nft_list("chain", "inet", "t", "input") if "rule" in row]
    if "counter inet t hits" in alteration:
        run("nft", "delete", "rule", "inet", "t", "input", "handle", str(rules[-1]["handle"]))
        before = nft.fingerprint(nft_nl, "inet", table)
    run("nft", alteration.replace("{handle}", str(rules[0]["handle"])))
    assert nft.fingerprint(nft_nl, "inet", table) != before


@pytest.mark.usefixtures("room")
def test_the_fingerprint_sees_the_order_of_rules(nft_nl: Netlink) -> None:
    seen = set()
    for order in itertools.permutations(("accept", "drop", "counter")):
        nft.run(f"table inet o\ndelete table inet o\ntable inet o {{ chain c {{ {'; '.join(order)}; }}\n }}")
        seen.add(nft.fingerprint(nft_nl, "inet", "o"))
    assert len(seen) == 6


def test_the_fingerprint_passes_over_what_changes_by_itself(nft_nl: Netlink, table: str) -> None:
    before = nft.fingerprint(nft_nl, "inet", table)
    nft.change(nft_nl, [_in_t("hash4", [_published(4, 1)]), _in_t("plain4", [Element(_packed(4, 1))])])
    run("ip", "link", "set", "lo", "up")
    with socket.create_server(("127.0.0.1", 80)) as server, socket.create_connection(("127.0.0.1", 80)):
        server.accept()[0].close()
    (counted,) = [
        row["rule"] for row in nft_list("chain", "inet", "t", "input") if "counter" in str(row) and "dport" in str(row)
    ]
    assert counted["expr"][1]["counter"]["packets"] > 0
    nft.run("table inet other { chain c { type filter hook input priority 5; accept; }\n }")
    nft.run("table ip t { set plain4 { type ipv4_addr; }\n chain input { drop; }\n }")
    run("nft", "add rule inet t extra accept")
    handle = next(row["rule"]["handle"] for row in nft_list("chain", "inet", "t", "extra") if "accept" in str(row))
    run("nft", f"delete rule inet t extra handle {handle}")
    assert nft.fingerprint(nft_nl, "inet", table) == before


def test_a_table_sleeps_and_wakes_with_its_elements(nft_nl: Netlink, table: str) -> None:
    before = nft.fingerprint(nft_nl, "inet", table), nft.fingerprint(nft_nl, "inet", table, flags=False)
    assert not nft.sleeps(nft_nl, "inet", table)
    nft.change(nft_nl, [], nft.lull("inet", table, asleep=True))
    assert nft.sleeps(nft_nl, "inet", table)
    assert "flags dormant" in run("nft", "list", "table", "inet", table)
    assert nft.fingerprint(nft_nl, "inet", table) != before[0]
    assert nft.fingerprint(nft_nl, "inet", table, flags=False) == before[1]
    element = Element(_packed(4, 1))
    with pytest.raises(KernelError):
        nft.change(nft_nl, [nft.Change("inet", table, "none", {element})], nft.lull("inet", table, asleep=False))
    assert nft.sleeps(nft_nl, "inet", table), "all or nothing"
    for _ in range(2):
        nft.change(nft_nl, [nft.Change("inet", table, "plain4", {element})], nft.lull("inet", table, asleep=False))
    assert not nft.sleeps(nft_nl, "inet", table)
    assert nft.elements(nft_nl, "inet", table, "plain4") == {element}
    assert nft.fingerprint(nft_nl, "inet", table) == before[0]


def test_the_fingerprint_of_the_same_table_made_again_is_the_same(nft_nl: Netlink, table: str) -> None:
    before = nft.fingerprint(nft_nl, "inet", table)
    nft.run(f"delete table inet t\n{TABLE}")
    assert nft.fingerprint(nft_nl, "inet", table) == before


@pytest.mark.usefixtures("table")
def test_writers_do_not_disturb_each_other(room: Room) -> None:
    problems: list[Exception] = []
    stop = threading.Event()

    def until_stopped(act: Callable[[], object]) -> None:
        with netns.inside(room.fd):
            while not stop.is_set():
                try:
                    act()
                except KernelError as error:
                    problems.append(error)

    def change(number: int) -> tuple[Callable[[], None], Netlink]:
        mine = Netlink(NETFILTER, netns=room.fd)

        def act() -> None:
            nft.change(mine, [_in_t("hash4", [_published(4, number)])])
            nft.change(mine, [_in_t("hash4", [], [_published(4, number)])])

        return act, mine

    acts = [change(n) for n in (1, 2)]
    swap = "table inet s\ndelete table inet s\n" + TABLE.replace("inet t", "inet s")
    threads = [threading.Thread(target=until_stopped, args=(act,)) for act, _ in acts]
    threads.append(threading.Thread(target=until_stopped, args=(lambda: nft.run(swap),)))
    for thread in threads:
        thread.start()
    for _ in range(20):
        subprocess.run(["nft", "-f", "-"], input="table inet x\ndelete table inet x\ntable inet x { }", text=True, check=True)
    stop.set()
    for thread in threads:
        thread.join(20)
    for _, mine in acts:
        mine.close()
    assert problems == []
