"""When an instance that died is started again, and when there is no sense in it. Pure: knows no process.

    lived             the next start comes after
    2 s and more      0.1 s
    shorter           0.1 s, twice as much with each death in a row, at most 30 s
    shorter, ended    0.1 s, twice as much with each such end in a row, at most 1 s: somebody outside did it,
    from outside      and nothing is wrong with the instance; counted apart from its own deaths

No pause where no other instance is ready: their messages wait for this one. But not after more than
AT_ONCE_MAX deaths in a row, nor where it could not start by itself: it would only fail again.

What is wrong for good (the configuration, a step) is tried once before anything ran; a store that is gone
once, whenever: an empty one in its place would look like all is well.
"""

from __future__ import annotations

__all__ = ["Restarts"]

PAUSE_S, PAUSE_MAX_S, ENDED_PAUSE_MAX_S = 0.1, 30.0, 1.0
LIVED_S = 2.0
AT_ONCE_MAX = 3
STARTS_MAX = 3
LATER_STARTS_MAX = 10  # once any instance ran, what is wrong may pass: a full disk, a file half deployed


class Restarts:
    """The deaths in a row of one instance's place."""

    def __init__(self) -> None:
        self._short = self._ended = self._at_start = self._by_itself = 0
        self._for_good = self._gone = False

    def ready(self) -> None:
        self._at_start, self._by_itself, self._for_good, self._gone = 0, 0, False, False

    def died_at_start(self, *, outside: bool = False, for_good: bool = False, gone: bool = False) -> float:
        """It was never ready; how many seconds until the next start."""
        self._at_start += 1
        self._by_itself += not outside
        self._for_good, self._gone = for_good, gone
        return self._pause(outside)

    def died(self, lived_s: float, *, outside: bool = False) -> float:
        """It had been ready for so long; how many seconds until the next start."""
        if lived_s >= LIVED_S:
            self._short = self._ended = 0
        return self._pause(outside)

    @property
    def may_be_at_once(self) -> bool:
        """Whether the next start need not wait for its pause where no other instance is ready."""
        return not self._by_itself and self._short + self._ended <= AT_ONCE_MAX

    def hopeless(self, *, any_ran: bool) -> bool:
        """Whether to give it up, if all others are hopeless too. `any_ran`: whether any was ready once."""
        if any_ran:
            return self._gone or self._by_itself >= LATER_STARTS_MAX
        return self._for_good or self._at_start >= STARTS_MAX

    def _pause(self, outside: bool) -> float:
        if outside:
            self._ended += 1
            return _doubled(self._ended, ENDED_PAUSE_MAX_S)
        self._short += 1
        return _doubled(self._short, PAUSE_MAX_S)


def _doubled(deaths: int, pause_max_s: float) -> float:
    return min(PAUSE_S * 2.0 ** min(deaths - 1, 20), pause_max_s)
