"""The limit of HTTP: an asyncio protocol that parses with httptools and answers constants.

`python -m bench.load.bare '{"body": ...}'`: prints its port, serves until its input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

import httptools
import uvloop

from iii.cli.run import collect_rarely


class Bare(asyncio.Protocol):
    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, content: bytes) -> None:
        self._parser.feed_data(content)

    def on_message_complete(self) -> None:
        self._transport.write(self._answer)


async def serve(body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    answer = head.encode() + body
    server = await asyncio.get_running_loop().create_server(lambda: Bare(answer), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    collect_rarely()
    uvloop.run(serve(json.loads(sys.argv[1])["body"].encode()))
