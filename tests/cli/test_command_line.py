"""Every command on a project nobody runs: what it prints, its exit code, what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner
from iii_project import Project

from iii.cli.group import COMMANDS, command_line
from iii.cli.state import PAGE
from iii.config import load
from iii.definitions.loader import load_steps
from iii.engine import Engine
from iii.model import Put, Txn
from iii.store.lmdb import LmdbStore

# ------------------------------------------------------------------------------------------ the shape


def commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            inner = command.get_command(ctx, name)
            assert inner is not None
            yield from commands(inner, (*path, name))


ALL_COMMANDS = dict(commands(command_line))


@pytest.mark.parametrize("path", ALL_COMMANDS, ids=lambda path: " ".join(("iii", *path)))
def test_every_command_has_help_and_takes_a_configuration(path: tuple[str, ...]) -> None:
    command = ALL_COMMANDS[path]
    result = CliRunner().invoke(command_line, [*path, "--help"])
    assert result.exit_code == 0
    assert command.help
    options = {name for parameter in command.params for name in parameter.opts}
    assert {"-c", "--config"} <= options
    silent = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert silent == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_command_says(name: str) -> None:
    command = ALL_COMMANDS[name,]
    assert (command.help or "").startswith(COMMANDS[name][1])


def test_help_imports_what_it_prints_and_no_more() -> None:
    code = "import sys; from iii.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "enqueue" in done.stdout
    heavy = {
        "asyncio",
        "rich",
        "hypercorn",
        "lmdb",
        "uvloop",
        "jsonschema",
        "pydantic",
        "msgspec",
        "orjson",
        "yaml",
    }
    assert "click" in done.stderr
    assert heavy & set(done.stderr.split()) == set()


def test_an_unknown_command_is_a_usage_error_with_the_nearest_one() -> None:
    result = CliRunner().invoke(command_line, ["quue", "list"])
    assert result.exit_code == 2
    assert 'no command "quue"; did you mean "queue"?' in result.stderr


def test_a_configuration_option_without_file_is_a_usage_error() -> None:
    result = CliRunner().invoke(command_line, ["-c"])
    assert (result.exit_code, "requires an argument" in result.stderr) == (2, True)


# --------------------------------------------------------------------------------- reading an empty project


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("state", "list", "messages"), []),
        (("state", "namespaces"), []),
        (("queue", "list"), []),
        (("queue", "peek", "mail"), []),
    ],
    ids=" ".join,
)
def test_reading_a_project_without_store_is_empty_and_makes_none(
    iii: Project, args: tuple[str, ...], expected: object
) -> None:
    assert iii.json(*args) == expected
    assert not (iii.folder / "data").exists()


def test_a_missing_key_is_exit_1_and_makes_no_store(iii: Project) -> None:
    assert "no messages/m1" in iii.refused("state", "get", "messages", "m1", "--json")
    assert not (iii.folder / "data").exists()


def test_a_backup_of_nothing_is_refused(iii: Project) -> None:
    assert "no store yet" in iii.refused("backup", str(iii.folder / "copy"))


# ---------------------------------------------------------------------------------------------- state


def test_state_is_written_read_listed_and_deleted(iii: Project) -> None:
    iii.ok("state", "set", "messages", "m1", '{"text": "hé"}')
    assert iii.ok("state", "get", "messages", "m1") == '{"text":"hé"}\n'
    shown = iii.json("state", "get", "messages", "m1")
    assert list(shown) == ["key", "value", "version", "updatedAt"]
    assert (shown["key"], shown["value"], shown["version"]) == ("m1", {"text": "hé"}, 1)
    assert shown["updatedAt"].endswith("Z")
    assert iii.json("state", "list", "messages") == [shown]
    assert iii.json("state", "namespaces") == [{"namespace": "messages", "keys": 1}]
    iii.ok("state", "delete", "messages", "m1")
    assert iii.json("state", "list", "messages") == []


def test_a_listing_goes_through_all_pages(iii: Project) -> None:
    async def fill() -> None:
        store = LmdbStore(iii.folder / "data")
        await store.open()
        await store.commit(Txn([Put("n", f"k{n:04d}", b"%d" % n) for n in range(2 * PAGE + 1)]))
        await store.close()

    asyncio.run(fill())
    assert [each["value"] for each in iii.json("state", "list", "n")] == list(range(2 * PAGE + 1))
    limited = iii.json("state", "list", "n", "--limit", str(PAGE + 1))
    assert [each["value"] for each in limited] == list(range(PAGE + 1))
    assert iii.ok("state", "list", "n", "--prefix", "k2000") == "k2000\t2000\n"


def test_if_version_refuses_what_changed_meanwhile(iii: Project) -> None:
    iii.ok("state", "set", "n", "k", "1", "--if-version", "0")
    assert "version" in iii.refused("state", "set", "n", "k", "2", "--if-version", "0")
    assert iii.ok("state", "get", "n", "k") == "1\n"


@pytest.mark.parametrize("value", ["{a: 1}", "NaN", "", '"\\ud800"'])
def test_what_is_not_json_is_refused_before_a_store_is_made(iii: Project, value: str) -> None:
    assert "not JSON" in iii.refused("state", "set", "n", "k", value)
    assert not (iii.folder / "data").exists()


def test_the_engines_own_namespaces_are_not_written(iii: Project) -> None:
    assert "engine's own" in iii.refused("state", "set", "$x", "k", "1")
    assert "engine's own" in iii.refused("state", "delete", "$x", "k")


def test_what_is_no_text_is_a_usage_error(iii: Project) -> None:
    result = iii("state", "get", "n", "\udcff")
    assert (result.exit_code, "is not UTF-8" in result.stderr) == (2, True)


def test_json_may_come_from_stdin(iii: Project) -> None:
    assert iii("state", "set", "n", "k", "-", input="[1, 2]").exit_code == 0
    assert iii.json("state", "get", "n", "k")["value"] == [1, 2]


# ---------------------------------------------------------------------------------------------- queues


def test_an_enqueued_message_is_there_with_all_it_was_given(iii: Project) -> None:
    (id,) = iii.json(
        "enqueue", "mail", '{"to": "ann"}', "--priority", "high", "--delay", "1h", "--group", "g"
    )["ids"]
    (message,) = iii.json("queue", "peek", "mail")
    assert list(message) == (
        [
            "id",
            "topic",
            "step",
            "state",
            "priority",
            "attempts",
            "payload",
            "headers",
            "enqueuedAt",
            "dueAt",
            "error",
        ]
    )
    assert (message["id"], message["state"], message["priority"]) == (id, "delayed", 192)
    assert message["payload"] == {"to": "ann"}
    assert message["enqueuedAt"] < message["dueAt"]
    assert message["headers"]["traceparent"].startswith("00-")


def test_queue_list_has_one_row_per_topic_and_step(iii: Project) -> None:
    iii.ok("enqueue", "mail", "1")
    iii.ok("enqueue", "mail", "2", "--delay", "60000")
    (row,) = iii.json("queue", "list")
    assert list(row) == (
        [
            "topic",
            "step",
            "ready",
            "delayed",
            "behind",
            "leased",
            "dead",
            "done",
            "failed",
            "oldestMs",
            "paused",
        ]
    )
    assert (row["topic"], row["step"], row["ready"], row["delayed"], row["paused"]) == (
        "mail",
        "",
        1,
        1,
        False,
    )
    assert row["oldestMs"] >= 0


def test_a_unique_key_is_enqueued_once(iii: Project) -> None:
    first = iii.ok("enqueue", "mail", "1", "--unique", "k")
    assert iii.ok("enqueue", "mail", "1", "--unique", "k") == first
    assert len(iii.json("queue", "peek", "mail")) == 1


def test_the_schema_of_a_known_subscriber_is_checked(iii: Project) -> None:
    iii.write_step()
    assert "to: " in iii.refused("enqueue", "mail", '{"from": "ann"}')
    assert iii.json("queue", "peek", "mail") == []
    iii.ok("enqueue", "mail", '{"to": "ann"}')


def test_steps_that_do_not_load_do_not_keep_a_message_from_being_sent(iii: Project) -> None:
    iii.write_step("config = {")
    result = iii("enqueue", "mail", '{"to": "ann"}')
    assert result.exit_code == 0
    assert "warning: " in result.stderr
    assert "send_mail_step.py" in result.stderr


def test_a_topic_that_no_step_takes_gets_a_word_and_the_message(iii: Project) -> None:
    iii.write_step()
    for args in (("mial", "1"), ("mial", "1", "--json")):
        result = iii("enqueue", *args)
        assert (result.exit_code, bool(result.stdout.strip())) == (0, True)
        assert result.stderr.startswith('warning: no step serves the topic "mial"; did you mean "mail"? ')
        assert result.stderr.count("\n") == 1
    assert len(iii.json("queue", "peek", "mial")) == 2
    for known in ("mail", "mail.failed"):
        assert iii("enqueue", known, '{"to": "ann"}').stderr == ""


def test_what_an_engine_of_another_folder_served_is_known(iii: Project) -> None:
    iii.write_step()
    config = load(iii.config, console=False)

    async def run() -> None:
        async with Engine(config, load_steps(config.steps)):
            pass

    asyncio.run(run())
    iii.config.write_text("steps: none\nstore: {path: data}\n")
    assert iii("enqueue", "mail", "1").stderr == ""
    assert 'did you mean "mail"?' in iii("enqueue", "mial", "1").stderr


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("$cron/x", "1"), "engine's own"),
        (("no spaces", "1"), "bad topic"),
        (("mail", "{"), "not JSON"),
        (("mail", "1", "--priority", "urgent"), "bad priority"),
        (("mail", "1", "--priority", "256"), "bad priority"),
        (("mail", "1", "--delay", "soon"), "bad delay"),
        (("mail", "1", "--unique", "k", "--unique-ttl", "x"), "bad delay"),
    ],
    ids=" ".join,
)
def test_a_bad_enqueue_is_refused_with_the_reason(iii: Project, args: tuple[str, ...], reason: str) -> None:
    assert reason in iii.refused("enqueue", *args)
    assert iii.json("queue", "list") == []


def test_purge_asks_for_yes(iii: Project) -> None:
    iii.ok("enqueue", "mail", "1")
    assert iii("queue", "purge", "mail").exit_code == 2
    assert len(iii.json("queue", "peek", "mail")) == 1
    assert iii.ok("queue", "purge", "mail", "--yes") == "1 message removed\n"
    assert iii.json("queue", "peek", "mail") == []


def test_pause_and_resume_show_in_the_list(iii: Project) -> None:
    iii.ok("enqueue", "mail", "1")
    iii.ok("queue", "pause", "mail")
    assert iii.json("queue", "list")[0]["paused"] is True
    assert "paused" in iii.ok("queue", "list")
    iii.ok("queue", "resume", "mail")
    assert iii.json("queue", "list")[0]["paused"] is False


def test_a_store_in_memory_cannot_be_opened_from_outside(iii: Project) -> None:
    iii.config.write_text("store: {type: memory}\n")
    assert "store.type" in iii.refused("queue", "list")


# ------------------------------------------------------------------------------------- steps and check


def test_steps_lists_triggers(iii: Project) -> None:
    iii.write_step()
    (step,) = iii.json("steps")
    assert (step["name"], step["file"]) == ("SendMail", "steps/send_mail_step.py")
    assert [trigger["type"] for trigger in step["triggers"]] == ["queue", "http", "cron"]
    assert "POST /mails" in iii.ok("steps")


def test_check_is_content_with_a_good_project(iii: Project) -> None:
    iii.write_step()
    iii.ok("enqueue", "mail", '{"to": "ann"}')
    assert iii.ok("check").startswith("ok: ")
    assert iii.json("check") == {"ok": True, "problems": []}


def test_check_says_all_that_is_wrong(iii: Project) -> None:
    iii.config.write_text(
        "http: {prot: 1, timeout: soon}\nqueues: {a.b: {retries: 1, max_retries: -1}}\nlgo: {}\n"
    )
    iii.write_step("config = {")
    iii.write_step(name="b_step.py")
    iii.write_step(name="c_step.py")
    iii.write_step('config = {"name": "D", "triggers": [{"type": "ftp"}], "flows": 3}', "d_step.py")
    (iii.folder / "data").mkdir(mode=0o700)
    (iii.folder / "data" / "data.mdb").write_bytes(b"\0" * 10_000)
    result = iii("check", "--json")
    assert result.exit_code == 1
    problems = json.loads(result.stdout)["problems"]
    for told in (
        "iii-config.yaml:1: http.prot: unknown key",
        "iii-config.yaml:1: http.timeout: ",
        "iii-config.yaml:2: queues.a.b.retries: unknown key",
        "iii-config.yaml:2: queues.a.b.max_retries: ",
        "iii-config.yaml:3: lgo: unknown key",
        "steps/send_mail_step.py:1: ",
        "steps/d_step.py: triggers[0].type: ",
        "steps/d_step.py: flows: ",
        'steps/c_step.py: name: the name "SendMail" is already taken by steps/b_step.py',
        "data.mdb is damaged",
    ):
        assert [told in problem for problem in problems].count(True) == 1, (told, problems)


def test_check_says_all_that_is_wrong_with_how_the_file_is_written(iii: Project) -> None:
    iii.config.write_text(
        "console: {host: 0.0.0.0, token: '${T_NO_TOKEN}'}\n"
        "http: {port: 0101, host: $HOST, hosts: ['${T_NO_A}', '${T_NO_B}'], timeout: soon}\n"
        "queues: {default: {}, a: {timeout: 1:30, timeout: '${T_NO:-5s}'}}\n"
        "store: {type: memory}\ninstances: 2\n"
    )
    iii.write_step()
    problems = json.loads(iii("check", "--json").stdout)["problems"]
    told = [
        "iii-config.yaml:1: console.token: the environment variable T_NO_TOKEN is not set",
        "iii-config.yaml:2: http.port: 0101 is one number",
        'iii-config.yaml:2: http.host: "$HOST" is a text here; write ${HOST}',
        "iii-config.yaml:2: http.hosts[0]: the environment variable T_NO_A is not set",
        "iii-config.yaml:2: http.hosts[1]: the environment variable T_NO_B is not set",
        "iii-config.yaml:3: queues.a.timeout: is given twice",
        "iii-config.yaml:3: queues.a.timeout: 1:30 is a number to the base 60",
        "iii-config.yaml:2: http.timeout: ",
        'iii-config.yaml:3: queues.default: is no topic here; did you mean "defaults"',
        "store.type: each of 2 instances would have a store of its own",
    ]
    assert [expected in problem for expected, problem in zip(told, problems, strict=True)] == [True] * len(
        told
    ), problems


def test_what_may_be_a_mistake_is_told_by_check_and_steps_and_is_none(iii: Project) -> None:
    iii.write_step()
    iii.write_step("", name="b.step.ts")
    iii.config.write_text("store: {path: data}\nqueues: {mial: {concurrency: 1}}\n")
    result = iii("check")
    assert (result.exit_code, result.stdout.startswith("ok: ")) == (0, True)
    expected = [
        "warning: steps/b.step.ts: does not run",
        'queues.mial: no step here has this topic among its triggers or its `enqueues`; did you mean "mail"?',
    ]
    for stderr in (result.stderr, iii("steps", "--json").stderr):
        lines = stderr.splitlines()
        assert [told in line for told, line in zip(expected, lines, strict=True)] == [True, True], lines
    assert [each["name"] for each in iii.json("steps")] == ["SendMail"]
    assert len(iii.json("check")["warnings"]) == 2


def test_what_is_wrong_with_one_step_hides_nothing_of_the_others_and_makes_nothing_up(iii: Project) -> None:
    """The topics and triggers of the one that is wrong are not known."""
    iii.write_step("config = {", name="tick_step.py")
    trigger = '{"type": "state", "filter": {"a.b": 1}}'
    iii.write_step(
        f"config = {{'name': 'A', 'triggers': [{trigger}]}}\ndef handler(): ...\n", name="a_step.py"
    )
    iii.config.write_text("queues: {tick: {}, $cron/Tick: {}}\n")
    told = json.loads(iii("check", "--json").stdout)
    assert [each.partition(":")[0] for each in told["problems"]] == ["steps/tick_step.py"]
    assert [each.split(": ")[1] for each in told["warnings"]] == ["triggers[0].filter.a.b"]


def test_check_relies_on_nothing_that_the_configuration_gets_wrong(iii: Project) -> None:
    iii.config.write_text("store: {pth: data}\nsteps: 3\n")
    (iii.folder / "data").mkdir(mode=0o700)
    (iii.folder / "data" / "data.mdb").write_bytes(b"\0" * 10_000)
    problems = json.loads(iii("check", "--json").stdout)["problems"]
    assert (
        len(problems) == 2
        and "steps" in problems[0] + problems[1]
        and "store.pth" in problems[0] + problems[1]
    )
