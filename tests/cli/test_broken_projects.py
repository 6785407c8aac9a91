"""`iii check` and `iii run` on what a user may get wrong: one line that says where, and nothing made."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from iii_project import STEP, Project

BROKEN: dict[str, tuple[Callable[[Project], object], str]] = {
    "unknown key": (lambda p: p.config.write_text("htp: {}\n"), "iii-config.yaml:1: htp"),
    "unknown inner key": (lambda p: p.config.write_text("http:\n  prt: 1\n"), "iii-config.yaml:2: http.prt"),
    "unknown knob": (
        lambda p: p.config.write_text("queues:\n  mail:\n    retries: 1\n"),
        ":3: queues.mail.retries",
    ),
    "bad yaml": (lambda p: p.config.write_text("http: {\n"), "iii-config.yaml:"),
    "bad type": (lambda p: p.config.write_text("http:\n  port: many\n"), ":2: http.port"),
    "bad cron": (
        lambda p: p.write_step(STEP.replace("0 0 2 *", "0 0 99 *")),
        "send_mail_step.py: triggers[2]",
    ),
    "two of a name": (
        lambda p: p.write_step(STEP.replace('"/mails"', '"/letters"'), name="b_step.py"),
        "SendMail",
    ),
    "no handler": (
        lambda p: p.write_step(STEP.replace("def handler", "def work")),
        "send_mail_step.py: handler",
    ),
    "syntax": (lambda p: p.write_step("config = {\n"), "send_mail_step.py:1"),
    "import": (lambda p: p.write_step("import nowhere_to_be_found\n"), "send_mail_step.py:1"),
    "trigger type": (
        lambda p: p.write_step('config = {"triggers": [{"type": "ftp"}]}\ndef handler(): pass\n'),
        "triggers[0].type",
    ),
    "filter": (
        lambda p: p.write_step(
            'config = {"triggers": [{"type": "state", "filter": 3}]}\ndef handler(): pass\n'
        ),
        "triggers[0].filter",
    ),
    "topic twice": (
        lambda p: p.write_step(STEP.replace('http("POST", "/mails")', 'queue("mail")')),
        "send_mail_step.py: triggers[1]",
    ),
    "no file": (lambda p: p.config.unlink(), "iii-config.yaml: no such file"),
}


@pytest.mark.parametrize("wrong", BROKEN)
@pytest.mark.parametrize("command", ["check", "run"])
def test_what_is_wrong_is_one_line_with_file_and_field(iii: Project, wrong: str, command: str) -> None:
    iii.write_step()
    spoil, where = BROKEN[wrong]
    spoil(iii)
    assert where in iii.refused(command)
    assert not (iii.folder / "data").exists()
