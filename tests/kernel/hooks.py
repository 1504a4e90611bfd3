"""How the program that sees what comes from other nodes stands at a device, as the kernel says."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from fairlead.kernel import features, netns
from fairlead.kernel.bpf import Program, syscall, tcx
from fairlead.kernel.bpf.program import SCHED_CLS
from fairlead.kernel.bpf.syscall import Memory
from tests.net import Node

each_way = pytest.mark.parametrize("way", [pytest.param("tcx", marks=pytest.mark.kernel("tcx")), "filter"])
SHOT = 2
OPTIONS = {"tcx": (), "filter": ("--no-tcx",)}
"""What an agent is told to have it one way, on a kernel that has both."""


def hooked(node: Node, device: str) -> str:
    """By "tcx", as a "filter", or both: "tcx and filter". Empty: it does not."""
    said = node.attempt("tc", "filter", "show", "dev", device, "ingress").stdout
    ways = {"tcx": linked(node, device), "filter": any("from_net" in line for line in said.splitlines())}
    return " and ".join(way for way, there in ways.items() if there)


def linked(node: Node, device: str) -> bool:
    """Whether the program that is pinned stands there by a link."""
    pins = list((node.run_dir / "bpf" / "programs").glob("from_net-*"))
    if not features.probe("tcx")[0].ok or not pins:
        return False
    with closing(Program.pinned(str(pins[0]))) as program:
        return program.info.id in {one.program for one in programs(node, device) if one.link}


def programs(node: Node, device: str) -> list[tcx.AttachedInfo]:
    """Everybody's programs there, in their order."""
    with entered(node):
        return tcx.attached(socket.if_nametoindex(device))


@contextmanager
def entered(node: Node) -> Iterator[None]:
    """In the node's namespace."""
    fd = netns.open_path(str(node.path))
    try:
        with netns.inside(fd):
            yield
    finally:
        os.close(fd)


def dropping() -> Program:
    """A program that drops everything."""
    code, licence = Memory(struct.pack("=BBhiBBhi", 0xB7, 0, 0, SHOT, 0x95, 0, 0, 0)), Memory(b"GPL\0")
    attributes = struct.pack("=IIQQIIQII16s", SCHED_CLS, 2, code.address, licence.address, 0, 0, 0, 0, 0, b"dropping")
    return Program(syscall.bpf(syscall.PROG_LOAD, attributes, "load a program"))
