"""What a JSON Schema dict does to a value before it is checked: texts of a query become numbers and booleans,
absent properties take their `default`s, also through local references and allOf."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from iii.schema.work import Work

__all__ = ["Defaults", "from_text"]

_VISIT_STEPS = 8
_NUMBER = re.compile(
    r"-?(?:0|[1-9][0-9]*)(?P<fraction>\.[0-9]+)?(?P<exponent>[eE][+-]?[0-9]+)?"
)  # RFC 8259 §6


class Defaults:
    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self._fillings: dict[int, _Filling] = {}
        self._filling = self._compiled(schema)
        while any(each.settle() for each in self._fillings.values()):
            pass

    def filled(self, value: object, work: Work) -> object:
        """`value` with absent properties set to their defaults; containers that change are copied."""
        return self._filling.filled(value, work)

    def _compiled(self, schema: object) -> _Filling:
        known = self._fillings.get(id(schema))
        if known is not None:
            return known
        filling = self._fillings[id(schema)] = _Filling()
        if not isinstance(schema, Mapping):
            return filling
        if isinstance(schema.get("$ref"), str):
            filling.same.append(self._compiled(_local(self._root, schema["$ref"])))
        filling.same += [self._compiled(part) for part in schema.get("allOf", ())]
        properties = schema.get("properties")
        for name, field in properties.items() if isinstance(properties, Mapping) else ():
            filling.fields[name] = self._compiled(field)
            if isinstance(field, Mapping) and "default" in field:
                filling.defaults[name] = (field["default"], _weight(field["default"]), "$ref" not in field)
        if isinstance(schema.get("items"), Mapping):
            filling.items = self._compiled(schema["items"])
        return filling


class _Filling:
    """What one schema fills in. `is_needed` is told by `settle`: some default lies in it or behind it."""

    def __init__(self) -> None:
        self.same: list[_Filling] = []  # schemas of the same value
        self.fields: dict[str, _Filling] = {}
        self.items: _Filling | None = None
        # (the default, the steps a copy takes, is it completed?): a reference may lead back here, so a
        # default that is taken in is completed by inline schemas only.
        self.defaults: dict[str, tuple[Any, int, bool]] = {}
        self.is_needed = False

    def settle(self) -> bool:
        """Whether something changed."""
        inner = [*self.same, *self.fields.values(), *([self.items] if self.items else [])]
        before, self.is_needed = self.is_needed, bool(self.defaults) or any(each.is_needed for each in inner)
        return before != self.is_needed

    def filled(self, value: object, work: Work) -> object:
        if not self.is_needed or not isinstance(value, dict | list):
            return value
        work.spend(_VISIT_STEPS)
        for each in self.same:
            value = each.filled(value, work)
        if isinstance(value, dict):
            return self._filled_object(value, work) if self.fields else value
        if self.items is not None and self.items.is_needed and isinstance(value, list):
            work.spend(len(value))
            return [self.items.filled(item, work) for item in value]
        return value

    def _filled_object(self, value: dict[str, Any], work: Work) -> dict[str, Any]:
        result = dict(value)
        work.spend(len(self.fields))
        for name, filling in self.fields.items():
            if name in result:
                if filling.is_needed:
                    result[name] = filling.filled(result[name], work)
            elif name in self.defaults:
                default, steps, completed = self.defaults[name]
                work.spend(steps)
                default = _copied(default)
                result[name] = filling.filled(default, work) if completed else default
        return result


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _weight(value: Any) -> int:
    """The steps that a copy takes."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 4 + sum(map(_weight, items))


def _local(root: Mapping[str, Any], reference: str) -> object:
    """The schema at a JSON pointer (RFC 6901) "#/$defs/Order"; None when there is none."""
    found: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found.get(step)
        elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found


def from_text(schema: Mapping[str, Any], value: object) -> object:
    """A query's text values as the numbers and booleans their properties ask for, where they are some."""
    properties = schema.get("properties")
    if not isinstance(value, dict) or not isinstance(properties, Mapping):
        return value
    return {name: _field_from_text(properties.get(name), text) for name, text in value.items()}


def _field_from_text(field: object, text: object) -> object:
    if not isinstance(field, Mapping):
        return text
    if isinstance(text, list):
        return [_field_from_text(field.get("items"), item) for item in text]
    kinds = field.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(text, str) or "string" in kinds:
        return text
    if "boolean" in kinds and text in ("true", "false"):
        return text == "true"
    if "integer" in kinds or "number" in kinds:
        return _number(text, whole="number" not in kinds)
    return text


def _number(text: str, *, whole: bool) -> object:
    """The JSON number that `text` is; `text` where it is none, or one that is out of range."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    try:
        if match["fraction"] is None and match["exponent"] is None:
            return int(text)
        number = float(text)
    except ValueError:  # thousands of digits
        return text
    return text if whole or number in (float("inf"), -float("inf")) else number
