"""The console's answers as JSON: what a page returned, or what is wrong, in the shape of docs/api.md."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from iii.console.asks import BadField, Missing, Stale
from iii.console.security import HEADERS
from iii.errors import BadName, Conflict, IIIError, InputError, QueueFull, StepError, StoreError, TooLarge
from iii.web.refused import Refused
from iii.web.response import Answer

__all__ = ["error", "json", "refusal", "refused"]

STATUSES: tuple[tuple[type[IIIError], int], ...] = (
    (BadName, 400), (Missing, 404), (Stale, 409), (Conflict, 409), (TooLarge, 413), (QueueFull, 503),
    (StoreError, 503), (InputError, 400), (StepError, 400),
)  # fmt: skip
"""By the first that fits."""


def json(status: int, content: object, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def error(status: int, message: str, headers: dict[str, str] | None = None, **more: object) -> Response:
    return json(status, {"error": {"message": message}, **more}, headers)


def refusal(reason: IIIError) -> Response:
    if isinstance(reason, Refused):
        return error(reason.status, reason.message)
    status = next((status for kind, status in STATUSES if isinstance(reason, kind)), 500)
    if isinstance(reason, BadField | BadName | TooLarge) and reason.field:
        return json(status, {"error": {"message": str(reason), "field": reason.field}})
    if isinstance(reason, Stale):
        return error(status, str(reason), current=reason.current)
    return error(status, str(reason))


def refused(reason: Refused) -> Answer:
    """What is refused on its way here, before the console is asked."""
    response = refusal(reason)
    own = (*HEADERS, (b"cache-control", b"no-store"), *reason.headers)
    return Answer(response.status_code, [*response.raw_headers, *own], bytes(response.body))
