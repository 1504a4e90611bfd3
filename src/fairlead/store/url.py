"""URL: which store, in one word for a command line or a file.

::

    sqlite:///var/lib/fairlead/store.db
    etcd://10.0.0.1,10.0.0.2:2379,[fd00::3]/fairlead?ca=FILE&cert=FILE&key=FILE&user=NAME&password-file=FILE
    etcds://etcd.example/fairlead             TLS with the authorities that the system trusts; so does any of the files above
    kubernetes://                             as kubectl would: $KUBECONFIG, ~/.kube/config, or the account of this pod
    kubernetes:///etc/fairlead/kubeconfig?context=NAME

A port left out is 2379, a prefix left out ``/fairlead``. The password never stands here, because everybody on a machine can
read command lines: it comes from ``password-file``, or from the environment variable FAIRLEAD_STORE_PASSWORD.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import parse_qsl, quote, unquote

from fairlead.model.errors import Invalid

from .base import Store
from .etcd.gateway import Access
from .etcd.keys import PREFIX, Keys
from .etcd.store import Etcd
from .kubernetes import access as kubeconfig
from .kubernetes.store import Kubernetes
from .presence import Presence
from .sqlite import Sqlite

PASSWORD: Final = "FAIRLEAD_STORE_PASSWORD"  # noqa: S105  # the name of a variable
"""The environment variable that the password may be in."""

_LONGEST, _MEMBERS = 4096, 32
_PORT = 2379
_KNOWN = ("ca", "cert", "key", "user", "password-file")
_HOST = re.compile(r"(\[(?P<six>[0-9A-Fa-f:.]{2,45})]|(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}))(?P<colon>:(?P<port>[^:]*))?")


class Shared(Store, Presence, Protocol):
    """A store, and who is alive."""


@dataclass(frozen=True, slots=True)
class File:
    """An SQLite file, shared by the processes of this machine."""

    path: Path

    @property
    def source(self) -> str:
        """What names this store, in a copy of it (``snapshot``)."""
        return f"sqlite://{quote(str(self.path))}"

    async def open(self) -> Shared:
        """Open it, or make it."""
        return await Sqlite.open(self.path, shared=True)


@dataclass(frozen=True, slots=True)
class Cluster:
    """An etcd, shared by many nodes."""

    access: Access

    @property
    def source(self) -> str:
        """What names this store, in a copy of it (``snapshot``)."""
        return f"etcd://{','.join(sorted(self.access.endpoints))}{self.access.prefix}"

    async def open(self) -> Shared:
        """Be ready to ask it; nothing is asked yet."""
        return Etcd(self.access)


@dataclass(frozen=True, slots=True)
class Api:
    """The API of a Kubernetes cluster."""

    access: kubeconfig.Access

    @property
    def source(self) -> str:
        """What names this store, in a copy of it (``snapshot``)."""
        return f"kubernetes://{self.access.server}"

    async def open(self) -> Shared:
        """Be ready to ask it; nothing is asked yet."""
        return Kubernetes(self.access)


def parse(text: str, environ: Mapping[str, str] = os.environ) -> File | Cluster | Api:
    """Which store a URL names; ``Invalid`` says what in it is wrong, and never shows what might be a password."""
    if len(text) > _LONGEST or not text.isprintable():
        raise _wrong(f"more than {_LONGEST} characters, or some that cannot be printed")
    scheme, _, rest = text.partition("://")
    rest, asks, query = rest.partition("?")
    hosts, slash, path = rest.partition("/")
    if "@" in hosts:
        raise _wrong(f"a user or password before the host; write ?user=NAME, and the password to a file or {PASSWORD}")
    if "#" in text:
        raise _wrong("a '#', which means nothing here; write %23 where a name has one")
    if scheme == "sqlite":
        return _file(hosts, slash + path, asks)
    if scheme in {"etcd", "etcds"}:
        return _cluster(scheme == "etcds", hosts, slash + path, _query(query, _KNOWN), environ)
    if scheme == "kubernetes":
        return _api(hosts, slash + path, _query(query, ("context",)), environ)
    raise _wrong(f"the scheme {scheme[:20]!r}; there are sqlite:///FILE, etcd://HOST:PORT,.../PREFIX and kubernetes://")


async def open_url(text: str) -> Shared:
    """Open the store that a URL names."""
    return await parse(text).open()


def _file(host: str, path: str, asks: str) -> File:
    if asks:
        raise _wrong("a query, which sqlite has none of")
    if host or not path.startswith("/") or path.endswith("/"):
        raise _wrong("no absolute path of a file; write three slashes, such as sqlite:///var/lib/fairlead/store.db")
    return File(Path(unquote(path)))


def _cluster(tls: bool, hosts: str, path: str, given: Mapping[str, str], environ: Mapping[str, str]) -> Cluster:
    endpoints = tuple(dict.fromkeys(_endpoint(host) for host in hosts.split(",")))
    if len(endpoints) > _MEMBERS:
        raise _wrong(f"{len(endpoints)} members; at most {_MEMBERS} can be named")
    prefix = unquote(path).rstrip("/") or PREFIX
    try:
        Keys(prefix)
    except Invalid as problem:
        raise _wrong(f"the prefix {problem.message}") from None
    user, ca, cert, key = (given.get(name, "") for name in ("user", "ca", "cert", "key"))
    if key and not cert:
        raise _wrong("key without cert; name the certificate that it belongs to")
    return Cluster(
        Access(
            endpoints=endpoints,
            prefix=prefix,
            tls=tls or bool(ca or cert),
            ca=ca,
            cert=cert,
            key=key,
            user=user,
            password=_password(user, given.get("password-file", ""), environ),
        )
    )


def _api(host: str, path: str, given: Mapping[str, str], environ: Mapping[str, str]) -> Api:
    if host:
        raise _wrong("a host, which the kubeconfig names; write kubernetes:// or kubernetes:///path/to/kubeconfig")
    return Api(kubeconfig.find(unquote(path), given.get("context", ""), environ))


def _query(text: str, known: Collection[str]) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict") if text else []
    except ValueError:
        raise _wrong("a query that is not of the form name=value&name=value") from None
    given = dict(pairs)
    if "password" in given:
        raise _wrong(f"a password, which everybody on this machine could read; write it to a file or {PASSWORD}")
    if unknown := sorted(set(given) - set(known)):
        raise _wrong(f"{unknown[0][:20]!r} in the query; known are {', '.join(known)}")
    for name, value in given.items():
        if not value or len(pairs) != len(given):
            raise _wrong(f"{name} without a value, or a name twice")
        if name in {"ca", "cert", "key", "password-file"} and not value.startswith("/"):
            raise _wrong(f"{name}={value[:80]}; it must be an absolute path")
    return given


def _endpoint(text: str) -> str:
    """``host:port`` of a member, checked."""
    found = _HOST.fullmatch(text)
    if found is None:
        raise _wrong(f"{text[:80]!r}, which is no member; write HOST:PORT, an IPv6 address in brackets, several with ','")
    port = found["port"] if found["colon"] else str(_PORT)
    if not port.isascii() or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise _wrong(f"{text[:80]!r}: {port[:20]!r} is not a port; ports are 1 to 65535")
    try:
        host = f"[{ipaddress.IPv6Address(found['six'])}]" if found["six"] else found["host"]
    except ValueError:
        raise _wrong(f"{text[:80]!r}, which is no IPv6 address") from None
    return f"{host}:{int(port)}"


def _password(user: str, file: str, environ: Mapping[str, str]) -> str:
    if not user:
        if file:
            raise _wrong("password-file without user")
        return ""
    if not file:
        if password := environ.get(PASSWORD):
            return password
        raise _wrong(f"user without a password; name password-file, or set {PASSWORD}")
    try:
        with Path(file).open() as lines:
            password = lines.read(_LONGEST).removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(f"password-file {file} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    if not password:
        raise _wrong(f"password-file {file} is empty")
    return password


def _wrong(what: str) -> Invalid:
    return Invalid(f"the URL of the store has {what}", field="store")
