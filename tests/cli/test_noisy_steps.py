"""Steps that print, at import or in what a command runs of them: `--json` stays JSON, to the last byte."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from iii_project import Project

STEP = """
import atexit, logging, os, subprocess, sys, threading
from dataclasses import dataclass
from iii import StepConfig, cron, queue

print("NOISE by print")
print("NOISE flushed", flush=True)
sys.stdout.write("NOISE by stdout")
sys.__stdout__.write("NOISE by the first stdout")
sys.__stdout__.flush()
os.write(1, b"NOISE by descriptor")
subprocess.run(["echo", "NOISE by a program"], check=True)
atexit.register(print, "NOISE at the end")
logging.basicConfig(stream=sys.stdout, level=logging.INFO)
logging.info("NOISE by logging")
thread = threading.Thread(target=print, args=("NOISE by a thread",))
thread.start()


@dataclass
class Mail:
    to: str

    def __post_init__(self):
        print("NOISE by a schema")


config = StepConfig(name="Noisy", triggers=[queue("mail", input=Mail), cron("0 2 * * *")])


async def handler(mail, ctx):
    print("NOISE by a handler")
"""
BROKEN = "print('NOISE before it breaks')\nraise ValueError('no')\n"
COMMANDS = {
    "steps": (["steps", "--json"], 0),
    "check": (["check", "--json"], 0),
    "cron list": (["cron", "list", "--json"], 0),
    "cron run": (["cron", "run", "Noisy", "--json"], 0),
    "enqueue": (["enqueue", "mail", '{"to": "ada"}', "--json"], 0),
}


def run(project: Project, *args: str, redirect: str = "") -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-m", "iii", *args]
    return subprocess.run(command, cwd=project.folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("args", "code"), COMMANDS.values(), ids=COMMANDS)
def test_what_steps_print_goes_to_stderr(iii: Project, args: list[str], code: int) -> None:
    iii.write_step(STEP)
    done = run(iii, *args)
    assert done.returncode == code, done.stderr
    json.loads(done.stdout)
    said = ["print", "stdout", "the first stdout", "descriptor", "a program", "logging", "a thread"]
    if args[0] == "enqueue":
        said.append("a schema")
    assert [each for each in said if f"NOISE by {each}" not in done.stderr] == []
    assert "NOISE at the end" in done.stderr and "NOISE" not in done.stdout


def test_tables_are_theirs_alone_too(iii: Project) -> None:
    iii.write_step(STEP)
    done = run(iii, "steps")
    assert "NOISE" not in done.stdout and "Noisy" in done.stdout
    assert run(iii, "check").stdout.startswith("ok: ")


def test_a_check_that_finds_something_is_json_too(iii: Project) -> None:
    iii.write_step(STEP)
    iii.write_step(BROKEN, "broken_step.py")
    done = run(iii, "check", "--json")
    assert done.returncode == 1 and "raised ValueError" in str(json.loads(done.stdout)["problems"])
    assert "NOISE before it breaks" in done.stderr


@pytest.mark.parametrize("redirect", [">/dev/full", "| head -c 1", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_fail_are_told_once_and_without_a_traceback(iii: Project, redirect: str) -> None:
    iii.write_step(STEP)
    done = run(iii, "steps", "--json", redirect=redirect)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert done.stderr.count("error: ") == (1 if redirect == ">/dev/full" else 0), done.stderr
    if redirect == "2>&-":
        json.loads(done.stdout)


def test_a_program_that_calls_a_command_has_its_stdout_back(iii: Project) -> None:
    iii.write_step(STEP.replace("os.write", "len and "))
    (iii.folder / "calls.py").write_text(
        "import contextlib, io, sys\nfrom iii.cli.group import command_line\n"
        "with contextlib.redirect_stdout(io.StringIO()) as own:\n"
        "    command_line(['steps', '--json'], standalone_mode=False)\n"
        "    assert sys.stdout is own\n"
        "import json\njson.loads(own.getvalue())\n"
    )
    done = subprocess.run(
        [sys.executable, "calls.py"], cwd=iii.folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
