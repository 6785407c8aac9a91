"""An engine with its console in a thread, asked over raw sockets, in bytes of any kind."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hpack
from console_kit import DEADLINE_S, config
from msgspec.structs import replace
from odd_bytes import HEADERS_FRAME

from iii import Engine
from iii.config import ConsoleConfig, HttpConfig
from iii.observe.logs import log
from iii.step import Step

STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


class Running:
    """Its ports, and what was logged that should not have been."""

    def __init__(self) -> None:
        self.http = self.console = 0
        self.wrong: list[str] = []

    def ask(self, port: int, data: bytes) -> list[int]:
        """The statuses of what it answers until it closes, to a client that sends nothing more."""
        answered = b""
        with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as wire:
            try:
                wire.sendall(data)
                wire.shutdown(socket.SHUT_WR)
                while chunk := wire.recv(65536):
                    answered += chunk
            except ConnectionError:  # refused before all of it was read
                pass
        return [int(each) for each in STATUS.findall(answered)] + list(_of_frames(answered))


def _of_frames(answered: bytes) -> Iterator[int]:
    """The statuses in HTTP/2 frames."""
    decoder, at = hpack.Decoder(), 0
    while answered[:5] != b"HTTP/" and at + 9 <= len(answered):
        size, kind = int.from_bytes(answered[at : at + 3], "big"), answered[at + 3]
        if kind == HEADERS_FRAME:
            fields = dict(decoder.decode(answered[at + 9 : at + 9 + size]))
            yield int(fields.get(":status", 0))
        at += 9 + size


class Wrong(logging.Handler):
    """Takes what is an error, or has a traceback."""

    def __init__(self, running: Running) -> None:
        super().__init__()
        self._running = running

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
            self._running.wrong.append(f"{record.name}: {record.getMessage()}\n{trace}")


@contextmanager
def running(folder: Path, steps: list[Step], token: str | None = None) -> Iterator[Running]:
    found, ready = Running(), threading.Event()
    stop: list[Any] = []

    async def serve() -> None:
        ends = asyncio.Event()
        stop.extend((asyncio.get_running_loop(), ends))
        console = ConsoleConfig(port=0, token=token)
        settings = replace(config(folder, console), http=HttpConfig(port=0, h2=True))
        async with Engine(settings, steps, serve=True, console=True) as engine:
            found.http = int((engine.report().address or "").rpartition(":")[2])
            found.console = int((engine.report().console or "").rpartition(":")[2])
            ready.set()
            await ends.wait()

    loggers, wrong = (log, logging.getLogger("asyncio")), Wrong(found)
    for each in loggers:
        each.addHandler(wrong)
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(DEADLINE_S)
        yield found
    finally:
        if stop:
            stop[0].call_soon_threadsafe(stop[1].set)
        thread.join(DEADLINE_S)
        for each in loggers:
            each.removeHandler(wrong)
    assert not thread.is_alive()
