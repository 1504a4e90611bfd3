"""Who is behind a service that a question about policies names: each of them is asked about.

Policies speak of containers, never of services, and whoever forwards may lead a connection to any backend that is ready.
Where that is somebody beside us (kube-proxy), a connection begins with the address of the service, and egress is judged by
that: so the address itself is asked about too, and must be let through as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fairlead.api.schema import Backend, Explained, Explaining
from fairlead.model.address import Address, Family
from fairlead.model.errors import Invalid, Missing
from fairlead.model.namespace import DEFAULT
from fairlead.model.service import Service, ServicePort, ServiceType
from fairlead.service.directory import Backend as Behind
from fairlead.service.directory import Directory

SERVICE = "svc:"
"""Before the name of a service, or its namespace and name."""
_MOST = 256
"""Backends that are explained."""

Explain = Callable[[Mapping[str, str]], Awaitable[Explained]]


def behind(directory: Directory, query: Mapping[str, str], explain: Explain) -> Awaitable[Explained] | None:
    """The answer where ``to`` is a service or an address of one; None where it is not. ``explain`` answers for one backend."""
    if query.get("from", "").startswith(SERVICE):
        raise Invalid("a service opens no connections: name a container", field="from")
    word = query.get("to", "")
    service = _named(directory, word.removeprefix(SERVICE)) if word.startswith(SERVICE) else directory.at(word)
    return None if service is None else _explained(directory, service, query, explain)


async def _explained(directory: Directory, service: Service, query: Mapping[str, str], explain: Explain) -> Explained:
    title = "/".join(service.key)
    if service.spec.type is ServiceType.NAME:
        raise Invalid(f"service {title} is another name of {service.spec.external_name}; ask about that", field="to")
    port = _port(service, query.get("port", ""), query.get("protocol", ""))
    found = directory.backends(service, port, _family(directory, service, query))
    backends = [await _one(query, port, each, explain) for each in found[:_MOST]]
    front = await _front(directory, service, query, port, explain)
    allowed = sum(one.told.allowed for one in backends)
    said = f"{port.protocol.lower()} port {port.port}"
    if front and not front.allowed:
        verdict = f"service {title}, {said}: denied by egress to its own address"
    elif not backends:
        verdict = f"service {title}, {said}: nobody behind it is ready"
    elif allowed == len(found):
        verdict = f"service {title}, {said}: allowed to each of {len(found)} behind it"
    else:
        verdict = f"service {title}, {said}: allowed to {allowed} of {len(found)} behind it"
    if len(found) > _MOST:
        verdict += f"; asked about {_MOST}"
    whole = bool(backends) and allowed == len(found) and (front is None or front.allowed)
    steps = (*(front.steps if front else ()), Explaining(text=verdict, allows=whole))
    return Explained(allowed=whole, steps=steps, kernel=front.kernel if front else (), backends=tuple(backends))


async def _front(
    directory: Directory, service: Service, query: Mapping[str, str], port: ServicePort, explain: Explain
) -> Explained | None:
    """What egress says of the address of the service; None of one that has none."""
    family = _family(directory, service, query)
    word = query.get("to", "")
    named = [one for one in service.cluster_addresses if one.family == family] if word.startswith(SERVICE) else [Address(word)]
    if not named:
        return None
    asked = {"from": query.get("from", ""), "to": named[0], "protocol": port.protocol.lower(), "port": str(port.port)}
    return await explain(asked)


async def _one(query: Mapping[str, str], port: ServicePort, one: Behind, explain: Explain) -> Backend:
    asked = {"from": query.get("from", ""), "to": one.address, "protocol": port.protocol.lower(), "port": str(one.port)}
    return Backend(address=one.address, port=one.port, node=one.node, told=await explain(asked))


def _family(directory: Directory, service: Service, query: Mapping[str, str]) -> Family:
    word = query.get("to", "")
    return directory.family(service) if word.startswith(SERVICE) else Address(word).family


def _named(directory: Directory, word: str) -> Service:
    namespace, _, name = word.rpartition("/")
    found = directory.services.get((namespace or DEFAULT, name))
    if found is None:
        raise Missing(f"there is no service {namespace or DEFAULT}/{name}"[:160], field="to")
    return found


def _port(service: Service, word: str, protocol: str) -> ServicePort:
    """The port that is asked about; of a service that has but one it need not be said."""
    ports, title = service.spec.ports, "/".join(service.key)
    known = ", ".join(f"{one.name}={one.word}" if one.name else one.word for one in ports) or "none"
    if not word and protocol.lower() in {"", *(one.protocol.lower() for one in ports)} and len(ports) == 1:
        return ports[0]
    if not word:
        raise Invalid(f"say which port of service {title}; there are: {known}", field="port")
    if (found := service.port(word, protocol)) is None:
        raise Missing(
            f"service {title} has no {protocol} port {word[:40]}; there are: {known}".replace("  ", " "), field="port"
        )
    return found
