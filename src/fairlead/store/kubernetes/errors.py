"""What the API server refuses, in people's words.

::

    Again     it cannot just now, and has done nothing                        the client asks again
    Silent    a watch that says nothing                                       it is begun anew
    Unsure    it cannot, and may have done it: a connection that broke        whoever changed something looks
    Stranger  it does not know who is asking                                  the client shows something newer, once
    Absent    there is no such object         Taken   there is one already    the store decides anew
    Stale     it is not the one that was read          Unserved   no such kind of object
    Problem   everything else, for whoever asked
"""

from __future__ import annotations

import msgspec

from fairlead.model.errors import Failed, Forbidden, Invalid, Problem, Unsupported
from fairlead.store.base import Compacted


class Again(Exception):
    """Not now. ``after``: seconds that it asks to be left alone for."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class Silent(Again):
    """A watch says nothing, and perhaps has nothing to say."""


class Unsure(Again):
    """It may have been done."""


class Distrust(Again):
    """One side does not believe who the other is; it will not in a few seconds either."""


class Stranger(Exception):
    """Who is asking is not known."""


class Absent(Exception):
    """There is no such object."""


class Taken(Exception):
    """There is one already."""


class Stale(Exception):
    """The object is not what it was."""


class Unserved(Exception):
    """The API server has no such kind."""


class _Cause(msgspec.Struct):
    field: str = ""
    message: str = ""


class _Details(msgspec.Struct):
    name: str = ""
    kind: str = ""
    causes: list[_Cause] = []


class Status(msgspec.Struct):
    """metav1.Status, as much of it as is looked at."""

    message: str = ""
    reason: str = ""
    details: _Details = msgspec.field(default_factory=_Details)
    code: int = 0


def status(body: bytes) -> Status:
    """What an answer says that is a refusal."""
    try:
        return msgspec.json.decode(body, type=Status)
    except (msgspec.MsgspecError, UnicodeError):
        return Status(message=body[:200].decode(errors="replace").strip())


def refusal(code: int, said: Status, after: float) -> Exception:
    """What a refusal means."""
    text = said.message or f"HTTP {code}"
    if code == 429:
        return Again(f"it is asked too much ({text})", after)
    if code >= 500:
        return Unsure(text, after)
    return _about_object(code, said, text) or _about_request(code, said, text)


def _about_object(code: int, said: Status, text: str) -> Exception | None:
    """What the store decides by."""
    match code:
        case 404:
            return Absent(text) if said.details.name else Unserved(text)
        case 409:
            return Taken(text) if said.reason == "AlreadyExists" else Stale(text)
        case 410:
            return Compacted(f"{text}; list again")
    return None


def _about_request(code: int, said: Status, text: str) -> Exception:
    """What a person decides by."""
    match code:
        case 401:
            return Stranger(text)
        case 403:
            return Forbidden(f"{text}; the roles that Fairlead needs are in deploy/kubernetes/base/rbac.yaml")
        case 413:
            return Invalid(f"the API server does not take so much at once: {text}")
        case 400 | 422:
            first = next(iter(said.details.causes), _Cause(message=text))
            return Invalid(first.message or text, field=first.field)
        case 405 | 406 | 415:
            return Unsupported(f"this API server cannot do it: {text}")
    return Failed(f"the API server says: {text} (HTTP {code})")


def unknown_asker(text: str, how: str) -> Problem:
    """Nobody is let in who shows this."""
    return Forbidden(f"the API server does not know who is asking ({text}); look at the {how} of the kubeconfig")
