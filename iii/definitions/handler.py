"""How a function a user wrote is called: awaited or not, and with how many of the arguments it may get.

Only its own code tells that it is async: a wrapper may look like what it wraps (functools.wraps, wrapt, a
mark) and still be plain code that returns a coroutine. What is not seen to be async is called in a thread.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from iii.formats.units import shown

__all__ = ["GENERATOR", "HANDLER", "MIDDLEWARE", "Call", "calling", "shape", "wraps_unrun"]

GENERATOR = "a generator"
HANDLER = ("input", "ctx")
MIDDLEWARE = ("request", "ctx", "next")
ANY_NUMBER = 1 << 10

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_ANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_CACHED: Final = type(functools.lru_cache(lambda: None))
_MANAGERS: Final = frozenset(
    make(lambda: None).__code__  # type: ignore[arg-type, return-value]
    for make in (contextlib.contextmanager, contextlib.asynccontextmanager)
)
"""What all functions are that these two make."""


class Call(Struct, frozen=True):
    """A function whose shape is known."""

    function: Callable[..., Any]
    is_async: bool
    arity: int

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Call:
        return cls(function, *shape(function))


def calling(function: object, arguments: tuple[str, ...] = HANDLER) -> tuple[bool, int]:
    """(whether to await it, how many of `arguments` to pass). TypeError says what is wrong with it.

    Takes functions, methods, functools.partial and objects with __call__, however they are wrapped.
    """
    offered = ", ".join(arguments)
    if function is None:
        raise TypeError(f"is missing; write `async def handler({offered}):`")
    if not callable(function):
        raise TypeError(f"expected a function, got {shown(function)}; it is called with ({offered})")
    _refuse_what_never_runs(function)
    try:
        parameters = _parameters(function)
    except (TypeError, ValueError):
        raise TypeError(f"has no signature to read; wrap it in `def handler({offered}):`") from None
    required = [each for each in parameters if each.default is each.empty and each.kind not in _ANY]
    if len(required) > len(arguments) or any(each.kind is each.KEYWORD_ONLY for each in required):
        names = ", ".join(each.name for each in required)
        most = ("one", "two", "three")[len(arguments) - 1]
        raise TypeError(f"requires ({names}); it is called with at most {most} arguments: ({offered})")
    is_async, arity = shape(function)
    return is_async, min(arity, len(arguments))


def _refuse_what_never_runs(function: Callable[..., Any]) -> None:
    inner = function
    while type(inner) is functools.partial:
        inner = inner.func
    if isinstance(inner, type):
        raise TypeError(f"{inner.__name__} is a class; pass an instance of it, or a function")
    within = inner
    while isinstance(within, staticmethod | _CACHED):  # they call it, and that is all
        within = within.__wrapped__
    what = _unrun(within)
    if what == GENERATOR:
        raise TypeError("is a generator; return Response(body=generator()) to stream, without yield")
    if what is not None:
        raise TypeError(
            "is a context manager, and nobody would enter it: take @contextmanager off, or write "
            f"`with {getattr(within, '__name__', 'it')}(…):` in a function"
        )
    cached = _code(inner.__wrapped__) if isinstance(inner, _CACHED) else None
    if cached is not None and cached.co_flags & inspect.CO_COROUTINE:
        raise TypeError("is async behind functools.cache: a coroutine can be awaited only once")


def wraps_unrun(function: Any) -> str | None:
    """What nothing of runs by a call, a generator say, where `function` wraps it: some decorators run it."""
    seen: set[int] = set()
    while not seen or _unrun(function) is None:
        seen.add(id(function))
        while type(function) in (functools.partial, types.MethodType):
            function = function.func if type(function) is functools.partial else function.__func__
        function = _wrapped(function, seen)
        if function is None:
            return None
    return _unrun(function)


def _unrun(function: Callable[..., Any]) -> str | None:
    """What a call makes and does not run; None: a call runs it."""
    code = _code(function)
    if code is None or code.co_flags & inspect.CO_ITERABLE_COROUTINE:
        return None
    if code.co_flags & _GENERATOR:
        return GENERATOR
    return "a context manager" if code in _MANAGERS else None


def shape(function: Callable[..., Any]) -> tuple[bool, int]:
    """(whether to await it, how many positional arguments it takes); quick where it is a plain function."""
    plain: Any = function
    bound = 0
    if type(plain) is types.MethodType:
        plain, bound = plain.__func__, 1
    if type(plain) is types.FunctionType and not plain.__code__.co_flags & inspect.CO_VARARGS:
        code = plain.__code__
        return bool(code.co_flags & inspect.CO_COROUTINE), code.co_argcount - bound
    found = _code(function)
    is_async = found is not None and bool(found.co_flags & inspect.CO_COROUTINE)
    return is_async, _arity(function, set())


def _code(function: Any) -> types.CodeType | None:
    """The code that a call begins with: of partials and methods that of their function, of objects that of
    __call__. None where it is not written in Python."""
    while True:
        kind = type(function)
        if kind is functools.partial:
            function = function.func
        elif kind is types.MethodType:
            function = function.__func__
        elif kind is types.FunctionType:
            code: types.CodeType = function.__code__
            return code
        else:
            function = kind.__call__
            if type(function) not in (types.FunctionType, types.MethodType):
                return None


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Those of the function itself, not of what it wraps, unless it is compiled. TypeError or ValueError
    where there are none to read."""
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except ValueError:
        signature = inspect.signature(function)
    return list(signature.parameters.values())


def _arity(function: Callable[..., Any], seen: set[int]) -> int:
    """What takes *args hands them on: it gets as many as what it wraps takes, all where that is not known."""
    try:
        kinds = [parameter.kind for parameter in _parameters(function)]
    except (TypeError, ValueError):  # something compiled, behind a wrapper
        return ANY_NUMBER
    own = sum(kind in _POSITIONAL for kind in kinds)
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return own
    seen.add(id(function))
    if type(function) is functools.partial:
        return max(own, _arity(function.func, seen) - len(function.args))
    if type(function) is types.MethodType:
        return max(own, _arity(function.__func__, seen) - 1)
    within = _wrapped(function, seen)
    return ANY_NUMBER if within is None else max(own, _arity(within, seen))


def _wrapped(function: Any, seen: set[int]) -> Any:
    """What a wrapper names as wrapped, or else the only function that it holds; None: there are more."""
    named = getattr(function, "__wrapped__", None)
    if callable(named) and id(named) not in seen:
        return named
    if type(function) is types.FunctionType:
        held: list[Any] = [_content(cell) for cell in function.__closure__ or ()]
    else:
        held = list(getattr(function, "__dict__", {}).values())
    found = [each for each in held if callable(each) and id(each) not in seen and _code(each) is not None]
    return found[0] if len(found) == 1 else None


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None
