"""Notes how long ago each message was meant to be sent."""

from __future__ import annotations

import time
from typing import Any

from bench.ledger import of_this_process
from iii import queue

config = {"name": "Pong", "triggers": [queue("ping")]}

ledger = of_this_process()


async def handler(message: Any) -> None:
    ledger.took(message["load"], (time.monotonic_ns() - message["meant_ns"]) / 1e6)
    ledger.saw(message["n"])
