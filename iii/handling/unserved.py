"""Says once per topic that nobody serves it: it may be a typo, and what is sent there only waits.

Topics may be named by strangers: how many are told of, remembered and looked up is bounded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from iii.formats.units import nearest

__all__ = ["TOLD_MAX", "Unserved", "told"]

TOLD_MAX = 100
"""So many are looked up and told of; the log says of the last that others follow."""

log = logging.getLogger("iii.queue")


def told(topic: str, served: Iterable[str]) -> str:
    """That none of the `served` topics is this one."""
    meant = nearest(topic, served)
    hint = f'; did you mean "{meant}"?' if meant else "."
    kept = "is kept until one does, for the topic's retention (7d where none is set)"
    return f'no step serves the topic "{topic}"{hint} What is sent to it {kept}.'


class Unserved:
    """`served`: the topics of the steps here. `is_served`: whether a step of another instance serves one."""

    def __init__(self, served: Iterable[str], is_served: Callable[[str], bool]) -> None:
        self._served = frozenset(served)
        self._told: set[str] = set()
        self._is_served = is_served

    def notice(self, topic: str) -> None:
        """A handler that declares no `enqueues`, or somebody outside, sends to this topic."""
        if topic in self._served or topic in self._told or len(self._told) >= TOLD_MAX:
            return
        self._told.add(topic)
        if self._is_served(topic):
            return
        last = " Further topics are not told of: `iii queue list` has them." * (len(self._told) == TOLD_MAX)
        log.warning("%s%s", told(topic, self._served), last)
