"""What a schedule says is what it does: the words are read again and compared with its fires."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from cron_words_reader import reads
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from iii.errors import StepError
from iii.formats.cron_expression import Schedule, parse


@pytest.mark.parametrize(
    ("expression", "timezone", "words"),
    [
        ("0 0 2 * * * *", "UTC", "every day at 02:00 UTC"),
        ("0 2 * * *", "Europe/Berlin", "every day at 02:00 Europe/Berlin"),
        ("*/2 * * * * *", "UTC", "every 2 seconds (UTC)"),
        ("* * * * * *", "UTC", "every second (UTC)"),
        ("*/5 * * * *", "Asia/Tokyo", "every 5 minutes (Asia/Tokyo)"),
        ("0 */6 * * *", "UTC", "every 6 hours (UTC)"),
        ("15 * * * *", "UTC", "every hour at minute 15 (UTC)"),
        ("30 9 * * 1-5", "UTC", "every weekday at 09:30 UTC"),
        ("0 9,17 * * MON,FRI", "UTC", "every Monday and Friday at 09:00 and 17:00 UTC"),
        ("30 0 12 1 * *", "UTC", "the 1st of every month at 12:00:30 UTC"),
        ("0 0 L * *", "UTC", "the last day of every month at 00:00 UTC"),
        ("0 0 3 JAN,7 ?", "UTC", "the 3rd of January and July at 00:00 UTC"),
        ("0 0 0 1 1 * 2030-2032", "UTC", "the 1st of January at 00:00 in 2030 to 2032 (UTC)"),
        ("*/5 * * * 0", "UTC", "every 5 minutes, every Sunday (UTC)"),
        ("*/7 * * * *", "UTC", "every 7th minute from 0 to 56 of every hour (UTC)"),
        ("*/15 9-17 * * 1-5", "UTC", "every 15 minutes from 09:00 to 17:45, every weekday (UTC)"),
        ("0 0 1-31 * 4", "UTC", "every day at 00:00 UTC"),
        ("0 0 1/1 * 4", "UTC", "every day at 00:00 UTC"),
        ("0 0 1 * 0-7", "UTC", "every day at 00:00 UTC"),
        ("0 0 1 5 0-6", "UTC", "every day in May at 00:00 UTC"),
        ("0 9 13 * 5", "UTC", "the 13th of every month and every Friday at 09:00 UTC"),
        ("0 9 */13 * 5", "UTC",
         "the 1st, the 14th and the 27th of every month if it is a Friday at 09:00 UTC"),
        ("0 0 * * 1#2,5L", "UTC", "the 2nd Monday and the last Friday of every month at 00:00 UTC"),
        ("*/45 * * * *", "UTC", "every hour at minutes 0 and 45 (UTC)"),
        ("*/60 * * * *", "UTC", "every hour at minute 0 (UTC)"),
        ("0 */24 * * *", "UTC", "every day at 00:00 UTC"),
        ("0 */20 * * *", "UTC", "every day at 00:00 and 20:00 UTC"),
    ],
)  # fmt: skip
def test_words(expression: str, timezone: str, words: str) -> None:
    assert parse(expression, timezone).words == words


# ------------------------------------------------------------------------------------- words and schedule


def field(low: int, high: int, *names: str) -> st.SearchStrategy[str]:
    """Whatever a field may hold, full ranges in disguise included."""
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}")
    step = st.integers(1, high - low)
    term = st.one_of(
        number.map(str),
        span,
        st.just(f"{low}-{high}"),
        st.builds("{}/{}".format, st.one_of(st.just("*"), number.map(str), span), step),
        *([st.sampled_from(names)] if names else []),
    )
    return st.one_of(st.just("*"), number.map(str), st.lists(term, min_size=1, max_size=4).map(",".join))


EXPRESSIONS = st.tuples(
    st.one_of(st.just("0"), field(0, 59)),
    field(0, 59),
    field(0, 23),
    field(1, 31, "L", "LW"),
    field(1, 12, "JAN", "DEC"),
    field(0, 7, "MON", "SUN", "5L", "0L", "7#1", "1#2", "3#5", "1-5", "MON-FRI"),
    st.sampled_from(["*", "*", "*", "2026", "2026-2027", "2025-2029/2", "2024/4"]),
).map(" ".join)


@settings(max_examples=400)
@given(EXPRESSIONS, st.randoms(use_true_random=False))
def test_words_say_when_a_schedule_fires_and_when_not(expression: str, random: random.Random) -> None:
    schedule = possible(expression)
    says = reads(schedule.words, "UTC")
    for at in moments(schedule, random):
        at_ms = round(at.timestamp()) * 1000
        fires = schedule.next_ms(at_ms - 1000) == at_ms
        assert says(at) == fires, f"{expression}: {schedule.words!r} at {at}: fires {fires}"


def moments(schedule: Schedule, random: random.Random) -> list[datetime]:
    """Fires, what lies around them, and any."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    found = [start + timedelta(seconds=random.randrange(6 * 365 * 86_400)) for _ in range(20)]
    for at in found[:8]:
        fire = schedule.next_ms(round(at.timestamp()) * 1000)
        if fire is not None and fire < 4_000_000_000_000:
            hit = datetime.fromtimestamp(fire / 1000, UTC)
            found += [hit + timedelta(**{unit: by}) for unit in ("seconds", "minutes", "hours", "days")
                      for by in (-1, 0, 1)]  # fmt: skip
    return found


def possible(expression: str) -> Schedule:
    try:
        return parse(expression)
    except StepError as error:
        assume("never fires" not in error.message)
        raise


@given(EXPRESSIONS, st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Etc/GMT+5"]))
def test_the_zone_is_always_named(expression: str, zone: str) -> None:
    possible(expression)
    assert parse(expression, zone).words.removesuffix(")").endswith(zone)
