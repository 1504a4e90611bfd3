"""Who is asking, and whom it is asked of: certificates, tokens and programs, and what happens when they change."""

from __future__ import annotations

import asyncio
import base64
import shutil
import ssl
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.model.errors import Forbidden, Invalid, Unavailable
from fairlead.store.base import Put
from fairlead.store.kubernetes import credentials
from fairlead.store.kubernetes.access import Access, Plugin, from_files, in_cluster
from fairlead.store.kubernetes.store import Kubernetes
from fairlead.store.kubernetes.trust import Pem, Proof
from tests.contracts.stores import NETWORKS, awaited, current, network, take
from tests.contracts.test_store_access import Authority
from tests.kubernetes.server import NAMESPACE, definitions
from tests.kubernetes.standin.server import StandIn

FIRST = "first"
"""The token that lets in."""

pytestmark = pytest.mark.needs("openssl")


class Guarded:
    """An API server with TLS that lets in only whom it knows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder, "authority")
        self.cert, self.key = self.authority.sign("server")
        self.client = self.authority.sign("client", "/O=system:masters/CN=admin")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.cert, self.key)
        self.context.load_verify_locations(self.authority.cert)
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.api = StandIn(definitions(), tls=self.context)
        self.api.gate.certificates = True
        self.api.gate.tokens = {"first": "agent"}
        self.api.put("namespaces", {"metadata": {"name": NAMESPACE}})

    def access(self, **more: Any) -> Access:
        ca = Pem(str(self.authority.cert), field="ca")
        return Access(**{"server": self.api.url, "ca": ca, "patience": 2.0, **more})


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    guarded = Guarded(tmp_path)
    guarded.api.start()
    try:
        yield guarded
    finally:
        guarded.api.stop()


async def works(store: Kubernetes) -> None:
    await store.list(NETWORKS)


async def asking(access: Access, act: Any = works) -> None:
    store = Kubernetes(access)
    try:
        await act(store)
    finally:
        await store.close()


def proof(pair: tuple[Path, Path]) -> Proof:
    return Proof(*(Pem(str(one), field="user") for one in pair))


# -- tokens


@awaited
async def test_a_token_lets_in_and_its_absence_does_not(guarded: Guarded) -> None:
    await asking(guarded.access(token=FIRST))
    for wrong in ({"token": "second"}, {}):
        with pytest.raises(Forbidden, match="does not know who is asking"):
            await asking(guarded.access(**wrong))


@awaited
async def test_a_token_that_rotates_is_read_again_also_under_a_watch(guarded: Guarded, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")

    async def act(store: Kubernetes) -> None:
        watching = asyncio.create_task(take(store, NETWORKS, await current(store), 2))
        await store.commit(Put(network("a")))
        file.write_text("second\n")
        guarded.api.call(lambda: guarded.api.gate.tokens.update({"second": "agent"}))
        guarded.api.call(lambda: guarded.api.gate.tokens.pop("first"))
        await store.commit(Put(network("b")))
        assert len(await watching) == 2
        await asyncio.to_thread(guarded.api.stop)
        await asyncio.to_thread(guarded.api.start)
        since = await current(store)
        watching = asyncio.create_task(take(store, NETWORKS, since, 1))
        await store.commit(Put(network("c")))
        assert len(await watching) == 1

    await asking(guarded.access(token_file=str(file)), act)


@awaited
async def test_a_token_is_read_before_it_is_refused(guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kubelet replaces it while the old one is still good."""
    monkeypatch.setattr(credentials, "REREAD", 0.0)
    file = tmp_path / "token"
    file.write_text("first")
    guarded.api.gate.tokens["second"] = "other"

    async def act(store: Kubernetes) -> None:
        await store.list(NETWORKS)
        file.write_text("second")
        await store.list(NETWORKS)
        file.unlink()
        await store.list(NETWORKS)  # what was read last is all there is

    await asking(guarded.access(token_file=str(file)), act)
    assert [one.user for one in guarded.api.gate.asked if one.verb == "list"] == ["agent", "other", "other"]


@awaited
async def test_inside_of_a_pod(guarded: Guarded, tmp_path: Path) -> None:
    account = tmp_path / "account"
    account.mkdir()
    shutil.copy(guarded.authority.cert, account / "ca.crt")
    (account / "token").write_text("first")
    environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(guarded.api.port)}
    await asking(in_cluster(environment, account, patience=2.0))


# -- programs


def program(folder: Path, text: str) -> str:
    path = folder / "who"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(stat.S_IRWXU)
    return str(path)


@awaited
async def test_a_program_says_who_is_asking_and_is_asked_again_when_that_is_over(guarded: Guarded, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first")
    text = f"""
    echo run >>{tmp_path}/runs
    test "$NAME" = value || exit 3
    echo "$KUBERNETES_EXEC_INFO" | grep -q ExecCredential || exit 4
    printf '{{"kind":"ExecCredential","status":{{"token":"%s"}}}}' "$(cat {tmp_path}/token)"
    """
    plugin = Plugin(program(tmp_path, text), ("get", "token"), (("NAME", "value"),))

    async def act(store: Kubernetes) -> None:
        await store.list(NETWORKS)
        await store.list(NETWORKS)
        assert (tmp_path / "runs").read_text().count("run") == 1
        (tmp_path / "token").write_text("second")
        guarded.api.call(lambda: guarded.api.gate.tokens.update({"second": "agent"}))
        guarded.api.call(lambda: guarded.api.gate.tokens.pop("first"))
        await store.list(NETWORKS)
        assert (tmp_path / "runs").read_text().count("run") == 2

    await asking(guarded.access(plugin=plugin), act)


@awaited
async def test_a_token_with_an_end_is_replaced_before_it(guarded: Guarded, tmp_path: Path) -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 10))
    text = f"""
    echo run >>{tmp_path}/runs
    echo '{{"status":{{"token":"first","expirationTimestamp":"{soon}"}}}}'
    """

    async def act(store: Kubernetes) -> None:
        await store.list(NETWORKS)
        await store.list(NETWORKS)

    await asking(guarded.access(plugin=Plugin(program(tmp_path, text))), act)
    assert (tmp_path / "runs").read_text().count("run") == 2


@awaited
async def test_a_program_may_show_a_certificate(guarded: Guarded, tmp_path: Path) -> None:
    cert, key = (path.read_text().replace("\n", "\\n") for path in guarded.client)
    (tmp_path / "said").write_text(f'{{"status":{{"clientCertificateData":"{cert}","clientKeyData":"{key}"}}}}')
    await asking(guarded.access(plugin=Plugin(program(tmp_path, f"cat {tmp_path}/said"))))


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("echo please log in >&2; exit 1", Forbidden, "does not say who is asking: please log in"),
        ("echo nonsense", Invalid, "no ExecCredential"),
        (None, Invalid, "cannot be run: No such file or directory; install it"),
    ],
)
@awaited
async def test_a_program_that_does_not_is_quoted(
    guarded: Guarded, tmp_path: Path, text: str | None, kind: type[Exception], words: str
) -> None:
    name = program(tmp_path, text) if text else str(tmp_path / "absent")
    with pytest.raises(kind, match=words):
        await asking(guarded.access(plugin=Plugin(name, hint="install it")))


# -- certificates


@awaited
async def test_a_client_certificate_lets_in_and_may_be_replaced(guarded: Guarded, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other").sign("stranger", "/CN=stranger")
    mine = tmp_path / "mine.crt", tmp_path / "mine.key"
    for source, place in zip(guarded.client, mine, strict=True):
        shutil.copy(source, place)

    async def act(store: Kubernetes) -> None:
        await store.list(NETWORKS)
        for source, place in zip(other, mine, strict=True):
            shutil.copy(source, tmp_path / "new")
            (tmp_path / "new").rename(place)
        with pytest.raises(Unavailable):
            await store.list(NETWORKS)
        mine[1].write_text("half written")
        with pytest.raises(Unavailable):
            await store.list(NETWORKS)
        for source, place in zip(guarded.client, mine, strict=True):
            shutil.copy(source, tmp_path / "new")
            (tmp_path / "new").rename(place)
        await store.list(NETWORKS)

    await asking(guarded.access(proof=proof(mine)), act)
    assert {one.user for one in guarded.api.gate.asked} == {"admin"}


@awaited
async def test_an_api_server_may_get_another_certificate(guarded: Guarded, tmp_path: Path) -> None:
    renewed = guarded.authority.sign("renewed")
    foreign = Authority(tmp_path, "foreign").sign("server2")

    async def act(store: Kubernetes) -> None:
        watching = asyncio.create_task(take(store, NETWORKS, await current(store), 1))
        guarded.context.load_cert_chain(*renewed)
        await asyncio.to_thread(guarded.api.stop)
        await asyncio.to_thread(guarded.api.start)
        await store.commit(Put(network("a")))
        assert len(await watching) == 1
        guarded.context.load_cert_chain(*foreign)
        await asyncio.to_thread(guarded.api.stop)
        await asyncio.to_thread(guarded.api.start)
        with pytest.raises(Unavailable, match=r"its certificate is not trusted: .*certificate-authority"):
            await store.list(NETWORKS)

    await asking(guarded.access(token=FIRST), act)


@awaited
async def test_a_server_by_another_name_is_believed_only_by_that_name(guarded: Guarded) -> None:
    server = f"https://localhost:{guarded.api.port}"
    with pytest.raises(Unavailable, match="localhost"):
        await asking(guarded.access(server=server, token=FIRST))
    await asking(guarded.access(server=server, token=FIRST, server_name="127.0.0.1"))
    await asking(guarded.access(server=server, token=FIRST, insecure=True))
    with pytest.raises(Unavailable, match=r"other\.example"):
        await asking(guarded.access(token=FIRST, server_name="other.example"))


@pytest.mark.parametrize(
    ("field", "text"), [("ca", "no certificate"), ("ca", None), ("cert", "x"), ("key", "x"), ("key", None)]
)
@awaited
async def test_files_that_are_none_are_named(guarded: Guarded, tmp_path: Path, field: str, text: str | None) -> None:
    path = tmp_path / "file"
    if text is not None:
        path.write_text(text)
    bad = Pem(str(path), field="the field")
    pair = dict(zip(("cert", "key"), proof(guarded.client), strict=True))
    wrong: dict[str, Any] = {"ca": bad} if field == "ca" else {"proof": Proof(**{**pair, field: bad})}
    with pytest.raises(Invalid, match=str(path)):
        await asking(guarded.access(**wrong))


# -- as kubectl writes it


def inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


@pytest.mark.parametrize("embedded", [True, False])
@awaited
async def test_a_kubeconfig_with_certificates(guarded: Guarded, tmp_path: Path, embedded: bool) -> None:
    cert, key = guarded.client
    if embedded:
        ca = f"certificate-authority-data: {inline(guarded.authority.cert)}"
        user = f"client-certificate-data: {inline(cert)}, client-key-data: {inline(key)}"
    else:
        ca, user = (
            f"certificate-authority: {guarded.authority.cert.name}",
            f"client-certificate: {cert.name}, client-key: {key}",
        )
    config = tmp_path / "kubeconfig"
    config.write_text(
        f"""
        current-context: here
        contexts: [{{name: here, context: {{cluster: c, user: u}}}}]
        clusters: [{{name: c, cluster: {{server: "{guarded.api.url}/", {ca}}}}}]
        users: [{{name: u, user: {{{user}}}}}]
        """
    )
    await asking(from_files([config], patience=2.0))


def kubeconfig(guarded: Guarded, user: str, server: str = "") -> str:
    ca = f"certificate-authority: {guarded.authority.cert}"
    return f"""
        current-context: here
        contexts: [{{name: here, context: {{cluster: c, user: u}}}}]
        clusters: [{{name: c, cluster: {{server: "{server or guarded.api.url}", {ca}}}}}]
        users: [{{name: u, user: {{{user}}}}}]
        """


@awaited
async def test_a_kubeconfig_that_is_replaced_is_read_when_its_token_is_refused(guarded: Guarded, tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(kubeconfig(guarded, "token: wrong"))

    async def act(store: Kubernetes) -> None:
        with pytest.raises(Forbidden, match="does not know who is asking"):
            await store.list(NETWORKS)
        config.write_text("users: [half")
        with pytest.raises(Forbidden, match="does not know who is asking"):
            await store.list(NETWORKS)
        config.write_text(kubeconfig(guarded, f"token: {FIRST}"))
        await store.list(NETWORKS)
        config.unlink()
        await store.list(NETWORKS)

    await asking(from_files([config], patience=2.0), act)


@pytest.mark.parametrize("shown", ["token", "certificate"])
@awaited
async def test_a_kubeconfig_that_is_replaced_is_read_before_it_is_refused(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str
) -> None:
    monkeypatch.setattr(credentials, "REREAD", 0.0)
    guarded.api.gate.tokens["second"] = "other"
    cert, key = guarded.client
    another = f"client-certificate: {cert}, client-key: {key}" if shown == "certificate" else "token: second"
    config = tmp_path / "kubeconfig"
    config.write_text(kubeconfig(guarded, f"token: {FIRST}"))

    async def act(store: Kubernetes) -> None:
        await store.list(NETWORKS)
        config.write_text(kubeconfig(guarded, another))
        await store.list(NETWORKS)

    await asking(from_files([config], patience=2.0), act)
    first, second = (one.user for one in guarded.api.gate.asked if one.verb == "list")
    assert (first, second) == ("agent", "other" if shown == "token" else "admin")


@awaited
async def test_a_kubeconfig_that_names_another_server_takes_a_restart(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is known of one cluster is not another's."""
    monkeypatch.setattr(credentials, "REREAD", 0.0)
    config = tmp_path / "kubeconfig"
    config.write_text(kubeconfig(guarded, f"token: {FIRST}"))

    async def act(store: Kubernetes) -> None:
        await store.list(NETWORKS)
        config.write_text(kubeconfig(guarded, "token: second", server="https://192.0.2.1:6443"))
        for _ in range(2):
            await store.list(NETWORKS)

    await asking(from_files([config], patience=2.0), act)
    assert caplog.text.count(f"{config} names another API server now; this takes a restart") == 1
