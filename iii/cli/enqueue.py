"""`iii enqueue`: one message, on disk before the command returns."""

from __future__ import annotations

from pathlib import Path

import click

from iii import trace
from iii.cli.arguments import json_value, priority_value
from iii.cli.group import config_option, json_option
from iii.cli.output import print_json, say
from iii.cli.project import load_project_steps, writing
from iii.config import Config, load
from iii.errors import StepError
from iii.handling.outbox import Outbox
from iii.handling.unserved import told
from iii.model import Txn
from iii.running.bindings import attended, bind, inputs
from iii.step import Step
from iii.store.audit import command_line
from iii.store.contract import Store

__all__ = ["enqueue"]


@click.command()
@click.argument("topic")
@click.argument("data", metavar="JSON")
@click.option("--priority", default="normal", show_default=True, help="low, normal, high or 0-255.")
@click.option("--delay", default="0", help="Not before this has passed: 5s, 2m, 1h, or milliseconds.")
@click.option("--group", help="One at a time within a group, in order.")
@click.option("--unique", metavar="KEY", help="Not again while a message with this key is known.")
@click.option(
    "--unique-ttl", metavar="DURATION", default="1d", show_default=True, help="How long a key is known."
)
@json_option
@config_option
def enqueue(
    topic: str,
    data: str,
    priority: str,
    delay: str,
    group: str | None,
    unique: str | None,
    unique_ttl: str,
    as_json: bool,
    config_file: Path | None,
) -> None:
    """Send a message to a topic.

    JSON ("-": from stdin) is on disk when this returns; printed is the id of each subscriber's copy. Where
    the project's steps load, their input schemas check it first.
    """
    value, config = json_value(data), load(config_file)
    steps = _steps(config)
    served: set[str] = set()

    async def send(store: Store) -> list[str]:
        op = Outbox(inputs(steps or ())).op(
            topic,
            value,
            trace.new_headers(),
            priority=priority_value(priority),
            delay=delay,
            group=group,
            unique=None if unique is None else (unique, unique_ttl),
        )
        did = command_line().did(store, "enqueue", topic=topic, bytes=len(op.payload))
        committed = await store.commit(Txn((op, did)))
        served.update(lane.topic for lane in store.stats() if lane.served)
        return [store.message_id(number) for number in committed.ids[0]]

    ids = writing(config, send)
    if as_json:
        print_json({"ids": ids})
    else:
        for id in ids:
            say(id)
    if steps is not None:
        served |= attended(bind(steps, config).values())
        if topic not in served:
            say(f"warning: {told(topic, served)}", err=True)


def _steps(config: Config) -> list[Step] | None:
    """The project's steps; None, and a word about it, where they do not load."""
    if not config.steps.is_dir():
        return []
    try:
        return load_project_steps(config)
    except StepError as error:
        say(f"warning: sent without a check of its schema, the steps do not load: {error}", err=True)
        return None
