import os
import subprocess
import threading
from pathlib import Path

import pytest

from fairlead.kernel import netns
from fairlead.kernel.errors import Exists, Gone, KernelError
from tests.kernel.room import Room


def _inode(path: str = "/proc/thread-self/ns/net") -> int:
    return Path(path).stat().st_ino


def test_what_create_makes_is_a_namespace_that_ip_knows(room: Room) -> None:
    path = room.new_path()
    name = path.rpartition("/")[2]
    netns.create(path)
    links = subprocess.run(["ip", "-n", name, "-br", "link"], capture_output=True, text=True, check=True).stdout
    assert links.split()[0] == "lo"
    assert len(links.splitlines()) == 1
    netns.delete(path)
    assert not Path(path).exists()
    assert path not in Path("/proc/self/mountinfo").read_text()


def test_create_leaves_an_existing_one_alone(room: Room) -> None:
    before = _inode(room.path)
    with pytest.raises(Exists):
        netns.create(room.path)
    assert _inode(room.path) == before


def test_delete_of_what_is_not_there(room: Room) -> None:
    with pytest.raises(Gone):
        netns.delete(room.new_path())


def test_delete_removes_a_file_that_an_interrupted_create_left(room: Room) -> None:
    path = room.new_path()
    Path(path).touch()
    netns.delete(path)
    assert not Path(path).exists()


@pytest.mark.usefixtures("room")
def test_new_leaves_no_name_and_does_not_move_the_thread() -> None:
    before, listed = _inode(), set(Path(netns.NAMED).iterdir())
    fd = netns.new()
    try:
        assert _inode() == before
        assert os.fstat(fd).st_ino != before
        assert set(Path(netns.NAMED).iterdir()) == listed
    finally:
        os.close(fd)


def test_inside_enters_and_returns_even_after_an_error(room: Room) -> None:
    _, fd = room.child()
    before = _inode()

    def fail() -> None:
        with netns.inside(fd):
            assert _inode() == os.fstat(fd).st_ino
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert _inode() == before


def test_inside_moves_no_other_thread(room: Room) -> None:
    _, fd = room.child()
    entered, seen = threading.Event(), []

    def other() -> None:
        before = _inode()
        ready.set()
        entered.wait(10)
        seen.append((before, _inode()))

    ready = threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    ready.wait(10)
    with netns.inside(fd):
        entered.set()
        thread.join(10)
    assert seen
    assert seen[0][0] == seen[0][1] != os.fstat(fd).st_ino


@pytest.mark.usefixtures("room")
def test_inside_of_a_file_that_is_no_namespace() -> None:
    before = _inode()
    with (
        Path("/dev/null").open(encoding="ascii") as file,
        pytest.raises(KernelError, match="enter"),
        netns.inside(file.fileno()),
    ):
        pass
    assert _inode() == before


def test_cookies_tell_namespaces_apart_though_the_path_is_the_same(room: Room) -> None:
    path = room.new_path()
    seen = set()
    for _ in range(3):
        netns.create(path)
        fd = netns.open_path(path)
        assert netns.cookie(fd) == netns.cookie(fd)
        seen.add(netns.cookie(fd))
        os.close(fd)
        netns.delete(path)
    assert len(seen) == 3
    assert netns.cookie(room.fd) not in seen


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/etc/passwd", "not a network namespace"),
        ("/dev/null", "not a network namespace"),
        ("/etc", "not a network namespace"),
        ("/proc/self/ns/mnt", "mount namespace"),
        ("/proc/self/ns/user", "user namespace"),
    ],
)
def test_open_path_of_something_else(path: str, words: str) -> None:
    with pytest.raises(KernelError, match=words) as caught:
        netns.open_path(path)
    assert path in str(caught.value)


def test_open_path_of_nothing() -> None:
    with pytest.raises(Gone):
        netns.open_path("/run/netns/fairlead-there-is-none")


def test_open_path_of_a_pipe_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KernelError, match="not a network namespace"):
        netns.open_path(str(tmp_path / "pipe"))


def test_find_by_path_by_process_and_by_name(room: Room) -> None:
    assert netns.find(room.path) == room.path
    assert netns.find(room.name) == room.path
    assert netns.find(str(os.getpid())) == f"/proc/{os.getpid()}/ns/net"


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a/b", "../../etc/passwd", "fairlead-there-is-none", "/nowhere/at/all", "999999999", "a\0b"]
)
def test_find_of_nothing(text: str) -> None:
    with pytest.raises(KernelError, match="find the network namespace"):
        netns.find(text)
