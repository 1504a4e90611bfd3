"""Where the agents of a lab keep their objects: each in a file of its own, all in one file, or in etcd.

etcd runs as in any data centre, a process on a machine of its own, reached over the management network. Its data outlasts the
machine, so that a member that was stopped comes back as itself.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from pathlib import Path

from fairlead.kernel import netns
from fairlead.kernel.errors import KernelError
from fairlead.model.address import Address
from fairlead.model.errors import Failed

from .machine import Machine
from .parts import Plan, Role
from .topology import Store, StoreDriver

SHARED = "/var/lib/fairlead-shared"
"""Where nodes see the file that all share."""
STATE = "/var/lib/fairlead"

PROGRAM = "etcd"
CLIENT, PEER, METRICS = 2379, 2380, 2381
_PATIENCE = 30.0


def url(store: Store, plan: Plan, lab: str) -> str:
    """What agents are told by ``--store``; empty if each has its own."""
    if store.driver is StoreDriver.SQLITE:
        return f"sqlite://{SHARED}/store.db"
    if store.driver is StoreDriver.ETCD:
        return f"etcd://{','.join(f'{_literal(at)}:{CLIENT}' for at in _addresses(plan).values())}/{lab}"
    return ""


def start(plan: Plan, name: str, machine: Machine, log: Path) -> None:
    """Start a member of etcd; it serves when most of them do."""
    addresses = _addresses(plan)
    here = _literal(addresses[name])
    peers = ",".join(f"{one}=http://{_literal(at)}:{PEER}" for one, at in addresses.items())
    machine.start(
        PROGRAM,
        *("--name", name, "--data-dir", f"{STATE}/etcd"),
        *("--listen-client-urls", f"http://{here}:{CLIENT}", "--advertise-client-urls", f"http://{here}:{CLIENT}"),
        *("--listen-peer-urls", f"http://{here}:{PEER}", "--initial-advertise-peer-urls", f"http://{here}:{PEER}"),
        *("--initial-cluster", peers, "--listen-metrics-urls", f"http://127.0.0.1:{METRICS}"),
        *("--logger", "zap", "--log-level", "error"),
        log=log,
    )


def wait(members: Mapping[str, Machine], logs: Mapping[str, Path]) -> None:
    """Return once every one of these members serves."""
    end = time.monotonic() + _PATIENCE
    for name, machine in members.items():
        while not serves(machine):
            if time.monotonic() > end:
                raise Failed(f"{name} of etcd does not serve after {_PATIENCE:g} s; it says: {_tail(logs[name])}")
            time.sleep(0.05)


def serves(machine: Machine) -> bool:
    """Whether the member on a machine answers, which it does only in a majority."""
    connection = http.client.HTTPConnection("127.0.0.1", METRICS, timeout=2)
    try:
        with machine.network() as fd, netns.inside(fd):
            connection.connect()
        connection.request("GET", "/health")
        return json.loads(connection.getresponse().read())["health"] in {"true", True}
    except (OSError, KernelError, http.client.HTTPException, ValueError, KeyError):
        return False
    finally:
        connection.close()


def _addresses(plan: Plan) -> dict[str, Address]:
    """The address of each member."""
    return {one.name: one.wires[0].addresses[0].address for one in plan.of(Role.STORE)}


def _literal(address: Address) -> str:
    return f"[{address}]" if address.family == 6 else str(address)


def _tail(log: Path) -> str:
    try:
        return log.read_text(errors="replace")[-400:].strip() or "nothing"
    except OSError:
        return "nothing"
