"""`idle`: what `iii run` on the example costs while nothing happens."""

from __future__ import annotations

import time

from bench.machine import cpu_s, rss_anon_mib, voluntary_switches
from bench.project import Project, example, iii_run
from bench.settings import Result, Round

SETTLE_S = 1.0


def measure(round: Round) -> Result:
    seconds = round.settings.seconds(10, 2)
    project = Project(round, example(round))
    with iii_run(project) as running:
        round.say("settling")
        time.sleep(SETTLE_S)
        round.say("idle")
        cpu, switches, began = cpu_s(running.pid), voluntary_switches(running.pid), time.perf_counter()
        time.sleep(seconds)
        spent = time.perf_counter() - began
        return {
            "cpu_percent": (cpu_s(running.pid) - cpu) / spent * 100,
            "switches_per_s": (voluntary_switches(running.pid) - switches) / spent,
            "rss_anon_mib": rss_anon_mib(running.pid),
        }
