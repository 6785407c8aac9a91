"""The fixtures `make_project`: a project of a test's own, whose engines end with the test; and `told`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engine_process import Project
from watchdog_kit import Told


@pytest.fixture
def make_project(tmp_path: Path) -> Iterator[Callable[[str], Project]]:
    made: list[Project] = []

    def make(steps: str) -> Project:
        made.append(Project(tmp_path, steps))
        return made[-1]

    yield make
    for project in made:
        project.clean_up()


@pytest.fixture
def told() -> Iterator[Told]:
    """What the watchdog says."""
    told, log = Told(), logging.getLogger("iii.watchdog")
    log.addHandler(told)
    log.setLevel(logging.INFO)
    yield told
    log.removeHandler(told)
    log.setLevel(logging.NOTSET)
