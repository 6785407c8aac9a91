"""JSON Schema's keywords that look at one value: numbers, strings, sizes, names, equality."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from iii.schema.equality import all_unique, key
from iii.schema.node import ANYTHING, ARRAY, NUMBER, OBJECT, STRING, Rule, leaf
from iii.schema.patterns import compile_pattern
from iii.schema.work import Findings, Path, Work, brief

__all__ = ["DRAFT_4", "VALUES", "format_rule"]

DRAFT_4 = 4
_FORMAT_LENGTH_MAX = 8192  # of what a library checks, with patterns of its own
_SHORT = frozenset({"hostname", "date", "date-time", "time", "uuid", "ipv4", "ipv6"})
_QUICK = frozenset({"email", "idn-email", "date", "date-time", "time", "uuid"})
_OPTIONS_SHOWN = 10

Formats = Mapping[str, tuple[Callable[[Any], Any], Any]]


def _enum(options: Any, schema: Any, draft: int) -> Rule:
    strings = frozenset(option for option in options if isinstance(option, str))
    others = frozenset(key(option, Work()) for option in options if not isinstance(option, str))
    no_containers = not any(isinstance(option, dict | list | tuple) for option in options)

    def check(value: Any, work: Work) -> bool:
        if isinstance(value, str):
            return value in strings
        if no_containers and isinstance(value, dict | list | tuple):
            return False
        return key(value, work) in others

    shown = ", ".join(str(option) for option in options[:_OPTIONS_SHOWN])
    shown += f", … ({len(options)} in all)" if len(options) > _OPTIONS_SHOWN else ""
    return leaf(ANYTHING, check, lambda value: f"expected one of {shown}; got {brief(value)}")


def _const(wanted: Any, schema: Any, draft: int) -> Rule:
    rule = _enum([wanted], schema, draft)
    return leaf(ANYTHING, rule.check, lambda value: f"expected {brief(wanted)}, got {brief(value)}")


def _minimum(least: Any, schema: Any, draft: int) -> Rule:
    if draft == DRAFT_4 and schema.get("exclusiveMinimum") is True:
        return _more_than(least)
    return leaf(
        NUMBER,
        lambda value, work: value >= least,
        lambda value: f"expected at least {least}, got {brief(value)}",
    )


def _maximum(most: Any, schema: Any, draft: int) -> Rule:
    if draft == DRAFT_4 and schema.get("exclusiveMaximum") is True:
        return _less_than(most)
    return leaf(
        NUMBER,
        lambda value, work: value <= most,
        lambda value: f"expected at most {most}, got {brief(value)}",
    )


def _exclusive_minimum(bound: Any, schema: Any, draft: int) -> Rule | None:
    return None if draft == DRAFT_4 else _more_than(bound)


def _exclusive_maximum(bound: Any, schema: Any, draft: int) -> Rule | None:
    return None if draft == DRAFT_4 else _less_than(bound)


def _more_than(bound: Any) -> Rule:
    return leaf(
        NUMBER,
        lambda value, work: value > bound,
        lambda value: f"expected more than {bound}, got {brief(value)}",
    )


def _less_than(bound: Any) -> Rule:
    return leaf(
        NUMBER,
        lambda value, work: value < bound,
        lambda value: f"expected less than {bound}, got {brief(value)}",
    )


def _multiple_of(unit: Any, schema: Any, draft: int) -> Rule:
    def check(value: Any, work: Work) -> bool:
        if isinstance(value, int):
            work.spend(value.bit_length() // 64)
        if not isinstance(unit, float) and isinstance(value, int):
            return bool(value % unit == 0)
        try:
            quotient = value / unit
            return bool(int(quotient) == quotient)
        except (OverflowError, ValueError):  # too large for a float: told exactly
            work.spend(200)
            return (Fraction(value) / Fraction(unit)).denominator == 1

    rule = leaf(NUMBER, check, lambda value: f"expected a multiple of {unit}, got {brief(value)}")
    rule.cost = 5
    return rule


def _size(kinds: frozenset[type], unit: str, *, is_most: bool) -> Callable[[Any, Any, int], Rule]:
    bound = "at most" if is_most else "at least"

    def rule(limit: Any, schema: Any, draft: int) -> Rule:
        def check(value: Any, work: Work) -> bool:
            return bool(len(value) <= limit if is_most else len(value) >= limit)

        return leaf(
            kinds, check, lambda value: f"expected {bound} {limit} {unit}, got {len(value)}", is_size=True
        )

    return rule


def _pattern(source: str, schema: Any, draft: int) -> Rule:
    pattern = compile_pattern(source)
    return leaf(STRING, pattern.fits, lambda value: f"does not match the pattern {brief(source)}")


def _unique_items(wanted: Any, schema: Any, draft: int) -> Rule | None:
    if not wanted:
        return None
    rule = leaf(ARRAY, all_unique, lambda value: "has two equal items")
    rule.order = 1
    return rule


def _required(names: Any, schema: Any, draft: int) -> Rule:
    def check(value: Any, work: Work) -> bool:
        return all(name in value for name in names)

    def explain(value: Any, work: Work, path: Path, found: Findings) -> None:
        for name in names:
            if name not in value:
                found.add((*path, name), "is required")

    return Rule(OBJECT, check, explain, cost=1 + len(names), order=0)


def _dependent_required(dependencies: Any, schema: Any, draft: int) -> Rule:
    def missing(value: Any) -> list[tuple[str, str]]:
        return [
            (name, each)
            for name, needed in dependencies.items()
            if name in value
            for each in needed
            if each not in value
        ]

    def explain(value: Any, work: Work, path: Path, found: Findings) -> None:
        for name, each in missing(value):
            found.add((*path, each), f"is required where there is {name}")

    cost = 6 + sum(1 + len(needed) for needed in dependencies.values())
    return Rule(OBJECT, lambda value, work: not missing(value), explain, cost=cost, order=0)


def format_rule(name: str, formats: Formats) -> Rule | None:
    """By the checks of the jsonschema library; None for a format that it does not know."""
    if name == "regex":
        check_text: Callable[[str], Any] = re.compile
        raises: Any = (re.error, RecursionError, OverflowError)
    elif name in formats:
        check_text, raises = formats[name]
    else:
        return None
    longest = 256 if name in (*_SHORT, *_QUICK, "regex", "idn-hostname") else _FORMAT_LENGTH_MAX
    steps = 12 if name in _QUICK else 20 if name in _SHORT else 100

    def check(value: Any, work: Work) -> bool:
        work.spend(steps + len(value) // 8)
        if len(value) > longest:
            return False
        try:
            return bool(check_text(value))
        except raises:
            return False

    return leaf(STRING, check, lambda value: f"is no {name}: {brief(value)}")


VALUES: dict[str, Callable[[Any, Any, int], Rule | None]] = {
    "enum": _enum,
    "const": _const,
    "minimum": _minimum,
    "maximum": _maximum,
    "exclusiveMinimum": _exclusive_minimum,
    "exclusiveMaximum": _exclusive_maximum,
    "multipleOf": _multiple_of,
    "minLength": _size(STRING, "characters", is_most=False),
    "maxLength": _size(STRING, "characters", is_most=True),
    "minItems": _size(ARRAY, "items", is_most=False),
    "maxItems": _size(ARRAY, "items", is_most=True),
    "minProperties": _size(OBJECT, "fields", is_most=False),
    "maxProperties": _size(OBJECT, "fields", is_most=True),
    "pattern": _pattern,
    "uniqueItems": _unique_items,
    "required": _required,
    "dependentRequired": _dependent_required,
}
