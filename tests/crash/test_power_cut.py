"""The power cut in its short form: at a new store, when something was just acknowledged, and at random."""

from __future__ import annotations

import random

from power_cut import live_on_after, record_life, scratch
from power_disk import Disk, Event, cuts


def write(number: int, offset: int, content: bytes, at_ns: int = 0) -> Event:
    return Event("write", 1, at_ns, offset, content, number)


def named_disk() -> Disk:
    disk = Disk()
    disk.apply(Event("naming", 1, 0))
    disk.apply(Event("named", 1, 0))
    return disk


def test_a_file_is_there_once_its_folder_was_synced() -> None:
    disk = Disk()
    disk.apply(write(1, 0, b"aaaa"))
    disk.apply(Event("sync", 1, 0))
    assert disk.image(lambda: True) is None
    disk.apply(Event("naming", 1, 0))
    assert (disk.image(lambda: False), disk.image(lambda: True)) == (None, b"aaaa")
    disk.apply(Event("named", 1, 0))
    assert disk.image(lambda: False) == b"aaaa"


def test_only_what_was_synced_is_sure() -> None:
    disk = named_disk()
    disk.apply(write(1, 0, b"aaaa"))
    assert disk.image(lambda: False) == b""
    assert disk.image(lambda: True) == b"aaaa"
    disk.apply(Event("sync", 1, 0))
    disk.apply(write(2, 4, b"bbbb"))
    disk.apply(write(3, 2, b"cc"))
    assert disk.image(lambda: False) == b"aaaa"
    disk.apply(Event("synced", 1, 0, number=3))
    assert disk.image(lambda: False) == b"aacc", "a write through O_DSYNC is sure by itself"
    assert disk.image(lambda: True) == b"aaccbbbb"


def test_a_write_is_torn_at_its_sectors() -> None:
    disk = named_disk()
    disk.apply(write(1, 256, b"x" * 1024))
    kept = iter([False, True, False])
    assert disk.image(lambda: next(kept)) == bytes(512) + b"x" * 512
    assert next(kept, None) is None, "256 to 512, 512 to 1024, 1024 to 1280"


def test_a_cut_lies_before_the_next_event() -> None:
    named = [Event("naming", 1, 1), Event("named", 1, 2)]
    events = [*named, write(1, 0, b"a", at_ns=10), Event("sync", 1, 20), write(2, 1, b"b", at_ns=30)]
    found = list(cuts(events, [0, 1, 2, 3], random.Random(1), torn=0))
    assert [(cut.number, cut.before_ns, cut.image) for cut in found] == [
        (0, 2, None),
        (0, 2, b""),
        (1, 10, b""),
        (2, 20, b""),
        (2, 20, b"a"),
        (3, 30, b"a"),
    ]


def test_what_was_acknowledged_survives_a_power_cut() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    with scratch() as folder:
        events, acknowledged = record_life(folder / "life")
        assert len(acknowledged) > 15
        just_told = {sum(event.at_ns < at for event in events) - 1 for at, _ in acknowledged}
        made = next(number for number, event in enumerate(events) if event.kind == "naming")
        numbers = just_told | set(range(made - 1, made + 8)) | set(dice.sample(range(len(events)), 12))
        for cut in cuts(events, numbers, dice, torn=1):
            assert live_on_after(cut, acknowledged, folder / "image") is None
