"""A rolling upgrade under load: the first release's engines give way to ours, and back, on one data folder.

    python tests/crash/roll.py [--instances 3] [--seed N]

Each engine that is killed, stopped or asked to end is followed by one of the version that the stage wants:

    old     all are of the first release; a backup is taken by its `iii`
    mixed   the dice choose
    new     all are ours
    old     the way back: within a format that is promised, too
    new     where it ends

Then the reckoning of kill_loop.py, and our engine runs what waits in that backup. Ends with 1 where anything
acknowledged was lost or doubled, or `iii check` is not clean. The first release is built from the history
of this repository into build/, once: without a history there is nothing to roll from.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from crash_kit import Project, until
from fleet import Separate, Tormentor
from kill_loop import CONFIG, Plan, report, settle, under_load

ROOT = Path(__file__).parents[2]
FIRST = "a04e96a"
BUILD_S, BACKUP_S, STAGE_S = 600.0, 60.0, 120.0
MIXED_KILLS = 6
OLD, NEW, MIXED = "old", "new", "mixed"


class Rolling(Separate):
    """Each successor is of the version that is wanted by then."""

    def __init__(self, project: Project, ports: list[int], first: str, dice: random.Random) -> None:
        self.project = project
        self._pythons, self._dice = {OLD: first, NEW: sys.executable}, dice
        self.wanted = OLD
        self.started: Counter[str] = Counter()
        super().__init__(project, ports)

    def python_of_the_next(self) -> str:
        version = self._dice.choice([OLD, NEW]) if self.wanted == MIXED else self.wanted
        self.started[version] += 1
        return self._pythons[version]

    def is_whole(self) -> bool:
        """Whether all that run are of the version that is wanted."""
        python = self._pythons[self.wanted]
        return all(engine.process.args[0] == python for engine, _ in self._engines.values())  # type: ignore[index]


async def roll(plan: Plan, folder: Path, first: str) -> int:
    backup = folder / "backup"
    fleets: list[Rolling] = []

    def made(project: Project, ports: list[int]) -> Rolling:
        fleets.append(Rolling(project, ports, first, random.Random(plan.seed)))
        return fleets[0]

    async def there_and_back(torment: Tormentor) -> None:
        (fleet,) = fleets
        await torment.run(1, STAGE_S)
        await asyncio.to_thread(_back_up, first, fleet.project.folder, backup)
        for wanted in (MIXED, NEW, OLD, NEW):
            fleet.wanted = wanted
            if wanted == MIXED:
                await torment.run(torment.sent["SIGKILL"] + MIXED_KILLS, STAGE_S)
            while wanted != MIXED and not fleet.is_whole():
                await torment.run(torment.sent["SIGKILL"] + 1, STAGE_S)
            await until(lambda: len(torment.up()) == plan.instances, f"all {wanted} up", fleet.project.said)
            print(f"  {wanted:6} {dict(fleet.started)} started, {dict(torment.sent)} so far", flush=True)

    result = await under_load(plan, folder / "project", made, there_and_back)
    print(report(result))
    wrong = [*result.failed, *await _restored(folder / "restored", backup)]
    for each in wrong:
        print(f"  ! {each}")
    return 1 if wrong else 0


def _back_up(python: str, folder: Path, target: Path) -> None:
    command = [python, "-m", "iii", "backup", str(target)]
    subprocess.run(command, cwd=folder, check=True, timeout=BACKUP_S, stdout=subprocess.DEVNULL)


async def _restored(folder: Path, backup: Path) -> list[str]:
    """Run the first release's backup with our engine; what is wrong with what it made of it."""
    folder.mkdir()
    project = Project(folder, "load_steps", CONFIG)
    shutil.copytree(backup, folder / "data")
    (folder / "data").chmod(0o700)  # the first release left it open to others
    try:
        async with project.store() as store:
            waited = sum(row.ready + row.later + row.behind + row.leased for row in store.stats())
            engine = project.start("--port", "0")
            await engine.address()
            wrong = await settle(store)
            engine.ask_to_stop()
            code = await engine.died()
    finally:
        project.clean_up()
    print(f"  a backup of the first release with {waited:,} messages that waited: run by ours")
    checked = project.check()
    if code or checked.returncode:
        wrong.append(f"restored: the engine exits {code}, iii check: {checked.stdout}{checked.stderr}")
    return wrong


def built(commit: str) -> str:
    """The interpreter of an environment of its own with that commit's `iii`."""
    version = ".".join(map(str, sys.version_info[:2]))
    folder = ROOT / "build" / f"{commit}-{version}"
    python = folder / "venv/bin/python"
    if (folder / "done").exists():
        return str(python)
    archive = subprocess.run(["git", "archive", "--format=tar", commit], cwd=ROOT, capture_output=True)
    if archive.returncode:
        said = archive.stderr.decode().strip()
        raise SystemExit(
            f"roll: commit {commit} is not in this checkout ({said}); fetch the whole history: "
            "git fetch --unshallow --tags"
        )
    shutil.rmtree(folder, ignore_errors=True)
    source = folder / "source"
    source.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", source], input=archive.stdout, check=True)
    _install(source, python)
    (folder / "done").touch()
    return str(python)


def _install(source: Path, python: Path) -> None:
    quiet = ("--quiet", "--disable-pip-version-check")
    commands = [
        [sys.executable, "-m", "venv", str(python.parents[1])],
        [str(python), "-m", "pip", "install", *quiet, "-c", str(source / "constraints.txt"), str(source)],
    ]
    for command in commands:
        subprocess.run(command, check=True, timeout=BUILD_S)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Roll from the first release to this one and back, under load."
    )
    parser.add_argument("--instances", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    given = parser.parse_args()
    first = built(FIRST)
    folder = Path(tempfile.mkdtemp(prefix="iii-roll-"))
    plan = Plan(0, given.instances, STAGE_S, given.seed, pause_s=0.3, long_stops=0.0)
    print(f"from {FIRST} to this version and back, seed {given.seed}", flush=True)
    code = asyncio.run(roll(plan, folder, first))
    if code:
        print(f"  everything is left in {folder}")
    else:
        shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())
