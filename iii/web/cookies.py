"""The Cookie header as names and values (RFC 6265 §5.4), read leniently and in one pass.

Not the standard library's reader: before Python 3.11.10 a quoted value full of backslashes holds it for
minutes, and one odd cookie makes it drop all that follow.
"""

from __future__ import annotations

__all__ = ["read_cookies"]

_BLANK = " \t"


def read_cookies(header: str) -> dict[str, str]:
    """Pairs without a name or a "=" are passed over; the first of a name counts, as browsers send the one
    with the longest path first. Quotes around a value are no part of it."""
    cookies: dict[str, str] = {}
    for pair in header.split(";"):
        name, equals, value = pair.partition("=")
        name, value = name.strip(_BLANK), value.strip(_BLANK)
        if not equals or not name:
            continue
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        cookies.setdefault(name, value)
    return cookies
