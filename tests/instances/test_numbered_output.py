"""What several instances print comes out line by line, each with the number of who said it."""

from __future__ import annotations

import json
import signal

from instances_kit import Project

from iii.instances.output import LINE_BYTES_MAX, Numbered


def test_each_line_is_numbered_and_only_whole_lines_are_passed_on() -> None:
    written: list[bytes] = []
    numbered = Numbered(2, written.append)
    for chunk in (b"on", b"e\ntwo\nthr", b"", b"ee\n\nfour"):
        numbered.feed(chunk)
    assert b"".join(written) == b"[2] one\n[2] two\n[2] three\n[2] \n"
    assert numbered.last == "three"
    numbered.end()
    numbered.end()
    assert written[-1] == b"[2] four\n"
    assert numbered.last == "four"


def test_a_line_of_json_gets_a_field_instead() -> None:
    written: list[bytes] = []
    Numbered(2, written.append).feed(b'{"level":"info"}\n{}\n{"cut\n')
    assert b"".join(written) == b'{"instance":2,"level":"info"}\n[2] {}\n[2] {"cut\n'


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    written: list[bytes] = []
    numbered = Numbered(1, written.append)
    numbered.feed(b"x" * LINE_BYTES_MAX)
    assert written == []
    numbered.feed(b"x")
    assert len(written[0]) == LINE_BYTES_MAX + 6


def test_logs_of_several_instances_are_json_lines_with_their_number(project: Project) -> None:
    (project.folder / "iii-config.yaml").write_text("http: {enabled: false}\nconsole: {port: 0}\n")
    engines = project.start("--instances", "2").until_ready()
    engines.signal(signal.SIGTERM)
    assert engines.ended() == 0
    said = [json.loads(line) for line in engines.logged.splitlines()]
    stopped = [line.get("instance") for line in said if line["message"] == "Stopped"]
    assert sorted(stopped, key=str) == [1, 2, None]
