"""/api/state: namespaces, keys a page at a time, one value, its history; writes with a version check."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from iii.console.asks import Ask, BadField, Missing, Stale, json_of, preview, value_of
from iii.errors import Conflict, InputError
from iii.model import Change, Delete, Entry, Put, Txn
from iii.store.history import history_of
from iii.trace import child

__all__ = ["ROUTES", "change_type"]

LIST_MAX = 1_000
HISTORY_MAX = 200


class KeyView(Struct, frozen=True):
    key: str
    version: int
    updated_ms: int
    size: int
    preview: str


class ValueView(Struct, frozen=True):
    key: str
    value: Any
    version: int
    updated_ms: int


class ChangeView(Struct, frozen=True):
    """at_ms: where it is known, of the newest version alone. old, new: None where there was, is none."""

    version: int
    at_ms: int | None
    type: Literal["created", "updated", "deleted"]
    old: Any
    new: Any
    trace_id: str


def namespaces(ask: Ask) -> dict[str, Any]:
    return {"namespaces": [{"name": name, "keys": keys} for name, keys in ask.means.store.namespaces()]}


def keys(ask: Ask) -> dict[str, Any]:
    limit = ask.whole("limit", 100, 1, LIST_MAX)
    found = ask.means.store.scan(
        _namespace(ask), prefix=ask.text("prefix"), after=ask.text("after"), limit=limit + 1
    )
    shown = found[:limit]
    return {
        "entries": [
            KeyView(each.key, each.version, each.updated_ms, len(each.value), preview(each.value))
            for each in shown
        ],
        "next": shown[-1].key if len(found) > limit else None,
    }


def value(ask: Ask) -> ValueView:
    return _view(_entry(ask))


class _Put(Struct, frozen=True):
    value: Raw | UnsetType = UNSET
    if_version: int | None = None


async def put(ask: Ask) -> dict[str, int]:
    given, namespace, key = ask.read(_Put), _namespace(ask), ask.path["key"]
    content = json_of(given.value, "value")
    op = Put(namespace, key, content, given.if_version)
    told = ask.by.did(
        ask.means.store,
        "state set",
        namespace=namespace,
        key=key,
        bytes=len(content),
        if_version=given.if_version,
    )
    await _commit(ask, Txn((op, told), ask.means.sampler.root_headers()))
    entry = ask.means.store.get(namespace, key)
    return {"version": entry.version if entry is not None else 0}


async def delete(ask: Ask) -> dict[str, bool]:
    namespace, key = _namespace(ask), ask.path["key"]
    if_version = ask.whole("if_version", 0, 1, 1 << 62) or None
    there = ask.means.store.get(namespace, key) is not None
    told = ask.by.did(ask.means.store, "state delete", namespace=namespace, key=key, if_version=if_version)
    op = Delete(namespace, key, if_version)
    await _commit(ask, Txn((op, told), ask.means.sampler.root_headers()))
    return {"deleted": there}


async def _commit(ask: Ask, txn: Txn) -> None:
    try:
        await ask.means.store.commit(txn)
    except Conflict as refusal:
        entry = ask.means.store.get(ask.path["namespace"], ask.path["key"])
        raise Stale(str(refusal), None if entry is None else _view(entry)) from None


async def history(ask: Ask) -> dict[str, Any]:
    """What the change log still holds of a key, the newest first."""
    store, namespace, key = ask.means.store, _namespace(ask), ask.path["key"]
    entry = store.get(namespace, key)
    changes = await history_of(store, namespace, key, HISTORY_MAX)
    return {"changes": [_change_view(change, entry) for change in changes]}


def _change_view(change: Change, entry: Entry | None) -> ChangeView:
    headers = change.headers
    return ChangeView(
        version=change.version,
        at_ms=entry.updated_ms if entry is not None and entry.version == change.version else None,
        type=change_type(change),
        old=None if change.old is None else value_of(change.old),
        new=None if change.new is None else value_of(change.new),
        trace_id=child(headers).trace_id if "traceparent" in headers else "",
    )


def change_type(change: Change) -> Literal["created", "updated", "deleted"]:
    return "created" if change.old is None else "deleted" if change.new is None else "updated"


def _view(entry: Entry) -> ValueView:
    return ValueView(entry.key, value_of(entry.value), entry.version, entry.updated_ms)


def _entry(ask: Ask) -> Entry:
    namespace, key = _namespace(ask), ask.path["key"]
    found = ask.means.store.get(namespace, key)
    if found is None:
        raise Missing(f"no {namespace}/{key} in the state")
    return found


def _namespace(ask: Ask) -> str:
    namespace = ask.path["namespace"]
    if namespace.startswith("$"):
        raise InputError(f"bad namespace {namespace!r}: names that begin with $ are the engine's own")
    if not namespace or "\0" in namespace:
        raise BadField("namespace", "a namespace has at least one character and no NUL")
    return namespace


ROUTES = (
    ("GET", "/api/state", namespaces),
    ("GET", "/api/state/{namespace}", keys),
    ("GET", "/api/state/{namespace}/{key}", value),
    ("PUT", "/api/state/{namespace}/{key}", put),
    ("DELETE", "/api/state/{namespace}/{key}", delete),
    ("GET", "/api/state/{namespace}/{key}/history", history),
)
