"""What the log says and what it keeps to itself."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from iii.observe.floods import ForOthers
from iii.observe.logs import configure, log
from iii.observe.redaction import HIDDEN
from iii.observe.step_logger import StepLogger


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


class Broken:
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Strange(dict[str, object]):
    def keys(self) -> Any:
        raise ValueError("no keys")


RESERVED = {name: name.upper() for name in vars(logging.makeLogRecord({}))} | dict.fromkeys(
    ["message", "fields", "self", "asctime", "kind", "level", "context", "below", "text", "iii_step"], "x"
)
RESERVED = {name: value for name, value in RESERVED.items() if name not in ("exc_info", "extra")}


def line_of(*args: Any, call: str = "info", **named: Any) -> dict[str, Any]:
    stream = io.StringIO()
    configure("info", "json", ("password",), stream)
    getattr(StepLogger("S", 1, lambda: "t"), call)(*args, **named)
    line: dict[str, Any] = json.loads(stream.getvalue())
    return line


def test_any_name_may_be_a_fields() -> None:
    assert line_of("x", **RESERVED)["fields"] == RESERVED
    assert line_of("x", RESERVED)["fields"] == RESERVED
    assert line_of("x", extra=RESERVED)["fields"] == RESERVED
    assert line_of("x", {"a": 1, "b": 1}, extra={"a": 0, "c": 0}, b=2)["fields"] == {"a": 1, "b": 2, "c": 0}


FORMATS: list[tuple[tuple[Any, ...], str, Any]] = [
    (("sent %s to %d", "a", 2), "sent a to 2", None),
    (("%(who)s came", {"who": "ada"}), "ada came", None),
    (("100%", {"a": 1}), "100%", {"a": 1}),
    (("100% done", {"a": 1}), "100% done", {"a": 1}),
    (("got %s", {"a": 1}), "got {'a': 1}", {"a": 1}),
    (("got %s", None), "got None", None),
    (("none", None), "none", None),
    (("100%% sure",), "100%% sure", None),
    (("100%% of %s", 3), "100% of 3", None),
    (("too many", 1, 2), "too many", {"args": [1, 2]}),
    (("too few %s %s", 1), "too few %s %s", {"args": [1]}),
    (("a %d", "text"), "a %d", {"args": ["text"]}),
    (("no such %(name)s", {"a": 1}), "no such %(name)s", {"args": [{"a": 1}]}),
    (("odd %", 1), "odd %", {"args": [1]}),
    (("wide %999999999d", 1), "wide %999999999d", {"args": [1]}),
    (("wide %(n)999999999d", {"n": 1}), "wide %(n)999999999d", {"args": [{"n": 1}]}),
    ((ValueError("no"),), "no", None),
    ((Broken(),), "(Broken: its text fails with ValueError)", None),
    (("%(password)s by %(who)s", {"password": "hunter2", "who": "ada"}), "[redacted] by ada", None),
    (("%(password)d", {"password": "hunter2"}), "%(password)d", {"args": [{"password": "[redacted]"}]}),
]


@pytest.mark.parametrize(("args", "message", "fields"), FORMATS)
def test_arguments_are_put_into_the_text_where_they_fit(args: Any, message: str, fields: Any) -> None:
    line = line_of(*args)
    assert (line["message"], line.get("fields")) == (message, fields)


def test_a_broken_argument_is_told_by_what_breaks() -> None:
    assert line_of("%s", Broken())["fields"] == {"args": ["(Broken: its repr fails with ValueError)"]}
    assert line_of("x", Strange(a=1))["message"] == "x"


ODD_OPTIONS: list[dict[str, Any]] = [
    *(
        {"exc_info": odd}
        for odd in (1, "yes", (), (1,), (1, 2, 3), (None, None, None), ValueError("no"), object())
    ),
    *({"extra": odd} for odd in (5, "text", [], Strange(a=1))),
    *({"stacklevel": odd} for odd in (0, -3, 10**9, "1", None, True)),
]


@pytest.mark.parametrize("options", ODD_OPTIONS, ids=repr)
def test_no_option_makes_a_call_raise(options: Any) -> None:
    for call in ("debug", "info", "warning", "warn", "error", "exception", "critical"):
        stream = io.StringIO()
        configure("debug", "json", (), stream)
        getattr(StepLogger("S", 1, lambda: "t"), call)("x %s", 1, **options)
        assert json.loads(stream.getvalue())["message"] == "x 1"


def test_an_odd_field_leaves_its_neighbours_as_they_are() -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    for odd in (b"x", object(), 2**80, "\ud800", {1: {2: 2**80}}):
        assert line_of("x", n=3, at=at, odd=odd)["fields"] | {"odd": 0} == {
            "n": 3,
            "at": "2024-01-01T00:00:00+00:00",
            "odd": 0,
        }


def test_a_record_of_any_logger_is_a_line_whatever_it_holds() -> None:
    stream = io.StringIO()
    floods = configure("info", "json", ("password",), stream)
    others = logging.Logger("others", logging.INFO)
    others.addHandler(ForOthers(floods))
    others.info("%d", "x")
    others.info("%(password)s", {"password": "hunter2"})
    others.info(
        "x", extra={"fields": 5, "kind": [], "context": {}, "below": 1, "user": "ada"}, stack_info=True
    )
    others.info(Broken())
    others.info("x", exc_info=(1, 2, 3))  # type: ignore[arg-type]
    others.handle(logging.makeLogRecord({"levelno": 20, "levelname": "INFO", "msg": "from elsewhere"}))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [each["message"] for each in lines] == [
        "%d", "[redacted]", "x", "(Broken: its text fails with ValueError)", "x", "from elsewhere",
    ]  # fmt: skip
    assert lines[0]["fields"] == {"args": ["x"]}
    assert lines[2]["fields"] == {"fields": 5, "kind": [], "context": {}, "below": 1, "user": "ada"}
    assert "Stack (most recent call last)" in lines[2]["error"]


def test_what_an_argument_logs_in_its_turn_is_a_line_of_its_own() -> None:
    stream = io.StringIO()
    configure("info", "json", (), stream)
    http = logging.getLogger("iii.http")

    class Talks:
        def __str__(self) -> str:
            http.error("within")
            return "text"

    for _ in range(3):
        http.error("of %s", Talks())
    assert "of text" in stream.getvalue() and "within" in stream.getvalue()


def test_the_record_says_where_the_handler_logged() -> None:
    records: list[logging.LogRecord] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    log.addHandler(Collect())
    log.setLevel(logging.INFO)
    logger = StepLogger("S", 1, lambda: "t")

    def within() -> None:
        logger.warning("here")
        logger.warning("above", stacklevel=2)

    within()
    assert [each.funcName for each in records] == ["within", "test_the_record_says_where_the_handler_logged"]
