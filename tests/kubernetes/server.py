"""The API server that tests ask: a real one where KUBEBUILDER_ASSETS names a directory with kube-apiserver and etcd, else the
one that stands in for it.

Both are behind one handle, ``Server``. What a test needs that only one of them can do it finds in ``standin`` or ``real``,
which is None for the other.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from fairlead.store.kubernetes.access import Access
from fairlead.store.kubernetes.trust import Pem
from tests.contracts.etcd import free_ports
from tests.kubernetes.standin.server import StandIn
from tests.tree import ROOT
from tests.wait import eventually

Tree = dict[str, Any]

CRDS = ROOT / "deploy/kubernetes/base/crds.yaml"
NAMESPACE = "fairlead-system"
ADMIN = "admin-token"
READY = 120.0


def definitions() -> list[Tree]:
    """The definitions of our kinds."""
    return [one for one in yaml.safe_load_all(CRDS.read_text()) if one]


class Server:
    """One API server, empty. ``call`` asks it as its administrator."""

    standin: StandIn | None = None

    def __init__(self, url: str, ca: bytes = b"", token: str = "") -> None:
        self.url, self.ca, self.token = url, ca, token

    def access(self, **more: Any) -> Access:
        """How a store reaches it."""
        given: dict[str, Any] = {"server": self.url, "ca": Pem(data=self.ca), "token": self.token, **more}
        return Access(**given)

    def call(self, method: str, path: str, tree: Tree | None = None, kind: str = "application/json") -> Tree:
        """Ask; raise ``urllib.error.HTTPError`` for a refusal."""
        headers = {"Content-Type": kind, **({"Authorization": f"Bearer {self.token}"} if self.token else {})}
        body = None if tree is None else json.dumps(tree).encode()
        request = urllib.request.Request(self.url + path, body, headers, method=method)  # noqa: S310  # loopback
        context = ssl.create_default_context(cadata=self.ca.decode()) if self.ca else None
        try:
            with urllib.request.urlopen(request, timeout=30, context=context) as answer:  # noqa: S310
                found: Tree = json.loads(answer.read())
                return found
        except urllib.error.HTTPError as error:
            error.add_note(error.read().decode(errors="replace"))
            raise

    def wipe(self) -> None:
        """Remove every object of ours."""
        for one in definitions():
            spec = one["spec"]
            self.call("DELETE", f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}")
        self.call("DELETE", f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases")

    def prepare(self) -> None:
        """Our definitions, and our namespace."""
        for one in definitions():
            name = one["metadata"]["name"]
            self.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", one)
            path = f"/apis/fairlead.dev/v1/{name.partition('.')[0]}"
            eventually(lambda path=path: self._serves(path), deadline=30, what=f"{path} is served")
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})

    def _serves(self, path: str) -> bool:
        try:
            self.call("GET", path)
        except urllib.error.HTTPError:
            return False
        return True


class StoodIn(Server):
    """The one that stands in."""

    def __init__(self, standin: StandIn) -> None:
        super().__init__(standin.url)
        self.standin = standin

    def wipe(self) -> None:
        assert self.standin
        self.standin.wipe()
        self.prepare()

    def prepare(self) -> None:
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})


@contextmanager
def standing_in(**options: Any) -> Iterator[StoodIn]:
    """A server that stands in, and its end."""
    standin = StandIn(definitions(), **options)
    standin.start()
    try:
        server = StoodIn(standin)
        server.prepare()
        yield server
    finally:
        standin.stop()


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """An API server with our definitions: the real one if there is one."""
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    if not assets:
        with standing_in() as server:
            yield server
        return
    with real(folder, Path(assets)) as server:
        yield server


@contextmanager
def real(folder: Path, assets: Path, *words: str) -> Iterator[Real]:
    """A real kube-apiserver and the etcd it needs, on loopback."""
    etcd, program, ca = programs(folder, assets, free_ports(3), *words)
    server = Real(f"https://127.0.0.1:{program.port}", ca, program)
    try:
        etcd.start()
        server.start()
        server.prepare()
        yield server
    finally:
        program.end()
        etcd.end()
        shutil.rmtree(folder / "etcd", ignore_errors=True)


def programs(
    folder: Path, assets: Path, ports: Sequence[int], *words: str, host: str = "127.0.0.1", inside: Sequence[str] = ()
) -> tuple[Program, Program, bytes]:
    """etcd, kube-apiserver at ``host``, and its certificate. ``inside``: the words that start a program where that is."""
    etcd_port, peer_port, port = ports
    cert, key, account = folder / "apiserver.crt", folder / "apiserver.key", folder / "account.key"
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test"),
        *("-addext", f"subjectAltName=IP:127.0.0.1,IP:{host}", "-keyout", str(key), "-out", str(cert)),
    )
    _openssl("genrsa", "-out", str(account), "2048")
    tokens = folder / "tokens.csv"
    tokens.write_text(f"{ADMIN},admin,1,system:masters\nagent-token,agent,2,fairlead\n")
    etcd_words = (
        *("--data-dir", str(folder / "etcd"), "--unsafe-no-fsync"),
        *("--listen-client-urls", f"http://127.0.0.1:{etcd_port}", "--advertise-client-urls", f"http://127.0.0.1:{etcd_port}"),
        *("--listen-peer-urls", f"http://127.0.0.1:{peer_port}"),
    )
    api_words = (
        *("--etcd-servers", f"http://127.0.0.1:{etcd_port}", "--etcd-compaction-interval", "0"),
        *("--bind-address", host, "--advertise-address", host, "--secure-port", str(port)),
        *("--tls-cert-file", str(cert), "--tls-private-key-file", str(key), "--token-auth-file", str(tokens)),
        *("--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", str(account)),
        *("--service-account-signing-key-file", str(account), "--service-cluster-ip-range", "10.96.0.0/16"),
        *("--authorization-mode", "RBAC", "--disable-admission-plugins", "ServiceAccount", "--allow-privileged", *words),
    )
    etcd = Program(folder / "etcd.log", *inside, assets / "etcd", *etcd_words, port=etcd_port)
    program = Program(folder / "apiserver.log", *inside, assets / "kube-apiserver", *api_words, port=port)
    return etcd, program, cert.read_bytes()


class Program:
    """A program that runs as long as a test wants."""

    def __init__(self, log: Path, *command: Any, port: int = 0) -> None:
        self.port = port
        # Whatever ends the tests, the kernel ends it too.
        self._log, self._command = log, ["setpriv", "--pdeathsig", "KILL", *map(str, command)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self._log.parent
            )

    def end(self, *, kill: bool = False) -> None:
        if self._process is None:
            return
        if kill:
            self._process.kill()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def check(self) -> None:
        """Fail with what it said, if it has ended."""
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()[-3000:]


class Real(Server):
    """A real one. It can be ended and started again, with all that it had."""

    def __init__(self, url: str, ca: bytes, program: Program) -> None:
        super().__init__(url, ca, ADMIN)
        self.program = program

    def start(self) -> None:
        self.program.start()
        eventually(self._ready, deadline=READY, what="kube-apiserver serves")

    def _ready(self) -> bool:
        self.program.check()
        try:
            self.call("GET", "/api/v1/namespaces/default")
        except (OSError, urllib.error.HTTPError):
            return False
        return True


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=30)
