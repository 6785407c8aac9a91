"""Runs at each change in namespace `watched`."""

from __future__ import annotations

from bench.ledger import of_this_process
from iii import StateChange, state

config = {"name": "Watch", "triggers": [state(namespace="watched", fire="every")]}

calls = of_this_process().calls


async def handler(change: StateChange) -> None:
    calls["watch"] += 1
