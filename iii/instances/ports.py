"""The ports that `iii run` listens on, and the wait for engines of before that end and still have them.

    a port is held by                                                                        then
    an instance whose supervisor is no more: it drains, or ends as soon as it notices        it is waited for
    an instance on this data folder that drains                                              it is waited for
    anybody else                                                                             ConfigError

The wait is as long as a drain may take. Knows no HTTP and opens no store.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from socket import socket

import msgspec

from iii.config import Config
from iii.instances.seat import GRACE_S, Seat
from iii.store.lmdb import machine
from iii.stores import roster_of
from iii.web.port import PortTaken, listen, owners

__all__ = ["console_sockets", "http_sockets"]

LOOK_S = 0.05
VANISHED_MAX = 3  # then it is a process of another user

log = logging.getLogger("iii.instances")


def http_sockets(config: Config) -> list[socket]:
    return _listen(config, config.http.host, config.http.port, "http.port")


def console_sockets(config: Config) -> list[socket]:
    """[] where it is not wanted."""
    at = config.console
    return _listen(config, at.host, at.port, "console.port") if at.enabled else []


def _listen(config: Config, host: str, port: int, field: str) -> list[socket]:
    until = time.monotonic() + config.shutdown_timeout_ms / 1000 + GRACE_S
    told: list[int] = []
    vanished = 0  # how often somebody had it, and nobody when that was asked for: it was freed just then
    while True:
        try:
            return listen(host, port, file=str(config.file or ""), field=field)
        except PortTaken:
            holders = list(owners(port))
            vanished += not holders
            if vanished > VANISHED_MAX or not _all_end(holders, config) or time.monotonic() > until:
                raise
        if holders and holders != told:
            told = holders
            pids = ", ".join(map(str, holders))
            log.info("Port %d is held by instances of before that end (pid %s): waiting for them", port, pids)
        time.sleep(LOOK_S)


def _all_end(pids: list[int], config: Config) -> bool:
    data = config.store.path if config.store.kind == "lmdb" else None
    draining = {row.pid for row in roster_of(data, config.store.stale_after_ms) if row.health == "draining"}
    return all(pid in draining or _has_lost_its_supervisor(pid) for pid in pids)


def _has_lost_its_supervisor(pid: int) -> bool:
    """Its command line tells whose it was, the kernel whose child it is."""
    stat = machine.process_stat(pid)
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        seat = Seat.decoded(words[words.index("--seat") + 1])
    except (OSError, ValueError, IndexError, msgspec.DecodeError):  # another program's, or it has just ended
        return stat is None
    return stat is None or seat.supervisor not in (0, stat.parent)
