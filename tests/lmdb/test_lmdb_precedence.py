"""The loop lets the writer apply a group undisturbed, but does not stand still for one that takes long."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from iii.model import Put, Txn
from iii.store.lmdb import LmdbStore, precedence
from iii.store.lmdb.precedence import Precedence

STEPS = 2_000_000  # of a loop in the writer: many times the interpreter's switch interval
PATIENT_S = 60.0


async def begun(event: threading.Event) -> None:
    while not event.is_set():
        await asyncio.sleep(0)


async def test_what_is_submitted_while_a_group_is_applied_waits_until_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precedence, "WAIT_S", PATIENT_S)
    store = LmdbStore(tmp_path)
    await store.open()
    began, said = threading.Event(), []

    def apply(_: Any) -> None:
        began.set()
        for _ in range(STEPS):
            pass
        said.append("applied")

    applying = asyncio.ensure_future(store.call(apply))
    await begun(began)
    committed = store.submit(Txn((Put("n", "k", b"1"),)))
    said.append("submitted")
    await asyncio.gather(applying, committed)
    assert said == ["applied", "submitted"]
    await store.close()


async def test_a_group_that_takes_long_holds_the_loop_up_once_and_for_a_moment(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    await store.open()
    began, may_end = threading.Event(), threading.Event()

    def apply(_: Any) -> None:
        began.set()
        may_end.wait()

    applying = asyncio.ensure_future(store.call(apply))
    await begun(began)
    committed = [store.submit(Txn((Put("n", str(n), b"1"),))) for n in range(3)]
    assert not any(each.done() for each in committed)
    may_end.set()
    await asyncio.gather(applying, *committed)
    await store.close()


def test_whoever_waited_in_vain_does_not_wait_for_the_same_group_again() -> None:
    writer = Precedence()
    assert not writer.taken
    with writer:
        assert writer.taken
        writer.give_way()
        assert not writer.taken
    with writer:
        assert writer.taken
    writer.give_way()


def test_a_group_that_fails_leaves_nobody_waiting() -> None:
    writer = Precedence()
    with pytest.raises(RuntimeError), writer:
        raise RuntimeError
    assert not writer.taken
    with writer:
        assert writer.taken
