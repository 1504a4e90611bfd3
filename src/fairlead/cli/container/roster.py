"""Every container there is: this runtime's records joined with the agent's endpoints, whoever asked for those. Pure.

Records and endpoints are joined by the container's id. What has endpoints but no record belongs to another runtime, or was
attached by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fairlead.cli.fault import remedy
from fairlead.model.address import Interface, InterfaceName, Mac
from fairlead.model.endpoint import Endpoint, PublishedPort
from fairlead.model.errors import Conflict, Missing
from fairlead.model.meta import Value

from .record import Record


class Attachment(Value, frozen=True, kw_only=True):
    """One network of a container."""

    network: str
    interface: InterfaceName | None = None
    addresses: tuple[Interface, ...] = ()
    mac: Mac | None = None
    ports: tuple[PublishedPort, ...] = ()


class Container(Value, frozen=True, kw_only=True):
    """One container as people see it. ``state``: starting, running, exited, attached (a namespace), gone (it has ended)."""

    name: str
    id: str
    owner: str
    state: str
    exit_code: int | None = None
    pid: int = 0
    command: tuple[str, ...] = ()
    created: str = ""
    finished: str = ""
    hostname: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    sandbox: str = ""
    networks: tuple[Attachment, ...] = ()
    problem: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs."""
        return self.state == "exited"


def roster(records: Iterable[Record], endpoints: Iterable[Endpoint], exists: Callable[[str], bool]) -> list[Container]:
    """All containers, by name. ``exists`` tells whether a namespace's path is there."""
    attached: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        attached.setdefault(endpoint.container, []).append(endpoint)
    own = [_own(record, attached.pop(record.id, [])) for record in records]
    others = [_other(found, exists) for found in attached.values()]
    return sorted([*own, *others], key=lambda one: (one.name, one.id))


def find(containers: Sequence[Container], word: str) -> Container:
    """The container with this name or id, or whose id begins with ``word``."""
    found = [one for one in containers if one.name == word] or [one for one in containers if one.id == word]
    if not found and len(word) >= 3:
        found = [one for one in containers if one.id.startswith(word)]
    if len(found) > 1:
        which = ", ".join(f"{one.name} ({one.id})" for one in found)
        raise Conflict(f"{word!r} means several containers: {which}; write an id", field="name")
    if not found:
        known = ", ".join(one.name for one in containers[:10]) or "none"
        more = f" and {len(containers) - 10} more" if len(containers) > 10 else ""
        raise remedy(Missing(f"there is no container {word!r}; there are: {known}{more}", field="name"), "fairlead ps -a")
    return found[0]


def _own(record: Record, endpoints: Sequence[Endpoint]) -> Container:
    state = "running" if record.running else "starting" if record.starting else "exited"
    return Container(
        name=record.name,
        id=record.id,
        owner="cli",
        state=state,
        exit_code=record.exit_code,
        pid=record.process.pid if record.process and state == "running" else 0,
        command=record.command,
        created=record.created,
        finished=record.finished,
        hostname=record.hostname,
        namespace=record.namespace,
        labels=endpoints[0].metadata.labels if endpoints else record.labels,
        sandbox=record.sandbox,
        networks=_attachments(endpoints) or tuple(Attachment(network=name) for name in record.networks),
        problem=record.problem,
    )


def _other(endpoints: Sequence[Endpoint], exists: Callable[[str], bool]) -> Container:
    first = endpoints[0]
    path = first.spec.sandbox.path
    return Container(
        name=first.display,
        id=first.container,
        owner=first.spec.owner,
        state="attached" if exists(path) else "gone",
        pid=_pid(path),
        created=min(one.metadata.creation_timestamp for one in endpoints),
        namespace=first.metadata.namespace,
        labels=first.metadata.labels,
        sandbox=path,
        networks=_attachments(endpoints),
    )


def _attachments(endpoints: Iterable[Endpoint]) -> tuple[Attachment, ...]:
    return tuple(
        Attachment(
            network=one.spec.network,
            interface=one.spec.interface,
            addresses=one.spec.addresses,
            mac=one.spec.mac,
            ports=one.spec.ports,
        )
        for one in sorted(endpoints, key=lambda one: (len(one.spec.interface), one.spec.interface))
    )


def _pid(path: str) -> int:
    """The process whose namespace a path names, if it names one."""
    parts = path.split("/")
    return int(parts[2]) if path.startswith("/proc/") and len(parts) > 2 and parts[2].isdecimal() else 0
