"""`iii cron`: the schedules in words, and one of them run now."""

from __future__ import annotations

from pathlib import Path

import click
from msgspec import Struct

from iii.cli.group import config_option, json_option
from iii.cli.output import print_json, print_table, say
from iii.cli.project import load_project_steps, reading, writing
from iii.config import load
from iii.errors import InputError
from iii.formats.units import nearest
from iii.model import Txn
from iii.sources.cron import CronJob, jobs, manual_tick
from iii.step import Step
from iii.store.audit import command_line
from iii.store.contract import Store
from iii.store.operations import iso

__all__ = ["cron"]


class CronRow(Struct, frozen=True):
    """`last`: the newest tick that became a message, by whatever instance; null where there was none yet."""

    step: str
    expression: str
    timezone: str
    words: str
    next: str | None
    last: str | None


@click.group()
@config_option
def cron(config_file: Path | None) -> None:
    """List the schedules; run one now."""


@cron.command("list")
@json_option
@config_option
def list_(as_json: bool, config_file: Path | None) -> None:
    """List the schedules: in words, when they fire next and when they did last."""
    config = load(config_file)
    steps = load_project_steps(config)

    async def read(store: Store) -> list[CronRow]:
        return [_row(job, store) for job in jobs(steps)]

    rows = reading(config, read)
    if as_json:
        print_json(rows)
        return
    cells = [(row.step, row.words, row.next, row.last, row.expression) for row in rows]
    print_table(("step", "runs", "next", "last", "expression"), cells, empty="no step has a cron trigger")


def _row(job: CronJob, store: Store) -> CronRow:
    schedule = job.schedule
    next_ms, mark_ms = schedule.next_ms(store.clock.wall_ms()), store.mark(job.mark)
    ticked = mark_ms is not None and schedule.next_ms(mark_ms - 1) == mark_ms  # else: when it was first seen
    return CronRow(
        step=job.step,
        expression=job.trigger.expression,
        timezone=job.trigger.timezone,
        words=schedule.words,
        next=None if next_ms is None else iso(next_ms),
        last=iso(mark_ms) if ticked and mark_ms is not None else None,
    )


@cron.command("run")
@click.argument("step")
@json_option
@config_option
def run(step: str, as_json: bool, config_file: Path | None) -> None:
    """Run the cron trigger of STEP now: as a message, in the running engine or in the next one."""
    config = load(config_file)
    steps = load_project_steps(config)

    async def send(store: Store) -> list[str]:
        tick = manual_tick(steps, step, store.clock.wall_ms())
        if tick is None:
            raise InputError(_no_cron(step, steps))
        committed = await store.commit(Txn((tick, command_line().did(store, "cron run", step=step))))
        return [store.message_id(number) for number in committed.ids[0]]

    ids = writing(config, send)
    if as_json:
        print_json({"ids": ids})
    else:
        for id in ids:
            say(id)


def _no_cron(step: str, steps: list[Step]) -> str:
    known = sorted({job.step for job in jobs(steps)})
    meant = nearest(step, known)
    hint = f'did you mean "{meant}"?' if meant else f"those that have are {', '.join(known) or 'none'}"
    return f'no step "{step}" with a cron trigger; {hint}'
