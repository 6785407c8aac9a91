"""What may be sent to the console before it knows who sends it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from console_kit import CONSOLE, Console, serving
from msgspec.structs import replace

from iii.clock import FakeClock
from iii.console import bodies, login
from iii.console.guesses import ALL_FREE, ALL_MS, FREE, KNOWN_MAX, Guesses
from iii.console.login import BYTES_MAX
from iii.console.security import COOKIE
from iii.errors import ConfigError

TOKEN = "a-long-random-text"
GUARDED = replace(CONSOLE, token=TOKEN)
DEADLINE_S = 20.0


class Raw:
    """A connection on which a login is sent in parts, from an address of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    def head(self, length: int | None) -> None:
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        lines = ["POST /api/login HTTP/1.1", "Host: localhost", "Content-Type: application/json", framing]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())

    def begin(self, token: str) -> bytes:
        """Sends all of a login but its last byte, which is returned."""
        body = json.dumps({"token": token}).encode()
        self.head(len(body))
        self.writer.write(body[:-1])
        return body[-1:]

    async def status(self) -> int:
        line = await asyncio.wait_for(self._reader.readline(), DEADLINE_S)
        return int(line.split()[1]) if line else 0

    async def ended(self) -> bytes:
        return await asyncio.wait_for(self._reader.read(), DEADLINE_S)


@asynccontextmanager
async def connections(console: Console, count: int, source: str = "127.0.0.1") -> AsyncIterator[list[Raw]]:
    host, port = console.address.removeprefix("http://").split(":")
    opened = [await asyncio.open_connection(host, int(port), local_addr=(source, 0)) for _ in range(count)]
    try:
        yield [Raw(*each) for each in opened]
    finally:
        for _, writer in opened:
            writer.close()


async def log_in(console: Console, token: str, source: str) -> int:
    async with connections(console, 1, source) as [raw]:
        raw.writer.write(raw.begin(token))
        return await raw.status()


async def test_guesses_that_come_to_their_end_at_once_are_counted_one_by_one(tmp_path: Path) -> None:
    async with serving(tmp_path, console=GUARDED, clock=FakeClock()) as console:
        async with connections(console, login.ARRIVING_OF_ONE_MAX) as raws:
            last = [raw.begin(f"guess {number}") for number, raw in enumerate(raws[:-1])]
            last.append(raws[-1].begin(TOKEN))
            await console.http.get("/health")  # all heads are read
            for raw, byte in zip(raws, last, strict=True):
                raw.writer.write(byte)
            told = Counter([await raw.status() for raw in raws])
        assert told == {401: FREE, 429: len(raws) - FREE}


async def test_a_login_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with serving(tmp_path, console=GUARDED) as console:
        async with connections(console, 2) as [told, chunked]:
            told.head(8 << 20)
            chunked.head(None)
            chunked.writer.write(b"%x\r\n%b\r\n" % (BYTES_MAX + 1, b"x" * (BYTES_MAX + 1)))
            assert [await told.status(), await chunked.status()] == [413, 413]
        whole = await console.http.post("/api/login", json={"token": "x" * (4 << 20)})
        assert (whole.status_code, whole.headers["connection"]) == (413, "close")
        largest = json.dumps({"token": ""}).encode()
        largest += b" " * (BYTES_MAX - len(largest))
        kind = {"content-type": "application/json"}
        assert (await console.http.post("/api/login", content=largest, headers=kind)).status_code == 401


@pytest.mark.parametrize(
    "body",
    [b"[" * 3_000, b'{"token":' * 400, b"\xff", b'{"token": 5}', b"", b"null", b'{"token": "\\ud800"}'],
)
async def test_a_login_that_is_none_is_refused_with_what_to_send(tmp_path: Path, body: bytes) -> None:
    async with serving(tmp_path, console=GUARDED) as console:
        kind = {"content-type": "application/json"}
        for _ in range(2 * FREE):
            answer = await console.http.post("/api/login", content=body, headers=kind)
            assert (answer.status_code, "token" in answer.text) == (400, True)


async def test_a_login_has_little_time_to_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "ARRIVE_S", 0.05)
    async with serving(tmp_path, console=GUARDED) as console, connections(console, 2) as [silent, slow]:
        silent.head(100)
        slow.begin("guess")
        assert [await silent.status(), await slow.status()] == [408, 408]
        assert b"connection: close" in (await silent.ended()).lower()


async def test_the_login_that_takes_longest_makes_room_for_one_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "ARRIVING_OF_ONE_MAX", 2)
    monkeypatch.setattr(login, "ARRIVING_MAX", 3)
    async with (
        serving(tmp_path, console=GUARDED) as console,
        connections(console, 3) as own,
        connections(console, 2, "127.0.0.2") as others,
    ):
        for raw in own:
            raw.begin("guess")
            await console.http.get("/health")  # its head is read
        assert await own[0].status() == 503, "it is the oldest of its address"
        for raw in others:
            raw.begin("guess")
        assert await own[1].status() == 503, "it is the oldest of all"
        assert await log_in(console, TOKEN, "127.0.0.3") == 200


async def test_what_is_sent_to_a_console_that_refuses_it_is_not_kept(tmp_path: Path) -> None:
    async with serving(tmp_path, console=GUARDED) as console:
        for path in ("/api/enqueue", "/api/login", "/api/logout", "/api/nothing", "/health"):
            body = b" " * (4 << 20)
            kind = {"content-type": "application/json"}
            answer = await console.http.post(path, content=body, headers=kind)
            assert answer.status_code in (200, 401, 404, 405, 413)
            assert answer.headers["connection"] == "close"


async def test_who_sends_what_is_refused_keeps_no_connection_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "DROPPED_MAX", 2)
    monkeypatch.setattr(bodies, "LINGER_MS", 60_000)
    async with serving(tmp_path, console=GUARDED) as console, connections(console, 3) as raws:
        for raw in raws:
            raw.head(8 << 20)
            assert await raw.status() == 413
        assert b"at most 4096 bytes" in await raws[2].ended(), "two are still read from, the third has ended"


# -------------------------------------------------------------------------- guesses of many addresses


def test_over_all_addresses_a_guess_a_second_is_heard_and_those_that_were_right_are_kept_out_by_none() -> (
    None
):
    guesses = Guesses()
    guesses.right("10.9.9.9")
    heard = 0
    for number in range(3 * ALL_FREE):
        client = f"10.0.{number // 250}.{number % 250}"
        if not guesses.wait_ms(client, 0):
            guesses.wrong(client, b"%d" % number, 0)
            heard += 1
    assert heard == ALL_FREE
    assert (guesses.wait_ms("192.0.2.1", 0), guesses.wait_ms("10.9.9.9", 0)) == (ALL_MS, 0)
    assert guesses.wait_ms("192.0.2.1", ALL_MS) == 0
    for number in range(FREE):
        guesses.wrong("10.9.9.9", b"%d" % number, 0)
    assert guesses.wait_ms("10.9.9.9", 0) > 0, "its own still count"
    assert guesses.wait_ms("192.0.2.1", 0) == ALL_MS, "and do not lengthen the others' wait"


def test_a_right_token_takes_back_its_own_guess_and_no_other() -> None:
    guesses = Guesses()
    for number in range(FREE - 1):
        guesses.wrong("10.0.0.1", b"%d" % number, 0)
    for _ in range(3):
        counted = guesses.wrong("10.0.0.1", b"right", 0)
        assert guesses.wait_ms("10.0.0.1", 0) > 0
        guesses.right("10.0.0.1", counted)
        assert guesses.wait_ms("10.0.0.1", 0) == 0
    guesses.wrong("10.0.0.1", b"one more", 0)
    assert guesses.wait_ms("10.0.0.1", 0) > 0


def test_of_those_that_were_right_the_last_are_known() -> None:
    guesses = Guesses()
    for number in range(KNOWN_MAX + 1):
        guesses.right(f"10.0.{number // 250}.{number % 250}")
    for number in range(ALL_FREE):
        guesses.wrong(f"10.1.0.{number}", b"%d" % number, 0)
    assert (guesses.wait_ms("10.0.0.0", 0), guesses.wait_ms("10.0.0.1", 0)) == (ALL_MS, 0)


async def test_guesses_from_many_addresses_are_bounded_and_keep_no_owner_out(tmp_path: Path) -> None:
    async with serving(tmp_path, console=GUARDED, clock=FakeClock()) as console:
        assert await log_in(console, TOKEN, "127.0.0.7") == 200
        told: Counter[int] = Counter()
        for number in range(ALL_FREE // FREE + 3):
            for guess in range(FREE):
                told[await log_in(console, f"guess {number} {guess}", f"127.0.5.{number + 1}")] += 1
        assert told == {401: ALL_FREE, 429: 3 * FREE}
        assert await log_in(console, TOKEN, "127.0.6.1") == 429
        assert await log_in(console, TOKEN, "127.0.0.7") == 200
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert (await console.http.get("/api/overview", headers=bearer)).status_code == 200
        cookie = (await console.http.get("/api/audit?limit=1000", headers=bearer)).json()["entries"]
        assert Counter(entry["what"] for entry in cookie) == {
            "login": 2,
            "login refused": 2 * ALL_FREE // FREE,
        }


# --------------------------------------------------------------------------------------- behind a proxy


async def cookie_of(console: Console, **headers: str) -> str:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await console.http.post("/api/login", json={"token": TOKEN}, headers=named)
    console.http.cookies.clear()
    assert answer.status_code == 200, answer.text
    return answer.headers["set-cookie"]


async def test_behind_https_the_cookie_is_bound_to_it_and_to_this_host(tmp_path: Path) -> None:
    async with serving(tmp_path, console=replace(GUARDED, https=True)) as console:
        cookie = await cookie_of(console)
        name, _, value = cookie.partition(";")[0].partition("=")
        assert name.startswith(f"__Host-{COOKIE}_")
        parts = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert parts == {"secure", "httponly", "samesite=strict", "path=/"}
        for given, status in ((name, 200), (name.removeprefix("__Host-"), 401)):
            answer = await console.http.get("/api/overview", headers={"cookie": f"{given}={value}"})
            assert answer.status_code == status, "one that was set by HTTP is not ours"
        plain = {"cookie": f"{name}={value}", "origin": console.address}
        assert (await console.http.post("/api/enqueue", json={}, headers=plain)).status_code == 403
        gone = await console.http.post("/api/logout", json={}, headers={"cookie": f"{name}={value}"})
        assert gone.headers["set-cookie"].startswith(f"{name}=;") and "Secure" in gone.headers["set-cookie"]


@pytest.mark.parametrize(
    ("trusted", "proto", "secure"),
    [
        (("127.0.0.0/8",), "https", True),
        (("127.0.0.1",), "HTTPS", True),
        (("127.0.0.1",), "http, https", True),
        (("127.0.0.1",), "https, http", False),
        (("127.0.0.1",), "http", False),
        (("127.0.0.1",), "", False),
        (("10.0.0.0/8",), "https", False),
        ((), "https", False),
    ],
)
async def test_a_trusted_proxy_tells_whether_browsers_speak_https(
    tmp_path: Path, trusted: tuple[str, ...], proto: str, secure: bool
) -> None:
    async with serving(tmp_path, console=replace(GUARDED, trusted_proxies=trusted)) as console:
        cookie = await cookie_of(console, x_forwarded_proto=proto)
        assert ("Secure" in cookie, cookie.startswith("__Host-")) == (secure, secure)


async def test_behind_a_trusted_proxy_each_client_has_guesses_of_its_own(tmp_path: Path) -> None:
    behind = replace(GUARDED, trusted_proxies=("127.0.0.1", "10.0.0.0/8"))
    async with serving(tmp_path, console=behind, clock=FakeClock()) as console:

        async def guess(token: str, forwarded_for: str) -> int:
            headers = {"x-forwarded-for": forwarded_for}
            answer = await console.http.post("/api/login", json={"token": token}, headers=headers)
            return answer.status_code

        for number in range(FREE):
            assert await guess(f"{number}", f"192.0.2.{number}, 203.0.113.5, 10.1.1.1") == 401
        assert await guess(TOKEN, "198.51.100.1, 203.0.113.5") == 429, "what it wrote before is not believed"
        assert await guess(TOKEN, "203.0.113.6") == 200
        console.http.headers["authorization"] = f"Bearer {TOKEN}"
        entries = (await console.get("/api/audit"))["entries"]
        assert {entry["who"] for entry in entries} == {"console 203.0.113.5", "console 203.0.113.6"}


async def test_nobody_else_is_believed(tmp_path: Path) -> None:
    async with serving(tmp_path, console=GUARDED, clock=FakeClock()) as console:
        told = []
        for number in range(FREE + 1):
            headers = {"x-forwarded-for": f"10.0.0.{number}", "forwarded": f"for=1.2.3.{number}"}
            answer = await console.http.post("/api/login", json={"token": f"{number}"}, headers=headers)
            told.append(answer.status_code)
        assert told == [401] * FREE + [429]


# ------------------------------------------------------------------------------------------- the rest


@pytest.mark.parametrize(
    "token", ["fifteen-letters", " a-long-random-text", "a-long-random\ntext", "x" * 513]
)
async def test_a_token_that_keeps_nobody_out_is_refused_by_an_embedded_engine_too(
    tmp_path: Path, token: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        async with serving(tmp_path, console=replace(CONSOLE, token=token)):
            pass
    assert refused.value.field == "console.token" and token.strip() not in str(refused.value)


async def test_without_a_token_nobody_logs_in(tmp_path: Path) -> None:
    async with serving(tmp_path) as console:
        for token in ("", "anything"):
            error = await console.refused(400, "POST", "/api/login", {"token": token})
            assert "no token" in error["message"]
        await console.get("/api/overview")


async def test_a_token_beyond_ascii_is_a_bearer_too(tmp_path: Path) -> None:
    token = "lang-und-geheim-äöü"
    async with serving(tmp_path, console=replace(CONSOLE, token=token)) as console:
        headers = [(b"authorization", f"bearer {token}".encode())]
        assert (await console.http.get("/api/overview", headers=headers)).status_code == 200
        assert (await console.http.post("/api/login", json={"token": token})).status_code == 200
