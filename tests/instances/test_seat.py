"""What an instance does when its supervisor is no more, whatever its handlers do."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from iii.errors import ConfigError, StoreFull, StoreGone
from iii.instances.seat import Line, Seat, Word

SCRIPT = """
import threading
from pathlib import Path
from iii.config import load
from iii.instances import seat

seat.GRACE_S = 0.0
told = seat.Line(seat.Seat.decoded({seat!r}))
told.guard()
told.watch(load(), lambda: print("left", flush=True))
told.ready(["up"], Path("data"), 0)
threading.Event().wait()
"""


def test_one_whose_supervisor_is_gone_and_whose_loop_is_blocked_ends_itself(tmp_path: Path) -> None:
    (tmp_path / "iii-config.yaml").write_text("console: {enabled: false}\nshutdown_timeout: 50ms\n")
    ours, theirs = socket.socketpair()
    seat = Seat(1, 2, (), theirs.fileno(), "text", False).encoded()
    with (
        theirs,
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(seat=seat)],
            cwd=tmp_path,
            pass_fds=(theirs.fileno(),),
            stdout=subprocess.PIPE,
        ) as instance,
    ):
        assert ours.recv(100) == b'{"ready":["up"],"store":"data"}\n'
        assert instance.poll() is None
        ours.close()
        assert instance.stdout is not None
        assert instance.stdout.readline() == b"left\n"
        assert instance.wait(30) == 1


def test_a_seat_arrives_as_it_was_sent() -> None:
    seat = Seat(3, 4, (5, 6), 7, "json", True, stores={"/data": 8})
    assert Seat.decoded(seat.encoded()) == seat


@pytest.mark.parametrize(
    ("error", "for_good", "gone"),
    [(ConfigError("no"), True, False), (StoreFull("no"), False, False), (StoreGone("no"), True, True)],
)
def test_a_refusal_says_whether_another_try_may_help(error: Exception, for_good: bool, gone: bool) -> None:
    import msgspec

    ours, theirs = socket.socketpair()
    line = Line(Seat(1, 2, (), theirs.detach(), "text", False))
    line.refuse(error)  # type: ignore[arg-type]
    assert msgspec.json.decode(ours.recv(100), type=Word) == Word(refused="no", for_good=for_good, gone=gone)
    ours.close()
    line.refuse(error)  # type: ignore[arg-type]
    line.close()
