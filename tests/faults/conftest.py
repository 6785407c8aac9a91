"""The fixture `make_project`: a project of a test's own, whose engines end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engine_process import Project


@pytest.fixture
def make_project(tmp_path: Path) -> Iterator[Callable[[str], Project]]:
    made: list[Project] = []

    def make(steps: str) -> Project:
        made.append(Project(tmp_path, steps))
        return made[-1]

    yield make
    for project in made:
        project.clean_up()
