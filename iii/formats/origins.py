"""Origins as browsers send them in the header `Origin` (RFC 6454 §6.2)."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address

__all__ = ["origin_fault"]

_PARTS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<user>[^/?#]*)@)?(?P<host>\[[^\]]*\]|[^/?#:@]*)"
    r"(?::(?P<port>[0-9]*))?(?P<rest>[/?#].*)?"
)
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_DEVIATING = frozenset("ßς\u200c\u200d")  # browsers keep them (UTS 46); Python's codec writes others for them


def origin_fault(origin: str) -> str | None:
    """Why no browser ever sends `origin`, and what to write; None where one may. "*" and "null" are the
    caller's to judge."""
    if re.search(r"[,;\s]", origin):
        parts = [part for part in re.split(r"[,;\s]+", origin) if part]
        return f"is a list in one string; write a list: [{', '.join(map(_quoted, parts))}]"
    if "*" in origin:
        return 'is a pattern, and origins are compared as they are; name each, or write "*" alone for all'
    if "://" not in origin:
        host = origin.rstrip("/").removeprefix("//")
        meant = _serialised(f"https://{host}")
        return f"has no scheme; write {_quoted(meant)}" if meant else _NO_ORIGIN
    meant = _serialised(origin)
    if meant is None:
        return _NO_ORIGIN
    return None if meant == origin else f"is no origin as browsers send it; write {_quoted(meant)}"


_NO_ORIGIN = (
    'is no origin; write scheme, host and port (unless it is the default one), like "https://app.example.com"'
)


def _serialised(url: str) -> str | None:
    """The origin of `url`; None where it has none."""
    parts = _PARTS.fullmatch(url)
    if parts is None:
        return None
    scheme, host = parts["scheme"].lower(), _host(parts["host"])
    if host is None or scheme == "file":  # pages of files send "null"
        return None
    port = int(parts["port"] or 0)
    if port > 65535:
        return None
    return f"{scheme}://{host}" + (f":{port}" if port and port != _DEFAULT_PORTS.get(scheme) else "")


def _host(written: str) -> str | None:
    if written.startswith("["):
        try:
            return f"[{IPv6Address(written[1:-1]).compressed}]"
        except ValueError:
            return None
    name = _ascii(written.lower())
    if name is None or _HOST.fullmatch(name) is None:
        return None
    if name.rstrip(".").rpartition(".")[2].isdigit():  # browsers take it for an address
        try:
            return str(ip_address(name.rstrip(".")))
        except ValueError:
            return None
    return name


def _ascii(name: str) -> str | None:
    try:
        return ".".join(map(_label, name.split(".")))
    except UnicodeError:
        return None


def _label(label: str) -> str:
    if label.isascii():
        return label
    if _DEVIATING.isdisjoint(label):
        return label.encode("idna").decode()
    return "xn--" + label.encode("punycode").decode()


def _quoted(text: str) -> str:
    return f'"{text}"'
