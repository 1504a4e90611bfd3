"""YAML streams to plain trees and back: what a person wrote, before anything knows what it means.

YAML is read as the data that JSON can hold. There are no aliases, no tags, no merge keys and no key twice; a scalar is a
boolean, a whole number or a number only in JSON's spelling, else a string, so that ``10:20`` and ``no`` stay what was
written. Size and depth are bounded before anything is built. It does not know the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

from .errors import Invalid

MAX_CHARACTERS = 4 << 20
MAX_DEPTH = 50

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]  # libyaml's where PyYAML was built with it, ten times as fast
    """Safe loading of JSON's data and nothing else."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value[:80]!r} is there twice", problem_mark=key.start_mark)
            seen.add(key.value)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


for _kind, _spelling, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"-?(0|[1-9][0-9]{0,18})", [*"-0123456789"]),
    ("float", r"-?(0|[1-9][0-9]{0,18})\.[0-9]{1,20}([eE][-+]?[0-9]{1,2})?", [*"-0123456789"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_spelling})\Z"), _first)


def load(text: str) -> list[Any]:
    """The documents of a stream that are not empty; raise ``Invalid`` that says where it is wrong."""
    if len(text) > MAX_CHARACTERS:
        raise Invalid(f"the file has {len(text)} characters; at most {MAX_CHARACTERS}")
    try:
        _check(text)
        return [tree for tree in yaml.load_all(text, Loader=_Loader) if tree is not None]
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise Invalid(f"not YAML: {where}{problem.problem}") from None
    except (yaml.YAMLError, UnicodeError) as problem:
        raise Invalid(f"not YAML: {str(problem).splitlines()[0]}") from None


def dump(trees: Iterable[Any]) -> str:
    """The trees as a stream that ``load`` reads back."""
    return yaml.safe_dump_all(trees, sort_keys=False, default_flow_style=False, allow_unicode=True)


def _check(text: str) -> None:
    """Refuse what could grow without bound or end in code, from the events alone: nothing is built yet."""
    depth = 0
    event: Any
    for event in yaml.parse(text, Loader=_Base):
        wrong = ""
        if isinstance(event, yaml.AliasEvent):
            wrong = "aliases are not taken: write the value again"
        elif getattr(event, "tag", None) is not None:
            wrong = f"tags such as {event.tag[:80]} are not taken"
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                wrong = f"more than {MAX_DEPTH} levels deep"
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if wrong:
            raise yaml.MarkedYAMLError(problem=wrong, problem_mark=event.start_mark)
