"""Text that came from outside, as it is printed for people: nothing in it moves a cursor, turns letters round
or begins a line of its own.

    escaped     C0 and C1 controls (line breaks and tabs among them), DEL, U+2028 and U+2029, the marks that
                turn the direction of text, lone surrogates: as Python writes them, \\x1b, \\n, \\u202e
    kept        everything else, in whatever script

Whatever prints for people uses these functions: log lines, tables, error messages, reports. What is JSON
already goes through `printable_json`, which changes no value.
"""

from __future__ import annotations

import re

__all__ = ["indented", "printable", "printable_json"]

_BIDI_AND_BREAKS = "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_OBEYED = re.compile(f"[\x00-\x1f\x7f-\x9f{_BIDI_AND_BREAKS}\ud800-\udfff]")
_OBEYED_IN_JSON = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_BIDI_AND_BREAKS}\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    """`text` on one line."""
    return text if text.isprintable() else _OBEYED.sub(_escaped, text)


def indented(text: str, indent: str = "  ") -> str:
    """`text` of several lines, a traceback: none of them can be taken for a line that stands for itself."""
    return "\n".join(f"{indent}{printable(line)}" for line in text.split("\n"))


def printable_json(encoded: str) -> str:
    """JSON of the same value. Line breaks and tabs between its tokens stay."""
    if encoded.isprintable():
        return encoded
    return _OBEYED_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", encoded)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
