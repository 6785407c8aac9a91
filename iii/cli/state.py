"""`iii state`: read and write the state that steps share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from iii.cli.arguments import json_value, utf8
from iii.cli.group import config_option, json_option
from iii.cli.output import compact, print_json, print_json_list, print_table, say, say_json
from iii.cli.project import reading, writing
from iii.config import load
from iii.errors import InputError
from iii.formats import codec
from iii.formats.printable import printable
from iii.model import Delete, Entry, Put, Txn
from iii.store.audit import command_line
from iii.store.contract import Store
from iii.store.history import history_of
from iii.store.operations import ChangeRow, change_row, state_row

__all__ = ["state"]

PAGE = 1000


@click.group()
@config_option
def state(config_file: Path | None) -> None:
    """Read and write the state that steps share."""


@state.command("get")
@click.argument("namespace", callback=utf8)
@click.argument("key", callback=utf8)
@json_option
@config_option
def get(namespace: str, key: str, as_json: bool, config_file: Path | None) -> None:
    """Print the value of KEY in NAMESPACE; exit 1 where there is none."""

    async def read(store: Store) -> Entry | None:
        return store.get(namespace, key)

    entry = reading(load(config_file), read)
    if entry is None:
        raise InputError(f"no {namespace}/{key} in the state")
    if as_json:
        print_json(state_row(entry))
    else:
        say_json(entry.value)


@state.command("set")
@click.argument("namespace", callback=utf8)
@click.argument("key", callback=utf8)
@click.argument("value", metavar="JSON")
@click.option("--if-version", type=click.IntRange(min=0), help="Only over this version; 0: only a new key.")
@json_option
@config_option
def set_(
    namespace: str, key: str, value: str, if_version: int | None, as_json: bool, config_file: Path | None
) -> None:
    """Write JSON ("-": from stdin) as the value of KEY in NAMESPACE; state triggers see it."""
    content = codec.encode(json_value(value))
    _require_own(namespace)

    async def write(store: Store) -> Entry | None:
        told = command_line().did(store, "state set", namespace=namespace, key=key, bytes=len(content))
        await store.commit(Txn((Put(namespace, key, content, if_version), told)))
        return store.get(namespace, key)

    entry = writing(load(config_file), write)
    if as_json and entry is not None:
        print_json(state_row(entry))


@state.command("delete")
@click.argument("namespace", callback=utf8)
@click.argument("key", callback=utf8)
@click.option("--if-version", type=click.IntRange(min=1), help="Only this version.")
@config_option
def delete(namespace: str, key: str, if_version: int | None, config_file: Path | None) -> None:
    """Delete KEY from NAMESPACE; fine where it is not there."""
    _require_own(namespace)

    async def write(store: Store) -> None:
        told = command_line().did(store, "state delete", namespace=namespace, key=key)
        await store.commit(Txn((Delete(namespace, key, if_version), told)))

    writing(load(config_file), write)


@state.command("list")
@click.argument("namespace", callback=utf8)
@click.option("--prefix", callback=utf8, default="", help="Only keys that begin so.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many; all by default.")
@json_option
@config_option
def list_(namespace: str, prefix: str, limit: int | None, as_json: bool, config_file: Path | None) -> None:
    """Print the keys and values of NAMESPACE, in order of their keys."""

    async def read(store: Store) -> None:
        entries = _entries(store, namespace, prefix, limit)
        if as_json:
            print_json_list(map(state_row, entries))
        else:
            for entry in entries:
                say_json(f"{printable(entry.key)}\t{entry.value.decode(errors='backslashreplace')}")

    reading(load(config_file), read)


@state.command("namespaces")
@json_option
@config_option
def namespaces(as_json: bool, config_file: Path | None) -> None:
    """List the namespaces and how many keys each holds."""

    async def read(store: Store) -> list[tuple[str, int]]:
        return store.namespaces()

    found = reading(load(config_file), read)
    if as_json:
        print_json([{"namespace": namespace, "keys": keys} for namespace, keys in found])
    else:
        print_table(("namespace", "keys"), found, empty="no state yet")


@state.command("history")
@click.argument("namespace", callback=utf8)
@click.argument("key", callback=utf8)
@click.option(
    "--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="At most so many."
)
@json_option
@config_option
def history(namespace: str, key: str, limit: int, as_json: bool, config_file: Path | None) -> None:
    """Show what the change log still holds of KEY in NAMESPACE, the newest change first."""

    async def read(store: Store) -> list[ChangeRow]:
        return [change_row(change) for change in await history_of(store, namespace, key, limit)]

    rows = reading(load(config_file), read)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        say(f"{row.version}  {row.type}{f'  trace {row.trace_id}' if row.trace_id else ''}")
        say(f"    {compact(row.value)}" if row.type != "deleted" else f"    was {compact(row.before)}")
    if not rows:
        say(f"no change of {namespace}/{key} is kept")


def _entries(store: Store, namespace: str, prefix: str, limit: int | None) -> Iterator[Entry]:
    after, left = "", limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        page = store.scan(namespace, prefix=prefix, after=after, limit=size)
        if not page:
            return
        yield from page
        after, left = page[-1].key, None if left is None else left - len(page)


def _require_own(namespace: str) -> None:
    if namespace.startswith("$"):
        raise InputError(f"bad namespace {namespace!r}: names that begin with $ are the engine's own")
