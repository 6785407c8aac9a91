"""The last hour outlives the process that saw it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from iii.clock import FakeClock
from iii.model import Enqueue, Txn
from iii.observe.hour import HOUR_MS, IDLE_POINTS_MAX, POINT_S, POINTS_MAX, Hour, Point
from iii.observe.metering import Metering
from iii.observe.meters import Figures
from iii.store.memory import MemoryStore

NOW_MS = 1_767_225_600_000
STEP_MS = POINT_S * 1000


def point(at_ms: int, done: int = 1) -> Point:
    return Point(at_ms, done, 0, 0, 0, 3, 0, None, None)


def kept(folder: Path, points: Iterable[Point]) -> Hour:
    hour = Hour(folder)
    hour.open(NOW_MS)
    for each in points:
        hour.add(each)
        hour.keep(hour.take())
    return hour


def read(folder: Path, wall_ms: int = NOW_MS) -> list[int]:
    """How many were done in each point of the hour that somebody who starts now sees."""
    hour = Hour(folder)
    hour.open(wall_ms)
    return [each.done for each in hour.points]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "metrics").mkdir()
    return tmp_path


async def test_who_starts_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    store = MemoryStore(clock=(clock := FakeClock()))
    await store.open()
    for number in (1, 2):
        metering = Metering(store, Figures(), tmp_path)
        metering.start()
        await store.commit(Txn([Enqueue("jobs", b"1")]))
        clock.advance(STEP_MS)
        metering.look()
        assert [each.depth for each in metering.hour] == list(range(1, number + 1))
        await metering.stop()
    await store.close()


def test_one_of_several_keeps_the_points_and_another_goes_on_when_it_is_gone(folder: Path) -> None:
    keeper, other = kept(folder, [point(NOW_MS - 3, 1)]), Hour(folder)
    other.open(NOW_MS)
    for at_ms, done in ((NOW_MS - 2, 2), (NOW_MS - 1, 3)):
        for hour in (keeper, other):
            hour.add(point(at_ms, done))
            hour.keep(hour.take())
    assert read(folder) == [1, 2, 3], "each point once"
    keeper.close()
    other.add(point(NOW_MS, 4))
    other.keep(other.take())
    assert read(folder) == [1, 2, 3, 4]


def test_points_of_more_than_an_hour_ago_or_of_tomorrow_are_left_out(folder: Path) -> None:
    kept(folder, [point(NOW_MS - HOUR_MS + 1, 1), point(NOW_MS - 1, 2)]).close()
    assert read(folder) == [1, 2]
    assert read(folder, NOW_MS + 1) == [2]
    assert read(folder, NOW_MS - 2) == [1], "the clock was set back"
    assert read(folder, NOW_MS + 2 * HOUR_MS) == []


@pytest.mark.parametrize("damage", ["gone", "cut", "noise", "foreign", "folder"])
def test_a_damaged_file_costs_its_own_lines_alone(folder: Path, damage: str) -> None:
    hour = kept(folder, [point(NOW_MS - 3, 1), point(NOW_MS - 2, 2)])
    file = folder / "metrics" / "hour.jsonl"
    content = file.read_bytes()
    if damage in ("gone", "folder"):
        file.unlink()
    if damage == "folder":
        file.mkdir()
        with pytest.raises(OSError, match="directory"):
            read(folder)
        return
    if damage != "gone":
        spoilt = {
            "cut": content[:-20],
            "noise": content + b"\xff\x00{[",
            "foreign": content + b'{"at_ms": "?"}',
        }
        file.write_bytes(spoilt[damage])
    hour.add(point(NOW_MS - 1, 3))
    hour.keep(hour.take())
    assert read(folder) == {"gone": [3], "cut": [1, 3]}.get(damage, [1, 2, 3])
    hour.close()
    kept(folder, [point(NOW_MS, 4)]).close()
    assert read(folder)[-2:] == [3, 4]


async def test_no_file_where_there_is_a_folder_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "metrics" / "hour.jsonl").mkdir(parents=True)
    store = MemoryStore(clock=FakeClock())
    await store.open()
    metering = Metering(store, Figures(), tmp_path)
    metering.start()
    await store.commit(Txn([Enqueue("jobs", b"1")]))
    metering.look()
    assert [each.depth for each in metering.hour] == [1]
    await metering.stop()
    await store.close()


def test_the_file_and_the_memory_are_bounded(folder: Path) -> None:
    hour = kept(folder, (point(NOW_MS + number * STEP_MS) for number in range(3 * POINTS_MAX)))
    assert len(hour.points) == POINTS_MAX
    lines = (folder / "metrics" / "hour.jsonl").read_bytes().split()
    assert len(lines) <= 2 * POINTS_MAX + 1
    hour.close()


def test_while_nothing_happens_it_is_written_once_a_minute(folder: Path) -> None:
    hour = Hour(folder)
    for number in range(IDLE_POINTS_MAX):
        hour.add(point(NOW_MS + number, 0))
        taken = hour.take()
        assert len(taken) == (IDLE_POINTS_MAX if number == IDLE_POINTS_MAX - 1 else 0)
    hour.add(point(NOW_MS, 0))
    hour.add(point(NOW_MS, 1))
    assert len(hour.take()) == 2 and hour.take() == []
