"""The delay clock over reboots, PID namespaces, network filesystems, and what /proc says of a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii.clock import SystemClock
from iii.errors import StoreIncompatible
from iii.store.lmdb import machine
from iii.store.lmdb.liveness import OwnSession, refuse_foreign, session_file
from iii.store.lmdb.machine import Anchor, BootClock, anchor, refuse_network_filesystem

HOUR = 3_600_000
NOW = 1_767_225_600_000


def test_a_new_store_counts_from_the_boot() -> None:
    assert anchor("a", None, 5_000, NOW) == 0


def test_within_one_boot_the_offset_stays() -> None:
    assert anchor("a", Anchor("a", 123, 10, 20), 5_000, NOW) == 123


def test_after_a_reboot_the_clock_goes_on_with_the_time_the_machine_was_off() -> None:
    stored = Anchor("a", 0, last_delay_ms=10 * HOUR, last_wall_ms=NOW)
    offset = anchor("b", stored, 30_000, NOW + 2 * HOUR)
    assert 30_000 + offset == 12 * HOUR


def test_a_wall_clock_set_back_over_a_reboot_does_not_turn_it_back() -> None:
    stored = Anchor("a", 0, last_delay_ms=10 * HOUR, last_wall_ms=NOW)
    assert 30_000 + anchor("b", stored, 30_000, 0) == 10 * HOUR


times = st.integers(0, 1 << 45)


@given(st.lists(st.tuples(times, times, times), min_size=1, max_size=6))
def test_it_never_goes_back_over_any_number_of_boots(boots: list[tuple[int, int, int]]) -> None:
    """Each boot: (uptime when opened, uptime until the last reading, whatever the wall clock says)."""
    stored: Anchor | None = None
    for number, (opened_ms, ran_ms, wall_ms) in enumerate(boots):
        name = str(number)
        offset = anchor(name, stored, opened_ms, wall_ms)
        if stored is not None:
            elapsed = max(0, wall_ms - stored.last_wall_ms)
            assert opened_ms + offset == stored.last_delay_ms + elapsed
        stored = Anchor(name, offset, opened_ms + ran_ms + offset, wall_ms + ran_ms)
        assert anchor(name, stored, opened_ms + ran_ms, 0) == offset


def test_the_boot_clock_is_the_system_clock_moved() -> None:
    before = SystemClock().delay_ms()
    moved = BootClock(-7 * HOUR).delay_ms() + 7 * HOUR
    assert before <= moved <= SystemClock().delay_ms()


def test_a_living_session_of_another_pid_namespace_is_refused(spawn, tmp_path: Path, overwrite) -> None:
    owner = spawn("own = OwnSession(folder, 7); say('open'); rest()")
    owner.hears()
    refuse_foreign(tmp_path)
    overwrite(session_file(tmp_path, 7, "board"), 3, 12345)
    with pytest.raises(StoreIncompatible, match=r"session 7 .*PID namespace"):
        refuse_foreign(tmp_path)
    owner.kill()
    refuse_foreign(tmp_path)


def test_a_folder_without_sessions_is_nobody_elses(tmp_path: Path) -> None:
    refuse_foreign(tmp_path)
    own = OwnSession(tmp_path, 7)
    refuse_foreign(tmp_path)
    own.close()


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:20 / /proc rw - proc proc rw
40 22 0:40 / /mnt rw shared:5 master:2 - {kind} server:/export rw,vers=4
41 40 0:41 / /mnt/with\\040blank rw - {kind} server:/export rw
42 40 254:1 / /mnt/local rw - xfs /dev/vdb rw
"""
NETWORK = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "ceph",
    "glusterfs",
    "lustre",
    "afs",
    "fuse.sshfs",
    "fuse.s3fs",
]
LOCAL = ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuse.mergerfs", "fuseblk", "virtiofs", "nfsd"]


@pytest.mark.parametrize("kind", NETWORK)
def test_a_network_filesystem_is_refused_with_its_name_and_a_remedy(kind: str) -> None:
    mounts = MOUNTS.format(kind=kind)
    for path in ("/mnt", "/mnt/a/data", "/mnt/with blank/data", "/mnt/localhost/data"):
        with pytest.raises(StoreIncompatible, match=rf"{kind}, mounted at /mnt.*local disk"):
            refuse_network_filesystem(Path(path), mounts)
    for path in ("/mnt/local", "/mnt/local/data", "/", "/home/data", "/mntx"):
        refuse_network_filesystem(Path(path), mounts)


@pytest.mark.parametrize("kind", LOCAL)
def test_a_local_filesystem_is_taken(kind: str) -> None:
    refuse_network_filesystem(Path("/mnt/data"), MOUNTS.format(kind=kind))


def test_what_is_mounted_last_over_a_folder_counts() -> None:
    over = MOUNTS.format(kind="nfs") + "50 40 254:2 / /mnt rw - ext4 /dev/vdc rw\n"
    refuse_network_filesystem(Path("/mnt/data"), over)


def test_this_machines_own_mounts_can_be_read(tmp_path: Path) -> None:
    refuse_network_filesystem(tmp_path / "not" / "yet" / "there")


def test_a_process_is_told_by_its_state_and_start(spawn) -> None:
    child = spawn("say('here'); rest()")
    child.hears()
    running, me = machine.process_stat(child.pid), machine.process_stat(os.getpid())
    assert running is not None
    assert me is not None
    assert not running.stopped
    assert running.start >= me.start
    child.stop()
    assert machine.process_stat(child.pid) == ("T", running.start, os.getpid())
    child.kill()
    assert machine.process_stat(child.pid) is None  # a zombie
    child.exit_code()
    assert machine.process_stat(child.pid) is None
    assert machine.open_pidfd(child.pid) is None


def test_a_name_with_blanks_and_parentheses_does_not_confuse(spawn) -> None:
    child = spawn("Path('/proc/self/comm').write_text(') R 1 (x'); say('here'); rest()")
    plain = machine.process_stat(child.pid)
    child.hears()
    odd = machine.process_stat(child.pid)
    assert plain is not None
    assert odd is not None
    assert odd.start == plain.start


def test_kill_takes_the_very_process_or_nobody(spawn) -> None:
    child = spawn("say('here'); rest()")
    child.hears()
    stat = machine.process_stat(child.pid)
    assert stat is not None
    pidfd = machine.open_pidfd(child.pid)
    assert pidfd is not None
    assert not machine.kill_process(child.pid, stat.start + 1, pidfd)
    assert child.runs
    assert machine.kill_process(child.pid, stat.start, pidfd)
    assert child.exit_code() == -9
    assert not machine.kill_process(child.pid, stat.start, pidfd)
    os.close(pidfd)


def test_kill_works_where_the_kernel_offers_no_pidfd(spawn) -> None:
    child = spawn("say('here'); rest()")
    child.hears()
    stat = machine.process_stat(child.pid)
    assert stat is not None
    assert machine.kill_process(child.pid, stat.start, None)
    assert child.exit_code() == -9
