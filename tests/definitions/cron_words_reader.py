"""Reads a schedule's words as a person does, and knows nothing of the code that says them."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterable
from datetime import datetime

Test = Callable[[datetime], bool]

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = list(calendar.month_name)[1:]
CLOCK = r"\d\d:\d\d(?::\d\d)?"
UNITS = {"second": 1, "minute": 60, "hour": 3600}


def reads(words: str, timezone: str) -> Test:
    """Whether the words say that it fires at a local time. ValueError where they cannot be understood."""
    said = re.sub(rf" (?:\({re.escape(timezone)}\)|{re.escape(timezone)})$", "", words)
    if said == words:
        raise ValueError(f"no zone in {words!r}")
    years: Test = always
    if found := re.search(r" in ([\d, ]+(?:(?:to|and) [\d, toand]+)?)$", said):
        wanted = numbers(found[1])
        years, said = (lambda at: at.year in wanted), said[: found.start()]
    on, times = when(said)
    return lambda at: years(at) and on(at) and times(at)


def always(at: datetime) -> bool:
    return True


def never(at: datetime) -> bool:
    return False


def when(said: str) -> tuple[Test, Test]:
    if found := re.fullmatch(rf"(.+) at ({CLOCK}(?:(?:, | and ){CLOCK})*)", said):
        times = {seconds(each) for each in items(found[2])}
        return days(found[1]), lambda at: of_day(at) in times
    pace, on = split(said)
    return (days(on) if on else always), pace_of(pace)


def split(said: str) -> tuple[str, str]:
    """A pace may list numbers, so its days begin behind a comma that words of days follow."""
    found = re.search(r", (?=the |every )", said)
    return (said, "") if found is None else (said[: found.start()], said[found.end() :])


# ------------------------------------------------------------------------------------------------ times


def of_day(at: datetime) -> int:
    return at.hour * 3600 + at.minute * 60 + at.second


def seconds(clock: str) -> int:
    return sum(int(part) * unit for part, unit in zip(clock.split(":"), (3600, 60, 1), strict=False))


def pace_of(said: str) -> Test:
    span = rf"(?: from ({CLOCK}) to ({CLOCK}))?"
    if found := re.fullmatch(rf"every (?:(\d+) )?(second|minute|hour)s?{span}", said):
        every = int(found[1] or 1) * UNITS[found[2]]
        first, last = seconds(found[3] or "00:00"), seconds(found[4] or "23:59:59")
        return lambda at: first <= of_day(at) <= last and (of_day(at) - first) % every == 0
    if found := re.fullmatch(r"every hour at (minutes? .+)", said):
        return parts(found[1])
    return parts(said)


def parts(said: str) -> Test:
    wanted: dict[str, set[int]] = {"second": {0}}
    for part in said.split(" of "):
        name, values = part_of(part)
        wanted[name] = values
    unsaid = set(range(60))
    tests = [(name, wanted.get(name, unsaid)) for name in UNITS]
    return lambda at: all(getattr(at, name) in values for name, values in tests)


def part_of(said: str) -> tuple[str, set[int]]:
    if found := re.fullmatch(r"every (\d+)\w\w (second|minute|hour) from (\d+) to (\d+)", said):
        return found[2], set(range(int(found[3]), int(found[4]) + 1, int(found[1])))
    if found := re.fullmatch(r"every (second|minute|hour)", said):
        return found[1], set(range(60))
    if found := re.fullmatch(r"(second|minute|hour)s? ([\d, toand]+)", said):
        return found[1], numbers(found[2])
    raise ValueError(f"what is {said!r}?")


def numbers(said: str) -> set[int]:
    found: set[int] = set()
    for each in items(said):
        first, _, last = each.partition(" to ")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def items(said: str) -> list[str]:
    return re.split(r", | and | or ", said)


# ------------------------------------------------------------------------------------------------- days


def days(said: str) -> Test:
    if found := re.fullmatch(r"(.+) if it is (.+)", said):
        number, weekday = days(found[1]), is_day(found[2])
        return lambda at: number(at) and weekday(at)
    if said == "every day":
        return always
    if found := re.fullmatch(r"every day in (.+)", said):
        return months(found[1])
    more = r"((?: and every [A-Zw].+| and the .+ \w+day of .+)?)"
    if found := re.fullmatch(rf"(the .+?|every \d.+?) of (.+?){more}", said):
        other = days(found[3].removeprefix(" and ")) if found[3] else never
        within, named = months(found[2]), [is_day(each) for each in phrases(found[1])]
        return lambda at: (within(at) and any(each(at) for each in named)) or other(at)
    if found := re.fullmatch(r"every ([A-Zw].+?)(?: in ([A-Z].+?))?((?: and the .+)?)", said):
        other = days(found[3].removeprefix(" and ")) if found[3] else never
        within, named = months(found[2] or "every month"), [is_day(f"a {each}") for each in items(found[1])]
        return lambda at: (within(at) and any(each(at) for each in named)) or other(at)
    raise ValueError(f"which days are {said!r}?")


def phrases(said: str) -> Iterable[str]:
    return re.split(r"(?:, | and )(?=the )", said)


def is_day(said: str) -> Test:
    """One day of a month, or several: "the 1st to the 7th", "a Monday or the 2nd Friday"."""
    if len(either := re.split(r"(?:, | or )(?=the |a )", said)) > 1:
        tests = [is_day(each) for each in either]
        return lambda at: any(test(at) for test in tests)
    if said == "a weekday":
        return lambda at: at.weekday() < 5
    if found := re.fullmatch(r"a (\w+day)", said):
        return lambda at: DAYS[at.weekday()] == found[1]
    if said == "the last day":
        return lambda at: at.day == last_of(at)
    if said == "the last weekday":
        return lambda at: at.day == last_weekday(at)
    if found := re.fullmatch(r"the last (\w+day)", said):
        return lambda at: DAYS[at.weekday()] == found[1] and at.day + 7 > last_of(at)
    if found := re.fullmatch(r"the (\d)\w\w (\w+day)", said):
        return lambda at: DAYS[at.weekday()] == found[2] and (at.day + 6) // 7 == int(found[1])
    if found := re.fullmatch(r"every (\d+)\w\w day from the (\d+)\w\w to the (\d+)\w\w", said):
        wanted = range(int(found[2]), int(found[3]) + 1, int(found[1]))
        return lambda at: at.day in wanted
    if found := re.fullmatch(r"the (\d+)\w\w(?: to the (\d+)\w\w)?", said):
        return lambda at: int(found[1]) <= at.day <= int(found[2] or found[1])
    raise ValueError(f"which day is {said!r}?")


def last_of(at: datetime) -> int:
    return calendar.monthrange(at.year, at.month)[1]


def months(said: str) -> Test:
    if said == "every month":
        return always
    wanted: set[int] = set()
    for each in items(said):
        first, _, last = each.partition(" to ")
        wanted |= set(range(MONTHS.index(first) + 1, MONTHS.index(last or first) + 2))
    return lambda at: at.month in wanted


def last_weekday(at: datetime) -> int:
    return max(day for day in range(22, last_of(at) + 1) if at.replace(day=day).weekday() < 5)
