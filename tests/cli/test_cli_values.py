"""One answer at every door: the command line. See engine/test_doors.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from door_kinds import KEPT, LONG_KEY, TEXTS, Kind, whole
from iii_project import Project


@pytest.mark.parametrize("kind", TEXTS.values(), ids=TEXTS)
def test_json_that_cannot_be_stored_is_refused_with_its_field_before_a_store_is_made(
    iii: Project, kind: Kind
) -> None:
    for command in (("state", "set", "n", "k"), ("enqueue", "t"), ("queue", "resend", "1")):
        result = iii(*command, "-", input=kind.content)
        assert (result.exit_code, result.stdout) == (1, ""), result.output
        assert f" {kind.field}: " in result.stderr and kind.says in result.stderr
        assert len(result.stderr) < 400 and result.stderr.count("\n") == 1
    assert not (iii.folder / "data").exists()


@pytest.mark.parametrize("value", KEPT.values(), ids=KEPT)
def test_json_is_read_back_as_it_was_written(iii: Project, value: Any) -> None:
    iii.ok("state", "set", "n", "k", json.dumps(whole(value)))
    assert repr(json.loads(iii.ok("state", "get", "n", "k"))["a"]["b"]) == repr(value)
    iii.ok("enqueue", "t", json.dumps(whole(value)))
    assert repr(iii.json("queue", "peek", "t")[0]["payload"]["a"]["b"]) == repr(value)


NAMES = {
    "a long key": (("state", "set", "n", LONG_KEY, "1"), "key of 381 bytes, at most 380"),
    "a long namespace": (("state", "set", "n" * 129, "k", "1"), "namespace of 129 bytes, at most 128"),
    "the engine's namespace": (("state", "set", "$x", "k", "1"), "bad namespace '$x'"),
    "a topic with a blank": (("enqueue", "my topic", "1"), "bad topic 'my topic'"),
    "the engine's topic": (("enqueue", "$x", "1"), "bad topic '$x'"),
    "a long group": (("enqueue", "t", "1", "--group", "g" * 381), "group of 381 bytes, at most 380"),
    "a long unique key": (("enqueue", "t", "1", "--unique", "u" * 381), "unique key of 381 bytes"),
    "a priority": (("enqueue", "t", "1", "--priority", "urgent"), "bad priority"),
    "a delay": (("enqueue", "t", "1", "--delay", "soon"), "bad delay"),
}


@pytest.mark.parametrize(("command", "says"), NAMES.values(), ids=NAMES)
def test_a_name_that_no_store_takes_is_refused(iii: Project, command: tuple[str, ...], says: str) -> None:
    assert says in iii.refused(*command)
    assert iii.json("state", "namespaces") == [] and iii.json("queue", "list") == []


def test_no_key_beyond_the_limit_is_there_to_be_read(iii: Project) -> None:
    assert "in the state" in iii.refused("state", "get", "n", LONG_KEY)
