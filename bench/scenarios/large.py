"""`large`: `drain` with payloads of 1, 10 and 100 KiB."""

from __future__ import annotations

from functools import partial

from bench.scenarios import drain
from bench.settings import Result, Round

KIB = 1024
SIZES = {1: (100_000, 10_000), 10: (50_000, 5_000), 100: (10_000, 1_024)}
"""KiB: messages in full and in quick"""


def measure(round: Round) -> Result:
    figures: Result = {}
    for kib, (full, quick) in SIZES.items():
        folder = round.folder / f"{kib}"
        folder.mkdir()
        part = Round(round.settings, folder, partial(_say, round, kib))
        result = drain.measure(part, 1024, text_bytes=kib * KIB, messages=round.settings.size(full, quick))
        rate, limit = result["messages_per_s"], result["limit_messages_per_s"]
        figures[f"{kib}_kib_messages_per_s"] = rate
        figures[f"{kib}_kib_mib_per_s"] = rate * kib / KIB
        figures[f"limit_{kib}_kib_messages_per_s"] = limit
    return figures


def _say(round: Round, kib: int, what: str) -> None:
    round.say(f"{kib} KiB: {what}")
