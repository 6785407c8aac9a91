"""A cron schedule in English: "every day at 02:00 UTC". Usual shapes read well, others are spelt out."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from cronsim.explain import Expression

_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September",
           "October", "November", "December")  # fmt: skip
_MONTH_NAMES = tuple(name[:3].upper() for name in _MONTHS)


def in_words(parts: Sequence[str], years: Collection[int] | None, timezone: str) -> str:
    """`parts`: second minute hour day month weekday, upper case."""
    said = _usual(parts) or _spelt_out(parts)
    if years is not None:
        said += f" in {_years(sorted(years))}"
    if re.search(r"\d\d:\d\d$", said):
        return f"{said} {timezone}"
    return said if timezone == "UTC" and ":" not in said else f"{said} ({timezone})"


def _spelt_out(parts: Sequence[str]) -> str:
    said: str = Expression(list(parts)).explain()
    return said[:1].lower() + said[1:]


def _years(years: list[int]) -> str:
    if len(years) > 2 and years[-1] - years[0] == len(years) - 1:
        return f"{years[0]} to {years[-1]}"
    return _listed([str(year) for year in years])


def _usual(parts: Sequence[str]) -> str | None:
    second, minute, hour, day, month, weekday = parts
    on = _on_days(day, month, weekday)
    if on is None:
        return None
    tail = "" if on == "every day" else f", {on}" if on.startswith("every") else f" on {on}"
    match second, minute, hour:
        case _, "*", "*" if (n := _step(second, 60)) is not None:
            return f"every {_count(n, 'second')}{tail}"
        case "0", _, "*" if (n := _step(minute, 60)) is not None:
            return f"every {_count(n, 'minute')}{tail}"
        case "0", "0", _ if (n := _step(hour, 24)) is not None:
            return f"every {_count(n, 'hour')}{tail}"
        case "0", _, "*" if minute.isdigit():
            return f"every hour at minute {int(minute)}{tail}"
    if not (second.isdigit() and minute.isdigit() and re.fullmatch(r"\d+(,\d+)*", hour)):
        return None
    times = [_time(int(h), int(minute), int(second)) for h in hour.split(",")]
    return f"{on} at {_listed(times)}"


def _on_days(day: str, month: str, weekday: str) -> str | None:
    """ "every day", "every Monday", "on the 1st of every month" ...; None for what has no usual name."""
    if weekday == "*":
        if day == month == "*":
            return "every day"
        months = _named(month, _MONTH_NAMES, _MONTHS, 1) if month != "*" else "every month"
        if months is None or not (day.isdigit() or day == "L"):
            return None
        return f"the {'last day' if day == 'L' else _ordinal(int(day))} of {months}"
    if day != "*" or month != "*":
        return None
    if weekday in ("1-5", "MON-FRI"):
        return "every weekday"
    days = _named(weekday, _DAY_NAMES, _DAYS, 0)
    return f"every {days}" if days else None


def _named(field: str, short: Sequence[str], names: Sequence[str], first: int) -> str | None:
    """A list of numbers or short names as full names; None where it holds anything else."""
    said = []
    for term in field.split(","):
        index = short.index(term) if term in short else int(term) - first if term.isdigit() else -1
        if not 0 <= index < len(names):
            return None
        said.append(names[index])
    return _listed(said)


def _step(field: str, of: int) -> int | None:
    """1 for *, n for */n where that is evenly spaced; */7 minutes is not."""
    match = re.fullmatch(r"\*(?:/(\d+))?", field)
    n = int(match[1] or 1) if match else 0
    return n if n and of % n == 0 else None


def _count(n: int, unit: str) -> str:
    return unit if n == 1 else f"{n} {unit}s"


def _time(hour: int, minute: int, second: int) -> str:
    return f"{hour:02}:{minute:02}" + (f":{second:02}" if second else "")


def _ordinal(n: int) -> str:
    suffix = "th" if n in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
