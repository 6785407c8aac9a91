"""Requests have times they are meant for, whatever happens to those before them."""

from __future__ import annotations

import time

from bench.pace import pace


async def test_every_offer_is_made_once_and_has_its_own_time() -> None:
    offers: list[tuple[int, int]] = []
    await pace(10_000, 500, lambda i, meant_ns: offers.append((i, meant_ns)))
    assert [i for i, _ in offers] == list(range(500))
    assert [meant_ns - offers[0][1] for _, meant_ns in offers] == [i * 100_000 for i in range(500)]


async def test_nothing_is_offered_before_its_time() -> None:
    too_soon: list[int] = []
    await pace(2_000, 100, lambda i, meant_ns: too_soon.append(i) if time.monotonic_ns() < meant_ns else None)
    assert too_soon == []


async def test_what_a_slow_system_held_up_keeps_the_time_it_was_meant_for() -> None:
    """A sender that waited for the slow one and then went on would hide its latency."""
    late_ms: list[float] = []

    def offer(i: int, meant_ns: int) -> None:
        late_ms.append((time.monotonic_ns() - meant_ns) / 1e6)
        while i == 0 and time.monotonic_ns() < meant_ns + 50_000_000:
            pass

    await pace(1_000, 40, offer)
    assert len(late_ms) == 40
    assert min(late_ms[1:]) >= 10  # the last of them was meant for 39 ms after the first
