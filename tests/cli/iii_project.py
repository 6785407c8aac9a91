"""A project in a folder, and `iii` called on it within this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from iii.cli.group import command_line

STEP = """
from typing import TypedDict

from iii.step import StepConfig, cron, http, queue


class Mail(TypedDict):
    to: str


config = StepConfig(
    name="SendMail",
    triggers=[queue("mail", input=Mail), http("POST", "/mails"), cron("0 0 2 * * * *")],
)


async def handler(mail, ctx):
    pass
"""


class Project:
    """A folder with a configuration, and `iii` called on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, folder / "iii-config.yaml"
        self.config.write_text("store: {path: data}\n")

    def __call__(self, *args: str, input: str | None = None) -> Result:
        return CliRunner().invoke(command_line, ["-c", str(self.config), *args], input=input)

    def ok(self, *args: str) -> str:
        result = self(*args)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *args: str) -> Any:
        return json.loads(self.ok(*args, "--json"))

    def refused(self, *args: str) -> str:
        """The one line of an error that is the user's to mend."""
        result = self(*args)
        assert (result.exit_code, result.stdout) == (1, ""), result.output
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1, result.stderr
        return result.stderr

    def write_step(self, source: str = STEP, name: str = "send_mail_step.py") -> None:
        (self.folder / "steps").mkdir(exist_ok=True)
        (self.folder / "steps" / name).write_text(source)
