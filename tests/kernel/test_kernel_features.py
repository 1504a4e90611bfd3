"""Probes agree with what ip can do, and leave nothing behind."""

import socket
import subprocess
from contextlib import closing

import pytest

from fairlead.kernel import features
from fairlead.kernel.bpf import Program, tcx
from fairlead.kernel.errors import Unsupported
from tests.kernel.room import descriptors, ip


def _possible(*words: str) -> bool:
    return not subprocess.run(["ip", "link", "add", *words], capture_output=True, check=False).returncode


@pytest.mark.parametrize("kind", ["macvlan", "ipvlan", "ifb", "bridge", "veth"])
@pytest.mark.usefixtures("room")
def test_a_probe_agrees_with_ip(kind: str) -> None:
    _possible("lower", "type", "veth")
    possible = _possible("link", "lower", "made", "type", kind) if "vlan" in kind else _possible("made", "type", kind)
    (found,) = [row for row in features.probe() if row.name == kind]
    assert found.ok == possible
    assert bool(found.detail) != possible


@pytest.mark.usefixtures("room")
def test_who_may_list_tcx_programs_may_attach_one() -> None:
    """The probe lists alone: to attach waits for a grace period."""
    (found,) = features.probe("tcx")
    with closing(Program.passing()) as program:
        try:
            tcx.Link.attach(socket.if_nametoindex("lo"), tcx.SENT, program.fd).close()
        except Unsupported:
            assert not found.ok
        else:
            assert found.ok


@pytest.mark.usefixtures("room")
def test_what_fairlead_cannot_do_without() -> None:
    found = {row.name: row for row in features.probe()}
    for name in ("namespace cookies", "veth", "bridge", "bridge port isolation", "nftables", "nftables concatenated intervals"):
        assert found[name].ok, found[name]
    assert all(row.needs for row in found.values())


@pytest.mark.usefixtures("room")
def test_probes_leave_nothing_behind() -> None:
    links, fds = ip("link"), descriptors()
    features.probe.cache_clear()
    assert features.probe() == features.probe()
    assert ip("link") == links
    assert descriptors() == fds
