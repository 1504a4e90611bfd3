"""DELs that the client remembered: finished once, and never after a newer ADD."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fairlead.api.schema import Detach, Detached
from fairlead.cni import verbs
from fairlead.cni.call import HEADERS
from fairlead.model import errors
from tests.contracts.cni_calls import call, conf, environment, refused
from tests.contracts.fake_door import FakeDoor


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path))


# remembered DELs


def spool(folder: Path, container: str, interface: str = "eth0", number: int = 1, body: bytes = b"{}", **more: str) -> Path:
    folder.mkdir(exist_ok=True)
    values = environment("DEL", CNI_CONTAINERID=container, CNI_IFNAME=interface, **more)
    head = "".join(f"{HEADERS[key]}: {value}\r\n" for key, value in values.items())
    path = folder / f"{container}.{interface}.{number}"
    path.write_bytes(f"POST /cni HTTP/1.1\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body)
    return path


def test_pending_are_finished_and_rubbish_is_survived(tmp_path: Path) -> None:
    folder = tmp_path / "pending-del"
    door = FakeDoor()
    assert asyncio.run(verbs.finish_pending(door, folder)) == 0
    call(door, "ADD", conf())
    spool(folder, "c1")
    spool(folder, "never-seen")
    spool(folder, "cut", number=2).write_bytes(b"POST /cni HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
    (folder / "rubbish").write_bytes(b"\x00\xff" * 100)
    (folder / "empty").touch()
    (folder / "huge").write_bytes(b"x" * (3 << 20))
    (folder / ".being-written").write_bytes(b"POST")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("/etc/passwd")
    assert asyncio.run(verbs.finish_pending(door, folder)) == 2
    assert not door.endpoints
    assert sorted(one.name for one in folder.iterdir()) == [".being-written", "folder", "link"]


def test_a_del_that_comes_before_the_agent_knows_what_there_is_is_remembered(tmp_path: Path) -> None:
    door = FakeDoor()
    call(door, "ADD", conf())
    door.loaded = False
    assert call(door, "DEL", conf()) == (0, {})
    refused(door, "DEL", conf(), 4, CNI_CONTAINERID="../etc")
    assert door.endpoints
    door.loaded = True
    assert asyncio.run(verbs.finish_pending(door, tmp_path / "pending-del")) == 1
    assert not door.endpoints


def test_pending_that_fails_for_now_stays(tmp_path: Path) -> None:
    folder = tmp_path / "pending-del"
    door = FakeDoor()
    door.trouble = errors.Unavailable("not yet")
    path = spool(folder, "c1")
    assert asyncio.run(verbs.finish_pending(door, folder)) == 0
    assert path.exists()
    door.trouble = None
    assert asyncio.run(verbs.finish_pending(door, folder)) == 1
    assert not path.exists()


def test_pending_that_never_can_is_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "pending-del"
    path = spool(folder, "c1", CNI_ARGS="x")
    path.write_bytes(path.read_bytes().replace(b": c1\r", b": /\r"))
    assert asyncio.run(verbs.finish_pending(FakeDoor(), folder)) == 1
    assert not path.exists()


def test_old_delete_never_meets_a_new_add(tmp_path: Path) -> None:
    """The same container id comes back (podman start): the remembered DEL is finished before, not after."""
    folder = tmp_path / "pending-del"
    door = FakeDoor()
    spool(folder, "c1")
    other = spool(folder, "c10")
    assert call(door, "ADD", conf())[0] == 0
    assert [type(one).__name__ for one in door.asked] == ["Detach", "Attach"]
    assert list(folder.iterdir()) == [other]
    spool(folder, "c1")
    door.trouble = errors.Unavailable("busy")
    refused(door, "ADD", conf(), 11, "c1")


def test_pending_and_add_at_the_same_moment(tmp_path: Path) -> None:
    folder = tmp_path / "pending-del"
    spool(folder, "c1")

    class Slow(FakeDoor):
        async def detach(self, request: Detach) -> Detached:
            begun.set()
            await go_on.wait()
            return await super().detach(request)

    async def both() -> list[str]:
        door = Slow()
        finishing = asyncio.create_task(verbs.finish_pending(door, folder))
        await begun.wait()
        adding = asyncio.create_task(verbs.serve(door, environment("ADD"), conf()))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not door.asked
        go_on.set()
        await asyncio.gather(finishing, adding)
        assert list(door.endpoints) == ["c1:eth0"]
        return [type(one).__name__ for one in door.asked]

    begun, go_on = asyncio.Event(), asyncio.Event()
    assert asyncio.run(both()) == ["Detach", "Attach"]


def test_pending_of_the_ipam_plugin(tmp_path: Path) -> None:
    leases = {"dataDir": str(tmp_path / "networks"), "ranges": [[{"subnet": "10.7.0.0/24"}]]}
    door = FakeDoor()
    assert call(door, "ADD", conf(ipam=leases), CNI_PLUGIN="fairlead-ipam")[0] == 0
    assert (tmp_path / "networks/mynet/10.7.0.2").exists()
    folder = tmp_path / "pending-del"
    spool(folder, "c1", body=conf(ipam=leases), CNI_PLUGIN="fairlead-ipam")
    assert asyncio.run(verbs.finish_pending(door, folder)) == 1
    assert not (tmp_path / "networks/mynet/10.7.0.2").exists()
    assert not door.asked
