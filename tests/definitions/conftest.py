"""The fixture `folder`: for steps that are loaded, of which the process forgets all afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    for name in [each for each in sys.modules if each.startswith("iii_steps_")]:
        del sys.modules[name]  # what other tests have loaded
    path_before, modules_before = list(sys.path), set(sys.modules)
    (tmp_path / "steps").mkdir()
    yield tmp_path / "steps"
    sys.path[:] = path_before
    for name in set(sys.modules) - modules_before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")) or name.startswith("iii_steps."):
            del sys.modules[name]
