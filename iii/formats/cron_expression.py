"""Cron expressions: when a schedule fires next, and how to say it in words. Pure; time is an argument.

    fields   5: minute hour day month weekday
             6: second minute hour day month weekday
             7: second minute hour day month weekday year (1970-2099)
    each     *  5  1-5  */10  0,30; month and weekday names; day L (last), LW (last weekday of the month);
             weekday 5L (last Friday), 1#2 (second Monday); 0 and 7 are Sunday; ? is *
    or       @hourly @daily @weekly @monthly @yearly
    days     with both day and weekday given either one suffices, as in Debian's cron

Where clocks change (a zone with daylight saving time): a schedule whose minute and hour are both
given fires once a day all the same, at the end of the gap when its time is skipped and in the first
pass when its time comes twice. A schedule with * in minute or hour follows the clock on the wall:
nothing in the gap, again in the second pass. cronsim matches the local calendar; the year and the
clock changes are done here.
"""

from __future__ import annotations

import copy
import re
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from iii.errors import StepError
from iii.formats.cron_fields import Fields
from iii.formats.cron_steps import refuse_steps_beyond
from iii.formats.cron_words import in_words
from iii.formats.cron_zone import SECOND, Zone
from iii.formats.units import nearest

__all__ = ["Schedule", "parse"]

YEAR_MIN, YEAR_MAX = 1970, 2099

_EPOCH = datetime(1970, 1, 1)
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = ("second", "minute", "hour", "day", "month", "weekday", "year")
_ALLOWED = {
    "second": "0-59",
    "minute": "0-59",
    "hour": "0-23",
    "day": "1-31, L (last day) or LW (last weekday of the month)",
    "month": "1-12 or JAN-DEC",
    "weekday": "0-7 (0 and 7 = Sunday) or SUN-SAT, 5L (last Friday), 1#2 (second Monday)",
    "year": f"{YEAR_MIN}-{YEAR_MAX}",
}
# cronsim takes 5-5/2 for 5/2, an open range; it is 5.
_SAME_ENDS = re.compile(r"\b(\w+)-\1/0*[1-9]\d*(?=,|$)")
_CRONSIM_NAMES = {"day-of-month": "day", "day-of-week": "weekday"}


class Schedule:
    """A parsed expression in its time zone. Immutable and safe to share between threads."""

    def __init__(self, expression: str, timezone: str, sim: CronSim, years: frozenset[int] | None) -> None:
        self.expression, self.timezone = expression, timezone
        self._zone = Zone(timezone)
        self._sim, self._years, self._fields = sim, years, Fields.of(sim, years)
        _, minute, hour, *_ = sim.parts
        self._once_a_day = not minute.startswith("*") and not hour.startswith("*")

    def __str__(self) -> str:
        return f'"{self.expression}" ({self.timezone})'

    @property
    def words(self) -> str:
        """The schedule in English, with its zone: "every day at 02:00 UTC"."""
        return in_words(self._fields, self.timezone)

    def local(self, wall_ms: int) -> str:
        """A time in its zone: "2026-07-01T02:00:00+02:00 Europe/Berlin", "2026-07-01T02:00:00Z"."""
        if self._zone.is_utc:
            return f"{_instant(wall_ms):%Y-%m-%dT%H:%M:%S}Z"
        return f"{self._zone.aware(_instant(wall_ms)).isoformat()} {self.timezone}"

    def next_ms(self, after_ms: int) -> int | None:
        """The first fire strictly after `after_ms` (both wall clock, ms since 1970); None: never again."""
        fire = self._after(_instant(after_ms))
        return None if fire is None else round((fire - _EPOCH).total_seconds()) * 1000

    def previous_ms(self, until_ms: int) -> int | None:
        """The last fire at or before `until_ms`; None: none since 1970."""
        seconds = until_ms // 1000
        low, back = seconds - 1, 1
        while not self._fires_within(low, until_ms):
            if low < -1:
                return None
            back *= 2
            low = seconds - back
        high = seconds
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._fires_within(middle, until_ms) else (low, middle)
        return self.next_ms(low * 1000)

    def _fires_within(self, after_s: int, until_ms: int) -> bool:
        fire = self.next_ms(after_s * 1000)
        return fire is not None and fire <= until_ms

    def between(self, after_ms: int, until_ms: int, limit: int) -> list[int]:
        """The first `limit` fires with after_ms < fire <= until_ms, in order."""
        fires: list[int] = []
        fire = self.next_ms(after_ms)
        while fire is not None and fire <= until_ms and len(fires) < limit:
            fires.append(fire)
            fire = self.next_ms(fire)
        return fires

    def count(self, after_ms: int, until_ms: int) -> int:
        """How many fires there are in (after_ms, until_ms]; days are looked at, not fires."""
        after, until = _instant(after_ms), _instant(until_ms)
        if self._zone.is_utc:
            return self._fields.count(after, until)
        return self._count_once(after, until) if self._once_a_day else self._count_wall(after, until)

    def _count_once(self, after: datetime, until: datetime) -> int:
        """Times on the wall, but of those in a gap and at its end only one."""
        zone, count = self._zone, self._fields.count
        found = count(zone.reached(after), zone.reached(until))
        for change in zone.changes(after, until):
            begin, end = change + zone.offset(change - SECOND), change + zone.offset(change)
            found -= max(count(begin - SECOND, end) - 1, 0)
        return found

    def _count_wall(self, after: datetime, until: datetime) -> int:
        zone, found = self._zone, 0
        for change in zone.changes(after, until):
            offset = zone.offset(after)
            found += self._fields.count(after + offset, change - SECOND + offset)
            found += self._fields.count(change - SECOND + zone.offset(change), change + zone.offset(change))
            after = change
        return found + self._fields.count(after + zone.offset(after), until + zone.offset(after))

    def _after(self, after: datetime) -> datetime | None:
        if self._zone.is_utc:
            return self._local_after(after)
        return self._once_after(after) if self._once_a_day else self._wall_after(after)

    def _local_after(self, local: datetime) -> datetime | None:
        """The first calendar time after `local` that matches, in no time zone."""
        while local.year <= YEAR_MAX:
            sim = copy.copy(self._sim)
            sim.dt = local
            fire = next(sim, None)
            if fire is None or fire.year > YEAR_MAX:
                return None
            if self._years is None or fire.year in self._years:
                return fire
            year = min((y for y in self._years if y > fire.year), default=None)
            if year is None:
                return None
            local = datetime(year, 1, 1) - SECOND
        return None

    def _once_after(self, after: datetime) -> datetime | None:
        """Each matching calendar time counts once, whatever the clock on the wall does."""
        local = after + self._zone.offset(after)
        while (fire := self._local_after(local)) is not None:
            instant = self._zone.instant(fire)
            if instant > after:
                return instant
            local = fire
        return None

    def _wall_after(self, after: datetime) -> datetime | None:
        """Between two changes local time is UTC plus a constant: search one such stretch after the other."""
        offset = self._zone.offset(after)
        local = after + offset
        while (fire := self._local_after(local)) is not None:
            instant = fire - offset
            change = self._zone.first_change(after, instant)
            if change is None:
                return instant
            after, offset = change, self._zone.offset(change)
            local = change + offset - SECOND
        return None


def _instant(ms: int) -> datetime:
    return _EPOCH + timedelta(seconds=ms // 1000)


@lru_cache(maxsize=1024)
def parse(expression: str, timezone: str = "UTC") -> Schedule:
    """The schedule of `expression`; StepError names the field that is wrong and what is allowed in it."""
    _check_zone(timezone)
    parts = _split(expression)
    refuse_steps_beyond(expression, parts)
    parts = [_SAME_ENDS.sub(r"\1", part) for part in parts]
    years = _years(parts[6]) if len(parts) == 7 else None
    try:
        sim = CronSim(" ".join(parts[:6]), _EPOCH)
    except (CronSimError, ValueError) as error:
        raise _bad_field(expression, parts, str(error)) from None
    schedule = Schedule(expression, timezone, sim, years)
    if schedule.next_ms(-1000) is None:
        raise StepError(f'"{expression}" never fires: no such date exists')
    return schedule


def _check_zone(timezone: str) -> None:
    if timezone == "UTC":
        return
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        meant = nearest(timezone, available_timezones())
        hint = f'; did you mean "{meant}"?' if meant else '; write one like "Europe/Berlin" or "UTC"'
        raise StepError(f'unknown timezone "{timezone}"{hint}', field="timezone") from None


def _split(expression: str) -> list[str]:
    """The fields, seconds first, in the spelling cronsim knows."""
    parts = _ALIASES.get(expression.strip().lower(), expression).upper().split()
    if len(parts) == 5:
        parts.insert(0, "0")
    if len(parts) not in (6, 7):
        known = f"; known are {', '.join(_ALIASES)}" if expression.strip().startswith("@") else ""
        raise StepError(
            f'"{expression}" has {len(parts)} fields; a cron has 5 (minute hour day month weekday), '
            f"6 (second first) or 7 (year last){known}"
        )
    for day in (3, 5):
        parts[day] = "*" if parts[day] == "?" else parts[day]
    parts[5] = re.sub(r"-SUN\b", "-7", parts[5])  # FRI-SUN
    return parts


def _bad_field(expression: str, parts: list[str], problem: str) -> StepError:
    name = problem.removeprefix("Bad ")
    name = _CRONSIM_NAMES.get(name, name)
    if name not in _FIELDS:
        return StepError(f'"{expression}" is no cron expression: {problem}')
    given = parts[_FIELDS.index(name)]
    if name == "day" and _is_cron([*parts[:4], "*", parts[5]]):
        return StepError(f'"{expression}" never fires: no month in it has a day {given}')
    around = re.fullmatch(r"(\d+)-(\d+)", given)
    top = _ALLOWED[name].split(" ")[0].rstrip(",").split("-")[-1]
    if around and int(around[2]) < int(around[1]) <= int(top):
        hint = f'; a range goes upwards, write "{around[1]}-{top},{_ALLOWED[name][0]}-{around[2]}"'
    else:
        hint = ""
    return StepError(f'{name} "{given}" of "{expression}" is wrong; allowed are {_ALLOWED[name]}, *, lists, '
                     f"ranges and steps{hint}")  # fmt: skip


def _is_cron(parts: list[str]) -> bool:
    try:
        CronSim(" ".join(parts), _EPOCH)
    except (CronSimError, ValueError):
        return False
    return True


def _years(field: str) -> frozenset[int] | None:
    """The years of the seventh field; None = all."""
    if field in ("*", "?"):
        return None
    years: set[int] = set()
    for term in field.split(","):
        match = re.fullmatch(r"(?:(\d{4})(?:-(\d{4}))?|\*)(?:/(\d{1,3}))?", term, re.ASCII)
        if match is None:
            raise _bad_year(field)
        first, last, step = match.groups()
        low = int(first or YEAR_MIN)
        high = int(last or (YEAR_MAX if step or not first else first))
        if not YEAR_MIN <= low <= high <= YEAR_MAX or (step and not int(step)):
            raise _bad_year(field)
        years.update(range(low, high + 1, int(step or 1)))
    return frozenset(years)


def _bad_year(field: str) -> StepError:
    return StepError(
        f'year "{field}" is wrong; allowed are {YEAR_MIN}-{YEAR_MAX}, *, lists, ranges and steps'
    )
