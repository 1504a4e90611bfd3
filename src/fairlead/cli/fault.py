"""What a person sees when something is wrong: one ``Error:`` line, one ``Try:`` line, an exit status; never a traceback.

A place that knows the remedy attaches it with ``remedy``; for the rest the kind of problem says what to try.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO, TypeVar

from fairlead.model import errors

P = TypeVar("P", bound=BaseException)

_NOTE = "Try: "
_BY_KIND: dict[type[errors.Problem], str] = {
    errors.Conflict: "fairlead ps",
    errors.Exhausted: "fairlead status",
    errors.Failed: "fairlead doctor",
    errors.Forbidden: "sudo",
    errors.Unavailable: "fairlead status",
    errors.Unsupported: "",
}
_OPTIONS = (
    (re.compile(r"ports\b.*"), "publish"),
    (re.compile(r"addresses\b.*"), "ip"),
    (re.compile(r"spec\.subnets\b.*"), "subnet"),
    (re.compile(r"metadata\.name"), "name"),
)
"""What the fields of requests and objects are called where people wrote options instead."""

_NO_POLICY = re.compile(r"there is no ([a-z]+policy\b|policy\b)")
_REMEDY = re.compile(r"; (?:start it with|see why its pod does not run):? `?([^`]+?)`?$")
"""How messages end that say it themselves; that of an agent which is away is its own, see ``agent.remedy``."""


def remedy(problem: P, what: str) -> P:
    """Attach what to try next to a problem that is about to be raised."""
    problem.add_note(_NOTE + what)
    return problem


def explain(problem: errors.Problem, command: str) -> tuple[str, str]:
    """The message and what to try, each one line. ``command`` is what was run, such as ``fairlead run``."""
    if not command.endswith((" apply", " delete")):
        problem.field = next((option for field, option in _OPTIONS if field.fullmatch(problem.field)), problem.field)
    message = " ".join(str(problem).split())
    start = ""
    if found := _REMEDY.search(message):
        message, start = message[: found.start()], found[1]
    noted = [note.removeprefix(_NOTE) for note in getattr(problem, "__notes__", ()) if note.startswith(_NOTE)]
    if noted:
        return message, noted[0]
    if start:
        return message, start
    if isinstance(problem, errors.Missing) and (found := _NO_POLICY.search(message)):
        return message, f"fairlead get {'netpol' if found[1] == 'policy' else found[1]}"
    if isinstance(problem, errors.Missing | errors.Conflict) and "network" in message:
        return message, "fairlead network ls"
    return message, _BY_KIND.get(type(problem), f"{command} --help")


def tell(message: str, hint: str = "") -> None:
    """Print an error and its remedy to stderr."""
    print(f"{_paint('Error:', '1;31')} {_safe(message)}", file=sys.stderr)  # noqa: T201  # the one place for errors
    if hint:
        print(f"{_paint('Try:', '1')} {_safe(hint)}", file=sys.stderr)  # noqa: T201


def warn(message: str) -> None:
    """Print what a person should know although it worked."""
    print(f"{_paint('Warning:', '1;33')} {_safe(message)}", file=sys.stderr)  # noqa: T201


def note(message: str) -> None:
    """Print what a person may want to know, to stderr so that output stays clean."""
    print("\n".join(map(_safe, message.splitlines())), file=sys.stderr)  # noqa: T201


def coloured(stream: TextIO) -> bool:
    """Whether ``stream`` takes colour: a terminal, or FORCE_COLOR; NO_COLOR wins (no-color.org)."""
    if os.environ.get("NO_COLOR"):
        return False
    return stream.isatty() or bool(os.environ.get("FORCE_COLOR"))


def _paint(word: str, code: str) -> str:
    return f"\033[{code}m{word}\033[0m" if coloured(sys.stderr) else word


def _safe(text: str) -> str:
    """Without control characters: messages quote input that may be hostile to a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
