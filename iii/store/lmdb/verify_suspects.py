"""What verify.py says of suspects: the ready ones are those that `counter` lists, and a session holds as many
as it may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from iii.model import SUSPECT_CRASHES, Suspects
from iii.store.lmdb.keys import READY, u32
from iii.store.lmdb.rows import decode_session
from iii.store.lmdb.snapshot import Found, Rows

__all__ = ["SuspectCounts"]


class SuspectCounts:
    def __init__(self, rows: Rows) -> None:
        self._say = rows.say
        self._sessions: dict[int, Suspects] = dict(
            rows.of("session", lambda key, value: (u32.unpack(key)[0], decode_session(value).suspects))
        )
        self._ready: set[bytes] = set()
        self._leases: Counter[int] = Counter()  # of each session
        self._suspects: Counter[int] = Counter()

    def see(self, found: Found) -> None:
        """A message where it lies."""
        row, is_suspect = found.row, found.row.crashes >= SUSPECT_CRASHES
        if row.alone > row.crashes:
            self._say(f"message {found.id} counts {row.alone} crashes alone, of {row.crashes}")
        if found.table == "ready" and is_suspect:
            self._ready.add(READY.pack(found.lane, found.rank, found.id))
        elif found.table == "lease":
            self._leases[found.session] += 1
            self._suspects[found.session] += is_suspect

    def check(self, listed: Collection[bytes]) -> None:
        """`listed`: the keys in `ready` that `counter` names."""
        for key in sorted({*listed} ^ self._ready):
            what = "is ready, and listed nowhere" if key in self._ready else "is listed, and not ready"
            self._say(f"suspect {READY.unpack(key)[2]} {what}")
        for session, suspects in self._suspects.items():
            allowed = self._sessions.get(session, "one")
            if suspects > (allowed != "none"):
                self._say(f"session {session} has {suspects} suspects, it is granted {allowed}")
            if allowed == "only" and (self._leases[session], suspects) != (1, 1):
                self._say(f"quarantine {session} has {self._leases[session]} leases, {suspects} of suspects")
