"""The encoding of netlink: what is packed is parsed, what is cut short ends, what the kernel says is told."""

import errno
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.kernel import netlink, nft, route
from fairlead.kernel.errors import Exists, Gone, KernelError, Refused, Unsettled, Unsupported
from fairlead.kernel.netlink import Message, Reply
from fairlead.kernel.nft import Element
from fairlead.kernel.route import text

ATTRIBUTES = st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=70)), max_size=12)


@given(ATTRIBUTES)
def test_attributes_come_back_in_their_order(attributes: list[tuple[int, bytes]]) -> None:
    data = b"".join(netlink.attr(kind, value) for kind, value in attributes)
    assert len(data) % 4 == 0
    assert list(netlink.each(data)) == attributes
    assert netlink.parse(data) == dict(attributes)
    assert netlink.parse(b"head" + data, 4) == dict(attributes)


@given(ATTRIBUTES)
def test_a_nest_holds_them(attributes: list[tuple[int, bytes]]) -> None:
    inner = [netlink.attr(kind, value) for kind, value in attributes]
    assert netlink.parse(netlink.nest(7, *inner)) == {7: b"".join(inner)}


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_parsed_to_an_end(data: bytes) -> None:
    netlink.parse(data)
    list(netlink.each(data))
    with suppress(KernelError):
        list(netlink.unpack_replies(data))


def test_numbers_and_strings() -> None:
    found = netlink.parse(
        netlink.u8(1, 255) + netlink.u16(2, 65535) + netlink.u32(3, 1 << 31) + netlink.be32(4, 1) + netlink.text(5, "eth0")
    )
    assert found == {1: b"\xff", 2: b"\xff\xff", 3: struct.pack("=I", 1 << 31), 4: b"\0\0\0\1", 5: b"eth0\0"}
    assert netlink.string(found[5]) == "eth0"


def _reply(kind: int, body: bytes, seq: int = 1, flags: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, seq, 9) + body + bytes(-len(body) & 3)


def test_several_replies_in_one_datagram() -> None:
    data = _reply(16, b"one") + _reply(16, b"three", 2) + _reply(3, b"")
    assert list(netlink.unpack_replies(data)) == [
        Reply(16, 0, 1, 9, b"one"),
        Reply(16, 0, 2, 9, b"three"),
        Reply(3, 0, 1, 9, b""),
    ]


def test_a_reply_that_was_cut_short_is_an_error() -> None:
    with pytest.raises(KernelError, match="cut short"):
        list(netlink.unpack_replies(_reply(16, bytes(100))[:80], "list"))


MESSAGE = Message(1, 0, b"", "open the gate")


@pytest.mark.parametrize("capped", [True, False])
def test_the_kernels_own_words_are_told(capped: bool) -> None:
    asked = struct.pack("=IHHII", 16 if capped else 24, 1, 0, 1, 0) + (b"" if capped else b"original")
    body = struct.pack("=i", -errno.EEXIST) + asked + netlink.text(1, "it is open")
    error = netlink.refusal(Reply(2, 0x200 | (0x100 if capped else 0), 1, 0, body), MESSAGE)
    assert isinstance(error, Exists)
    assert str(error) == "cannot open the gate: File exists (it is open)"
    assert (error.errno, error.doing, error.detail) == (errno.EEXIST, "open the gate", "it is open")


def test_the_end_of_a_listing_may_carry_an_error() -> None:
    body = struct.pack("=i", -errno.EINVAL) + netlink.text(1, "no such filter")
    error = netlink.refusal(Reply(3, 0x200, 1, 0, body), MESSAGE)
    assert error
    assert error.detail == "no such filter"
    assert netlink.refusal(Reply(3, 0, 1, 0, struct.pack("=i", 0)), MESSAGE) is None
    assert netlink.refusal(Reply(3, 0, 1, 0, b""), MESSAGE) is None


def test_accepted_numbers_are_no_refusal() -> None:
    reply = Reply(2, 0, 1, 0, struct.pack("=i", -errno.EEXIST))
    assert netlink.refusal(reply, MESSAGE.accepting(errno.EEXIST)) is None
    assert netlink.refusal(reply, MESSAGE.accepting(errno.ENOENT))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, Gone), (errno.ENODEV, Gone), (errno.ESRCH, Gone), (errno.EADDRNOTAVAIL, Gone), (errno.EEXIST, Exists),
        (errno.EPERM, Refused), (errno.EACCES, Refused), (errno.EOPNOTSUPP, Unsupported), (errno.EAFNOSUPPORT, Unsupported),
        (errno.EINTR, Unsettled), (errno.EINVAL, KernelError), (errno.EBUSY, KernelError),
    ],
)  # fmt: skip
def test_errors_have_the_class_that_their_number_calls_for(number: int, kind: type[KernelError]) -> None:
    assert type(KernelError.of(number, "do it")) is kind


@pytest.mark.parametrize("mac", ["", "02:00", "02:00:00:00:00:0g", "02:00:00:00:00:00:01", "hello"])
def test_what_is_no_mac(mac: str) -> None:
    with pytest.raises(KernelError, match="as a MAC address"):
        text.to_mac(mac)


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_addresses_come_back(address: object) -> None:
    written = str(address)
    family, value = text.to_address(written)
    assert text.FAMILY[family] == (6 if ":" in written else 4)
    assert text.to_address(text.from_address(value)) == (family, value)
    assert text.to_prefix(written) == (family, value, len(value) * 8)
    assert text.to_prefix(f"{written}/7") == (family, value, 7)


def test_a_bucket_is_that_of_the_cni_bandwidth_plugin() -> None:
    bucket = route.tbf(rate=100_000_000, burst=80_000_000)
    assert (bucket.rate, bucket.burst) == (12_500_000, 10_000_000)
    assert bucket.limit == 12_500_000 * 25 // 1000 + 10_000_000
    assert bucket == route.Tbf(bucket.rate, bucket.limit, burst=1)
    assert bucket != route.tbf(rate=100_000_000, burst=80_000_008)


def test_fields_are_padded_to_registers() -> None:
    assert [len(nft.field(bytes(n))) for n in (1, 2, 4, 6, 16)] == [4, 4, 4, 8, 16]
    assert nft.field(b"\0\x50") == b"\0\x50\0\0"
    assert nft.ifname("eth0") == b"eth0" + bytes(12)


def test_an_interval_ends_before_the_next_key_or_with_the_numbers() -> None:
    assert nft.interval(b"\0\x0a", b"\0\x14", b"d") == (Element(b"\0\x0a", None, b"d"), Element(b"\0\x15", stop=True))
    assert nft.interval(b"\xff\0", b"\xff\xff") == (Element(b"\xff\0"),)
