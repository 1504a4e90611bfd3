"""Credentials: what proves who is asking, as it is now. Tokens change: in files, which kubelet rewrites, and from programs.

A kubeconfig that is replaced is read again too, as far as it says who is asking. Which API server is asked stays, and whom one
believes: one that names another server is another store.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from datetime import datetime
from pathlib import Path

import msgspec

from fairlead.model.errors import Forbidden, Invalid, Problem, Unavailable

from .access import Access, Plugin, from_files
from .trust import Pem, Proof, Stamp

log = logging.getLogger(__name__)

REREAD = 10.0
"""Seconds for which what was read from a file is believed to be what is in it."""

_PATIENCE = 60.0
"""Seconds that a program has to say who is asking; it may ask a person."""
_EARLY = 30.0
"""Seconds before its end at which a program's token is replaced."""


class _Status(msgspec.Struct, rename="camel"):
    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: str = ""


class _Answer(msgspec.Struct):
    status: _Status


class Credentials:
    """Of one access."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._token, self._proof = access.token, access.proof
        self._until = 0.0
        self._asking = asyncio.Lock()
        self._taken, self._looked = self._stamp(), time.monotonic()

    async def token(self) -> str:
        """The token to show; empty if there is none."""
        if time.monotonic() - self._looked >= REREAD:
            self._look()
        if self._access.plugin or self._access.token_file:
            async with self._asking:
                if time.time() >= self._until:
                    await self._renew()
        return self._token

    @property
    def proof(self) -> Proof:
        """The certificate to show. After ``token``."""
        return self._proof

    def refused(self, token: str) -> bool:
        """The API server does not know ``token``. Whether another one may be had."""
        if self._look() or token != self._token:
            return True
        if not (self._access.plugin or self._access.token_file):
            return False
        if token == self._token:
            self._until = 0.0
        return True

    def _look(self) -> bool:
        """Whether the kubeconfig is another one now; take from it who is asking. One that is half written waits."""
        self._looked = time.monotonic()
        origin, stamp = self._access.origin, self._stamp()
        if origin is None or not stamp or stamp == self._taken:
            return False
        try:
            now = from_files(list(origin.paths), origin.context)
        except Problem:
            return False
        self._taken = stamp
        if now.server != self._access.server:
            log.warning("%s names another API server now; this takes a restart", ", ".join(map(str, origin.paths)))
            return False
        self._access, self._token, self._proof, self._until = now, now.token, now.proof, 0.0
        return True

    def _stamp(self) -> Stamp:
        """Of the kubeconfigs; empty where there are none, or one is not there at the moment."""
        try:
            return self._access.origin.stamp if self._access.origin else ()
        except Invalid:
            return ()

    async def _renew(self) -> None:
        if self._access.plugin:
            said = await _ask(self._access.plugin)
            self._token = said.token
            if said.client_certificate_data:
                both = (said.client_certificate_data, said.client_key_data)
                self._proof = Proof(*(Pem(data=one.encode(), field="exec") for one in both))
            self._until = _ends(said.expiration_timestamp) - _EARLY
            return
        self._read(Path(self._access.token_file))

    def _read(self, path: Path) -> None:
        try:
            self._token = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            if not self._token:
                raise Invalid(f"{path} cannot be read: {error}", field="token") from None
        self._until = time.time() + REREAD


def _ends(text: str) -> float:
    if not text:
        return float("inf")
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return time.time()


async def _ask(plugin: Plugin) -> _Status:
    """Run the program, and read what it says."""
    about = {"apiVersion": plugin.version, "kind": "ExecCredential", "spec": {"interactive": False}}
    if plugin.info:
        about["spec"] = {"interactive": False, "cluster": msgspec.json.decode(plugin.info)}
    environment = {**os.environ, **dict(plugin.environment), "KUBERNETES_EXEC_INFO": msgspec.json.encode(about).decode()}
    try:
        process = await asyncio.create_subprocess_exec(
            plugin.command,
            *plugin.arguments,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        hint = f"; {plugin.hint.strip()}" if plugin.hint else ""
        raise Invalid(f"{plugin.command} cannot be run: {error.strerror}{hint}", field="exec.command") from None
    try:
        async with asyncio.timeout(_PATIENCE):
            out, said = await process.communicate()
    except TimeoutError:
        raise Unavailable(f"{plugin.command} did not say within {_PATIENCE:g} s who is asking") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = said.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise Forbidden(f"{plugin.command} does not say who is asking: {last[0][:200]}", field="exec")
    try:
        return msgspec.json.decode(out, type=_Answer).status
    except msgspec.MsgspecError as problem:
        raise Invalid(f"what {plugin.command} says is no ExecCredential: {problem}", field="exec") from None
