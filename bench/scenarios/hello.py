"""`hello`: GET without state, through the lane and through Hypercorn alone."""

from __future__ import annotations

import http.client

from bench.load.closed import Load, Request, bare_server, closed_loop
from bench.project import PROJECTS, Project, iii_run
from bench.settings import Result, Round, WrongResult

GET = Request("GET", "/hello")
ANSWER = '{"message":"hello"}'


def measure(round: Round) -> Result:
    seconds = round.settings.seconds(5, 1)
    round.say("requests")
    load = _load(round, seconds, lane=True)
    round.say("the same through Hypercorn")
    hypercorn = _load(round, seconds, lane=False).per_s
    round.say("the limit: a bare protocol")
    with bare_server(ANSWER) as address:
        limit = closed_loop(address, GET, seconds).per_s
    return {
        "requests_per_s": load.per_s,
        "errors": load.errors,
        "hypercorn_requests_per_s": hypercorn,
        "ratio_to_hypercorn": load.per_s / hypercorn,
        "limit_requests_per_s": limit,
        "ratio_to_limit": load.per_s / limit,
    }


def _load(round: Round, seconds: float, *, lane: bool) -> Load:
    name = "lane" if lane else "hypercorn"
    project = Project(round, PROJECTS / "hello", name=name, lane=lane)
    with iii_run(project, round.settings.instances) as running:
        _require_answer(*running.address)
        load = closed_loop(running.address, GET, seconds)
    require_handled(project.ledger().calls["hello"] - 1, load)
    return load


def _require_answer(host: str, port: int) -> None:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    connection.request(GET.method, GET.path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    if (answer.status, body) != (200, ANSWER):
        raise WrongResult(f"GET /hello was answered {answer.status} {body}")


def require_handled(handled: int, load: Load) -> None:
    """As many requests were handled as were answered, and those that the client left under way."""
    answered = int(load.requests)
    if not answered <= handled <= answered + load.unanswered_max:
        raise WrongResult(
            f"{answered} requests were answered and at most {load.unanswered_max} left unanswered, "
            f"but {handled} were handled"
        )
