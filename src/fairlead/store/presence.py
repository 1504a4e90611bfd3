"""Presence: who is alive. A name is held while its holder renews it, and everybody can see who holds what.

::

    hold("node-1", holder) ── renewed three times a ttl ──►  present(): {"node-1": holder, ...}, again at every change
      ends at once when the context is left; within the ttl when the holder is killed, hangs, or is cut off

A name has one holder at a time. The same holder takes it over from himself, as an agent does that was killed and is started
again; somebody else is refused until it is free. So this is also how one of many is chosen to do what only one may do.

The holder's own clock starts before his request is sent. Therefore he never believes that he holds a name which others see
free: ``Hold.lost`` comes first. A store that cannot be reached tells nobody dead: ``present`` raises, it does not shrink.

What the stores have in common stands here. A store whose claims are rows (memory, sqlite) adds where the rows are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from typing import Final, NamedTuple, NoReturn, Protocol

from fairlead.kit.backoff import Backoff
from fairlead.model.errors import Conflict, Invalid, Unavailable

log = logging.getLogger(__name__)

TTL: Final = 10.0
"""Seconds after which one who gives no sign of life counts as gone."""

_LEAST, _MOST = 1.0, 3600.0
_LONGEST = 253
_RENEWALS = 3
_AGAIN = 0.2
_SOON = 2.0
"""Seconds in which a store says who is alive."""


class Hold:
    """A name that is held. ``lost`` is set when that is no longer certain; it is then not taken again by itself."""

    def __init__(self, name: str, holder: str) -> None:
        self.name, self.holder = name, holder
        self.lost = asyncio.Event()


class Presence(Protocol):
    """Who is alive. Every method raises ``model.errors.Problem`` and nothing else."""

    def hold(self, name: str, holder: str, ttl: float = TTL) -> AbstractAsyncContextManager[Hold]:
        """Hold a name while the context lasts; ``Conflict`` names who holds it if that is somebody else."""

    def present(self) -> AsyncGenerator[Mapping[str, str]]:
        """Which names are held, and by whom: first as it is, then whenever it has changed; ends when the store is closed."""


async def stay(presence: Presence, name: str, holder: str, ttl: float = TTL) -> NoReturn:
    """Hold a name for as long as this runs, and take it again whenever it was lost. Raises ``Conflict`` only."""
    backoff = Backoff(_AGAIN, ttl)
    while True:
        try:
            async with presence.hold(name, holder, ttl) as hold:
                backoff.reset()
                await hold.lost.wait()
            log.warning("%s was not renewed for %g s: others may take it for gone; holding it again", name, ttl)
        except Unavailable as problem:
            log.warning("%s is not held, others may take it for gone: %s", name, problem)
        await asyncio.sleep(backoff.next())


async def sole(presence: Presence, name: str, holder: str, ttl: float = TTL) -> None:
    """Return once nobody else holds a machine's name, as its own earlier boot may for a while, or nobody can tell.

    ``Conflict`` if somebody goes on holding it: another machine has the same name.
    """
    held = False
    try:
        async with asyncio.timeout(_SOON) as patience, aclosing(presence.present()) as turns:
            async for holders in turns:
                if holders.get(name, holder) == holder:
                    return
                if not held:
                    log.warning("node %s gives signs of life from another machine or boot: waiting for their end", name)
                    patience.reschedule(asyncio.get_running_loop().time() + ttl + _SOON)
                held = True
    except TimeoutError:
        if held:
            said = f"another machine is node {name} and gives signs of life; give this one a name of its own: --node NAME"
            raise Conflict(said, field="node") from None
    except Unavailable as problem:
        log.warning("nobody can tell whether another machine is node %s: %s", name, problem)


def check(name: str, holder: str, ttl: float) -> None:
    """Raise ``Invalid`` unless a name can be held so."""
    for field, text in {"name": name, "holder": holder}.items():
        if not 0 < len(text) <= _LONGEST or not text.isprintable():
            raise Invalid(f"{text[:80]!r} must be 1 to {_LONGEST} printable characters", field=field)
    if not _LEAST <= ttl <= _MOST:
        raise Invalid(f"{ttl:g} s must be {_LEAST:g} to {_MOST:g} s", field="ttl")


def taken(name: str, holder: str) -> Conflict:
    """The answer to one who wants a name that is not his."""
    return Conflict(f"{name!r} is held by {holder!r}; it is free when that one lets go, or has given no sign of life for long")


@asynccontextmanager
async def kept(
    hold: Hold, since: float, ttl: float, renew: Callable[[], Awaitable[bool]], release: Callable[[], Awaitable[None]]
) -> AsyncIterator[Hold]:
    """Renew a name that was asked for at ``since`` (the loop's time) while the context lasts; then let it go.

    ``renew`` says whether it is still held; when it cannot tell (``Unavailable``), it is asked again until the ttl is over.
    """
    keeping = asyncio.create_task(_keep(hold, since, ttl, renew))
    try:
        yield hold
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        hold.lost.set()
        with suppress(Unavailable):  # then it is not renewed, which comes to the same a little later
            await release()


async def _keep(hold: Hold, since: float, ttl: float, renew: Callable[[], Awaitable[bool]]) -> None:
    loop = asyncio.get_running_loop()
    wait, held = ttl / _RENEWALS, True
    try:
        while held:
            try:
                async with asyncio.timeout_at(since + ttl):
                    await asyncio.sleep(wait)
                    asked = loop.time()
                    held = await renew()
                since, wait = asked, ttl / _RENEWALS
            except Unavailable:
                wait = min(_AGAIN, wait)
            except TimeoutError:
                held = False
    finally:
        hold.lost.set()


class Claim(NamedTuple):
    """One row of a store that keeps presence as rows. ``token`` tells one hold of the same holder from the next."""

    holder: str
    token: str
    until: float


def claimed(name: str, before: Claim | None, claim: Claim, now: float) -> Claim:
    """What the row of a name becomes for one who asks for it; ``Conflict`` if it is another's."""
    if before is not None and before.until > now and before.holder != claim.holder:
        raise taken(name, before.holder)
    return claim


async def follow(
    read: Callable[[], Awaitable[Mapping[str, Claim]]],
    wake: asyncio.Event,
    now: Callable[[], float],
    closed: Callable[[], bool],
) -> AsyncGenerator[Mapping[str, str]]:
    """``Presence.present`` over rows: ``wake`` is set when one is written; that one runs out is noticed here."""
    told = None
    while not closed():
        wake.clear()
        claims = await read()
        moment = now()
        alive = {name: claim for name, claim in claims.items() if claim.until > moment}
        holders = {name: claim.holder for name, claim in sorted(alive.items())}
        if holders != told:
            told = holders
            yield holders
        soonest = min((claim.until - now() for claim in alive.values()), default=None)
        with suppress(TimeoutError):
            async with asyncio.timeout(soonest):
                await wake.wait()
