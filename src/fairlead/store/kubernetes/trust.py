"""Trust: whom a client believes and how it proves who it is, from files that may be replaced while it runs, or from bytes."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import NamedTuple

from fairlead.model.errors import Invalid

Stamp = tuple[tuple[int, int], ...]


class Pem(NamedTuple):
    """Something in PEM: in a file, or the bytes themselves. ``field``: where it was named, for errors."""

    path: str = ""
    data: bytes = b""
    field: str = ""

    def __bool__(self) -> bool:
        return bool(self.path or self.data)

    @property
    def stamp(self) -> tuple[int, int]:
        """What changes when it is replaced."""
        if not self.path:
            return (0, hash(self.data))
        try:
            about = Path(self.path).stat()
        except OSError as error:
            raise Invalid(f"{self.path} cannot be read: {error.strerror}", field=self.field) from None
        return (about.st_ino, about.st_mtime_ns)

    def read(self) -> bytes:
        """The bytes."""
        if not self.path:
            return self.data
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise Invalid(f"{self.path} cannot be read: {error.strerror}", field=self.field) from None

    def __str__(self) -> str:
        return self.path or self.field

    def __repr__(self) -> str:
        return f"Pem({self})"  # it may be a key


NOTHING = Pem()


class Proof(NamedTuple):
    """A certificate and its key; neither of them: there is none."""

    cert: Pem = NOTHING
    key: Pem = NOTHING


NO_PROOF = Proof()


class Trust:
    """TLS for connections to the API. Without ``ca`` the system's authorities are believed."""

    def __init__(self, ca: Pem, *, insecure: bool = False) -> None:
        self._ca, self._insecure = ca, insecure
        self._made: dict[Proof, tuple[Stamp, ssl.SSLContext]] = {}

    def context(self, proof: Proof) -> ssl.SSLContext:
        """What the next connection uses. Files that are half replaced are read when they are whole."""
        made = self._made.get(proof)
        try:
            stamp = tuple(one.stamp for one in (self._ca, *proof) if one)
            if made is None or made[0] != stamp:
                made = (stamp, self._read(proof))
                self._made = {proof: made}
        except Invalid:
            if made is None:
                raise
            # What was read before is still good, or the other side will say so.
        return made[1]

    def _read(self, proof: Proof) -> ssl.SSLContext:
        try:
            authorities = self._ca.read().decode() if self._ca else None
            context = ssl.create_default_context(cadata=authorities)
        except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
            raise Invalid(f"{self._ca} holds no certificates in PEM: {error}", field=self._ca.field) from None
        # The authorities of clusters are often older than the strictness that some Pythons begin with.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self._insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if proof.cert:
            _load(context, proof)
        return context


def _load(context: ssl.SSLContext, proof: Proof) -> None:
    """Have a context show a certificate. OpenSSL takes files alone, so the bytes go into one that has no name."""
    fd = os.memfd_create("fairlead-proof", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(proof.cert.read() + b"\n" + proof.key.read())
        context.load_cert_chain(f"/proc/self/fd/{fd}", password="")
    except (ssl.SSLError, OSError) as error:
        said = f"{proof.cert} and {proof.key} are no certificate with its key in PEM"
        raise Invalid(f"{said}: {error.strerror or error}", field=proof.cert.field) from None
    finally:
        os.close(fd)
