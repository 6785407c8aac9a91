"""Run records: what a run leaves in the store's bounded history."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from iii.model import Record

__all__ = ["Run", "RunOutcome", "decode", "record"]

RunOutcome: TypeAlias = Literal["done", "failed", "dead", "cancelled", "snoozed"]


class Run(Struct, frozen=True, omit_defaults=True):
    """One run of a step. Stored as JSON; times in ms, `started` on the wall clock."""

    step: str
    trigger: str
    message_id: str
    attempt: int
    started_ms: int
    duration_ms: int
    outcome: RunOutcome
    trace_id: str
    topic: str = ""
    error: str = ""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Run)


def record(run: Run) -> Record:
    """The op that keeps it."""
    return Record("run", _encoder.encode(run))


def decode(content: bytes) -> Run:
    return _decoder.decode(content)
