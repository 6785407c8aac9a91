"""`core`: the native structures alone, nanoseconds an operation, measured by pyperf."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.child import environment
from bench.machine import ROOT
from bench.settings import Result, Round, WrongResult


def measure(round: Round) -> Result:
    file = round.folder / "core.json"
    settings = round.settings
    command = [sys.executable, "-m", "bench.programs.core", "-o", str(file), "--quiet", "--loops=1"]
    command += [f"--processes={1 if settings.quick else 3}", f"--values={settings.size(5, 3)}", "--warmups=1"]
    command += ["--inherit-environ=PYTHONPATH"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment())
    if done.returncode:
        raise WrongResult(f"core failed:\n{done.stderr or done.stdout}")
    return medians(file)


def medians(file: Path) -> Result:
    """{benchmark: median of its values in nanoseconds} of a file that pyperf wrote."""
    import pyperf  # type: ignore[import-untyped]

    suite = pyperf.BenchmarkSuite.load(str(file))
    return {each.get_name(): each.median() * 1e9 for each in suite.get_benchmarks()}
