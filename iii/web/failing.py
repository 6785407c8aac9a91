"""What a client is told of an error. The log has the rest. Refusals of a commit: the table in model.py."""

from __future__ import annotations

import logging

from iii.errors import ChangesHeld, Conflict, QueueFull, StoreClosed, StoreDamaged, StoreFailing, StoreFull
from iii.handling.context import Context
from iii.running.invoke import Late
from iii.running.settler import describe
from iii.trace import Trace
from iii.web.refused import RETRY_AFTER, Refused
from iii.web.response import Answer, failure

__all__ = ["refusal", "told", "told_blamed", "without_engine_frames"]

_ENGINE_MODULES = frozenset(
    {
        *("iii.web.exchange", "iii.running.runner", "iii.running.invoke", "iii.running.tracing"),
        *("iii.running.returned", "iii_core.coroutines"),
    }
)


def told(error: BaseException, ctx: Context, trace: Trace) -> Answer:
    """The answer to a request whose handler, or whose commit, failed so; logged."""
    if isinstance(error, Refused):
        return refusal(error)
    if isinstance(error, Late):
        return failure(504, "the step took too long", trace=trace)
    if isinstance(error, Conflict):
        return failure(409, "what this request builds on has changed; read it again and retry")
    if isinstance(error, StoreFull | QueueFull | StoreClosed | StoreDamaged):
        ctx.logger.tell(logging.WARNING, "Request refused", {"error": str(error)})
        return failure(503, _unavailable(error), headers=(RETRY_AFTER,), trace=trace)
    message = f"Request failed: {describe(error)}"
    trimmed = without_engine_frames(error)
    ctx.logger.tell(logging.ERROR, "Request failed", message=message, exc_info=trimmed)
    return failure(500, "internal error", trace=trace)


def told_blamed(blamed: Refused, error: BaseException, ctx: Context) -> Answer:
    """The answer where the request is to blame for `error`; logged, as it may be the handler's fault yet."""
    told = {"status": blamed.status, "field": blamed.details[0].path if blamed.details else ""}
    message = f"Request refused as the client's fault: {describe(error)}"
    ctx.logger.tell(logging.INFO, "Request refused as the client's fault", told, message=message)
    return refusal(blamed)


def _unavailable(error: BaseException) -> str:
    """Why, for a stranger; the log says more."""
    if isinstance(error, ChangesHeld):
        return str(error)
    if isinstance(error, StoreFailing):
        return "the disk of the store fails; try again later"
    if isinstance(error, StoreDamaged):
        return "the store can no longer be used; try again later"
    return "no room for more work now; try again"


def refusal(error: Refused) -> Answer:
    return failure(error.status, error.message, details=error.details, headers=error.headers)


def without_engine_frames(error: BaseException) -> BaseException:
    """The traceback as the step's author reads it: from the handler on; whole where no handler is in it."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__") in _ENGINE_MODULES:
        traceback = traceback.tb_next
    return error.with_traceback(traceback) if traceback is not None else error
