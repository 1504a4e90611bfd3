"""Every name that becomes a path, an interface or part of a file is checked, and none of the evil ones passes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fairlead.cli import parse, run
from fairlead.cli.container import files
from fairlead.desired import names
from fairlead.ipam import hostlocal
from fairlead.kernel import sysctl
from fairlead.kernel.errors import KernelError
from fairlead.model.address import Address, ContainerID, Interface, InterfaceName, Mac, Name, Prefix
from fairlead.model.endpoint import Dns
from fairlead.model.errors import Problem
from fairlead.model.meta import Meta, check_label
from fairlead.model.network import Network, NetworkSpec
from tests.evil import EVIL

MADE: dict[str, Callable[[str], object]] = {
    "network": lambda evil: Network(metadata=Meta(name=evil)),
    "name": Name,
    "bridge": lambda evil: NetworkSpec(bridge=InterfaceName(evil)),
    "interface": InterfaceName,
    "address": Address,
    "prefix": Prefix,
    "interface address": Interface,
    "mac": Mac,
    "container's name, on the command line": lambda evil: parse.value(Name, evil, "name"),
    "namespace": lambda evil: parse.value(Name, evil, "namespace"),
    "lease network": lambda evil: hostlocal.place({"name": evil, "ipam": {"dataDir": "/x"}}),
    "sysctl": lambda evil: sysctl.read(f"net.ipv4.conf.{evil}.forwarding"),
}
FINE = {"interface": {"-rf", "--help"}, "bridge": {"-rf", "--help"}}
"""Odd, but names to Linux; they reach it in netlink messages, and no program's arguments."""


@pytest.mark.parametrize("what", MADE)
def test_no_evil_name_is_made(what: str) -> None:
    for evil in EVIL:
        if evil in FINE.get(what, ()):
            MADE[what](evil)
            continue
        with pytest.raises((ValueError, Problem, KernelError)):
            MADE[what](evil)


def test_a_container_id_is_one_name_of_a_file() -> None:
    for evil in EVIL:
        with pytest.raises(ValueError, match="container id"):
            ContainerID(evil)


@pytest.mark.parametrize("where", ["key", "value", "prefix"])
def test_no_evil_label(where: str) -> None:
    for evil in EVIL:
        given = {"key": (evil, "x"), "value": ("x", evil), "prefix": (f"{evil}/x", "x")}[where]
        if (where, evil) in {("value", ""), ("key", "a/b")}:
            continue  # an empty value, and a key with a prefix, are labels
        with pytest.raises(ValueError, match="label"):
            check_label(*given)


def test_names_in_the_kernel_hold_nothing_of_what_they_are_made_of() -> None:
    for evil in EVIL:
        assert names.veth(evil)[3:].isalnum()
        assert names.ifb(evil)[3:].isalnum()
        assert Mac(names.bridge_mac(evil))


def test_a_resolver_line_cannot_be_broken_out_of() -> None:
    for evil in EVIL:
        for field in ("domain", "search", "options", "nameservers"):
            try:
                made = Dns(**{field: evil if field == "domain" else (evil,)})
            except ValueError:
                continue
            words = (made.domain,) if field == "domain" else getattr(made, field)
            assert all(word.split() == [word] or not word for word in words)


def test_a_hosts_file_cannot_be_broken_out_of() -> None:
    plain = files.hosts([Address("10.0.0.5")], ("web",))
    for evil in EVIL:
        try:
            hostname = run._hostname(evil)
        except Problem:
            continue
        lines = files.hosts([Address("10.0.0.5")], (hostname, "web")).splitlines()
        assert len(lines) == len(plain.splitlines())
        assert lines[-1].split("\t") == ["10.0.0.5", f"{hostname} web"]
