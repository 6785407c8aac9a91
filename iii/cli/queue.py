"""`iii queue`: look at queues; redrive, purge, pause and resume them."""

from __future__ import annotations

from pathlib import Path

import click

from iii.cli.group import config_option, json_option
from iii.cli.output import compact, count, print_json, print_table, span
from iii.cli.project import reading, writing
from iii.config import load
from iii.store.contract import Store
from iii.store.operations import MessageRow, QueueRow, peek, purge, queue_rows, redrive, set_paused

__all__ = ["queue"]

COUNTS = ("ready", "delayed", "behind", "leased", "dead", "done", "failed")


@click.group()
@config_option
def queue(config_file: Path | None) -> None:
    """Look at queues; redrive, purge, pause and resume them."""


@queue.command("list")
@json_option
@config_option
def list_(as_json: bool, config_file: Path | None) -> None:
    """List every queue: one row per topic and step, done and failed since the store was made."""

    async def read(store: Store) -> list[QueueRow]:
        return queue_rows(store)

    rows = reading(load(config_file), read)
    if as_json:
        print_json(rows)
        return
    cells = [(*_shown(row), span(row.oldest_ms), "paused" if row.paused else "") for row in rows]
    print_table(("topic", "step", *COUNTS, "oldest", "state"), cells, empty="no queues yet")


def _shown(row: QueueRow) -> tuple[object, ...]:
    return (row.topic, row.step or "-", *(getattr(row, name) for name in COUNTS))


@queue.command("peek")
@click.argument("topic")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@json_option
@config_option
def peek_(topic: str, limit: int, as_json: bool, config_file: Path | None) -> None:
    """Show the messages of TOPIC as they lie there; of a dead-letter topic, why they died."""

    async def read(store: Store) -> list[MessageRow]:
        return peek(store, topic, limit=limit)

    rows = reading(load(config_file), read)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        _print_message(row)
    if not rows:
        click.echo(f"nothing waits in {topic}")


def _print_message(row: MessageRow) -> None:
    origin = f" from {row.origin.topic}/{row.origin.step}" if row.origin else ""
    due = f", due {row.due_at}" if row.due_at else ""
    click.echo(f"{row.id}  {row.state}{origin}  {row.step or '-'}  enqueued {row.enqueued_at}{due}")
    click.echo(f"    priority {row.priority}, {count(row.attempts, 'failed attempt')}")
    if row.error:
        click.echo(f"    error: {row.error.strip().splitlines()[-1]}")
    click.echo(f"    {compact(row.payload)}")


@queue.command("redrive")
@click.argument("topic")
@config_option
def redrive_(topic: str, config_file: Path | None) -> None:
    """Send dead letters back to the step they died in, with new attempts.

    TOPIC is a dead-letter topic (all it holds) or the topic they were sent to at first.
    """

    async def write(store: Store) -> int:
        return await redrive(store, topic)

    click.echo(f"{count(writing(load(config_file), write), 'message')} redriven")


@queue.command("purge")
@click.argument("topic")
@click.option("--yes", is_flag=True, help="Without it nothing is removed.")
@config_option
def purge_(topic: str, yes: bool, config_file: Path | None) -> None:
    """Remove all that waits in TOPIC; what runs is left to end. Dead letters lie in their own topic."""
    if not yes:
        raise click.UsageError(f"this removes every message of {topic} that waits; say --yes to do it")

    async def write(store: Store) -> int:
        return await purge(store, topic)

    click.echo(f"{count(writing(load(config_file), write), 'message')} removed")


@queue.command("pause")
@click.argument("topic")
@config_option
def pause(topic: str, config_file: Path | None) -> None:
    """Start no more messages of TOPIC, over all instances and restarts, until it is resumed."""
    _pause(topic, True, config_file)


@queue.command("resume")
@click.argument("topic")
@config_option
def resume(topic: str, config_file: Path | None) -> None:
    """Go on with a paused TOPIC."""
    _pause(topic, False, config_file)


def _pause(topic: str, paused: bool, config_file: Path | None) -> None:
    async def write(store: Store) -> list[str]:
        return await set_paused(store, topic, paused)

    steps = writing(load(config_file), write)
    named = ", ".join(step for step in steps if step)
    click.echo(f"{topic} {'paused' if paused else 'resumed'}{f' for {named}' if named else ''}")
