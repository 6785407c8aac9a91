"""The text of the configuration file: YAML, ${VAR:default}, .env, and the line each field stands on.

Knows nothing of what the fields mean. YAML is read by PyYAML's safe loader; a key given twice is refused, and
so is a number that is another one in YAML 1.1 than in 1.2. References to variables: variables.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from iii.errors import ConfigError, IIIError
from iii.formats.fields import Expanded
from iii.formats.variables import expand, is_without_braces

_TAG = "tag:yaml.org,2002:"
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_PLAIN_TAGS = (f"{_TAG}map", f"{_TAG}seq")
_FILE_BYTES_MAX = 4 << 20
_VALUES_MAX = 100_000


class Source(NamedTuple):
    """What a file holds. `lines`: dotted field -> line number, from 1. `errors`: what is wrong with fields as
    they are written; each has no value, or its last one where it is given twice."""

    file: str
    content: object
    lines: Mapping[str, int]
    errors: list[ConfigError]

    def fail(self, field: str, message: str) -> IIIError:
        """The ConfigError for `field`, with the line it (or the nearest field around it) stands on."""
        around = field
        while around and around not in self.lines:
            around = re.sub(r"(\.|^)[^.]*$|\[\d+\]$", "", around)
        file = f"{self.file}:{self.lines[around]}" if around else self.file
        return ConfigError(message, file=file, field=field)


def read_yaml(path: Path) -> Source:
    """Read `path`; ConfigError says where it cannot be read as a whole."""
    file = str(path)
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except FileNotFoundError:
        what = f"is a link to nothing: {os.readlink(path)}" if path.is_symlink() else "no such file"
        raise ConfigError(f"{what}; name another with -c, or `iii create DIR` makes one", file=file) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 (byte {error.start}); save it as UTF-8", file=file) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=file) from None
    if len(raw) > _FILE_BYTES_MAX:
        raise ConfigError(f"holds {len(raw)} bytes; at most {_FILE_BYTES_MAX} are read", file=file)
    return _parse(text, file)


def load_env(folder: Path) -> None:
    """Load the folder's .env, if any, into the environment. It overrides nothing that is set there."""
    file = folder / ".env"
    if not file.exists() and not file.is_symlink():
        return
    from dotenv import load_dotenv
    from dotenv.parser import parse_stream

    try:
        text = file.read_text(encoding="utf-8")
        for binding in parse_stream(StringIO(text)):
            if binding.error:
                message = "is no NAME=value; mend it, or begin it with #"
                raise ConfigError(message, file=f"{file}:{binding.original.line}")
        load_dotenv(stream=StringIO(text), override=False)
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot be read: {told}", file=str(file)) from None


def _parse(text: str, file: str) -> Source:
    lines: dict[str, int] = {}
    errors: list[ConfigError] = []
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            content = _Builder(loader, file, lines, errors).build(node, "") if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise _broken(error, file) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"is not YAML: {error}", file=file) from None
    except (RecursionError, ValueError) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"is not YAML: {problem}", file=file) from None
    return Source(file, content, lines, errors)


def _broken(error: yaml.MarkedYAMLError, file: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
    problem = error.problem or "cannot be read"
    hint = "; indent with spaces, not with tabs" if "'\\t'" in problem else ""
    context = f" ({error.context})" if error.context else ""
    return ConfigError(f"is not YAML: {problem}{context}{hint}", file=where)


class _Builder:
    """Turns PyYAML's nodes into plain values, so that each key is known with its line."""

    def __init__(
        self, loader: yaml.SafeLoader, file: str, lines: dict[str, int], errors: list[ConfigError]
    ) -> None:
        self._loader, self._file, self._lines, self._errors = loader, file, lines, errors
        self._open: set[int] = set()
        self._built = 0

    def build(self, node: Any, at: str) -> Any:
        if at:
            self._lines[at] = node.start_mark.line + 1
        line = node.start_mark.line + 1
        if id(node) in self._open:
            raise ValueError(f"line {line}: an alias contains itself")
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
            raise ValueError(f"line {line}: the tag {node.tag} means nothing here")
        self._built += 1
        if self._built > _VALUES_MAX:
            raise ValueError(f"line {line}: more than {_VALUES_MAX} values, counting what aliases repeat")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, at)
            if isinstance(node, yaml.SequenceNode):
                return [self.build(item, f"{at}[{index}]") for index, item in enumerate(node.value)]
            return self._value(node, at)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, at: str) -> dict[Any, Any]:
        given: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._blame(key_node, at, "a key must be a plain name")
                continue
            key, line = self._scalar(key_node), key_node.start_mark.line + 1
            problem = _ambiguous(key_node)
            if key in given:
                problem = f"is given twice, on lines {given[key]} and {line}; keep one"
            if problem is not None:
                self._blame(key_node, _under(at, key), problem)
            given[key] = line
        self._loader.flatten_mapping(node)  # <<: *anchor; what the mapping says itself comes last and wins
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            key = self._scalar(key_node)
            result[key] = self.build(value_node, _under(at, key))
            self._lines[_under(at, key)] = key_node.start_mark.line + 1
        return result

    def _value(self, node: yaml.ScalarNode, at: str) -> Any:
        if (problem := _ambiguous(node)) is not None:
            return self._blame(node, at, problem)
        value = self._scalar(node)
        if not isinstance(value, str):
            return value
        try:
            if "${" in value:
                return Expanded(expand(value, os.environ))
        except ValueError as error:
            return self._blame(node, at, str(error))
        if is_without_braces(value):
            name = value[1:].partition("/")[0]
            return self._blame(node, at, f'"{value}" is a text here; write ${{{name}}} for the variable')
        return value

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        """What is written; a date is its text."""
        is_date = node.style is None and node.tag == f"{_TAG}timestamp"
        return node.value if is_date else self._loader.construct_object(node)

    def _blame(self, node: Any, at: str, problem: str) -> None:
        file = f"{self._file}:{node.start_mark.line + 1}"
        self._errors.append(ConfigError(problem, file=file, field=at))


def _ambiguous(node: yaml.ScalarNode) -> str | None:
    """Why nobody can tell which number is meant, or whether one is."""
    if node.style is not None:  # in quotes
        return None
    if _LEADING_ZERO.fullmatch(node.value):
        problem = "is one number in YAML 1.1 and another in YAML 1.2: write it without the leading 0"
    elif _BASE_60.fullmatch(node.value):
        problem = 'is a number to the base 60 in YAML 1.1: write a duration with its unit, like "90s"'
    else:
        return None
    return f"{node.value} {problem}, or put it in quotes where it is a text"


def _under(at: str, key: object) -> str:
    return f"{at}.{key}" if at else str(key)
