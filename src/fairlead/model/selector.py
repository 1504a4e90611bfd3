"""Label selectors, as Kubernetes has them (meta/v1 LabelSelector): which labels are meant.

An empty selector means every object; no selector at all means whatever the field that lacks it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from .meta import Value, check_label


class Operator(StrEnum):
    """How a requirement compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Requirement(Value, frozen=True, kw_only=True):
    """One of ``matchExpressions``. ``NotIn`` is also true of what lacks the key."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, value in (("key", ""), *((f"values[{at}]", value) for at, value in enumerate(self.values))):
            try:
                check_label(self.key, value)
            except ValueError as problem:
                raise ValueError(f"{field}: {problem}") from None
        listed = self.operator in {Operator.IN, Operator.NOT_IN}
        if listed and not self.values:
            raise ValueError(f"values: {self.operator} needs at least one value")
        if not listed and self.values:
            raise ValueError(f"values: {self.operator} takes no values")

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether ``labels`` meet the requirement."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels


class Selector(Value, frozen=True, kw_only=True):
    """``matchLabels`` and ``matchExpressions``, all of which must hold."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()

    def __post_init__(self) -> None:
        for key, value in self.match_labels.items():
            try:
                check_label(key, value)
            except ValueError as problem:
                raise ValueError(f"matchLabels: {problem}") from None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether ``labels`` are meant."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            one.matches(labels) for one in self.match_expressions
        )
