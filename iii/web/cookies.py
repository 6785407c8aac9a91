"""The Cookie header as names and values (RFC 6265 §5.4), read leniently and in one pass.

Not the standard library's reader: before Python 3.11.10 a quoted value full of backslashes holds it for
minutes, and one odd cookie makes it drop all that follow.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["cookie_pairs", "read_cookies"]

_BLANK = " \t"


def read_cookies(header: str) -> dict[str, str]:
    """The first of a name counts, as browsers send the one with the longest path first."""
    cookies: dict[str, str] = {}
    for name, value in cookie_pairs(header):
        cookies.setdefault(name, value)
    return cookies


def cookie_pairs(header: str) -> Iterator[tuple[str, str]]:
    """All of them; pairs without a name or a "=" are passed over. Quotes around a value are no part of it."""
    for pair in header.split(";"):
        name, equals, value = pair.partition("=")
        name, value = name.strip(_BLANK), value.strip(_BLANK)
        if not equals or not name:
            continue
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        yield name, value
