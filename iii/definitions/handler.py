"""How a function a user wrote is called: awaited or not, and with how many of (input, ctx)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from iii.formats.units import shown

__all__ = ["ARGUMENTS_MAX", "calling"]

ARGUMENTS_MAX = 2


def calling(handler: object) -> tuple[bool, int]:
    """(whether to await it, how many positional arguments to pass). TypeError says what is wrong with it.

    Takes functions, methods, functools.partial and objects with __call__.
    """
    if handler is None:
        raise TypeError("is missing; write `async def handler(input, ctx):`")
    if not callable(handler):
        raise TypeError(f"expected a function, got {shown(handler)}; write `async def handler(input, ctx):`")
    if isinstance(handler, type):
        raise TypeError(f"{handler.__name__} is a class; pass an instance of it, or a function")
    body = _body(handler)
    if inspect.isasyncgenfunction(body) or inspect.isgeneratorfunction(body):
        raise TypeError("is a generator; return Response(body=generator()) to stream, without yield")
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except (TypeError, ValueError):
        raise TypeError("has no signature to read; wrap it in `def handler(input, ctx):`") from None
    return inspect.iscoroutinefunction(body), _arity(parameters)


def _body(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The function that runs in the end."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if inspect.isroutine(handler):
        return handler
    called: Callable[..., Any] = type(handler).__call__
    return called


def _arity(parameters: list[inspect.Parameter]) -> int:
    positional, required = 0, []
    for each in parameters:
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD):
            positional += 1
        elif each.kind is each.VAR_POSITIONAL:
            positional = max(positional, ARGUMENTS_MAX)
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            required.append(each)
    if len(required) > ARGUMENTS_MAX or any(each.kind is each.KEYWORD_ONLY for each in required):
        names = ", ".join(each.name for each in required)
        raise TypeError(f"requires ({names}); it is called with at most two arguments: (input, ctx)")
    return min(positional, ARGUMENTS_MAX)
