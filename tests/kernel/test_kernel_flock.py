"""The lock between processes, and the name of the boot."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fairlead.kernel import boot, flock
from fairlead.kernel.errors import KernelError

HOLD = """
import sys
from fairlead.kernel.flock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def _holder(path: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_waited_for_until_the_deadline(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with _holder(path) as process:
        with pytest.raises(KernelError, match="another process holds it") as caught, flock.locked(path, deadline=0.05):
            pass
        assert caught.value.errno == errno.ETIMEDOUT
        process.communicate("")
    with flock.locked(path, deadline=0):
        pass


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with _holder(path) as process:
        os.kill(process.pid, signal.SIGKILL)
        with flock.locked(path, deadline=10):
            process.communicate()


def test_threads_exclude_each_other_and_readers_do_not(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    inside, most = [], []

    def hold(shared: bool) -> None:
        with flock.locked(path, deadline=30, shared=shared):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=hold, args=(False,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1] * 20
    with (
        flock.locked(path, shared=True),
        flock.locked(path, shared=True, deadline=0),
        pytest.raises(KernelError),
        flock.locked(path, deadline=0),
    ):
        pass


def test_an_error_inside_frees_it(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with pytest.raises(LookupError), flock.locked(path):
        raise LookupError
    with flock.locked(path, deadline=0):
        pass


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KernelError), flock.locked(str(tmp_path / "lock")):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_the_name_of_the_boot() -> None:
    assert boot.boot_id() == boot.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
