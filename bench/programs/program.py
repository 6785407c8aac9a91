"""What each program of the benchmark begins and ends with: its order as JSON, its figures as JSON.

A program is set up as `iii run` sets up its process: uvloop, and rare collections.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from bench.child import READY
from bench.settings import Result
from iii.cli.run import collect_rarely

Asked = dict[str, Any]


def main(work: Callable[[Asked], Awaitable[Result]]) -> None:
    asked = json.loads(sys.argv[1])

    async def run() -> Result:
        return await work(asked)

    collect_rarely()
    print(json.dumps(uvloop.run(run())))


def say_ready() -> None:
    print(READY, flush=True)
