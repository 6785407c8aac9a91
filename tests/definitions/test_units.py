"""Durations, sizes, names."""

from __future__ import annotations

import pytest

from iii.formats.units import (
    duration_ms,
    duration_text,
    is_name,
    nearest,
    rough_text,
    shown,
    size_bytes,
    size_text,
)


@pytest.mark.parametrize(
    ("written", "ms"),
    [(5000, 5000), (0, 0), ("5000", 5000), ("250ms", 250), ("5s", 5000), ("2m", 120_000), ("2min", 120_000),
     ("1h", 3_600_000), ("7d", 604_800_000), ("1.5h", 5_400_000), (" 5 S ", 5000)],
)  # fmt: skip
def test_durations(written: object, ms: int) -> None:
    assert duration_ms(written) == ms


@pytest.mark.parametrize(
    ("written", "size"),
    [(4096, 4096), ("64KiB", 65_536), ("1MB", 10**6), ("1.5GiB", 3 << 29), ("10b", 10), ("1 tib", 1 << 40)],
)
def test_sizes(written: object, size: int) -> None:
    assert size_bytes(written) == size


@pytest.mark.parametrize(
    "written", [-1, 1.5, True, None, "", "s", "5y", "-5s", "1e3", "５s", "5s5s", [], "9" * 99]
)
def test_what_is_no_duration_says_what_one_is(written: object) -> None:
    with pytest.raises(ValueError, match=r'expected a duration: .*"5s", "2m", "1h", "7d"; got '):
        duration_ms(written)


@pytest.mark.parametrize("written", [-1, True, "64QB", "KiB", "1,5MB"])
def test_what_is_no_size_says_what_one_is(written: object) -> None:
    with pytest.raises(ValueError, match=r'expected a size: bytes, or .*"64KiB"'):
        size_bytes(written)


def test_blanks_without_end_are_no_duration_and_take_no_time_to_tell() -> None:
    """A reader that tries them again and again never returns."""
    with pytest.raises(ValueError, match="expected a duration"):
        duration_ms("1" + " " * 1_000_000 + "!")
    assert duration_ms(" " * 1_000_000 + "5 s" + " " * 1_000_000) == 5_000


def test_durations_are_written_back_in_their_largest_unit() -> None:
    assert [duration_text(ms) for ms in (0, 1, 5000, 90_000, 3_600_000, 86_400_000)] == [
        "0ms", "1ms", "5s", "90s", "1h", "1d",
    ]  # fmt: skip


def test_people_read_durations_in_two_units_and_sizes_in_the_largest() -> None:
    spans = (0, 999, 1000, 59_999, 60_000, 7_058_000, 86_400_000 + 3_600_000, 90_061_000, 86_401_000)
    assert [rough_text(ms) for ms in spans] == [
        "0ms", "999ms", "1s", "59s", "1m", "1h 57m", "1d 1h", "1d 1h", "1d",
    ]  # fmt: skip
    assert [size_text(size) for size in (0, 1, 1024, 70_000, 3 << 20, 64 << 30)] == [
        0, 1, "1KiB", 70_000, "3MiB", "64GiB",
    ]  # fmt: skip


def test_names() -> None:
    assert all(map(is_name, ["a", "message.sent", "A:b_c-d", "x" * 128]))
    assert not any(map(is_name, ["", "a b", "a/b", "$cron", "é", "x" * 129, "a\n"]))


def test_the_nearest_word() -> None:
    assert nearest("Prot", ["port", "host"]) == "port"
    assert nearest("zzz", ["port", "host"]) is None


def test_a_value_in_a_message_fits_a_line() -> None:
    assert shown("abc") == 'string "abc"'
    assert shown(None) == "nothing (null)"
    assert len(shown("x" * 1000)) < 80
