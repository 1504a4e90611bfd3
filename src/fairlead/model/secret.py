"""Secret: core/v1, what must not be shown: passwords of BGP sessions. Objects name it, and never hold what it holds.

Whoever lists objects gets it sealed: how long each value is, not what it is. A sealed one cannot be applied.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error
from typing import ClassVar, Literal

from msgspec.structs import replace

from .address import Name, Text
from .meta import Object, Value
from .namespace import DEFAULT

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_SEAL = re.compile(r"<(\d+) bytes>")
_LONGEST = 1 << 16


class Sealed(Text):
    """A value in base64, or, sealed, its length alone: ``<12 bytes>``. It never shows itself in a log."""

    __slots__ = ()

    @classmethod
    def canonical(cls, text: str) -> str:
        if _SEAL.fullmatch(text):
            return text
        try:
            value = b64decode(text, validate=True)
        except (Error, ValueError):
            raise ValueError("is not base64; write plain text under stringData") from None
        if len(value) > _LONGEST:
            raise ValueError(f"has {len(value)} bytes; at most {_LONGEST}")
        return b64encode(value).decode()

    @classmethod
    def of(cls, text: str) -> Sealed:
        """The value that ``text`` is."""
        return cls(b64encode(text.encode()).decode())

    @property
    def sealed(self) -> bool:
        """Whether only its length is known here."""
        return _SEAL.fullmatch(self) is not None

    @property
    def size(self) -> int:
        """How many bytes it has."""
        found = _SEAL.fullmatch(self)
        return int(found[1]) if found else len(b64decode(self))

    @property
    def value(self) -> bytes:
        """What it is."""
        return b64decode(self)

    def __repr__(self) -> str:
        return f"<{self.size} bytes>"


class Secret(Object, frozen=True, kw_only=True, tag="Secret"):
    """Values by key. ``string_data`` is for writing: plain text that takes its place among ``data``."""

    plural: ClassVar[str] = "secrets"
    namespaced: ClassVar[bool] = True

    api_version: Literal["v1"] = "v1"
    type: str = "Opaque"
    data: dict[str, Sealed] = {}
    string_data: dict[str, str] = {}
    immutable: bool = False

    def __post_init__(self) -> None:
        try:
            Name(self.name)
        except ValueError as problem:
            raise ValueError(f"metadata.name: {problem}") from None
        for field, keys in (("data", self.data), ("stringData", self.string_data)):
            for key in keys:
                if not _KEY.fullmatch(key):
                    raise ValueError(f"{field}: {key[:80]!r} is not a key: letters, digits, '-', '_', '.', at most 253")

    @property
    def open(self) -> Secret:
        """As it is stored: everything among ``data``. ``ValueError`` if a value is sealed."""
        for key, value in self.data.items():
            if value.sealed:
                raise ValueError(f"data.{key}: was hidden when this was read; read it with --reveal, or write the value anew")
        plain = {key: Sealed.of(text) for key, text in self.string_data.items()}
        return replace(self, data={**self.data, **plain}, string_data={})

    @property
    def closed(self) -> Secret:
        """As it is shown: how long each value is."""
        return replace(self, data={key: Sealed(f"<{value.size} bytes>") for key, value in self.data.items()})


class SecretKeyRef(Value, frozen=True, kw_only=True):
    """One value of one Secret."""

    name: Name
    key: str
    namespace: Name = Name(DEFAULT)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}:{self.key}"


class Password(Value, frozen=True, kw_only=True):
    """Where a password is kept."""

    secret_key_ref: SecretKeyRef
