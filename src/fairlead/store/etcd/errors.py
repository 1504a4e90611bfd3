"""What etcd refuses, in people's words: gRPC's codes and etcd's texts become problems that say what would help.

::

    Again      this member cannot just now, another or a later attempt may      the gateway goes on
    Stale      the token is no longer good                                      the gateway asks for another
    NoLease    the lease is gone                                                whoever holds one takes another
    Problem    everything else, for whoever asked
"""

from __future__ import annotations

import re

from fairlead.model.errors import Failed, Forbidden, Invalid, Problem, Unavailable
from fairlead.store.base import Compacted

_UNKNOWN, _DEADLINE, _DENIED, _EXHAUSTED = 2, 4, 7, 8
_UNIMPLEMENTED, UNAVAILABLE, _UNAUTHENTICATED = 12, 14, 16

_GRPC = re.compile(r"^rpc error: code = \w+ desc = ")
_FULL = (
    "etcd's space is used up and it takes no writes: let it forget old revisions (etcdctl compact REVISION; etcdctl defrag; "
    "etcdctl alarm disarm), and start it with --auto-compaction-retention=1h so that it does so by itself"
)


class Again(Exception):
    """This member cannot answer now."""


class Distrust(Again):
    """One side does not believe who the other is."""


class Stale(Exception):
    """The token that says who is asking is no longer good."""


class NoLease(Exception):
    """The lease is gone."""


def refusal(code: int, text: str, user: str, prefix: str) -> Exception:
    """What a refusal means to ``user`` (may be empty) who works below ``prefix``."""
    said = _GRPC.sub("", text).removeprefix("etcdserver: ")
    if said in {"invalid auth token", "revision of auth store is old"} or code == _UNAUTHENTICATED:
        return Stale(said)
    if special := _special(said, user, prefix):
        return special
    waited = code == _UNKNOWN and said.startswith(("context ", "raft"))
    if code in {UNAVAILABLE, _DEADLINE} or waited or "too many requests" in said:
        return Again(said)
    if code == _EXHAUSTED or "too large" in said or "too many operations" in said:
        return Invalid(f"etcd does not take so much at once ({said}); make the object smaller, or the commit")
    if code == _UNIMPLEMENTED:
        return Failed(f"this etcd lacks what Fairlead needs ({said}); it must be 3.4 or newer")
    return Failed(f"etcd refused: {said} (code {code})")


def stranger(status: int, said: str) -> Exception:
    """What an answer means that does not come from etcd's gateway itself."""
    if status >= 500:
        return Again(f"HTTP {status} {said!r}")
    if status == 404:
        return Failed(f"this is no etcd, or its gateway is off: start it with --enable-grpc-gateway (HTTP {status} {said!r})")
    if said.startswith("CommonName of client"):
        said = "where users are turned on, etcd's gateway takes no certificate with a common name"
        return Forbidden(f"{said}: make one with a subjectAltName alone, and name user and password", field="cert")
    return Failed(f"this is no etcd, or one that wants TLS: HTTP {status} {said!r}")


def _special(said: str, user: str, prefix: str) -> Exception | None:
    """What etcd says with one text in every version, whatever the code."""
    if said.startswith("mvcc: required revision"):
        return Compacted(f"etcd: {said.removeprefix('mvcc: ')}; list again")
    if "database space exceeded" in said:
        return Unavailable(_FULL)
    if said == "requested lease not found":
        return NoLease(said)
    if said.startswith("authentication failed"):
        return Forbidden(f"etcd does not know user {user!r} with this password", field="user")
    if said == "authentication is not enabled":
        return Forbidden("etcd knows no users: leave user out, or turn them on with: etcdctl auth enable", field="user")
    if said in {"user name is empty", "user name not found"} or "permission denied" in said:
        return _denied(user, prefix)
    return None


def _denied(user: str, prefix: str) -> Problem:
    grant = f"etcdctl role grant-permission ROLE readwrite --prefix {prefix}/"
    if not user:
        return Forbidden(f"etcd asks for a user: name one that may do this ({grant})", field="user")
    return Forbidden(f"etcd does not let user {user!r} do this; allow it with: {grant}", field="user")


def nowhere(said: dict[str, str], patience: float) -> Unavailable:
    """No member answered: what each said last."""
    each = "; ".join(f"{at}: {why}" for at, why in said.items())
    if not patience:
        return Unavailable(f"no member of etcd is trusted, or trusts us ({each}); look at ca, cert and key")
    return Unavailable(f"etcd did not answer within {patience:g} s ({each}); see whether most of its members run")
