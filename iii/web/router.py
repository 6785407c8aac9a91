"""Which route answers a request: a dict lookup for fixed paths, a tree of segments for those with parameters.

A fixed segment wins over a parameter, segment by segment from the left; a parameter takes exactly one
non-empty segment. Paths are compared after percent-decoding (an encoded slash stays inside its segment);
`/orders` and `/orders/` are two paths. HEAD is answered by the GET route where no step takes HEAD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from iii.definitions.handler import Call
from iii.errors import StepError
from iii.formats.percent import unquoted
from iii.handling.context import StartedBy
from iii.observe.meters import RouteMeter
from iii.step import HttpTrigger, Schemas, Step
from iii.web.response import Answer

__all__ = ["BadPath", "BuiltIn", "Match", "Route", "Router", "decode_path"]


class BadPath(ValueError):
    """The path is not percent-encoded UTF-8."""


class Route:
    """One HTTP trigger of one step, with everything a request to it needs at hand.

    is_checked: a request without body and query has to be checked too. is_direct: nothing stands before the
    handler, and it is an `async def`.
    """

    __slots__ = (
        "condition", "is_checked", "is_direct", "meter", "middleware", "schemas", "started_by", "step",
        "trigger",
    )  # fmt: skip

    def __init__(self, step: Step, index: int, trigger: HttpTrigger, schemas: Schemas) -> None:
        self.step, self.trigger, self.schemas = step, trigger, schemas
        self.condition = None if trigger.condition is None else Call.of(trigger.condition)
        self.middleware = tuple(Call.of(each) for each in trigger.middleware)
        self.meter = RouteMeter()
        self.started_by = StartedBy("http", index, method=trigger.method, path=trigger.path)
        self.is_checked = schemas.body is not None or schemas.query is not None
        self.is_direct = step.is_async and trigger.condition is None and not trigger.middleware


class BuiltIn(NamedTuple):
    """A page of the engine's own; a step that takes its path comes first."""

    path: str
    answer: Callable[[], Answer]


class Match(NamedTuple):
    """`params` belongs to all requests for a fixed path: copy it."""

    route: Route | BuiltIn
    path: str
    params: dict[str, str]


class _Node:
    """A segment. `fixed`: next segments by name; `parameter`: any next segment."""

    __slots__ = ("fixed", "names", "parameter", "route")

    def __init__(self) -> None:
        self.fixed: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.route: Route | None = None
        self.names: tuple[str, ...] = ()


class Router:
    """The routes of all steps. Immutable once built."""

    def __init__(self, steps: Iterable[Step], built_in: Sequence[BuiltIn] = ()) -> None:
        self.routes: list[Route] = []
        self._fixed: dict[str, dict[str, Match]] = {}
        self._trees: dict[str, _Node] = {}
        for step in steps:
            for index, trigger in enumerate(step.triggers):
                if isinstance(trigger, HttpTrigger):
                    self._add(Route(step, index, trigger, step.schemas[index]))
        for page in built_in:
            if self.match("GET", page.path) is None:
                self._fixed.setdefault("GET", {})[page.path] = Match(page, page.path, {})

    def match(self, method: str, raw_path: str) -> Match | None:
        """The route for a percent-encoded path, or None. BadPath where it cannot be decoded."""
        try:
            return self._fixed[method][raw_path]
        except KeyError:
            return self._search(method, raw_path)

    def allowed(self, raw_path: str) -> list[str]:
        """The methods that have a route for the path; [] where none has. "*" = the methods of all routes."""
        methods = sorted(self._fixed.keys() | self._trees.keys())
        found = methods if raw_path == "*" else [m for m in methods if self._search(m, raw_path)]
        if not found:
            return []
        return sorted({*found, "OPTIONS", *(["HEAD"] if "GET" in found else [])})

    def _search(self, method: str, raw_path: str) -> Match | None:
        segments = decode_path(raw_path)
        path = "/".join(segments)
        literal = "%" not in raw_path or not any("/" in segment for segment in segments)
        if literal and (match := self._fixed.get(method, {}).get(path)) is not None:
            return match
        tree = self._trees.get(method)
        if tree is not None and (leaf := _walk(tree, segments, 1)) is not None:
            node, values = leaf
            assert node.route is not None
            return Match(node.route, path, dict(zip(node.names, reversed(values), strict=True)))
        return self._search("GET", raw_path) if method == "HEAD" else None

    def _add(self, route: Route) -> None:
        method, path = route.trigger.method, route.trigger.path
        self.routes.append(route)
        if "{" not in path:
            taken = self._fixed.setdefault(method, {}).setdefault(path, Match(route, path, {})).route
        else:
            node = self._trees.setdefault(method, _Node())
            for segment in path.split("/")[1:]:
                node = _child(node, segment)
            node.route = taken = node.route or route
            node.names = tuple(s[1:-1] for s in path.split("/") if s.startswith("{"))
        if taken is not route:
            assert isinstance(taken, Route)
            raise StepError(
                f"{method} {path} is already answered by step {taken.step.name} ({taken.step.file}); "
                "change one of the paths",
                file=route.step.file,
                field="triggers",
            )


def _child(node: _Node, segment: str) -> _Node:
    if segment.startswith("{"):
        node.parameter = node.parameter or _Node()
        return node.parameter
    return node.fixed.setdefault(segment, _Node())


def _walk(node: _Node, segments: Sequence[str], at: int) -> tuple[_Node, list[str]] | None:
    """The leaf for segments[at:] and its parameters' values, last first."""
    if at == len(segments):
        return (node, []) if node.route is not None else None
    segment = segments[at]
    if (fixed := node.fixed.get(segment)) is not None and (
        leaf := _walk(fixed, segments, at + 1)
    ) is not None:
        return leaf
    if node.parameter is None or not segment:
        return None
    leaf = _walk(node.parameter, segments, at + 1)
    if leaf is not None:
        leaf[1].append(segment)
    return leaf


def decode_path(raw_path: str) -> list[str]:
    """The segments of a percent-encoded path, decoded one by one; the first is "". BadPath: not UTF-8."""
    segments = raw_path.split("/")
    if "%" not in raw_path:
        return segments
    try:
        return [unquoted(segment.encode()).decode() for segment in segments]
    except UnicodeDecodeError:
        raise BadPath(f"the path {raw_path!r} is not percent-encoded UTF-8") from None
