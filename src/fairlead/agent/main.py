"""The agent's process: arguments, one agent a run directory, signals, an orderly end. Its parts stand in ``wiring``."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from fairlead.datapath.choose import PLANES
from fairlead.datapath.ebpf.programs import MOST, SIZES
from fairlead.kernel import libc
from fairlead.kernel.errors import KernelError
from fairlead.kernel.flock import locked
from fairlead.kit import journal
from fairlead.model.errors import Problem, Unavailable
from fairlead.model.network import CLUSTER
from fairlead.store import url
from fairlead.store.sqlite import Sqlite

from .config import Settings, settings
from .wiring import Wiring

log = logging.getLogger("fairlead")

_READING = 10_000
"""New objects after which those without an owner are looked for, until all there is has been read: nearly all of them stay."""
_YOUNG, _OLDER, _ALL = 2000, 3, 1000
"""The same from then on, when somebody waits for each look; how many to one at what is a little older; and how many of
these to one at all there is, which takes a fifth of a second where fifty thousand pods are known, and finds next to nothing."""

_SIZED = tuple(name for name in SIZES if name != "events")  # which --flow-buffer says in KiB
_SWITCH = 0.0005
"""Seconds for which a thread may keep others from running Python: the kernel thread's answers are waited for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop; 0 after an orderly end, 1 if it could not start."""
    given = _parser().parse_args(arguments)
    journal.to_stderr(given.log_level)
    given.map_sizes = tuple(given.map_sizes)
    wanted = settings(**{name: value for name, value in vars(given).items() if name != "log_level"})
    try:
        with ExitStack() as stack:
            _claim(wanted, stack)
            sys.setswitchinterval(_SWITCH)
            asyncio.run(_run(wanted))
    except (Problem, KernelError, OSError) as problem:
        log.error("%s", problem)  # noqa: TRY400  # a person reads this; the traceback says nothing to them
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fairlead-agent", description="The Fairlead agent of one node.")
    parser.add_argument("--node", default="", help="the node's name (default: the host's)")
    parser.add_argument("--node-ip", default="", help="addresses by which other nodes reach this one (default: the uplink's)")
    parser.add_argument(
        "--store", default="", help="where nodes tell each other of themselves: sqlite:///PATH or etcd://HOST,..."
    )
    parser.add_argument("--group", default="", help="members of this group may use the socket (default: root alone)")
    parser.add_argument("--plane", default="auto", choices=["auto", *PLANES], help="what enforces policies (auto)")
    parser.add_argument("--ipv6", action="store_true", help="give the default network an IPv6 subnet when it is created")
    parser.add_argument(
        "--no-node-access", dest="node_access", action="store_false", help="policies say what this node itself may reach, too"
    )
    parser.add_argument(
        "--no-short-way", dest="short_way", action="store_false", help="packets always take the bridge, or the host's stack"
    )
    parser.add_argument(
        "--no-tcx", dest="tcx", action="store_false", help="programs at uplinks and tunnels are filters, as before Linux 6.6"
    )
    parser.add_argument("--metrics", default="", help="ADDRESS:PORT where Prometheus may ask (default: nowhere)")
    parser.add_argument("--flow-buffer", type=_buffer, default=1024, help="KiB in which events wait, a power of two (1024)")
    parser.add_argument(
        "--map-size",
        dest="map_sizes",
        action="append",
        default=[],
        type=_map_size,
        metavar="MAP=ENTRIES",
        help=f"how much a map of the eBPF plane has room for, such as connections=262144; there are {', '.join(_SIZED)}",
    )
    parser.add_argument("--debounce", type=float, default=0.05, help="seconds an event waits before a comparison (0.05)")
    parser.add_argument("--interval", type=float, default=30.0, help="seconds between comparisons that no event asked for (30)")
    parser.add_argument(
        "--gc-grace", type=float, default=10.0, help="seconds for which CNI GC spares a running container it does not list (10)"
    )
    parser.add_argument("--ttl", type=float, default=10.0, help="seconds without a sign of life after which it is gone (10)")
    parser.add_argument("--address-rest", type=float, default=2.0, help="seconds before a freed address is another's (2)")
    parser.add_argument("--key-age", type=float, default=0.0, help="seconds after which a WireGuard key is replaced (0: never)")
    parser.add_argument(
        "--key-grace", type=float, default=60.0, help="seconds for which an old key is good once all have a newer one (60)"
    )
    parser.add_argument("--pod-network", default="default", help="the network of a Kubernetes node's pods (default)")
    parser.add_argument("--pod-cidr", default="", help="its subnets, where it is made (what the nodes' podCIDRs are of)")
    parser.add_argument("--pod-driver", default="vxlan", choices=CLUSTER, help="its driver, where it is made (vxlan)")
    parser.add_argument(
        "--network-status",
        type=_truth,
        default=False,
        metavar="true|false",
        help="whether pods that ask for further networks get the annotation network-status (false)",
    )
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    return parser


def _truth(word: str) -> bool:
    if word not in {"true", "false"}:
        raise argparse.ArgumentTypeError(f"{word[:40]!r} is neither true nor false")
    return word == "true"


def _map_size(word: str) -> tuple[str, int]:
    name, _, size = word.partition("=")
    if name not in _SIZED:
        raise argparse.ArgumentTypeError(f"there is no map {name[:40]!r}; there are {', '.join(_SIZED)}")
    if not size.isascii() or not size.isdigit() or not 1 <= int(size) <= MOST:
        raise argparse.ArgumentTypeError(f"{name}: {size[:40]!r} is not a number from 1 to {MOST}")
    return name, int(size)


def _buffer(word: str) -> int:
    size = int(word)
    if not 4 <= size <= 1 << 18 or size & (size - 1):
        raise argparse.ArgumentTypeError(f"{size} is not a power of two from 4 to {1 << 18}")
    return size


def _claim(wanted: Settings, stack: ExitStack) -> None:
    """Make the directories, and be the only agent in them."""
    wanted.run.mkdir(mode=0o755, parents=True, exist_ok=True)
    wanted.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        stack.enter_context(locked(str(wanted.run / "agent.lock"), deadline=1.0))
    except (TimeoutError, KernelError):
        raise Unavailable(f"another agent already runs in {wanted.run}; stop it with: fairlead down") from None
    pid_file = wanted.run / "agent.pid"
    pid_file.write_text(f"{os.getpid()}\n")
    stack.callback(pid_file.unlink, missing_ok=True)


async def _run(wanted: Settings) -> None:
    stop = asyncio.Event()
    gc.set_threshold(_READING)
    local = await Sqlite.open(wanted.state / "store.db")
    named = url.parse(wanted.store) if wanted.store else None
    wiring = Wiring(wanted, local, await named.open(), named.source) if named else Wiring(wanted, local)

    def end() -> None:
        stop.set()
        wiring.others.leave()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    try:
        await wiring.start()
        gc.collect()
        gc.freeze()  # what lives as long as the process is not looked at again
        gc.set_threshold(_YOUNG, _OLDER, _ALL)
        libc.trim()  # what reading the store took, and nobody needs again
        log.info("ready: %s endpoints on %s networks", len(wiring.endpoints.all), len(wiring.networks.all))
        await stop.wait()
    finally:
        await wiring.stop()
    log.info("stopped; the kernel keeps everything, containers go on")
