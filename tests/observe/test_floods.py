"""Lines that anybody can cause do not drown the others: of each kind one a minute, the others counted."""

from __future__ import annotations

import cProfile
import io
import json
import logging
import pstats
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from iii.observe.floods import KINDS_MAX, LINES_MAX, MINUTE_S, Floods
from iii.observe.logs import JsonFormatter, configure, log, take_root
from iii.observe.step_logger import StepLogger

HTTP = logging.getLogger("iii.http")
CONSOLE = logging.getLogger("iii.console")


class Log:
    """A log and the clock of its floods."""

    def __init__(self) -> None:
        self.now_s, self._out = 0.0, io.StringIO()
        handler = logging.StreamHandler(self._out)
        handler.setFormatter(JsonFormatter(("password",)))
        self.floods = Floods([handler], lambda: self.now_s)
        log.handlers[:], log.propagate = [self.floods], False
        log.setLevel(logging.INFO)

    def lines(self) -> list[dict[str, Any]]:
        """Those since the last call."""
        found = [json.loads(line) for line in self._out.getvalue().splitlines()]
        self._out.seek(0)
        self._out.truncate()
        return found

    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines()]

    def after(self, seconds: float) -> list[str]:
        self.now_s += seconds
        self.floods.tell()
        return self.messages()


@pytest.fixture
def told() -> Iterator[Log]:
    before = log.handlers[:], log.level, log.propagate
    found = Log()
    yield found
    found.floods.close()
    log.handlers[:], log.level, log.propagate = before


def refuse(text: object) -> None:
    HTTP.error("A bad request: %s", text)


def test_of_many_of_a_kind_one_is_told_and_the_others_are_counted(told: Log) -> None:
    for number in range(4_121):
        refuse(number)
    assert told.messages() == ["A bad request: 0"]
    assert told.after(MINUTE_S - 1) == []
    assert told.after(1) == ["A bad request: 4120 … 4,120 more like this in the last minute"]
    for _ in range(3):
        for number in range(500):
            refuse(number)
        assert told.after(MINUTE_S) == ["A bad request: 499 … 500 more like this in the last minute"]
    assert told.after(MINUTE_S) == [] and told.after(MINUTE_S) == []
    refuse("again")
    assert told.messages() == ["A bad request: again"]


def test_each_kind_is_counted_by_itself_and_by_its_code_never_by_its_text(told: Log) -> None:
    for number in range(10):
        refuse(number)
        CONSOLE.warning("a wrong token from %s", number)
    assert told.messages() == ["A bad request: 0", "a wrong token from 0"]
    assert sorted(told.after(MINUTE_S)) == [
        "A bad request: 9 … 9 more like this in the last minute",
        "a wrong token from 9 … 9 more like this in the last minute",
    ]


def test_a_stop_tells_what_was_left_out(told: Log) -> None:
    for number in range(10):
        refuse(number)
    told.messages()
    told.now_s = 12
    told.floods.close()
    assert told.messages() == ["A bad request: 9 … 9 more like this in the last 12 s"]


def test_what_a_handler_logs_is_never_left_out(told: Log) -> None:
    logger = StepLogger("Work", 1, lambda: "t")
    for number in range(1_000):
        logger.error("Mine", {"n": number})
    assert [line["fields"]["n"] for line in told.lines()] == list(range(1_000))


def boom(text: str) -> None:
    raise ValueError(text)


def fail(logger: StepLogger, text: str) -> None:
    try:
        boom(text)
    except ValueError as error:
        logger.tell(logging.ERROR, "Request failed", message=f"Request failed: {text}", exc_info=error)


def test_failures_of_one_place_are_lines_without_their_traceback_and_then_counted(told: Log) -> None:
    logger = StepLogger("Work", 1, lambda: "abc")
    for number in range(LINES_MAX + 500):
        fail(logger, f"{number} {'x' * 5_000}")
    lines = told.lines()
    assert len(lines) == LINES_MAX
    assert "Traceback" in lines[0]["error"] and len(lines[0]["error"]) > 5_000
    assert all("Traceback" not in line["error"] and len(str(line)) < 1_000 for line in lines[1:])
    assert "traceback: above" in lines[7]["error"] and "7 xxx" in lines[7]["message"]
    assert lines[7]["trace_id"] == "abc"
    (summary,) = told.after(MINUTE_S)
    assert summary.endswith("… 500 more like this in the last minute") and len(summary) < 1_000
    fail(logger, "anew")
    assert "Traceback" in told.lines()[0]["error"]


def test_failures_of_other_places_have_their_traceback(told: Log) -> None:
    logger = StepLogger("Work", 1, lambda: "abc")
    fail(logger, "one")
    try:
        boom("two")
    except ValueError as error:
        logger.tell(logging.ERROR, "Request failed", exc_info=error)
    fail(StepLogger("Other", 1, lambda: "abc"), "three")
    assert all("Traceback" in line["error"] for line in told.lines())


def test_kinds_are_bounded(told: Log) -> None:
    for number in range(KINDS_MAX + 50):
        record = logging.LogRecord(
            "iii.http", logging.ERROR, f"{number}.py", number, "no %d", (number,), None
        )
        log.handle(record)
    assert len(told.messages()) == KINDS_MAX + 1
    assert told.after(MINUTE_S) == [f"no {KINDS_MAX + 49} … 49 more like this in the last minute"]
    refuse("later")
    assert told.messages() == ["A bad request: later"]


def test_a_line_that_is_left_out_costs_the_same_beside_one_kind_and_beside_many(told: Log) -> None:
    def calls() -> int:
        with cProfile.Profile() as profile:
            refuse("again")
        return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]

    refuse(1), refuse(2)
    alone = calls()
    for number in range(2 * (KINDS_MAX - 10)):
        path = f"{number // 2}.py"
        log.handle(logging.LogRecord("iii.http", logging.ERROR, path, 1, "no", (), None))
    assert calls() == alone


def test_nothing_of_what_a_request_held_is_kept_for_the_summary(told: Log) -> None:
    class Large:
        def __str__(self) -> str:
            return "y" * 10_000

    for _ in range(3):
        refuse(Large())
    told.lines()
    last = [kind.last for kind in told.floods._kinds.values()]
    assert [each is not None and (each.args, len(str(each.msg)) < 400) for each in last] == [(None, True)]


def test_libraries_that_read_what_clients_send_are_counted_and_others_are_not() -> None:
    out = io.StringIO()
    before = log.handlers[:], log.level, log.propagate, logging.lastResort
    root, handlers = logging.getLogger(), logging.getLogger().handlers[:]
    level = root.level
    try:
        root.handlers[:] = []
        floods = configure("info", "text", (), out)
        take_root(floods, "info")
        for number in range(5):
            logging.getLogger("asyncio").error("Exception in callback\nof %d", number)
            logging.getLogger("python_multipart.multipart").warning("skipped %d", number)
            logging.getLogger("myapp").info("mine %d", number)
            logging.getLogger("myapp").debug("nobody asked %d", number)
        lines = out.getvalue().splitlines()
        assert len(lines) == 7 and sum("myapp  mine" in line for line in lines) == 5
        assert sum("Exception in callback\\nof 0" in line for line in lines) == 1
    finally:
        floods.close()
        log.handlers[:], log.level, log.propagate, logging.lastResort = before
        root.handlers[:] = handlers
        root.setLevel(level)


def test_the_minute_ends_by_itself() -> None:
    written, now_s = threading.Event(), [0.0]

    class Out(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "more like this" in record.getMessage():
                written.set()

    before = log.handlers[:], log.level, log.propagate
    floods = Floods([Out()], lambda: now_s[0], minute_s=0.05)
    try:
        log.handlers[:], log.propagate = [floods], False
        refuse(1)
        refuse(2)
        now_s[0] = 0.05
        assert written.wait(20)
    finally:
        floods.close()
        log.handlers[:], log.level, log.propagate = before
