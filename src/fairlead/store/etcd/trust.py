"""Trust: whom a client believes and how it proves who it is, from three files that may be replaced while it runs."""

from __future__ import annotations

import ssl
from pathlib import Path

from fairlead.model.errors import Invalid

Stamp = tuple[tuple[int, int], ...]


class Trust:
    """TLS for connections to etcd.

    ``ca``: who must have signed a member's certificate, left out the system's; ``cert`` and ``key``: what proves who we are.
    """

    def __init__(self, ca: str = "", cert: str = "", key: str = "") -> None:
        self._ca, self._cert, self._key = ca, cert, key
        self._stamp = self._look()
        self._context = self._read()

    def context(self) -> ssl.SSLContext:
        """What the next connection uses. Files that are half replaced are read when they are whole."""
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._context, self._stamp = self._read(), stamp
        except Invalid:
            pass  # what was read before is still good, or the other side will say so
        return self._context

    def _look(self) -> Stamp:
        """What changes when a file is replaced."""
        found = []
        for field, name in {"ca": self._ca, "cert": self._cert, "key": self._key}.items():
            if name:
                try:
                    about = Path(name).stat()
                except OSError as error:
                    raise Invalid(f"{name} cannot be read: {error.strerror}", field=field) from None
                found.append((about.st_ino, about.st_mtime_ns))
        return tuple(found)

    def _read(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._ca or None)
        except (ssl.SSLError, OSError) as error:
            raise Invalid(f"{self._ca} holds no certificates in PEM: {error.strerror or error}", field="ca") from None
        if self._cert:
            try:
                context.load_cert_chain(self._cert, self._key or None, password="")
            except (ssl.SSLError, OSError) as error:
                said = f"{self._cert} and {self._key or 'the key in it'} are no certificate with its key in PEM"
                raise Invalid(f"{said}: {error.strerror or error}", field="cert") from None
        return context
