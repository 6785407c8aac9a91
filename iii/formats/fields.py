"""A mapping that a user wrote, read field by field; wrong types, ranges and unknown keys name the remedy.

It does not know where the mapping comes from (YAML, a step's config) nor which error to raise: `fail`
makes it. Keys may be written in snake_case and camelCase. A key with the value null counts as absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias, TypeVar

from iii.errors import IIIError
from iii.formats.units import duration_ms, duration_text, nearest, shown, size_bytes

D = TypeVar("D")
T = TypeVar("T")
Fail: TypeAlias = Callable[[str, str], IIIError]
"""(dotted field, message) -> the error to raise."""


class Expanded(str):
    """A string that came out of ${VAR}: unlike a quoted one it may stand for a number or a boolean."""


class Fields:
    """One mapping at the dotted path `at`. Read what is known, then `close()` refuses what is left."""

    def __init__(
        self, content: object, *, at: str, fail: Fail, renamed: Mapping[str, str] | None = None
    ) -> None:
        self.at, self.fail, self._renamed = at, fail, renamed or {}
        if content is None:
            content = {}
        if not isinstance(content, Mapping):
            raise fail(at, f"expected a mapping of names to values, got {shown(content)}")
        self._content: Mapping[object, object] = content
        self._known: dict[str, str] = {}

    def path(self, name: str) -> str:
        """The dotted path of the field `name`, as the user spelt it."""
        written = self._known.get(name, name)
        return f"{self.at}.{written}" if self.at else written

    def error(self, name: str, message: str) -> IIIError:
        """The error that blames the field `name` ("" = the mapping itself)."""
        return self.fail(self.path(name) if name else self.at, message)

    def raw(self, name: str) -> object:
        """The value of `name` or None; from now on the name is known."""
        camel = re.sub(r"_([a-z])", lambda m: m.group(1).upper(), name)
        written = [key for key in dict.fromkeys((name, camel)) if key in self._content]
        self._known[name] = written[0] if written else name
        if len(written) > 1:
            raise self.error(name, f'is given twice, also as "{camel}"; keep one')
        return self._content[written[0]] if written else None

    def keys(self) -> list[object]:
        return list(self._content)

    def required(self, name: str, what: str) -> object:
        value = self.raw(name)
        if value is None:
            self._refuse_misspelling(name)
            raise self.error(name, f"is missing; expected {what}")
        return value

    def text(self, name: str, default: D) -> str | D:
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, str) or not value:
            raise self.error(name, f"expected a string, got {shown(value)}{_quote(value)}")
        return str(value)

    def texts(self, name: str, default: D) -> tuple[str, ...] | D:
        """A list of strings; a single string counts as a list of one."""
        value = self.raw(name)
        if value is None:
            return default
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise self.error(name, f"expected a list of strings, got {shown(value)}")
        for index, item in enumerate(items):
            if not isinstance(item, str) or not item:
                raise self.fail(f"{self.path(name)}[{index}]", f"expected a string, got {shown(item)}")
        return tuple(str(item) for item in items)

    def choice(self, name: str, default: D, options: tuple[str, ...]) -> str | D:
        value = self.raw(name)
        if value is None:
            return default
        if isinstance(value, str) and value in options:
            return str(value)
        meant = nearest(value, options) if isinstance(value, str) else None
        hint = f'; did you mean "{meant}"?' if meant else ""
        raise self.error(name, f"expected one of {', '.join(options)}; got {shown(value)}{hint}")

    def flag(self, name: str, default: D) -> bool | D:
        value = self.raw(name)
        if value is None:
            return default
        if isinstance(value, Expanded) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise self.error(name, f"expected true or false, got {shown(value)}")
        return value

    def whole(self, name: str, default: D, low: int, high: int) -> int | D:
        value = self.raw(name)
        if value is None:
            return default
        expected = f"expected a whole number from {low} to {high}, got {shown(value)}"
        if isinstance(value, Expanded) and re.fullmatch(r"-?[0-9]{1,18}", value):
            if re.match(r"-?0[0-9]", value):  # not all read that alike
                raise self.error(name, f"{expected}; write it without the leading 0")
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(name, expected + _unquote(value))
        if not low <= value <= high:
            raise self.error(name, expected)
        return value

    def fraction(self, name: str, default: D, low: float, high: float) -> float | D:
        value = self.raw(name)
        if value is None:
            return default
        if isinstance(value, Expanded) and re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            hint = _unquote(value)
            raise self.error(name, f"expected a number from {low:g} to {high:g}, got {shown(value)}{hint}")
        return float(value)

    def duration(self, name: str, default: D, low: int, high: int) -> int | D:
        """Milliseconds, `low` <= value <= `high`."""
        return self._measured(name, default, low, high, duration_ms, duration_text)

    def size(self, name: str, default: D, low: int, high: int) -> int | D:
        """Bytes, `low` <= value <= `high`."""
        return self._measured(name, default, low, high, size_bytes, lambda size: f"{size} bytes")

    def _measured(
        self,
        name: str,
        default: D,
        low: int,
        high: int,
        measure: Callable[[object], int],
        written: Callable[[int], str],
    ) -> int | D:
        value = self.raw(name)
        if value is None:
            return default
        try:
            size = measure(value)
        except ValueError as error:
            raise self.error(name, str(error)) from None
        if not low <= size <= high:
            allowed = f"allowed are {written(low)} to {written(high)}"
            raise self.error(name, f"{shown(value)} is out of range; {allowed}")
        return size

    @contextmanager
    def mapping(self, name: str) -> Iterator[Fields]:
        """The fields of the mapping `name` (absent = empty), closed at the end of the block."""
        inner = Fields(self.raw(name), at=self.path(name), fail=self.fail)
        yield inner
        inner.close()

    def each(self, name: str, read: Callable[[str, Fields], T]) -> dict[str, T]:
        """A mapping of names of the user's choice to mappings: `read` each of them."""
        return self._each(Fields(self.raw(name), at=self.path(name), fail=self.fail), read)

    def _each(self, outer: Fields, read: Callable[[str, Fields], T]) -> dict[str, T]:
        result: dict[str, T] = {}
        for key in outer._content:
            if not isinstance(key, str):
                raise outer.error("", f"expected names as keys, got {shown(key)}; put it in quotes")
            inner = Fields(outer._content[key], at=outer.path(key), fail=self.fail)
            result[key] = read(key, inner)
            inner.close()
        return result

    def close(self) -> None:
        """Refuse the first key that nobody asked for."""
        spelt = set(self._known.values())
        for key in self._content:
            if key not in spelt:
                raise self._unknown(key)

    def _unknown(self, key: object) -> IIIError:
        name = key if isinstance(key, str) else repr(key)
        at = f"{self.at}.{name}" if self.at else name
        meant = self._renamed.get(name) or nearest(name, self._known)
        hint = f'; did you mean "{meant}"?' if meant else ""
        return self.fail(at, f"unknown key{hint} (known here: {', '.join(sorted(self._known))})")

    def _refuse_misspelling(self, missing: str) -> None:
        """Where a key is there that `missing` was probably meant by, that key is the news."""
        for key in self._content:
            if not isinstance(key, str) or key in self._known:
                continue
            if self._renamed.get(key) == missing or nearest(key, [missing]):
                at = f"{self.at}.{key}" if self.at else key
                raise self.fail(at, f'unknown key; did you mean "{missing}"?')


def _quote(value: object) -> str:
    return "; put it in quotes" if isinstance(value, bool | int | float) else ""


def _unquote(value: object) -> str:
    looks_numeric = isinstance(value, str) and value.strip().lstrip("-").replace(".", "", 1).isdigit()
    return "; remove the quotes" if looks_numeric and not isinstance(value, Expanded) else ""
