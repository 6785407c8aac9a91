"""An engine that is started while those of before still end: it waits for its port, and for nobody else's."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import closing

import pytest
from deadline import until
from instances_kit import STEP, Project, runs

BLOCKS = STEP.replace(
    "    while not",
    """    import time
    while not (HERE / "gates" / given).exists():
        time.sleep(0.005)
    while not""",
)
"""The loop stands still until the gate opens: its instance cannot notice that its supervisor is gone."""


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("instances", ["1", "2"])
@pytest.mark.parametrize("option", ["--port", "--console-port"])
def test_a_supervisor_that_is_killed_and_started_anew_waits_for_the_instances_it_left(
    project: Project, option: str, instances: str
) -> None:
    project.write_step(BLOCKS)
    port = str(free_port())
    killed = project.start("--instances", "2", option, port)
    killed.post("a", "b")
    until(lambda: len(project.starts()) == 2, "two handlers that hold their loops")
    left = killed.children()
    killed.signal(signal.SIGKILL)
    killed.ended()
    heir = project.start("--instances", instances, option, port)
    heir.until_logged(f"Port {port} is held by instances of before that end")
    assert all(map(runs, left)) and not heir.children()
    project.open_gate("a")
    project.open_gate("b")
    heir.until_ready()
    heir.signal(signal.SIGTERM)
    assert heir.ended() == 0, heir.told
    assert project.effects() == {"a": 1, "b": 1}


def test_one_that_had_not_begun_when_its_supervisor_was_killed_is_gone_at_once(project: Project) -> None:
    project.write_step(
        "import os, threading\nprint(os.getpid(), flush=True)\nthreading.Event().wait()\n", "slow"
    )
    killed = project.start("--instances", "2")
    until(lambda: len(killed.children()) == 2, "two that start")
    left = killed.children()
    killed.signal(signal.SIGKILL)
    until(lambda: not any(map(runs, left)), "their end")


def test_a_port_of_instances_that_have_their_supervisor_is_refused_at_once(project: Project) -> None:
    port = str(free_port())
    engines = project.start("--instances", "2", "--port", port).until_ready()
    for instances in ("1", "2"):
        refused = project.iii("run", "--instances", instances, "--port", port, "--console-port", "0")
        assert refused.returncode == 1
        assert f"http.port: 127.0.0.1:{port} is taken by process" in refused.stderr
        assert "waiting" not in refused.stderr
    for pid in engines.children():
        os.kill(pid, 0)
