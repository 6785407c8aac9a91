"""Engines whose spans go to a collector, and requests to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from engine_kit import Running, running
from otlp_kit import Collector

from iii.sections import TracesConfig
from iii.step import Step
from iii.web.request import Request
from iii.web.response import Answer

__all__ = ["TRACEPARENT", "ask", "traced"]

TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


@asynccontextmanager
async def traced(collector: Collector, *steps: Step, **changes: Any) -> AsyncIterator[Running]:
    """An engine whose spans have arrived at the end."""
    async with running(*steps, traces=TracesConfig(endpoint=f"{collector.url}/v1/traces"), **changes) as app:
        yield app


async def ask(app: Running, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    return await app.engine.endpoint.answer(Request(method, path, b"", given, body))
