"""Reservation: what somebody outside Fairlead counts on, a network or one address of it, before or without an endpoint.

Docker asks for a container's address before it makes the endpoint, and takes an existing network for its own under an id
that only Docker knows; both must outlive the agent. A reserved network cannot go, a reserved address is given to nobody else
but the endpoint that comes in its holder's name.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from .address import Family, Interface, Name
from .meta import GROUP, Object, Value


class ReservationSpec(Value, frozen=True, kw_only=True):
    """Who counts on what. ``owner`` says which edge asked (``docker``), ``holder`` for whom, in that edge's own terms.

    Without ``address`` the network itself is meant. ``boot`` is set where the holder cannot outlive a reboot.
    """

    network: Name
    owner: str
    holder: str
    address: Interface | None = None
    boot: str = ""

    def __post_init__(self) -> None:
        for field, value in (("owner", self.owner), ("holder", self.holder)):
            if not value or len(value) > 128 or not value.isascii() or not value.isprintable() or "/" in value:
                raise ValueError(f"{field}: {value[:80]!r} is not 1 to 128 printable ASCII characters without '/'")


class Reservation(Object, frozen=True, kw_only=True, tag="Reservation"):
    """An address or a network that is spoken for. Its name is made by ``reservation_name``."""

    plural: ClassVar[str] = "reservations"

    api_version: Literal["fairlead.dev/v1"] = GROUP
    spec: ReservationSpec

    @property
    def display(self) -> str:
        """How people know it."""
        return f"{self.spec.owner} {self.spec.holder[:17]}"


def reservation_name(owner: str, holder: str, network: str, family: Family | None = None) -> str:
    """``docker:02:42:0a:58:00:05@blue:4``: one holder has one address of each family on a network."""
    return f"{owner}:{holder}@{network}" + (f":{family}" if family else "")
