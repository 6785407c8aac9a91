"""A JSON Schema, compiled: a `Node` for each schema, a `Rule` for each keyword.

`check` answers yes or no and stops at the first no; `explain` names what is wrong and is asked for a value
that does not fit. Both count their steps (work.py). Nobody spends for itself: a container's rule spends the
`cost` of its items' schemas, a reference that of what it leads to, so that a number in an array of 300,000
costs one look-up by its type and its own rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from msgspec import Struct

from iii.schema.work import Findings, Path, Work

__all__ = [
    "ANYTHING", "ARRAY", "NUMBER", "OBJECT", "STRING", "Check", "Collect", "Explain", "Node", "Rule", "leaf",
]  # fmt: skip

Check: TypeAlias = Callable[[Any, Work], bool]
Explain: TypeAlias = Callable[[Any, Work, Path, Findings], None]
Collect: TypeAlias = Callable[[Any, Work], Iterable[Any]]

NULL, BOOLEAN, NUMBER = frozenset({type(None)}), frozenset({bool}), frozenset({int, float})
STRING, ARRAY, OBJECT = frozenset({str}), frozenset({list}), frozenset({dict})
ANYTHING = NULL | BOOLEAN | NUMBER | STRING | ARRAY | OBJECT
_NAMES = {
    type(None): "null", bool: "boolean", int: "number", float: "number", str: "string",
    list: "array", dict: "object", object: "something else",
}  # fmt: skip
_ORDER = (bool, int, float, str, list, tuple, dict)


class Rule(Struct):
    """What one keyword asks of values of `kinds`."""

    kinds: frozenset[type]
    check: Check
    explain: Explain
    cost: int = 1
    order: int = 1
    """0: sizes and scalars, before anything is walked through; 2: what needs to know of the others."""
    is_size: bool = False
    """A value that breaks it is not looked into."""
    collect: Collect | None = None
    """The names or indexes of an object or array that it has evaluated, where the value fits."""


def leaf(
    kinds: frozenset[type], check: Check, problem: Callable[[Any], str], *, is_size: bool = False
) -> Rule:
    """A rule that finds one thing, at the value itself."""

    def explain(value: Any, work: Work, path: Path, found: Findings) -> None:
        if not check(value, work):
            found.add(path, problem(value))

    return Rule(kinds, check, explain, order=0, is_size=is_size)


class Node:
    """One schema. Made in two steps, because it may refer to itself."""

    __slots__ = ("by_type", "cost", "expected", "number", "rules")

    def __init__(self, number: int) -> None:
        self.number = number
        self.by_type: dict[type, tuple[Check, ...] | None] = {}
        self.rules: tuple[Rule, ...] = ()
        self.cost = 1
        self.expected = ""

    def complete(self, allowed: frozenset[type], expected: str, rules: Iterable[Rule]) -> None:
        """`allowed`: the types that may come at all, `expected` says them."""
        self.rules, self.expected = tuple(sorted(rules, key=lambda rule: rule.order)), expected
        for kind in (*ANYTHING, object):
            checks = tuple(rule.check for rule in self.rules if kind in rule.kinds)
            self.by_type[kind] = checks if kind in allowed or allowed == ANYTHING else None
        costs = (sum(rule.cost for rule in self.rules if kind in rule.kinds) for kind in ANYTHING)
        self.cost = max(1, *costs)

    def checks(self, value: Any) -> tuple[Check, ...] | None:
        """What is to be asked of `value`; None: its type is not allowed."""
        try:
            return self.by_type[type(value)]
        except KeyError:
            return self.by_type[_kind(value)]

    def check(self, value: Any, work: Work) -> bool:
        checks = self.checks(value)
        if checks is None:
            return False
        for check in checks:  # noqa: SIM110 - a generator would cost more than most checks
            if not check(value, work):
                return False
        return True

    def explain(self, value: Any, work: Work, path: Path, found: Findings) -> None:
        kind = _kind(value)
        if self.by_type[kind] is None:
            found.add(
                path, f"expected {self.expected}, got {_NAMES[kind]}" if self.expected else "is not allowed"
            )
            return
        for rule in self.rules:
            if kind in rule.kinds:
                rule.explain(value, work, path, found)
                if rule.is_size and not rule.check(value, work):
                    return

    def collect(self, value: Any, work: Work) -> set[Any]:
        """What of `value`, which fits, this schema has evaluated (§11)."""
        work.spend(self.cost)
        kind = _kind(value)
        evaluated: set[Any] = set()
        for rule in self.rules:
            if rule.collect is not None and kind in rule.kinds:
                evaluated.update(rule.collect(value, work))
        work.spend(len(evaluated))
        return evaluated


def _kind(value: Any) -> type:
    """The JSON type of `value`, by the Python type that stands for it; object for none."""
    kind = type(value)
    if kind in ANYTHING:
        return kind
    found = next((each for each in _ORDER if isinstance(value, each)), None)
    return list if found is tuple else found or object
