"""Numbers: digests under a key; and the file that a node keeps its key in."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.agent import numbering
from fairlead.agent.edition import Edition
from fairlead.desired.state import Judgement, NodeState, Peer, Ruling
from fairlead.policy.book import Book
from fairlead.policy.identity import Numbers
from tests.unit.policy_world import done
from tests.unit.test_policy_rules import BARE, DB, LABELS, RED, SPY, WEB, ingress, policy


def numbers(key: bytes) -> set[int]:
    """All that a kernel is told under a key."""
    book = Book(numbers=Numbers(key))
    denied = policy(ingress({"podSelector": LABELS}, {"ipBlock": {"cidr": "192.0.2.0/24"}}))
    state = done(NodeState(), book.put(RED, WEB, DB, SPY, BARE, denied))
    told = [(one.peer,) for one in state.table(Peer).values()]
    told += [(one.policy, one.ruling) for one in state.table(Judgement).values()]
    told += [(one.number, *(span.rule for span in one.spans)) for one in state.table(Ruling).values()]
    return {one for several in told for one in several} | set(book.rules())


def test_one_key_one_number_and_another_key_all_others() -> None:
    one, other = numbers(bytes(32)), numbers(b"k" * 32)
    assert one == numbers(bytes(32))
    assert len(one) == 10
    assert {number for number in one & other if number > 2} == set(), "those below stand for no rule"
    assert {number for number in one & numbers(b"") if number > 2} == set()


def of(run: Path) -> int:
    """What something comes to under the key of a run directory."""
    return numbering.read(run).of("anything")


def test_a_key_is_kept(tmp_path: Path) -> None:
    first = of(tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert of(tmp_path) == first != Numbers().of("anything")
    path.unlink()
    assert of(tmp_path) != first


@pytest.mark.parametrize("text", [b"", b"00" * 31, b"00" * 64, b"xy" * 32, b"\xff\xfe"])
def test_a_damaged_key_is_made_anew(tmp_path: Path, text: bytes, caplog: pytest.LogCaptureFixture) -> None:
    first = of(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(text)
    found = of(tmp_path)
    assert str(path) in caplog.text
    assert first != found == of(tmp_path)


def test_a_key_that_others_could_read_is_made_anew(tmp_path: Path) -> None:
    first = of(tmp_path)
    (path,) = tmp_path.iterdir()
    path.chmod(0o640)
    assert first != of(tmp_path) == of(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("00" * 32)
    path = tmp_path / "numbers.key"
    path.symlink_to(tmp_path / "elsewhere")
    assert of(tmp_path) != Numbers(bytes(32)).of("anything")
    assert not path.is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "00" * 32


def test_what_stands_under_another_key_is_another_editions(tmp_path: Path) -> None:
    one = Edition(tmp_path, numbering.read(tmp_path))
    assert not one.is_other, "nothing is known of before"
    one.remember()
    assert not Edition(tmp_path, numbering.read(tmp_path)).is_other
    (tmp_path / "numbers.key").unlink()
    assert Edition(tmp_path, numbering.read(tmp_path)).is_other
