"""Discovery: which versions of a kind an API server has, asked where it does not have the one that is known here.

A cluster without a kind has no objects of it. One that has it in an older version that is known here is read in that. One that
has it in another may hold policies that nobody here obeys, which must not pass for none. Nor must one that an API server does
not have for a moment, as some do while they start: all policies of the kind would be forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from fairlead.model.errors import Unavailable, Unsupported

from .client import Client
from .errors import Absent, Unserved
from .resources import Resource

GONE = 60.0
"""Seconds for which a kind that was there must be missing before that is believed."""


class Kinds:
    """Which kinds an API server was seen to have."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._there: set[str] = set()
        self._missing: dict[str, float] = {}

    def has(self, plural: str) -> None:
        """It has the kind."""
        self._there.add(plural)
        self._missing.pop(plural, None)

    def lacks(self, plural: str) -> None:
        """It says that it does not; raise ``Unavailable`` while that may pass."""
        if plural in self._there:
            since = self._missing.setdefault(plural, self._clock())
            if self._clock() - since < GONE:
                raise Unavailable(f"the API server says that it has no {plural}, which it had; asking again")
        self._there.discard(plural)
        self._missing.pop(plural, None)


class _Version(msgspec.Struct):
    version: str


class _Group(msgspec.Struct):
    versions: list[_Version] = []


class _Name(msgspec.Struct):
    name: str


class _Names(msgspec.Struct):
    resources: list[_Name] = []


async def elsewhere(client: Client, of: Resource) -> Resource | None:
    """The kind in another version that is there and known here; ``Unsupported`` if it is there in unknown ones alone."""
    group, _, known = of.api_version.rpartition("/")
    unknown = ""
    try:
        versions = msgspec.json.decode(await client.read(f"/apis/{group}"), type=_Group).versions
        for version in (one.version for one in versions if one.version != known):
            names = msgspec.json.decode(await client.read(f"/apis/{group}/{version}"), type=_Names).resources
            if any(one.name == of.plural for one in names):
                if f"{group}/{version}" in of.versions:
                    return of._replace(api_version=f"{group}/{version}")
                unknown = unknown or version
    except (Absent, Unserved):
        return None
    except msgspec.MsgspecError as problem:
        raise Unavailable(f"what the API server has of {group} cannot be read: {problem}") from None
    if unknown:
        raise Unsupported(
            f"the cluster has {of.plural}.{group} as {unknown}, and known here is {known}: what they say would not "
            "be obeyed; install a Fairlead that knows it",
            field="apiVersion",
        )
    return None
