"""Hypercorn's HTTP/1 behind the gate: it sees of a connection only what the gate lets through.

What is refused is answered in its turn: where requests before it are still being answered, after them. A
client that asks with `Expect: 100-continue` is told to go on when its body is first asked for: what is
answered before that costs it no body (RFC 9110, 10.1.1).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import h11
from hypercorn.events import Event, RawData
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import (
    AppWrapper,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    H11SendableEvent,
    Scope,
)

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
            _AsksFirst(wrapper.app, self),
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

    async def go_on(self) -> None:
        """The body is asked for now."""
        if self.connection.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=self.config.response_headers("h11"))
            await super()._send_h11_event(go_on)

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

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        """Hypercorn would tell each client to go on as soon as its head is there."""
        if not isinstance(event, h11.InformationalResponse) or event.status_code != 100:
            await super()._send_h11_event(event)

    async def _send_error_response(self, status_code: int) -> None:
        refused = self._refused
        if refused is None:
            return await super()._send_error_response(status_code)
        if self._h2 and self.gate.is_new and not _OF_HTTP_1.match(self.gate.first_line):
            await self.send(RawData(data=NO_PREFACE))
        else:
            await self.send(RawData(data=self.last_words(refused)))
        await self._hang_up()


class _AsksFirst:
    """The application `app`; `http1` hears when it asks for a body."""

    def __init__(self, app: AppWrapper, http1: Http1) -> None:
        self._app, self._http1 = app, http1

    async def __call__(
        self,
        scope: Scope,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
        sync_spawn: Callable[..., Any],
        call_soon: Callable[..., Any],
    ) -> None:
        async def ask() -> ASGIReceiveEvent:
            await self._http1.go_on()
            return await receive()

        await self._app(scope, ask, send, sync_spawn, call_soon)


def said(refused: Refused) -> Answer:
    return failure(refused.status, refused.message, details=refused.details, headers=refused.headers)


def last_words(refused: Refused, *, is_head: bool = False, say: Saying = said) -> bytes:
    """The answer after which a connection is closed."""
    sent = say(refused)
    assert isinstance(sent.body, bytes)
    return Heads().whole(sent, b"" if is_head else sent.body, closes=True)
