"""Installing the plugin and its configuration: what is written, in which order, and what is left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairlead.cni import install as cni
from fairlead.model import errors


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "fairlead-cni"
    path.write_bytes(b"\x7fELF one Host: fairlead\r\n")
    monkeypatch.setattr(cni, "_PROGRAM", path)
    return path


@pytest.fixture
def places(tmp_path: Path, program: Path) -> tuple[Path, Path]:
    assert program.exists()
    return tmp_path / "opt/bin", tmp_path / "etc/net.d"


def test_install_writes_the_configuration_last(places: tuple[Path, Path]) -> None:
    written = cni.install(*places)
    assert [path.name for path in written] == ["loopback", "fairlead-ipam", "fairlead", "10-fairlead.conflist"]
    assert all(path.stat().st_mode & 0o777 == 0o755 for path in written[:3])
    conf = json.loads(written[3].read_bytes())
    assert (conf["cniVersion"], conf["name"]) == ("1.0.0", "fairlead")
    assert "1.1.0" in conf["cniVersions"]
    (plugin,) = conf["plugins"]
    assert (plugin["type"], plugin["network"]) == ("fairlead", "default")
    assert all(plugin["capabilities"][one] for one in ("portMappings", "ips", "mac", "bandwidth", "dns", "ipRanges", "aliases"))
    assert cni.install(*places) == ()
    assert [path.name for path in cni.uninstall(*places)] == ["10-fairlead.conflist", "fairlead", "fairlead-ipam", "loopback"]
    assert cni.uninstall(*places) == ()
    assert not any(one.is_file() for folder in places for one in folder.iterdir())


def test_upgrade_replaces_our_own_program(places: tuple[Path, Path], program: Path) -> None:
    cni.install(*places)
    program.write_bytes(b"\x7fELF two Host: fairlead\r\n")
    assert {path.name for path in cni.install(*places)} == {"fairlead", "fairlead-ipam", "loopback"}


def test_a_loopback_plugin_of_others_stays(places: tuple[Path, Path]) -> None:
    path = places[0] / "loopback"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x7fELF containernetworking")
    written = cni.install(*places, force=True)
    assert [one.name for one in written] == ["fairlead-ipam", "fairlead", "10-fairlead.conflist"]
    assert path not in cni.uninstall(*places, force=True)
    assert path.read_bytes() == b"\x7fELF containernetworking"


@pytest.mark.parametrize("name", ["fairlead", "10-fairlead.conflist"])
def test_foreign_files_are_left_alone(places: tuple[Path, Path], name: str) -> None:
    path = places["conflist" in name] / name
    path.parent.mkdir(parents=True)
    path.write_text('{"plugins":[{"type":"bridge"}]}')
    with pytest.raises(errors.Conflict, match=name):
        cni.install(*places)
    with pytest.raises(errors.Conflict, match=name):
        cni.uninstall(*places)
    assert [one for folder in places if folder.exists() for one in folder.iterdir()] == [path]
    cni.install(*places, force=True)
    assert cni.install(*places) == ()


def test_an_edited_configuration_is_left_alone(places: tuple[Path, Path]) -> None:
    cni.install(*places)
    with pytest.raises(errors.Conflict, match="otherwise"):
        cni.install(*places, network="blue")
    assert cni.install(*places, network="blue", force=True) == (places[1] / "10-fairlead.conflist",)
    assert len(cni.uninstall(*places)) == 4


def test_wrong_names_and_places(places: tuple[Path, Path], program: Path, tmp_path: Path) -> None:
    for field, more in (("network", {"network": "../x"}), ("name", {"name": "A/b"})):
        with pytest.raises(errors.Invalid) as problem:
            cni.install(*places, **more)
        assert problem.value.field == field
    (tmp_path / "file").touch()
    with pytest.raises(errors.Failed, match="file"):
        cni.install(tmp_path / "file" / "bin", places[1])
    program.unlink()
    with pytest.raises(errors.Unsupported, match="libc6-dev"):
        cni.install(*places)
