"""first_step: what a coroutine returns, waits for or raises first."""

from __future__ import annotations

import sys
import types
from collections.abc import Generator

import pytest

from iii_core.coroutines import first_step


@types.coroutine
def waits_for(value: object) -> Generator[object, object, object]:
    return (yield value)


async def returns(value: object) -> object:
    return value


async def waits(value: object) -> object:
    return await waits_for(value)


async def raises(error: BaseException) -> None:
    raise error


def test_what_returns_at_once_has_ended() -> None:
    work = returns(7)
    assert first_step(work) == (True, 7)
    with pytest.raises(RuntimeError, match="already awaited"):
        first_step(work)
    assert first_step(returns(None)) == (True, None)


def test_what_waits_goes_on_where_it_waited() -> None:
    work = waits("for this")
    assert first_step(work) == (False, "for this")
    with pytest.raises(StopIteration) as stopped:
        work.send("then")
    assert stopped.value.value == "then"


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), GeneratorExit(), KeyboardInterrupt()])
def test_what_raises_raises(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        first_step(raises(error))
    assert raised.value is error


def test_nothing_is_held_on_to() -> None:
    value = object()
    before = sys.getrefcount(value)
    for _ in range(100):
        first_step(returns(value))
        work = waits(value)
        first_step(work)
        work.close()
    del work
    assert sys.getrefcount(value) == before


def test_what_is_no_coroutine_is_refused() -> None:
    with pytest.raises(AttributeError):
        first_step(7)  # type: ignore[arg-type]
