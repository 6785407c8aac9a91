"""Who changed what from outside: the rows that console and command line write with each of their changes.

An audit row is an op of the same Txn as the change, so there is none without the other. Bounded by the store
(Limits.audits_max). Refused logins, which anybody can make, have a bound of their own.
"""

from __future__ import annotations

import getpass
import os
from typing import Any

import msgspec
from msgspec import Struct

from iii.model import Record
from iii.store.contract import Store
from iii.store.quotas import LOGIN_REFUSED

__all__ = ["LOGIN_REFUSED", "Actor", "AuditEntry", "audits", "command_line"]

DETAIL_BYTES_MAX = 4 << 10


class Actor(Struct, frozen=True):
    """Who does it, as the log tells it: "console 127.0.0.1", "cli ada", "engine"."""

    name: str = "engine"

    def did(self, store: Store, what: str, /, **detail: Any) -> Record:
        """The op that tells it; `detail`: what was asked for, and how many it concerned."""
        content = msgspec.json.encode(detail)
        if len(content) > DETAIL_BYTES_MAX:
            detail = {name: _short(value) for name, value in detail.items()}
        return Record("audit", _encode(AuditEntry(store.clock.wall_ms(), self.name, what, detail)))


class AuditEntry(Struct, frozen=True):
    """A row of the log."""

    at_ms: int
    who: str
    what: str
    detail: dict[str, Any]


class AuditRow(Struct, frozen=True):
    """With its number: newer ones are higher."""

    id: int
    entry: AuditEntry


def audits(store: Store, *, limit: int = 100, before: int | None = None) -> list[AuditRow]:
    """The newest first. Next page: before=the last row's id."""
    rows = store.records("audit", limit=limit, before=before)
    return [AuditRow(id, _decode(content)) for id, content in rows]


def command_line() -> Actor:
    """The user at the command line."""
    try:
        return Actor(f"cli {getpass.getuser()}")
    except (KeyError, OSError):  # a user without a name, as in some containers
        return Actor(f"cli uid {os.getuid()}")


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AuditEntry).decode


def _short(value: Any) -> Any:
    """What fits into a row: long lists and texts by their beginning."""
    if isinstance(value, str) and len(value) > 200:
        return f"{value[:200]}…"
    if isinstance(value, list) and len(value) > 20:
        return [*value[:20], f"… {len(value)} in all"]
    if isinstance(value, dict):
        return {name: _short(inner) for name, inner in value.items()}
    return value
