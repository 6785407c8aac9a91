"""What a supervisor gives an instance it starts, and what the instance tells it: the instance's side.

    supervisor   --seat JSON, inherited sockets, one end of a line   ->   instance
                 {"ready": [the start report], "made_ms": …}         <-
                 {"refused": why, "for_good": bool}                  <-   it cannot start, or has failed
                 {"suspects": bool}                                  <-   some are ready, or none any more
                 {"began": true}                                     <-   a quarantine was granted one
                 the end of the line: the supervisor is no more      ->   drains, as on SIGTERM

A supervisor that is killed leaves nobody behind: an instance that has not drained in time ends itself.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from iii.config import Config
from iii.errors import ConfigError, IIIError, StepError, StoreDamaged, StoreGone, StoreIncompatible
from iii.store.lmdb.liveness import mark_supervised

_FOR_GOOD = (ConfigError, StepError, StoreDamaged, StoreIncompatible)

__all__ = ["GRACE_S", "Line", "Seat", "Word"]

LOOK_MS = 1_000
GRACE_S = 10.0
"""What a drain may take beyond `shutdown_timeout`: giving back what still runs, the last commits."""


class Seat(Struct, frozen=True):
    """`sockets`, `console`, `line`: file descriptors; only one of the instances has the console's. `format`,
    `colour`: the log's, to fit the supervisor's output. `supervisor`: its pid. `stores`: those that instances
    have run on, by path, and when each was made: it has to be there. `quarantines`: the supervisor starts a
    quarantine when it hears of suspects; one of an earlier version does not."""

    number: int
    of: int
    sockets: tuple[int, ...]
    line: int
    format: Literal["text", "json"]
    colour: bool
    console: tuple[int, ...] = ()
    supervisor: int = 0
    stores: dict[str, int] = {}
    quarantines: bool = False

    def encoded(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def decoded(cls, text: str) -> Seat:
        return msgspec.json.decode(text, type=cls)


class Word(Struct, omit_defaults=True):
    """A line of JSON on the line. `store`, `made_ms`: its path, and when it was made. `for_good`: starting it
    again, with the same files, leads to the same; `gone`: the store that has to be there is not."""

    ready: list[str] | None = None
    store: str = ""
    made_ms: int = 0
    refused: str = ""
    for_good: bool = False
    gone: bool = False
    suspects: bool | None = None
    began: bool = False


class Line:
    """The instance's end."""

    def __init__(self, seat: Seat) -> None:
        self.of = seat.of
        self._socket = socket.socket(fileno=seat.line)
        self.sockets = [socket.socket(fileno=fd) for fd in seat.sockets]
        self.console = [socket.socket(fileno=fd) for fd in seat.console]
        self._left: Callable[[], object] | None = None
        self._supervisor, self._began = seat.supervisor, False

    def ready(self, report: Sequence[str], store: Path, made_ms: int) -> None:
        self._tell(Word(ready=list(report), store=str(store), made_ms=made_ms))

    def suspects(self, ready: bool) -> None:
        self._tell(Word(suspects=ready))

    def began(self) -> None:
        """Something runs, in a quarantine: whatever ends it now, it did not start for nothing."""
        if not self._began:
            self._began = True
            self._tell(Word(began=True))

    def refuse(self, error: IIIError) -> None:
        for_good, gone = isinstance(error, _FOR_GOOD), isinstance(error, StoreGone)
        self._tell(Word(refused=str(error), for_good=for_good, gone=gone))

    def guard(self) -> None:
        """From here on a thread sees to the end of this process when the supervisor is no more."""
        threading.Thread(target=self._wait, name="iii-supervisor", daemon=True).start()

    def watch(self, config: Config, left: Callable[[], object]) -> None:
        """Something runs here now: the thread calls `left` first, and lets it drain."""
        self._data, self._drain_s = config.store.path, config.shutdown_timeout_ms / 1000
        self._left = left

    def _wait(self) -> None:
        self._until_alone()
        if self._left is None:  # nothing runs here yet
            os._exit(1)
        try:
            self._left()
        except RuntimeError:  # the loop has ended already, and so will the process
            pass
        threading.Event().wait(self._drain_s + GRACE_S)
        mark_supervised(self._data, os.getpid())
        os._exit(1)

    def _until_alone(self) -> None:
        """The line ends with the supervisor, but for one that runs steps: a fork may hold it open."""
        ended = select.poll()
        ended.register(self._socket, select.POLLIN)
        while self._supervisor in (0, os.getppid()):
            if ended.poll(LOOK_MS):
                with suppress(ConnectionResetError):  # it was killed before it read what it was told
                    self._socket.recv(1)  # it never writes
                return

    def close(self) -> None:
        self._socket.close()

    def _tell(self, word: Word) -> None:
        try:
            self._socket.sendall(msgspec.json.encode(word) + b"\n")
        except OSError:  # nobody listens any more: `watch` sees to the rest
            pass
