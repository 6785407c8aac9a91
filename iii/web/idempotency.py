"""Idempotency-Key on POST: the first answer is kept with the effects it reports, and replayed to the rest.

The kept answer is a message in lane ("$http/<step>", ""), enqueued with an exclusive `unique` key in the very
Txn of the handler's effects: of two requests with one key only one can commit, over all instances, and the
other replays its answer. Within an instance a second request waits for the first instead of running.

The key's scope is method, path, the Authorization and Cookie headers and those of http.idempotency_identity:
one user's key never replays another's answer. What a header says to one user or of one request (OWN) is not
replayed. Not kept: answers of 500 and above, streamed ones, and those of a middleware that answered itself.

Kept answers are bounded together (store.contract 24: the oldest go, and their keys may be used again). Of one
that is too large by itself the key is kept: its request does not run again, and is answered 409.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from hashlib import blake2b

import msgspec
from msgspec import Struct

from iii.config import HttpConfig
from iii.errors import Detail
from iii.formats import codec
from iii.model import Enqueue, LanePolicy, Unique
from iii.step import HttpTrigger, Response, Step
from iii.store.contract import Store
from iii.store.kept import TOPICS, size_of
from iii.web.refused import Refused
from iii.web.request import Request
from iii.web.response import Answer, failure, headers_of

__all__ = ["KEY_HEADER", "Claim", "KeptAnswer", "KeptAnswers", "idempotency_policies"]

KEY_HEADER = b"idempotency-key"
AUTHORIZATION, COOKIE = b"authorization", b"cookie"
KEY_BYTES_MAX = 255
HEADERS_BYTES_MAX = 16 << 10

OWN = frozenset(
    {
        *("set-cookie", "set-cookie2", "clear-site-data"),
        *("authentication-info", "proxy-authentication-info", "proxy-authenticate"),
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("age", "alt-svc", "date", "server-timing", "via"),
        *("traceparent", "tracestate", "traceresponse", "b3", "x-b3-traceid", "x-b3-spanid", "x-trace-id"),
        *("x-amzn-trace-id", "x-cloud-trace-context", "x-correlation-id", "x-request-id"),
    }
)
"""Headers that are one user's, one connection's or one request's own: replayed to nobody."""


class KeptAnswer(Struct, frozen=True):
    """body None: it was too large to keep. `request`: the digest of what was asked."""

    request: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes | None

    def replay(self, response: Response | None = None) -> Answer:
        """`response`: what the middleware of this request made of it, whose own headers go with it."""
        replayed = (b"idempotency-replayed", b"true")
        if self.body is None:
            message = (
                f"this request was already answered with {self.status}, and does not run again; the answer "
                "was too large to be kept (http.max_idempotency_body)"
            )
            return failure(409, message, headers=(replayed,))
        given = headers_of(response) if response is not None else []
        own = [header for header in given if header[0].decode() in OWN]
        headers = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in self.headers
            if name not in OWN
        ]
        return Answer(self.status, [*headers, *own, replayed], self.body)

    def response(self) -> Response:
        """What a middleware gets from `next` in a replay: as near as can be to what it got the first time."""
        headers: dict[str, list[str]] = {}
        for name, value in self.headers:
            if name != "content-length" and name not in OWN:
                headers.setdefault(name, []).append(value)
        body: object = self.body or None
        if self.body and headers.get("content-type") == ["application/json"]:
            body = codec.decode(self.body)
        return Response(
            self.status, body, {name: each if each[1:] else each[0] for name, each in headers.items()}
        )


class Claim:
    """The right to answer for a key: this request's own until `KeptAnswers.release`."""

    __slots__ = ("done", "id", "request")

    def __init__(self, id: tuple[str, str], request: str) -> None:
        self.id, self.request = id, request
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class KeptAnswers:
    def __init__(self, store: Store, config: HttpConfig) -> None:
        self._store, self._ttl_ms = store, config.idempotency_ttl_ms
        self._body_bytes_max = config.idempotency_body_bytes_max
        self._identity = {name.encode() for name in config.idempotency_identity} - {AUTHORIZATION, COOKIE}
        self._running: dict[tuple[str, str], Claim] = {}

    async def claim(self, request: Request) -> Claim | KeptAnswer:
        """The right to answer, or the answer already given; waits for a request with the same key.

        Refused 422 where the key came with another request before.
        """
        digest = _digest(request.method, request.path, request.query_string, request.raw)
        id = topic_of(request.step), self._scoped_key(request)
        while (running := self._running.get(id)) is not None:
            _refuse_another(running.request, digest)
            await asyncio.shield(running.done)
        kept = self._find(id)
        if kept is not None:
            _refuse_another(kept.request, digest)
            return kept
        claim = self._running[id] = Claim(id, digest)
        return claim

    def release(self, claim: Claim) -> None:
        """Let those who wait look again."""
        del self._running[claim.id]
        claim.done.set_result(None)

    def winner(self, claim: Claim) -> KeptAnswer | None:
        """The answer of another instance that committed first. Refused 422: it answered another request."""
        kept = self._find(claim.id)
        if kept is not None:
            _refuse_another(kept.request, claim.request)
        return kept

    def op(self, claim: Claim, sent: Answer) -> Enqueue | None:
        """What keeps `sent`, to commit with the effects; None where it is of a kind that is not kept."""
        if sent.status >= 500 or not isinstance(sent.body, bytes):
            return None
        topic, key = claim.id
        payload = self._whole(claim, sent, sent.body)
        if payload is None or size_of(len(payload)) > self._store.limits.kept_bytes_max:
            payload = msgspec.json.encode(KeptAnswer(claim.request, sent.status, [], None))
        return Enqueue(topic, payload, step="", unique=Unique(key, self._ttl_ms, exclusive=True))

    def _whole(self, claim: Claim, sent: Answer, body: bytes) -> bytes | None:
        """None: it is too large to keep."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in sent.headers]
        kept = [header for header in headers if header[0] not in OWN]
        size = sum(len(name) + len(value) for name, value in kept)
        if len(body) > self._body_bytes_max or size > HEADERS_BYTES_MAX:
            return None
        return msgspec.json.encode(KeptAnswer(claim.request, sent.status, kept, body))

    def _scoped_key(self, request: Request) -> str:
        """What stands for the key and who sent it. Where the Authorization header alone says that, as the
        first release wrote it."""
        key = request.fields[KEY_HEADER]
        if not 1 <= len(key) <= KEY_BYTES_MAX:
            message = f"1 to {KEY_BYTES_MAX} bytes are allowed, got {len(key)}"
            raise Refused(400, "bad Idempotency-Key", (Detail("headers.idempotency-key", message),))
        said: dict[bytes, list[bytes]] = {AUTHORIZATION: [], COOKIE: []}
        for name, value in request.raw_headers:
            if name in said or name in self._identity:
                said.setdefault(name, []).append(value)
        authorization, cookie = b", ".join(said.pop(AUTHORIZATION)), b"; ".join(said.pop(COOKIE))
        others = [name + b":" + b", ".join(values) for name, values in sorted(said.items())]
        who = [cookie, *others] if cookie or others else []
        return _digest(request.method, request.path, authorization, key, *who)

    def _find(self, id: tuple[str, str]) -> KeptAnswer | None:
        topic, key = id
        kept = self._store.known(topic, "", key)
        return msgspec.json.decode(kept.payload, type=KeptAnswer) if kept is not None else None


def idempotency_policies(steps: Iterable[Step], ttl_ms: int) -> list[LanePolicy]:
    """The lanes kept answers lie in; an answer leaves when its key may be used again."""
    return [
        LanePolicy(topic_of(step.name), "", retention_ms=ttl_ms)
        for step in steps
        if any(isinstance(trigger, HttpTrigger) and trigger.method == "POST" for trigger in step.triggers)
    ]


def topic_of(step: str) -> str:
    return TOPICS + step


def _digest(method: str, path: str, *parts: bytes) -> str:
    digest = blake2b(f"{method} {path}\n".encode(), digest_size=16)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def _refuse_another(known: str, digest: str) -> None:
    if known != digest:
        raise Refused(422, "this Idempotency-Key was already used for another request; use a new key")
