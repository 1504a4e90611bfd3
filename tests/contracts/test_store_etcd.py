"""What is etcd's own: keys that people can read, broken connections, forgotten revisions, bounds, and commits sent twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fairlead.model.broken import Broken
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Conflict, Failed, Invalid, Problem, Unavailable
from fairlead.store.base import MAX_CHANGES, MAX_OBJECT, Compacted, Delete, Event, Put, Store
from fairlead.store.etcd import slots
from fairlead.store.etcd.gateway import Access
from fairlead.store.etcd.store import Etcd
from tests.contracts.etcd import Member, Wire, free_ports, running
from tests.contracts.stores import ENDPOINTS, NETWORKS, InEtcd, awaited, current, endpoint, network, revision, take

pytestmark = pytest.mark.needs("etcd", "etcdctl", "setpriv")


@pytest.fixture
def opened(etcd: Member) -> InEtcd:
    return InEtcd(etcd)


@asynccontextmanager
async def asking(port: int, **options: Any) -> AsyncIterator[Etcd]:
    """A store that asks whatever is there."""
    store = Etcd(Access(endpoints=(f"127.0.0.1:{port}",), prefix="/x", **options))
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def over(opened: InEtcd, *wires: Wire, patience: float = 10.0) -> AsyncIterator[Etcd]:
    """The store at the other end of some wires."""
    access = Access(endpoints=tuple(wire.endpoint for wire in wires), prefix=opened.prefix, patience=patience)
    store = Etcd(access)
    try:
        yield store
    finally:
        await store.close()


def mtus(events: list[Event]) -> list[int]:
    return [event.object.spec.mtu for event in events if isinstance(event.object, Endpoint)]


# -- what is in it


@awaited
async def test_etcdctl_shows_what_is_kept(opened: InEtcd) -> None:
    async with opened() as store:
        await store.commit(Put(network("blue")), Put(endpoint("web")), Put(network("web", namespace="default")))
        keys = opened.member.ctl("get", "--prefix", "--keys-only", f"{opened.prefix}/").split()
        assert [key.removeprefix(opened.prefix) for key in keys if "/.commits/" not in key] == [
            "/endpoints/web:eth0",
            "/networks/blue",
            "/networks/default/web",
        ]
        said = opened.member.ctl("get", "--print-value-only", f"{opened.prefix}/networks/blue")
        assert said.startswith('{"kind":"Network","metadata":{"name":"blue","uid":"')
        assert "resourceVersion" not in said


@awaited
async def test_what_people_write_with_etcdctl_is_read(opened: InEtcd) -> None:
    async with opened() as store:
        since = await current(store)
        text = '{"kind":"Network","metadata":{"name":"blue"},"spec":{"internal":true}}'
        opened.member.ctl("put", f"{opened.prefix}/networks/blue", text)
        (event,) = await take(store, NETWORKS, since, 1)
        assert event.object == await store.get(NETWORKS, ("", "blue"))
        assert revision(event.object) == since + 1
        (again,) = await store.commit(Put(network("blue"), expect=since + 1))
        assert again is not None


@awaited
async def test_what_is_no_object_of_ours_is_passed_over(opened: InEtcd) -> None:
    async with opened() as store:
        since = await current(store)
        for key in ("wishes/default/web", "networks/a/b/c", "networks/%zz", "networks/\x01", "zebra", "~", "."):
            opened.member.ctl("put", f"{opened.prefix}/{key}", "whatever")
        await store.commit(Put(network()))
        assert [event.object.name for event in await take(store, None, since, 1)] == ["blue"]
        opened.member.ctl("put", f"{opened.prefix}more/networks/x", "whatever")
        assert [one.name for one in (await store.list(NETWORKS)).objects] == ["blue"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no JSON", "not JSON"),
        ('{"kind":"Network","metadata":{"name":"blue"},"spec":{"colour":"blue"}}', "spec.colour"),
        ('{"kind":"Network","metadata":{"name":"green"}, "spec": {}}', "it is stored as blue, and says that it is green"),
    ],
)
@awaited
async def test_what_cannot_be_read_is_told_replaced_and_deleted_like_the_rest(opened: InEtcd, text: str, reason: str) -> None:
    async with opened() as store:
        await store.commit(Put(network("a")))
        since = await current(store)
        opened.member.ctl("put", f"{opened.prefix}/networks/blue", text)
        listing = await store.list(NETWORKS)
        (broken,) = listing.broken
        assert reason in broken.reason
        assert (broken.key, broken.metadata.resource_version) == (("", "blue"), str(since + 1))
        assert await store.get(NETWORKS, ("", "blue")) == broken
        assert [one.name for one in listing.objects] == ["a"]
        (put,) = await store.commit(Put(network(), expect=since + 1))
        opened.member.ctl("put", f"{opened.prefix}/networks/blue", text)
        (gone,) = await store.commit(Delete(NETWORKS, ("", "blue")))
        assert isinstance(gone, Broken)
        events = await take(store, NETWORKS, since, 4)
        assert [event.kind.value for event in events] == ["added", "modified", "modified", "deleted"]
        assert [event.object for event in events[:2]] == [broken, put]
        assert events[3].object == gone


@awaited
async def test_a_prefix_of_its_own_is_a_store_of_its_own(opened: InEtcd, etcd: Member) -> None:
    neighbour = InEtcd(etcd)
    neighbour.prefix = f"{opened.prefix}/inner"
    async with opened() as store, neighbour() as other:
        since = await current(store)
        await other.commit(Put(network("theirs")))
        await store.commit(Put(network("ours")))
        assert [one.name for one in (await store.list(NETWORKS)).objects] == ["ours"]
        assert [one.name for one in (await other.list(NETWORKS)).objects] == ["theirs"]
        assert [event.object.name for event in await take(store, None, since, 1)] == ["ours"]


@pytest.mark.parametrize("prefix", ["", "/", "fairlead", "/a/", "//a", "/a b", "/ü", "/a/../b", "/.a", "/" + "x" * 200])
def test_a_prefix_that_is_none_is_named(prefix: str) -> None:
    async def make() -> None:
        Etcd(Access(endpoints=("127.0.0.1:1",), prefix=prefix))

    with pytest.raises(Invalid, match="prefix"):
        asyncio.run(make())


# -- bounds


@awaited
async def test_what_one_commit_cannot_hold_is_refused_whole(opened: InEtcd) -> None:
    async with opened() as store:
        before = await current(store)
        with pytest.raises(Invalid, match=f"{MAX_CHANGES + 1} changes are more than etcd takes in one commit"):
            await store.commit(*(Put(endpoint(f"e{at}")) for at in range(MAX_CHANGES + 1)))
        text = "x" * (MAX_OBJECT - 1000)
        with pytest.raises(Invalid, match="etcd does not take so much at once"):
            await store.commit(*(Put(network(f"n{at}", annotations={"text": text})) for at in range(3)))
        assert await current(store) == before


@awaited
async def test_a_page_is_read_again_when_etcd_forgot_the_listings_revision(opened: InEtcd) -> None:
    async with opened() as store:
        assert isinstance(store, Etcd)
        for at in range(0, 300, 100):
            await store.commit(*(Put(endpoint(f"e{one:03}")) for one in range(at, at + 100)))
        ask, forgotten = store._gateway.ask, 0

        async def forgetful(path: str, message: Any, to: Any) -> Any:
            nonlocal forgotten
            if path.endswith("/range") and message.revision and forgotten < 3:
                forgotten += 1
                await store.commit(Put(endpoint("e000", forgotten)))
                await asyncio.to_thread(opened.member.forget, message.revision + 1)
            return await ask(path, message, to)

        store._gateway.ask = forgetful  # type: ignore[method-assign]
        listing = await store.list(ENDPOINTS)
        assert forgotten == 3
        assert len(listing.objects) == 300
        assert isinstance(listing.objects[0], Endpoint)
        assert listing.objects[0].spec.mtu == 3


async def fill(store: Store) -> None:
    for at in range(30):
        await store.commit(Put(network(f"n{at}", annotations={"text": "x" * 300_000})))


@awaited
async def test_a_full_etcd_says_what_to_do(tmp_path: Path) -> None:
    with running(tmp_path, 1, f"--quota-backend-bytes={4 << 20}") as (member,):
        async with InEtcd(member)() as store:
            with pytest.raises(Unavailable, match=r"space is used up.*etcdctl alarm disarm"):
                await fill(store)
            assert (await store.list(NETWORKS)).objects


# -- connections


@awaited
async def test_a_watch_whose_connection_breaks_all_the_time_loses_and_repeats_nothing(opened: InEtcd) -> None:
    async with opened() as writer, Wire(opened.member.client).laid() as wire, over(opened, wire) as store:
        since = await current(writer)
        watching = asyncio.create_task(take(store, None, since, 400, patience=40))
        for at in range(200):
            await writer.commit(Put(endpoint("a", at + 1)), Put(endpoint("b", at + 1)))
            if at % 20 == 7:
                wire.cut()
        events = await watching
        assert [(event.object.name, event.object.spec.mtu) for event in events if isinstance(event.object, Endpoint)] == [
            (name, at + 1) for at in range(200) for name in ("a:eth0", "b:eth0")
        ]
        assert wire.accepted > 5


@awaited
async def test_what_was_forgotten_while_a_watch_was_cut_off_is_compacted(opened: InEtcd) -> None:
    async with (
        opened() as writer,
        Wire(opened.member.client).laid() as wire,
        over(opened, wire) as store,
        aclosing(store.watch(ENDPOINTS, await current(writer))) as watch,
    ):
        await writer.commit(Put(endpoint("x", 1)))
        assert mtus([await anext(watch)]) == [1]
        wire.down()
        for at in range(20):
            await writer.commit(Put(endpoint("x", at + 2)))
        await opened.forget(writer, keep=3)
        wire.up()
        with pytest.raises(Compacted, match="list again"):
            await anext(watch)


@awaited
async def test_what_was_deleted_is_told_though_its_last_state_is_forgotten_or_the_watch_says_so(opened: InEtcd) -> None:
    async with opened() as store:
        await store.commit(Put(endpoint("x", 7)))
        since = await current(store)
        await store.commit(Delete(ENDPOINTS, ("", "x:eth0")))
        await opened.forget(store, keep=0)
        try:
            (event,) = await take(store, ENDPOINTS, since, 1)
            assert mtus([event]) == [7]
        except Compacted:
            pass


@awaited
async def test_a_watch_goes_on_at_another_member_when_one_says_nothing_any_more(opened: InEtcd) -> None:
    """The connection stays, and carries nothing: only a missing sign of life tells."""
    async with (
        opened() as writer,
        Wire(opened.member.client).laid() as first,
        Wire(opened.member.client).laid() as second,
        over(opened, first, second) as store,
        aclosing(store.watch(ENDPOINTS, await current(writer))) as watch,
    ):
        await writer.commit(Put(endpoint("x", 1)))
        assert mtus([await anext(watch)]) == [1]
        used, other = (first, second) if first.accepted else (second, first)
        used.stall()
        await writer.commit(Put(endpoint("x", 2)))
        began = time.monotonic()
        assert mtus([await anext(watch)]) == [2]
        assert time.monotonic() - began < 20
        assert other.accepted
        (put,) = await store.commit(Put(endpoint("y")))
        assert revision(put)


@awaited
async def test_a_slow_reader_is_told_all_or_that_it_is_too_late(opened: InEtcd) -> None:
    async with opened() as store, aclosing(store.watch(NETWORKS, await current(store))) as watch:
        text, told = "x" * 500_000, list[str]()
        for at in range(60):  # far more than the buffers on the way hold
            await store.commit(Put(network("big", annotations={"text": text, "at": str(at)})))
            if at == 0:
                told.append((await anext(watch)).object.metadata.annotations["at"])
            if at % 20 == 19:
                await opened.forget(store, keep=2)
        with suppress(Compacted):
            while len(told) < 60:
                told.append((await anext(watch)).object.metadata.annotations["at"])
        assert told == [str(at) for at in range(len(told))]


@awaited
async def test_without_etcd_everything_fails_in_bounded_time_and_says_whom_it_asked() -> None:
    (port,) = free_ports(1)
    async with asking(port, patience=1.0) as store:
        for ask in everything(store):
            began = time.monotonic()
            with pytest.raises(Unavailable, match=rf"127\.0\.0\.1:{port}.*refused"):
                await ask()
            assert time.monotonic() - began < 3


def everything(store: Etcd) -> list[Callable[[], Awaitable[Any]]]:
    """All that asks etcd something."""

    async def hold() -> None:
        async with store.hold("a", "b"):
            pytest.fail("held")

    return [
        lambda: store.get(NETWORKS, ("", "x")),
        lambda: store.list(NETWORKS),
        lambda: store.commit(Put(network())),
        lambda: take(store, None, 1, 1),
        lambda: anext(store.present()),
        hold,
    ]


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    """The port of a server that says this to everybody, and nothing else."""
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.wait([task for task in serving if task])


def _http(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (_http("200 OK", b"<html>hello"), Unavailable, "not etcd's"),
        (_http("200 OK", b'{"kvs": 7}'), Unavailable, "not etcd's"),
        (_http("200 OK", b"\xff\xfe"), Unavailable, "not etcd's"),
        (_http("404 Not Found", b"no"), Failed, "--enable-grpc-gateway"),
        (_http("400 Bad Request", b"Client sent an HTTP request to an HTTPS server."), Failed, "wants TLS"),
        (_http("502 Bad Gateway", b"proxy"), Unavailable, "HTTP 502 'proxy'"),
        (_http("400 Bad Request", b'{"error":"grpc: unknown service","code":12}'), Failed, "must be 3.4 or newer"),
        (_http("500 Oops", b'{"error":"who knows","code":13,"message":"who knows"}'), Failed, "who knows"),
        (b"SSH-2.0-OpenSSH\r\n", Unavailable, "127.0.0.1"),
        (b"", Unavailable, "127.0.0.1"),
    ],
)
@awaited
async def test_who_is_no_etcd_is_named(answer: bytes, kind: type[Problem], words: str) -> None:
    async with answering(answer) as port, asking(port, patience=0.5) as store:
        for ask in everything(store):
            with pytest.raises(kind, match=words):
                await ask()


@awaited
async def test_a_gateway_that_is_off_is_named(tmp_path: Path) -> None:
    with running(tmp_path, 1, "--enable-grpc-gateway=false") as (member,):
        async with InEtcd(member)() as store:
            with pytest.raises(Failed, match="--enable-grpc-gateway"):
                await store.list(NETWORKS)


# -- commits that are sent again


class Deaf(Wire):
    """A wire that brings questions there, and every so often breaks instead of bringing the answer back."""

    def __init__(self, to: int, every: int) -> None:
        super().__init__(to)
        self._every, self._asked, self.broken = every, 0, 0

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if data.startswith(b"HTTP/1.1 200"):
                    self._asked += 1
                    if self._asked % self._every == 0:
                        self.broken += 1
                        break
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@awaited
async def test_a_commit_whose_answer_was_lost_happens_once_and_is_known(opened: InEtcd) -> None:
    """Two clients count by compare and swap over wires that lose answers; each success is one step, and each step is known."""

    async def count(store: Etcd, times: int) -> None:
        while times:
            now = await store.get(ENDPOINTS, ("", "counter:eth0"))
            assert isinstance(now, Endpoint)
            try:
                await store.commit(Put(endpoint("counter", now.spec.mtu + 1), expect=now.metadata.resource_version))
                times -= 1
            except Conflict:
                pass

    async with opened() as store, Deaf(opened.member.client, 3).laid() as one, Deaf(opened.member.client, 5).laid() as other:
        await store.commit(Put(endpoint("counter")))
        async with over(opened, one) as first, over(opened, other) as second:
            await asyncio.gather(count(first, 40), count(second, 40))
        last = await store.get(ENDPOINTS, ("", "counter:eth0"))
        assert isinstance(last, Endpoint)
        assert last.spec.mtu == 80
        assert isinstance(one, Deaf)
        assert one.broken > 10


@awaited
async def test_a_creation_and_a_deletion_whose_answers_were_lost_are_known(opened: InEtcd) -> None:
    async with Deaf(opened.member.client, 2).laid() as wire, over(opened, wire) as store:
        since = await current(store)
        for at in range(10):
            (put,) = await store.commit(Put(endpoint("x", at + 1), expect=""))
            (gone,) = await store.commit(Delete(ENDPOINTS, ("", "x:eth0"), expect=revision(put)))
            assert revision(gone) > revision(put)
        assert mtus(await take(store, ENDPOINTS, since, 20)) == [at + 1 for at in range(10) for _ in range(2)]


@awaited
async def test_slots_are_used_again_and_go_away_with_their_client(opened: InEtcd) -> None:
    def kept() -> list[str]:
        return opened.member.ctl("get", "--prefix", "--keys-only", f"{opened.prefix}/.commits/").split()

    async with opened() as store:
        for at in range(20):
            await store.commit(Put(endpoint("x", at + 1)))
            with pytest.raises(Conflict):
                await store.commit(Put(endpoint("x"), expect=""))
        assert len(kept()) == 1
        await asyncio.gather(*(store.commit(Put(endpoint(f"e{at}"))) for at in range(100)))
        assert 1 < len(kept()) <= slots.SLOTS
    assert kept() == []


@awaited
async def test_a_lease_that_was_lost_is_replaced(opened: InEtcd) -> None:
    async with opened() as store:
        assert isinstance(store, Etcd)
        await store.commit(Put(endpoint("x", 1)))
        opened.member.ctl("lease", "revoke", f"{store._slots._lease:x}")
        with pytest.raises(Unavailable, match="whether the commit happened is not known"):
            await store.commit(Put(endpoint("x", 2)))
        await store.commit(Put(endpoint("x", 3)))
        store._slots._until = 0.0  # half of its time is over
        before = store._slots._lease
        await store.commit(Put(endpoint("x", 4)))
        assert store._slots._lease != before


# -- presence


@awaited
async def test_one_who_is_cut_off_knows_before_others_do(opened: InEtcd) -> None:
    async with (
        opened() as other,
        Wire(opened.member.client).laid() as wire,
        over(opened, wire, patience=1.0) as store,
        store.hold("leader", "a", 2.0) as hold,
    ):
        wire.down()
        await hold.lost.wait()
        lost = time.monotonic()
        while True:
            try:
                async with other.hold("leader", "b", 2.0):
                    assert time.monotonic() >= lost
                    break
            except Conflict:
                await asyncio.sleep(0.05)


@awaited
async def test_a_short_break_is_not_the_end(opened: InEtcd) -> None:
    async with (
        opened() as other,
        Wire(opened.member.client).laid() as wire,
        over(opened, wire, patience=1.0) as store,
        store.hold("node-1", "a", 6.0) as hold,
        aclosing(other.present()) as present,
    ):
        assert await anext(present) == {"node-1": "a"}
        for _ in range(3):
            wire.down()
            await asyncio.sleep(2.0)
            wire.up()
            await asyncio.sleep(1.0)
        assert not hold.lost.is_set()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(present), 0.1)
