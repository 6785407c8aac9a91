"""`iii run`: one engine in this process, or a supervisor of several, until a signal.

Owns the process: event loop, signals, logging, its limit of open files.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Literal

import click

from iii.cli import foreign
from iii.cli.group import config_option
from iii.cli.output import Coloured, say
from iii.cli.quarantine import own_quarantine, until_it_is_to_end
from iii.cli.report import lines
from iii.config import Config, load
from iii.definitions.loader import load_steps
from iii.engine import Engine
from iii.errors import IIIError
from iii.files import require_closed
from iii.instances import loop
from iii.instances.children import end_children, kill_children
from iii.instances.ports import console_sockets, http_sockets
from iii.instances.seat import Line, Seat
from iii.instances.signals import Signals, hear_all
from iii.model import Suspects
from iii.observe.floods import Floods
from iii.observe.log_file import LogFile, log_file_of
from iii.observe.logs import chosen, configure, log, retake, take_root
from iii.observe.streams import own
from iii.running.last_resort import LastResort
from iii.step import Step
from iii.stores import expect, made_ms_of, require_shared
from iii.web.port import PortTaken

if TYPE_CHECKING:
    from iii.instances.instance import Command
    from iii.instances.quarantine import OwnQuarantine

__all__ = ["collect_rarely", "run"]

TASKS_END_S = 1.0
LOOK_S = 1.0

_FOLDER = click.Path(path_type=Path)


@click.command()
@click.option("--instances", type=click.IntRange(1, 256), help="How many engines share the work.")
@click.option("--steps", type=_FOLDER, metavar="DIR", help="The folder of the steps.")
@click.option("--data", type=_FOLDER, metavar="DIR", help="The folder of the store.")
@click.option("--host", help="The address HTTP listens on.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port HTTP listens on; 0: a free one.")
@click.option("--no-http", is_flag=True, help="Serve no HTTP: queues, crons and state triggers only.")
@click.option("--console-port", type=click.IntRange(0, 65535), help="The port of the console; 0: a free one.")
@click.option("--no-console", is_flag=True, help="Serve no console.")
@click.option("--quarantine", is_flag=True, hidden=True, help="Run suspects alone; end where there are none.")
@click.option("--seat", hidden=True, help="What a supervisor tells its instance.")
@config_option
def run(
    instances: int | None,
    steps: Path | None,
    data: Path | None,
    host: str | None,
    port: int | None,
    no_http: bool,
    console_port: int | None,
    no_console: bool,
    quarantine: bool,
    seat: str | None,
    config_file: Path | None,
) -> None:
    """Start the engine (what `iii` alone does).

    Options win over the configuration file. Ctrl-C lets running handlers finish and exits 0; a second one
    ends it at once. With several instances, SIGHUP restarts them one by one, and no request fails.
    """
    hear_all()
    environment = dict(os.environ)  # without what a .env puts there: a changed one counts on SIGHUP

    def reload() -> Config:
        os.environ.clear()
        os.environ.update(environment)
        return load(
            config_file,
            steps=steps,
            data=data,
            host=host,
            port=port,
            instances=instances,
            console_port=console_port,
            console=False if no_console or quarantine else None,
        )

    config = reload()
    serves = config.http.enabled and not no_http and not quarantine
    _raise_file_limit()
    own()
    given = {"-c": config_file, "--steps": steps, "--data": data, "--host": host, "--port": port}
    options = [text for name, value in given.items() if value is not None for text in (name, str(value))]
    options += ("--no-http",) if no_http else ()
    options += ("--no-console",) if no_console else ()
    if seat is not None:
        _run_seated(config, serves, Seat.decoded(seat), quarantine=quarantine)
    elif quarantine:
        _run_alone(config, False, "only", None)
    elif config.instances > 1:
        sys.exit(_supervise(config, serves, reload, options, environment))
    elif config.store.kind == "memory":
        _run_alone(config, serves, "one", None)
    else:
        _run_alone(config, serves, "none", _command(config, options, environment))


def _warn() -> None:
    """Of what is not in the project and may break it."""
    if (warning := foreign.told()) is not None:
        log.warning("%s", warning)


def _run_alone(config: Config, serves: bool, suspects: Suspects, command: Command | None) -> None:
    """`command`: how its quarantine is started, None = it has none."""
    floods = _configure_log(config, config.log.format, _own_log_file(config))
    _warn()
    steps = _steps(config, floods)
    with ExitStack() as kept:
        sockets = http_sockets(config) if serves else []
        console = _own_console(config)
        for each in sockets if console is True else (*sockets, *console):
            kept.enter_context(each)
        engine = Engine(config, steps, serve=serves, sockets=sockets, console=console, suspects=suspects)
        _serve(engine, None, partial(retake, floods, config.log.level), command)


def _serve(
    engine: Engine, line: Line | None, retake_log: Callable[[], bool], command: Command | None = None
) -> None:
    if engine.spans is not None:
        engine.spans.own_process()
    collect_rarely()
    loop.run(_run_to_the_end(engine, line, retake_log, command))
    _leave_running_threads()


async def _run_to_the_end(
    engine: Engine, line: Line | None, retake_log: Callable[[], bool], command: Command | None
) -> None:
    """Python would wait for ever for a task that ignores its cancellation: end without it."""
    try:
        await _run(engine, line, retake_log, command)
    except IIIError as error:
        if await _tasks_left():
            if line is not None:
                line.refuse(error)
            say(f"error: {error}", err=True)
            _end_now(1)
        raise
    if left := await _tasks_left():
        log.warning("Stopped while %d tasks of handlers still run: they ignore their cancellation", left)
        _end_now(0)


async def _run(
    engine: Engine, line: Line | None, retake_log: Callable[[], bool], command: Command | None
) -> None:
    _look_after(retake_log)
    stop, tell = asyncio.Event(), asyncio.get_running_loop().call_soon_threadsafe
    own = None if command is None else own_quarantine(engine, command)
    if line is None:
        Signals(stop=partial(_stop, stop), end=partial(_end_at_once, engine, own), reload=_nothing_to_roll)
    else:  # when to end at once is the supervisor's to say: a service manager may signal all of them
        Signals(stop=stop.set, end=lambda number: None, reload=lambda: None)
        line.watch(engine.config, lambda: tell(stop.set))
    with LastResort(engine.config.health.stuck_after_ms) as engine.last_resort:
        try:
            async with engine:
                if line is not None:
                    at, made_ms = engine.config.store.path, made_ms_of(engine.store)
                    line.ready(list(lines(engine, line.of)), at, made_ms)
                else:
                    _print(list(lines(engine)))
                await until_it_is_to_end(engine, stop, line)
                if own is not None:
                    own.stop()
        finally:
            if own is not None:
                await own.close()
    if engine.failed.is_set():
        raise engine.failure or IIIError("the engine failed while it ran; the log above says why")
    log.info("Stopped")


def _look_after(retake_log: Callable[[], bool]) -> None:
    """Handlers may set up logging, too."""
    if retake_log():
        log.warning("A handler set up logging anew: the engine's loggers are taken back")
    asyncio.get_running_loop().call_later(LOOK_S, _look_after, retake_log)


def _own_console(config: Config) -> Literal[True] | Sequence[socket]:
    """True: another instance serves it, or whoever has its port is told when the engine starts."""
    try:
        return console_sockets(config)
    except PortTaken:
        return True


def _print(report: Sequence[str]) -> None:
    """The report has been escaped where it was made."""
    for line in report:
        say(Coloured(line))


def _configure_log(
    config: Config, format: str, file: LogFile | None, *, colour: bool | None = None
) -> Floods:
    """What is logged by anybody in this process goes the same way, but for what a step set up for itself."""
    log_config = config.log
    floods = configure(log_config.level, format, log_config.redact, colour=colour, file=file)
    take_root(floods, log_config.level)
    return floods


def _steps(config: Config, floods: Floods) -> list[Step]:
    """Steps may set up logging when they are imported."""
    try:
        return load_steps(config.steps)
    finally:
        retake(floods, config.log.level)


def _own_log_file(config: Config) -> LogFile | None:
    """As log_file_of; StoreError where it, or the data folder, is not this user's alone. An instance of
    several hears of the folder when it opens the store, and then its supervisor does."""
    file = log_file_of(config)
    if file is not None:
        with suppress(OSError):  # which opening the store tells better
            if config.store.path.is_dir():
                require_closed(config.store.path)
        file.require_own()
    return file


def _stop(asked: asyncio.Event) -> None:
    asked.set()
    log.info("Stopping: running handlers may finish; send the signal again to end at once")


def _end_at_once(engine: Engine, own: OwnQuarantine | None, number: signal.Signals) -> None:
    """Messages that run here are found and run again by the next engine, and none is to blame."""
    from iii.store.lmdb.liveness import mark_supervised

    if own is not None:
        own.kill()
    mark_supervised(engine.config.store.path, os.getpid())
    kill_children()
    os._exit(128 + number)


def _nothing_to_roll() -> None:
    log.warning("SIGHUP restarts instances one by one, and this is a single one: nothing done")


# ---------------------------------------------------------------------------------- several instances


def _run_seated(config: Config, serves: bool, seat: Seat, *, quarantine: bool) -> None:
    """One of several, started by a supervisor: it hears why this one cannot run."""
    suspects: Suspects = "only" if quarantine else "none" if seat.quarantines else "one"
    made_ms = seat.stores.get(str(config.store.path), 0)
    floods = _configure_log(config, seat.format, log_file_of(config), colour=seat.colour)
    line = Line(seat)
    line.guard()
    if seat.number != 1:  # all say the same of the steps
        logging.getLogger("iii.steps").setLevel(logging.ERROR)
    try:
        steps = _steps(config, floods)
        engine = Engine(
            config, steps, serve=serves, sockets=line.sockets, console=line.console, number=seat.number,
            suspects=suspects,
        )  # fmt: skip
        if suspects == "none":
            engine.store.on_suspects(line.suspects)
        if made_ms:
            expect(engine.store, made_ms)
        _serve(engine, line, partial(retake, floods, config.log.level))
    except IIIError as error:
        line.refuse(error)
        sys.exit(1)


def _supervise(
    config: Config,
    serves: bool,
    reload: Callable[[], Config],
    options: Sequence[str],
    environment: dict[str, str],
) -> int:
    from iii.instances.supervisor import Supervisor

    require_shared(config)
    _configure_log(config, config.log.format, _own_log_file(config))
    _warn()
    sockets = http_sockets(config) if serves else []
    console = console_sockets(config)
    command = _command(config, options, environment, sockets, console)

    async def supervise() -> int:
        kept = [*sockets, *console]
        return await Supervisor(config, command, sockets=kept, reload=reload, show=_print).run()

    return asyncio.run(supervise())


def _command(
    config: Config,
    options: Sequence[str],
    environment: dict[str, str],
    sockets: Sequence[socket] = (),
    console: Sequence[socket] = (),
) -> Command:
    from iii.instances.instance import Command

    return Command(
        options=tuple(options),
        environment=environment,
        of=config.instances,
        sockets=tuple(each.fileno() for each in sockets),
        format=chosen(config.log.format, sys.stderr),
        colour=sys.stderr.isatty(),
        console=tuple(each.fileno() for each in console),
    )


# ---------------------------------------------------------------------------------------- the process


def collect_rarely() -> None:
    """What is loaded now stays: do not look through it again. Messages make next to no reference cycles, so a
    collection every 700 allocations, Python's default, is a fifth of the time spent on a message."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


def _raise_file_limit() -> None:
    """Each connection is an open file: take as many as the system allows this user."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:
        log.debug("the limit of open files stays as it is: %s", error)


def _leave_running_threads() -> None:
    """End now where a plain `def` handler still runs: Python would wait for its thread, deaf to signals.

    What it ran for was given back or has timed out, and the store is closed.
    """
    end_children()
    left = [each for each in threading.enumerate() if _would_be_waited_for(each)]
    if left:
        log.warning("Stopped while %d blocking handlers still run", len(left))
        _end_now(0)


def _would_be_waited_for(thread: threading.Thread) -> bool:
    """Not one that belongs to a pool of processes: it ends with them, when Python does."""
    is_others = thread is not threading.main_thread() and not thread.daemon
    return is_others and type(thread).__module__ != "concurrent.futures.process"


async def _tasks_left() -> int:
    """Cancel what handlers left behind; how many of them did not mind."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    return len((await asyncio.wait(left, timeout=TASKS_END_S))[1]) if left else 0


def _end_now(code: int) -> None:
    end_children()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)
