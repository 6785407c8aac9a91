"""The client outside: its own process, which posts work to the engines and keeps the ledger until SIGTERM.

    python load_client.py LEDGER CLIENTS PAUSE_MS PORT...

Each of the clients asks for its numbers in order, the next once the outcome of the last is known or never
will be. Every second one sends an Idempotency-Key and asks again, of another engine, until it has an answer.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import sys
from pathlib import Path

import httpx
from client_ledger import Ledger

NUMBERS_MAX = 40
"""A client goes on under a new name after so many: the lists that the steps append to stay short."""
TIMEOUT_S = 5.0


class Load:
    def __init__(self, ledger: Ledger, pause_ms: float, ports: list[str]) -> None:
        self._ledger, self._pause_ms = ledger, pause_ms
        self._urls = itertools.cycle([f"http://127.0.0.1:{port}/work" for port in ports])
        self.stop = asyncio.Event()

    async def run(self, clients: int) -> None:
        limits = httpx.Limits(max_connections=4 * clients)
        async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as http:
            await asyncio.gather(
                *[self._client(f"c{index}", index % 2 == 1, http) for index in range(clients)]
            )

    async def _client(self, name: str, keyed: bool, http: httpx.AsyncClient) -> None:
        for count in itertools.count():
            if self.stop.is_set():
                return
            round, number = divmod(count, NUMBERS_MAX)
            await self._ask(f"{name}r{round}", number, keyed, http)
            await asyncio.sleep(random.uniform(0, 2 * self._pause_ms) / 1000)

    async def _ask(self, client: str, number: int, keyed: bool, http: httpx.AsyncClient) -> None:
        """Until it is accepted or refused; without a key only until it may have landed."""
        id = f"{client}-{number}"
        work = {"id": id, "client": client, "number": number}
        headers = {"idempotency-key": id} if keyed else {}
        self._ledger.write(id, client, number, "asked")
        while True:
            try:
                answer = await http.post(next(self._urls), json=work, headers=headers)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                answer = None
            except httpx.HTTPError as error:
                self._ledger.write(id, client, number, "unknown", repr(error))
                if not keyed:
                    return
                answer = None
            if answer is not None and answer.is_success:
                self._ledger.write(id, client, number, "accepted")
                return
            if answer is not None and (not keyed or answer.status_code < 500):
                self._ledger.write(id, client, number, "refused", f"{answer.status_code} {answer.text}")
                return
            if self.stop.is_set():
                return
            await asyncio.sleep(0.01)


async def main(ledger: str, clients: str, pause_ms: str, *ports: str) -> None:
    load = Load(Ledger(Path(ledger)), float(pause_ms), list(ports))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, load.stop.set)
    await load.run(int(clients))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
