"""A message that does nothing but being counted."""

from __future__ import annotations

from typing import Any

from bench.ledger import of_this_process
from iii import queue

config = {"name": "Count", "triggers": [queue("bench")]}

saw = of_this_process().saw


async def handler(message: Any) -> None:
    saw(message["n"])
