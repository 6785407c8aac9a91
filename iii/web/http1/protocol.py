"""Hypercorn's HTTP/1 behind the gate: it sees of a connection only what the gate lets through.

What is refused is answered in its turn: where requests before it are still being answered, after them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import h11
from hypercorn.events import Event, RawData
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol

from iii.step import METHODS
from iii.web.http1.gate import Gate
from iii.web.http2.preface import NO_PREFACE
from iii.web.lane.answers import Heads
from iii.web.refused import Refused
from iii.web.response import Answer, failure

__all__ = ["Http1", "Saying", "last_words", "said"]

Saying: TypeAlias = Callable[[Refused], Answer]

_OF_HTTP_1 = re.compile(
    rb"(?:%b|CONNECT|TRACE)(?:[ \r]|\Z)|.*HTTP/\d\.\d\r?\Z" % "|".join(METHODS).encode(),
    re.IGNORECASE | re.DOTALL,
)


class Http1(H11Protocol):
    """`h2`: whether the connection may be one of HTTP/2, so that a client whose first line is none of HTTP/1,
    not even a wrong one, is told in frames. `hang_up` ends the connection once its client had a moment to
    read why."""

    def __init__(
        self,
        wrapper: ProtocolWrapper,
        gate: Gate,
        hang_up: Callable[[], Awaitable[None]],
        say: Saying,
        *,
        h2: bool,
    ) -> None:
        super().__init__(
            wrapper.app,
            wrapper.config,
            wrapper.context,
            wrapper.task_group,
            wrapper.state,
            wrapper.ssl,
            wrapper.client,
            wrapper.server,
            wrapper.send,
        )
        self.gate, self._hang_up, self._say, self._h2 = gate, hang_up, say, h2
        self._refused: Refused | None = None

    @property
    def awaits_body(self) -> bool:
        """Whether more of a request's body has to come, and nothing was answered."""
        states = self.connection.their_state, self.connection.our_state
        return self.gate.has_part_of_body and states == (h11.SEND_BODY, h11.SEND_RESPONSE)

    async def handle(self, event: Event) -> None:
        """Preface: the client speaks HTTP/2."""
        if not isinstance(event, RawData):
            return await super().handle(event)
        if self._refused is not None:
            return
        try:
            for part in self.gate.feed(event.data):
                await super().handle(RawData(part))
            if not event.data:
                self.gate.end()
                await super().handle(event)
        except Refused as refused:
            self._refused = refused
            await super().handle(RawData(self.gate.stopper))

    def last_words(self, refused: Refused) -> bytes:
        return last_words(refused, is_head=self.gate.method == b"HEAD", say=self._say)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Nothing is upgraded to HTTP/2."""

    async def _send_error_response(self, status_code: int) -> None:
        refused = self._refused
        if refused is None:
            return await super()._send_error_response(status_code)
        if self._h2 and self.gate.is_new and not _OF_HTTP_1.match(self.gate.first_line):
            await self.send(RawData(data=NO_PREFACE))
        else:
            await self.send(RawData(data=self.last_words(refused)))
        await self._hang_up()


def said(refused: Refused) -> Answer:
    return failure(refused.status, refused.message, details=refused.details, headers=refused.headers)


def last_words(refused: Refused, *, is_head: bool = False, say: Saying = said) -> bytes:
    """The answer after which a connection is closed."""
    sent = say(refused)
    assert isinstance(sent.body, bytes)
    return Heads().whole(sent, b"" if is_head else sent.body, closes=True)
