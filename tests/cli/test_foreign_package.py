"""Another distribution with a package `iii`: beside this engine, over it, or gone with files of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deadline import DEADLINE_S

import iii

MAIN = "from iii.cli import main; main()"
REMEDY = "pip uninstall iii-sdk motia && pip install --force-reinstall --no-deps iii-engine"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """What of an environment lies on the path: this engine, installed."""
    site = tmp_path / "site"
    shutil.copytree(Path(iii.__file__).parent, site / "iii", ignore=shutil.ignore_patterns("static", "*.pyc"))
    install(site, "iii_engine-0.1.0", "iii/__init__.py,,\niii/cli/__init__.py,,\n")
    return site


def install(site: Path, name: str, record: str, requires: str = "") -> None:
    folder = site / f"{name}.dist-info"
    folder.mkdir()
    (folder / "RECORD").write_text(record)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\n{requires}\n")


def install_other(site: Path) -> None:
    install(site, "iii_sdk-0.25.0", "../bin/x,,\niii/__init__.py,,\niii/engine.py,,\n")
    install(site, "motia-1.0.4rc1", "motia/__init__.py,,\n", "Requires-Dist: iii-sdk")
    install(site, "iii_sdk_extras-1.0", "extras/iii/a.py,,\n", "Requires-Dist: iii-sdk-core>=1")
    install(site, "maybe-1.0", "maybe.py,,\n", 'Requires-Dist: iii-sdk; extra == "worker"')


def call(site: Path, *args: str) -> subprocess.CompletedProcess[str]:
    folder = site.parent / "project"
    (folder / "steps").mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", MAIN, *args],
        env=os.environ | {"PYTHONPATH": str(site)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


def test_alone_it_has_nothing_to_say(site: Path) -> None:
    assert json.loads(call(site, "check", "--json").stdout) == {"ok": True, "problems": []}


def test_one_beside_it_is_named_with_what_requires_it(site: Path) -> None:
    install_other(site)
    done = call(site, "check", "--json")
    assert done.returncode == 0, done.stderr
    [warning] = json.loads(done.stdout)["warnings"]
    assert warning.startswith(
        'iii-sdk 0.25.0 installs a package "iii", too, and each overwrites files of the'
    )
    assert warning.endswith(f"one of them; {REMEDY}")


def test_an_engine_that_starts_beside_it_logs_it(site: Path) -> None:
    install_other(site)
    done = call(site, "run", "--steps", "gone", "--no-console")
    assert (done.returncode, 'iii-sdk 0.25.0 installs a package \\"iii\\", too' in done.stderr) == (1, True)


@pytest.mark.parametrize("text", ["class Worker: ...\n", "__version__ = '9'\n__all__ = ['Worker']\n"])
def test_one_over_it_is_named_by_every_command(site: Path, text: str) -> None:
    install_other(site)
    for name in ("__init__.py", "engine.py", "errors.py"):
        (site / "iii" / name).write_text(text)
    for args in ((), ("check",), ("--version",)):
        done = call(site, *args)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f'error: the package "iii" of iii-engine was overwritten by iii-sdk 0.25.0; {REMEDY}\n'
        )


def test_one_that_took_files_along_is_told_of(site: Path) -> None:
    for name in ("__init__.py", "engine.py", "errors.py"):
        (site / "iii" / name).unlink()
    done = call(site, "check")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        'error: the package "iii" of iii-engine lacks files: another one that installs it was removed; '
        "pip install --force-reinstall --no-deps iii-engine\n"
    )
