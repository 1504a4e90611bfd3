"""The network configuration that a runtime writes to stdin, and what it may hold.

``decode`` refuses in the specification's own order: not JSON (6), a version that is not spoken here (1), a key that asks
for something Fairlead does not do (2, with key and value), a value that is wrong (7, with the field). An unknown key that
asks for nothing (false, 0, empty) passes: programs write every field they know. docs/cni.md has the table for users.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from fairlead.model import codec
from fairlead.model.address import Address, ContainerID, InterfaceName, Mac, NamedPort, Prefix
from fairlead.model.endpoint import Bandwidth
from fairlead.model.errors import Invalid

from .spec import SINCE, VERSIONS, Code, Refused, at_least

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A part of the configuration. Keys it does not name are let through: runtimes add to lists of their own."""


class PortMapping(Part, frozen=True, kw_only=True):
    """One entry of the capability portMappings."""

    host_port: Port
    container_port: Port
    protocol: str = "tcp"
    host_ip: str = msgspec.field(default="", name="hostIP")


class RuntimeDns(Part, frozen=True, kw_only=True):
    """The capability dns, which has names of its own for what the configuration's ``dns`` says."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class NetworkDns(Part, frozen=True, kw_only=True):
    """The well-known key ``dns``."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Pool(Part, frozen=True, kw_only=True):
    """A subnet, or a run of its addresses, as host-local spells it."""

    subnet: Prefix
    range_start: Address | None = None
    range_end: Address | None = None
    gateway: Address | None = None


class StaticRoute(Part, frozen=True, kw_only=True):
    """One route for the container. Without ``gw`` it goes through the network's gateway."""

    dst: Prefix
    gw: Address | None = None


class Ipam(Part, frozen=True, kw_only=True):
    """The key ``ipam``: an inline definition of the network's pools in host-local's words."""

    type: str = ""
    subnet: Prefix | None = None
    range_start: Address | None = None
    range_end: Address | None = None
    gateway: Address | None = None
    ranges: tuple[tuple[Pool, ...], ...] = ()
    routes: tuple[StaticRoute, ...] = ()
    data_dir: str = ""
    resolv_conf: str = ""

    @property
    def pools(self) -> tuple[tuple[Pool, ...], ...]:
        """Every set of pools; the single subnet of the old style comes first, as in host-local."""
        if self.subnet is None:
            return self.ranges
        single = Pool(subnet=self.subnet, range_start=self.range_start, range_end=self.range_end, gateway=self.gateway)
        return ((single,), *self.ranges)


class Label(Part, frozen=True, kw_only=True):
    """One entry of ``args.cni.labels``."""

    key: str
    value: str = ""


class CniArgs(Part, frozen=True, kw_only=True):
    """``args.cni``: wishes by the older convention. What the runtime says in ``runtimeConfig`` goes before."""

    ips: tuple[str, ...] = ()
    mac: Mac | None = None
    labels: tuple[Label, ...] = ()
    named_ports: dict[str, NamedPort] = {}


class Args(Part, frozen=True, kw_only=True):
    """``args``: whatever is not under ``cni`` is for others."""

    cni: CniArgs = CniArgs()


class Runtime(Part, frozen=True, kw_only=True):
    """``runtimeConfig``: the capabilities, filled by the runtime for this call."""

    port_mappings: tuple[PortMapping, ...] = ()
    ips: tuple[str, ...] = ()
    mac: Mac | None = None
    bandwidth: Bandwidth | None = None
    dns: RuntimeDns = RuntimeDns()
    ip_ranges: tuple[tuple[Pool, ...], ...] = ()
    aliases: dict[str, tuple[str, ...]] | tuple[str, ...] = ()
    cgroup_path: str = ""


class Attachment(Part, frozen=True, kw_only=True):
    """One attachment that GC must leave alone. The specification 1.1.0 called their list by a second name by mistake."""

    container: ContainerID = msgspec.field(name="containerID")
    interface: InterfaceName = msgspec.field(name="ifname")


class Config(Part, frozen=True, kw_only=True):
    """One plugin's configuration. What defines a network must agree with the network if that exists already."""

    cni_version: str
    name: str
    type: str = ""
    network: str = ""
    bridge: InterfaceName | None = None
    mtu: Count = 0
    ip_masq: bool | None = None
    internal: bool | None = None
    isolated: bool | None = None
    inter_container: bool | None = None
    is_gateway: bool | None = None
    is_default_gateway: bool | None = None
    ipam: Ipam = Ipam()
    dns: NetworkDns = NetworkDns()
    args: Args = Args()
    runtime_config: Runtime = Runtime()
    prev_result: dict[str, Any] | None = None

    @property
    def no_way_out(self) -> bool | None:
        """Whether the network is to be internal: said so, or without a gateway on the bridge, which comes to the same."""
        return True if self.internal is None and self.is_gateway is False else self.internal

    @property
    def limits(self) -> Bandwidth | None:
        """The capability bandwidth, if it limits anything."""
        asked = self.runtime_config.bandwidth
        if asked is None or not (asked.ingress_rate or asked.egress_rate):
            return None
        return replace(asked, ingress_burst=_burst(asked.ingress_burst), egress_burst=_burst(asked.egress_burst))


_UNSAID_BURST = 2**32 - 1
"""From here on: what containerd and CRI-O write beside a pod's rate, as no annotation says one. Gigabits would pass freely."""
_GO = ("portMappings", "ipRanges", "bandwidth", "dns")
"""Capabilities that containerd writes from structs without names for JSON."""
_VALID = ("cni.dev/valid-attachments", "cni.dev/attachments")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DELEGATES = ("", "host-local", "fairlead-ipam")

_IGNORED: Mapping[str, frozenset[str]] = {
    "": frozenset({"cniVersions", "capabilities", "disableCheck", "disableGC", "hairpinMode", "forceAddress", "Documentation"}),
    "ipam": frozenset({"Documentation"}),
    "runtimeConfig": frozenset(),
}
"""Keys that may hold anything: not the plugin's business, or what Fairlead does in any case (hairpin, its own gateway)."""


def tree(stdin: bytes) -> dict[str, Any]:
    """``stdin`` as a JSON object without nulls: in Go's JSON these mean an absent field, and GC's list without an entry."""
    try:
        found = msgspec.json.decode(stdin)
        if isinstance(found, dict):
            found |= {key: [] for key in _VALID if found.get(key, "") is None}
            return {key: value if key == "prevResult" else present(value) for key, value in found.items() if value is not None}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise Refused(Code.DECODE, f"the network configuration is not JSON: {problem}") from None
    raise Refused(Code.DECODE, "the network configuration is not a JSON object")


def version(found: Mapping[str, Any], command: str = "") -> str:
    """The configuration's cniVersion, one that is spoken here and has ``command``."""
    wanted = found.get("cniVersion")
    if wanted in VERSIONS and isinstance(wanted, str):
        since = SINCE.get(command, VERSIONS[0])
        if at_least(wanted, since):
            return wanted
        raise Refused(Code.VERSION, f"cniVersion: {wanted} has no {command}; it came with {since}")
    written = "is missing, which means 0.1.0" if wanted is None else f"is {str(wanted)[:40]!r}"
    raise Refused(Code.VERSION, f"cniVersion: {written}; supported: {', '.join(VERSIONS)}")


def decode(found: dict[str, Any]) -> Config:
    """``tree`` as a checked configuration."""
    version(found)
    for path, known in ((), Config), (("ipam",), Ipam), (("runtimeConfig",), Runtime):
        part = found.get(path[0], {}) if path else found
        if isinstance(part, dict):
            _refuse_unknown(part, known, path[0] if path else "")
    try:
        config = codec.from_tree(_written_by_go(found), Config)
    except Invalid as problem:
        raise Refused(Code.CONFIG, str(problem)) from None
    except RecursionError:
        raise Refused(Code.DECODE, "the network configuration is nested too deeply") from None
    if not _NAME.fullmatch(config.name):
        raise Refused(
            Code.CONFIG, f"name: {config.name[:80]!r} must begin with a letter or digit, then letters, digits, '_', '.', '-'"
        )
    if config.ipam.type not in _DELEGATES:
        raise Refused(
            Code.UNSUPPORTED_FIELD,
            f'ipam.type: "{config.ipam.type[:80]}" is not supported: Fairlead gives the addresses itself',
            "leave ipam out, or use type host-local or fairlead-ipam",
        )
    return config


def valid_attachments(found: Mapping[str, Any]) -> set[tuple[str, str]]:
    """What GC must leave alone; to guess that it is nothing would take everything."""
    for key in _VALID:
        if key in found:
            try:
                given = codec.from_tree(found[key], tuple[Attachment, ...], field=key)
            except Invalid as problem:
                raise Refused(Code.CONFIG, str(problem)) from None
            return {(str(one.container), str(one.interface)) for one in given}
    raise Refused(Code.CONFIG, "cni.dev/valid-attachments: missing: without it nobody can tell what is still in use")


def present(value: Any) -> Any:
    """``value`` without nulls, at every depth."""
    if isinstance(value, dict):
        return {key: present(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [present(inner) for inner in value]
    return value


def _written_by_go(found: Mapping[str, Any]) -> Mapping[str, Any]:
    runtime = found.get("runtimeConfig")
    if not isinstance(runtime, dict):
        return found
    return {**found, "runtimeConfig": {key: _uncapitalized(value) if key in _GO else value for key, value in runtime.items()}}


def _uncapitalized(value: Any) -> Any:
    """``value`` with the keys of CNI where Go wrote the names of its fields: HostPort. Go itself reads either."""
    if isinstance(value, dict):
        return {key[:1].lower() + key[1:]: _uncapitalized(inner) for key, inner in value.items() if inner != ""}
    if isinstance(value, list):
        return [_uncapitalized(inner) for inner in value]
    return value


def _burst(asked: int) -> int:
    return 0 if asked >= _UNSAID_BURST else asked


def _refuse_unknown(part: Mapping[str, Any], known: type[Part], path: str) -> None:
    """Raise for the first key that nobody would act on, so that a misspelt ``internal`` does not open a network."""
    names = set(known.__struct_encode_fields__)
    for key, value in part.items():
        if key in names or not value or key in _IGNORED[path] or key.startswith(("cni.dev/", "_")):
            continue
        text = msgspec.json.encode(value).decode()
        field = f"{path}.{key}" if path else key
        raise Refused(
            Code.UNSUPPORTED_FIELD,
            f"{field[:200]}: {text[:200]} is not supported",
            f"known: {', '.join(sorted(names - _IGNORED[path]))}",
        )
