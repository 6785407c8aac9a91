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
from iii.sources.cron_jobs import CronJob, jobs, manual_tick
from iii.sources.cron_outlook import Outlook, outlook
from iii.step import Step
from iii.store.audit import command_line
from iii.store.contract import Store
from iii.store.operations import iso
from iii.stores import roster_of

__all__ = ["cron"]


class CronRow(Struct, frozen=True):
    """`last`: the newest tick that became a message, by whatever instance; null where there was none yet.
    `notes`: what else will happen, or keeps it from happening."""

    step: str
    expression: str
    timezone: str
    words: str
    next: str | None
    last: str | None
    notes: tuple[str, ...]


@click.group()
@config_option
def cron(config_file: Path | None) -> None:
    """List the schedules; run one now."""


@cron.command("list")
@json_option
@config_option
def list_(as_json: bool, config_file: Path | None) -> None:
    """List the schedules: in words, when they fire next and when they did last.

    Next is what will happen, not what the expression alone says: after a clock that was set back, ticks that
    were missed, or while its queue is paused or behind; notes tell why.
    """
    config = load(config_file)
    found = jobs(load_project_steps(config))

    async def read(store: Store) -> list[tuple[CronJob, Outlook]]:
        return [(job, outlook(store, job, found)) for job in found]

    looks = reading(config, read)
    if as_json:
        print_json([_row(job, look) for job, look in looks])
        return
    print_table(
        ("step", "runs", "next", "last", "expression"),
        [_cells(job, look) for job, look in looks],
        empty="no step has a cron trigger",
    )
    for job, look in looks:
        for note in look.notes:
            say(f'{job.step} "{job.trigger.expression}": {note}')
    if looks and not roster_of(config.store.path, config.store.stale_after_ms):
        say("no engine runs on this store: nothing happens until one starts")


def _row(job: CronJob, look: Outlook) -> CronRow:
    return CronRow(
        step=job.step,
        expression=job.trigger.expression,
        timezone=job.trigger.timezone,
        words=job.schedule.words,
        next=iso(look.next_ms[0]) if look.next_ms else None,
        last=None if look.last_ms is None else iso(look.last_ms),
        notes=look.notes,
    )


def _cells(job: CronJob, look: Outlook) -> tuple[str | None, ...]:
    local = job.schedule.local
    next_ = local(look.next_ms[0]) if look.next_ms else "never"
    last = None if look.last_ms is None else local(look.last_ms)
    return job.step, job.schedule.words, next_, last, job.trigger.expression


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
