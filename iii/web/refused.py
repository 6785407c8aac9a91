"""A request that is refused before a handler runs: raised where it is noticed, answered by the endpoint."""

from __future__ import annotations

from collections.abc import Sequence

from iii.errors import Detail, InputError

__all__ = ["RETRY_AFTER", "Refused", "body_too_large", "body_too_slow", "head_too_slow", "made_room"]

RETRY_AFTER = (b"retry-after", b"1")


class Refused(InputError):
    """`status` 4xx (5xx: what is not spoken, or not now), what is wrong in one sentence, the fields it is
    about, headers the answer needs."""

    def __init__(
        self,
        status: int,
        message: str,
        details: Sequence[Detail] = (),
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.details, self.headers = tuple(details), tuple(headers)


def body_too_large(bytes_max: int) -> Refused:
    return Refused(413, f"the body is too large; at most {bytes_max} bytes are allowed")


def body_too_slow(timeout_ms: int) -> Refused:
    return Refused(408, f"the request body did not arrive within {timeout_ms} ms")


def made_room() -> Refused:
    return Refused(
        503,
        "too many connections are open, and this request was still arriving; try again",
        headers=(RETRY_AFTER,),
    )


def head_too_slow(timeout_ms: int) -> Refused:
    return Refused(408, f"the request head did not arrive within {timeout_ms / 1000:g} s")
