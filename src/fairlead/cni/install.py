"""Put the plugin where runtimes look for it: the program under both its names, then the configuration, last of all.

A runtime takes a configuration's appearance as the sign that the node can start containers, so everything that it names must
be there before it. Files of others are never overwritten without ``force``; every refusal comes before the first change.

The configuration says 1.0.0, which is what Debian 12's podman and containerd speak (their libcni is 1.1), and offers more
in ``cniVersions``: a libcni of 1.2 or later takes the newest that it knows, and with 1.1.0 come GC and STATUS.

containerd executes a plugin ``loopback`` for every pod, whoever's network that is on. kubeadm's packages bring one, Debian's
containerd does not: where there is none, ours is put in its place, and one of others is left alone.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from fairlead.model.address import Name
from fairlead.model.errors import Conflict, Failed, Invalid, Unsupported

from .call import IPAM

BIN_DIR = Path("/opt/cni/bin")
CONF_DIR = Path("/etc/cni/net.d")
PLUGIN = "fairlead"
LOOPBACK = "loopback"
VERSION = "1.0.0"
OFFERED = ("0.4.0", "1.0.0", "1.1.0")
CAPABILITIES = ("portMappings", "ips", "mac", "bandwidth", "dns", "ipRanges", "aliases")

_PROGRAM = Path(__file__).with_name("bin") / "fairlead-cni"
_MARK = b"Host: fairlead\r\n"
"""What every version of the client holds and other programs do not: how a program is known to be ours."""


def available() -> Path:
    """The compiled client; it is made when the package is built."""
    if not _PROGRAM.is_file():
        raise Unsupported(
            f"the CNI client is missing: {_PROGRAM}; install the package again on a machine with a C compiler "
            "(on Debian: gcc libc6-dev), or run python hatch_build.py in a checkout"
        )
    return _PROGRAM


def conflist(network: str, name: str) -> bytes:
    """The configuration as it is written."""
    plugin = {"type": PLUGIN, "network": network, "capabilities": dict.fromkeys(CAPABILITIES, True)}
    whole = {"cniVersion": VERSION, "cniVersions": OFFERED, "name": name, "plugins": [plugin]}
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


def install(
    bin_dir: Path = BIN_DIR,
    conf_dir: Path = CONF_DIR,
    network: str = "default",
    name: str = "fairlead",
    *,
    force: bool = False,
) -> tuple[Path, ...]:
    """Write what is not there yet; the files that were written, none if all was in place."""
    wanted = contents(bin_dir, conf_dir, network, name)
    stale = {path: content for path, content in wanted.items() if _content(path) != content}
    if not force:
        for path in stale:
            _refuse_foreign(path)
    for path, content in stale.items():
        _write(path, content, 0o644 if path.suffix == ".conflist" else 0o755)
    return tuple(stale)


def uninstall(
    bin_dir: Path = BIN_DIR, conf_dir: Path = CONF_DIR, name: str = "fairlead", *, force: bool = False
) -> tuple[Path, ...]:
    """Remove what ``install`` wrote, the configuration first; the files that were removed."""
    paths = [_conflist_path(conf_dir, name), bin_dir / PLUGIN, bin_dir / IPAM]
    there = [path for path in paths if _exists(path)]
    for path in there:
        if not force and not _is_ours(path):
            raise Conflict(f"{path} is not Fairlead's; nothing was removed; remove it yourself, or force it")
    if _is_ours(bin_dir / LOOPBACK):
        there.append(bin_dir / LOOPBACK)
    for path in there:
        try:
            path.unlink()
        except OSError as problem:
            raise Failed(f"cannot remove {path}: {problem.strerror}") from None
    return tuple(there)


def contents(bin_dir: Path, conf_dir: Path, network: str, name: str) -> dict[Path, bytes]:
    """Every file with its content, in the order of writing."""
    for field, text in (("network", network), ("name", name)):
        try:
            Name(text)
        except ValueError as problem:
            raise Invalid(str(problem), field=field) from None
    program = available().read_bytes()
    loopback = bin_dir / LOOPBACK
    beside = {} if _exists(loopback) and not _is_ours(loopback) else {loopback: program}
    own = {bin_dir / IPAM: program, bin_dir / PLUGIN: program}
    return {**beside, **own, _conflist_path(conf_dir, name): conflist(network, name)}


def _conflist_path(conf_dir: Path, name: str) -> Path:
    """Runtimes take the first file in order of names; 10 comes before what distributions ship."""
    return conf_dir / f"10-{name}.conflist"


def _refuse_foreign(path: Path) -> None:
    """Raise unless ``path`` is free, or an older program of ours. A configuration that was edited belongs to its editor."""
    if not _exists(path):
        return
    if path.suffix == ".conflist" or not _is_ours(path):
        what = "is otherwise than it would be written" if _is_ours(path) else "is not Fairlead's"
        raise Conflict(f"{path} exists and {what}; nothing was written; move it away, or force it")


def _exists(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _is_ours(path: Path) -> bool:
    content = _content(path)
    if content is None:
        return False
    if path.suffix != ".conflist":
        return _MARK in content
    try:
        plugins = msgspec.json.decode(content, type=_List).plugins
    except msgspec.MsgspecError:
        return False
    return bool(plugins) and plugins[0].type == PLUGIN


class _Plugin(msgspec.Struct):
    type: str = ""


class _List(msgspec.Struct):
    plugins: list[_Plugin]


def _content(path: Path) -> bytes | None:
    """What is in the file; None if there is none or it is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise Failed(f"cannot read {path}: {problem.strerror}") from None


def _write(path: Path, content: bytes, mode: int) -> None:
    """Put a file in its place whole: whoever opens it sees the old one or the new one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as problem:
        fresh.unlink(missing_ok=True)
        raise Failed(f"cannot write {path}: {problem.strerror}") from None
