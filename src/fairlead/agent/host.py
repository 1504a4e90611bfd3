"""What the agent asks the host about itself: its routes, its uplink's MTU, its boot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fairlead.bgp import written
from fairlead.doctor.base import Capability
from fairlead.kernel import boot, features, route, sysctl, wireguard
from fairlead.kernel.announce import announce
from fairlead.kernel.errors import KernelError
from fairlead.kernel.netlink import Netlink
from fairlead.links.mark import GROUP, PROTOCOL, SILENT
from fairlead.model.address import Address, Interface, Prefix

_DEFAULT_MTU = 1500
_GLOBAL = 0
EVERYWHERE = ("0.0.0.0/0", "::/0")
"""The destinations of default routes."""


class HostRoute(NamedTuple):
    """A route of the host, and through which interface it goes. ``learned``: neighbours told of it by BGP."""

    dst: Prefix
    device: str
    learned: bool = False


class Place(NamedTuple):
    """What an interface is besides its name: another of the same name is another, and one without a cable leads nowhere."""

    number: int
    mac: str
    running: bool


class Host:
    """Facts read from the kernel each time they are needed; nothing is remembered that can change."""

    def __init__(self) -> None:
        self._netlink = Netlink()
        self._capabilities: tuple[Capability, ...] = ()
        self.boot = boot.boot_id()

    def routes(self) -> list[HostRoute]:
        """The routes of the main table that are not ours: no default ones, none that every interface has."""
        names = {one.index: one.name for one in route.links(self._netlink)}
        return [
            HostRoute(Prefix(one.dst), names.get(one.index, "?"), written.is_ours(one))
            for one in route.routes(self._netlink)
            if one.dst not in EVERYWHERE and not one.dst.startswith(("fe80:", "ff00:")) and one.protocol != PROTOCOL
        ]

    def addresses(self) -> list[str]:
        """Every address of the host itself."""
        return [one.address for one in route.addresses(self._netlink) if one.address != SILENT]

    def global_addresses(self) -> list[tuple[str, Interface]]:
        """The addresses by which others could reach the host, with their interfaces: not ours, no loopback or link-local."""
        links = {one.index: one for one in route.links(self._netlink)}
        return [
            (links[one.index].name, Interface(f"{one.address}/{one.length}"))
            for one in route.addresses(self._netlink)
            if one.scope == 0 and one.index in links and links[one.index].group != GROUP
        ]

    def uplinks(self) -> set[str]:
        """The interfaces with a default route."""
        names = {one.index: one.name for one in route.links(self._netlink)}
        return {names[one.index] for one in route.routes(self._netlink) if one.dst in EVERYWHERE and one.index in names}

    def reachable(self) -> list[Address]:
        """The addresses by which others reach the host: none of a loopback or of one link alone."""
        return [Address(one.address) for one in route.addresses(self._netlink) if one.scope == _GLOBAL]

    def devices(self) -> list[str]:
        """Every interface."""
        return [one.name for one in route.links(self._netlink)]

    def device(self, name: str) -> bool:
        """Whether there is an interface of this name."""
        return route.link(self._netlink, name) is not None

    def mtu(self, device: str | None = None) -> int:
        """The MTU of an interface; of none, of that with the default route, and 1500 without one."""
        if device is not None:
            found = route.link(self._netlink, device)
            return found.mtu if found else _DEFAULT_MTU
        links = {one.index: one.mtu for one in route.links(self._netlink)}
        uplinks = [one.index for one in route.routes(self._netlink) if one.dst in EVERYWHERE]
        return min((links[index] for index in uplinks if index in links), default=_DEFAULT_MTU)

    def forward(self) -> None:
        """Let the host route: without it no container reaches anything outside."""
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            if sysctl.read(key) == "0":
                sysctl.write(key, "1")

    def place(self, device: str) -> Place | None:
        """Where and as what an interface is; None if there is none."""
        found = route.link(self._netlink, device)
        return Place(found.index, found.mac, found.up and found.running) if found else None

    def announce(self, devices: Iterable[str]) -> None:
        """Tell neighbours which MACs these have, and have the kernel tell of new ones: they remember others for long."""
        for device in devices:
            link = route.link(self._netlink, device)
            if link is None:
                continue
            own = route.addresses(self._netlink, link.index)
            with suppress(KernelError):  # one that is down
                announce(link, (one.address for one in own if one.scope == _GLOBAL))
            for key in (f"net.ipv4.conf.{device}.arp_notify", f"net.ipv6.conf.{device}.ndisc_notify"):
                with suppress(KernelError):  # one that is just going, or has no IPv6
                    if sysctl.read(key) == "0":
                        sysctl.write(key, "1")

    def forwards(self) -> bool:
        """Whether the host routes IPv4 packets."""
        return sysctl.read("net.ipv4.ip_forward") == "1"

    @staticmethod
    def encrypts(run: Path) -> tuple[str, str]:
        """Who encrypts packets to other nodes here; or why nobody does."""
        try:
            return wireguard.find(run).name, ""
        except KernelError as error:
            return "", str(error)

    async def capabilities(self) -> tuple[Capability, ...]:
        """What this kernel can do, found by trying, once."""
        if not self._capabilities:
            found = await asyncio.to_thread(features.probe)
            self._capabilities = tuple(Capability(name=one.name, ok=one.ok, needs=one.needs) for one in found)
        return self._capabilities

    def close(self) -> None:
        """Let go of the kernel."""
        self._netlink.close()
