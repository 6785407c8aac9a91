"""Idempotency-Key on POST: the first answer is kept with the effects it reports, and replayed to the rest.

The kept answer is a message in lane ("$http/<step>", ""), enqueued with an exclusive `unique` key in the very
Txn of the handler's effects: of two requests with one key only one can commit, over all instances, and the
other replays its answer. Within an instance a second request waits for the first instead of running.

The key's scope is method, path and Authorization header: one user's key never replays another's answer.
Not kept: answers of 500 and above, streamed ones, and those of a middleware that answered itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from hashlib import blake2b

import msgspec
from msgspec import Struct

from iii.errors import Detail
from iii.formats import codec
from iii.model import Enqueue, LanePolicy, Unique
from iii.step import HttpTrigger, Response, Step
from iii.store.contract import Store
from iii.web.refused import Refused
from iii.web.request import Request
from iii.web.response import Answer, failure

__all__ = ["KEY_HEADER", "Claim", "KeptAnswer", "KeptAnswers", "idempotency_policies"]

KEY_HEADER = b"idempotency-key"
KEY_BYTES_MAX = 255


class KeptAnswer(Struct, frozen=True):
    """body None: it was too large to keep. `request`: the digest of what was asked."""

    request: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes | None

    def replay(self) -> Answer:
        replayed = (b"idempotency-replayed", b"true")
        if self.body is None:
            message = f"this request was already answered with {self.status}, with a body too large to keep"
            return failure(409, message, headers=(replayed,))
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers]
        return Answer(self.status, [*headers, replayed], self.body)

    def response(self) -> Response:
        """What a middleware gets from `next` in a replay: as near as can be to what it got the first time."""
        headers: dict[str, list[str]] = {}
        for name, value in self.headers:
            if name != "content-length":
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
    def __init__(self, store: Store, ttl_ms: int) -> None:
        self._store, self._ttl_ms = store, ttl_ms
        self._running: dict[tuple[str, str], Claim] = {}

    async def claim(self, request: Request) -> Claim | KeptAnswer:
        """The right to answer, or the answer already given; waits for a request with the same key.

        Refused 422 where the key came with another request before.
        """
        digest = _digest(request.method, request.path, request.query_string, request.raw)
        id = topic_of(request.step), _scoped_key(request)
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
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in sent.headers]
        payload = msgspec.json.encode(KeptAnswer(claim.request, sent.status, headers, sent.body))
        if len(payload) > self._store.limits.payload_bytes_max:
            payload = msgspec.json.encode(KeptAnswer(claim.request, sent.status, [], None))
        return Enqueue(topic, payload, step="", unique=Unique(key, self._ttl_ms, exclusive=True))

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
    return f"$http/{step}"


def _scoped_key(request: Request) -> str:
    key = request.fields[KEY_HEADER]
    if not 1 <= len(key) <= KEY_BYTES_MAX:
        message = f"1 to {KEY_BYTES_MAX} bytes are allowed, got {len(key)}"
        raise Refused(400, "bad Idempotency-Key", (Detail("headers.idempotency-key", message),))
    return _digest(request.method, request.path, request.fields.get(b"authorization", b""), key)


def _digest(method: str, path: str, *parts: bytes) -> str:
    digest = blake2b(f"{method} {path}\n".encode(), digest_size=16)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def _refuse_another(known: str, digest: str) -> None:
    if known != digest:
        raise Refused(422, "this Idempotency-Key was already used for another request; use a new key")
