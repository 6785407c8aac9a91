"""Tests over real sockets run through the lane and through Hypercorn, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping

import http_kit
import pytest
import uvloop
from http_kit import Serve

BOTH_LOOPS = {"test_accept", "test_eager"}


@pytest.fixture(params=["lane", "hypercorn"])
def serving(request: pytest.FixtureRequest) -> Serve:
    """`serving(*steps, config=, drain_ms=)`: a site on a socket."""
    return functools.partial(http_kit.serving, lane=request.param == "lane")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    own = item.path.stem in BOTH_LOOPS
    if own or (isinstance(item, pytest.Function) and "serving" in item.fixturenames):
        loops["uvloop"] = uvloop.new_event_loop
    return loops
