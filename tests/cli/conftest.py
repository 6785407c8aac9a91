"""The fixture `iii`: a project of a test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from iii_project import Project


@pytest.fixture
def iii(tmp_path: Path) -> Project:
    return Project(tmp_path)
