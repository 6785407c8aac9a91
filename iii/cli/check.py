"""`iii check`: the configuration, the steps and every invariant of the store, while an engine runs or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from iii.cli import foreign
from iii.cli.group import config_option, json_option
from iii.cli.output import count, keep_apart, print_json, say
from iii.cli.project import has_store, reading
from iii.config import Config, load_leniently
from iii.definitions.loader import each_step
from iii.definitions.together import conflicts, doubts
from iii.definitions.warning import SetupWarning
from iii.errors import ConfigError, IIIError, StepError
from iii.step import Step
from iii.store.contract import Store
from iii.store.reasons import WHY_FORGOTTEN, forgotten_steps

__all__ = ["check"]


@click.command()
@json_option
@config_option
@click.pass_context
def check(ctx: click.Context, as_json: bool, config_file: Path | None) -> None:
    """Check the configuration, the steps and the store.

    Everything that is wrong is printed (of a step's trigger the first thing), and the exit code is 1 then;
    a warning leaves it 0. An engine may run meanwhile.
    """
    findings = _Findings()
    if (warning := foreign.told()) is not None:
        findings.warnings.append(warning)
    config, errors = load_leniently(config_file)
    findings.problems += map(str, errors)
    if config is not None:
        findings.fine.append(f"{config.file or 'no configuration file, defaults'}")
        findings.together(config)
        if _is_sound("steps", errors):
            findings.steps(config)
        if _is_sound("store", errors):
            findings.store(config)
    if as_json:
        warned = {"warnings": findings.warnings} if findings.warnings else {}
        print_json({"ok": not findings.problems, "problems": findings.problems} | warned)
    else:
        for problem in findings.problems:
            say(f"error: {problem}", err=True)
        for warning in findings.warnings:
            say(f"warning: {warning}", err=True)
        if not findings.problems:
            say(f"ok: {', '.join(findings.fine)}")
    ctx.exit(1 if findings.problems else 0)


def _is_sound(section: str, errors: Sequence[ConfigError]) -> bool:
    """Whether what the configuration says of it can be relied on."""
    return not any(error.field.partition(".")[0] == section for error in errors)


class _Findings:
    """What was found wrong, part by part: one part's failure does not hide another's."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.fine: list[str] = []

    def together(self, config: Config) -> None:
        """What the sections allow, and an engine that starts does not."""
        from iii.running.tracing import spans_of
        from iii.stores import require_shared

        for check in (spans_of, require_shared):
            try:
                check(config)
            except ConfigError as error:
                self.problems.append(str(error))

    def steps(self, config: Config) -> None:
        keep_apart()
        found = list(each_step(config.steps))
        steps = [each for each in found if isinstance(each, Step)]
        wrong = [each for each in found if isinstance(each, StepError)]
        clashes = list(conflicts(steps, config, is_whole=not wrong))
        self.problems += map(str, (*wrong, *clashes))
        self.warnings += [str(each) for each in found if isinstance(each, SetupWarning)]
        self.warnings += map(str, doubts(steps, config, is_whole=not wrong and not clashes))
        self.fine.append(count(len(steps), "step"))

    def store(self, config: Config) -> None:
        if config.store.kind == "memory":
            self.fine.append("a store in memory")
        elif not has_store(config):
            self.fine.append(f"no store yet at {config.store.path}")
        else:
            self.fine.append(f"the store at {config.store.path}")
            try:
                broken, forgotten = reading(config, _verify, thorough=True)
            except (IIIError, OSError) as error:
                self.problems.append(str(error))
            else:
                self.problems += [f"{config.store.path}: {sentence}" for sentence in broken]
                self.warnings += [
                    f"the state trigger of step {step} misses changes: {WHY_FORGOTTEN}" for step in forgotten
                ]


async def _verify(store: Store) -> tuple[list[str], list[str]]:
    return store.verify(), forgotten_steps(store)
