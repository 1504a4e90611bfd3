"""Who is behind a service that a question about policies names: each of them is asked about.

Policies speak of containers, never of services, and whoever forwards may lead a connection to any backend that is ready. To
each it is judged as if it had been asked for, and where no rule of egress allows that, by the address of the service.
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
    service = _named(directory, word.removeprefix(SERVICE)) if word.startswith(SERVICE) else _leading(directory, word)
    return None if service is None else _explained(directory, service, query, explain)


async def _explained(directory: Directory, service: Service, query: Mapping[str, str], explain: Explain) -> Explained:
    title = "/".join(service.key)
    if service.spec.type is ServiceType.NAME:
        raise Invalid(f"service {title} is another name of {service.spec.external_name}; ask about that", field="to")
    port = _port(service, query.get("port", ""), query.get("protocol", ""))
    found = directory.backends(service, port, _family(directory, service, query))
    asked = {"from": query.get("from", ""), "protocol": port.protocol.lower(), **_front(directory, service, query, port)}
    backends = [await _one(asked, each, explain) for each in found[:_MOST]]
    allowed = sum(one.told.allowed for one in backends)
    said = f"{port.protocol.lower()} port {port.port}"
    if not backends:
        verdict = f"service {title}, {said}: nobody behind it is ready"
    elif allowed == len(found):
        verdict = f"service {title}, {said}: allowed to each of {len(found)} behind it"
    else:
        verdict = f"service {title}, {said}: allowed to {allowed} of {len(found)} behind it"
    if len(found) > _MOST:
        verdict += f"; asked about {_MOST}"
    whole = bool(backends) and allowed == len(found)
    return Explained(allowed=whole, steps=(Explaining(text=verdict, allows=whole),), backends=tuple(backends))


def _front(directory: Directory, service: Service, query: Mapping[str, str], port: ServicePort) -> dict[str, str]:
    """The address of the service that leads to those behind it, as a part of the question; nothing where none does."""
    family, word = _family(directory, service, query), query.get("to", "")
    named = [one for one in service.fronts if one.family == family and (word.startswith(SERVICE) or one == Address(word))]
    return {"front": str(named[0]), "front_port": str(port.port)} if named else {}


async def _one(asked: Mapping[str, str], one: Behind, explain: Explain) -> Backend:
    told = await explain({**asked, "to": one.address, "port": str(one.port)})
    return Backend(address=one.address, port=one.port, node=one.node, told=told)


def _family(directory: Directory, service: Service, query: Mapping[str, str]) -> Family:
    word = query.get("to", "")
    return directory.family(service) if word.startswith(SERVICE) else Address(word).family


def _leading(directory: Directory, word: str) -> Service | None:
    """The service that has an address from which a node leads on; whatever else is there is judged as any address."""
    found = directory.at(word)
    return found if found and word in found.fronts else None


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
