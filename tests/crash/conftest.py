"""The fixture `make_project`: whatever a test starts on it ends with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash_kit import Project


@pytest.fixture
def make_project(tmp_path: Path) -> Iterator[Callable[[str, str], Project]]:
    """make_project(folder of steps, configuration) -> Project"""
    projects: list[Project] = []

    def make(steps: str, config: str) -> Project:
        projects.append(Project(tmp_path / f"project-{len(projects)}", steps, config))
        return projects[-1]

    yield make
    for project in projects:
        project.clean_up()
