"""Ways for a store to have no room, and to have some again. Each works with and without root's rights."""

from __future__ import annotations

import os
import resource
import subprocess
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

import pytest

from iii.store.lmdb import room

CHUNK = bytes(1 << 20)


class Disk(ABC):
    """`folder` is where the store may lie; `map_size` what its configuration says."""

    map_size = "1GiB"
    keeps_room_for_settlements = True

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._monkeypatch = folder, monkeypatch

    @abstractmethod
    def fill(self) -> None:
        """From now on there is no room for new work."""

    @abstractmethod
    def free(self) -> None:
        """There is room again."""

    def remove(self) -> None:  # noqa: B027
        """The test is over."""


class SmallDisk(Disk):
    """Less is free than the store wants to keep: on a disk of its own, or else by what it wants to keep."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, monkeypatch)
        self._filler = folder / "filler"
        command = ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(folder)]
        self._mounted = os.geteuid() == 0 and not subprocess.run(command, capture_output=True).returncode

    def fill(self) -> None:
        if not self._mounted:
            (used_max, _), effects = room.LEVELS
            self._monkeypatch.setattr(room, "LEVELS", ((used_max, 1 << 60), effects))
            return
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize
        with self._filler.open("wb") as file:
            for _ in range((free - room.LEVELS[0][1]) // len(CHUNK) + 1):
                file.write(CHUNK)

    def free(self) -> None:
        if not self._mounted:
            self._monkeypatch.undo()
            return
        self._filler.unlink()

    def remove(self) -> None:
        if self._mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


class FullDisk(Disk):
    """Not a byte more goes into any file: what another program leaves when it takes what was kept."""

    keeps_room_for_settlements = False

    def fill(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = (self.folder / "data" / "data.mdb").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, self._before[1]))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)

    def remove(self) -> None:
        with suppress(AttributeError):
            self.free()


class SmallMap(Disk):
    """The file is as large as it may become; it has room again when what it holds is done."""

    map_size = "8MiB"

    def fill(self) -> None:
        """By the work itself."""

    def free(self) -> None:
        """By the settlements."""


DISKS: dict[str, type[Disk]] = {"a small disk": SmallDisk, "a full disk": FullDisk, "a full map": SmallMap}
