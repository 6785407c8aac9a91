"""The fields of a cron expression as sets: what matches, however it was written. Pure; knows no time zone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import date, datetime, timedelta

from cronsim import CronSim
from msgspec import Struct

__all__ = ["EVERY_DAY", "EVERY_MONTH", "EVERY_WEEKDAY", "Fields"]

EVERY_DAY = frozenset(range(1, 32))
EVERY_MONTH = frozenset(range(1, 13))
EVERY_WEEKDAY = frozenset(range(7))
LAST = -1  # as in (5, LAST): the last Friday of the month

_DAY = timedelta(days=1)


class Fields(Struct, frozen=True):
    """Sorted tuples of what matches.

    weekdays   0-6, 0 = Sunday
    nth        (weekday, n) for the n-th of a month, n = LAST for the last
    either     a day matches by its number or by its weekday, else by both
    years      None = all
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    last_day: bool
    last_weekday: bool
    months: frozenset[int]
    weekdays: frozenset[int]
    nth: frozenset[tuple[int, int]]
    either: bool
    years: frozenset[int] | None
    sim: CronSim

    @classmethod
    def of(cls, sim: CronSim, years: frozenset[int] | None) -> Fields:
        numbered = {each for each in sim.weekdays if isinstance(each, int)}
        named = {each for each in sim.weekdays if isinstance(each, tuple)}
        return cls(
            seconds=tuple(sorted(sim.seconds)),
            minutes=tuple(sorted(sim.minutes)),
            hours=tuple(sorted(sim.hours)),
            days=frozenset(day for day in sim.days if day > 0),
            last_day=CronSim.LAST in sim.days,
            last_weekday=CronSim.LAST_WEEKDAY in sim.days,
            months=frozenset(sim.months),
            weekdays=frozenset(day % 7 for day in numbered),
            nth=frozenset((day % 7, LAST if n == CronSim.LAST else n) for day, n in named),
            either=not sim.day_and,
            years=years,
            sim=sim,
        )

    @property
    def any_day(self) -> bool:
        """Whether the day of the month leaves none out."""
        return self.days == EVERY_DAY

    @property
    def any_weekday(self) -> bool:
        return self.weekdays == EVERY_WEEKDAY

    def count(self, after: datetime, until: datetime) -> int:
        """How many calendar times in (after, until] match; looks at each day."""
        if until <= after:
            return 0
        days = (after.date() + n * _DAY for n in range((until.date() - after.date()).days + 1))
        found = sum(map(self._on, days)) * len(self.seconds) * len(self.minutes) * len(self.hours)
        found -= self._up_to(after) if self._on(after.date()) else 0
        return found - (self._behind(until) if self._on(until.date()) else 0)

    def _on(self, day: date) -> bool:
        if day.month not in self.months or (self.years is not None and day.year not in self.years):
            return False
        return self.sim.match_day(day)

    def _up_to(self, at: datetime) -> int:
        """How many times of the day match until then."""
        seconds, minutes, hours = self.seconds, self.minutes, self.hours
        found = bisect_left(hours, at.hour) * len(minutes) * len(seconds)
        if at.hour in hours:
            found += bisect_left(minutes, at.minute) * len(seconds)
            found += bisect_right(seconds, at.second) if at.minute in minutes else 0
        return found

    def _behind(self, at: datetime) -> int:
        return len(self.seconds) * len(self.minutes) * len(self.hours) - self._up_to(at)
