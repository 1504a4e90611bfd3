"""How much a request may ask for, and which text it may hold: said before anything is looked up, for every edge alike.

The types of ``Attach`` check what ends in the kernel (names of interfaces, addresses, routes). What is left is text that people
and logs read, and lists: each entry costs a rule, a route or a line, so that there must be an end of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sized

from fairlead.api.schema import Attach, Change
from fairlead.model.address import Name
from fairlead.model.endpoint import PublishedPort
from fairlead.model.errors import Invalid
from fairlead.model.meta import check_label

PORTS = 65535
"""Host ports of one endpoint, all its publications together."""

_LONGEST_PATH = 4096
_LONGEST_DISPLAY = 253
_MOST = {"addresses": 2, "ports": 1024, "routes": 256, "aliases": 256, "ranges": 64, "labels": 256, "named_ports": 256}
_MOST_DNS = 64
_OWN = "fairlead.dev/"
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")


def refuse_unbounded(request: Attach) -> None:
    """Raise ``Invalid`` that names the field which asks for too much, or holds what it must not."""
    for field, given, most in _counts(request):
        if len(given) > most:
            raise Invalid(f"{len(given)} entries; at most {most}", field=field)
    _refuse_ports(request.ports)
    if request.path or not request.handover:
        _refuse_path(request.path)
    _refuse_display(request.display)
    for alias in request.aliases:
        if not _ALIAS.fullmatch(alias):
            raise Invalid(f"{alias[:80]!r} is not a name: letters, digits, '_', '.', '-'", field="aliases")
    for field, problem in _wrong(request):
        raise Invalid(problem, field=field)


def refuse_unbounded_change(request: Change) -> None:
    """The same of a change; an empty path says that the container is not known, or no more."""
    ports = (*(request.ports or ()), *request.any_ports)
    if len(ports) > _MOST["ports"]:
        raise Invalid(f"{len(ports)} entries; at most {_MOST['ports']}", field="ports")
    _refuse_ports(request.ports or ())
    if request.path:
        _refuse_path(request.path)
    _refuse_display(request.display or "")
    if len(request.labels) > _MOST["labels"]:
        raise Invalid(f"{len(request.labels)} entries; at most {_MOST['labels']}", field="labels")
    for key, value in request.labels.items():
        if key.startswith(_OWN):
            raise Invalid(f"{key[:80]} is Fairlead's own, and stays as it is", field="labels")
        try:
            check_label(key, value or "")
        except ValueError as problem:
            raise Invalid(str(problem), field="labels") from None


def _refuse_ports(given: Iterable[PublishedPort]) -> None:
    if (ports := sum(port.count for port in given)) > PORTS:
        raise Invalid(f"{ports} host ports in all; at most {PORTS}", field="ports")


def _refuse_path(path: str) -> None:
    if not path.startswith("/") or len(path) > _LONGEST_PATH or not path.isprintable():
        raise Invalid(f"{path[:80]!r} is not an absolute path to a network namespace", field="path")


def _refuse_display(display: str) -> None:
    if len(display) > _LONGEST_DISPLAY or not display.isprintable():
        raise Invalid(f"{display[:80]!r} must have at most {_LONGEST_DISPLAY} printable characters", field="display")


def _counts(request: Attach) -> Iterator[tuple[str, Sized, int]]:
    for field, most in _MOST.items():
        yield field, getattr(request, field), most
    for field in ("nameservers", "search", "options"):
        yield f"dns.{field}", getattr(request.dns, field), _MOST_DNS


def _wrong(request: Attach) -> Iterator[tuple[str, str]]:
    """What the model's own checks say of text that the request holds as it is."""
    for field in ("owner", "namespace"):
        try:
            Name(getattr(request, field))
        except ValueError as problem:
            yield field, str(problem)
    for key, value in request.labels.items():
        try:
            check_label(key, value)
        except ValueError as problem:
            yield "labels", str(problem)
