"""A request that touches no state."""

from __future__ import annotations

from typing import Any

from bench.ledger import of_this_process
from iii import Request, http

config = {"name": "Hello", "triggers": [http("GET", "/hello")]}

calls = of_this_process().calls


async def handler(request: Request) -> dict[str, Any]:
    calls["hello"] += 1
    return {"status": 200, "body": {"message": "hello"}}
