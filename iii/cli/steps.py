"""`iii steps`: the steps and what starts each."""

from __future__ import annotations

from pathlib import Path

import click

from iii.cli.group import config_option, json_option
from iii.cli.output import print_json, print_table
from iii.cli.project import load_project_steps
from iii.config import load
from iii.step import CronTrigger, HttpTrigger, QueueTrigger, Step, Trigger

__all__ = ["steps", "trigger_words"]


@click.command()
@json_option
@config_option
def steps(as_json: bool, config_file: Path | None) -> None:
    """List the steps and what starts them."""
    found = load_project_steps(load(config_file), warns=True)
    if as_json:
        print_json([_row(step) for step in found])
        return
    rows = [
        (step.name if index == 0 else "", trigger_words(trigger), step.file if index == 0 else "")
        for step in found
        for index, trigger in enumerate(step.triggers)
    ]
    print_table(("step", "started by", "file"), rows, empty="no steps yet; `iii create DIR` shows one")


def trigger_words(trigger: Trigger) -> str:
    """ "POST /messages", "queue message.sent", "cron 0 2 * * * UTC", "state messages"."""
    match trigger:
        case HttpTrigger():
            return f"{trigger.method} {trigger.path}"
        case QueueTrigger():
            return f"queue {trigger.topic}"
        case CronTrigger():
            return f"cron {trigger.expression} {trigger.timezone}"
    return f"state {trigger.namespace or 'of every namespace'}"


def _row(step: Step) -> dict[str, object]:
    return {
        "name": step.name,
        "description": step.description,
        "file": step.file,
        "triggers": [_trigger_row(trigger) for trigger in step.triggers],
        "enqueues": None if step.enqueues is None else sorted(step.enqueues),
    }


def _trigger_row(trigger: Trigger) -> dict[str, object]:
    match trigger:
        case HttpTrigger():
            return {"type": "http", "method": trigger.method, "path": trigger.path}
        case QueueTrigger():
            return {"type": "queue", "topic": trigger.topic}
        case CronTrigger():
            return {"type": "cron", "expression": trigger.expression, "timezone": trigger.timezone}
    return {
        "type": "state",
        "namespace": trigger.namespace,
        "filter": trigger.filter,
        "fire": trigger.fire,
    }
