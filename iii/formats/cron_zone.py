"""A time zone as cron sees it: offsets, when they change, and which instant a time on the wall stands for.

Instants are naive datetimes in UTC, local times naive ones on the wall. PEP 495: fold=0 is the first pass of
a time that comes twice, and counts with the offset before the gap where a time is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

__all__ = ["SECOND", "Zone"]

SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)


class Zone:
    def __init__(self, name: str) -> None:
        self.is_utc = name == "UTC"
        self._zone = UTC if self.is_utc else ZoneInfo(name)

    def aware(self, instant: datetime) -> datetime:
        return instant.replace(tzinfo=UTC).astimezone(self._zone)

    def offset(self, instant: datetime) -> timedelta:
        return self.aware(instant).utcoffset() or timedelta()

    def instant(self, local: datetime) -> datetime:
        """When the clock on the wall first shows `local`, or the end of the gap that swallows it."""
        aware = local.replace(tzinfo=self._zone)
        instant = aware.astimezone(UTC).replace(tzinfo=None)
        if instant + self.offset(instant) == local:
            return instant
        # In a gap, fold=0 counts with the offset before it and fold=1 with the one after (PEP 495).
        earlier = aware.replace(fold=1).astimezone(UTC).replace(tzinfo=None)
        return self.first_change(earlier, instant) or instant

    def reached(self, instant: datetime) -> datetime:
        """The latest time that the wall has shown until then: in the second pass the last of the first."""
        local = instant + self.offset(instant)
        if not self.aware(instant).fold:
            return local
        first = self.instant(local)
        change = self.first_change(first, instant)
        return local if change is None else change + self.offset(first) - SECOND

    def changes(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The instants in (after, until] from which on another offset holds."""
        while (change := self.first_change(after, until)) is not None:
            yield change
            after = change

    def first_change(self, after: datetime, until: datetime) -> datetime | None:
        """The first instant in (after, until] with another offset than `after`; looks once a day."""
        offset, low = self.offset(after), after
        while low < until:
            high = min(low + _DAY, until)
            if self.offset(high) == offset:
                low = high
                continue
            while high - low > SECOND:
                middle = low + timedelta(seconds=(high - low) // SECOND // 2)
                low, high = (middle, high) if self.offset(middle) == offset else (low, middle)
            return high
        return None
