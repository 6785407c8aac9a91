"""JSON Schema's keywords that hold schemas: of the same value (allOf, $ref …), of fields, of items.

`spend` stands before each walk: a container costs what its items' schemas do, once for each item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from iii.schema.node import ANYTHING, ARRAY, OBJECT, Node, Rule, leaf
from iii.schema.patterns import Pattern
from iii.schema.work import Findings, Path, Work

__all__ = [
    "all_of", "any_of", "condition", "contains", "dependent_schemas", "fields", "items", "negated", "one_of",
    "property_names", "reference", "unevaluated",
]  # fmt: skip

_NO_FORM = "fits none (or more than one) of the allowed forms"


# -------------------------------------------------------------------------------------- of the same value


def all_of(nodes: list[Node]) -> Rule:
    def check(value: Any, work: Work) -> bool:
        return all(node.check(value, work) for node in nodes)

    def explain(value: Any, work: Work, path: Path, found: Findings) -> None:
        for node in nodes:
            node.explain(value, work, path, found)

    def collect(value: Any, work: Work) -> Iterator[Any]:
        for node in nodes:
            yield from node.collect(value, work)

    return Rule(ANYTHING, check, explain, _cost(nodes), collect=collect)


def any_of(nodes: list[Node]) -> Rule:
    rule = leaf(
        ANYTHING, lambda value, work: any(node.check(value, work) for node in nodes), lambda value: _NO_FORM
    )
    return Rule(ANYTHING, rule.check, rule.explain, _cost(nodes), collect=_of_fitting(nodes))


def one_of(nodes: list[Node]) -> Rule:
    def check(value: Any, work: Work) -> bool:
        fitting = (node for node in nodes if node.check(value, work))
        return next(fitting, None) is not None and next(fitting, None) is None

    return Rule(
        ANYTHING,
        check,
        leaf(ANYTHING, check, lambda value: _NO_FORM).explain,
        _cost(nodes),
        collect=_of_fitting(nodes),
    )


def _of_fitting(nodes: list[Node]) -> Callable[[Any, Work], Iterator[Any]]:
    def collect(value: Any, work: Work) -> Iterator[Any]:
        for node in nodes:
            work.spend(node.cost)
            if node.check(value, work):
                yield from node.collect(value, work)

    return collect


def negated(node: Node) -> Rule:
    rule = leaf(
        ANYTHING,
        lambda value, work: not node.check(value, work),
        lambda value: "is of a form that is not allowed",
    )
    rule.cost, rule.order = 3 + node.cost, 1
    return rule


def condition(asked: Node, then: Node | None, otherwise: Node | None) -> Rule:
    def chosen(value: Any, work: Work) -> Node | None:
        return then if asked.check(value, work) else otherwise

    def check(value: Any, work: Work) -> bool:
        node = chosen(value, work)
        return node is None or node.check(value, work)

    def explain(value: Any, work: Work, path: Path, found: Findings) -> None:
        if (node := chosen(value, work)) is not None:
            node.explain(value, work, path, found)

    def collect(value: Any, work: Work) -> Iterator[Any]:
        work.spend(asked.cost)
        if asked.check(value, work):
            yield from asked.collect(value, work)
            yield from then.collect(value, work) if then is not None else ()
        elif otherwise is not None:
            yield from otherwise.collect(value, work)

    nodes = [node for node in (asked, then, otherwise) if node is not None]
    return Rule(ANYTHING, check, explain, _cost(nodes), collect=collect)


def reference(target: Node) -> Rule:
    """A schema that is referred to, which may be the one that refers. Of a container it is found out once
    whether it fits, and once why not, however many ways lead there."""

    def check(value: Any, work: Work) -> bool:
        if not isinstance(value, dict | list | tuple):
            work.spend(target.cost)
            return target.check(value, work)
        place = (target.number, id(value))
        fits = work.known.get(place, work)
        if fits is None:
            raise RecursionError  # the schema says of this value only that it is what it is
        if fits is work:
            work.spend(12 + target.cost)
            work.known[place] = None
            fits = work.known[place] = target.check(value, work)
        return bool(fits)

    def explain(value: Any, work: Work, path: Path, found: Findings) -> None:
        place = (target.number, id(value))
        if place not in work.told and not check(value, work):
            if isinstance(value, dict | list | tuple):
                work.told.add(place)
            target.explain(value, work, path, found)

    return Rule(ANYTHING, check, explain, collect=target.collect)


def dependent_schemas(nodes: Mapping[str, Node]) -> Rule:
    def asked(value: Any) -> list[Node]:
        return [node for name, node in nodes.items() if name in value]

    def check(value: Any, work: Work) -> bool:
        return all(node.check(value, work) for node in asked(value))

    def explain(value: Any, work: Work, path: Path, found: Findings) -> None:
        for node in asked(value):
            node.explain(value, work, path, found)

    def collect(value: Any, work: Work) -> Iterator[Any]:
        for node in asked(value):
            yield from node.collect(value, work)

    return Rule(OBJECT, check, explain, 6 + len(nodes) + _cost(nodes.values()), collect=collect)


def _cost(nodes: Iterable[Node]) -> int:
    return 3 + sum(node.cost for node in nodes)


# ---------------------------------------------------------------------------------------------- of fields


def fields(named: Mapping[str, Node], patterned: list[tuple[Pattern, Node]], others: Node | None) -> Rule:
    """properties, patternProperties and additionalProperties."""

    def asked(value: dict[str, Any], work: Work) -> Iterator[tuple[str, Node]]:
        """Which schema is to be asked about which field."""
        if not patterned and others is None and len(named) < len(value):
            work.spend(8 + len(named))
            yield from ((name, node) for name, node in named.items() if name in value)
            return
        work.spend(8 + 2 * len(value))
        for name in value:
            known = False
            if (node := named.get(name)) is not None:
                known = True
                yield name, node
            for pattern, node in patterned:
                if pattern.fits(name, work):
                    known = True
                    yield name, node
            if not known and others is not None:
                yield name, others

    def check_named(value: Any, work: Work) -> bool:
        steps = 8
        for name, node in named.items() if len(named) < len(value) else _shared(named, value):
            if name in value:
                steps += node.cost
                if not node.check(value[name], work):
                    return False
        work.spend(steps + 2 * min(len(named), len(value)))
        return True

    def check(value: Any, work: Work) -> bool:
        for name, node in asked(value, work):
            work.spend(node.cost)
            if not node.check(value[name], work):
                return False
        return True

    def explain(value: Any, work: Work, path: Path, found: Findings) -> None:
        for name, node in asked(value, work):
            work.spend(node.cost)
            if node is others and node.expected == "" and node.by_type[dict] is None:
                found.add((*path, name), "unknown field")
            else:
                node.explain(value[name], work, (*path, name), found)

    return Rule(
        OBJECT,
        check_named if not patterned and others is None else check,
        explain,
        collect=lambda value, work: [name for name, _ in asked(value, work)],
    )


def _shared(named: Mapping[str, Node], value: dict[str, Any]) -> list[tuple[str, Node]]:
    return [(name, named[name]) for name in value if name in named]


def property_names(node: Node) -> Rule:
    def check(value: Any, work: Work) -> bool:
        work.spend(8 + len(value) * (1 + node.cost))
        return all(node.check(name, work) for name in value)

    def explain(value: Any, work: Work, path: Path, found: Findings) -> None:
        work.spend(len(value) * node.cost)
        for name in value:
            node.explain(name, work, (*path, name), found)

    return Rule(OBJECT, check, explain)


# ----------------------------------------------------------------------------------------------- of items


def items(first: list[Node], rest: Node | None) -> Rule:
    """A schema for each of the first items, and one for all the others."""
    count = len(first)

    def check(value: Any, work: Work) -> bool:
        for node, item in zip(first, value, strict=False):
            work.spend(node.cost)
            if not node.check(item, work):
                return False
        if rest is None or len(value) <= count:
            return True
        work.spend(8 + (len(value) - count) * rest.cost)
        by_type = rest.by_type
        for item in value[count:] if count else value:
            checks = by_type.get(type(item), _OTHER)
            if checks is _OTHER:
                checks = rest.checks(item)
            if checks is None:
                return False
            for check in checks:
                if not check(item, work):
                    return False
        return True

    def explain(value: Any, work: Work, path: Path, found: Findings) -> None:
        for index, item in enumerate(value):
            node = first[index] if index < count else rest
            if node is None:
                return
            work.spend(node.cost)
            if not node.check(item, work):
                node.explain(item, work, (*path, index), found)

    def collect(value: Any, work: Work) -> Iterable[int]:
        return range(min(count, len(value)) if rest is None else len(value))

    return Rule(ARRAY, check, explain, collect=collect)


_OTHER: tuple[Any, ...] = (None,)


def contains(node: Node, least: int, most: int | None, *, evaluates: bool) -> Rule:
    def fitting(value: Any, work: Work) -> Iterator[int]:
        work.spend(10)
        for index, item in enumerate(value):
            work.spend(3 + node.cost)
            if node.check(item, work):
                yield index

    def problem(value: Any) -> str:
        few = f"expected at least {least} items of a certain form"
        return few if most is None else f"{few}, and at most {most}"

    def check(value: Any, work: Work) -> bool:
        count = 0
        for _ in fitting(value, work):
            count += 1
            if most is None and count >= least:
                return True
            if most is not None and count > most:
                return False
        return count >= least

    rule = leaf(ARRAY, check, problem)
    rule.order = 1
    rule.collect = fitting if evaluates else None
    return rule


# ----------------------------------------------------------------------------------- what is left of both


def unevaluated(kinds: frozenset[type], node: Node, owner: Node) -> Rule:
    """unevaluatedProperties and unevaluatedItems: of what no other keyword of `owner` has looked at."""

    def left(value: Any, work: Work) -> Iterator[Any]:
        evaluated: set[Any] = set()
        for rule in owner.rules:
            if rule.collect is not None and rule.order < 2 and kinds <= rule.kinds:
                evaluated.update(rule.collect(value, work))
        work.spend(len(evaluated) + len(value))
        places = value if kinds is OBJECT else range(len(value))
        return (place for place in places if place not in evaluated)

    def check(value: Any, work: Work) -> bool:
        for place in left(value, work):
            work.spend(node.cost)
            if not node.check(value[place], work):
                return False
        return True

    def explain(value: Any, work: Work, path: Path, found: Findings) -> None:
        for place in left(value, work):
            work.spend(node.cost)
            if not node.check(value[place], work):
                found.add((*path, place), "unknown field" if kinds is OBJECT else "is not allowed")

    def collect(value: Any, work: Work) -> Iterable[Any]:
        return value if kinds is OBJECT else range(len(value))

    return Rule(kinds, check, explain, cost=15, order=2, collect=collect)
