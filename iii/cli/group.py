"""The group that loads a command's file when the command is called, and turns errors into one line."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from iii import __version__

__all__ = ["CONFIG", "CommandGroup", "command_line", "config_option", "json_option"]

CONFIG = "iii.config_file"
"""The key of click's context under which -c is kept, wherever on the line it stood."""

COMMANDS = {
    "run": ("iii.cli.run", "Start the engine (what `iii` alone does)."),
    "top": ("iii.cli.top", "Show what runs now, live: rates, queues, instances."),
    "instances": ("iii.cli.instances", "List the engines that run on the store, and how they are."),
    "create": ("iii.cli.create", "Write a small project of your own: configuration, one step, its test."),
    "check": ("iii.cli.check", "Check the configuration, the steps and the store."),
    "steps": ("iii.cli.steps", "List the steps and what starts them."),
    "enqueue": ("iii.cli.enqueue", "Send a message to a topic."),
    "queue": ("iii.cli.queue", "Look at queues; redrive, purge, pause and resume them."),
    "state": ("iii.cli.state", "Read and write the state that steps share."),
    "cron": ("iii.cli.cron", "List the schedules; run one now."),
    "runs": ("iii.cli.runs", "List the newest runs, the newest first."),
    "trace": ("iii.cli.trace", "Show a trace: request, messages, changes of state and what these started."),
    "audit": ("iii.cli.audit", "List what was changed by hand, and by whom."),
    "config": ("iii.cli.config", "Show the configuration as it is in effect."),
    "logs": ("iii.cli.logs", "Show what the engines log, all instances together."),
    "backup": ("iii.cli.backup", "Copy the store into a new folder, while it is in use."),
    "compact": ("iii.cli.compact", "Make the store's file as small as what it holds, while no engine runs."),
}
"""command -> (the file that owns it, what the list of commands says of it)"""

F = TypeVar("F", bound=Callable[..., Any])


def _keep(ctx: click.Context, _: click.Parameter, given: Path | None) -> Path | None:
    if given is not None:
        ctx.meta[CONFIG] = given
    file: Path | None = ctx.meta.get(CONFIG)
    return file


def config_option(command: F) -> F:
    """-c FILE. A command takes it as `config_file`, with what its group was given where it was given none."""
    option = click.option(
        "-c",
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        callback=_keep,
        metavar="FILE",
        help="The configuration file; ./iii-config.yaml by default.",
    )
    return option(command)


def json_option(command: F) -> F:
    """--json, taken as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


class CommandGroup(click.Group):
    """A group whose commands live in files of their own. `iii` and `iii --port 80` mean `iii run ...`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _ = COMMANDS[name]
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            _fail_unknown(args[0], ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _escaped():
            return super().parse_args(ctx, _with_run(args))

    def invoke(self, ctx: click.Context) -> Any:
        from iii.errors import IIIError

        try:
            with _escaped():
                return super().invoke(ctx)
        except IIIError as error:
            _say_error(str(error))
        except OSError as error:
            where = error.filename or ("the output" if error.errno in (errno.ENOSPC, errno.EIO) else None)
            if where is None:
                raise
            _say_error(f"{where}: {error.strerror}")
        ctx.exit(1)


def _say_error(message: str) -> None:
    from iii.cli.output import say

    say(f"error: {message}", err=True)


@contextmanager
def _escaped() -> Iterator[None]:
    """What click says of a command line repeats parts of it."""
    try:
        yield
    except click.ClickException as error:
        from iii.formats.printable import printable

        if type(error).__name__ != "NoArgsIsHelpError":  # of which the message is the help
            error.message = printable(error.message)  # type: ignore[misc]
        raise


def _with_run(args: list[str]) -> list[str]:
    """`args` with "run" put in where the line names no command and asks nothing of the group itself."""
    at = 0
    while at < len(args) and args[at].startswith(("-c", "--config")):
        at += 2 if args[at] in ("-c", "--config") else 1
    rest = args[at:]
    if at > len(args):
        return args  # -c without its FILE
    if rest and (not rest[0].startswith("-") or rest[0] in ("--help", "-h", "--version")):
        return args
    return [*args[:at], "run", *rest]


def _fail_unknown(name: str, ctx: click.Context) -> NoReturn:
    from iii.formats.units import nearest

    meant = nearest(name, COMMANDS)
    hint = f'did you mean "{meant}"?' if meant else f"there are {', '.join(COMMANDS)}"
    raise click.UsageError(f'no command "{name}"; {hint}', ctx)


@click.group(name="iii", cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="iii")
@config_option
def command_line(config_file: Path | None) -> None:
    """Background workers in one command: HTTP, queues, cron and state triggers over one durable store.

    `iii` alone (or `iii -c FILE`) starts the engine.
    """
