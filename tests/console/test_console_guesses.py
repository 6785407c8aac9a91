"""Who guesses the console's token has to wait, by the engine's clock."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
import pytest
from console_kit import Console, serving

from iii.clock import FakeClock
from iii.config import ConsoleConfig
from iii.console.guesses import ALL_MS, CLIENTS_MAX, FORGET_MS, FREE, WAIT_MS_MAX, Guesses
from iii.console.security import COOKIE

TOKEN = "a-long-random-text"
GUARDED = ConsoleConfig(port=0, token=TOKEN)


def guess(guesses: Guesses, client: str, count: int, now_ms: int = 0) -> None:
    for number in range(count):
        guesses.wrong(client, b"%d at %d" % (number, now_ms), now_ms)


def test_the_first_wrong_ones_are_free_then_each_wait_is_twice_the_last() -> None:
    guesses, now_ms, waits = Guesses(), 0, []
    for number in range(FREE + 9):
        guesses.wrong("10.0.0.1", b"%d" % number, now_ms)
        waits.append(guesses.wait_ms("10.0.0.1", now_ms))
        now_ms += waits[-1]
        assert guesses.wait_ms("10.0.0.1", now_ms) == 0
    assert waits == [0] * (FREE - 1) + [1000, 2000, 4000, 8000, 16000, 32000, *[WAIT_MS_MAX] * 4]
    assert guesses.wait_ms("10.0.0.2", now_ms) == 0


def test_an_old_token_that_is_sent_again_and_again_is_one_guess() -> None:
    guesses = Guesses()
    assert guesses.wrong("10.0.0.1", b"old", 0) is not None
    assert [guesses.wrong("10.0.0.1", b"old", now_ms) for now_ms in range(1, 100)] == [None] * 99
    assert guesses.wait_ms("10.0.0.1", 100) == 0


def test_who_has_been_quiet_begins_anew() -> None:
    guesses = Guesses()
    guess(guesses, "10.0.0.1", FREE)
    guess(guesses, "10.0.0.1", 1, FORGET_MS - 1)
    assert guesses.wait_ms("10.0.0.1", FORGET_MS) > 0
    guess(guesses, "10.0.0.1", FREE - 1, 2 * FORGET_MS)
    assert guesses.wait_ms("10.0.0.1", 2 * FORGET_MS) == 0


def test_a_network_is_one_guesser_however_its_addresses_are_written() -> None:
    guesses = Guesses()
    for number in range(FREE):
        guesses.wrong(f"2001:db8::{number}:1", b"%d" % number, 0)
    assert guesses.wait_ms("2001:db8:0:0:9:9:9:9", 0) > 0
    assert guesses.wait_ms("2001:db8:0:1::1", 0) == 0
    guess(guesses, "::ffff:10.0.0.1", FREE)
    assert guesses.wait_ms("10.0.0.1", 0) > 0


def test_however_many_addresses_guess_they_are_kept_in_bounded_room_and_wait() -> None:
    guesses = Guesses()
    for number in range(3 * CLIENTS_MAX):
        guesses.wrong(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", b"%d" % number, 0)
    assert len(guesses) == CLIENTS_MAX + 1
    assert guesses.wait_ms("192.0.2.1", 0) == WAIT_MS_MAX, "nobody's address is new any more"
    assert guesses.wait_ms("10.0.0.1", 0) == ALL_MS
    guess(guesses, "192.0.2.1", 1, FORGET_MS)
    assert len(guesses) == 1


async def login(console: Console, token: str) -> httpx.Response:
    return await console.http.post("/api/login", json={"token": token})


async def test_after_too_many_wrong_tokens_even_the_right_one_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    async with serving(tmp_path, console=GUARDED, clock=clock) as console:
        with caplog.at_level(logging.WARNING, "iii.console"):
            for number in range(FREE):
                assert (await login(console, f"guess {number}")).status_code == 401
        refused = await login(console, TOKEN)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "try again in 1 s" in refused.json()["error"]["message"]
        clock.advance(1_000)
        assert (await login(console, TOKEN)).status_code == 200
        refusals = [("login refused", {"wrong_tokens": n}) for n in (1, FREE)]
        console.http.cookies.clear()
        console.http.headers["authorization"] = f"Bearer {TOKEN}"
        assert await console.audit() == [*refusals, ("login", {})]
    assert len([record for record in caplog.records if "wrong token" in record.getMessage()]) == FREE


async def test_bearers_are_guesses_too_and_a_right_one_is_let_in_whoever_guesses(tmp_path: Path) -> None:
    async with serving(tmp_path, console=GUARDED, clock=FakeClock()) as console:

        async def ask(token: str) -> int:
            header = {"authorization": f"Bearer {token}"}
            return (await console.http.get("/api/overview", headers=header)).status_code

        assert [await ask(f"guess{number}") for number in range(FREE)] == [401] * FREE
        assert await ask("another") == 429
        assert await ask(TOKEN) == 200
        assert await ask("another") == 429, "who is right does not make others of the address be heard"
        assert (await login(console, TOKEN)).status_code == 429
        assert (await console.http.get("/")).status_code == 200


async def test_a_cookie_is_no_guess(tmp_path: Path) -> None:
    """It tells nothing of the token, and an old or odd one is sent on and on by no fault of its owner."""
    async with serving(tmp_path, console=GUARDED, clock=FakeClock()) as console:
        for number in range(3 * FREE):
            header = {"cookie": f"{COOKIE}={number}.1.1.{'0' * 64}"}
            assert (await console.http.get("/api/overview", headers=header)).status_code == 401
        assert (await login(console, TOKEN)).status_code == 200


async def test_who_is_in_goes_on_while_others_of_the_address_guess(tmp_path: Path) -> None:
    async with serving(tmp_path, console=GUARDED, clock=FakeClock()) as console:
        assert (await login(console, TOKEN)).status_code == 200
        async with httpx.AsyncClient(base_url=console.address, trust_env=False) as other:
            for number in range(FREE):
                await other.post("/api/login", json={"token": f"guess {number}"})
            assert (await other.post("/api/login", json={"token": TOKEN})).status_code == 429
        await console.get("/api/overview")
        again = Console(console.engine, console.http)
        assert (await login(again, TOKEN)).status_code == 429
