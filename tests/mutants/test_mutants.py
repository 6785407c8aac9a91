"""Each known bug is noticed: the tests that stand guard fail while it is there, and pass without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import mutants
import pytest
import run_mutants

ROOT = Path(__file__).parents[2]
TESTS_FAILED = int(pytest.ExitCode.TESTS_FAILED)


class Verdict(NamedTuple):
    code: int
    said: str


@pytest.fixture(scope="module")
def verdicts() -> dict[str, Verdict]:
    """By the name of the mutant."""
    ran = subprocess.run(
        [sys.executable, run_mutants.__file__], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stderr
    lines = map(json.loads, ran.stdout.splitlines())
    return {name: Verdict(code, said) for name, code, said in lines}


def test_without_a_mutant_they_pass(verdicts: dict[str, Verdict]) -> None:
    code, said = verdicts[run_mutants.UNCHANGED]
    assert code == 0, said


@pytest.mark.parametrize("name", mutants.ALL)
def test_a_mutant_is_noticed(verdicts: dict[str, Verdict], name: str) -> None:
    code, said = verdicts[name]
    assert code == TESTS_FAILED, f"{mutants.ALL[name].bug}: pytest ended with {code}\n{said}"
