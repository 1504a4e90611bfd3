"""X25519 (RFC 7748): the public key of a private one, and private keys.

Used when a key is made, once in months, never for a packet. It takes a millisecond and is not hardened against somebody on
this machine who measures how long it takes; such a one could read the key's file.
"""

from __future__ import annotations

import secrets

SIZE = 32
"""Bytes of a key, public or private."""

_P = 2**255 - 19
_A24 = 121665
_BASE = (9).to_bytes(SIZE, "little")


def private() -> bytes:
    """A new private key."""
    return _clamped(secrets.token_bytes(SIZE)).to_bytes(SIZE, "little")


def public(key: bytes) -> bytes:
    """The public key that goes with a private one."""
    return multiply(key, _BASE)


def multiply(scalar: bytes, point: bytes) -> bytes:
    """The function X25519 of RFC 7748, section 5: the Montgomery ladder."""
    k, x1 = _clamped(scalar), int.from_bytes(point, "little") & (2**255 - 1)
    x2, z2, x3, z3, swapped = 1, 0, x1, 1, 0
    for at in range(254, -1, -1):
        bit = k >> at & 1
        if swapped != bit:
            x2, z2, x3, z3 = x3, z3, x2, z2
        swapped = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % _P, b * b % _P, d * a % _P, c * b % _P
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % _P, x1 * (da - cb) ** 2 % _P
        x2, z2 = aa * bb % _P, e * (aa + _A24 * e) % _P
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, _P - 2, _P) % _P).to_bytes(SIZE, "little")


def _clamped(scalar: bytes) -> int:
    """The number that a private key stands for: a multiple of 8 below 2**255, its highest bit always set."""
    return int.from_bytes(scalar, "little") & ~7 & (2**255 - 1) | 1 << 254
