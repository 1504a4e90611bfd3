"""The files of leases, where they are not as one would wish."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fairlead.model.address import Address
from fairlead.model.errors import Conflict, Failed, Forbidden, Unavailable
from fairlead.store.leases import Leases

ME = ("c1", "eth0")


@contextmanager
def lock(path: str) -> Iterator[None]:
    """These tests are one process; the real lock is tried beside host-local."""
    Path(path).touch()
    yield


@pytest.fixture
def blue(tmp_path: Path) -> Leases:
    (tmp_path / "blue").mkdir()
    return Leases(str(tmp_path), "blue", lock)


def names(leases: Leases) -> set[str]:
    return {one.name for one in leases.path.iterdir()} - {"lock"}


def test_a_lease_is_written_as_host_local_would(blue: Leases) -> None:
    with blue.locked() as book:
        book.reserve(ME, [(0, Address("10.0.0.5")), (1, Address("fd00::5"))])
        assert book.of(ME) == ("10.0.0.5", "fd00::5")
    assert (blue.path / "10.0.0.5").read_bytes() == b"c1\r\neth0"
    assert (blue.path / "last_reserved_ip.1").read_bytes() == b"fd00::5"
    assert (blue.path / "fd00::5").stat().st_mode & 0o777 == 0o600
    assert names(blue) == {"10.0.0.5", "fd00::5", "last_reserved_ip.0", "last_reserved_ip.1"}
    with blue.locked() as book:
        assert book.last(3) == {0: "10.0.0.5", 1: "fd00::5"}
        assert book.release(ME) == ("10.0.0.5", "fd00::5")
        assert book.release(ME) == ()
    assert names(blue) == {"last_reserved_ip.0", "last_reserved_ip.1"}


def test_all_or_none(blue: Leases) -> None:
    with blue.locked() as book:
        (blue.path / "fd00::5").mkdir()
        with pytest.raises(Conflict, match="fd00::5 is held already"):
            book.reserve(ME, [(0, Address("10.0.0.5")), (1, Address("fd00::5"))])
        assert book.of(ME) == ()
    assert names(blue) == {"fd00::5", "last_reserved_ip.0"}


def test_the_directory_is_made(tmp_path: Path) -> None:
    deep = Leases(str(tmp_path / "a" / "b"), "blue", lock)
    with deep.locked() as book:
        assert (book.owners, book.odd, book.of(ME)) == ({}, (), ())


def test_leases_of_old_versions_hold_for_every_interface(blue: Leases) -> None:
    (blue.path / "10.0.0.5").write_text("c1")
    (blue.path / "10.0.0.6").write_text("c2\n")
    (blue.path / "10.0.0.7").write_text("c1\r\nnet1")
    with blue.locked() as book:
        assert book.owners == {"10.0.0.5": ("c1", ""), "10.0.0.6": ("c2", ""), "10.0.0.7": ("c1", "net1")}
        assert book.of(("c1", "net1")) == ("10.0.0.7",)
        assert book.release(("c1", "eth0")) == ("10.0.0.5",)
        assert book.release(("c2", "net9")) == ("10.0.0.6",)
    assert names(blue) == {"10.0.0.7"}


def test_hostile_files_harm_nothing(blue: Leases) -> None:
    (blue.path / "10.0.0.1").write_bytes(b"\xff\xfe\x00binary")
    (blue.path / "10.0.0.2").write_bytes(b"x" * (8 << 20))
    (blue.path / "10.0.0.3").write_bytes(b"")
    (blue.path / "10.0.0.4").mkdir()
    os.mkfifo(blue.path / "10.0.0.5")
    (blue.path / "10.0.0.6").symlink_to("notes.txt")
    (blue.path / "10.0.0.7").write_bytes(b"c1\r\neth0\r\n\x1b[2J")
    (blue.path / "10.0.0.8").write_bytes(b"\r\neth0")
    os.close(os.open(os.fsencode(blue.path) + b"/\xff\xfe", os.O_CREAT))
    (blue.path / "notes.txt").write_text("c1\r\neth0")
    (blue.path / "last_reserved_ip.0").write_bytes(b"\xff" * 4000)
    (blue.path / "last_reserved_ip.1").symlink_to("/dev/zero")
    (blue.path / "last_reserved_ip.2").write_text("10.0.0.300")
    (blue.path / ".fairlead.new").symlink_to(blue.path / "10.0.0.99")
    before = names(blue)
    with blue.locked() as book:
        assert set(book.owners) == {f"10.0.0.{at}" for at in range(1, 9)}
        assert set(book.owners.values()) == {("", ""), ("eth0", "")}
        assert [text.split()[0] for text in book.odd][:7] == [f"10.0.0.{at}" for at in range(1, 8)]
        assert len(book.odd) == 9
        assert any("notes.txt" in text for text in book.odd)
        assert book.last(3) == {}
        assert book.release(ME) == ()
        assert book.missing([("eth0", "x")]) == {}
        book.reserve(ME, [(0, Address("10.0.0.9")), (1, Address("fd00::9"))])
    assert names(blue) == before - {".fairlead.new"} | {"10.0.0.9", "fd00::9"}
    assert not (blue.path / "last_reserved_ip.1").is_symlink()
    assert (blue.path / "last_reserved_ip.0").read_text() == "10.0.0.9"


def test_what_a_crash_left_is_nobodys(blue: Leases) -> None:
    (blue.path / ".fairlead.new").write_text("c9\r\neth0")
    with blue.locked() as book:
        assert (book.owners, book.odd) == ({}, ())
        book.reserve(ME, [(0, Address("10.0.0.5"))])
    assert (blue.path / "10.0.0.5").read_bytes() == b"c1\r\neth0"
    assert ".fairlead.new" not in names(blue)


def test_collecting_keeps_what_is_named(blue: Leases) -> None:
    for at, text in enumerate(["a\r\neth0", "a\r\nnet1", "b\r\neth0", "a", "c", ""]):
        (blue.path / f"10.0.0.{at + 1}").write_text(text, newline="")
    with blue.locked() as book:
        assert book.missing({("a", "eth0")}) == {"10.0.0.2": ("a", "net1"), "10.0.0.3": ("b", "eth0"), "10.0.0.5": ("c", "")}
        assert book.remove(book.missing({("a", "eth0")})) == ("10.0.0.2", "10.0.0.3", "10.0.0.5")
        assert book.missing({("a", "eth0")}) == {}
    assert names(blue) == {"10.0.0.1", "10.0.0.4", "10.0.0.6"}


def test_leases_of_an_earlier_boot_are_gone(tmp_path: Path, blue: Leases) -> None:
    at = [(0, Address("10.0.0.5"))]
    (blue.path / "10.0.0.9").write_text("theirs\r\neth0", newline="")
    with Leases(str(tmp_path), "blue", lock, "machine/1").locked() as book:
        book.reserve(ME, at)
        if "user.fairlead.boot" not in os.listxattr(blue.path / "10.0.0.5"):
            pytest.skip(f"{tmp_path} is on a file system without attributes")
    for boot in ("machine/1", "other/2", ""):
        with Leases(str(tmp_path), "blue", lock, boot).locked() as book:
            assert book.of(ME) == ("10.0.0.5",), "another machine's, or nobody can tell"
    with Leases(str(tmp_path), "blue", lock, "machine/2").locked() as book:
        assert book.owners == {"10.0.0.9": ("theirs", "eth0")}
        book.reserve(ME, at)
    assert names(blue) >= {"10.0.0.5", "10.0.0.9"}


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (errno.ENOSPC, Unavailable, "the disk is full"),
        (errno.EROFS, Forbidden, "make it writable"),
        (errno.EIO, Failed, "Input/output error"),
    ],
)
def test_what_the_disk_refuses_is_told(
    blue: Leases, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception], words: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with blue.locked() as book:
        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(kind) as refused:
            book.reserve(ME, [(0, Address("10.0.0.5"))])
        assert words in str(refused.value)
        assert str(blue.path) in str(refused.value)
        assert book.of(ME) == ()
    assert names(blue) <= {".fairlead.new"}


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "blue").write_text("")
    with pytest.raises(Failed, match="is not a directory"), Leases(str(tmp_path), "blue", lock).locked():
        pass
