"""The hand-kept stubs say what the compiled modules are, and nothing a type checker would refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECKS = {
    "stubtest": ["-m", "mypy.stubtest", "iii_core"],
    "mypy": ["-m", "mypy", "--strict", "-p", "iii_core"],
}


@pytest.mark.parametrize("check", CHECKS)
def test_the_stubs_are_true(check: str) -> None:
    done = subprocess.run(
        [sys.executable, *CHECKS[check]],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": "core"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_structure_has_its_header_and_its_stub() -> None:
    folder = ROOT / "core" / "iii_core"
    for source in folder.glob("*.pyx"):
        assert source.with_suffix(".pxd").is_file() and source.with_suffix(".pyi").is_file(), source.name
    assert (folder / "py.typed").is_file()
