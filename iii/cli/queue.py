"""`iii queue`: look at queues and their messages; redrive, discard, purge, pause and resume them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from msgspec import structs

from iii.cli.arguments import MESSAGE_ID, json_value, priority_value
from iii.cli.group import config_option, json_option
from iii.cli.output import compact, count, print_json, print_table, say, span
from iii.cli.project import reading, writing
from iii.config import Config, load
from iii.errors import InputError
from iii.formats import codec
from iii.formats.units import duration_ms
from iii.handling.outbox import priority_of
from iii.model import Waiting
from iii.store import bulk
from iii.store.audit import command_line
from iii.store.contract import Store
from iii.store.letters import DeadGroup, dead_groups
from iii.store.operations import MessageRow, QueueRow, kept_row, message_rows, queue_rows
from iii.store.reasons import why
from iii.store.search import STATES, Wanted, known, letters_of, locate, named, places, search

__all__ = ["queue"]

COUNTS = ("ready", "delayed", "behind", "leased", "dead", "done", "failed")

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
@config_option
def queue(config_file: Path | None) -> None:
    """Look at queues; redrive, purge, pause and resume them."""


def _which_options(command: F) -> F:
    """Which messages: taken as `ids`, `step`, `text`, `field`, `value`, `error`."""
    options = (
        click.option("--id", "ids", type=MESSAGE_ID, multiple=True, help="This message; may be given again."),
        click.option("--step", help="Only of this step; of dead letters, the one they died in."),
        click.option("--text", default="", help="Only with this text in payload, error, group or trace id."),
        click.option("--field", default="", help="Only with this field in the payload: user.id"),
        click.option("--value", help="Only where --field has this value."),
        click.option("--error", help="Only what failed with exactly this error."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _dry_run_option(command: F) -> F:
    return click.option("--dry-run", is_flag=True, help="Only count them.")(command)


@queue.command("list")
@json_option
@config_option
def list_(as_json: bool, config_file: Path | None) -> None:
    """List every queue: one row per topic and step, done and failed since the store was made.

    Below them what is kept of HTTP answers for their Idempotency-Key.
    """

    async def read(store: Store) -> tuple[list[QueueRow], QueueRow | None]:
        return queue_rows(store), kept_row(store)

    rows, kept = reading(load(config_file), read)
    if as_json:
        print_json(rows if kept is None else [*rows, kept])
        return
    cells = [(*_shown(row), span(row.oldest_ms), "paused" if row.paused else "") for row in rows]
    print_table(("topic", "step", *COUNTS, "oldest", "state"), cells, empty="no queues yet")
    if kept is not None:
        say(
            f"kept HTTP answers: {kept.answers}, {kept.bytes} of {kept.bytes_max} bytes; "
            f"{kept.evicted} went before their time (http.max_idempotency)"
        )


def _shown(row: QueueRow) -> tuple[object, ...]:
    return (row.topic, row.step or "-", *(getattr(row, name) for name in COUNTS))


@queue.command("peek")
@click.argument("topic")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@click.option("--state", type=click.Choice(STATES), help="Only in this state.")
@_which_options
@json_option
@config_option
def peek(topic: str, limit: int, state: Any, as_json: bool, config_file: Path | None, **which: Any) -> None:
    """Show the messages of TOPIC as they lie there; of a dead-letter topic, why they died."""

    config = load(config_file)

    async def read(store: Store) -> list[MessageRow]:
        known(store, topic, _configured(config))
        if which["ids"]:
            located = [await named(store, id) for id in which["ids"]]
            found = [each for each in located if each is not None and each.topic == topic]
            rows = zip(message_rows(store, found), found, strict=True)
            return [structs.replace(row, why=await _why(store, message)) for row, message in rows]
        where, wanted = places(store, topic, step=which["step"], state=state), _wanted(which)
        if state == "dead" and not where:
            where, wanted = letters_of(store, topic, which["step"])
        return message_rows(store, (await search(store, where, wanted, limit=limit)).messages)

    rows = reading(config, read)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        _print_message(row)
    if not rows:
        say(f"nothing waits in {topic}")


def _configured(config: Config) -> set[str]:
    """Topics of the configuration, whether they were used yet or not."""
    knobs = (config.queue_defaults, *config.queues.values())
    return {each.dead_letter_queue for each in knobs if each.dead_letter_queue}.union(config.queues)


async def _why(store: Store, message: Waiting) -> str:
    """What holds it; of limits only an engine knows."""
    near = {message.id: message}
    head = store.head(message.topic, message.step, message.group) if message.group is not None else None
    if head is not None and (other := await locate(store, head)) is not None:
        near[head] = other
    return why(store, message, lambda topic, step: None, near.get).text


def _wanted(which: dict[str, Any]) -> Wanted:
    return Wanted(q=which["text"], field=which["field"], value=which["value"], error=which["error"])


def _print_message(row: MessageRow) -> None:
    origin = f" from {row.origin.topic}/{row.origin.step}" if row.origin else ""
    due = f", due {row.due_at}" if row.due_at else ""
    due += f", died {row.died_at}" if row.died_at else ""
    say(f"{row.id}  {row.state}{origin}  {row.step or '-'}  enqueued {row.enqueued_at}{due}")
    say(f"    priority {row.priority}, {count(row.attempts, 'failed attempt')}")
    if row.error:
        say(f"    error: {_last_line(row.error)}")
    if row.why:
        say(f"    {row.why}")
    say(f"    {compact(row.payload)}")


def _last_line(error: str) -> str:
    return error.strip().rpartition("\n")[2]


@queue.command("dead")
@click.argument("topic", required=False, default="")
@json_option
@config_option
def dead(topic: str, as_json: bool, config_file: Path | None) -> None:
    """Show dead letters grouped by what they died of: all, or those of TOPIC."""

    config = load(config_file)

    async def read(store: Store) -> list[DeadGroup]:
        if topic:
            known(store, topic, _configured(config))
        return (await dead_groups(store, topic))[0]

    groups = reading(config, read)
    if as_json:
        print_json(groups)
        return
    cells = [(group.count, group.topic, group.step, group.error.partition("\n")[0]) for group in groups]
    print_table(("letters", "topic", "died in", "error"), cells, empty="no dead letters")


# ------------------------------------------------------------------------------------------------ acts


@queue.command("redrive")
@click.argument("topic")
@_which_options
@_dry_run_option
@json_option
@config_option
def redrive(topic: str, dry_run: bool, as_json: bool, config_file: Path | None, **which: Any) -> None:
    """Send dead letters back to the step they died in, with new attempts.

    TOPIC is a dead-letter topic (all it holds) or the topic they were sent to at first.
    """

    async def write(store: Store, what: bulk.Selection) -> int:
        return await bulk.redrive(store, what, command_line(), **_told(topic, which))

    _act(
        topic, which, write, "redriven", dead=True, dry_run=dry_run, as_json=as_json, config_file=config_file
    )


@queue.command("discard")
@click.argument("topic")
@_which_options
@_dry_run_option
@json_option
@config_option
def discard(topic: str, dry_run: bool, as_json: bool, config_file: Path | None, **which: Any) -> None:
    """Remove some messages that wait in TOPIC: by --id, or all that fit the other options."""
    if not any(which.values()):
        raise click.UsageError(f"say which messages of {topic}: --id, --text, --field, --error or --step")

    async def write(store: Store, what: bulk.Selection) -> int:
        return await bulk.discard(store, what, command_line(), **_told(topic, which))

    _act(topic, which, write, "removed", dry_run=dry_run, as_json=as_json, config_file=config_file)


@queue.command("resend")
@click.argument("id", type=MESSAGE_ID)
@click.argument("data", metavar="[JSON]", required=False)
@click.option("--priority", help="low, normal, high or 0-255; as it was by default.")
@click.option("--delay", default="0", help="Not before this has passed: 5s, 2m, 1h, or milliseconds.")
@json_option
@config_option
def resend(
    id: str, data: str | None, priority: str | None, delay: str, as_json: bool, config_file: Path | None
) -> None:
    """Replace message ID, which waits or died, by a new one with new attempts.

    JSON ("-": from stdin) is its payload, the old one's by default. Printed is the new id.
    """
    payload = None if data is None else codec.encode(json_value(data))
    rank = None if priority is None else priority_of(priority_value(priority))
    try:
        delay_ms = duration_ms(delay)
    except ValueError as error:
        raise InputError(f"--delay: {error}") from None

    async def send(store: Store) -> str:
        message = await named(store, id)
        if message is None:
            raise InputError(f"no message {id} in the store: done ones leave it")
        content = message.payload if payload is None else payload
        by = command_line()
        new = await bulk.resend(store, message, content, by, priority=rank, delay_ms=delay_ms)
        return store.message_id(new)

    new = writing(load(config_file), send)
    if as_json:
        print_json({"id": new})
    else:
        say(new)


@queue.command("purge")
@click.argument("topic")
@click.option("--yes", is_flag=True, help="Without it nothing is removed.")
@_dry_run_option
@json_option
@config_option
def purge(topic: str, yes: bool, dry_run: bool, as_json: bool, config_file: Path | None) -> None:
    """Remove all that waits in TOPIC; what runs is left to end. Dead letters lie in their own topic."""
    if not (yes or dry_run):
        raise click.UsageError(f"this removes every message of {topic} that waits; say --yes to do it")

    async def write(store: Store, what: bulk.Selection) -> int:
        return await bulk.discard(store, what, command_line(), "purge", topic=topic)

    _act(topic, {}, write, "removed", dry_run=dry_run, as_json=as_json, config_file=config_file)


def _act(
    topic: str,
    which: dict[str, Any],
    write: Callable[[Store, bulk.Selection], Awaitable[int]],
    verb: str,
    *,
    dead: bool = False,
    dry_run: bool,
    as_json: bool,
    config_file: Path | None,
) -> None:
    config = load(config_file)

    async def act(store: Store) -> int:
        known(store, topic, _configured(config))
        wanted = _wanted(which) if which else None
        ids = which.get("ids") or None
        what = bulk.select(store, topic, step=which.get("step"), dead=dead, wanted=wanted, ids=ids)
        return await what.count(store) if dry_run else await write(store, what)

    number = reading(config, act) if dry_run else writing(config, act)
    if as_json:
        print_json({"count": number})
    else:
        say(f"{count(number, 'message')} {'found' if dry_run else verb}")


def _told(topic: str, which: dict[str, Any]) -> dict[str, Any]:
    """For the audit log, which names the messages itself."""
    given = {name: value for name, value in which.items() if value and name != "ids"}
    return {"topic": topic, **given}


@queue.command("pause")
@click.argument("topic")
@click.option("--step", help="Only for this step.")
@json_option
@config_option
def pause(topic: str, step: str | None, as_json: bool, config_file: Path | None) -> None:
    """Start no more messages of TOPIC, over all instances and restarts, until it is resumed."""
    _pause(topic, step, True, as_json, config_file)


@queue.command("resume")
@click.argument("topic")
@click.option("--step", help="Only for this step.")
@json_option
@config_option
def resume(topic: str, step: str | None, as_json: bool, config_file: Path | None) -> None:
    """Go on with a paused TOPIC."""
    _pause(topic, step, False, as_json, config_file)


def _pause(topic: str, step: str | None, paused: bool, as_json: bool, config_file: Path | None) -> None:
    async def write(store: Store) -> list[str]:
        return await bulk.set_paused(store, topic, paused, command_line(), step=step)

    steps = writing(load(config_file), write)
    if as_json:
        print_json({"topic": topic, "paused": paused, "steps": steps})
        return
    named = ", ".join(each for each in steps if each)
    say(f"{topic} {'paused' if paused else 'resumed'}{f' for {named}' if named else ''}")
