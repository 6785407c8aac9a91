"""What the kernel says about this machine, its processes and its filesystems. Linux with /proc.

Must not know sessions or tables. A process is the pair (pid, start time in clock ticks since boot):
a pid alone may name another process a moment later.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from pathlib import Path
from typing import NamedTuple

from iii.clock import SystemClock
from iii.errors import StoreIncompatible

__all__ = [
    "Anchor",
    "BootClock",
    "ProcessStat",
    "anchor",
    "boot_id",
    "kill_process",
    "open_pidfd",
    "pid_namespace",
    "process_stat",
    "refuse_network_filesystem",
]


def boot_id() -> str:
    """A UUID of this boot of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError as error:
        raise StoreIncompatible(f"the LMDB store needs Linux with /proc mounted: {error}") from error


def pid_namespace() -> int:
    """The inode that names the PID namespace of this process."""
    return os.stat("/proc/self/ns/pid").st_ino


# ----------------------------------------------------------------------------------------- processes


class ProcessStat(NamedTuple):
    """`state`: R, S, D (alive), T, t (stopped, traced) and so on; `start`: clock ticks since boot;
    `parent`: its pid."""

    state: str
    start: int
    parent: int

    @property
    def stopped(self) -> bool:
        return self.state in "Tt"


def process_stat(pid: int) -> ProcessStat | None:
    """None where no such process runs; a zombie runs no more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(b")")[2].split()  # the name before may hold blanks and parentheses
    state = fields[0].decode()
    return None if state in "ZXx" else ProcessStat(state, int(fields[19]), int(fields[1]))


def open_pidfd(pid: int) -> int | None:
    """A descriptor that turns readable when the process ends. None: it has, or the kernel offers none."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENODEV):
            return None
        raise


def kill_process(pid: int, start: int, pidfd: int | None) -> bool:
    """SIGKILL the process (pid, start) and no other. `pidfd` was opened before `start` is compared here.

    Without a pidfd the pid could in theory change hands between the comparison and the signal.
    """
    stat = process_stat(pid)
    if stat is None or stat.start != start:
        return False
    try:
        if pidfd is None:
            os.kill(pid, signal.SIGKILL)
        else:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


# ------------------------------------------------------------------------------------------ the clock


class Anchor(NamedTuple):
    """The stored state of the delay clock: which boot it was anchored in, and the last readings written."""

    boot_id: str
    offset_ms: int  # may be negative
    last_delay_ms: int
    last_wall_ms: int


def anchor(boot_id_now: str, stored: Anchor | None, boottime_ms: int, wall_ms: int) -> int:
    """The offset in ms of the delay clock to CLOCK_BOOTTIME: one per boot, equal in all instances.

    After a reboot the clock goes on from its last stored reading plus the wall time that passed since;
    where the wall clock was set back meanwhile, from the reading itself. It never goes back.
    """
    if stored is None:
        return 0
    if stored.boot_id == boot_id_now:
        return stored.offset_ms
    return stored.last_delay_ms + max(0, wall_ms - stored.last_wall_ms) - boottime_ms


class BootClock(SystemClock):
    """The system's clocks, the delay clock moved by the offset of `anchor`."""

    def __init__(self, offset_ms: int) -> None:
        self.offset_ms = offset_ms

    def delay_ms(self) -> int:
        return super().delay_ms() + self.offset_ms


# ---------------------------------------------------------------------------------------- filesystems

_NETWORK_FILESYSTEMS = re.compile(
    r"(nfs\d*|cifs|smb\w*|ncpfs|9p|afs|auristorfs|coda|ceph|glusterfs|lustre|gfs2?|ocfs2|beegfs|gpfs|pvfs2"
    r"|orangefs|davfs\d*|acfs|panfs|wekafs"
    r"|fuse\.(sshfs|glusterfs|ceph\S*|s3fs|s3ql|gcsfuse|goofys|rclone|juicefs|seaweedfs|moosefs|mfs|lizardfs"
    r"|smbnetfs|curlftpfs|davfs2|gvfsd-fuse|nfs\S*|mount-s3|blobfuse\d*|objectivefs))"
)
_OCTAL = re.compile(r"\\([0-7]{3})")


def refuse_network_filesystem(path: Path, mountinfo: str | None = None) -> None:
    """StoreIncompatible where `path` (which need not exist yet) lies on a filesystem of another machine.

    There, neither locks nor shared mappings hold what the store builds on. `mountinfo`: the text to
    look in instead of /proc/self/mountinfo.
    """
    if mountinfo is None:
        mountinfo = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    kind, mounted_at = _filesystem_of(path.resolve(), mountinfo)
    if _NETWORK_FILESYSTEMS.fullmatch(kind):
        raise StoreIncompatible(
            f"{path} is on a network filesystem ({kind}, mounted at {mounted_at}), where the store's locks "
            f"and shared memory do not work: set `store: {{path: ...}}` to a folder on a local disk"
        )


def _filesystem_of(path: Path, mountinfo: str) -> tuple[str, Path]:
    """(type, mount point) of what is mounted last at the nearest folder above `path` (proc(5), mountinfo)."""
    kind, mounted_at = "", Path("/")
    for line in mountinfo.splitlines():
        place, _, source = line.partition(" - ")
        point = Path(_OCTAL.sub(lambda digits: chr(int(digits[1], 8)), place.split(" ")[4]))
        if path.is_relative_to(point) and len(point.parts) >= len(mounted_at.parts):
            kind, mounted_at = source.split(" ")[0], point
    return kind, mounted_at
