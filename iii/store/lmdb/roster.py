"""The instances that live on a data folder, as their session files show them: read without opening the store.

Owns no verdict: what follows from a session that is dead or stale is its peers' to decide (liveness.py).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from iii.clock import Clock, SystemClock
from iii.store.contract import Health
from iii.store.lmdb import machine
from iii.store.lmdb.board import Board
from iii.store.lmdb.liveness import BEAT_S, STALE_BEATS, Peer, session_ids

__all__ = ["InstanceRow", "Seen", "roster"]

Seen: TypeAlias = Health | Literal["stopped", "stale", "stuck"]
"""What an instance says of itself; or that its process was stopped, that its heart beats no more, or that its
event loop has not turned for STUCK_MS."""

STALE_MS: Final = round(1000 * BEAT_S * STALE_BEATS)
STUCK_MS: Final = 2_000
PACE_MS: Final = 10_500
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class InstanceRow(Struct, frozen=True):
    """One live session. `in_flight`: messages whose handlers run; `requests`: HTTP requests being answered;
    `messages_per_s`: settled a second, over the last 10 s. `instance`: which of its supervisor's it is,
    0 = of none. `stuck_ms`: for how long its event loop has not turned, 0 = for less than STUCK_MS.
    `quarantine`: it runs suspects alone, and is no instance that serves."""

    session: int
    pid: int
    health: Seen
    uptime_ms: int
    in_flight: int
    requests: int
    settled: int
    messages_per_s: float
    lanes: int
    instance: int = 0
    stuck_ms: int = 0
    quarantine: bool = False


def roster(folder: Path, clock: Clock | None = None, *, stale_ms: int = STALE_MS) -> list[InstanceRow]:
    """Every live session of this data folder, by session id; [] where there is no folder."""
    now_ms = (clock or SystemClock()).delay_ms()
    rows: list[InstanceRow] = []
    for session in session_ids(folder):
        peer = Peer(folder, session)
        try:
            board = peer.board()
            if board is not None and not peer.is_dead():
                rows.append(_row(session, board, now_ms, stale_ms))
        finally:
            peer.close()
    return rows


def _row(session: int, board: Board, now_ms: int, stale_ms: int) -> InstanceRow:
    stuck_ms = _stuck_ms(board, now_ms)
    return InstanceRow(
        session=session,
        pid=board.pid,
        health=_health(board, now_ms, stale_ms, stuck_ms),
        uptime_ms=max(0, now_ms - board.start * 1000 // TICKS_PER_S),
        in_flight=len(board.running()) + board.unlisted,
        requests=board.requests,
        settled=board.settled,
        messages_per_s=_per_second(board, now_ms),
        lanes=board.lanes,
        instance=board.number,
        stuck_ms=stuck_ms,
        quarantine=board.quarantine,
    )


def _health(board: Board, now_ms: int, stale_ms: int, stuck_ms: int) -> Seen:
    if _is_stopped(board):
        return "stopped"
    last_ms = max((at_ms for at_ms, _ in board.pace()), default=now_ms)
    if now_ms - last_ms > stale_ms:
        return "stale"
    return "stuck" if stuck_ms else board.health


def _stuck_ms(board: Board, now_ms: int) -> int:
    still_ms = now_ms - board.turned_ms if board.turned_ms else 0
    return still_ms if still_ms >= STUCK_MS and not _is_stopped(board) else 0


def _is_stopped(board: Board) -> bool:
    if board.namespace != machine.pid_namespace():
        return False
    stat = machine.process_stat(board.pid)
    return stat is not None and stat.stopped


def _per_second(board: Board, now_ms: int) -> float:
    """From the oldest beat within PACE_MS until now; 0 where there was none."""
    pace = [beat for beat in board.pace() if beat[0] > now_ms - PACE_MS]
    if not pace:
        return 0.0
    since_ms, settled = pace[0]
    return round((board.settled - settled) * 1000 / max(1, now_ms - since_ms), 1)
