"""The rows of the tables as values, and their bytes. Knows no transaction.

array_like: a row is a msgpack array; names cost nothing, a new last field with a default reads old rows.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from iii.model import DeadLetter, LanePolicy, Suspects
from iii.store.lmdb.keys import BODY_BYTES_MIN


class Row(Struct, array_like=True, gc=False):
    """A message's record, whichever table holds it. payload None: it lies in `body`."""

    payload: bytes | None
    headers: dict[str, str]
    group: str | None
    enqueued_ms: int  # wall clock
    expires_ms: int = 0  # delay clock; 0 = never, as in every lane of a step
    attempts: int = 0  # failed ones
    crashes: int = 0
    error: str | None = None
    dead: DeadLetter | None = None
    due_ms: int = 0  # wall clock, after a delay or a retry
    alone: int = 0  # crashes in a quarantine

    @property
    def large(self) -> bool:
        payload = self.payload
        return payload is None or len(payload) > BODY_BYTES_MIN

    def record(self) -> bytes:
        """The bytes a table holds: a large payload is left out."""
        payload = self.payload
        if payload is None or len(payload) <= BODY_BYTES_MIN:
            return encode(self)
        return encode(msgspec.structs.replace(self, payload=None))


class LaneRow(Struct, array_like=True, frozen=True):
    topic: str
    step: str
    paused: bool = False
    served: bool = False
    max_in_flight: int | None = None
    max_depth: int | None = None
    retention_ms: int | None = None


class SessionEntry(Struct, array_like=True, frozen=True):
    """One worker's session; whether it lives is liveness.py's to say."""

    pid: int
    opened_ms: int  # wall clock
    policies: list[LanePolicy]
    suspects: Suspects = "one"


class ChangeRow(Struct, array_like=True, frozen=True):
    namespace: str
    key: str
    old: bytes | None
    new: bytes | None
    headers: dict[str, str]


encode = msgspec.msgpack.Encoder().encode
decode_row = msgspec.msgpack.Decoder(Row).decode
decode_lane = msgspec.msgpack.Decoder(LaneRow).decode
decode_session = msgspec.msgpack.Decoder(SessionEntry).decode
decode_change = msgspec.msgpack.Decoder(ChangeRow).decode
