"""What is written to a pipe that nobody reads, or whose reader has gone: nothing waits for it for ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from iii.observe.streams import Patient


class Pipe(NamedTuple):
    reads: int
    stream: Patient

    def read(self) -> bytes:
        return os.read(self.reads, 1 << 20)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reads, writes = os.pipe()
    yield Pipe(reads, Patient(writes, patience_s=0.0))
    for fd in (reads, writes):
        try:
            os.close(fd)
        except OSError:
            assert fd == reads, "a test closes the reader alone"


def fill(stream: Patient) -> None:
    while not stream.lost:
        stream.write(b"x" * 4095 + b"\n")


def test_lines_that_a_full_pipe_has_no_room_for_are_lost_and_their_number_is_told(pipe: Pipe) -> None:
    fill(pipe.stream)
    pipe.stream.write(b"two\nlines\n")
    assert pipe.stream.lost == 3
    assert b"two" not in pipe.read()
    pipe.stream.write(b"there is room again\n")
    assert pipe.read() == b"\niii: 3 lines were lost here: nobody read them\nthere is room again\n"
    assert pipe.stream.lost == 0


def test_what_a_reader_that_went_away_would_have_got_is_lost(pipe: Pipe) -> None:
    os.close(pipe.reads)
    assert pipe.stream.write(b"nobody\n") == len(b"nobody\n")


def test_a_full_disk_fails_no_writer() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        assert Patient(full.fileno()).write(b"lost\n") == len(b"lost\n")
