"""References to environment variables in a text.

    ${VAR}             its value; it has to be set
    ${VAR:default}     the default where it is not set
    ${VAR:-default}    the default where it is not set or empty, as in a shell
    $${                the text ${

A default may hold references, and braces as long as each is closed. What a variable holds is taken as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from iii.formats.units import nearest

__all__ = ["expand", "is_without_braces"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UP_TO = re.compile(r"[^}:]*")
_WITHOUT_BRACES = re.compile(r"\$[A-Z_][A-Z0-9_]*(?:/.*)?", re.DOTALL)
_FORMS = "write ${VAR} or ${VAR:default}"


def expand(text: str, environ: Mapping[str, str]) -> str:
    """`text` with the values of its references. ValueError says which one is malformed, or all that are not
    set."""
    _Reader(text, environ).read(is_wanted=False)
    reader = _Reader(text, environ)
    value = reader.read(is_wanted=True)
    if reader.unset:
        raise ValueError(_not_set(reader.unset, environ))
    return value


def _not_set(names: list[str], environ: Mapping[str, str]) -> str:
    if len(names) > 1:
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        return (
            f"the environment variables {listed} are not set; set them, put them into .env beside this file, "
            f"or write defaults as in ${{{names[0]}:default}}"
        )
    [name] = names
    meant = nearest(name, environ)
    hint = f' (did you mean "{meant}"?)' if meant else ""
    return (
        f"the environment variable {name} is not set{hint}; set it, put it into .env beside this file, "
        f"or write ${{{name}:default}}"
    )


def is_without_braces(text: str) -> bool:
    """Whether the whole text, or a path's first part, is $VAR, as only a shell has it."""
    return _WITHOUT_BRACES.fullmatch(text) is not None


class _Reader:
    def __init__(self, text: str, environ: Mapping[str, str]) -> None:
        self._text, self._environ, self._at = text, environ, 0
        self.unset: list[str] = []

    def read(self, *, is_wanted: bool, is_default: bool = False) -> str:
        """The text from here to its end, or to the brace that ends the default. is_wanted: its value counts,
        so that what it refers to has to be set."""
        read: list[str] = []
        depth = 0
        while self._at < len(self._text):
            if self._takes("$${"):
                read.append("${")
                depth += 1
                continue
            if self._takes("${"):
                read.append(self._reference(is_wanted))
                continue
            character = self._text[self._at]
            if is_default and character == "}" and not depth:
                return "".join(read)
            depth += {"{": 1, "}": -1}.get(character, 0)
            read.append(character)
            self._at += 1
        if is_default:
            raise ValueError(f"${{ without its }}; {_FORMS}, $${{ for the text")
        return "".join(read)

    def _takes(self, sign: str) -> bool:
        found = self._text.startswith(sign, self._at)
        self._at += len(sign) if found else 0
        return found

    def _reference(self, is_wanted: bool) -> str:
        """The value of the reference whose ${ was just read."""
        match = _UP_TO.match(self._text, self._at)
        name = match[0] if match else ""
        self._at += len(name)
        if self._at == len(self._text):
            raise ValueError(f"${{ without its }}; {_FORMS}, $${{ for the text")
        if not _NAME.fullmatch(name):
            raise ValueError(f'"{name}" cannot name a variable; {_FORMS}')
        if self._takes("}"):
            return self._value(name) if is_wanted else ""
        self._takes(":")
        may_be_empty = not self._takes("-")
        if may_be_empty and self._text[self._at : self._at + 1] in ("?", "=", "+"):
            sign = self._text[self._at]
            raise ValueError(
                f"${{{name}:{sign}…}} means nothing here; write ${{{name}}}, which has to be set, or "
                f"${{{name}:-default}} (whose default may begin with {sign})"
            )
        value = self._environ.get(name)
        is_given = value is not None and (may_be_empty or value != "")
        default = self.read(is_default=True, is_wanted=is_wanted and not is_given)
        self._at += 1
        return value if is_given and value is not None else default

    def _value(self, name: str) -> str:
        value = self._environ.get(name)
        if value is None and name not in self.unset:
            self.unset.append(name)
        return value or ""
