"""How a function a user wrote is called: awaited or not, and with how many of the arguments it may get."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from iii.formats.units import shown

__all__ = ["HANDLER", "MIDDLEWARE", "calling", "shape"]

HANDLER = ("input", "ctx")
MIDDLEWARE = ("request", "ctx", "next")
ANY_NUMBER = 1 << 10


def calling(function: object, arguments: tuple[str, ...] = HANDLER) -> tuple[bool, int]:
    """(whether to await it, how many of `arguments` to pass). TypeError says what is wrong with it.

    Takes functions, methods, functools.partial and objects with __call__.
    """
    offered = ", ".join(arguments)
    if function is None:
        raise TypeError(f"is missing; write `async def handler({offered}):`")
    if not callable(function):
        raise TypeError(f"expected a function, got {shown(function)}; it is called with ({offered})")
    if isinstance(function, type):
        raise TypeError(f"{function.__name__} is a class; pass an instance of it, or a function")
    body = _body(function)
    if inspect.isasyncgenfunction(body) or inspect.isgeneratorfunction(body):
        raise TypeError("is a generator; return Response(body=generator()) to stream, without yield")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise TypeError(f"has no signature to read; wrap it in `def handler({offered}):`") from None
    required = [each for each in parameters if each.default is each.empty and each.kind not in _ANY]
    if len(required) > len(arguments) or any(each.kind is each.KEYWORD_ONLY for each in required):
        names = ", ".join(each.name for each in required)
        most = ("one", "two", "three")[len(arguments) - 1]
        raise TypeError(f"requires ({names}); it is called with at most {most} arguments: ({offered})")
    is_async, arity = shape(function)
    return is_async, min(arity, len(arguments))


def shape(function: Callable[..., Any]) -> tuple[bool, int]:
    """(whether to await it, how many positional arguments it takes); quick where it is a plain function."""
    plain: Any = function
    bound = 0
    if isinstance(plain, types.MethodType):
        plain, bound = plain.__func__, 1
    if isinstance(plain, types.FunctionType) and not hasattr(plain, "__wrapped__"):
        code = plain.__code__
        arity = ANY_NUMBER if code.co_flags & inspect.CO_VARARGS else code.co_argcount - bound
        return bool(code.co_flags & inspect.CO_COROUTINE), arity
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    is_async = inspect.iscoroutinefunction(_body(function))
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return is_async, ANY_NUMBER
    return is_async, sum(kind in _POSITIONAL for kind in kinds)


_ANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _body(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that runs in the end: of partials, decorated functions, objects with __call__."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    called: Callable[..., Any] = type(function).__call__
    return called
