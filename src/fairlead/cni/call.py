"""One call of the plugin: what the runtime put in the environment, checked.

The client sends the environment as HTTP headers (``HEADERS``); ``from_headers`` is the way back. Which variables a command
needs is the specification's, section 2; an error names every variable that is missing or wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fairlead.model.address import ContainerID, InterfaceName

from .spec import Code, Refused

HEADERS = {
    "CNI_COMMAND": "x-cni-command",
    "CNI_CONTAINERID": "x-cni-containerid",
    "CNI_NETNS": "x-cni-netns",
    "CNI_IFNAME": "x-cni-ifname",
    "CNI_ARGS": "x-cni-args",
    "CNI_PATH": "x-cni-path",
    "CNI_NETNS_OVERRIDE": "x-cni-netns-override",
    "CNI_PLUGIN": "x-cni-plugin",
}
"""Environment variable → header. CNI_PLUGIN is not a runtime's: the client says under which name it was executed."""

IPAM = "fairlead-ipam"

NEEDS: Mapping[str, tuple[str, ...]] = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "GC": (),
    "STATUS": (),
    "VERSION": (),
}
"""Every command there is, and the variables that it cannot do without."""

_LONGEST_PATH = 4096


class Extra(msgspec.Struct, frozen=True, kw_only=True):
    """What CNI_ARGS may say, as the runtimes of today use it."""

    ip: str = ""
    mac: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


_EXTRAS = {
    "IP": "ip",
    "MAC": "mac",
    "K8S_POD_NAMESPACE": "namespace",
    "K8S_POD_NAME": "name",
    "K8S_POD_UID": "uid",
    "K8S_POD_INFRA_CONTAINER_ID": "",
    "IgnoreUnknown": "",
}
"""Known keys of CNI_ARGS. The infra container's id is the container id itself, which is known anyway."""

_TRUTH = {"1": True, "true": True, "0": False, "false": False}


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A command and what it is about. ``container`` and ``interface`` are empty where the command has no use for them."""

    command: str
    ipam: bool = False
    container: str = ""
    netns: str = ""
    interface: str = ""
    extra: Extra = Extra()
    override: bool = False
    """CNI_NETNS_OVERRIDE: the runtime knows that the namespace is the agent's own, and means it."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Call:
        """Check ``environment`` and read it; raise ``Refused`` that names each variable that is wrong."""
        command = environment.get("CNI_COMMAND", "")
        if command not in NEEDS:
            known = ", ".join(NEEDS)
            raise Refused(Code.ENVIRONMENT, f"CNI_COMMAND: {command[:80]!r} is not a command; known: {known}")
        if missing := [name for name in NEEDS[command] if not environment.get(name)]:
            raise Refused(Code.ENVIRONMENT, f"{', '.join(missing)}: not set, and {command} needs it")
        if wrong := [problem for name in NEEDS[command] if (problem := _wrong(name, environment[name]))]:
            raise Refused(Code.ENVIRONMENT, "; ".join(wrong))
        return cls(
            command=command,
            ipam=environment.get("CNI_PLUGIN") == IPAM,
            container=environment.get("CNI_CONTAINERID", ""),
            netns=environment.get("CNI_NETNS", ""),
            interface=environment.get("CNI_IFNAME", ""),
            extra=_extra(environment.get("CNI_ARGS", "")) if command in {"ADD", "CHECK"} else Extra(),
            override=_TRUTH.get(environment.get("CNI_NETNS_OVERRIDE", "").lower(), False),
        )


def from_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The environment that the client sent as ``headers``."""
    found = {name.lower(): value for name, value in headers.items()}
    return {variable: found[header] for variable, header in HEADERS.items() if header in found}


def _wrong(name: str, value: str) -> str:
    """What is wrong with a variable, or nothing."""
    try:
        if name == "CNI_CONTAINERID":
            ContainerID(value)
        elif name == "CNI_IFNAME":
            InterfaceName(value)
        elif not value.startswith("/") or len(value) > _LONGEST_PATH or "\0" in value or not _is_text(value):
            return f"{name}: {value[:80]!r} is not an absolute path to a network namespace"
    except ValueError as problem:
        return f"{name}: {problem}"
    return ""


def _is_text(value: str) -> bool:
    """Whether ``value`` was UTF-8: other bytes of a header arrive as lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _extra(text: str) -> Extra:
    """CNI_ARGS, ``KEY=value`` separated by semicolons. Unknown keys are refused unless ``IgnoreUnknown`` is true."""
    if not _is_text(text):
        raise Refused(Code.ENVIRONMENT, "CNI_ARGS: not UTF-8")
    pairs = dict[str, str]()
    for pair in filter(None, text.split(";")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise Refused(Code.ENVIRONMENT, f"CNI_ARGS: {pair[:80]!r} is not KEY=value")
        pairs[key] = value
    lenient = _TRUTH.get(pairs.get("IgnoreUnknown", "0").lower())
    if lenient is None:
        raise Refused(Code.ENVIRONMENT, f"CNI_ARGS: IgnoreUnknown: {pairs['IgnoreUnknown'][:80]!r} is neither 1 nor 0")
    unknown = [key[:80] for key in pairs if key not in _EXTRAS]
    if unknown and not lenient:
        raise Refused(
            Code.ENVIRONMENT,
            f"CNI_ARGS: {', '.join(unknown)}: not known",
            f"known: {', '.join(_EXTRAS)}; or add IgnoreUnknown=1",
        )
    return Extra(**{_EXTRAS[key]: value for key, value in pairs.items() if _EXTRAS.get(key)})
