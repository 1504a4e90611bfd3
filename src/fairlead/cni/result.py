"""The result of an ADD: read from ``prevResult``, written in the version that the runtime speaks.

Versions differ in this: until 0.4.0 an address carries its family as ``version``; from 1.0.0 it does not; 1.1.0 adds
``mtu``, ``socketPath`` and ``pciID`` to an interface and more fields to a route.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.model import codec
from fairlead.model.address import Address, Interface, Prefix
from fairlead.model.errors import Invalid

from .config import Count, Part, present
from .spec import Code, Refused, at_least


class Device(Part, frozen=True, kw_only=True, omit_defaults=True):
    """One interface. ``sandbox`` is empty for one of the host."""

    name: str
    mac: str = ""
    mtu: Count = 0
    sandbox: str = ""
    socket_path: str = ""
    pci_id: str = msgspec.field(default="", name="pciID")


class Given(Part, frozen=True, kw_only=True, omit_defaults=True):
    """One address. ``interface`` is the index of its interface in the result."""

    version: str = ""
    address: Interface
    gateway: Address | None = None
    interface: int | None = None


class Way(Part, frozen=True, kw_only=True, omit_defaults=True):
    """One route."""

    dst: Prefix
    gw: Address | None = None
    mtu: Count = 0
    advmss: Count = 0
    priority: Count = 0
    table: Count | None = None
    scope: Count | None = None


class Names(Part, frozen=True, kw_only=True, omit_defaults=True):
    """What the container's resolver should use."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Result(Part, frozen=True, kw_only=True, omit_defaults=True):
    """What a plugin made. An IPAM plugin's has no interfaces."""

    cni_version: str = ""
    interfaces: tuple[Device, ...] = ()
    ips: tuple[Given, ...] = ()
    routes: tuple[Way, ...] = ()
    dns: Names | None = None

    def owned(self, interface: str) -> tuple[Given, ...]:
        """The addresses of the container's ``interface``: those that name it, or name no interface at all."""
        mine = {at for at, device in enumerate(self.interfaces) if device.name == interface and device.sandbox}
        return tuple(given for given in self.ips if given.interface is None or given.interface in mine)

    def device(self, interface: str) -> Device | None:
        """The container's ``interface``, if the result has it."""
        return next((device for device in self.interfaces if device.name == interface and device.sandbox), None)


def read(found: dict[str, Any]) -> Result:
    """``prevResult`` as a value; raise ``Refused`` that names the field."""
    try:
        result = codec.from_tree(present(found), Result, field="prevResult")
    except Invalid as problem:
        raise Refused(Code.CONFIG, str(problem)) from None
    except RecursionError:
        raise Refused(Code.DECODE, "prevResult is nested too deeply") from None
    for at, given in enumerate(result.ips):
        if given.interface is not None and not 0 <= given.interface < len(result.interfaces):
            raise Refused(
                Code.CONFIG,
                f"prevResult.ips[{at}].interface: {given.interface} is not one of the {len(result.interfaces)} interfaces",
            )
    return result


def write(result: Result, version: str) -> bytes:
    """``result`` as ``version`` spells it."""
    modern, newest = at_least(version, "1.0.0"), at_least(version, "1.1.0")
    interfaces = result.interfaces
    if not newest:
        interfaces = tuple(Device(name=one.name, mac=one.mac, sandbox=one.sandbox) for one in interfaces)
    ips = tuple(msgspec.structs.replace(one, version="" if modern else str(one.address.family)) for one in result.ips)
    routes = result.routes if newest else tuple(Way(dst=one.dst, gw=one.gw) for one in result.routes)
    dns = result.dns if result.dns != Names() else None
    return codec.encode(
        msgspec.structs.replace(result, cni_version=version, interfaces=interfaces, ips=ips, routes=routes, dns=dns)
    )


def passed(found: dict[str, Any], version: str) -> bytes:
    """``prevResult`` passed through: as it is if it is of this version, converted otherwise."""
    if found.get("cniVersion", version) == version:
        return msgspec.json.encode({**found, "cniVersion": version})
    return write(read(found), version)
