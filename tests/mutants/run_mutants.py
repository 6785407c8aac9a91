"""Runs each mutant's tests with the mutant in place, and all of them without any: a JSON line each.

    python tests/mutants/run_mutants.py [NAME...]      [name, pytest's exit code, what it printed]

The tests are imported once; each run is a fork, two at a time. Processes that the tests start have the mutant
too: III_MUTANT and startup/sitecustomize.py see to that.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import mutants
import pytest

HERE = Path(__file__).parent
AT_ONCE = 2
PLAIN = ["-p", "no:cacheprovider", "--no-header", "--tb=native"]
UNCHANGED = "(unchanged)"


def _tests() -> list[str]:
    return sorted({test for mutant in mutants.ALL.values() for test in mutant.noticed_by})


def _import_tests() -> None:
    """What pytest and the tests import, the forks have then."""
    with tempfile.TemporaryFile() as nowhere:
        said = os.dup(1)
        os.dup2(nowhere.fileno(), 1)
        code = pytest.main(["-qq", "--collect-only", *PLAIN, *_tests()])
        os.dup2(said, 1)
    if code:
        raise SystemExit(f"the tests cannot be collected: pytest ended with {code}")


def _run(name: str, output: int) -> int:
    """In the child: pytest's exit code."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    tests = _tests()
    if name != UNCHANGED:
        mutant = mutants.ALL[name]
        mutant.put_in()
        path = [str(HERE / "startup"), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ |= {"III_MUTANT": name, "PYTHONPATH": os.pathsep.join(path)}
        tests = list(mutant.noticed_by)
    return int(pytest.main(["-q", "-x", *PLAIN, *tests]))


def _begin(name: str) -> tuple[int, Path]:
    file, path = tempfile.mkstemp(prefix="iii-mutant-")
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = _run(name, file)
        except BaseException as error:
            os.write(file, repr(error).encode())
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(file)
    return pid, Path(path)


def _end(running: dict[int, tuple[str, Path]]) -> None:
    pid, status = os.wait()
    name, path = running.pop(pid)
    code, said = os.waitstatus_to_exitcode(status), path.read_text(errors="replace")
    path.unlink()
    sys.stdout.write(json.dumps([name, code, said]) + "\n")


def main(names: list[str]) -> None:
    _import_tests()
    running: dict[int, tuple[str, Path]] = {}
    for name in names or [UNCHANGED, *mutants.ALL]:
        if len(running) == AT_ONCE:
            _end(running)
        pid, path = _begin(name)
        running[pid] = (name, path)
    while running:
        _end(running)


if __name__ == "__main__":
    main(sys.argv[1:])
