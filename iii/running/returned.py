"""What a user's function returned: done, still to be waited for, or something that nobody will ever run.

And what the errors mean of one that was taken for something else than it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import itertools
import types
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any, cast

from iii.errors import StepError
from iii.formats.units import shown
from iii.handling.loops import PendingCall

__all__ = ["awaiting", "discard", "explain", "nothing_ran", "unfinished", "unrun", "yes"]

NESTED_MAX = 100


def unfinished(value: object) -> bool:
    """Whether somebody has to wait for it: a coroutine, a future of either kind, what has __await__."""
    if type(value) is types.GeneratorType:
        return bool(value.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    return hasattr(type(value), "__await__") or isinstance(value, Future)


async def awaiting(value: Any) -> Any:
    """See through what is `unfinished`, and what that returns. What returns itself is done; StepError for
    what goes on so without end."""
    for _ in range(NESTED_MAX):
        found = await (asyncio.wrap_future(value) if isinstance(value, Future) else value)
        if found is value or not unfinished(found):
            return found
        value = found
    discard(value)
    raise StepError(f"awaited {NESTED_MAX} times, and what came of it is still to be awaited: {shown(value)}")


def discard(value: Any) -> None:
    """See that what was to be awaited, and never is, neither runs nor is warned of. From any thread."""
    if isinstance(value, asyncio.Future):
        with contextlib.suppress(RuntimeError):  # its loop is closed
            value.get_loop().call_soon_threadsafe(value.cancel)
    elif unfinished(value):
        end = getattr(value, "close", None) or getattr(value, "cancel", None)
        if end is None:  # what it awaits may be closed
            end = getattr(value.__await__(), "close", None)
        if end is not None:
            end()


@contextlib.asynccontextmanager
async def _entered() -> AsyncIterator[None]:
    yield


CLASS, COROUTINES = "a class", "several coroutines"
_SEVERAL = frozenset((list, tuple, set))
_UNRUN: dict[type, str] = {
    types.GeneratorType: "a generator",
    types.AsyncGeneratorType: "a generator",
    type(contextlib.contextmanager(iter)(())): "a context manager",
    type(_entered()): "a context manager",
    types.FunctionType: "a function",
    types.MethodType: "a function",
    types.BuiltinFunctionType: "a function",
    functools.partial: "a function",
    map: "a map",
    filter: "a filter",
    itertools.starmap: "a map",
}
_REMEDIES = {
    "a generator": "do the work, yield nothing",
    "a context manager": "take @contextmanager off, or enter it with `with` in the handler",
    "a function": "call it; a decorator that takes arguments is written with them, as in @retry()",
    CLASS: "return an instance, as in Snooze(…)",
    COROUTINES: "await asyncio.gather(*…)",
    "a map": "write a loop",
    "a filter": "write a loop",
}


def unrun(value: object) -> str | None:
    """What it is, where nothing in it has run and nobody will run it (unless it is streamed)."""
    if type(value) in _SEVERAL:
        found = [each for each in cast("list[object]", value) if _is_unbegun(each)]
        for each in found:
            discard(each)
        return COROUTINES if found else None
    return CLASS if isinstance(value, type) else _UNRUN.get(type(value))


def _is_unbegun(value: object) -> bool:
    return type(value) is types.CoroutineType and inspect.getcoroutinestate(value) == inspect.CORO_CREATED


def nothing_ran(what: str) -> str:
    """Why the attempt of a handler that returned `what` fails."""
    return f"the handler returned {what}, and nothing in it ran: {_REMEDIES[what]}"


def yes(value: object) -> bool:
    """What a condition decided. StepError for what decided nothing."""
    if (what := unrun(value)) is not None:
        raise StepError(f"the condition returned {what}, nothing in it ran: return True or False")
    return bool(value)


def explain(error: BaseException) -> None:
    """Note at an error of a function in a thread what it comes of, where that is the thread."""
    text = error.args[0] if error.args and isinstance(error.args[0], str) else ""
    if PendingCall.__name__ in text:
        error.add_note(
            "iii: where an event loop runs, also one that a thread starts, calls of ctx are to be awaited"
        )
    elif isinstance(error, TypeError | ValueError) and ("await" in text or "a coroutine was" in text):
        error.add_note(
            "iii: in a thread without a running event loop the calls of ctx wait by themselves and return "
            "values: leave `await` out, or make them in a coroutine, and run or return that"
        )
    elif isinstance(error, RuntimeError) and "event loop" in text:
        error.add_note(
            "iii: what is no `async def` runs in a thread, which has no loop: return the coroutine, or write "
            "`async def`"
        )
