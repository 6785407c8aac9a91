"""The text of the configuration file: YAML, ${VAR:default}, .env, and the line each field stands on.

Knows nothing of what the fields mean. YAML is read by PyYAML's safe loader; a key given twice is
refused. ${VAR} takes the environment's value, ${VAR:default} the default where VAR is not set, and
$${ stands for a literal ${.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from iii.errors import ConfigError, IIIError
from iii.formats.fields import Expanded
from iii.formats.units import nearest

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[^}:]*)(?P<default>:[^}]*)?\}|\$\{")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_FILE_BYTES_MAX = 4 << 20
_VALUES_MAX = 100_000


class Source(NamedTuple):
    """What a file holds. `lines`: dotted field -> line number, from 1."""

    file: str
    content: object
    lines: Mapping[str, int]

    def fail(self, field: str, message: str) -> IIIError:
        """The ConfigError for `field`, with the line it (or the nearest field around it) stands on."""
        around = field
        while around and around not in self.lines:
            around = re.sub(r"(\.|^)[^.]*$|\[\d+\]$", "", around)
        file = f"{self.file}:{self.lines[around]}" if around else self.file
        return ConfigError(message, file=file, field=field)


def read_yaml(path: Path) -> Source:
    """Read `path`; ConfigError says where it is wrong."""
    file = str(path)
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            "no such file; name another with -c, or `iii create DIR` makes one", file=file
        ) from None
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
    if not file.is_file():
        return
    from dotenv import load_dotenv

    try:
        load_dotenv(file, override=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {error}", file=str(file)) from None


def _parse(text: str, file: str) -> Source:
    lines: dict[str, int] = {}
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            content = _Builder(loader, file, lines).build(node, "") if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise _broken(error, file) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"is not YAML: {error}", file=file) from None
    except (RecursionError, ValueError) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"is not YAML: {problem}", file=file) from None
    return Source(file, content, lines)


def _broken(error: yaml.MarkedYAMLError, file: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
    problem = error.problem or "cannot be read"
    hint = "; indent with spaces, not with tabs" if "'\\t'" in problem else ""
    context = f" ({error.context})" if error.context else ""
    return ConfigError(f"is not YAML: {problem}{context}{hint}", file=where)


class _Builder:
    """Turns PyYAML's nodes into plain values, so that each key is known with its line."""

    def __init__(self, loader: yaml.SafeLoader, file: str, lines: dict[str, int]) -> None:
        self._loader, self._file, self._lines = loader, file, lines
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
            return self._scalar(node, at)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, at: str) -> dict[Any, Any]:
        given: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, line = self._key(key_node, at), key_node.start_mark.line + 1
            if key in given:
                raise ConfigError(
                    f"is given twice, on lines {given[key]} and {line}; keep one",
                    file=f"{self._file}:{line}",
                    field=_under(at, key),
                )
            given[key] = line
        self._loader.flatten_mapping(node)  # <<: *anchor; what the mapping says itself comes last and wins
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, at)
            result[key] = self.build(value_node, _under(at, key))
            self._lines[_under(at, key)] = key_node.start_mark.line + 1
        return result

    def _key(self, node: Any, at: str) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            line = node.start_mark.line + 1
            raise ConfigError("a key must be a plain name", file=f"{self._file}:{line}", field=at)
        return self._loader.construct_object(node)

    def _scalar(self, node: yaml.ScalarNode, at: str) -> Any:
        value = self._loader.construct_object(node)
        if not isinstance(value, str) or "${" not in value:
            return value
        return Expanded(_REFERENCE.sub(lambda match: self._lookup(match, node, at), value))

    def _lookup(self, match: re.Match[str], node: yaml.ScalarNode, at: str) -> str:
        if match[0] == "$${":
            return "${"
        file = f"{self._file}:{node.start_mark.line + 1}"
        name, default = match["name"], match["default"]
        if name is None:
            raise ConfigError(
                "${ without its }; write ${VAR} or ${VAR:default}, $${ for the text", file=file, field=at
            )
        if not _VARIABLE.fullmatch(name):
            raise ConfigError(
                f'"{name}" cannot name a variable; write ${{VAR}} or ${{VAR:default}}', file=file, field=at
            )
        if (value := os.environ.get(name)) is not None:
            return value
        if default is not None:
            return default[1:]
        meant = nearest(name, os.environ)
        hint = f' (did you mean "{meant}"?)' if meant else ""
        raise ConfigError(
            f"the environment variable {name} is not set{hint}; set it, put it into .env beside this file, "
            f"or write ${{{name}:default}}",
            file=file,
            field=at,
        )


def _under(at: str, key: object) -> str:
    return f"{at}.{key}" if at else str(key)
