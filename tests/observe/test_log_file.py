"""The log that lies in the data folder: bounded, shared by all engines, followed by `iii logs`."""

from __future__ import annotations

import logging
from pathlib import Path

from iii.observe.log_file import LogFile, LogTail
from iii.observe.logs import JsonFormatter


def writer(data: Path, bytes_max: int = 1 << 20) -> logging.Logger:
    file = LogFile(data, bytes_max)
    file.setFormatter(JsonFormatter(("password",)))
    log = logging.Logger("iii.test")
    log.addHandler(file)
    return log


def context(step: str, **fields: object) -> dict[str, object]:
    return {"iii_step": step, "iii_attempt": 1, "iii_trace_id": "abc", "iii_fields": fields}


def test_a_tail_shows_the_newest_lines_and_then_what_comes(tmp_path: Path) -> None:
    one, other, tail = writer(tmp_path), writer(tmp_path), LogTail(tmp_path)
    for n in range(5):
        (one if n % 2 else other).info("line %d", n, extra=context("Work", password="hunter2"))
    assert [line.message for line in tail.last(3)] == ["line 2", "line 3", "line 4"]
    assert tail.read() == []
    other.warning("more")
    (line,) = tail.read()
    assert (line.message, line.level) == ("more", "warning")
    (kept,) = LogTail(tmp_path, step="Work").last(1)
    assert (kept.step, kept.trace_id, kept.fields) == ("Work", "abc", {"password": "[redacted]"})


def test_step_and_level_choose_lines(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.info("a", extra=context("One"))
    log.error("b", extra=context("One"))
    log.error("c", extra=context("Two"))
    assert [line.message for line in LogTail(tmp_path, step="One").last(9)] == ["a", "b"]
    assert [line.message for line in LogTail(tmp_path, level="error").last(9)] == ["b", "c"]
    assert [line.message for line in LogTail(tmp_path, step="One", level="error").last(9)] == ["b"]


def test_the_files_stay_small_and_a_follower_misses_nothing(tmp_path: Path) -> None:
    one, other, tail = writer(tmp_path, 64 << 10), writer(tmp_path, 64 << 10), LogTail(tmp_path)
    seen: list[str] = []
    for n in range(2_000):
        (one if n % 2 else other).info("line %d", n)
        if n % 50 == 0:
            seen += [line.message for line in tail.read()]
    seen += [line.message for line in tail.read()]
    assert seen == [f"line {n}" for n in range(2_000)]
    sizes = [path.stat().st_size for path in (tmp_path / "logs").iterdir()]
    assert sum(sizes) <= 64 << 10


def test_a_log_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("no folder")
    log = writer(tmp_path)
    log.error("lost")
    (tmp_path / "logs").unlink()
    log.error("kept")
    assert [line.message for line in LogTail(tmp_path).last(9)] == ["kept"]
