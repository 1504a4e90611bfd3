"""Who is who: the classes of peers that the kernel knows now, by number, as the book has them that it was written from."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.api.identities import Holder, Identity
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Invalid, Missing
from fairlead.model.namespace import DEFAULT
from fairlead.policy.book import Book
from fairlead.policy.peers import Known
from fairlead.policy.ports import NAMES

from .explain import Town, addresses, known_by, party


def identities(book: Book, town: Town, query: Mapping[str, str]) -> list[Identity]:
    """All of them by number, or of ``who``, a container, an address or host, his: one for each of his addresses."""
    for word in query:
        if word != "who":
            raise Invalid("there is no such word; there is: who", field=word[:40])
    if "who" not in query:
        return [_told(one, book) for one in book.known()]
    who = party(town, query["who"], "who")
    if isinstance(who, Endpoint) and not who.spec.addresses and town.shares(who):
        who = town.here
    wanted = {book.peer(one) for one in addresses(who)}
    if not wanted:
        raise Invalid(f"{query['who'][:80]} has no address of its own", field="who")
    found = [_told(one, book) for one in book.known() if one.number in wanted]
    if not found:
        raise Missing(f"no policy in force says anything by which {query['who'][:80]} is told from others", field="who")
    return found


def _told(one: Known, book: Book) -> Identity:
    face = one.face
    return Identity(
        number=known_by(one.number),
        kind=_kind(one),
        namespace=face.namespace,
        labels=dict(face.labels),
        namespace_labels=dict(face.around),
        node_labels=dict(face.node or {}),
        ports={name: str(port) for name, port in face.ports.items()},
        cidrs=tuple(sorted(face.blocks)),
        fronts=tuple(f"{NAMES.get(protocol, protocol)}/{port}" for protocol, port in face.front),
        addresses=one.addresses,
        containers=tuple(sorted({_name(book.endpoints[name]) for name in one.endpoints})),
    )


def _kind(one: Known) -> Holder:
    face = one.face
    if face.namespace:
        return Holder.CONTAINER
    if face.front:
        return Holder.SERVICE
    if face.node is not None:
        return Holder.NODE
    return Holder.CIDR if face.blocks else Holder.OUTSIDE


def _name(endpoint: Endpoint) -> str:
    return f"{endpoint.metadata.namespace or DEFAULT}/{endpoint.display}"
