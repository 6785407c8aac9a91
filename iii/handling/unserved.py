"""Says once per topic that nobody serves it: it may be a typo, and what is sent there only waits.

Topics may be named by strangers: how many are told of, remembered and looked up is bounded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from iii.formats.units import nearest

__all__ = ["TOLD_MAX", "Unserved"]

TOLD_MAX = 100
"""So many are looked up and told of; the log says of the last that others follow."""

log = logging.getLogger("iii.queue")


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
        meant = nearest(topic, self._served)
        hint = f'; did you mean "{meant}"?' if meant else "."
        last = " Further topics are not told of: `iii queue list` has them." * (len(self._told) == TOLD_MAX)
        log.warning(
            'no step serves the topic "%s"%s What is sent to it is kept until one does, '
            "for the topic's retention (7d).%s",
            topic,
            hint,
            last,
        )
