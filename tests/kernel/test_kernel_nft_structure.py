"""nftables tables built message by message: chains, rules, maps, counters, checked with nft."""

from __future__ import annotations

import pytest

from fairlead.kernel import nft
from fairlead.kernel.errors import Gone, KernelError
from fairlead.kernel.netlink import Message, Netlink
from fairlead.kernel.nft import Chain, Collection, Element, Hook, Maker, Verdict, field, interval
from fairlead.kernel.nft.rule import (
    ACCEPT,
    DROP,
    GOTO,
    JUMP,
    Expression,
    between,
    choose,
    count,
    ct,
    decode,
    differs,
    encode,
    equal,
    goto,
    has,
    jump,
    log,
    member,
    meta,
    payload,
    register,
    remember,
    same,
    stranger,
    verdict,
)
from fairlead.kernel.nft.structure import IFNAME, IPV4, IPV6, PROTOCOL, SERVICE
from tests.kernel.room import nft_list, run

STATE, SOURCE, PROTO, PORT = ct(0, 4), ct(19, 4, 0), ct(10, 1), ct(12, 2, 0)
IIF, L4PROTO, NFPROTO = meta(4, 4), meta(16, 1), meta(15, 1)
SADDR, DPORT = payload(1, 12, 4), payload(2, 2, 2)
WORDS = {
    "ct state new": has(STATE, (8).to_bytes(4, "little")),
    "ct original ip saddr @plain": member("plain", SOURCE),
    "ct original ip saddr != @plain": stranger("plain", SOURCE),
    "ct original ip saddr vmap @verdicts": choose("verdicts", SOURCE),
    "meta l4proto tcp ct protocol . ct original proto-dst vmap @ports": (*equal(L4PROTO, b"\6"), *choose("ports", PROTO, PORT)),
    "meta l4proto tcp ct original proto-dst 80-90 drop": (
        *equal(L4PROTO, b"\6"),
        *between(PORT, b"\0\x50", b"\0\x5a"),
        *verdict(DROP),
    ),
    "iif != 0": differs(IIF, bytes(4)),
    'counter name "hits"': count("hits"),
    "jump other": jump("other"),
    "goto other": goto("other"),
    "drop": verdict(DROP),
    "accept": verdict(ACCEPT),
    'log prefix "why " group 5 snaplen 64': log(5, "why ", 64),
    "add @seen { ip saddr . th dport }": (*equal(NFPROTO, b"\2"), *remember("seen", SADDR, DPORT)),
}
"""Rules as nft writes them, and as they are built here."""
PLAIN, VERDICTS = Collection("plain", (IPV4,)), Collection("verdicts", (IPV4,), verdicts=True)
PORTS = Collection("ports", (PROTOCOL, SERVICE), verdicts=True, interval=True)
SEEN = Collection("seen", (IPV4, SERVICE), timeout=1000, size=100)
MAKE = Maker("inet", "t")


def base() -> list[Message]:
    return [
        *MAKE.table(),
        *MAKE.counter("hits"),
        *MAKE.chain("other"),
        *MAKE.chain("rules", Hook(2, 10)),
        *(message for one in (PLAIN, VERDICTS, PORTS, SEEN) for message in MAKE.collection(one)),
    ]


@pytest.fixture
def table(nft_nl: Netlink) -> Netlink:
    nft.transact(nft_nl, base())
    return nft_nl


def shown(chain: str) -> list[str]:
    """A chain's rules as nft lists them."""
    lines = run("nft", "list", "chain", "inet", "t", chain).splitlines()[2:-2]
    return [line.strip() for line in lines if "type filter" not in line]


@pytest.mark.parametrize("words", WORDS)
def test_a_rule_is_what_nft_says_of_it(table: Netlink, words: str) -> None:
    nft.transact(table, list(MAKE.rules("rules", [WORDS[words]])))
    assert shown("rules") == [words]
    (found,) = nft.rules(table, "inet", "t", "rules")
    assert same([WORDS[words]], [found])
    assert decode(encode(WORDS[words])) == WORDS[words]


@pytest.mark.parametrize("words", [words for words in WORDS if "l4proto tcp" not in words])
def test_nft_makes_the_same_rule_of_the_words(table: Netlink, words: str) -> None:
    run("nft", "add", "rule", "inet", "t", "rules", words)
    (found,) = nft.rules(table, "inet", "t", "rules")
    assert same([WORDS[words]], [found])


def test_the_table_is_read_back_by_nft(table: Netlink) -> None:
    nft.transact(table, list(MAKE.rules("rules", WORDS.values())))
    before = nft.chains(table, "inet", "t")
    text = run("nft", "list", "ruleset")
    run("nft", "flush", "ruleset")
    nft.run(text)
    assert nft.chains(table, "inet", "t") == before


def test_chains_with_their_rules(table: Netlink) -> None:
    rules = (WORDS["ct state new"], WORDS["drop"])
    nft.transact(table, list(MAKE.rules("rules", rules)))
    assert nft.chains(table, "inet", "t") == {"other": Chain("other"), "rules": Chain("rules", rules, Hook(2, 10))}
    assert nft.rules(table, "inet", "t", "other") == []
    assert nft.rules(table, "inet", "t", "none") == []
    nft.transact(table, [*MAKE.no_rules("rules"), *MAKE.rules("rules", rules[1:])])
    assert shown("rules") == ["drop"]


def test_a_foreign_rule_is_not_the_same(table: Netlink) -> None:
    run("nft", "add", "rule", "inet", "t", "rules", "ct state established", "accept")
    found = nft.rules(table, "inet", "t", "rules")
    assert not same([WORDS["ct state new"]], found)
    assert not same([], found)
    assert not same([(*WORDS["ct state new"], *WORDS["accept"])], found)
    run("nft", "add", "rule", "inet", "t", "other", "ip", "dscp", "cs1", "limit", "rate", "5/second")
    (odd,) = nft.rules(table, "inet", "t", "other")
    assert "limit" in {one.name for one in odd}, "what is not known here is read by its name"
    assert Expression.of("limit") in odd


@pytest.mark.parametrize(
    ("collection", "elements"),
    [
        (VERDICTS, [Element(bytes([10, 0, 0, n]), None, Verdict(JUMP, "other")) for n in (1, 2)]),
        (VERDICTS, [Element(bytes([10, 0, 0, 1]), None, Verdict(DROP))]),
        (
            PORTS,
            [Element(field(b"\6") + field(b"\0\x50"), field(b"\6") + field(b"\0\x5a"), Verdict(GOTO, "other"))],
        ),
        (Collection("runs", (IPV6,), verdicts=True, interval=True), interval(bytes(16), b"\xff" * 16, Verdict(DROP))),
        (Collection("links", (IFNAME, IPV4)), [Element(b"eth0".ljust(16, b"\0") + bytes([10, 0, 0, 1]))]),
    ],
    ids=["jumps", "drops", "ranges", "runs", "concatenations"],
)
def test_maps_of_verdicts(table: Netlink, collection: Collection, elements: list[Element]) -> None:
    known = {PLAIN.name, VERDICTS.name, PORTS.name}
    made = [] if collection.name in known else MAKE.collection(collection)
    nft.transact(table, [*made, *MAKE.elements(collection.name, add=elements)])
    assert collection.is_(nft.collections(table, "inet", "t")[collection.name])
    assert nft.elements(table, "inet", "t", collection.name) == set(elements)
    if not collection.interval:
        assert nft.element(table, "inet", "t", collection.name, elements[0].key) == elements[0]
        assert nft.element(table, "inet", "t", collection.name, b"\xff" * collection.key_length) is None
    nft.transact(table, list(MAKE.no_elements(collection.name)))
    assert nft.elements(table, "inet", "t", collection.name) == set()


def test_runs_are_replaced_in_one_transaction(table: Netlink) -> None:
    runs = Collection("runs", (IPV4,), verdicts=True, interval=True)
    ends = [bytes([10, 0, at, 0]) for at in range(4)]
    lasts = [bytes([10, 0, at, 255]) for at in range(4)]

    def elements(*verdicts: int) -> list[Element]:
        several = [interval(*pair, Verdict(said)) for *pair, said in zip(ends, lasts, verdicts, strict=False)]
        return sorted((one for each in several for one in each), key=lambda one: (one.key, not one.stop))

    nft.transact(table, [*MAKE.collection(runs), *MAKE.elements("runs", add=elements(DROP, ACCEPT, DROP))])
    for said in ((DROP, DROP, ACCEPT), (ACCEPT, DROP, ACCEPT, DROP), (DROP,), ()):
        nft.transact(table, [*MAKE.no_elements("runs"), *MAKE.elements("runs", add=elements(*said))])
        assert nft.elements(table, "inet", "t", "runs") == set(elements(*said))


def test_what_is_referred_to_stays(table: Netlink) -> None:
    nft.transact(table, [*MAKE.rules("rules", [WORDS["jump other"], WORDS['counter name "hits"']])])
    for removal in (MAKE.no_chain("other"), MAKE.no_counter("hits")):
        with pytest.raises(KernelError, match="busy"):
            nft.transact(table, list(removal))
    nft.transact(
        table, [*MAKE.no_rules("rules"), *MAKE.no_chain("other"), *MAKE.no_counter("hits"), *MAKE.no_collection("seen")]
    )
    assert nft.chains(table, "inet", "t").keys() == {"rules"}
    assert nft.counters(table, "inet", "t") == {}
    nft.transact(table, list(MAKE.no_table()))
    assert not nft.table_exists(table, "inet", "t")


def test_counters_go_on_when_they_are_made_again(table: Netlink) -> None:
    run("nft", "add", "chain", "inet", "t", "out", "{ type filter hook output priority 0; }")
    run("nft", "add", "rule", "inet", "t", "out", "counter", "name", "hits")
    run("ip", "link", "set", "lo", "up")
    run("ping", "-c", "1", "-W", "1", "127.0.0.1")
    packets = nft.counters(table, "inet", "t")["hits"].packets
    assert packets >= 1
    nft.transact(table, list(MAKE.counter("hits")))
    assert nft.counters(table, "inet", "t")["hits"].packets == packets


def test_thousands_of_messages_in_one_transaction(nft_nl: Netlink) -> None:
    many = 3000
    messages = [
        *base(),
        *(message for at in range(many) for message in MAKE.chain(f"c{at}")),
        *(message for at in range(many) for message in MAKE.rules(f"c{at}", [WORDS["ct state new"], WORDS["jump other"]])),
    ]
    nft.transact(nft_nl, messages)
    assert len(nft.chains(nft_nl, "inet", "t")) == many + 2
    assert nft_list("chains")
    with pytest.raises(Gone) as refused:
        nft.transact(nft_nl, [*MAKE.no_rules("rules"), *messages, *MAKE.rules("nowhere", [WORDS["drop"]])])
    assert len(refused.value.failures) == 1
    assert len(nft.chains(nft_nl, "inet", "t")) == many + 2


def test_whose_changes_there_were(table: Netlink) -> None:
    begin = nft.mark(table)
    nft.transact(table, list(MAKE.rules("rules", [WORDS["drop"]])))
    nft.run("add chain inet t more")
    nft.transact(table, list(MAKE.counter("hits")))  # is there already: no transaction at all
    assert nft.untouched(table, begin)
    run("nft", "add", "chain", "inet", "t", "foreign")
    assert not nft.untouched(table, begin)
    assert nft.untouched(table, nft.mark(table))
    with pytest.raises(KernelError):
        nft.transact(table, list(MAKE.chain("foreign", Hook(1, 0))))


def test_registers_as_the_kernel_names_them() -> None:
    assert [register(word) for word in (0, 1, 3, 4, 5, 8, 12, 15)] == [1, 9, 11, 2, 13, 3, 4, 23]
