"""The command line's twins of what the console does: choose messages, act on them, and leave an audit row."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from iii_project import Project

from iii.model import ARCHIVE, Ack, DeadLetter, Enqueue, Lane, LanePolicy, Txn
from iii.store.audit import audits
from iii.store.contract import Store
from iii.store.lmdb import LmdbStore

T = TypeVar("T")


def in_store(iii: Project, work: Callable[[Store], Awaitable[T]]) -> T:
    async def run() -> T:
        store = LmdbStore(iii.folder / "data")
        await store.open()
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


@pytest.fixture
def letters(iii: Project) -> Project:
    """Three letters of "mail" in "mail.failed", two of them with error "a"."""

    async def die(store: Store) -> None:
        await store.open_session([LanePolicy("mail", "Mail")])
        for error in ("a", "b", "a"):
            await store.commit(Txn((Enqueue("mail", b'{"error":"%b"}' % error.encode()),)))
            [message] = await store.claim({Lane("mail", "Mail"): 1}, None)
            dead = DeadLetter("mail", "Mail", error, 4, 7)
            letter = Enqueue("mail.failed", message.payload, step=ARCHIVE, id=message.lease.id, dead=dead)
            await store.commit(Txn((Ack(message.lease, failed=True), letter)))

    in_store(iii, die)
    return iii


def audited(iii: Project) -> list[tuple[str, dict[str, Any]]]:
    """(what, detail), the oldest first; all of it by the user at the command line."""

    async def read(store: Store) -> list[tuple[str, dict[str, Any]]]:
        rows = [row.entry for row in reversed(audits(store))]
        assert all(entry.who.startswith("cli ") for entry in rows)
        return [(entry.what, entry.detail) for entry in rows]

    return in_store(iii, read)


def test_dead_letters_are_shown_by_their_error(letters: Project) -> None:
    groups = letters.json("queue", "dead")
    assert [(each["error"], each["count"], each["step"]) for each in groups] == [
        ("a", 2, "Mail"),
        ("b", 1, "Mail"),
    ]
    assert letters.json("queue", "dead", "mail") == groups
    letters.ok("enqueue", "other", "1")
    assert letters.json("queue", "dead", "other") == []
    assert letters.ok("queue", "dead").splitlines()[1].split() == ["2", "mail.failed", "Mail", "a"]


@pytest.mark.parametrize(
    "command",
    [
        ("peek",),
        ("dead",),
        ("redrive",),
        ("redrive", "--dry-run"),
        ("discard", "--text", "a"),
        ("purge", "--yes"),
    ],
)
def test_a_topic_nobody_knows_is_an_error_that_names_the_nearest(
    letters: Project, command: tuple[str, ...]
) -> None:
    verb, *options = command
    refused = letters("queue", verb, "mail.faild", *options)
    assert refused.exit_code == 1 and refused.stdout == ""
    assert 'no topic "mail.faild" in this store; did you mean "mail.failed"?' in refused.stderr
    assert "iii queue list" in letters("queue", verb, "nothing.like.it", *options).stderr
    assert audited(letters) == []


def test_only_the_letters_of_an_error_are_redriven(letters: Project) -> None:
    chosen = ("queue", "redrive", "mail.failed", "--error", "a")
    assert letters.json(*chosen, "--dry-run") == {"count": 2}
    assert letters.ok(*chosen, "--dry-run") == "2 messages found\n"
    assert letters.json(*chosen) == {"count": 2}
    assert [each["error"] for each in letters.json("queue", "dead")] == ["b"]
    assert audited(letters) == [("redrive", {"topic": "mail.failed", "error": "a", "count": 2})]


def test_one_letter_is_discarded_by_its_id(letters: Project) -> None:
    [one] = letters.json("queue", "peek", "mail.failed", "--error", "b")
    assert letters.json("queue", "discard", "mail.failed", "--id", one["id"]) == {"count": 1}
    assert len(letters.json("queue", "peek", "mail.failed")) == 2
    assert audited(letters)[0][1] == {"topic": "mail.failed", "ids": [int(one["id"])], "count": 1}


def test_to_discard_everything_one_says_purge(letters: Project) -> None:
    refused = letters("queue", "discard", "mail.failed")
    assert refused.exit_code == 2 and "--id" in refused.stderr
    assert letters.json("queue", "purge", "mail.failed", "--dry-run") == {"count": 3}
    assert letters.json("queue", "purge", "mail.failed", "--yes") == {"count": 3}
    assert audited(letters) == [("purge", {"topic": "mail.failed", "count": 3})]


def test_messages_are_found_by_id_state_text_and_field(iii: Project) -> None:
    [ann] = iii.json("enqueue", "mail", '{"to": {"name": "ann"}}')["ids"]
    [bob] = iii.json("enqueue", "mail", '{"to": {"name": "bob"}}', "--delay", "1h")["ids"]

    def found(*options: str) -> list[str]:
        return [each["id"] for each in iii.json("queue", "peek", "mail", *options)]

    assert found() == [ann, bob]
    assert found("--state", "later") == [bob] and found("--text", "ANN") == [ann]
    assert found("--field", "to.name", "--value", "bob") == [bob] and found("--id", ann) == [ann]


def test_a_pause_is_told_as_json(iii: Project) -> None:
    iii.ok("enqueue", "mail", "1")
    assert iii.json("queue", "pause", "mail") == {"topic": "mail", "paused": True, "steps": [""]}
    assert iii.json("queue", "resume", "mail")["paused"] is False
    assert [what for what, _ in audited(iii)] == ["enqueue", "pause", "resume"]


def test_what_is_done_to_state_and_crons_is_audited_too(iii: Project) -> None:
    iii.write_step()
    iii.ok("state", "set", "a", "k", "1")
    iii.ok("state", "delete", "a", "k")
    iii.ok("cron", "run", "SendMail")
    assert [what for what, _ in audited(iii)] == ["state set", "state delete", "cron run"]


def test_top_shows_queues_and_instances_once(iii: Project) -> None:
    iii.ok("enqueue", "mail", "1")
    seen = iii.json("top", "--once")
    assert [(row["topic"], row["ready"]) for row in seen["queues"]] == [("mail", 1)]
    assert seen["instances"] == [] and seen["rates"]["done_per_s"] == 0
    shown = iii.ok("top", "--once")
    assert "mail" in shown and "no engine runs on this store" in shown
