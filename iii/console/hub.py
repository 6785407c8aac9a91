"""What happens, told to everybody who listens: one producer a topic, however many listen, none while nobody
does.

A listener has a bounded queue: who is slow loses the oldest events and hears how many, and costs no memory.
Knows no HTTP and no topic by name.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import TypeAlias

import msgspec

__all__ = ["Event", "Hub", "Listener"]

QUEUE_MAX = 500

Event: TypeAlias = tuple[str, object]
"""Its name and what is told, to be encoded as JSON."""
Producer: TypeAlias = Callable[[], AsyncIterator[Event]]

log = logging.getLogger("iii.console")


class Listener:
    """Frames of server-sent events, as they come."""

    def __init__(self, topics: Iterable[str]) -> None:
        self.topics = frozenset(topics)
        self._frames: deque[tuple[str, bytes]] = deque()
        self._lost: Counter[str] = Counter()
        self._wake = asyncio.Event()
        self.closed = False

    def put(self, event: str, frame: bytes) -> None:
        if len(self._frames) >= QUEUE_MAX:
            lost, _ = self._frames.popleft()
            self._lost[lost] += 1
        self._frames.append((event, frame))
        self._wake.set()

    def close(self) -> None:
        self.closed = True
        self._wake.set()

    async def wait(self, seconds: float) -> bytes:
        """What came, at once; b"" where nothing did for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return b""
        self._wake.clear()
        lost, self._lost = self._lost, Counter()
        frames = [frame_of(event, {"skipped": count}) for event, count in lost.items()]
        frames += [frame for _, frame in self._frames]
        self._frames.clear()
        return b"".join(frames)


class Hub:
    """`producers`: by topic."""

    def __init__(self, producers: dict[str, Producer]) -> None:
        self._producers = producers
        self._listeners: set[Listener] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    @property
    def topics(self) -> tuple[str, ...]:
        return tuple(self._producers)

    @property
    def listening(self) -> int:
        return len(self._listeners)

    def join(self, topics: Iterable[str]) -> Listener:
        listener = Listener(topics)
        self._listeners.add(listener)
        if self._closed:
            listener.close()
            return listener
        for topic in listener.topics:
            task = self._tasks.get(topic)
            if task is None or task.done():
                self._begin(topic)
        return listener

    def _begin(self, topic: str) -> None:
        task = self._tasks[topic] = asyncio.get_running_loop().create_task(self._produce(topic))
        task.add_done_callback(partial(self._ended, topic))

    def _ended(self, topic: str, task: asyncio.Task[None]) -> None:
        """A handler that cancels all tasks cancels a producer, too: its listeners still wait."""
        if task.cancelled() and task.cancelling() and self._tasks.get(topic) is task and not self._closed:
            self._begin(topic)

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        for topic in listener.topics:
            if not any(topic in each.topics for each in self._listeners) and topic in self._tasks:
                self._tasks.pop(topic).cancel()

    def close(self) -> None:
        """Every listener's stream ends. What joins later ends at once."""
        self._closed = True
        for task in self._tasks.values():
            task.cancel()
        for listener in self._listeners:
            listener.close()

    async def _produce(self, topic: str) -> None:
        try:
            async for event, content in self._producers[topic]():
                frame = frame_of(event, content)
                for listener in self._listeners:
                    if topic in listener.topics:
                        listener.put(event, frame)
        except Exception:
            log.exception("The console's events of %s ended", topic)


def frame_of(event: str, content: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.encode(), msgspec.json.encode(content))
