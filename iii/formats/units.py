"""Durations, sizes and names as people write them, and the nearest known word to a misspelt one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from ipaddress import ip_address

NAME_RULE = "1 to 128 characters of A-Z a-z 0-9 . _ : -"

_NAME = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_HOST = re.compile(r"[\w.:%-]{1,253}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_URL = re.compile(
    r"https?://(?:[\w.-]{1,253}|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?(?:/[^\s?#]*)?", re.ASCII
)
_NUMBER_UNIT = re.compile(r"\s*+(\d{1,15}(?:\.\d{1,6})?)\s*+([A-Za-z]*+)\s*+", re.ASCII)
_MS = {"": 1, "ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}


def duration_ms(value: object) -> int:
    """Milliseconds of `5000` (ms), "250ms", "5s", "2m", "1h" or "7d". ValueError says what is allowed."""
    return _scaled(
        value, _MS, 'a duration: milliseconds, or a number and its unit like "5s", "2m", "1h", "7d"'
    )


def size_bytes(value: object) -> int:
    """Bytes of `4096`, "64KiB", "1MB" or "1.5GiB". ValueError says what is allowed."""
    return _scaled(value, _BYTES, 'a size: bytes, or a number and its unit like "64KiB", "1MB", "2GiB"')


def _scaled(value: object, units: dict[str, int], expected: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := _NUMBER_UNIT.fullmatch(value)):
        number, unit = match.groups()
        scale = units.get(unit.lower())
        if scale is not None:
            return int(number) * scale if number.isdigit() else round(float(number) * scale)
    raise ValueError(f"expected {expected}; got {shown(value)}")


def duration_text(ms: int) -> str:
    """The shortest way to write `ms`: 5000 -> "5s", 90_000 -> "90s", 1 -> "1ms"."""
    for unit in ("d", "h", "m", "s"):
        if ms and ms % _MS[unit] == 0:
            return f"{ms // _MS[unit]}{unit}"
    return f"{ms}ms"


def rough_text(ms: int) -> str:
    """`ms` as people say it, in its two largest units: 7_058_000 -> "1h 57m", 59_000 -> "59s"."""
    if ms < 1000:
        return f"{ms}ms"
    units = [(unit, _MS[unit]) for unit in ("d", "h", "m", "s")]
    first = next(at for at, (_, size) in enumerate(units) if ms >= size)
    said = []
    for unit, size in units[first : first + 2]:
        count, ms = divmod(ms, size)
        said += [f"{count}{unit}"] if count else []
    return " ".join(said)


def size_text(size: int) -> str | int:
    """The shortest way to write a size: 65536 -> "64KiB"; one that no unit divides as it is."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit.lower()] == 0:
            return f"{size // _BYTES[unit.lower()]}{unit}"
    return size


def is_name(text: str) -> bool:
    """Whether `text` may name a topic or a step (NAME_RULE)."""
    return _NAME.fullmatch(text) is not None


def is_host(text: str) -> bool:
    """Whether `text` looks like a host's name or address: no scheme, no path, no brackets."""
    return _HOST.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Whether `text` is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_http_url(text: str) -> bool:
    """Whether `text` is the URL of a server: no user, no query, no fragment."""
    found = _URL.fullmatch(text)
    return found is not None and int(found["port"] or 1) in range(1, 65536)


def is_header_name(text: str) -> bool:
    """Whether HTTP can carry a header of that name (RFC 9110, token)."""
    return _TOKEN.fullmatch(text) is not None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8: it has no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known word that `word` most likely misspells, None when nothing is close. cutoff: how alike they
    are at least, 0 to 1."""
    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[close[0]] if close else None


def shown(value: object) -> str:
    """`value` as an error message shows it: with its type, and never longer than a line."""
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{type_name(value)} {text}" if type_name(value) != "null" else "nothing (null)"


def type_name(value: object) -> str:
    """The word that configuration and JSON use for the type of `value`."""
    names = ((type(None), "null"), (bool, "boolean"), (int, "number"), (float, "number"), (str, "string"))
    for kind, name in (*names, (dict, "mapping"), (list, "list"), (tuple, "list")):
        if isinstance(value, kind):
            return name
    return type(value).__name__
