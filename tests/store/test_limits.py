"""What a Txn may hold: each limit at its edge, and one over it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, StrEnum
from typing import Any

import pytest

from iii.errors import InputError, TooLarge
from iii.model import (
    ARCHIVE,
    Ack,
    Checked,
    DeadLetter,
    Delete,
    Discard,
    Enqueue,
    Hold,
    Lease,
    Mark,
    Merge,
    Op,
    Pause,
    Put,
    Record,
    Release,
    Retry,
    Txn,
    Unique,
)
from iii.store.contract import Limits
from iii.store.limits import DELAY_MS_MAX, ENGINE_NAME_BYTES, HEADERS_BYTES_MAX, check

LIMITS = Limits(payload_bytes_max=1000, value_bytes_max=2000, ops_max=5, txn_bytes_max=10_000)
LEASE = Lease(1, 1, 1)
DEAD = DeadLetter("jobs", "Work", "error", 1, 1)


def passes(*ops: Op, limits: Limits = LIMITS, headers: dict[str, str] | None = None) -> None:
    check(Txn(ops, headers or {}), limits)


def enqueue(topic: str = "jobs", payload: bytes = b"", **options: Any) -> Enqueue:
    return Enqueue(topic, payload, **options)


def unique(key: str, ttl_ms: int = 1) -> Enqueue:
    return enqueue(unique=Unique(key, ttl_ms))


AT_THE_EDGE: dict[str, tuple[Op, Op, str]] = {
    "namespace": (Put("n" * 128, "k", b""), Put("n" * 129, "k", b""), "namespace of 129 bytes, at most 128"),
    "key": (Put("n", "k" * 380, b""), Delete("n", "k" * 381), "key of 381 bytes, at most 380"),
    "key in UTF-8": (Put("n", "é" * 190, b""), Put("n", "é" * 191, b""), "key of 382 bytes, at most 380"),
    "value": (Put("n", "k", b"x" * 2000), Put("n", "k", b"x" * 2001), "value of 2001 bytes, at most 2000"),
    "patch": (Merge("n", "k", b"x" * 2000), Merge("n", "k", b"x" * 2001), "patch of 2001 bytes"),
    "payload": (
        enqueue(payload=b"x" * 1000),
        enqueue(payload=b"x" * 1001),
        "payload of 1001 bytes, at most 1000",
    ),
    "topic": (enqueue("t" * 128), enqueue("t" * 129), "topic of 129 bytes, at most 128"),
    "step": (enqueue(step="s" * 128), enqueue(step="s" * 129), "step of 129 bytes, at most 128"),
    "group": (enqueue(group="g" * 380), enqueue(group="g" * 381), "group of 381 bytes, at most 380"),
    "unique": (unique("k" * 380), unique("k" * 381), "unique key of 381 bytes, at most 380"),
    "headers": (
        enqueue(headers={"h": "x" * (HEADERS_BYTES_MAX // 4 - 1)}),
        enqueue(headers={"h": "x" * HEADERS_BYTES_MAX}),
        "headers of 16385 bytes, at most 16384",
    ),
    "record": (Record("run", b"x" * 2000), Record("run", b"x" * 2001), "record of 2001 bytes"),
    "mark name": (Mark("m" * 380, 0, None), Mark("m" * 381, 0, None), "mark name of 381 bytes"),
}


@pytest.mark.parametrize("what", AT_THE_EDGE)
def test_each_size_is_refused_one_over_its_limit_with_both_numbers(what: str) -> None:
    fits, over, said = AT_THE_EDGE[what]
    passes(fits)
    with pytest.raises(TooLarge, match=said):
        passes(over)


def test_a_txn_has_so_many_ops_and_bytes() -> None:
    passes(*[Hold(LEASE)] * 5)
    with pytest.raises(TooLarge, match="6 ops in one Txn, at most 5"):
        passes(*[Hold(LEASE)] * 6)
    row = Put("n", "k", b"x" * 1998)
    passes(*[row] * 5)
    with pytest.raises(TooLarge, match="a Txn of 10001 bytes, at most 10000"):
        passes(*[row] * 4, Put("n", "k", b"x" * 1999))
    with pytest.raises(TooLarge, match="a Txn of 10001 bytes"):
        passes(*[row] * 5, headers={"h": ""})
    with pytest.raises(TooLarge, match="a Txn of"):
        passes(Retry(LEASE, 0, "e" * 10_001))


def test_of_what_a_draft_has_checked_the_sum_counts_and_the_rest_is_checked() -> None:
    good, bad = Put("n", "k", b"x"), Put("", "k", b"x")
    assert check(Txn((bad, good), {"h": "12"}, Checked(1, 20)), LIMITS) == 20 + 3 + 3
    with pytest.raises(InputError, match="namespace"):
        check(Txn((good, bad), {}, Checked(1, 3)), LIMITS)
    with pytest.raises(TooLarge, match="a Txn of 10001 bytes, at most 10000"):
        check(Txn((good, good), {}, Checked(1, 9_998)), LIMITS)
    with pytest.raises(TooLarge, match="6 ops in one Txn, at most 5"):
        check(Txn([good] * 6, {}, Checked(6, 18)), LIMITS)
    with pytest.raises(TooLarge, match="headers of"):
        check(Txn((good,), {"h": "x" * HEADERS_BYTES_MAX}, Checked(1, 3)), LIMITS)


@pytest.mark.parametrize(
    "op",
    [
        Put("", "k", b""),
        Put("n", "", b""),
        Put("n\0", "k", b""),
        Put("n", "\ud800", b""),
        Put("n", "k", b"", if_version=-1),
        Delete("n", "k", if_version=-1),
        enqueue(""),
        enqueue("white space"),
        enqueue("tópico"),
        enqueue("a/b"),
        enqueue("jobs\n"),
        enqueue("$"),
        enqueue(step="$own"),
        enqueue(step="a/b"),
        enqueue(priority=-1),
        enqueue(priority=256),
        enqueue(delay_ms=-1),
        enqueue(delay_ms=DELAY_MS_MAX + 1),
        enqueue(group=""),
        enqueue(group="\ud800"),
        enqueue(headers={"h": "\ud800"}),
        unique(""),
        unique("k", ttl_ms=0),
        enqueue(id=1),
        enqueue(id=0, step="Work"),
        enqueue(step=ARCHIVE),
        enqueue(dead=DEAD),
        enqueue(step="Work", dead=DEAD),
        enqueue(step=ARCHIVE, dead=DeadLetter("", "Work", "e", 1, 1)),
        Retry(LEASE, -1, ""),
        Release(LEASE, DELAY_MS_MAX + 1),
        Mark("", 0, None),
        Mark("m", -1, None),
        Mark("m", 1 << 63, None),
        Pause("", "Work", True),
        Discard("jobs", "a b", "ready", 0, 1),
    ],
    ids=repr,
)
def test_what_no_store_takes_is_refused_as_bad_input(op: Op) -> None:
    with pytest.raises(InputError, match=r"bad|belong|one lane"):
        passes(op)


@pytest.mark.parametrize(
    "op",
    [
        enqueue("$cron/Cleanup"),
        enqueue("$state/" + "s" * 128, step="s" * 128),
        enqueue("t" * 128 + ".failed", step=ARCHIVE, dead=DEAD),
        enqueue("$idem"),
        enqueue("a.B_c:d-9", step=""),
        enqueue(priority=255, delay_ms=DELAY_MS_MAX, step="Work", id=(1 << 63) - 1),
        Put("$own", "any thing \0 é", b"", if_version=0),
        Retry(LEASE, 0, "an error may be long" * 100),
        Ack(LEASE),
        Mark("cron/x", (1 << 63) - 1, None),
        Discard("jobs", ARCHIVE, "ready", 128, 1),
    ],
    ids=repr,
)
def test_what_the_engine_itself_writes_fits(op: Op) -> None:
    passes(op)


def test_engine_names_have_more_room_yet_not_without_end() -> None:
    passes(enqueue("$" + "s" * (127 + ENGINE_NAME_BYTES)))
    with pytest.raises(TooLarge, match="topic of 145 bytes, at most 144"):
        passes(enqueue("$" + "s" * (128 + ENGINE_NAME_BYTES)))


def test_what_was_stored_can_be_triggered_on_and_archived_whole() -> None:
    large = b"x" * 9000
    passes(enqueue("$state/Notify", large))
    passes(enqueue("jobs.failed", large, step=ARCHIVE, dead=DEAD))
    for op in (enqueue("jobs", large), enqueue("$cron/Cleanup", large)):
        with pytest.raises(TooLarge, match="payload"):
            passes(op)
    with pytest.raises(TooLarge, match="at most 10000"):
        passes(enqueue("$state/Notify", large * 2))


def test_a_refusal_does_not_repeat_a_name_of_a_megabyte() -> None:
    long = "a" * 1_000_000
    for op in (enqueue(long), enqueue(long + "!"), enqueue("$" + long), Put("n", long, b""), unique(long)):
        with pytest.raises((InputError, TooLarge)) as caught:
            passes(op)
        assert len(str(caught.value)) < 300


class Text(str):
    """Equal to a plain one, yet no row can hold it."""


class Old(str, Enum):  # noqa: UP042 (what a StrEnum was before there were any)
    NAME = "name"


class New(StrEnum):
    NAME = "name"


TEXTS: list[Callable[[str], Txn]] = [
    lambda text: Txn((Put(text, "k", b""),)),
    lambda text: Txn((Merge("n", text, b""),)),
    lambda text: Txn((Delete("n", text),)),
    lambda text: Txn((Enqueue(text, b""),)),
    lambda text: Txn((Enqueue("t", b"", step=text),)),
    lambda text: Txn((Enqueue("t", b"", group=text),)),
    lambda text: Txn((Enqueue("t", b"", unique=Unique(text, 1)),)),
    lambda text: Txn((Enqueue("t", b"", headers={text: "x"}),)),
    lambda text: Txn((Enqueue("t", b"", headers={"x": text}),)),
    lambda text: Txn((Put("n", "k", b""),), {"x": text}),
    lambda text: Txn((Pause(text, "s", True),)),
]


@pytest.mark.parametrize("txn", TEXTS)
def test_a_text_is_a_str_or_an_enums(txn: Callable[[str], Txn]) -> None:
    for text in ("name", Old.NAME, New.NAME):
        check(txn(text), LIMITS)
    with pytest.raises(InputError, match=r"'name' of class Text: pass str\(...\) of it"):
        check(txn(Text("name")), LIMITS)


def test_what_is_no_text_at_all_is_refused_too() -> None:
    with pytest.raises(InputError, match="bad value of header 'x' 1 of class int: give a str"):
        check(Txn((Enqueue("t", b"", headers={"x": 1}),)), LIMITS)  # type: ignore[dict-item]
