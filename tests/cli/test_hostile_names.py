"""Whatever names, values and errors hold: no command lets a terminal obey it, nor a line begin with it."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from iii_project import Project

from iii import Context, queue
from iii.cli.group import COMMANDS, command_line
from iii.config import load
from iii.definitions.loader import make_step
from iii.engine import Engine
from iii.observe.log_file import LogFile
from iii.observe.logs import configure, log

FORGED = "20:00:00.000 info    Admin  logged in"
HOSTILE = (
    f"h\x1b]0;PWNED\x07\x1b[2J\r\x9b31m\x7f\u202e\u2066\u200f\u061c\u2028\u2029\x85[red]b[/red]\n{FORGED}"
)
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
OUR_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def names(group: click.Group, context: click.Context) -> list[str]:
    found: list[str] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found += (
            [f"{name} {each}" for each in names(command, context)]
            if isinstance(command, click.Group)
            else [name]
        )
    return found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in whose store everything that may be hostile is."""

    async def work(data: Any, ctx: Context) -> None:
        ctx.logger.warning(HOSTILE, {HOSTILE: HOSTILE, "list": [HOSTILE], "n": 1})
        await ctx.state.set(HOSTILE, HOSTILE, {HOSTILE: [HOSTILE]})
        raise ValueError(HOSTILE)

    project = Project(tmp_path_factory.mktemp("hostile"))
    project.write_step()
    config = load(project.config)
    step = make_step({"name": "Work", "triggers": [queue("work", config={"max_retries": 0})]}, work)
    before = log.handlers[:], log.level, log.propagate
    file = LogFile(config.store.path, 1 << 20)
    try:
        floods = configure("info", "json", config.log.redact, file=file)

        async def run() -> None:
            async with Engine(config, [step]) as engine:
                await engine.enqueue("work", {HOSTILE: HOSTILE})
                await engine.idle(30)
                await engine.enqueue("waits", {HOSTILE: HOSTILE}, group=HOSTILE)
                await engine.enqueue("waits", {HOSTILE: HOSTILE}, group=HOSTILE)
                await engine.state.set("plain", "plain", HOSTILE)

        asyncio.run(run())
        floods.close()
    finally:
        file.close()
        log.handlers[:], log.level, log.propagate = before
    return project


def ask(project: Project, *args: str) -> Result:
    return CliRunner().invoke(command_line, ["-c", str(project.config), *args], color=True)


def lines_of(command: str, trace: str, new: str) -> list[list[str]]:
    """How each command is called, so that it shows or repeats what is hostile."""
    return {
        "run": [["--no-such", HOSTILE], ["--port", HOSTILE], ["--instances", HOSTILE]],
        "top": [["--once"], ["--interval", HOSTILE]],
        "instances": [[]],
        "create": [[f"{new}/{HOSTILE.partition('/')[0]}"], [HOSTILE, HOSTILE]],
        "check": [[]],
        "steps": [[]],
        "enqueue": [[HOSTILE, "1"], ["mail", HOSTILE], ["mail", "1"], ["t", "1", "--priority", HOSTILE]],
        "queue list": [[]],
        "queue peek": [["waits"], ["work.failed"], [HOSTILE], ["waits", "--state", HOSTILE]],
        "queue dead": [[], ["work.failed"], [HOSTILE]],
        "queue redrive": [[HOSTILE], ["work.failed", "--error", HOSTILE], ["work.failed", "--id", HOSTILE]],
        "queue discard": [[HOSTILE], [HOSTILE, "--text", HOSTILE]],
        "queue resend": [[HOSTILE], ["1", HOSTILE]],
        "queue purge": [[HOSTILE], [HOSTILE, "--yes"]],
        "queue pause": [[HOSTILE]],
        "queue resume": [[HOSTILE]],
        "state get": [[HOSTILE, HOSTILE], ["plain", "plain"], ["no", HOSTILE]],
        "state set": [["set", HOSTILE, json.dumps(HOSTILE)], [f"${HOSTILE}", "k", "1"], ["n", "k", HOSTILE]],
        "state delete": [[f"${HOSTILE}", HOSTILE], ["n" * 200 + HOSTILE, HOSTILE]],
        "state list": [[HOSTILE], ["plain"]],
        "state namespaces": [[]],
        "state history": [[HOSTILE, HOSTILE], ["no", HOSTILE]],
        "cron list": [[]],
        "cron run": [[HOSTILE]],
        "runs": [[], ["--outcome", HOSTILE]],
        "trace": [[trace], [HOSTILE]],
        "audit": [[]],
        "config": [[]],
        "logs": [[], ["--level", HOSTILE]],
        "backup": [[f"{new}/backup-{HOSTILE.partition('/')[0]}"]],
        "compact": [[]],
    }[command]


def test_no_command_prints_what_a_terminal_obeys(hostile: Project, tmp_path: Path) -> None:
    (row,) = hostile.json("runs", "--step", "Work")
    assert FORGED in row["run"]["error"]
    commands = names(command_line, click.Context(command_line))  # type: ignore[arg-type]
    assert len(commands) > 25 and {each.partition(" ")[0] for each in commands} == set(COMMANDS)
    shown = ""
    for number, command in enumerate(commands):
        for args in lines_of(command, row["run"]["trace_id"], str(tmp_path / str(number))):
            for more in ([], ["--json"]):
                result = ask(hostile, *command.split(), *args, *more)
                told = OUR_COLOURS.sub("", result.output)
                assert not OBEYED.search(told), (command, args, told)
                assert not any(line.startswith(FORGED) for line in told.splitlines()), (command, args, told)
                if more and result.exit_code == 0 and command != "logs":
                    json.loads(result.stdout)
                shown += told
    for echoed in (r"\x1b]0;PWNED", r"\u202e", r"\u009b31m", "[red]b[/red]"):
        assert echoed in shown


def test_json_keeps_every_value(hostile: Project) -> None:
    assert hostile.json("state", "get", HOSTILE, HOSTILE)["value"] == {HOSTILE: [HOSTILE]}
    assert json.loads(hostile.ok("state", "get", "plain", "plain")) == HOSTILE
    (peeked, *_) = hostile.json("queue", "peek", "waits")
    assert peeked["payload"] == {HOSTILE: HOSTILE}
    lines = [json.loads(line) for line in hostile.ok("logs", "--json").splitlines()]
    assert any(line["message"] == HOSTILE and line["fields"][HOSTILE] == HOSTILE for line in lines)


def test_only_one_file_prints() -> None:
    """Its functions escape; what else printed would not."""
    folder = Path(command_line.callback.__code__.co_filename).parent  # type: ignore[union-attr]
    printing = [
        file.name
        for file in folder.glob("*.py")
        if re.search(r"click\.(echo|secho|style)\(|\bprint\(", file.read_text()) and file.name != "output.py"
    ]
    assert printing == ["top.py"], "whose tables are of Text, escaped cell by cell"
