"""etcd's messages as its JSON gateway writes them: keys and values in base64, which are bytes here; 64 bit numbers as strings.

Only the fields that are used. What a message does not say is the default, as in protobuf. The names are etcd's own (rpc.proto).
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from .errors import Again

M = TypeVar("M", bound="Message")


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The base of all messages."""


class Header(Message, frozen=True, kw_only=True):
    """Who answered, and the revision of the store then."""

    cluster_id: int = 0
    member_id: int = 0
    revision: int = 0


class KeyValue(Message, frozen=True, kw_only=True):
    """One key. ``mod_revision``: its last change; ``lease``: what it lives as long as."""

    key: bytes = b""
    value: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    lease: int = 0


class Reply(Message, frozen=True, kw_only=True):
    """The base of all answers."""

    header: Header = Header()


class Range(Message, frozen=True, kw_only=True):
    """Read one key, or all from ``key`` to ``range_end``."""

    key: bytes
    range_end: bytes = b""
    limit: int = 0
    revision: int = 0


class Ranged(Reply, frozen=True, kw_only=True):
    """What was read."""

    kvs: tuple[KeyValue, ...] = ()
    more: bool = False


class Put(Message, frozen=True, kw_only=True):
    """Write one key."""

    key: bytes
    value: bytes
    lease: int = 0


class DeleteRange(Message, frozen=True, kw_only=True):
    """Remove one key."""

    key: bytes


class Compare(Message, frozen=True, kw_only=True):
    """The key's last change was this revision; 0: the key does not exist."""

    key: bytes
    mod_revision: int
    target: str = msgspec.field(default_factory=lambda: "MOD")  # not omitted: it is not protobuf's default


class Op(Message, frozen=True, kw_only=True):
    """One thing that a transaction does."""

    request_range: Range | None = None
    request_put: Put | None = None
    request_delete_range: DeleteRange | None = None


class Txn(Message, frozen=True, kw_only=True):
    """If all that is compared is so, do one list, else the other."""

    compare: tuple[Compare, ...] = ()
    success: tuple[Op, ...] = ()
    failure: tuple[Op, ...] = ()


class Done(Message, frozen=True, kw_only=True):
    """What one thing of a transaction came to."""

    response_range: Ranged | None = None


class Txned(Reply, frozen=True, kw_only=True):
    """What a transaction came to."""

    succeeded: bool = False
    responses: tuple[Done, ...] = ()

    @property
    def found(self) -> tuple[KeyValue, ...]:
        """What its ranges read, one after another."""
        return tuple(one for done in self.responses if done.response_range for one in done.response_range.kvs)


class WatchCreate(Message, frozen=True, kw_only=True):
    """Tell of every change from a revision on; in several answers where one would be too large."""

    key: bytes
    range_end: bytes
    start_revision: int
    progress_notify: bool = False
    prev_kv: bool = False
    fragment: bool = False


class Watch(Message, frozen=True, kw_only=True):
    """The one request of a watch."""

    create_request: WatchCreate


class Change(Message, frozen=True, kw_only=True):
    """One event. ``prev_kv`` is what was there before."""

    type: str = "PUT"
    kv: KeyValue = KeyValue()
    prev_kv: KeyValue | None = None


class Watched(Reply, frozen=True, kw_only=True):
    """One answer of a watch. Without events: all up to the header's revision has been told."""

    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    fragment: bool = False
    events: tuple[Change, ...] = ()


class Grant(Message, frozen=True, kw_only=True):
    """Make a lease, or with its ID one that was made: seconds."""

    TTL: int


class Granted(Reply, frozen=True, kw_only=True):
    """A lease that was made. etcd may give more seconds than were asked for."""

    ID: int = 0
    TTL: int = 0


class Lease(Message, frozen=True, kw_only=True):
    """A lease to be renewed, or to be ended."""

    ID: int


class Renewed(Message, frozen=True, kw_only=True):
    """A lease that was renewed; 0 seconds if there is no such lease."""

    result: Granted = Granted()


class Authenticate(Message, frozen=True, kw_only=True):
    """Who is asking."""

    name: str
    password: str


class Token(Reply, frozen=True, kw_only=True):
    """What proves it from now on."""

    token: str = ""


class Fault(Message, frozen=True, kw_only=True):
    """A refusal: gRPC's code and a text. Gateways name both in one of two ways."""

    code: int = 0
    grpc_code: int = 0
    message: str = ""


class Line(Message, frozen=True, kw_only=True):
    """One line of a stream."""

    result: Watched | None = None
    error: Fault | None = None


encode = msgspec.json.encode


def decode(data: bytes, to: type[M]) -> M:
    """Read an answer; ``Again`` if this is none."""
    try:
        answer = msgspec.json.decode(data, type=to, strict=False)
    except (msgspec.MsgspecError, UnicodeError) as problem:
        raise Again(f"an answer is not etcd's: {problem}") from None
    if isinstance(answer, Reply) and not answer.header.cluster_id:
        raise Again("an answer is not etcd's: it names no cluster")
    return answer
