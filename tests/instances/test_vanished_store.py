"""What was there once must be there: no instance makes an empty store where one has run."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable

import pytest
from deadline import until
from instances_kit import Project, Started

NAMES = ("first", "second")

VANISHES: dict[str, Callable[[Project], object]] = {
    "data.mdb": lambda project: (project.data / "data.mdb").rename(project.folder / "away"),
    "the folder": lambda project: project.data.rename(project.folder / "away"),
    "all, an empty folder in its place": lambda project: (
        project.data.rename(project.folder / "away"),
        project.data.mkdir(mode=0o700),
    ),
}


def _put_back(project: Project) -> None:
    away = project.folder / "away"
    if away.is_file():
        away.rename(project.data / "data.mdb")
    else:
        shutil.rmtree(project.data, ignore_errors=True)
        away.rename(project.data)


@pytest.mark.parametrize("instances", ["1", "2"])
@pytest.mark.parametrize("what", VANISHES)
def test_an_engine_whose_store_vanishes_ends_with_the_reason_and_makes_no_other(
    project: Project, what: str, instances: str
) -> None:
    engines = project.start("--instances", instances)
    engines.post(*NAMES)
    until(lambda: project.starts(), "a start")
    VANISHES[what](project)
    assert engines.ended() == 1, engines.told
    assert "data.mdb was removed while in use" in engines.logged
    assert "Traceback" not in engines.told
    if instances == "2":
        last = engines.logged.splitlines()[-1]
        assert "no instance starts, given up" in last and "no empty store is made in its place" in last
    assert not list(project.folder.glob("data/data.mdb*"))
    assert project.data.exists() == (what != "the folder"), "nothing is in the way of who puts it back"
    _put_back(project)
    project.open_gate("all")
    project.start("--instances", instances).until_ready()
    until(lambda: project.effects() == dict.fromkeys(NAMES, 1), "what was accepted before")
    assert project.iii("check").returncode == 0


def test_an_instance_that_dies_does_not_come_back_on_another_store(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Project(tmp_path_factory.mktemp("other") / "project")
    assert other.iii("enqueue", "gated", '"theirs"').returncode == 0
    engines = project.start("--instances", "2").until_ready()
    project.data.rename(project.folder / "away")
    shutil.copytree(other.data, project.data)
    assert engines.ended() == 1, engines.told
    assert "is not the store that ran here" in engines.logged.splitlines()[-1]
    anew = project.start().until_ready()
    until(lambda: project.starts(), "who is started anew takes what it finds")
    anew.signal(signal.SIGTERM)


def test_a_backup_of_the_same_store_is_taken_while_the_supervisor_runs(project: Project) -> None:
    engines = project.start("--instances", "2").until_ready()
    assert project.iii("state", "set", "ns", "kept", "1").returncode == 0
    assert project.iii("backup", "copy").returncode == 0
    before = engines.children()
    project.data.rename(project.folder / "away")
    (project.folder / "copy").rename(project.data)
    until(lambda: len(engines.children() - before) == 2 and len(project.rows()) == 2, "two new instances")
    assert engines.process.poll() is None, engines.told
    assert project.iii_json("state", "get", "ns", "kept")["value"] == 1


def test_a_rolling_restart_finds_the_store_or_changes_nothing(project: Project) -> None:
    """Whether the old ones notice first, or the new one."""
    engines = project.start("--instances", "2").until_ready()
    (project.data / "data.mdb").rename(project.folder / "away")
    engines.signal(signal.SIGHUP)
    assert engines.ended() == 1, engines.told
    assert not (project.data / "data.mdb").exists()


def test_a_rolling_restart_may_go_to_another_path(project: Project) -> None:
    engines = project.start("--instances", "2").until_ready()
    config = project.folder / "iii-config.yaml"
    config.write_text(f"{config.read_text()}store: {{path: elsewhere}}\n")
    engines.signal(signal.SIGHUP)
    engines.until_logged("All instances are restarted")
    assert (project.folder / "elsewhere" / "data.mdb").exists()


def test_a_lock_file_that_is_removed_costs_a_restart_of_the_instances(project: Project) -> None:
    engines = project.start("--instances", "2")
    engines.post(*NAMES)
    until(lambda: len(project.starts()) == 2, "both run")
    before = _pids(engines)
    (project.data / "lock.mdb").unlink()
    until(lambda: len(_pids(engines) - before) >= 2 and len(project.rows()) == 2, "two new instances")
    project.open_gate("all")
    until(lambda: project.effects() == dict.fromkeys(NAMES, 1), "their effects, once")
    assert "lock.mdb was removed while in use" in engines.logged
    engines.signal(signal.SIGTERM)
    assert engines.ended() == 0, engines.told


def _pids(engines: Started) -> set[int]:
    return {pid for pid in engines.children() if os.path.exists(f"/proc/{pid}")}


READING = (
    ("queue", "list"),
    ("queue", "peek", "gated"),
    ("state", "list", "ns"),
    ("state", "get", "ns", "a"),
    ("state", "namespaces"),
    ("runs",),
    ("logs",),
    ("audit",),
    ("instances",),
    ("cron", "list"),
    ("steps",),
    ("check",),
    ("trace", "0af7651916cd43dd8448eb211c80319c"),
    ("backup", "copy"),
    ("compact",),
)


def test_what_only_reads_makes_no_store(project: Project) -> None:
    for command in READING:
        done = project.iii(*command)
        assert "Traceback" not in done.stderr and "Usage" not in done.stderr, (command, done)
        assert not project.data.exists(), command
