"""Every command with its standard streams closed, as some service managers and cron jobs start programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from iii_project import Project

from iii.cli.group import COMMANDS

CALLS = [
    *(["top", "--once"], ["instances"], ["create", "made-{n}"], ["check"], ["steps"], ["config"], ["logs"]),
    *(["enqueue", "mail", '{{"to": "ada"}}'], ["enqueue", "mail", "-"]),
    *(["queue", "list"], ["queue", "peek", "mail"], ["queue", "pause", "mail"], ["queue", "resume", "mail"]),
    *(["queue", "dead", "mail.failed"], ["queue", "redrive", "mail.failed"]),
    *(["queue", "discard", "mail.failed"], ["queue", "purge", "mail"], ["queue", "purge", "mail", "--yes"]),
    *(["queue", "resend", "none", "1"], ["state", "namespaces"], ["state", "list", "orders"]),
    *(
        ["state", "set", "orders", "a", "1"],
        ["state", "get", "orders", "a"],
        ["state", "delete", "orders", "a"],
    ),
    *(["state", "history", "orders", "a"], ["cron", "list"], ["cron", "run", "SendMail"]),
    *(["runs"], ["trace", "0" * 32], ["audit"], ["backup", "kept-{n}"], ["compact"]),
    *(["--version"], ["nothing"], ["steps", "--nothing"]),
]
CLOSED = [">&-", "<&- 2>&-"]


def call(folder: Path, args: list[str], number: int, redirect: str) -> subprocess.CompletedProcess[str]:
    own = [each.format(n=number) for each in args]
    command = ["/bin/sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-m", "iii", *own]
    return subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def arrange(iii: Project) -> None:
    iii.ok("state", "set", "orders", "a", "1")
    iii.ok("enqueue", "mail", '{"to": "ada"}')


def test_every_command_is_among_the_calls() -> None:
    assert {args[0] for args in CALLS} >= set(COMMANDS) - {"run"}


@pytest.mark.parametrize("args", CALLS, ids=" ".join)
def test_a_command_does_what_it_does_with_open_streams(iii: Project, args: list[str]) -> None:
    iii.write_step()
    arrange(iii)
    expected = call(iii.folder, args, 0, "")
    for number, redirect in enumerate(CLOSED, 1):
        arrange(iii)
        done = call(iii.folder, args, number, redirect)
        assert done.returncode == expected.returncode, f"{redirect}: {done.stderr}"
        assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
        if ">&-" not in redirect.split():
            assert bool(done.stdout) == bool(expected.stdout)
    assert iii("check").exit_code == 0, "no line went into a file of the store"
