"""A request that is refused before a handler runs: raised where it is noticed, answered by the endpoint."""

from __future__ import annotations

from collections.abc import Sequence

from iii.errors import Detail, InputError


class Refused(InputError):
    """`status` 4xx, what is wrong in one sentence, the fields it is about, headers the answer needs."""

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
