"""How many fires there are, counted by days: the same as one by one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from iii.formats.cron_expression import parse

HOUR = 3_600_000
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Havana",
    "Asia/Tokyo",
    "Africa/Casablanca",
]


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@settings(max_examples=60)
@example("0,15,30,45 2,3 * * *", "Europe/Berlin", ms("2026-03-28T12:00"), 2 * 24 * HOUR)
@example("15,45 2 * * *", "Europe/Berlin", ms("2026-10-25T01:20"), 24 * HOUR)
@example("*/20 * * * *", "Australia/Lord_Howe", ms("2026-04-04T13:10"), 5 * HOUR)
@given(
    st.sampled_from(
        ["*/10 * * * *", "*/15 1-3 * * *", "15,45 2 * * *", "0,30 1-3 * * *", "* 0 * * *", "0 0 L,13 * 5"]
    ),
    st.sampled_from(["UTC", *ZONES]),
    st.integers(ms("2024-01-01"), ms("2030-01-01")),
    st.integers(-HOUR, 20 * 24 * HOUR),
)
def test_a_count_is_as_many_as_there_are(expression: str, zone: str, after: int, length: int) -> None:
    schedule = parse(expression, zone)
    assert schedule.count(after, after + length) == len(schedule.between(after, after + length, 100_000))


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Havana"])
@pytest.mark.parametrize("expression", ["30 2 * * *", "0,30 0-3 * * *", "*/30 * * * *"])
def test_counts_from_and_to_every_half_hour_around_clock_changes(expression: str, zone: str) -> None:
    schedule = parse(expression, zone)
    for begin in ("2026-03-07T22:00", "2026-03-28T22:00", "2026-04-04T12:00", "2026-10-03T12:00",
                  "2026-10-24T22:00", "2026-11-01T00:00"):  # fmt: skip
        moments = [ms(begin) + n * HOUR // 2 for n in range(17)]
        for after in moments:
            for until in moments:
                assert schedule.count(after, until) == len(schedule.between(after, until, 100))


def test_years_of_seconds_are_counted_at_once() -> None:
    assert parse("* * * * * *").count(ms("2000-01-01"), ms("2026-01-01")) == 9_497 * 86_400
    assert parse("0 0 0 1 1 * 2001-2010/3").count(ms("2000-01-01"), ms("2026-01-01")) == 4
