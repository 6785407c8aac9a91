"""`iii run --instances N` as its users see it: shared work, deaths, rolling restarts, the end."""

from __future__ import annotations

import fcntl
import http.client
import os
import pty
import re
import signal
import socket
import sysconfig
import termios
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest
from deadline import until
from instances_kit import STEP, Project, Started, runs

from iii.store.lmdb import LmdbStore


def test_instances_share_the_messages_and_each_runs_once(project: Project) -> None:
    engines = project.start("--instances", "3")
    names = [f"m{n}" for n in range(12)]
    engines.post(*names)
    until(lambda: len(project.starts()) == 3, "one message in each instance")
    assert {pid for _, pid in project.starts()} == engines.children()
    project.open_gate("all")
    until(lambda: len(project.starts()) == 12, "all started")
    until(lambda: not sum(row.in_flight for row in project.rows()), "all settled")
    assert project.effects() == dict.fromkeys(names, 1)
    imported = set(map(int, (project.folder / "imported").read_text().split()))
    assert imported == engines.children(), "the supervisor imports no step"
    engines.signal(signal.SIGTERM)
    assert engines.ended() == 0, engines.told
    assert engines.printed.count("address") == 1
    assert project.iii("check").returncode == 0


def test_a_killed_instance_is_replaced_and_its_message_runs_elsewhere(project: Project) -> None:
    engines = project.start("--instances", "2")
    before = engines.children() if engines.post("first") else set()
    until(lambda: project.starts(), "a start")
    victim = project.starts()[0][1]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(project.starts()) == 2, "a second start")
    heir = project.starts()[1][1]
    assert heir != victim
    engines.until_logged("is ready", 3)
    assert f"(pid {victim}) died after" in engines.logged
    assert "killed by SIGKILL" in engines.logged
    assert len(engines.children() - before) == 1 and len(engines.children()) == 2
    project.open_gate("all")
    until(lambda: project.effects() == {"first": 1}, "its effect")


def test_one_that_is_asked_to_stop_from_outside_is_started_again_within_a_second(project: Project) -> None:
    engines = project.start("--instances", "2").until_ready()
    for times in range(1, 6):
        until(lambda times=times: len(_pids_of(engines, 1)) == times, "another start")
        os.kill(_pids_of(engines, 1)[-1], signal.SIGTERM)
    engines.until_logged("exit code 0; next start in", 5)
    pauses = [float(pause) for pause in re.findall(r"next start in (\S+) s", engines.logged)]
    assert max(pauses) <= 1.0


def test_where_none_is_left_that_is_ready_the_next_starts_without_a_pause(project: Project) -> None:
    engines = project.start("--instances", "2").until_ready()
    engines.signal(signal.SIGSTOP)
    victims = engines.children()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(map(runs, victims)), "both dead")
    engines.signal(signal.SIGCONT)
    engines.until_logged("is ready", 4)
    pauses = re.findall(r"killed by SIGKILL; next start in (\S+) s", engines.logged)
    assert pauses in (["0.0", "0.0"], ["0.1", "0.0"])  # the other's threads may have ended later


def test_one_that_waits_for_its_next_start_starts_at_once_when_the_last_other_dies(project: Project) -> None:
    patient = "import iii.cli, iii.instances.restarts as r; r.PAUSE_S = 3600.0; iii.cli.main()"
    patient = patient.replace("r.PAUSE_S", "r.PAUSE_MAX_S = r.ENDED_PAUSE_MAX_S = r.PAUSE_S")
    engines = project.start("--instances", "2", python=("-c", patient)).until_ready()
    os.kill(_pids_of(engines, 1)[0], signal.SIGKILL)
    engines.until_logged("next start in 3600.0 s")
    os.kill(_pids_of(engines, 2)[0], signal.SIGKILL)
    engines.until_logged("is ready", 4)


def _pids_of(engines: Started, number: int) -> list[int]:
    return [int(pid) for pid in re.findall(rf"instance {number} is ready, pid (\d+)", engines.logged)]


class Client:
    """Sends requests, one after the other, until it is told to stop; `keeps` its connection or makes another
    for each."""

    def __init__(self, address: str, *, keeps: bool) -> None:
        self._host = urlsplit(address).netloc
        self._headers = {"Content-Type": "application/json", "Connection": "keep-alive" if keeps else "close"}
        self.answers: list[int | str] = []
        self.connections = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.connections += 1
            with closing(http.client.HTTPConnection(self._host)) as connection:
                try:
                    while not self._stop.is_set() and not self._closes_after_answer(connection):
                        pass
                except (OSError, http.client.HTTPException) as error:
                    self.answers.append(repr(error))

    def _closes_after_answer(self, connection: http.client.HTTPConnection) -> bool:
        connection.request("POST", "/gated", "[]", self._headers)
        answer = connection.getresponse()
        answer.read()
        self.answers.append(answer.status)
        return answer.will_close

    def end(self) -> None:
        self._stop.set()
        self._thread.join()


def test_sighup_replaces_all_instances_and_no_request_fails(project: Project) -> None:
    engines = project.start("--instances", "2")
    clients = [Client(engines.address(), keeps=n < 3) for n in range(5)]
    try:
        before = engines.children()
        engines.signal(signal.SIGHUP)
        engines.until_logged("All instances are restarted")
        answered = [len(client.answers) for client in clients]
        for client, count in zip(clients, answered, strict=True):
            until(lambda client=client, count=count: len(client.answers) > count, "an answer after it")
    finally:
        for client in clients:
            client.end()
    assert {answer for client in clients for answer in client.answers} == {200}
    assert sum(client.connections for client in clients[:3]) > 3, "none was told to come again"
    assert len(engines.children()) == 2 and not engines.children() & before
    assert engines.process.poll() is None


def test_sighup_with_a_broken_step_leaves_the_instances_that_run(project: Project) -> None:
    engines = project.start("--instances", "2").until_ready()
    before = engines.children()
    project.write_step("import nonsense_that_is_not_there\n")
    engines.signal(signal.SIGHUP)
    engines.until_logged("the other instances stay as they are")
    assert "nonsense_that_is_not_there" in engines.logged
    assert engines.children() == before
    (project.folder / "iii-config.yaml").write_text("http: {prot: 1}\n")
    engines.signal(signal.SIGHUP)
    engines.until_logged("nothing is restarted")
    project.write_step(STEP)
    (project.folder / "iii-config.yaml").write_text(
        "http: {port: 1}\nconsole: {port: 0}\nlog: {format: text}\n"
    )
    engines.signal(signal.SIGHUP)
    engines.until_logged("All instances are restarted")
    assert engines.post() in engines.children() - before


def test_a_replacement_that_hangs_at_start_is_killed_and_the_old_instances_stay(project: Project) -> None:
    impatient = (
        "import iii.cli, iii.instances.supervisor as s; s.START_S, s.START_TIMES = 1.0, 0.0; iii.cli.main()"
    )
    engines = project.start("--instances", "2", python=("-c", impatient)).until_ready()
    before = engines.children()
    project.write_step("import threading\nthreading.Event().wait()\n")
    engines.signal(signal.SIGHUP)
    engines.until_logged("the other instances stay as they are")
    assert "was not ready in 1 s: killed" in engines.logged
    assert engines.children() == before
    assert engines.post() in before


def test_sighup_reads_the_dotenv_anew(project: Project) -> None:
    project.write_step(
        "import os\n"
        "from pathlib import Path\n"
        "config = {'name': 'Env', 'triggers': [{'type': 'queue', 'topic': 'env'}]}\n"
        "with Path('flavours').open('a') as flavours:\n"
        "    flavours.write(os.environ['FLAVOUR'])\n"
        "def handler():\n"
        "    pass\n",
        "env",
    )
    (project.folder / ".env").write_text("FLAVOUR=a\n")
    engines = project.start("--instances", "2").until_ready()
    (project.folder / ".env").write_text("FLAVOUR=b\n")
    engines.signal(signal.SIGHUP)
    engines.until_logged("All instances are restarted")
    assert (project.folder / "flavours").read_text() == "aabb"


def test_a_step_taken_away_in_a_rolling_restart_leaves_its_backlog(project: Project) -> None:
    engines = project.start("--instances", "2")
    engines.post("a", "b", "c")
    until(lambda: len(project.starts()) == 2, "two that run")
    project.write_step(STEP.replace('"name": "Gated"', '"name": "Other"'))
    engines.signal(signal.SIGHUP)
    until(lambda: len({row.session for row in project.rows()}) == 3, "a new one beside the old")
    project.open_gate("all")
    engines.until_logged("All instances are restarted")
    lanes = {each["step"]: each for each in project.iii_json("queue", "list") if each["topic"] == "gated"}
    assert lanes["Gated"]["done"] + lanes["Gated"]["ready"] == 3
    assert lanes["Other"]["done"] + lanes["Other"]["ready"] == 0


@pytest.mark.parametrize(
    ("source", "reason", "tries"),
    [
        ("import nonsense_that_is_not_there\n", "nonsense_that_is_not_there", 2),
        ("import os\nos._exit(3)\n", "exit code 3", 6),
        ("import os\nos.kill(os.getpid(), 9)\n", "killed by SIGKILL", 6),
        ("import os\nos.kill(os.getpid(), 7)\n", "killed by SIGBUS: run `iii check`: the store may", 6),
    ],
)
def test_when_all_die_at_start_it_gives_up_and_says_why(
    project: Project, source: str, reason: str, tries: int
) -> None:
    project.write_step(source)
    engines = project.start("--instances", "2")
    assert engines.ended() == 1
    last = engines.logged.splitlines()[-1]
    assert last.startswith("error: no instance starts, given up: ")
    assert reason in last
    assert engines.logged.count("died at start") == tries
    assert engines.printed == ""


def test_sigterm_lets_every_instance_finish_and_exits_0(project: Project) -> None:
    engines = project.start("--instances", "2")
    engines.post("a", "b", "c")
    until(lambda: len(project.starts()) == 2, "two that run")
    engines.signal(signal.SIGTERM)
    until(lambda: {row.health for row in project.rows()} == {"draining"}, "both drain")
    with pytest.raises(OSError):
        engines.post("d")
    project.open_gate("all")
    assert engines.ended() == 0, engines.told
    assert len(project.effects()) == 2
    lanes = [each for each in project.iii_json("queue", "list") if each["topic"] == "gated"]
    assert [(each["done"], each["ready"]) for each in lanes] == [(2, 1)]


async def crashes_once_recovered(project: Project) -> dict[str, int]:
    """What the messages that the dead left are charged with, in an engine without steps."""
    project.start("--no-http", "--steps", str(project.folder / "gates")).until_ready()
    store = LmdbStore(project.data)
    await store.open()
    until(lambda: all(each.state == "ready" for each in store.waiting("gated")), "all given back")
    crashes = {orjson.loads(each.payload): each.crashes for each in store.waiting("gated")}
    await store.close()
    return crashes


async def test_a_second_signal_ends_all_at_once_and_blames_no_message(project: Project) -> None:
    engines = project.start("--instances", "2")
    pids = engines.children() if engines.post("blocks-a", "blocks-b") else set()
    until(lambda: len(project.starts()) == 2, "both blocked")
    engines.signal(signal.SIGTERM)
    engines.until_logged("Stopping")

    def ended() -> bool:
        engines.signal(signal.SIGTERM)
        return engines.process.poll() is not None

    until(ended, "the end")
    assert engines.ended() == 128 + signal.SIGTERM
    until(lambda: not any(map(runs, pids)), "the instances' ends")
    assert await crashes_once_recovered(project) == {"blocks-a": 0, "blocks-b": 0}


async def test_an_instance_that_does_not_end_in_time_is_killed_and_its_message_not_blamed(
    project: Project,
) -> None:
    (project.folder / "iii-config.yaml").write_text(
        "http: {port: 0}\nconsole: {port: 0}\nshutdown_timeout: 1ms\n"
    )
    at_once = "import iii.cli, iii.instances.supervisor as s; s.GRACE_S = 0.1; iii.cli.main()"
    engines = project.start("--instances", "2", python=("-c", at_once))
    engines.post("blocks")
    until(project.starts, "a start")
    engines.signal(signal.SIGTERM)
    assert engines.ended() == 1
    assert f"(pid {project.starts()[0][1]}) does not end: killed" in engines.logged
    assert await crashes_once_recovered(project) == {"blocks": 0}


def test_a_killed_supervisor_leaves_nobody_behind(project: Project) -> None:
    engines = project.start("--instances", "2")
    pids = engines.children() if engines.post("a") else set()
    until(project.starts, "a start")
    port = int(engines.address().rpartition(":")[2])
    engines.signal(signal.SIGKILL)
    engines.ended()

    def port_is_free() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    until(port_is_free, "a free port, while a handler still runs")
    assert any(map(runs, pids))
    project.open_gate("all")
    until(lambda: not any(map(runs, pids)), "the instances' ends")
    assert project.effects() == {"a": 1}
    assert project.rows() == []


def test_the_supervisors_port_is_refused_with_its_name_before_anything_starts(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        engines = project.start("--instances", "2", "--port", str(port))
        assert engines.ended() == 1
    assert f"iii-config.yaml: http.port: 127.0.0.1:{port} is taken by process {os.getpid()}" in engines.logged
    assert not (project.folder / "imported").exists()


def test_what_may_be_a_mistake_is_told_once_however_many_start(project: Project) -> None:
    (project.folder / "steps" / "hello.step.ts").touch()
    (project.folder / "iii-config.yaml").write_text(
        (project.folder / "iii-config.yaml").read_text() + "\nqueues: {nobodys: {}}\n"
    )
    engines = project.start("--instances", "3").until_ready()
    engines.signal(signal.SIGTERM)
    assert engines.ended() == 0, engines.told
    assert engines.logged.count("hello.step.ts: does not run") == 1
    assert engines.logged.count("queues.nobodys: no step here has this topic") == 1


def test_several_instances_need_a_store_that_they_share(project: Project) -> None:
    (project.folder / "iii-config.yaml").write_text("instances: 2\nstore: {type: memory}\n")
    engines = project.start()
    assert engines.ended() == 1
    assert "store.type: each of 2 instances would have a store of its own" in engines.logged


@pytest.mark.parametrize("args", [(), ("--instances", "2")])
def test_closing_the_terminal_ends_it_as_a_signal_would(project: Project, args: tuple[str, ...]) -> None:
    ours, theirs = pty.openpty()
    engines = project.start(
        *args,
        stdin=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    engines.until_ready()
    os.close(ours)
    assert engines.ended() == 0, engines.told


def test_sighup_leaves_a_single_engine_alone(project: Project) -> None:
    engine = project.start().until_ready()
    engine.signal(signal.SIGHUP)
    engine.until_logged("this is a single one")
    engine.signal(signal.SIGTERM)
    assert engine.ended() == 0


def test_a_ctrl_c_for_the_whole_group_is_one_signal(project: Project) -> None:
    engines = project.start("--instances", "2", start_new_session=True)
    engines.post("a", "b")
    until(lambda: len(project.starts()) == 2, "two that run")
    os.killpg(engines.pid, signal.SIGINT)
    until(lambda: {row.health for row in project.rows()} == {"draining"}, "both drain")
    os.killpg(engines.pid, signal.SIGINT)
    project.open_gate("all")
    assert engines.ended() == 0, engines.told
    assert project.effects() == {"a": 1, "b": 1}


def test_a_file_of_the_project_hides_no_module_from_the_instances(project: Project) -> None:
    """The console script does not put the working folder first on the path, nor do the instances."""
    (project.folder / "queue.py").write_text("raise ImportError('not this one')\n")
    console_script = Path(sysconfig.get_path("scripts"), "iii")
    engines = project.start("--instances", "2", python=(str(console_script),)).until_ready()
    engines.signal(signal.SIGTERM)
    assert engines.ended() == 0


def _limits(started: Started) -> tuple[str, str]:
    with open(f"/proc/{started.pid}/limits") as limits:
        (line,) = [line for line in limits if line.startswith("Max open files")]
    soft, hard = line.split()[3:5]
    return soft, hard


def test_an_engine_may_open_as_many_files_as_the_system_allows(project: Project) -> None:
    engine = project.start().until_ready()
    soft, hard = _limits(engine)
    assert soft == hard
