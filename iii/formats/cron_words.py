"""A cron schedule in English, with its zone: "every day at 02:00 UTC".

Made from what matches, never from how it is written: 1-31 is every day. What is said is exact, so equal
words mean equal schedules.

    clock     <days> at 09:00 and 17:00          few times a day
    pace      every 15 minutes[, <days>]         evenly over the whole day
    hours     every 15 minutes from 09:00 to 17:45[, <days>]
    spelt     second 5 of minutes 0 to 10 of every hour[, <days>]
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import pairwise

from iii.formats.cron_fields import EVERY_MONTH, LAST, Fields

__all__ = ["in_words"]

TIMES_MAX = 6  # more times a day are not listed
RUN_MIN = 3  # "1 to 3", but "1 and 2"
PROGRESSION_MIN = 4  # "every 7th minute from 0 to 56", but "0, 25 and 50"

_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_WORKDAYS = frozenset(range(1, 6))
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September",
           "October", "November", "December")  # fmt: skip


def in_words(fields: Fields, timezone: str) -> str:
    on, times = _days(fields), _times(fields)
    said = f"{on or 'every day'} at {_listed(times)}" if times else _pace(fields) + (f", {on}" if on else "")
    if fields.years is not None:
        said += f" in {_numbers(sorted(fields.years))}"
    return f"{said} {timezone}" if re.search(r"\d\d:\d\d$", said) else f"{said} ({timezone})"


# ------------------------------------------------------------------------------------------------ days


def _days(fields: Fields) -> str | None:
    """ "every Monday", "the 1st of every month" ...; None: every day."""
    months = None if fields.months == EVERY_MONTH else _months(fields.months)
    by_number = None if fields.any_day else _by_number(fields, months or "every month")
    by_weekday = None if fields.any_weekday else _by_weekday(fields, months)
    if by_number and by_weekday:
        return f"{by_number} and {by_weekday}" if fields.either else f"{by_number} if it is {_is(fields)}"
    if fields.either or not (by_number or by_weekday):
        return f"every day in {months}" if months else None
    return by_number or by_weekday


def _by_number(fields: Fields, months: str) -> str:
    days = sorted(fields.days)
    if (apart := _progression(days)) is not None:
        said = [f"every {_ordinal(apart)} day from the {_ordinal(days[0])} to the {_ordinal(days[-1])}"]
    else:
        said = [" to ".join(f"the {_ordinal(day)}" for day in run) for run in _runs(days)]
    said += ["the last weekday"] * fields.last_weekday + ["the last day"] * fields.last_day
    return f"{_listed(said)} of {months}"


def _by_weekday(fields: Fields, months: str | None) -> str:
    said = []
    if fields.weekdays:
        named = "weekday" if fields.weekdays == _WORKDAYS else _listed(_names(fields.weekdays))
        said.append(f"every {named}" + (f" in {months}" if months else ""))
    if fields.nth:
        said.append(f"{_listed(_nth(fields))} of {months or 'every month'}")
    return " and ".join(said)


def _is(fields: Fields) -> str:
    """What a day has to be besides its number."""
    if fields.weekdays == _WORKDAYS and not fields.nth:
        return "a weekday"
    return _listed([f"a {name}" for name in _names(fields.weekdays)] + _nth(fields), "or")


def _names(weekdays: Collection[int]) -> list[str]:
    return [_DAYS[day] for day in (*range(1, 7), 0) if day in weekdays]


def _nth(fields: Fields) -> list[str]:
    """ "the 2nd Monday", "the last Friday": Mondays first, the last of a kind last."""
    order = sorted(fields.nth, key=lambda each: ((each[0] - 1) % 7, each[1] % 6))
    return [f"the {'last' if n == LAST else _ordinal(n)} {_DAYS[day]}" for day, n in order]


def _months(months: Collection[int]) -> str:
    return _listed([" to ".join(_MONTHS[month - 1] for month in run) for run in _runs(sorted(months))])


# ----------------------------------------------------------------------------------------------- times


def _times(fields: Fields) -> list[str]:
    """The times of a day, where they are few and no pace."""
    seconds, minutes, hours = fields.seconds, fields.minutes, fields.hours
    if len(seconds) * len(minutes) * len(hours) > TIMES_MAX or _whole_day(fields):
        return []
    return [_time(h, m, s) for h in hours for m in minutes for s in seconds]


def _pace(fields: Fields) -> str:
    if whole := _whole_day(fields):
        return whole
    if fields.seconds == (0,) and (among := _among_hours(fields)) is not None:
        return among
    said = [] if fields.seconds == (0,) else [_part("second", fields.seconds, 60)]
    said.append(_part("minute", fields.minutes, 60))
    if said[-1] != "every minute" or len(fields.hours) < 24:
        said.append(_part("hour", fields.hours, 24))
    return " of ".join(said)


def _whole_day(fields: Fields) -> str | None:
    """Evenly from midnight to midnight."""
    seconds, minutes, hours = fields.seconds, fields.minutes, fields.hours
    all_minutes, all_hours = len(minutes) == 60, len(hours) == 24
    if all_minutes and all_hours and (n := _evenly(seconds, 60)):
        return f"every {_count(n, 'second')}"
    if seconds == (0,) and all_hours:
        if n := _evenly(minutes, 60):
            return f"every {_count(n, 'minute')}"
        return f"every hour at {_part('minute', minutes, 60)}" if _progression(minutes) is None else None
    if seconds == minutes == (0,) and (n := _evenly(hours, 24)):
        return f"every {_count(n, 'hour')}"
    return None


def _among_hours(fields: Fields) -> str | None:
    """Evenly through hours that follow each other."""
    minutes, first, last = fields.minutes, fields.hours[0], fields.hours[-1]
    if last - first != len(fields.hours) - 1:
        return None
    n = _evenly(minutes, 60)
    pace = _count(n, "minute") if n else "hour" if len(minutes) == 1 else None
    return pace and f"every {pace} from {_time(first, minutes[0])} to {_time(last, minutes[-1])}"


def _evenly(values: Sequence[int], size: int) -> int:
    """How far apart they are, all around from 0; 0: not evenly, or one alone."""
    n = size // len(values)
    return n if len(values) > 1 and tuple(values) == tuple(range(0, size, n)) else 0


def _part(name: str, values: Sequence[int], size: int) -> str:
    if len(values) == size:
        return f"every {name}"
    if (apart := _progression(values)) is not None:
        return f"every {_ordinal(apart)} {name} from {values[0]} to {values[-1]}"
    return f"{name if len(values) == 1 else f'{name}s'} {_numbers(values)}"


# --------------------------------------------------------------------------------------------- numbers


def _numbers(values: Sequence[int]) -> str:
    return _listed([" to ".join(map(str, run)) for run in _runs(values)])


def _runs(values: Sequence[int]) -> list[tuple[int, ...]]:
    """One number alone, or the first and the last of those that follow each other."""
    runs: list[list[int]] = []
    for value in values:
        if runs and runs[-1][-1] == value - 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    ends = [[(run[0], run[-1])] if len(run) >= RUN_MIN else [(value,) for value in run] for run in runs]
    return [each for run in ends for each in run]


def _progression(values: Sequence[int]) -> int | None:
    """How far apart they all are; None where not alike, too few, or one by one."""
    if len(values) < PROGRESSION_MIN:
        return None
    apart = values[1] - values[0]
    alike = all(later - earlier == apart for earlier, later in pairwise(values))
    return apart if alike and apart > 1 else None


def _count(n: int, unit: str) -> str:
    return unit if n == 1 else f"{n} {unit}s"


def _time(hour: int, minute: int, second: int = 0) -> str:
    return f"{hour:02}:{minute:02}" + (f":{second:02}" if second else "")


def _ordinal(n: int) -> str:
    suffix = "th" if n in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


def _listed(words: Sequence[str], last: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
