"""Who has logged in to the console, until when: cookies, and what the store knows of them.

    mark console/session/N    the number of the session that has place N of SESSIONS_MAX, 0 where it ended
    mark console/key/N        248 random bits of this store, drawn once
    mark console/token        16 bits of a digest of the token: enough to notice another, no help to guess it

A session's number is its time of issue and 20 random bits. A cookie has its place, its number, the time it
was last renewed and a digest of these, keyed by the token and by the store: it says nothing of the token, and
what lies in the store makes no cookie. A session lives while its place has its number: to end it is one mark,
which every instance sees and a restart does not forget, and which lands in a full store too. A start with
another token ends all. Knows no HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from iii.errors import Conflict, StoreBusy, StoreFull
from iii.model import Mark, Record, Txn
from iii.store.contract import Store

__all__ = ["IDLE_MS", "LIFETIME_MS", "SESSIONS_MAX", "Session", "Sessions"]

HOUR_MS = 3_600_000
LIFETIME_MS = 7 * 24 * HOUR_MS
IDLE_MS = 24 * HOUR_MS
RENEW_MS = HOUR_MS
AHEAD_MS = 60_000  # how far a clock may have been ahead
SESSIONS_MAX = 256  # one more ends the oldest
RANDOM_BITS = 20
TRIES_MAX = 32

PLACE, KEY, TOKEN = "console/session/", "console/key/", "console/token"
KEYS: Final = tuple(f"{KEY}{number}" for number in range(4))
_COOKIE = re.compile(r"([0-9a-f]{1,2})\.([0-9a-f]{1,16})\.([0-9a-f]{1,12})\.([0-9a-f]{64})")


class Session(Struct, frozen=True):
    """As its cookie has it. seen_ms: when that was renewed last."""

    place: int
    number: int
    seen_ms: int

    @property
    def issued_ms(self) -> int:
        return self.number >> RANDOM_BITS

    @property
    def mark(self) -> str:
        return f"{PLACE}{self.place}"


class Sessions:
    """Of the consoles with this token on this store."""

    def __init__(self, store: Store, token: bytes) -> None:
        self._store, self._token = store, token
        self._key: bytes | None = None
        self.tag = (
            ""  # of the store: browsers keep cookies by host, and another project's console may be there
        )

    async def open(self) -> None:
        """Draw the store's key where it has none; end all sessions where they were of another token."""
        for _ in range(TRIES_MAX):
            found = {**self._store.marks(KEY), **self._store.marks(TOKEN), **self._store.marks(PLACE)}
            drawn = {name: secrets.randbits(62) for name in KEYS if name not in found}
            of_store = b"".join((found | drawn)[name].to_bytes(8, "big") for name in KEYS)
            key = hmac.digest(of_store, self._token, "sha256")
            ops = [Mark(name, value, None) for name, value in drawn.items()]
            print_of_token = int.from_bytes(hmac.digest(key, b"token", "sha256")[:2], "big")
            if found.get(TOKEN) != print_of_token:
                ops.append(Mark(TOKEN, print_of_token, found.get(TOKEN)))
                ops += [Mark(name, 0, at) for name, at in found.items() if at and name.startswith(PLACE)]
            try:
                if ops:
                    await self._store.commit(Txn(tuple(ops)))
            except Conflict:  # another instance was first
                continue
            self._key, self.tag = key, hmac.digest(of_store, b"tag", "sha256").hex()[:8]
            return
        raise StoreBusy("the sessions of the console are written by others without end")

    def of(self, cookies: Iterable[str]) -> Session | None:
        """The session that lives of what a browser sent under our name, whoever else set such a cookie."""
        sessions = (self._read(each) for each in cookies)
        return next((each for each in sessions if each is not None and self.lives(each)), None)

    def lives(self, session: Session) -> bool:
        now_ms = self._store.clock.wall_ms()
        if not -AHEAD_MS <= now_ms - session.issued_ms < LIFETIME_MS or now_ms - session.seen_ms >= IDLE_MS:
            return False
        return self._store.mark(session.mark) == session.number

    async def begin(self, before: Session | None, told: Record) -> str:
        """The cookie of a new session, which takes the place of the one `before`; `told`: its audit row."""
        if self._key is None:
            await self.open()
        for _ in range(TRIES_MAX):
            taken = self._store.marks(PLACE)
            now_ms = self._store.clock.wall_ms()
            place = _free_place(taken) if before is None else before.place
            session = Session(place, (now_ms << RANDOM_BITS) + secrets.randbits(RANDOM_BITS), now_ms)
            try:
                await self._commit(Mark(session.mark, session.number, taken.get(session.mark)), told)
            except Conflict:  # somebody else has logged in just now
                before = None
            else:
                return self._cookie(session)
        raise StoreBusy("others log in without end")

    async def end(self, session: Session, told: Record) -> None:
        """For every instance, and for good."""
        try:
            await self._commit(Mark(session.mark, 0, session.number), told)
        except Conflict:  # it has ended already
            return

    def renewed(self, session: Session) -> str | None:
        """The cookie anew where it is time: so an open page keeps its session, and a closed one does not."""
        now_ms = self._store.clock.wall_ms()
        if now_ms - session.seen_ms < RENEW_MS:
            return None
        return self._cookie(Session(session.place, session.number, now_ms))

    async def _commit(self, mark: Mark, told: Record) -> None:
        try:
            await self._store.commit(Txn((mark, told)))
        except StoreFull:
            await self._store.commit(Txn((mark,)))

    def _cookie(self, session: Session) -> str:
        head = f"{session.place:x}.{session.number:x}.{session.seen_ms:x}"
        return f"{head}.{self._digest(head)}"

    def _read(self, cookie: str) -> Session | None:
        found = _COOKIE.fullmatch(cookie) if self._key is not None else None
        if found is None:
            return None
        head, _, digest = cookie.rpartition(".")
        if not hmac.compare_digest(digest.encode(), self._digest(head).encode()):
            return None
        return Session(int(found[1], 16), int(found[2], 16), int(found[3], 16))

    def _digest(self, head: str) -> str:
        return hmac.new(self._key or b"", b"session " + head.encode(), hashlib.sha256).hexdigest()


def _free_place(taken: Mapping[str, int]) -> int:
    """One of those that nobody has; else that of the oldest session."""
    numbers = [taken.get(f"{PLACE}{place}", 0) for place in range(SESSIONS_MAX)]
    free = [place for place, number in enumerate(numbers) if not number]
    return secrets.choice(free) if free else numbers.index(min(numbers))
