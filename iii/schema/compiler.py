"""From a JSON Schema document to Nodes: which draft says what, where references lead. Nothing is fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from referencing import Registry, Specification
from referencing.exceptions import Unresolvable

from iii.errors import StepError
from iii.schema import applicators
from iii.schema.keywords import DRAFT_4, VALUES, Formats, format_rule
from iii.schema.node import ANYTHING, ARRAY, NUMBER, OBJECT, Node, Rule, leaf
from iii.schema.patterns import compile_pattern

__all__ = ["compile_schema"]

_DRAFTS = {
    "http://json-schema.org/draft-04/schema": DRAFT_4,
    "http://json-schema.org/draft-06/schema": 6,
    "http://json-schema.org/draft-07/schema": 7,
    "https://json-schema.org/draft/2019-09/schema": 2019,
    "https://json-schema.org/draft/2020-12/schema": 2020,
}
_TYPES: dict[str, frozenset[type]] = {
    "null": frozenset({type(None)}), "boolean": frozenset({bool}), "integer": NUMBER, "number": NUMBER,
    "string": frozenset({str}), "array": ARRAY, "object": OBJECT,
}  # fmt: skip
_AFTER = {
    "const": 6,
    "contains": 6,
    "propertyNames": 6,
    "if": 7,
    "dependentRequired": 2019,
    "dependentSchemas": 2019,
}


def compile_schema(root: Mapping[str, Any], dialect: str, formats: Formats) -> Node:
    """StepError for a draft, a reference or a pattern that cannot be checked."""
    draft = _DRAFTS.get(dialect.rstrip("#"))
    if draft is None:
        raise StepError(f'"$schema": "{dialect}" is not supported; use Draft 4, 6, 7, 2019-09 or 2020-12')
    return _Compiler(root, draft, dialect, formats).root


class _Compiler:
    def __init__(self, root: Mapping[str, Any], draft: int, dialect: str, formats: Formats) -> None:
        from referencing.jsonschema import specification_with

        self._draft, self._formats = draft, formats
        self._specification: Specification[Any] = specification_with(dialect)
        self._nodes: dict[int, Node] = {}
        self._count = 0
        whole = self._specification.create_resource(root)
        base = whole.id() or ""
        nothing: Registry[Any] = Registry()  # the library's own would fetch references from the network
        self._dynamic = _dynamic_names(root)
        self.root = self.node(root, nothing.with_resource(base, whole).crawl().resolver(base), found=True)

    def node(self, schema: Any, resolver: Any, *, found: bool = False) -> Node:
        """`found`: the resolver stands in the schema already."""
        known = self._nodes.get(id(schema)) if not isinstance(schema, bool) else None
        if known is not None:
            return known
        self._count += 1
        node = Node(self._count)
        if isinstance(schema, bool):
            node.complete(ANYTHING if schema else frozenset(), "", ())
            return node
        self._nodes[id(schema)] = node
        if not found:
            resolver = resolver.in_subresource(self._specification.create_resource(schema))
        if self._draft < 2019 and "$ref" in schema:
            schema = {"$ref": schema["$ref"]}  # what stands beside it counts for nothing there
        kinds = schema.get("type", ())
        kinds = [kinds] if isinstance(kinds, str) else list(kinds)
        rules = list(_Rules(self, schema, resolver, node, self._draft, self._formats).all(kinds))
        allowed = frozenset(each for kind in kinds for each in _TYPES[kind]) if "type" in schema else ANYTHING
        if self._draft == DRAFT_4 and "integer" in kinds and "number" not in kinds:
            allowed -= {float}  # 1.0 is no integer there
        node.complete(allowed, " or ".join(kinds), rules)
        return node

    def target(self, reference: str, resolver: Any) -> Node:
        try:
            found = resolver.lookup(reference)
        except Unresolvable:
            raise StepError(
                f'"$ref": "{reference}" leads nowhere; define it under "$defs" (nothing is fetched)'
            ) from None
        return self.node(found.contents, found.resolver, found=True)

    def dynamic_target(self, reference: str, resolver: Any) -> Node:
        name = reference.rpartition("#")[2]
        if self._dynamic.get(name, 0) > 1:
            raise StepError(f'"$dynamicRef": "{reference}" has several anchors to lead to; write "$ref"')
        return self.target(reference, resolver)


def _dynamic_names(schema: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in _parts(schema):
        name = part.get("$dynamicAnchor", "" if part.get("$recursiveAnchor") is True else None)
        if isinstance(name, str):
            found[name] = found.get(name, 0) + 1
    return found


def _parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, Mapping):
        yield schema
        for part in schema.values():
            yield from _parts(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from _parts(part)


class _Rules:
    """The rules of one schema's keywords."""

    def __init__(
        self,
        compiler: _Compiler,
        schema: Mapping[str, Any],
        resolver: Any,
        owner: Node,
        draft: int,
        formats: Formats,
    ) -> None:
        self._compiler, self._resolver, self._owner = compiler, resolver, owner
        self._draft, self._formats = draft, formats
        self._schema = {name: value for name, value in schema.items() if draft >= _AFTER.get(name, DRAFT_4)}

    def all(self, kinds: list[str]) -> Iterator[Rule]:
        schema = self._schema
        if "integer" in kinds and "number" not in kinds and self._draft != DRAFT_4:
            yield leaf(
                frozenset({float}),
                lambda value, work: value.is_integer(),
                lambda value: f"expected {' or '.join(kinds)}, got number",
            )
        for name, value in schema.items():
            if name in VALUES:
                rule = VALUES[name](value, schema, self._draft)
                if rule is not None:
                    yield rule
        if isinstance(schema.get("format"), str):
            rule = format_rule(schema["format"], self._formats)
            if rule is not None:
                yield rule
        yield from self._in_place()
        yield from self._of_objects()
        yield from self._of_arrays()

    def _node(self, schema: Any) -> Node:
        return self._compiler.node(schema, self._resolver)

    def _optional(self, name: str) -> Node | None:
        return self._node(self._schema[name]) if name in self._schema else None

    def _in_place(self) -> Iterator[Rule]:
        schema, compiler = self._schema, self._compiler
        if isinstance(schema.get("$ref"), str):
            yield applicators.reference(compiler.target(schema["$ref"], self._resolver))
        for name, draft in (("$dynamicRef", 2020), ("$recursiveRef", 2019)):
            if isinstance(schema.get(name), str) and self._draft == draft:
                yield applicators.reference(compiler.dynamic_target(schema[name], self._resolver))
        several: dict[str, Callable[[list[Node]], Rule]] = {
            "allOf": applicators.all_of, "anyOf": applicators.any_of, "oneOf": applicators.one_of,
        }  # fmt: skip
        for name, make in several.items():
            if name in schema:
                yield make([self._node(part) for part in schema[name]])
        if "not" in schema:
            yield applicators.negated(self._node(schema["not"]))
        if "if" in schema:
            yield applicators.condition(
                self._node(schema["if"]), self._optional("then"), self._optional("else")
            )

    def _of_objects(self) -> Iterator[Rule]:
        schema = self._schema
        dependencies = schema.get("dependencies", {}) if self._draft < 2019 else {}
        needed = {name: each for name, each in dependencies.items() if isinstance(each, list | tuple)}
        if needed:
            yield VALUES["dependentRequired"](needed, schema, 2019)  # type: ignore[misc]
        schemas = {name: each for name, each in dependencies.items() if name not in needed}
        schemas.update(schema.get("dependentSchemas", {}))
        if schemas:
            yield applicators.dependent_schemas({name: self._node(each) for name, each in schemas.items()})
        if "propertyNames" in schema:
            yield applicators.property_names(self._node(schema["propertyNames"]))
        named = {name: self._node(each) for name, each in schema.get("properties", {}).items()}
        patterned = [
            (compile_pattern(source), self._node(each))
            for source, each in schema.get("patternProperties", {}).items()
        ]
        others = self._optional("additionalProperties")
        if named or patterned or others is not None:
            yield applicators.fields(named, patterned, others)
        if self._draft >= 2019 and "unevaluatedProperties" in schema:
            yield applicators.unevaluated(OBJECT, self._node(schema["unevaluatedProperties"]), self._owner)

    def _of_arrays(self) -> Iterator[Rule]:
        schema = self._schema
        first = schema.get("prefixItems", ()) if self._draft >= 2020 else schema.get("items", ())
        rest = "items" if self._draft >= 2020 else "additionalItems"
        if isinstance(first, bool | Mapping):
            first, rest = (), "items"
        nodes, others = (
            [self._node(each) for each in first],
            self._optional(rest) if first or rest == "items" else None,
        )
        if nodes or others is not None:
            yield applicators.items(nodes, others)
        if "contains" in schema:
            counted = self._draft >= 2019
            least, most = schema.get("minContains", 1), schema.get("maxContains")
            yield applicators.contains(
                self._node(schema["contains"]),
                least if counted else 1,
                most if counted else None,
                evaluates=self._draft >= 2020,
            )
        if self._draft >= 2019 and "unevaluatedItems" in schema:
            yield applicators.unevaluated(ARRAY, self._node(schema["unevaluatedItems"]), self._owner)
