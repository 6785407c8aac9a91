"""Dead letters grouped by what they died of."""

from __future__ import annotations

from msgspec import Struct

from iii.store.contract import Store
from iii.store.search import Wanted, archives, error_of, letters_of, messages

__all__ = ["DeadGroup", "dead_groups"]

SCAN_MAX = 50_000


class DeadGroup(Struct):
    """topic: the dead-letter topic they lie in; step: the one they died in. sample_id: the newest. Wall
    clock."""

    topic: str
    step: str
    error: str
    count: int
    first_ms: int
    last_ms: int
    sample_id: str


async def dead_groups(store: Store, topic: str = "") -> tuple[list[DeadGroup], int]:
    """The largest first, of all letters or of those that lie in `topic` or came from it; and how many letters
    were looked at: SCAN_MAX of them at most."""
    where, wanted = letters_of(store, topic) if topic else (archives(store), Wanted())
    groups: dict[tuple[str, str, str], DeadGroup] = {}
    count = 0
    async for page in messages(store, where, wanted, scan_max=SCAN_MAX):
        for letter in page:
            if letter.dead is None:
                continue
            count += 1
            at_ms, key = letter.dead.died_ms, (letter.topic, letter.dead.step, error_of(letter))
            group = groups.setdefault(key, DeadGroup(*key, 0, at_ms, at_ms, store.message_id(letter.id)))
            group.count += 1
            group.first_ms = min(group.first_ms, at_ms)
            if at_ms >= group.last_ms:
                group.last_ms, group.sample_id = at_ms, store.message_id(letter.id)
    return sorted(groups.values(), key=lambda group: (-group.count, -group.last_ms)), count
