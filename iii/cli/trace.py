"""`iii trace ID`: everything that followed from one request, message or tick, as a tree with its times."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

from iii.cli.group import config_option, json_option
from iii.cli.output import coloured, compact, print_json, say
from iii.cli.runs import milliseconds

if TYPE_CHECKING:
    from iii.observe.runs import LogEntry, Run
    from iii.observe.traces import TraceNode, TraceTree

__all__ = ["trace"]

Line: TypeAlias = tuple[str, ...]

BAR = 24
OUTCOME_COLOURS = {
    "done": "green",
    "failed": "red",
    "dead": "red",
    "snoozed": "yellow",
    "cancelled": "yellow",
}
LEVEL_COLOURS = {"warning": "yellow", "error": "red", "critical": "red"}


@click.command()
@click.argument("trace_id", metavar="ID")
@json_option
@config_option
def trace(trace_id: str, as_json: bool, config_file: Path | None) -> None:
    """Show a trace: request, messages, changes of state and what these started.

    ID: 32 hex digits, as in the log, in `iii runs` and in the traceparent of a response; or a message's id,
    for the trace of its newest run.
    """
    from iii.cli.project import reading
    from iii.config import load
    from iii.errors import InputError
    from iii.observe import traces
    from iii.observe.runs import runs
    from iii.store.contract import Store

    async def ask(store: Store) -> TraceTree | None:
        found = traces.trace(store, trace_id)
        if found is None and (of_message := runs(store, message_id=trace_id, limit=1)):
            found = traces.trace(store, of_message[0].run.trace_id)
        return found

    tree = reading(load(config_file), ask)
    if tree is None:
        raise InputError(
            f"no run of trace {trace_id!r} is recorded: it may be too old, or its runs succeeded while more "
            "than history.traces_per_second began"
        )
    if as_json:
        print_json(tree)
    else:
        for line in _lines(tree):
            say(*line)


def _lines(tree: TraceTree) -> Iterator[Line]:
    outcome = coloured(tree.outcome, fg=OUTCOME_COLOURS[tree.outcome])
    at = datetime.fromtimestamp(tree.started_ms / 1000, UTC).isoformat(" ", "milliseconds")
    yield f"trace {tree.trace_id}  ", outcome, f"  {at}  {milliseconds(tree.duration_ms)} ms"
    depth = max((_width(node, 0) for node in tree.roots), default=0)
    for node in tree.roots:
        yield from _node(node, tree, "", "", depth)
    for message in tree.waiting:
        error = f"  {message.error}" if message.error else ""
        state = coloured(message.state, fg="yellow")
        yield "  ", state, f"  message {message.id} of {message.topic} for {message.step or 'no step'}{error}"
    if tree.cut:
        yield (f"  (only its newest {tree.runs} runs are shown)",)


def _node(node: TraceNode, tree: TraceTree, branch: str, below: str, width: int) -> Iterator[Line]:
    run = node.run
    outcome = coloured(run.outcome, fg=OUTCOME_COLOURS[run.outcome])
    status = f" {run.status}" if run.status else ""
    again = f" (attempt {run.attempt})" if run.attempt > 1 else ""
    label = f"{branch}{run.step}{again}"
    yield (
        f"{label:<{width}}  {_bar(node, tree)}  {milliseconds(run.duration_ms):>6} ms  ",
        *(outcome, f"{status}  ", coloured(_cause(run), dim=True)),
    )
    inner = f"{below}{'│  ' if node.children else '   '}"
    for line in _details(run):
        yield inner, line
    for index, child in enumerate(node.children):
        last = index == len(node.children) - 1
        yield from _node(
            child, tree, f"{below}{'└─ ' if last else '├─ '}", f"{below}{'   ' if last else '│  '}", width
        )


def _width(node: TraceNode, depth: int) -> int:
    own = 3 * depth + len(node.run.step) + (13 if node.run.attempt > 1 else 0)
    return max([own, *(_width(child, depth + 1) for child in node.children)])


def _bar(node: TraceNode, tree: TraceTree) -> str:
    """Where in the trace the run lies."""
    scale = BAR / max(tree.duration_ms, 0.001)
    start = min(BAR - 1, int(node.offset_ms * scale))
    length = max(1, min(BAR - start, round(node.run.duration_ms * scale)))
    return f"{'·' * start}{'█' * length}{'·' * (BAR - start - length)}"


def _cause(run: Run) -> str:
    if run.trigger == "state":
        return f"state {run.source}/{run.key}"
    return f"{run.trigger} {run.source}".strip()


def _details(run: Run) -> Iterator[str]:
    for change in run.changes:
        yield coloured(f"{change.op} {change.namespace}/{change.key}", fg="cyan")
    for sent in run.enqueued:
        delay = f", in {sent.delay_ms} ms" if sent.delay_ms else ""
        yield coloured(f"enqueue {sent.topic} ({sent.bytes} bytes{delay})", fg="cyan")
    for entry in run.logs:
        yield _log_line(entry)
    if run.error:
        yield coloured(run.error.partition("\n")[0], fg="red")
    left = run.left_out
    if more := left.changes + left.enqueued + left.logs:
        yield f"({more} more are not recorded)"
    if left.dropped:
        yield f"({left.dropped} enqueues dropped: the retry sends them again)"


def _log_line(entry: LogEntry) -> str:
    fields = "".join(f"  {name}={_text(value)}" for name, value in entry.fields.items())
    line = f"{entry.level:<7} {entry.message}{fields}"
    return coloured(line, fg=LEVEL_COLOURS.get(entry.level), dim=entry.level == "debug")


def _text(value: object) -> str:
    return value if isinstance(value, str) else compact(value)
