"""The size and shape of what a Txn may hold, checked before any store touches it. Knows no tables.

TooLarge: something is over its limit. InputError: a name, number or combination that no store takes.
Sizes are bytes of UTF-8. What the engine names itself (topics that begin with "$", default dead-letter
topics) may be ENGINE_NAME_BYTES longer than a user's name, and what it packs itself (state triggers, dead
letters) as large as a Txn: whatever a user was allowed to store can also be triggered on and archived.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import lru_cache, partial
from typing import Any

from iii.errors import BadName, InputError, NameTooLong, QueueFull, TooLarge
from iii.model import (
    ARCHIVE,
    Ack,
    Delete,
    Discard,
    Enqueue,
    Hold,
    Lane,
    LanePolicy,
    Mark,
    Merge,
    Op,
    Pause,
    Put,
    Record,
    Release,
    Retry,
    Return,
    Txn,
)
from iii.store import kept
from iii.store.contract import Limits

__all__ = [
    "DELAY_MS_MAX",
    "ENGINE_NAME_BYTES",
    "HEADERS_BYTES_MAX",
    "check",
    "check_lane",
    "check_levels",
    "check_namespace",
    "check_op",
    "check_plain",
    "check_policies",
    "check_value",
    "too_many_topics",
]

ENGINE_NAME_BYTES = 16
HEADERS_BYTES_MAX = 16 << 10
DELAY_MS_MAX = 100 * 365 * 24 * 3600 * 1000
_INTEGER_MAX = 1 << 63

_name = re.compile(r"[A-Za-z0-9._:-]+").fullmatch
_engine_topic = re.compile(r"\$[A-Za-z0-9._:/-]+").fullmatch


def check(txn: Txn, limits: Limits) -> int:
    """The bytes of `txn`; TooLarge or InputError unless every op of it and their sum is within `limits`.

    The ops of `txn.checked` are known to be."""
    if len(txn.ops) > limits.ops_max:
        raise TooLarge(f"{len(txn.ops)} ops in one Txn, at most {limits.ops_max}: commit in parts")
    ops, checked = txn.ops, txn.checked
    size = checked.size
    if txn.headers:
        size += _headers(txn.headers)
    for op in ops[checked.ops :] if checked.ops else ops:
        size += _CHECKS[type(op)](op, limits)
    if size > limits.txn_bytes_max:
        _refuse_size(size, limits)
    return size


def check_op(op: Op, limits: Limits) -> int:
    """As `check`, for a Txn of this op alone."""
    size = _CHECKS[type(op)](op, limits)
    if size > limits.txn_bytes_max:
        _refuse_size(size, limits)
    return size


def check_value(value: bytes, limits: Limits) -> None:
    """TooLarge where no key may hold `value`."""
    _sized("value", value, limits.value_bytes_max)


def too_many_topics(most: int) -> QueueFull:
    """There are as many topics without a step as there may be."""
    return QueueFull(
        f"{most} topics without a step hold something, and no more are allowed: deploy a step that takes one "
        "of them, or `iii queue purge` it"
    )


def _refuse_size(size: int, limits: Limits) -> None:
    raise TooLarge(f"a Txn of {size} bytes, at most {limits.txn_bytes_max}: commit in parts")


@lru_cache(maxsize=4096, typed=True)  # a name that equals another need not be as plain
def check_lane(topic: str, step: str, name_bytes_max: int) -> int:
    """The bytes of both names; InputError or TooLarge unless they name a lane."""
    made_by_engine = isinstance(topic, str) and (topic.startswith("$") or topic.endswith(".failed"))
    room = name_bytes_max + ENGINE_NAME_BYTES if made_by_engine else name_bytes_max
    size = _lane_name("topic", topic, room)
    return size if step in ("", ARCHIVE) else size + _lane_name("step", step, name_bytes_max)


def _lane_name(what: str, name: str, bytes_max: int) -> int:
    """The bytes of a topic's or a step's name."""
    rule = partial(_lane_name, what, bytes_max=bytes_max)
    check_plain(what, name, rule)
    if not (_name(name) or (what == "topic" and _engine_topic(name))):
        message = f"bad {what} {name!r:.60}: use letters, digits and any of . _ : -"
        raise BadName(message, field=what, given=name, allows=rule)
    if len(name) > bytes_max:
        message = f"{what} of {len(name)} bytes, at most {bytes_max}: {name!r:.40}..."
        raise NameTooLong(message, field=what, given=name, allows=rule)
    return len(name)


def check_policies(policies: Iterable[LanePolicy], limits: Limits) -> None:
    """InputError or TooLarge unless a session may serve their lanes."""
    for policy in policies:
        check_lane(policy.topic, policy.step, limits.name_bytes_max)
        if policy.step == ARCHIVE:
            raise InputError(f"nobody subscribes to an archive: redrive it, or subscribe to {policy.topic}")


def check_levels(levels: Mapping[Lane, int]) -> None:
    """InputError unless messages of all these lanes may be granted, and each level is a count."""
    for lane, level in levels.items():
        if lane.step in ("", ARCHIVE):
            raise InputError(f"nothing is granted from lane {lane}: subscribe a step to {lane.topic}")
        _within(f"the level of lane {lane}", level, 0, _INTEGER_MAX - 1)


def _state_key(op: Put | Merge | Delete, limits: Limits) -> int:
    return _namespace(op.namespace, limits.namespace_bytes_max) + _text("key", op.key, limits.key_bytes_max)


@lru_cache(maxsize=4096, typed=True)
def _namespace(namespace: str, bytes_max: int) -> int:
    size = _text("namespace", namespace, bytes_max)
    if "\0" in namespace:
        rule = partial(_namespace, bytes_max=bytes_max)
        message = f"bad namespace {namespace!r:.60}: no NUL byte in it"
        raise BadName(message, field="namespace", given=namespace, allows=rule)
    return size


def check_namespace(namespace: object) -> None:
    """BadName where it is no user's: no text, or one of the engine's own."""
    if type(namespace) is not str:
        check_plain("namespace", namespace)
    if namespace.startswith("$"):  # type: ignore[attr-defined]
        message = f"bad namespace {namespace!r:.60}: names that begin with $ are the engine's own"
        raise BadName(message, field="namespace", given=namespace, allows=check_namespace)


def _put(op: Put, limits: Limits) -> int:
    if op.if_version is not None:
        _within("if_version", op.if_version, 0, _INTEGER_MAX - 1)
    return _state_key(op, limits) + _sized("value", op.value, limits.value_bytes_max)


def _merge(op: Merge, limits: Limits) -> int:
    return _state_key(op, limits) + _sized("patch", op.patch, limits.value_bytes_max)


def _delete(op: Delete, limits: Limits) -> int:
    if op.if_version is not None:
        _within("if_version", op.if_version, 0, _INTEGER_MAX - 1)
    return _state_key(op, limits)


def _enqueue(op: Enqueue, limits: Limits) -> int:
    size = check_lane(op.topic, op.step or "", limits.name_bytes_max) + len(op.payload)
    if op.step is not None or op.dead is not None or op.id is not None:
        size += _addressed(op, limits)
    if not 0 <= op.priority <= 255:
        message = f"bad priority {op.priority}: use 0 to 255, or low, normal, high"
        raise BadName(message, field="priority", given=op.priority)
    if op.delay_ms:
        _within("delay_ms", op.delay_ms, 0, DELAY_MS_MAX)
    if len(op.payload) > limits.payload_bytes_max:
        packed_by_engine = op.dead is not None or op.topic.startswith(("$state/", kept.TOPICS))
        most = limits.txn_bytes_max if packed_by_engine else limits.payload_bytes_max
        _sized("payload", op.payload, most)
    if op.group is not None:
        size += _text("group", op.group, limits.key_bytes_max)
    if op.unique is not None:
        _within("unique ttl_ms", op.unique.ttl_ms, 1, DELAY_MS_MAX)
        size += _text("unique key", op.unique.key, limits.key_bytes_max)
    if op.headers:
        size += _headers(op.headers)
    return size


def _addressed(op: Enqueue, limits: Limits) -> int:
    """What goes to one lane by name: the bytes of where it came from."""
    if (op.dead is not None) != (op.step == ARCHIVE):
        raise InputError(
            f"dead and step={ARCHIVE!r} belong together: a dead letter lies in its topic's archive"
        )
    if op.id is not None:
        if op.step is None:
            raise InputError("an id can be kept in one lane only: name the step")
        _within("id", op.id, 1, _INTEGER_MAX - 1)
    if op.dead is None:
        return 0
    return check_lane(op.dead.topic, op.dead.step, limits.name_bytes_max) + len(op.dead.error)


def _lease(op: Ack | Hold | Release | Retry | Return, limits: Limits) -> int:
    return 0


def _release(op: Release, limits: Limits) -> int:
    return _within("delay_ms", op.delay_ms, 0, DELAY_MS_MAX)


def _retry(op: Retry, limits: Limits) -> int:
    _within("delay_ms", op.delay_ms, 0, DELAY_MS_MAX)
    return len(op.error)


def _mark(op: Mark, limits: Limits) -> int:
    _within("mark", op.value, 0, _INTEGER_MAX - 1)
    return _text("mark name", op.name, limits.key_bytes_max)


def _record(op: Record, limits: Limits) -> int:
    return _sized("record", op.content, limits.value_bytes_max)


def _lane(op: Pause | Discard, limits: Limits) -> int:
    return check_lane(op.topic, op.step, limits.name_bytes_max)


_CHECKS: dict[type, Callable[[Any, Limits], int]] = {
    Put: _put,
    Merge: _merge,
    Delete: _delete,
    Enqueue: _enqueue,
    Ack: _lease,
    Hold: _lease,
    Release: _release,
    Return: _lease,
    Retry: _retry,
    Mark: _mark,
    Record: _record,
    Pause: _lane,
    Discard: _lane,
}


def _text(what: str, text: str, bytes_max: int) -> int:
    """The bytes of `text`: at least one, at most `bytes_max`."""
    if type(text) is not str:
        check_plain(what, text, partial(_text, what, bytes_max=bytes_max))
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise _bad_text(
            f"bad {what} {text!r:.60}: it is not valid Unicode (a lone surrogate)", what, text, bytes_max
        ) from None
    if size > bytes_max:
        message = f"{what} of {size} bytes, at most {bytes_max}: {text!r:.40}..."
        raise _bad_text(message, what, text, bytes_max, NameTooLong)
    if not size:
        raise _bad_text(f"bad {what}: it is empty; give at least one character", what, text, bytes_max)
    return size


def _bad_text(message: str, what: str, text: str, bytes_max: int, kind: type[BadName] = BadName) -> BadName:
    return kind(message, field=what, given=text, allows=partial(_text, what, bytes_max=bytes_max))


def check_plain(what: str, text: object, allows: Callable[[Any], object] | None = None) -> None:
    """BadName unless rows can hold `text`: a str, or an Enum's, but of no other class made of str."""
    if type(text) is not str and not (isinstance(text, str) and isinstance(text, Enum)):
        remedy = "pass str(...) of it" if isinstance(text, str) else "give a str"
        message = f"bad {what} {text!r:.60} of class {type(text).__name__}: {remedy}"
        raise BadName(message, field=what, given=text, allows=allows)


def _sized(what: str, content: bytes, bytes_max: int) -> int:
    size = len(content)
    if size > bytes_max:
        message = f"{what} of {size} bytes, at most {bytes_max}: pass a reference to it"
        raise TooLarge(message, field=what, size=size)
    return size


def _headers(headers: Mapping[str, str]) -> int:
    size = 0
    try:
        for name, value in headers.items():
            if type(name) is not str or type(value) is not str:
                check_plain("header", name)
                check_plain(f"value of header {name!r:.40}", value)
            size += len(name) if name.isascii() else len(name.encode())
            size += len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        message = "bad headers: a name or value is not valid Unicode (a lone surrogate)"
        raise BadName(message, field="headers", given=headers) from None
    if size > HEADERS_BYTES_MAX:
        message = f"headers of {size} bytes, at most {HEADERS_BYTES_MAX}: move them into the payload"
        raise TooLarge(message, field="headers", size=size)
    return size


def _within(what: str, number: int, least: int, most: int) -> int:
    if not least <= number <= most:
        raise BadName(f"bad {what} {number}: use {least} to {most}", field=what, given=number)
    return 0
