"""Who may reach an etcd: certificates made by openssl, users with passwords, and what is said where one of them is wrong."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fairlead.model.errors import Forbidden, Invalid, Unavailable
from fairlead.store.base import Put
from fairlead.store.etcd.gateway import Access
from fairlead.store.etcd.store import Etcd
from tests.contracts.etcd import Member, running
from tests.contracts.stores import NETWORKS, awaited, current, network, take

pytestmark = pytest.mark.needs("etcd", "etcdctl", "openssl", "setpriv")

SECRET = "a secret/+%&"  # noqa: S105


class Authority:
    """One who signs certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.cert, self._key = folder / f"{name}.crt", folder / f"{name}.key"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-keyout", str(self._key), "-out", str(self.cert)),
        )

    def sign(self, name: str, subject: str = "/O=fairlead") -> tuple[Path, Path]:
        """A certificate for loopback, and its key. A common name in the subject is what etcd's gateway does not take."""
        cert, key, asked = (self.folder / f"{name}.{suffix}" for suffix in ("crt", "key", "csr"))
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "extendedKeyUsage=serverAuth,clientAuth"),
            *("-keyout", str(key), "-out", str(asked)),
        )
        self._openssl(
            *("x509", "-req", "-in", str(asked), "-CA", str(self.cert), "-CAkey", str(self._key), "-days", "2"),
            *("-copy_extensions", "copy", "-out", str(cert)),
        )
        return cert, key

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=30)


def spoil(store: Etcd) -> None:
    """Have the store believe in a token that etcd does not know."""
    store._gateway._token = f"{id(store):016x}.1"


class Guarded:
    """An etcd that wants certificates of its clients, and users."""

    def __init__(self, member: Member, authority: Authority, cert: Path, key: Path) -> None:
        self.member, self.authority, self.cert, self.key = member, authority, cert, key

    @asynccontextmanager
    async def opened(self, **other: Any) -> AsyncIterator[Etcd]:
        """The store, as everything is right but what is said otherwise."""
        right = {
            "endpoints": (self.member.endpoint,),
            "prefix": "/fairlead",
            "tls": True,
            "ca": str(self.authority.cert),
            "cert": str(self.cert),
            "key": str(self.key),
            "user": "fairlead",
            "password": SECRET,
            "patience": 5.0,
        }
        store = Etcd(Access(**{**right, **other}))
        try:
            yield store
        finally:
            await store.close()

    def ctl(self, *words: str) -> str:
        tls = (f"--cacert={self.authority.cert}", f"--cert={self.cert}", f"--key={self.key}")
        return self.member.ctl(*tls, *words)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority = Authority(folder, "authority")
    server, key = authority.sign("server")
    client = authority.sign("client")
    words = ("--client-cert-auth", f"--trusted-ca-file={authority.cert}", f"--cert-file={server}", f"--key-file={key}")
    with running(folder / "etcd", 1, *words, tls=True) as (member,):
        etcd = Guarded(member, authority, *client)
        etcd.ctl("user", "add", "root:root")
        etcd.ctl("user", "grant-role", "root", "root")
        etcd.ctl("user", "add", f"fairlead:{SECRET}")
        etcd.ctl("role", "add", "fairlead")
        etcd.ctl("role", "grant-permission", "fairlead", "readwrite", "--prefix=true", "/fairlead/")
        etcd.ctl("user", "grant-role", "fairlead", "fairlead")
        etcd.ctl("auth", "enable")
        yield etcd


@awaited
async def test_all_that_a_store_does_with_certificates_and_a_user(guarded: Guarded) -> None:
    async with guarded.opened() as store:
        since = await current(store)
        watching = asyncio.create_task(take(store, NETWORKS, since, 2))
        await store.commit(Put(network("blue")))
        await store.commit(Put(network("blue", internal=True)))
        assert [event.kind.value for event in await watching] == ["added", "modified"]
        async with store.hold("node-1", "a", 2.0) as hold, aclosing(store.present()) as present:
            assert await anext(present) == {"node-1": "a"}
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(hold.lost.wait(), 3.0)


@awaited
async def test_a_token_that_etcd_no_longer_knows_is_replaced(guarded: Guarded) -> None:
    async with guarded.opened() as store:
        await store.commit(Put(network("before")))
        spoil(store)
        await store.commit(Put(network("after")))
        assert await store.get(NETWORKS, ("", "after")) is not None
        spoil(store)
        since = await current(store)
        spoil(store)
        watching = asyncio.create_task(take(store, NETWORKS, since, 1))
        await asyncio.sleep(0)
        await store.commit(Put(network("later")))
        assert [event.object.name for event in await watching] == ["later"]
        answers = [store.get(NETWORKS, ("", "after")) for _ in range(8)]
        spoil(store)
        assert all(await asyncio.gather(*answers))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"password": "guess"}, "user: etcd does not know user 'fairlead' with this password"),
        ({"user": "nobody"}, "user: etcd does not know user 'nobody' with this password"),
        ({"user": ""}, "user: etcd asks for a user"),
        ({"prefix": "/elsewhere"}, r"does not let user 'fairlead' .*grant-permission ROLE readwrite --prefix /elsewhere/"),
    ],
)
@awaited
async def test_who_may_not_is_told_what_would_help(guarded: Guarded, wrong: dict[str, Any], words: str) -> None:
    async with guarded.opened(**wrong) as store:
        with pytest.raises(Forbidden, match=words):
            await store.get(NETWORKS, ("", "blue"))
        with pytest.raises(Forbidden, match=words):
            await store.commit(Put(network("blue")))
        with pytest.raises(Forbidden, match=words):
            await take(store, NETWORKS, 1, 1)


@awaited
async def test_a_user_where_there_are_none_is_named(etcd: Member) -> None:
    store = Etcd(Access(endpoints=(etcd.endpoint,), prefix="/x", user="fairlead", password=SECRET, patience=2.0))
    with pytest.raises(Forbidden, match="etcdctl auth enable"):
        await store.list(NETWORKS)
    await store.close()


@awaited
async def test_a_certificate_that_is_not_trusted_is_named_at_once(guarded: Guarded, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    async with guarded.opened(ca=str(other.cert)) as store:
        with pytest.raises(Unavailable, match=r"its certificate is not trusted: .*look at ca"):
            await store.list(NETWORKS)
    cert, key = other.sign("client")
    for wrong in ({"cert": "", "key": ""}, {"cert": str(cert), "key": str(key)}):
        async with guarded.opened(**wrong, patience=1.0) as store:
            with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
                await store.list(NETWORKS)
    async with guarded.opened(tls=False, patience=1.0) as store:
        with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1"):
            await store.list(NETWORKS)


@awaited
async def test_a_certificate_with_a_common_name_is_named(guarded: Guarded) -> None:
    cert, key = guarded.authority.sign("named", "/CN=fairlead")
    async with guarded.opened(cert=str(cert), key=str(key)) as store:
        with pytest.raises(Forbidden, match=r"cert: .*no certificate with a common name") as refused:
            await store.list(NETWORKS)
        assert refused.value.field == "cert"


@awaited
async def test_a_member_with_another_name_is_not_trusted(guarded: Guarded) -> None:
    async with guarded.opened(endpoints=(f"localhost:{guarded.member.client}",)) as store:
        with pytest.raises(Unavailable, match="not valid for 'localhost'"):
            await store.list(NETWORKS)


@pytest.mark.parametrize(
    ("field", "text"), [("ca", "no certificate"), ("cert", "no certificate"), ("key", "no key"), ("ca", None), ("cert", None)]
)
def test_files_that_are_none_are_named(guarded: Guarded, tmp_path: Path, field: str, text: str | None) -> None:
    path = tmp_path / "file"
    if text is not None:
        path.write_text(text)

    @awaited
    async def run() -> None:
        with pytest.raises(Invalid, match=str(path)) as refused:
            async with guarded.opened(**{field: str(path)}):
                pytest.fail("opened")
        assert refused.value.field == {"key": "cert"}.get(field, field)

    run()


@awaited
async def test_certificates_may_be_replaced_while_the_store_is_open(guarded: Guarded, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    wrong, right = other.sign("client"), (guarded.cert, guarded.key)
    cert, key = tmp_path / "mine.crt", tmp_path / "mine.key"

    def put(pair: tuple[Path, Path]) -> None:
        for source, place in zip(pair, (cert, key), strict=True):
            shutil.copy(source, tmp_path / "new")
            (tmp_path / "new").rename(place)

    put(wrong)
    async with guarded.opened(cert=str(cert), key=str(key), patience=1.0) as store:
        with pytest.raises(Unavailable):
            await store.list(NETWORKS)
        key.write_text("half written")
        with pytest.raises(Unavailable):
            await store.list(NETWORKS)
        put(right)
        await store.list(NETWORKS)


def test_a_password_is_shown_nowhere(guarded: Guarded) -> None:
    access = Access(endpoints=(guarded.member.endpoint,), prefix="/x", user="fairlead", password=SECRET)
    assert SECRET not in f"{access!r} {access}"
