"""The command line's twins of what the console does: choose messages, act on them, and leave an audit row."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from iii_project import Project
from worker import next_message

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
            message = await next_message(store, Lane("mail", "Mail"))
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
    assert audited(letters)[0][1] == {"topic": "mail.failed", "ids": [one["id"]], "count": 1}


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


def test_one_message_tells_why_it_waits(iii: Project) -> None:
    [first] = iii.json("enqueue", "mail", "1", "--group", "g")["ids"]
    [behind] = iii.json("enqueue", "mail", "2", "--group", "g")["ids"]
    [row] = iii.json("queue", "peek", "mail", "--id", behind)
    assert f'message {first} is before it in group "g"' in row["why"]
    assert "no step serves it" in iii.ok("queue", "peek", "mail", "--id", first)


def test_a_message_is_replaced_by_one_with_another_payload(letters: Project) -> None:
    [letter] = letters.json("queue", "peek", "mail.failed", "--error", "b")
    id = letters.json("queue", "resend", letter["id"], '{"error": null}', "--priority", "high")["id"]
    [sent] = letters.json("queue", "peek", "mail", "--id", id)
    assert (sent["payload"], sent["priority"], sent["attempts"]) == ({"error": None}, 192, 0)
    assert len(letters.json("queue", "peek", "mail.failed")) == 2
    again = letters.ok("queue", "resend", id, "--delay", "1h").strip()
    [delayed] = letters.json("queue", "peek", "mail", "--id", again)
    assert (delayed["state"], delayed["payload"]) == ("delayed", {"error": None})
    refused = letters("queue", "resend", id)
    assert refused.exit_code == 1 and f"no message {id}" in refused.stderr
    assert [what for what, _ in audited(letters)] == ["resend", "resend"]


def test_what_was_changed_by_hand_is_listed(iii: Project) -> None:
    assert iii.json("audit") == [] and "nothing was changed" in iii.ok("audit")
    iii.ok("enqueue", "mail", "1")
    iii.ok("state", "set", "a", "k", "1")
    newest, oldest = iii.json("audit")
    assert (newest["what"], oldest["what"]) == ("state set", "enqueue")
    assert newest["who"].startswith("cli ") and newest["detail"]["key"] == "k"
    assert [row["what"] for row in iii.json("audit", "--limit", "1")] == ["state set"]
    assert iii.ok("audit").splitlines()[1].split()[2:4] == [newest["who"].split()[1], "state"]


def test_the_changes_of_a_key_are_told_the_newest_first(iii: Project) -> None:
    iii.ok("state", "set", "a", "k", '{"n": 1}')
    iii.ok("state", "set", "a", "other", "0")
    iii.ok("state", "set", "a", "k", '{"n": 2}')
    iii.ok("state", "delete", "a", "k")
    rows = iii.json("state", "history", "a", "k")
    assert [(row["type"], row["before"], row["value"]) for row in rows] == [
        ("deleted", {"n": 2}, None),
        ("updated", {"n": 1}, {"n": 2}),
        ("created", None, {"n": 1}),
    ]
    assert 'was {"n":2}' in iii.ok("state", "history", "a", "k", "--limit", "1")
    assert "no change of a/none" in iii.ok("state", "history", "a", "none")


def test_the_configuration_in_effect_is_one_that_loads(iii: Project) -> None:
    told = iii.json("config")
    assert told["http"]["max_body"] == "1MiB" and told["shutdown_timeout"] == "10s"
    file = iii.folder / "told.yaml"
    file.write_text(iii.ok("config"))
    assert iii.json("config", "-c", str(file)) == told


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


def test_a_message_is_named_in_full_or_by_its_number_alone(letters: Project) -> None:
    ids = [each["id"] for each in letters.json("queue", "peek", "mail.failed")]
    numbers = [id.split("-")[1] for id in ids]
    assert all(len(id.split("-")[0]) == 12 for id in ids)
    for id in (ids[1], numbers[1]):
        assert [each["id"] for each in letters.json("queue", "peek", "mail.failed", "--id", id)] == [ids[1]]
        found = letters.json("queue", "peek", "mail.failed", "--text", id)
        assert ids[1] in [each["id"] for each in found]
    assert letters.json("queue", "redrive", "mail.failed", "--id", numbers[0]) == {"count": 1}
    new = letters.ok("queue", "resend", numbers[1], "5").strip()
    assert [each["payload"] for each in letters.json("queue", "peek", "mail", "--id", new)] == [5]
    again = letters.json("queue", "resend", new, "6")["id"]
    assert letters.json("queue", "discard", "mail", "--id", again) == {"count": 1}
    assert [detail.get("ids", detail.get("id")) for _, detail in audited(letters)] == [
        [ids[0]],
        ids[1],
        new,
        [again],
    ]


def test_an_id_of_another_epoch_is_not_found(letters: Project) -> None:
    [one, *_] = [each["id"] for each in letters.json("queue", "peek", "mail.failed")]
    unknown = f"0123456789ab-{one.split('-')[1]}"
    assert letters.json("queue", "peek", "mail.failed", "--id", unknown) == []
    assert letters.json("queue", "redrive", "mail.failed", "--id", unknown) == {"count": 0}
    assert letters.json("queue", "discard", "mail.failed", "--id", unknown) == {"count": 0}
    assert f"no message {unknown} in the store" in letters.refused("queue", "resend", unknown)
    assert len(letters.json("queue", "peek", "mail.failed")) == 3


@pytest.mark.parametrize("id", ["x", "-1", "1.5", "0123456789a-1", "0123456789AB-1", "0123456789ab-"])
def test_what_looks_like_no_id_is_refused_with_its_forms(letters: Project, id: str) -> None:
    for words in (("peek", "mail", f"--id={id}"), ("resend", "--", id)):
        refused = letters("queue", *words)
        assert refused.exit_code == 2 and "12 hex digits" in refused.stderr, refused.output


def test_each_command_without_an_engine_gives_ids_of_an_epoch_of_its_own(iii: Project) -> None:
    ids = [iii.ok("enqueue", "in", "1").strip() for _ in range(3)]
    assert len({id.split("-")[0] for id in ids}) == 3
    assert [each["id"] for each in iii.json("queue", "peek", "in")] == ids


def test_a_backup_that_takes_the_place_of_the_store_gives_no_id_again(iii: Project) -> None:
    before = iii.json("enqueue", "in", "1")["ids"]
    iii.ok("backup", str(iii.folder / "copy"))
    lost = iii.json("enqueue", "in", "2")["ids"]
    (iii.folder / "data").rename(iii.folder / "broken")
    (iii.folder / "copy").rename(iii.folder / "data")
    assert iii.json("queue", "peek", "in", "--id", lost[0]) == []
    given = iii.json("enqueue", "in", "3")["ids"]
    assert given != lost
    assert [each["id"] for each in iii.json("queue", "peek", "in")] == before + given
    assert iii.json("queue", "peek", "in", "--id", lost[0]) == []
    iii.write_step()
    assert iii.ok("check")
