"""How a function is seen before it is called: awaited or in a thread, with how many arguments, or refused."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from iii.definitions.handler import MIDDLEWARE, calling, wraps_unrun


async def one(data: Any) -> None: ...
async def two(data: Any, ctx: Any) -> None: ...
async def three(data: Any, ctx: Any, db: Any) -> None: ...


def bare(inner: Callable[..., Any]) -> Any:
    def wrapper(*args: Any, **named: Any) -> Any:
        return inner(*args, **named)

    return wrapper


def wraps(inner: Callable[..., Any]) -> Any:
    @functools.wraps(inner)
    def wrapper(*args: Any, **named: Any) -> Any:
        return inner(*args, **named)

    return wrapper


def async_wraps(inner: Callable[..., Any]) -> Any:
    @functools.wraps(inner)
    async def wrapper(*args: Any, **named: Any) -> Any:
        return await inner(*args, **named)

    return wrapper


def injects(inner: Callable[..., Any]) -> Any:
    @functools.wraps(inner)
    def wrapper(data: Any, ctx: Any) -> Any:
        return inner(data, ctx, "db")

    return wrapper


def injects_by_name(inner: Callable[..., Any]) -> Any:
    @functools.wraps(inner)
    def wrapper(*args: Any, **named: Any) -> Any:
        return inner(*args, db="db", **named)

    return wrapper


def retries(inner: Callable[..., Any], sleep: Callable[..., Any] = print, catch: type = ValueError) -> Any:
    def wrapper(*args: Any) -> Any:
        try:
            return inner(*args)
        except catch:
            sleep(1)

    return wrapper


class Plain:
    def __init__(self, inner: Callable[..., Any]) -> None:
        self.inner = inner

    def __call__(self, *args: Any) -> Any:
        return self.inner(*args)

    @bare
    async def method(self, data: Any) -> None: ...

    @wraps
    async def wrapped_method(self, data: Any, ctx: Any) -> None: ...


class Async:
    async def __call__(self, data: Any, ctx: Any) -> None: ...


class Proxy:
    """It looks like what it wraps, as those of wrapt do."""

    def __init__(self, wrapped: Any) -> None:
        self.__wrapped__ = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)

    @property
    def __class__(self) -> Any:
        return types.FunctionType

    def __call__(self, *args: Any) -> Any:
        return self.__wrapped__(*args)


@types.coroutine
def old(data: Any) -> Iterator[None]:
    yield


AWAITED = {
    "a function": (two, 2),
    "a partial": (functools.partial(three, "first"), 2),
    "a partial by name": (functools.partial(three, db="db"), 2),
    "an object": (Async(), 2),
    "its bound __call__": (Async().__call__, 2),
    "an async wrapper": (async_wraps(one), 1),
}
IN_A_THREAD = {
    "a bare wrapper": (bare(one), 1),
    "functools.wraps": (wraps(one), 1),
    "wrappers of wrappers": (bare(wraps(bare(one))), 1),
    "a wrapper that holds more than the function": (retries(one), 1),
    "one that injects an argument": (injects(three), 2),
    "one that injects it by name": (injects_by_name(three), 2),
    "an object": (Plain(one), 1),
    "a bound method": (Plain(one).method, 1),
    "a decorated method": (Plain(one).wrapped_method, 2),
    "a partial of a wrapper": (functools.partial(bare(two), "first"), 1),
    "a cached plain function": (functools.lru_cache(lambda data: data), 1),
    "a static method": (staticmethod(one), 1),
    "a generic function": (functools.singledispatch(one), 1),
    "a coroutine of old": (old, 1),
    "a proxy of an async function": (Proxy(one), 1),
    "a lambda of whatever comes": (lambda *args: two(*args), 2),
    "nothing to look into": (bare(print), 2),
}


@pytest.mark.parametrize("form", AWAITED)
def test_what_is_written_as_async_is_awaited(form: str) -> None:
    function, arity = AWAITED[form]
    assert calling(function) == (True, arity)


@pytest.mark.parametrize("form", IN_A_THREAD)
def test_all_else_runs_in_a_thread_and_gets_what_it_hands_on(form: str) -> None:
    function, arity = IN_A_THREAD[form]
    assert calling(function) == (False, arity)


def test_a_mark_makes_no_plain_function_async() -> None:
    """inspect.markcoroutinefunction's mark is copied by functools.wraps to wrappers that are plain code."""

    def returns_it(data: Any) -> Any:
        return one(data)

    mark: Any = getattr(inspect, "markcoroutinefunction", None)
    if sys.version_info >= (3, 12):
        mark(returns_it)
    assert calling(wraps(returns_it)) == (False, 1)
    assert calling(functools.partial(returns_it)) == (False, 1)


def test_a_wrapper_of_middleware_gets_as_many_arguments_as_it_wraps() -> None:
    async def middle(request: Any, ctx: Any, next: Any) -> None: ...

    assert calling(bare(middle), MIDDLEWARE) == (False, 3)
    assert calling(lambda *args: args, MIDDLEWARE) == (False, 3)


async def asynchronous(data: Any) -> AsyncIterator[int]:
    yield 1


def generator(data: Any) -> Iterator[int]:
    yield 1


class Generates:
    def __call__(self, data: Any) -> Iterator[int]:
        yield 1


@contextlib.contextmanager
def entered(data: Any) -> Iterator[None]:
    yield


@contextlib.asynccontextmanager
async def async_entered(data: Any) -> AsyncIterator[None]:
    yield


class Decorated:
    @bare
    def method(self, data: Any) -> Iterator[int]:
        yield 1


class Manages:
    @contextlib.contextmanager
    def __call__(self, data: Any) -> Iterator[None]:
        yield

    entered = staticmethod(entered)


REFUSED = {
    "a class": (Plain, "is a class; pass an instance"),
    "a partial of a class": (functools.partial(Plain, one), "is a class; pass an instance"),
    "a generator": (generator, "is a generator"),
    "an async generator": (functools.partial(asynchronous), "is a generator"),
    "an object that generates": (Generates(), "is a generator"),
    "a cached generator": (functools.cache(generator), "is a generator"),
    "a static generator": (staticmethod(generator), "is a generator"),
    "a context manager": (entered, r"is a context manager, .* write `with entered\(…\):` in a function"),
    "an async context manager": (async_entered, "is a context manager"),
    "a partial of one": (functools.partial(entered), "is a context manager"),
    "an object that makes one": (Manages(), "is a context manager"),
    "a static one": (Manages.entered, "is a context manager"),
    "a static one around it": (staticmethod(functools.lru_cache(entered)), "is a context manager"),
    "a cached coroutine": (functools.cache(one), "awaited only once"),
    "what asks for too much": (three, r"requires \(data, ctx, db\)"),
    "a partial that leaves a name": (functools.partial(two, data=1), r"requires \(ctx\)"),
    "nothing": (None, "is missing"),
    "no function": ("handler", "expected a function"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_cannot_work_is_refused(form: str) -> None:
    function, reason = REFUSED[form]
    with pytest.raises(TypeError, match=reason):
        calling(function)


UNRUN = {
    "a decorated generator": (bare(generator), "a generator"),
    "functools.wraps": (wraps(asynchronous), "a generator"),
    "wrappers of wrappers": (bare(wraps(bare(generator))), "a generator"),
    "an async wrapper": (async_wraps(asynchronous), "a generator"),
    "an object": (Plain(generator), "a generator"),
    "a decorated object": (bare(Generates()), "a generator"),
    "a partial of a wrapper": (functools.partial(wraps(generator)), "a generator"),
    "a generic function": (functools.singledispatch(generator), "a generator"),
    "a decorated method": (Decorated().method, "a generator"),
    "a partial of one": (functools.partial(Decorated().method), "a generator"),
    "a decorated context manager": (wraps(entered), "a context manager"),
    "an async one": (bare(async_entered), "a context manager"),
    "what runs": (bare(wraps(one)), None),
    "a function": (one, None),
    "a coroutine of old": (bare(old), None),
    "nothing to look into": (bare(print), None),
}


@pytest.mark.parametrize("form", UNRUN)
def test_what_a_decorator_may_or_may_not_run_is_seen(form: str) -> None:
    function, what = UNRUN[form]
    calling(function)
    assert wraps_unrun(function) == what


def test_what_wraps_itself_has_an_end() -> None:
    looped = wraps(one)
    looped.__wrapped__ = wraps(looped)
    assert wraps_unrun(looped) is None
