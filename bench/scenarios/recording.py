"""`recording`: what run records cost on `drain`: the default history beside none, in one round.

Without, with, with, without, and once more: what the machine does meanwhile hits both alike.
"""

from __future__ import annotations

from bench.child import ask
from bench.project import PROJECTS, Project
from bench.scenarios.drain import COUNT, PRODUCERS
from bench.settings import Result, Round
from bench.watching import check_settled

KEEP = {"without": 0, "with": 10_000}  # `history.keep`: none, and the default
ORDER = ("without", "with", "with", "without") * 2


def measure(round: Round) -> Result:
    each = max(1, round.settings.size(100_000, 12_800) // PRODUCERS)
    total, turns = PRODUCERS * each, len(ORDER) // 2
    seconds, cpu_us = dict.fromkeys(KEEP, 0.0), dict.fromkeys(KEEP, 0.0)
    for number, name in enumerate(ORDER):
        round.say(f"{total:,} messages, {name} records")
        project = Project(
            round,
            PROJECTS / "count",
            name=f"{number}-{name}",
            concurrency={"bench": 1024},
            history_keep=KEEP[name],
        )
        asked = {"config": str(project.config), "producers": PRODUCERS, "messages": each, "text_bytes": 0}
        result = ask("bench.programs.drain", asked, project.ledgers)
        project.ledger().require_once(0, total)
        check_settled(project.data, {COUNT: total})
        seconds[name] += total / result["messages_per_s"]
        cpu_us[name] += result["loop_us_per_message"] / turns
    return {
        "messages_per_s": turns * total / seconds["with"],
        "without_messages_per_s": turns * total / seconds["without"],
        "recording_cost_percent": 100 * (1 - seconds["without"] / seconds["with"]),
        "loop_us_per_message": cpu_us["with"],
        "without_loop_us_per_message": cpu_us["without"],
    }
