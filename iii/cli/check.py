"""`iii check`: the configuration, the steps and every invariant of the store, while an engine runs or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from iii.cli.group import config_option, json_option
from iii.cli.output import count, print_json
from iii.cli.project import has_store, load_project_steps, reading
from iii.config import Config, load
from iii.errors import IIIError
from iii.store.contract import Store

__all__ = ["check"]

T = TypeVar("T")


@click.command()
@json_option
@config_option
@click.pass_context
def check(ctx: click.Context, as_json: bool, config_file: Path | None) -> None:
    """Check the configuration, the steps and the store.

    What is wrong is printed (of the configuration and of the steps the first
    thing each), and the exit code is 1 then. An engine may run meanwhile.
    """
    findings = _Findings()
    if (config := findings.of(lambda: load(config_file))) is not None:
        findings.fine.append(f"{config.file or 'no configuration file, defaults'}")
        findings.steps(config)
        findings.store(config)
    if as_json:
        print_json({"ok": not findings.problems, "problems": findings.problems})
    else:
        for problem in findings.problems:
            click.echo(f"error: {problem}", err=True)
        if not findings.problems:
            click.echo(f"ok: {', '.join(findings.fine)}")
    ctx.exit(1 if findings.problems else 0)


class _Findings:
    """What was found wrong, part by part: one part's failure does not hide another's."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.fine: list[str] = []

    def of(self, look: Callable[[], T]) -> T | None:
        """What `look` returns; None and a problem noted where it raises."""
        try:
            return look()
        except (IIIError, OSError) as error:
            self.problems.append(str(error))
            return None

    def steps(self, config: Config) -> None:
        if (steps := self.of(lambda: load_project_steps(config))) is not None:
            self.fine.append(count(len(steps), "step"))

    def store(self, config: Config) -> None:
        if config.store.kind == "memory":
            self.fine.append("a store in memory")
        elif not has_store(config):
            self.fine.append(f"no store yet at {config.store.path}")
        elif (broken := self.of(lambda: reading(config, _verify))) is not None:
            self.problems += [f"{config.store.path}: {sentence}" for sentence in broken]
            self.fine.append(f"the store at {config.store.path}")


async def _verify(store: Store) -> list[str]:
    return store.verify()
