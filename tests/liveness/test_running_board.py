"""The running board: exactly the messages whose handler has started, readable after any death."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii.clock import SystemClock
from iii.errors import StoreClosed
from iii.store.lmdb.liveness import OwnSession, Peer, mark_supervised, session_file


def test_the_board_survives_sigkill_with_exactly_the_started_ids(spawn, tmp_path: Path) -> None:
    owner = spawn("""
        own = OwnSession(folder, 7)
        for id in range(1, 3001): own.start(id)
        for id in range(1, 3001, 3): own.end(id)
        own.start(1 << 63)
        say("started")
        rest()
    """)
    owner.hears()
    owner.kill()
    expected = {id for id in range(1, 3001) if id % 3 != 1} | {1 << 63}
    assert sorted(Peer(tmp_path, 7).running_ids()) == sorted(expected)


@given(
    moves=st.lists(st.tuples(st.sampled_from(["start", "end"]), st.integers(1, 9)), max_size=60),
    slots=st.integers(1, 5),
)
def test_the_board_lists_what_runs_up_to_its_slots_and_counts_the_rest(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, int]], slots: int
) -> None:
    folder = tmp_path_factory.mktemp("data")
    own, peer = OwnSession(folder, 1, slots=slots), Peer(folder, 1)
    listed: list[int] = []
    surplus: list[int] = []
    for move, id in moves:
        getattr(own, move)(id)
        if move == "start" and id not in listed + surplus:
            (listed if len(listed) < slots else surplus).append(id)
        elif move == "end":
            listed = [each for each in listed if each != id]
            surplus = [each for each in surplus if each != id]
            while surplus and len(listed) < slots:
                listed.append(surplus.pop(0))
        assert sorted(own.running()) == sorted(peer.running_ids()) == sorted(listed)
        assert peer.unlisted == len(surplus)
    peer.close()
    own.close()


def test_a_board_of_an_earlier_boot_counts_against_nothing(tmp_path: Path, overwrite) -> None:
    own, peer = OwnSession(tmp_path, 7), Peer(tmp_path, 7)
    own.start(42)
    assert peer.running_ids() == [42]
    overwrite(session_file(tmp_path, 7, "board"), 4, 12345)
    assert peer.running_ids() == []
    own.close()


def test_a_death_by_the_supervisor_counts_against_nothing(spawn, tmp_path: Path) -> None:
    script = "own = OwnSession(folder, {0}); own.start({0}); say('open'); rest()"
    ended, other = spawn(script.format(7)), spawn(script.format(8))
    ended.hears()
    other.hears()
    assert mark_supervised(tmp_path, ended.pid) == 1
    ended.kill()
    other.kill()
    assert Peer(tmp_path, 7).supervised
    assert Peer(tmp_path, 7).running_ids() == []
    assert Peer(tmp_path, 8).running_ids() == [8]


def test_who_dies_may_say_which_of_its_messages_is_to_blame(spawn, tmp_path: Path) -> None:
    """Whether that has a slot or not. The others come back as they were, in an older version too."""
    script = """
        own = OwnSession(folder, {0}, slots=2)
        for id in (1, 2, 3): own.start(id)
        own.blame({1})
        say("open"); rest()
    """
    for session, blamed in enumerate(([2], [3], []), start=7):
        dying = spawn(script.format(session, blamed))
        dying.hears()
        dying.kill()
        peer = Peer(tmp_path, session)
        assert (peer.running_ids(), peer.unlisted) == (blamed, 0)
        peer.close()


def test_a_board_says_whether_it_is_a_quarantines_and_an_older_one_is_none(tmp_path: Path) -> None:
    for session, quarantine in ((7, True), (8, False)):
        own, peer = OwnSession(tmp_path, session, slots=3, quarantine=quarantine), Peer(tmp_path, session)
        board = peer.board()
        assert board is not None and board.quarantine is quarantine
        own.start(1)
        own.beat()
        assert board.quarantine is quarantine and board.running() == [1]
        peer.close()
        path = session_file(tmp_path, session, "board")
        path.write_bytes(path.read_bytes()[:-8])  # as an older version makes it
        older = peer.board()
        assert older is not None and not older.quarantine and older.running() == [1]
        peer.close()
        own.close()


def test_a_board_tells_when_its_loop_turned_and_which_instance_it_is(tmp_path: Path) -> None:
    own, peer = OwnSession(tmp_path, 7, number=256), Peer(tmp_path, 7)
    board = peer.board()
    assert board is not None and (board.turned_ms, board.number) == (0, 0), "as an older version leaves it"
    before_ms = SystemClock().delay_ms()
    own.turn()
    assert before_ms <= board.turned_ms <= SystemClock().delay_ms()
    assert board.number == 256
    own.beat()
    assert board.turned_ms <= SystemClock().delay_ms(), "a heartbeat is no turn"
    own.close()


def test_marking_a_process_that_is_gone_marks_nobody_who_had_its_pid(
    spawn, tmp_path: Path, overwrite
) -> None:
    owner = spawn("own = OwnSession(folder, 7); own.start(1); say('open'); rest()")
    owner.hears()
    overwrite(session_file(tmp_path, 7, "board"), 2, 1)  # as if that pid had been another process's
    assert mark_supervised(tmp_path, owner.pid) == 0
    owner.kill()
    assert Peer(tmp_path, 7).running_ids() == [1]
    assert mark_supervised(tmp_path, owner.pid) == 0


def test_a_new_board_leaves_the_one_a_peer_has_mapped_alone(tmp_path: Path) -> None:
    first = OwnSession(tmp_path, 7)
    first.start(1)
    peer = Peer(tmp_path, 7)
    assert peer.running_ids() == [1]
    first.close(remove=False)
    second = OwnSession(tmp_path, 7, slots=1)
    assert peer.running_ids() == [1]
    peer.close()
    assert peer.running_ids() == []
    second.close()


def test_a_board_has_its_blocks_before_it_is_mapped(tmp_path: Path) -> None:
    own = OwnSession(tmp_path, 7)
    status = session_file(tmp_path, 7, "board").stat()
    assert status.st_size == (16 + 4096 + 2 * 41 + 1) * 8
    assert status.st_blocks * 512 >= status.st_size
    own.close()


@pytest.mark.parametrize("content", [b"", b"\0" * 8 * 16, b"iiiboar9" + b"\0" * 8 * 20])
def test_a_board_cut_short_or_of_another_format_is_no_board(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sessions").mkdir()
    session_file(tmp_path, 7, "board").write_bytes(content)
    peer = Peer(tmp_path, 7)
    assert peer.process is None
    assert peer.running_ids() == []
    assert (peer.heartbeat, peer.supervised, peer.unlisted) == (None, False, 0)


def test_a_board_that_claims_more_slots_than_it_has_is_no_board(tmp_path: Path, overwrite) -> None:
    own = OwnSession(tmp_path, 7, slots=4)
    overwrite(session_file(tmp_path, 7, "board"), 10, 6)
    assert Peer(tmp_path, 7).process is None
    own.close()


def test_a_closed_session_refuses_to_be_used(tmp_path: Path) -> None:
    own = OwnSession(tmp_path, 7)
    own.close()
    for use in (own.beat, own.running, lambda: own.start(1)):
        with pytest.raises(StoreClosed):
            use()
