"""What reading definitions may cost: nothing that a project's own steps do not use."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"hypercorn", "lmdb", "pydantic", "jsonschema", "yaml", "asyncio", "uvloop", "rich", "click"}


def test_definitions_bring_in_no_library_that_no_step_asked_for() -> None:
    code = "import sys, iii.definitions.loader; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert "iii.definitions.loader" in loaded
    assert loaded & HEAVY == set()
    above = ("iii.store", "iii.running.runner", "iii.engine", "iii.web", "iii.handling.context")
    assert [name for name in loaded if name.startswith(above)] == []
