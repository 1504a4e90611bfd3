"""Which flows somebody wants to see. The words come from outside: each is checked, and a wrong one is named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from time import time

from fairlead.model.address import Prefix
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Invalid
from fairlead.model.meta import check_label
from fairlead.model.namespace import DEFAULT

from .enrich import Party, address, service
from .record import DROPPED, FORWARDED, PROTOCOLS, Record, protocol, verdict

LIMIT = 16384
_DEFAULT = 100
_VERDICTS = (FORWARDED, DROPPED)
_SVC = "svc:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,252}(/[A-Za-z0-9][A-Za-z0-9_.:-]{0,252})?")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(s|m|h|d)?")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, None: 1}
_KNOWN = ("from", "to", "verdict", "protocol", "port", "label", "since", "limit", "follow")


class Query:
    """A question, read once and asked of many records."""

    def __init__(self, words: Mapping[str, str]) -> None:
        """``Invalid`` names the word that cannot be."""
        for name in words:
            if name not in _KNOWN:
                raise Invalid(f"there is no such filter; there are: {', '.join(_KNOWN)}", field=name[:40])
        self._from = _Side(words["from"], "from") if words.get("from") else None
        self._to = _Side(words["to"], "to") if words.get("to") else None
        self._protocol = _one_of(words.get("protocol", ""), tuple(PROTOCOLS.values()), "protocol")
        self._verdict = _one_of(words.get("verdict", ""), _VERDICTS, "verdict")
        self._port = _number(words.get("port", ""), "port", 65535)
        self._label = _label(words.get("label", ""))
        self.since = _since(words.get("since", ""))
        self.limit = _number(words.get("limit", ""), "limit", LIMIT) or _DEFAULT

    def matches(self, record: Record) -> bool:
        """Whether ``record`` is wanted."""
        seen = record.seen
        return (
            record.time >= self.since
            and (not self._protocol or protocol(seen) == self._protocol)
            and (not self._verdict or self._verdict == verdict(seen))
            and (not self._port or self._port in {seen.destination_port, seen.source_port})
            and (self._from is None or self._from.is_(record.source, seen.source))
            and (self._to is None or self._to.is_(record.destination, seen.destination))
            and (self._label is None or self._labelled(record.source) or self._labelled(record.destination))
        )

    def _labelled(self, party: Party) -> bool:
        assert self._label is not None
        return isinstance(party, Endpoint) and party.metadata.labels.get(self._label[0]) == self._label[1]


class _Side:
    """One end: host, world, node/name, svc:namespace/name, a name, namespace/name, an address or a prefix."""

    def __init__(self, word: str, field: str) -> None:
        self._service = word.startswith(_SVC)
        self._namespace, slash, self._name = word.removeprefix(_SVC).rpartition("/")
        self._prefix: Prefix | None = None
        try:
            self._prefix = Prefix(word if slash else f"{word}/{128 if ':' in word else 32}")
        except ValueError:
            if not _NAME.fullmatch(word):
                raise Invalid(
                    f"{word[:80]!r} is not a container, namespace/container, address, prefix, host, node/NAME, "
                    "svc:NAMESPACE/NAME or world",
                    field=field,
                ) from None

    def is_(self, party: Party, packed: bytes) -> bool:
        if self._prefix is not None:
            return _holds(self._prefix, packed)
        if self._service:
            return party == service(self._namespace or DEFAULT, self._name)
        if isinstance(party, str):
            return party == (f"{self._namespace}/{self._name}" if self._namespace else self._name)
        return self._name in {party.display, party.container} and self._namespace in {"", party.metadata.namespace}


def _holds(prefix: Prefix, packed: bytes) -> bool:
    plain = address(packed)
    length = prefix.length + (0 if prefix.family == 6 else 96)
    if (":" in plain) != (prefix.family == 6):
        return False
    network = int.from_bytes(prefix.net.network_address.packed, "big")
    return (int.from_bytes(packed, "big") ^ (network | (0 if prefix.family == 6 else 0xFFFF << 32))) >> (128 - length) == 0


def _one_of(word: str, known: tuple[str, ...], field: str) -> str:
    if word and word.lower() not in known:
        raise Invalid(f"{word[:40]!r} is not one of {', '.join(known)}", field=field)
    return word.lower()


def _number(word: str, field: str, most: int) -> int:
    if not word:
        return 0
    if not (word.isascii() and word.isdigit()) or len(word) > 9 or not 1 <= int(word) <= most:
        raise Invalid(f"{word[:40]!r} is not a number from 1 to {most}", field=field)
    return int(word)


def _label(word: str) -> tuple[str, str] | None:
    if not word:
        return None
    key, equals, value = word.partition("=")
    try:
        check_label(key, value)
    except ValueError as problem:
        raise Invalid(str(problem), field="label") from None
    if not equals:
        raise Invalid(f"{word[:80]!r} has no value; write it like tier=web", field="label")
    return key, value


def _since(word: str) -> float:
    """A time long ago, or so long ago as ``word`` says."""
    if not word:
        return 0.0
    found = _DURATION.fullmatch(word)
    if found is None:
        raise Invalid(f"{word[:40]!r} is not a duration; write it like 30s, 5m or 2h", field="since")
    return time() - float(found[1]) * _UNITS[found[2]]
