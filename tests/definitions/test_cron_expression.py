"""Cron: against a matcher that looks at every second, across clock changes, and what is refused."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from iii.errors import StepError
from iii.formats.cron_expression import Schedule, parse

HOUR = 3_600_000


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def since_epoch(at: datetime) -> int:
    return round(at.replace(tzinfo=UTC).timestamp()) * 1000


def texts(fires: list[int]) -> list[str]:
    return [datetime.fromtimestamp(fire / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") for fire in fires]


def fires(expression: str, after: str, until: str, timezone: str = "UTC", limit: int = 100) -> list[str]:
    return texts(parse(expression, timezone).between(ms(after), ms(until), limit))


# ----------------------------------------------------------------------------- against a naive matcher

Field = tuple[str, Callable[[int], bool]]


def field(low: int, high: int) -> st.SearchStrategy[Field]:
    """A cron field and what it means, each made from the same numbers."""
    number = st.integers(low, high)

    def span(a: int, b: int) -> Field:
        first, last = min(a, b), max(a, b)
        return f"{first}-{last}", lambda v: first <= v <= last

    def stepped(a: int, b: int, n: int) -> Field:
        first, last = min(a, b), max(a, b)
        return f"{first}-{last}/{n}", lambda v: first <= v <= last and (v - first) % n == 0

    return st.one_of(
        st.just(("*", lambda v: True)),
        st.integers(1, min(12, high - low)).map(lambda n: (f"*/{n}", lambda v: (v - low) % n == 0)),
        number.map(lambda n: (str(n), lambda v: v == n)),
        st.lists(number, min_size=2, max_size=4).map(lambda ns: (",".join(map(str, ns)), lambda v: v in ns)),
        st.builds(span, number, number),
        st.builds(stepped, number, number, st.integers(2, min(9, high - low))),
    )


def matches(fields: list[Field], at: datetime) -> bool:
    second, minute, hour, day, month, weekday = (test for _, test in fields)
    if not (second(at.second) and minute(at.minute) and hour(at.hour) and month(at.month)):
        return False
    sunday_first = at.isoweekday() % 7
    on_weekday = weekday(sunday_first) or (sunday_first == 0 and weekday(7))
    if fields[3][0].startswith("*") or fields[5][0].startswith("*"):
        return day(at.day) and on_weekday
    return day(at.day) or on_weekday


SIX_FIELDS = st.tuples(
    field(0, 59), field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)
).map(list)  # fmt: skip


@settings(max_examples=150)
@example([("5-5/2", lambda v: v == 5), *[("*", lambda v: True)] * 5], datetime(2026, 1, 1), random.Random(1))
@given(
    SIX_FIELDS, st.datetimes(datetime(1999, 1, 1), datetime(2080, 1, 1)), st.randoms(use_true_random=False)
)
def test_utc_agrees_with_looking_at_every_second(
    fields: list[Field], after: datetime, random: random.Random
) -> None:
    after = after.replace(microsecond=0)
    schedule = possible(" ".join(text for text, _ in fields))
    first_ms = schedule.next_ms(since_epoch(after))
    assert first_ms is not None
    first = datetime.fromtimestamp(first_ms / 1000, UTC).replace(tzinfo=None)
    gap = round((first - after).total_seconds())

    skipped = [after + timedelta(seconds=random.randint(1, gap)) for _ in range(100)]
    skipped += [first - timedelta(seconds=before) for before in range(1, min(gap, 300))]
    assert [at for at in skipped if at < first and matches(fields, at)] == []
    window = [first + timedelta(seconds=offset) for offset in range(300)]
    expected = [since_epoch(at) for at in window if matches(fields, at)]
    assert schedule.between(first_ms - 1, first_ms + 299_000, 1000) == expected


def possible(expression: str) -> Schedule:
    """The schedule, leaving out dates that no calendar has."""
    try:
        return parse(expression)
    except StepError as error:
        assume("never fires" not in error.message)
        raise


ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Havana",
    "Asia/Tokyo",
    "Africa/Casablanca",
]


@settings(max_examples=30)
@example("Europe/Berlin", "*/7 * * * *", ms("2026-10-24T22:00"))
@example("Europe/Berlin", "*/15 1-3 * * *", ms("2026-03-28T23:00"))
@example("Europe/Berlin", "*/15 1-3 * * *", ms("2026-10-24T23:00"))
@example("Australia/Lord_Howe", "*/20 * 1,2 * * *", ms("2026-04-04T13:00"))
@example("America/Havana", "* 0 * * *", ms("2026-03-08T03:00"))
@given(
    st.sampled_from(ZONES),
    st.sampled_from(
        ["*/10 * * * *", "*/15 1-3 * * *", "30 * * * *", "*/45 */13 * * * *", "* 0 * * *", "0 * * * 0"]
    ),
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)).map(
        lambda at: since_epoch(at.replace(microsecond=0))
    ),
)
def test_a_schedule_with_a_star_follows_the_clock_on_the_wall(zone: str, expression: str, after: int) -> None:
    """The oracle asks each second for its wall clock time and matches that."""
    schedule = parse(expression, zone)
    parts = expression.split()
    parts = parts if len(parts) == 6 else ["0", *parts]
    calendar = parse(" ".join(parts))
    until = after + 4 * HOUR

    def wall(at: int) -> int:
        offset = datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).utcoffset()
        assert offset is not None
        return at + round(offset.total_seconds()) * 1000

    step = 60_000 if parts[0] == "0" else 1000
    grid = range((after // step + 1) * step, until + 1, step)
    expected = [at for at in grid if calendar.next_ms(wall(at) - 1000) == wall(at)]
    assert schedule.between(after, until, 100_000) == expected


@given(
    st.sampled_from(["0 0 2 * * * *", "30 2 * * 1", "*/20 * * * * *", "0 12 29 2 *", "5 4 * * *"]),
    st.sampled_from(ZONES),
    st.integers(ms("2000-01-01"), ms("2090-01-01")),
)
def test_next_is_strictly_later_and_nothing_lies_between(expression: str, zone: str, after: int) -> None:
    schedule = parse(expression, zone)
    first = schedule.next_ms(after)
    assert first is not None
    assert first > after
    assert schedule.next_ms(first - 1) == first
    assert schedule.next_ms((after + first) // 2) == first
    assert schedule.between(after, first, 5) == [first]


@given(
    st.sampled_from(["0 0 2 * * * *", "* * * * 1 *", "*/20 * * * * *", "0 12 29 2 *", "30 2 * * *"]),
    st.sampled_from(ZONES),
    st.integers(ms("1980-01-01"), ms("2090-01-01")),
)
def test_previous_is_the_last_fire_up_to_a_time(expression: str, zone: str, until: int) -> None:
    schedule = parse(expression, zone)
    last = schedule.previous_ms(until)
    assert last is not None
    assert last <= until
    assert schedule.previous_ms(last) == last
    following = schedule.next_ms(last)
    assert following is not None
    assert following > until


def test_before_the_first_fire_there_is_none() -> None:
    assert parse("0 0 0 1 1 * 2030").previous_ms(ms("2029-12-31")) is None
    assert parse("0 0 0 1 1 * 2030").previous_ms(ms("2035-12-31")) == ms("2030-01-01")
    assert parse("0 0 1 1 *").previous_ms(0) == 0


# ----------------------------------------------------------------------------------------- clock changes


def test_a_daily_time_in_the_gap_fires_when_the_gap_ends() -> None:
    assert fires("30 2 * * *", "2026-03-28T00:00", "2026-03-30T12:00", "Europe/Berlin") == [
        "2026-03-28 01:30:00",
        "2026-03-29 01:00:00",  # 02:30 does not exist; 03:00 CEST
        "2026-03-30 00:30:00",
    ]


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 30 2 * * *", "0 30 2 * * * *"])
def test_a_daily_time_that_comes_twice_fires_once(expression: str) -> None:
    assert fires(expression, "2026-10-24T12:00", "2026-10-26T12:00", "Europe/Berlin") == [
        "2026-10-25 00:30:00",
        "2026-10-26 01:30:00",
    ]


def test_the_second_pass_does_not_bring_a_daily_time_back() -> None:
    assert fires("45 2 * * *", "2026-10-25T01:10", "2026-10-26T12:00", "Europe/Berlin") == [
        "2026-10-26 01:45:00"
    ]


def test_several_times_in_one_gap_fire_once_at_its_end() -> None:
    assert fires("15,30,45 2 * * *", "2026-03-28T12:00", "2026-03-29T12:00", "Europe/Berlin") == [
        "2026-03-29 01:00:00"
    ]


def test_an_hourly_schedule_skips_the_gap_and_runs_in_both_passes() -> None:
    assert fires("30 * * * *", "2026-03-29T00:00", "2026-03-29T02:00", "Europe/Berlin") == [
        "2026-03-29 00:30:00",
        "2026-03-29 01:30:00",
    ]
    assert len(fires("30 * * * *", "2026-10-25T00:00", "2026-10-25T02:00", "Europe/Berlin")) == 2


def test_a_midnight_that_does_not_exist() -> None:
    """Havana goes from 23:59 to 01:00."""
    assert fires("0 0 * * *", "2026-03-07T12:00", "2026-03-09T12:00", "America/Havana") == [
        "2026-03-08 05:00:00",
        "2026-03-09 04:00:00",
    ]


# ---------------------------------------------------------------------------------------------- fields


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("0 2 * * *", "2026-01-01T02:00:00", "2026-01-02 02:00:00"),
        ("0 0 2 * * * *", "2026-01-01T00:00:00", "2026-01-01 02:00:00"),
        ("*/2 * * * * *", "2026-01-01T00:00:00", "2026-01-01 00:00:02"),
        ("5 0 2 * * *", "2026-01-01T00:00:00", "2026-01-01 02:00:05"),
        ("0 0 * * 0", "2026-01-01T00:00:00", "2026-01-04 00:00:00"),
        ("0 0 * * 7", "2026-01-01T00:00:00", "2026-01-04 00:00:00"),
        ("0 0 * * sun", "2026-01-01T00:00:00", "2026-01-04 00:00:00"),
        ("0 0 * * FRI-SUN", "2026-01-03T00:00:00", "2026-01-04 00:00:00"),
        ("0 0 ? * MON", "2026-01-01T00:00:00", "2026-01-05 00:00:00"),
        ("0 0 1 ? *", "2026-01-01T00:00:00", None),
        ("0 0 L * *", "2026-02-01T00:00:00", "2026-02-28 00:00:00"),
        ("0 0 LW * *", "2026-02-01T00:00:00", "2026-02-27 00:00:00"),
        ("0 0 * * 5L", "2026-02-01T00:00:00", "2026-02-27 00:00:00"),
        ("0 0 * * 1#2", "2026-02-01T00:00:00", "2026-02-09 00:00:00"),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29 00:00:00"),
        ("0 0 13 * 5", "2026-02-01T00:00:00", "2026-02-06 00:00:00"),
        ("@daily", "2026-01-01T00:00:00", "2026-01-02 00:00:00"),
        ("0 0 0 1 1 * 2030", "2026-01-01T00:00:00", "2030-01-01 00:00:00"),
        ("0 0 0 1 1 * 2027-2031/2", "2028-01-01T00:00:00", "2029-01-01 00:00:00"),
        ("0 0 0 29 2 * 2027,2032", "2026-01-01T00:00:00", "2032-02-29 00:00:00"),
        ("* * * * * * 2098/1", "2026-01-01T00:00:00", "2098-01-01 00:00:00"),
    ],
)
def test_what_the_fields_mean(expression: str, after: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(StepError, match='month "\\?"'):
            parse(expression)
        return
    first = parse(expression).next_ms(ms(after))
    assert first is not None
    assert texts([first]) == [expected]


def test_milliseconds_count_towards_strictly_after() -> None:
    schedule = parse("* * * * * *")
    assert schedule.next_ms(999) == 1000
    assert schedule.next_ms(1000) == 2000
    assert schedule.next_ms(1001) == 2000


def test_a_schedule_whose_years_have_passed_never_fires_again() -> None:
    schedule = parse("0 0 0 1 1 * 2020")
    assert schedule.next_ms(ms("2020-06-01")) is None
    assert schedule.between(ms("2020-06-01"), ms("2090-01-01"), 5) == []
    assert parse("0 0 1 1 *").next_ms(ms("2099-01-01")) is None


def test_between_stops_at_its_limit_and_includes_its_end() -> None:
    assert parse("* * * * *").between(0, 180_000, 100) == [60_000, 120_000, 180_000]
    assert parse("* * * * *").between(0, 180_000, 2) == [60_000, 120_000]


# ---------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "has 0 fields; a cron has 5 (minute hour day month weekday), 6 (second first) or 7 (year last)"),
        ("* * * *", "has 4 fields"),
        ("* * * * * * * *", "has 8 fields"),
        ("@reboot", "known are @yearly"),
        ("61 * * * *", 'minute "61" of "61 * * * *" is wrong; allowed are 0-59'),
        ("* 24 * * *", 'hour "24"'),
        ("* * 0 * *", 'day "0"'),
        ("* * 32 * *", 'day "32" of "* * 32 * *" is wrong; allowed are 1-31'),
        ("* * * 13 *", 'month "13" of "* * * 13 *" is wrong; allowed are 1-12 or JAN-DEC'),
        ("* * * * 8", "0-7 (0 and 7 = Sunday)"),
        ("60 * * * * *", 'second "60"'),
        ("*/0 * * * *", 'minute "*/0"'),
        ("a * * * *", 'minute "A"'),
        ("1,,2 * * * *", "minute"),
        ("-1 * * * *", "minute"),
        ("1-2-3 * * * *", "minute"),
        ("9" * 5000 + " * * * *", "is no cron expression"),
        ("0 22-2 * * *", 'a range goes upwards, write "22-23,0-2"'),
        ("0 0 15W * *", 'day "15W"'),
        ("0 0 * * 1#6", "weekday"),
        ("0 0 30 2 *", "never fires: no month in it has a day 30"),
        ("0 0 31 4,6 *", "never fires"),
        ("0 0 0 29 2 * 2027", "never fires: no such date exists"),
        ("0 0 0 * * * 1969", 'year "1969" is wrong; allowed are 1970-2099'),
        ("0 0 0 * * * 2100", "year"),
        ("0 0 0 * * * 2030-2020", "year"),
        ("0 0 0 * * * x", 'year "X"'),
        ("0 0 0 1 1 * 2030/00", "year"),
        ("*/90 * * * *", 'or for every 90 minutes 2 triggers, "0 */3 * * *" and "30 1-23/3 * * *"'),
        ("*/90 * * * *", 'only be minute 0; a step is 1 to 60 and begins anew with each hour: write "0"'),
        ("*/120 * * * *", 'for every 120 minutes "0 */2 * * *"'),
        ("*/90 * * * * *", '2 triggers, "*/3 * * * *" and "30 1-59/3 * * * *"'),
        ("1/120 * * * *", "would only be minute 1"),
        ("0-5/90 * * * *", "would only be minute 0"),
        ("5/100 * * * *", "would only be minute 5"),
        ("3,*/61 * * * *", 'minute "3,*/61"'),
        ("7-7/99 * * * *", "would only be minute 7"),
        ("*/61 * * * * *", "a step is 1 to 60 and begins anew with each minute"),
        ("0 */30 * * *", "a step is 1 to 24 and begins anew with each day"),
        ("0 0 */32 * *", "would only be day 1"),
        ("0 0 * */13 *", "would only be month 1"),
        ("0 0 * JAN/13 *", "would only be month JAN"),
        ("0 0 * * */8", "a step is 1 to 7"),
        ("0 0 0 1 1 * */131", "a step is 1 to 130"),
        ("*/" + "9" * 5000 + " * * * *", "goes beyond 0-59"),
        ("0 0 L/2 * *", 'L is one day, a step has no meaning; write "L"'),
    ],
)
def test_a_bad_expression_names_the_field_and_what_is_allowed(expression: str, message: str) -> None:
    with pytest.raises(StepError) as caught:
        parse(expression)
    assert message in caught.value.message


@pytest.mark.parametrize("every", [62, 72, 75, 80, 90, 120, 150, 160, 180, 240, 360, 480, 720, 1440])
@pytest.mark.parametrize("unit", ["minutes", "seconds"])
def test_the_triggers_that_are_named_instead_fire_as_often_as_was_meant(every: int, unit: str) -> None:
    expression, size = (f"*/{every} * * * *", 60_000) if unit == "minutes" else (f"*/{every} * * * * *", 1000)
    with pytest.raises(StepError) as caught:
        parse(expression)
    _, _, named = caught.value.message.partition(f"for every {every} {unit}")
    triggers = [parse(each) for each in re.findall('"([^"]+)"', named)]
    day = ms("2026-01-01")
    found = sorted(fire for each in triggers for fire in each.between(day - 1, day + 24 * HOUR - 1, 10_000))
    if triggers:
        assert found == list(range(day, day + 24 * HOUR, every * size))
    else:
        assert every in (62, 72, 75, 80, 150, 160, 480, 720, 1440)


@settings(max_examples=200)
@given(st.text("0123456789*/,-#?LW@ aSUNé", max_size=24))
def test_any_text_is_a_schedule_or_a_step_error(text: str) -> None:
    try:
        schedule = parse(text)
    except StepError:
        return
    assert schedule.words


@pytest.mark.parametrize(
    ("zone", "hint"),
    [("Europe/Berln", 'did you mean "Europe/Berlin"?'), ("CET/", "CET"),
     ("../etc/passwd", "unknown timezone"), ("", "unknown timezone"), ("Europe", "unknown timezone"),
     ("utc", 'did you mean "UTC"?')],
)  # fmt: skip
def test_an_unknown_timezone_is_refused(zone: str, hint: str) -> None:
    with pytest.raises(StepError) as caught:
        parse("0 0 * * *", zone)
    assert hint in caught.value.message
