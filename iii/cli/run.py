"""`iii run`: one engine in this process, until a signal. Owns the process: event loop, signals, logging."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from pathlib import Path

import click

from iii.cli.group import config_option
from iii.cli.report import lines
from iii.config import Config, load
from iii.definitions.loader import load_steps
from iii.engine import Engine
from iii.errors import ConfigError, IIIError
from iii.observe.logs import configure, log

__all__ = ["collect_rarely", "run"]

DOUBLED_S = 0.5

_FOLDER = click.Path(path_type=Path)


@click.command()
@click.option("--steps", type=_FOLDER, metavar="DIR", help="The folder of the steps.")
@click.option("--data", type=_FOLDER, metavar="DIR", help="The folder of the store.")
@click.option("--host", help="The address HTTP listens on.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port HTTP listens on; 0: a free one.")
@click.option("--no-http", is_flag=True, help="Serve no HTTP: queues, crons and state triggers only.")
@config_option
def run(
    steps: Path | None,
    data: Path | None,
    host: str | None,
    port: int | None,
    no_http: bool,
    config_file: Path | None,
) -> None:
    """Start the engine (what `iii` alone does).

    Options win over the configuration file. Ctrl-C lets running handlers finish and exits 0; a second one
    ends it at once.
    """
    config = load(config_file, steps=steps, data=data, host=host, port=port)
    _require_one_instance(config)
    configure(config.log.level, config.log.format, config.log.redact)
    engine = Engine(config, load_steps(config.steps), serve=config.http.enabled and not no_http)
    import uvloop

    collect_rarely()
    uvloop.run(_run(engine))
    _leave_running_threads()


async def _run(engine: Engine) -> None:
    stop = _Stop(asyncio.get_running_loop())
    async with engine:
        for line in lines(engine):
            click.echo(line)
        waits = [asyncio.create_task(event.wait()) for event in (stop.asked, engine.failed)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
    if engine.failed.is_set():
        raise IIIError("the engine failed while it ran; the log above says why")
    log.info("Stopped")


def collect_rarely() -> None:
    """What is loaded now stays: do not look through it again. Messages make next to no reference cycles, so a
    collection every 700 allocations, Python's default, is a fifth of the time spent on a message."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


def _leave_running_threads() -> None:
    """End now where a plain `def` handler still runs: Python would wait for its thread, deaf to signals.

    What it ran for was given back or has timed out, and the store is closed.
    """
    left = [each for each in threading.enumerate() if each is not threading.main_thread() and not each.daemon]
    if left:
        log.warning("Stopped while %d blocking handlers still run", len(left))
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


class _Stop:
    """SIGINT and SIGTERM. The first asks for a drain, the next ends the process.

    A wrapper often passes on a Ctrl-C that the terminal has sent to all of its group already: what comes
    within DOUBLED_S is still the first.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.asked = asyncio.Event()
        self._loop, self._doubled_until = loop, 0.0
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: signal.Signals) -> None:
        if not self.asked.is_set():
            self.asked.set()
            self._doubled_until = self._loop.time() + DOUBLED_S
            log.info("Stopping: running handlers may finish; send the signal again to end at once")
        elif self._loop.time() > self._doubled_until:
            os._exit(128 + number)  # messages that run here are found and run again by the next engine


def _require_one_instance(config: Config) -> None:
    if config.instances > 1:
        raise ConfigError(
            f"one `iii run` is one instance, not {config.instances}; start it that many times on this data "
            "folder, each with a --port of its own: they share the work",
            file=str(config.file or ""),
            field="instances",
        )
