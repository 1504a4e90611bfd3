"""What a test run leaves behind: a picture of the machine before, one after, and the difference in words.

Namespaces, interfaces, addresses, routes, the root namespace's rules, mounts, forwarding switches, Fairlead's files, and
processes that the run started. Only root sees all of it. On a machine where others work too, their changes are seen as well,
so this is asked for by ``pytest --leftovers`` (``make test`` does) and not on every run.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

RUN = "FAIRLEAD_TEST_RUN"
"""An environment variable that every process of a run inherits, also one that was left behind by its parent."""

Picture = frozenset[tuple[str, str]]
"""(kind of thing, the thing)."""

_SWITCHES = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/bridge/bridge-nf-call-iptables")
_PLACES = (
    "run/fairlead*",
    "run/fairlead/labs/*",
    "var/lib/fairlead*",
    "etc/netns/*",
    "etc/cni/net.d/*",
    "opt/cni/bin/fairlead*",
    "tmp/fairlead*",
)


def picture() -> Picture:
    """The machine as it is now."""
    return frozenset((*_network(), *_mounts(), *_switches(), *_files(), *_processes()))


def difference(before: Picture, after: Picture) -> list[str]:
    """What is there now and was not, and what was there and is not, one line each."""
    left = [f"left behind: {kind} {thing}" for kind, thing in sorted(after - before)]
    gone = [f"gone: {kind} {thing}" for kind, thing in sorted(before - after)]
    return left + gone


def _network() -> Iterator[tuple[str, str]]:
    names = Path("/run/netns")
    yield from (("namespace", path.name) for path in (names.iterdir() if names.is_dir() else ()))
    for link in json.loads(_says("ip", "-json", "address")):
        yield ("interface", link["ifname"])
        yield from (("address", f"{at['local']}/{at['prefixlen']} on {link['ifname']}") for at in link["addr_info"])
    for family in ("-4", "-6"):
        for route in json.loads(_says("ip", family, "-json", "route", "show", "table", "all")):
            yield ("route", " ".join(str(route.get(key, "-")) for key in ("dst", "gateway", "dev", "table")))
        yield from (("rule", json.dumps(rule)) for rule in json.loads(_says("ip", family, "-json", "rule")))
    yield from (("nftables line", line.strip()) for line in _says("nft", "--stateless", "list", "ruleset").splitlines())


def _mounts() -> Iterator[tuple[str, str]]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4]
        if point != "/run/netns":  # the first `ip netns add` on a machine makes it, for good
            yield ("mount", point)


def _switches() -> Iterator[tuple[str, str]]:
    for name in _SWITCHES:
        path = Path("/proc/sys", name)
        if path.exists():
            yield ("switch", f"{name} = {path.read_text().strip()}")


def _files() -> Iterator[tuple[str, str]]:
    for place in _PLACES:
        yield from (("file", str(path)) for path in Path("/").glob(place))


def _processes() -> Iterator[tuple[str, str]]:
    mark = f"{RUN}={os.environ.get(RUN, '')}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            started_here = mark in (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
        except OSError:
            continue  # it has ended, or is another user's
        if started_here:
            yield ("process", f"{process.name}: {command}")


def _says(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout
