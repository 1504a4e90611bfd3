"""X25519: the test vectors of RFC 7748, sections 5.2 and 6.1, and what a private key must look like."""

from __future__ import annotations

import pytest

from fairlead.kit import x25519

ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
ALICE_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")


@pytest.mark.parametrize(
    ("scalar", "point", "product"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_the_function(scalar: str, point: str, product: str) -> None:
    assert x25519.multiply(bytes.fromhex(scalar), bytes.fromhex(point)).hex() == product


def test_a_thousand_times() -> None:
    k = u = bytes([9] + [0] * 31)
    for _ in range(1000):
        k, u = x25519.multiply(k, u), k
    assert k.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


def test_two_agree_on_a_secret() -> None:
    assert x25519.public(ALICE) == ALICE_PUBLIC
    assert x25519.public(BOB) == BOB_PUBLIC
    assert x25519.multiply(ALICE, BOB_PUBLIC) == x25519.multiply(BOB, ALICE_PUBLIC) == SHARED


def test_a_new_key() -> None:
    keys = [x25519.private() for _ in range(20)]
    assert len(set(keys)) == 20
    for key in keys:
        assert len(key) == x25519.SIZE
        assert key[0] & 7 == 0, "a multiple of 8"
        assert key[31] & 0xC0 == 0x40, "the highest bit of 255 is set"
