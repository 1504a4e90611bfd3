"""What the CNI specification fixes: versions, commands, error codes and the shape of an error.

Read https://www.cni.dev/docs/spec/ beside it. Codes from 100 on are Fairlead's own; docs/cni.md lists them for users.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import TypeVar

import msgspec

from fairlead.model import errors

T = TypeVar("T")
R = TypeVar("R")

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""What is spoken here, oldest first."""

SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
"""The version that brought a command, for those that not every version has."""

_INNER = re.compile(r"[a-z][A-Za-z]*(\[\d+\])?(\.[a-z][A-Za-z]*)*: ")
"""How the model's errors name a field of the value that they are about."""

_MESSAGE = 2000
"""Characters of an error's message: a configuration can be a megabyte, an answer about it should not."""


class Code(IntEnum):
    """Error codes: below 100 the specification's, then Fairlead's."""

    VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    ENVIRONMENT = 4
    IO = 5
    DECODE = 6
    CONFIG = 7
    TRY_LATER = 11
    NOT_AVAILABLE = 50

    INTERNAL = 100
    CONFLICT = 101
    EXHAUSTED = 102
    UNSUPPORTED = 103
    FAILED = 104
    MISSING = 105
    FORBIDDEN = 106
    DIFFERENT = 110


_CODES: Mapping[type[errors.Problem], Code] = {
    errors.Invalid: Code.CONFIG,
    errors.Unavailable: Code.TRY_LATER,
    errors.Conflict: Code.CONFLICT,
    errors.Exhausted: Code.EXHAUSTED,
    errors.Unsupported: Code.UNSUPPORTED,
    errors.Failed: Code.FAILED,
    errors.Missing: Code.MISSING,
    errors.Forbidden: Code.FORBIDDEN,
}

_VARIABLES = {"container": "CNI_CONTAINERID", "interface": "CNI_IFNAME", "path": "CNI_NETNS"}
"""Fields of the agent's requests that a runtime fills through its environment."""


class Refused(Exception):
    """A CNI error: ``message`` names the field or variable and what is wrong, ``details`` says what to do."""

    def __init__(self, code: Code, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    @classmethod
    def of(cls, problem: errors.Problem) -> Refused:
        """A problem of the agent's as CNI tells it."""
        if variable := _VARIABLES.get(problem.field):
            return cls(Code.ENVIRONMENT, f"{variable}: {problem.message}")
        return cls(_CODES.get(type(problem), Code.FAILED), str(problem))

    def encode(self, version: str) -> bytes:
        """The error object as the runtime reads it."""
        answer = {"cniVersion": version, "code": int(self.code), "msg": _clean(self.message)}
        if self.details:
            answer["details"] = _clean(self.details)
        return msgspec.json.encode(answer)


def versions(version: str) -> bytes:
    """The answer to VERSION."""
    return msgspec.json.encode({"cniVersion": version, "supportedVersions": VERSIONS})


def at_least(version: str, other: str) -> bool:
    """Whether ``version`` is ``other`` or newer; both are spoken here."""
    return VERSIONS.index(version) >= VERSIONS.index(other)


def _clean(text: str) -> str:
    """``text`` without what JSON cannot carry (bytes of an environment that are no UTF-8), and not too long."""
    text = text.encode(errors="replace").decode()
    return text if len(text) <= _MESSAGE else f"{text[:_MESSAGE]} [...]"


def checked(make: Callable[[T], R], value: T, field: str, code: Code = Code.CONFIG) -> R:
    """``make(value)``; a ``ValueError`` becomes a CNI error that names ``field``, and what the problem names within it."""
    try:
        return make(value)
    except ValueError as problem:
        between = "." if field and _INNER.match(str(problem)) else ": " if field else ""
        raise Refused(code, f"{field}{between}{problem}") from None
