"""What the plugin does for each command of the specification, through the agent's door. ``serve`` never raises.

The order of checks is the specification's: environment, JSON, version, configuration, and only then the agent is asked.
A DEL asks nothing of the configuration: what is gone must be able to go, however wrong the configuration has become.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from fairlead.api.door import Door
from fairlead.api.schema import Attach, Detach
from fairlead.kit import fault
from fairlead.model.address import ContainerID, InterfaceName
from fairlead.model.errors import Missing, Problem
from fairlead.model.network import Network
from fairlead.model.pod import Pod

from . import config as netconf
from . import inline, ipam, pending, pod, result, translate
from .call import Call, from_headers
from .config import Config
from .spec import VERSIONS, Code, Refused, versions

DEFAULT_NETWORK = "default"

log = logging.getLogger(__name__)


async def answer(door: Door, headers: Mapping[str, str], stdin: bytes) -> tuple[int, bytes]:
    """A POST /cni: HTTP status (200 is success, 422 a CNI error) and body."""
    status, body = await serve(door, from_headers(headers), stdin)
    return (422 if status else 200), body


async def serve(door: Door, environment: Mapping[str, str], stdin: bytes) -> tuple[int, bytes]:
    """One execution of the plugin: exit status and stdout. Whatever comes in, what goes out is CNI's."""
    try:
        return 0, await _run(door, environment, stdin)
    except Refused as refused:
        return 1, refused.encode(_spoken(stdin))


async def finish_pending(door: Door, folder: Path) -> int:
    """Execute the DELs that the client remembered in ``folder``; how many were finished.

    To be called after the agent has begun to listen: a client that found it absent asks once more after writing its file,
    so that no DEL falls between the two. What fails for now stays for the next time.
    """
    done = 0
    for path in pending.files(folder):
        done += await _finish(door, path)
    return done


async def _run(door: Door, environment: Mapping[str, str], stdin: bytes) -> bytes:
    """The plugin's output; every failure is a ``Refused``."""
    try:
        call = Call.of(environment)
        if call.command == "DEL" and not door.loaded:
            pending.write(environment, stdin)  # as the client does while there is no agent
            return b""
        return await _obey(door, call, stdin)
    except Problem as problem:
        raise Refused.of(problem) from None
    except Refused:
        raise
    except Exception:
        log.exception("CNI %r failed", environment.get("CNI_COMMAND", ""))
        raise Refused(Code.INTERNAL, "internal error", "the agent's log has the rest") from None


async def _obey(door: Door, call: Call, stdin: bytes) -> bytes:
    if call.command == "VERSION":
        return versions(_spoken(stdin))
    if call.command == "ADD":
        await _finish_before(door, call)
    if call.ipam:
        return await ipam.serve(call, stdin)
    if call.command == "DEL":
        return await _delete(door, call)
    found = netconf.tree(stdin)
    netconf.version(found, call.command)
    config = netconf.decode(found)
    if call.command == "ADD":
        return await _add(door, call, config)
    if call.command == "CHECK":
        return await _check(door, call, config)
    if call.command == "GC":
        return await _collect(door, config, netconf.valid_attachments(found))
    return await _status(door, config)


async def _add(door: Door, call: Call, config: Config) -> bytes:
    previous = None if config.prev_result is None else result.read(config.prev_result)
    chained = translate.is_chained(call, previous)
    about = await door.pod(call.extra.namespace, call.extra.name, call.extra.uid) if call.extra.name else None
    if about and (wanted := pod.network(about)):
        config = replace(config, network=wanted)
    network, exists = _network(door, config, chained=chained)
    if not call.override and _is_own_namespace(call.netns):
        raise Refused(Code.ENVIRONMENT, f"CNI_NETNS: {call.netns} is the host's own network namespace")
    bridges = _bridges(previous) if previous else frozenset()
    request = translate.attach(call, config, network.name, previous if chained else None, bridges)
    if not exists:
        await door.apply(network)
    if about:
        request = pod.dressed(request, about, network)
    attached = await door.attach(request)
    if about and not chained:
        await _add_beside(door, about, request)
    if chained and config.prev_result is not None:
        return result.passed(config.prev_result, config.cni_version)
    return result.write(translate.result(call, attached), config.cni_version)


async def _add_beside(door: Door, about: Pod, request: Attach) -> None:
    """The further networks that a pod asks for, all or none. Those that are no Networks are for another plugin to give."""
    try:
        for chosen in pod.beside(about):
            if door.network(chosen.name) is None:
                log.info("%s asks for %s, which is no Network", request.display, chosen.name)
                continue
            await door.attach(pod.further(request, chosen))
    except Problem:
        await door.detach(Detach(container=request.container, wait=False))
        raise


async def _delete(door: Door, call: Call) -> bytes:
    try:
        await door.detach(Detach(container=ContainerID(call.container), interface=InterfaceName(call.interface), wait=False))
    except Missing:
        log.debug("DEL of %s:%s: nothing was there", call.container, call.interface)
    return b""


async def _check(door: Door, call: Call, config: Config) -> bytes:
    if config.prev_result is None:
        raise Refused(Code.CONFIG, "prevResult: missing, and CHECK needs it")
    attached, drift = await door.check(call.container, call.interface)
    if attached is None:
        raise Refused(Code.UNKNOWN_CONTAINER, f"container {call.container} has no interface {call.interface} here")
    network = door.network(attached.endpoint.spec.network)
    found = translate.differences(result.read(config.prev_result), attached, network)
    found += [f"{one.table} {one.key} is {one.kind}" + (f": {one.have} for {one.want}" if one.want else "") for one in drift]
    if found:
        raise Refused(Code.DIFFERENT, f"{call.interface} of container {call.container}: {found[0]}", "; ".join(found))
    return b""


async def _collect(door: Door, config: Config, valid: set[tuple[str, str]]) -> bytes:
    network, exists = _network(door, config)
    if not exists:
        return b""
    await door.collect(network.name, translate.OWNER, valid, {translate.CONFIG_LABEL: translate.tag(config.name)})
    return b""


async def _status(door: Door, config: Config) -> bytes:
    status = door.status()
    if not status.ready:
        raise Refused(Code.NOT_AVAILABLE, f"the agent is not ready: {status.reason or 'no reason given'}")
    try:
        network, _exists = _network(door, config)
    except Refused as refused:
        raise Refused(Code.NOT_AVAILABLE, refused.message, refused.details) from None
    pools = [pool for pool in status.pools if pool.network == network.name]
    for family in {":" in pool.cidr for pool in pools}:
        same = [pool for pool in pools if (":" in pool.cidr) is family]
        if not any(pool.left for pool in same):
            shown = ", ".join(f"{pool.cidr} ({pool.used + pool.elsewhere} of {pool.size})" for pool in same)
            raise Refused(Code.NOT_AVAILABLE, f"network {network.name} has no address left: {shown}")
    return b""


def _spoken(stdin: bytes) -> str:
    """The version to answer in: the configuration's if it is spoken here, else the newest."""
    try:
        return netconf.version(netconf.tree(stdin))
    except Refused:
        return VERSIONS[-1]


def _network(door: Door, config: Config, *, chained: bool = False) -> tuple[Network, bool]:
    """The network that the configuration means, and whether it exists; if not, it is one that is defined inline."""
    wanted = config.network or config.name
    found = door.network(wanted)
    if found is None and not chained and (made := inline.definition(config, wanted)):
        return made, False
    if found is None and not config.network:
        found = door.network(DEFAULT_NETWORK)
    if found is None:
        raise Refused(
            Code.CONFIG,
            f"network: there is no network {config.network or DEFAULT_NETWORK!r}",
            "create it with `fairlead network create`, or define it in the configuration with ipam.subnet",
        )
    if not chained and (wrong := inline.disagreements(config, found)):
        raise Refused(Code.CONFIG, wrong[0], "; ".join([*wrong[1:], "change the configuration or the network"]))
    return found, True


def _is_own_namespace(path: str) -> bool:
    """Whether ``path`` is the namespace that the agent runs in. What is no namespace at all is the agent's to refuse."""
    try:
        return Path(path).samefile("/proc/self/ns/net")
    except (OSError, ValueError):
        return False


def _bridges(previous: result.Result) -> frozenset[str]:
    """Which of the host's interfaces in ``previous`` are bridges, as sysfs says."""
    outside = {device.name for device in previous.interfaces if not device.sandbox and "/" not in device.name}
    return frozenset(name for name in outside if Path("/sys/class/net", name, "bridge").is_dir())


_running: dict[Path, asyncio.Task[bool]] = {}
"""Remembered DELs being executed. An ADD that finds its container's here waits for it: the two must not cross."""


async def _finish_before(door: Door, call: Call) -> None:
    """Finish what was remembered of this attachment, so that an old DEL cannot take away what the ADD makes."""
    for path in list(pending.files(pending.directory(), call.container, call.interface)):
        if not await _finish(door, path) and path.exists():
            raise Refused(Code.TRY_LATER, f"an earlier DEL of container {call.container} is not finished yet")


async def _finish(door: Door, path: Path) -> bool:
    """Execute one remembered DEL, once however many ask at the same time; whether it is finished."""
    task = _running.get(path)
    if task is None:
        task = _running[path] = asyncio.create_task(_execute(door, path))
        task.add_done_callback(lambda _: _running.pop(path, None))
    return await asyncio.shield(task)


_HOPELESS = frozenset({Code.VERSION, Code.UNSUPPORTED_FIELD, Code.ENVIRONMENT, Code.DECODE, Code.CONFIG})
"""Refusals that no second attempt would change."""


async def _execute(door: Door, path: Path) -> bool:
    try:
        request = pending.read(path)
        if request is None or request[0].get("CNI_COMMAND") != "DEL":
            log.warning("%r is not a remembered DEL; removed", path.name)
            pending.remove(path)
            return False
        await _run(door, *request)
    except Refused as refused:
        log.warning("the remembered DEL %r failed: %s", path.name, refused.message)
        if refused.code not in _HOPELESS:
            return False
    except OSError as problem:
        log.warning("the remembered DEL %r cannot be read: %s", path.name, problem)
        return False
    fault.point("pending.executed")
    pending.remove(path)
    return True
