"""What the kernel says: of this machine, and of one process."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def machine() -> dict[str, object]:
    """What a figure depends on besides the code."""
    return {
        "cpus": os.cpu_count(),
        "cpu": _cpu(),
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        "python": platform.python_version(),
        "system": platform.platform(),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def commit() -> str:
    """The commit measured; "+" behind it where the tree holds more than that."""
    named = _git("rev-parse", "HEAD")
    return named + ("+" if named and _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*args: str) -> str:
    try:
        asked = subprocess.run(["git", *args], capture_output=True, text=True, check=False, cwd=ROOT)
    except FileNotFoundError:
        return ""
    return asked.stdout.strip()


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


# ----------------------------------------------------------------------------------------- one process


def rss_anon_mib(pid: int) -> float:
    """Memory of its own: neither the store's mapped file nor the programs' code."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"no RssAnon of process {pid}")


def engines(pid: int) -> list[int]:
    """The processes that run an engine for the `iii run` of this pid: itself, or the instances it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children] or [pid]


def cpu_s(pid: int) -> float:
    """Seconds on a processor, all threads, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def voluntary_switches(pid: int) -> int:
    """How often its threads went to sleep by themselves."""
    return sum(
        int(line.split()[1])
        for task in Path(f"/proc/{pid}/task").iterdir()
        for line in (task / "status").read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches:")
    )
