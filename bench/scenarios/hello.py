"""`hello`: GET without state."""

from __future__ import annotations

import http.client

from bench.load.closed import Load, Request, bare_server, closed_loop
from bench.project import PROJECTS, Project, iii_run
from bench.settings import Result, Round, WrongResult

GET = Request("GET", "/hello")
ANSWER = '{"message":"hello"}'


def measure(round: Round) -> Result:
    settings = round.settings
    seconds = settings.seconds(5, 1)
    project = Project(round, PROJECTS / "hello")
    round.say("requests")
    with iii_run(project, settings.instances) as running:
        _require_answer(*running.address)
        load = closed_loop(running.address, GET, seconds)
    require_handled(project.ledger().calls["hello"] - 1, load)
    round.say("the limit: a bare protocol")
    with bare_server(ANSWER) as address:
        limit = closed_loop(address, GET, seconds).per_s
    return {
        "requests_per_s": load.per_s,
        "errors": load.errors,
        "limit_requests_per_s": limit,
        "ratio_to_limit": load.per_s / limit,
    }


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
