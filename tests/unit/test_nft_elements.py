"""How the elements of a set are read while its hash table is rearranged."""

import errno
from typing import cast

import pytest

from fairlead.kernel.errors import KernelError
from fairlead.kernel.netlink import Message, Netlink, attr, nest
from fairlead.kernel.nft import Element, elements

_ELEMENTS, _LIST_ELEMENT, _KEY, _VALUE = 3, 1, 1, 1


class _Rearranged:
    """Lists a set: what each reading finds, the last one for ever."""

    def __init__(self, *readings: list[bytes]) -> None:
        self._left = list(readings)

    def dump(self, _: Message) -> list[bytes]:
        keys = self._left.pop(0) if len(self._left) > 1 else self._left[0]
        rows = (nest(_LIST_ELEMENT, nest(_KEY, attr(_VALUE, key))) for key in keys)
        return [bytes(4) + nest(_ELEMENTS, *rows)]


def _read(*readings: list[bytes]) -> set[Element]:
    return elements(cast("Netlink", _Rearranged(*readings)), "inet", "t", "s")


def test_a_listing_that_names_an_element_twice_is_read_again() -> None:
    assert _read([b"a", b"a"], [b"b", b"a", b"b"], [b"b", b"a"]) == {Element(b"a"), Element(b"b")}


def test_a_set_that_never_stands_still_is_an_error() -> None:
    with pytest.raises(KernelError, match="its order changed") as caught:
        _read([b"a", b"a"])
    assert caught.value.errno == errno.EINTR
