"""What the log says and what it keeps to itself."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from iii.observe.logs import StepLogger, configure, log
from iii.observe.redaction import HIDDEN


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = log.handlers[:], log.level, log.propagate
    yield
    log.handlers[:], log.level, log.propagate = before


def written(format: str, stream: io.StringIO | None = None, level: str = "info", **fields: Any) -> str:
    stream = stream or io.StringIO()
    configure(level, format, ("password", "api_key"), stream)
    StepLogger("SendMail", 2, lambda: "abc").info("Sent", {"to": "ada"}, **fields)
    return stream.getvalue()


def test_a_line_of_json_has_step_attempt_trace_and_fields() -> None:
    line = json.loads(written("auto", count=3))
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "iii.step.SendMail",
        "message": "Sent",
        "step": "SendMail",
        "attempt": 2,
        "trace_id": "abc",
        "fields": {"to": "ada", "count": 3},
    }


def test_a_terminal_gets_text() -> None:
    text = written("auto", Terminal(), words="two words")
    assert "info    SendMail (attempt 2)  Sent  to=ada" in text and 'words="two words"' in text
    assert "\x1b[" not in written("text", words="x")


def test_redacted_names_never_leave_at_any_depth_and_in_any_spelling() -> None:
    for format in ("json", "text"):
        out = written(
            format, user={"password": "hunter2", "list": [{"apiKey": "hunter2"}]}, API_KEY="hunter2"
        )
        assert "hunter2" not in out and HIDDEN in out


def test_what_is_below_the_level_is_not_even_built() -> None:
    class Expensive:
        def __repr__(self) -> str:
            raise AssertionError("built for nothing")

    assert written("json", level="warning", value=Expensive()) == ""


@pytest.mark.parametrize("value", [2**80, "\ud800", object(), float("nan"), {1: {2: b"x"}}])
def test_a_log_line_never_fails(value: Any) -> None:
    assert json.loads(written("json", value=value))["message"] == "Sent"
    assert "Sent" in written("text", value=value)


def test_an_exception_comes_with_its_traceback() -> None:
    stream = io.StringIO()
    configure("info", "json", (), stream)
    try:
        raise ValueError("no")
    except ValueError:
        StepLogger("S", 1, lambda: "t").exception("Failed")
    line = json.loads(stream.getvalue())
    assert line["level"] == "error" and "ValueError: no" in line["error"]


def test_the_record_says_where_the_handler_logged() -> None:
    records: list[logging.LogRecord] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    log.addHandler(Collect())
    log.setLevel(logging.INFO)
    StepLogger("S", 1, lambda: "t").warning("here")
    assert records[0].funcName == "test_the_record_says_where_the_handler_logged"
