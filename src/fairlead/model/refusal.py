"""Why an input is refused, in words for people: the field, what it holds, and what would be right.

msgspec says ``Expected `int | null`, got `str` - at `$.spec.mtu```. ``refusal`` turns that into ``Invalid`` with the field
``spec.mtu`` and the message "expected a whole number, not a string", and looks up in the type which fields or values there
would have been. msgspec's own words end here.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import inspect

from .errors import Invalid

_AT = re.compile(r" - at (?P<key>`key` in )?`\$\.?(?P<path>.*)`$")
_INNER = re.compile(r"([A-Za-z][A-Za-z0-9]*(?:\[\d+\])?(?:\.[A-Za-z0-9]+(?:\[\d+\])?)*): ")
_EXPECTED = re.compile(r"Expected `([^`]+)`(?:, got `(.+)`)?")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_ABSENT = re.compile(r"Object missing required field `(.*)`")
_PARTS = re.compile(r"[^.\[\]]+|\[[^]]*\]")
_CHOICE = re.compile(r"Invalid (?:enum )?value (.*)")

_JSON: dict[type, str] = {dict: "object", list: "array", type(None): "null"}
_WORDS = {
    "int": "a whole number",
    "float": "a number with a fraction",
    "str": "a string",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


def refusal(problem: msgspec.ValidationError, field: str = "", to: Any = None, tree: Any = None) -> Invalid:
    """A validation error as ``Invalid``. The path at its end becomes the field; ``to`` tells what would have been right.

    ``tree`` is what was read: msgspec does not say which key of a mapping it means.
    """
    text, path = str(problem), ""
    if found := _AT.search(text):
        path, text = found["path"], ("a key: " if found["key"] else "") + text[: found.start()]
    if found := _UNKNOWN.fullmatch(text):
        there = _fields(_type_at(to, path))
        path, text = join(path, found[1][:80]), "there is no such field" + (f"; there are {', '.join(there)}" if there else "")
    elif found := _ABSENT.fullmatch(text):
        path, text = join(path, found[1]), "is required"
    elif found := _CHOICE.fullmatch(text):
        choices = _choices(_type_at(to, path))
        text = f"{found[1][:80]} is not " + (f"one of {', '.join(choices)}" if choices else "known")
    elif found := _EXPECTED.search(text):
        bound = text[found.end() :] if text[found.end() :].startswith((" <", " >", " of length")) else ""
        text = f"{text[: found.start()]}expected {_words(found[1])}{bound}" + (f", not {_words(found[2])}" if found[2] else "")
        path = _keyed(path, tree, found[2] or "")
    elif "[...]" in path:
        path = _keyed(path, tree)
    elif found := _INNER.match(text):
        path, text = join(path, found[1]), text[found.end() :]
    return Invalid(text, field=join(field, path))


def _keyed(path: str, tree: Any, got: str = "") -> str:
    """The path with a mapping's key in place of msgspec's ``[...]``: the only one, or one that has a ``got``."""
    before, some, after = path.partition("[...]")
    there = _at(tree, before)
    if not some or not isinstance(there, dict):
        return path
    guilty = [key for key, value in there.items() if len(there) == 1 or spelt(_at(value, after)) == got]
    culprit = guilty[0] if guilty else None
    return path if culprit is None else f"{join(before, str(culprit)[:80])}{after}"


def _at(tree: Any, path: str) -> Any:
    """What lies at ``path``; None if nothing does."""
    for part in _PARTS.findall(path):
        at = part.strip("[]")
        if isinstance(tree, dict):
            tree = tree.get(at)
        elif isinstance(tree, list) and at.isdigit() and int(at) < len(tree):
            tree = tree[int(at)]
        else:
            return None
    return tree


def join(*parts: str) -> str:
    """A path of the parts that are not empty."""
    return ".".join(part for part in parts if part)


def spelt(value: object) -> str:
    """The type of ``value`` as msgspec spells it: JSON's own word for it."""
    return _JSON.get(type(value), type(value).__name__)


def _words(types: str) -> str:
    """Types such as ``int | null`` as words; that something may be left out need not be said."""
    return " or ".join(_WORDS.get(one, one) for one in types.split(" | ") if one != "null" or types == "null")


def named(value: object) -> str:
    """What kind of thing ``value`` is, in words."""
    return _words(spelt(value))


def _type_at(to: Any, path: str) -> Any:
    """The type that the field at ``path`` has, as far as it can be followed."""
    found: Any = inspect.type_info(to) if to is not None else None
    for part in _PARTS.findall(path):
        found = _within(found, part)
    return _plain(found)


def _within(of: Any, part: str) -> Any:
    of = _plain(of)
    if part.startswith("["):
        return getattr(of, "item_type", None) or getattr(of, "value_type", None)
    return next((field.type for field in getattr(of, "fields", ()) if field.encode_name == part), None)


def _plain(of: Any) -> Any:
    """``X | None`` as X."""
    if isinstance(of, inspect.UnionType):
        return next((one for one in of.types if not isinstance(one, inspect.NoneType)), None)
    return of


def _fields(of: Any) -> list[str]:
    return [field.encode_name for field in getattr(of, "fields", ())]


def _choices(of: Any) -> list[str]:
    if isinstance(of, inspect.EnumType):
        return [str(one.value) for one in of.cls]
    return [str(one) for one in getattr(of, "values", ())]
