"""Linters, types and layers run as tests: what they say of the tree is part of being green."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from source_files import ROOT

SCRIPTS = Path(sysconfig.get_path("scripts"))
FOLDERS = [name for name in ("iii", "core", "steps", "bench", "tests") if (ROOT / name).is_dir()]
PYTHON_FOLDERS = [*FOLDERS, "setup.py"]
TYPED = ["iii", "core/iii_core", *(["steps"] if any((ROOT / "steps").glob("*.py")) else [])]

LINTERS: dict[str, list[str]] = {
    "ruff": [sys.executable, "-m", "ruff", "check", *PYTHON_FOLDERS],
    "format": [sys.executable, "-m", "ruff", "format", "--check", *PYTHON_FOLDERS],
    "mypy": [sys.executable, "-m", "mypy", "--strict", *TYPED],
    "cython-lint": [str(SCRIPTS / "cython-lint"), "core"],
    "layers": [str(SCRIPTS / "lint-imports"), "--no-logo"],
}


@pytest.mark.parametrize("linter", LINTERS)
def test_the_linter_has_nothing_to_say(linter: str) -> None:
    environment = {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    done = subprocess.run(
        LINTERS[linter], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{' '.join(LINTERS[linter])}\n{done.stdout}{done.stderr}"
