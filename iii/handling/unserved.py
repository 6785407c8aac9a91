"""Says once per topic that nobody serves it: it may be a typo, and what is sent there only waits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from iii.formats.units import nearest

__all__ = ["Unserved"]

TOPICS_MAX = 10_000
"""So many are remembered; topics made up for each user or order are not looked up for ever."""

log = logging.getLogger("iii.queue")


class Unserved:
    """`served`: the topics of the steps here. `is_served`: whether a step of another instance serves one."""

    def __init__(self, served: Iterable[str], is_served: Callable[[str], bool]) -> None:
        self._served = frozenset(served)
        self._seen = set(self._served)
        self._is_served = is_served

    def notice(self, topic: str) -> None:
        """A handler that declares no `enqueues`, or somebody outside, sends to this topic."""
        if topic in self._seen or len(self._seen) >= TOPICS_MAX:
            return
        self._seen.add(topic)
        if not self._is_served(topic):
            meant = nearest(topic, self._served)
            hint = f'; did you mean "{meant}"?' if meant else ""
            log.warning(
                'no step serves the topic "%s"%s What is sent to it is kept until one does, '
                "for the topic's retention (7d)",
                topic,
                hint or ".",
            )
