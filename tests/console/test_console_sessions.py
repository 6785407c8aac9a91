"""How long a login lasts, and what ends it: for every instance on the store, and for good."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from console_kit import CONSOLE, Console, serving
from msgspec.structs import replace

from iii.clock import FakeClock
from iii.console.security import COOKIE
from iii.console.sessions import IDLE_MS, LIFETIME_MS, RENEW_MS, SESSIONS_MAX, Session, Sessions
from iii.errors import StoreFull
from iii.model import Put, Txn
from iii.store.audit import Actor
from iii.store.lmdb import LmdbStore
from iii.store.memory import MemoryStore

TOKEN = "a-long-random-text"
GUARDED = replace(CONSOLE, token=TOKEN)
ME = Actor("console test")


async def login(console: Console) -> str:
    """The cookie, as a browser sends it."""
    answer = await console.http.post("/api/login", json={"token": TOKEN})
    assert answer.status_code == 200, answer.text
    console.http.cookies.clear()
    return answer.headers["set-cookie"].partition(";")[0]


async def status(console: Console, cookie: str | bytes, path: str = "/api/overview") -> int:
    return (await console.http.get(path, headers={"cookie": cookie})).status_code


async def test_a_logout_ends_the_session_for_whoever_has_its_cookie(tmp_path: Path) -> None:
    async with serving(tmp_path, console=GUARDED) as console:
        cookie, other = await login(console), await login(console)
        gone = await console.http.post("/api/logout", json={}, headers={"cookie": cookie})
        assert f"{COOKIE}_" in gone.headers["set-cookie"] and "Max-Age=0" in gone.headers["set-cookie"]
        assert [await status(console, each) for each in (cookie, other)] == [401, 200]
        console.http.headers["authorization"] = f"Bearer {TOKEN}"
        assert [what for what, _ in await console.audit()] == ["login", "login", "logout"]


async def test_sessions_and_their_ends_outlive_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path, console=GUARDED) as console:
        ended, kept = await login(console), await login(console)
        await console.http.post("/api/logout", json={}, headers={"cookie": ended})
    async with serving(tmp_path, console=GUARDED) as console:
        assert [await status(console, each) for each in (ended, kept)] == [401, 200]


async def test_another_token_ends_all_sessions_for_good(tmp_path: Path) -> None:
    async with serving(tmp_path, console=GUARDED) as console:
        cookie = await login(console)
    async with serving(tmp_path, console=replace(GUARDED, token="another-random-text")) as console:
        assert await status(console, cookie) == 401
    async with serving(tmp_path, console=GUARDED) as console:
        assert await status(console, cookie) == 401, "the old token again does not bring them back"


async def test_a_stream_of_events_ends_with_its_session(tmp_path: Path) -> None:
    async with serving(tmp_path, console=GUARDED) as console:
        cookie = await login(console)
        console.http.headers["cookie"] = cookie
        async with console.listening("queues") as events:
            await console.http.post("/api/logout", json={})
            await asyncio.wait_for(events.ended(), 20)


async def test_a_session_ends_when_it_was_not_used_for_long_and_in_any_case_at_last(tmp_path: Path) -> None:
    clock = FakeClock()
    async with serving(tmp_path, console=GUARDED, clock=clock) as console:
        idle, used = await login(console), await login(console)
        clock.advance(RENEW_MS - 1)
        first = await console.http.get("/api/overview", headers={"cookie": used})
        assert first.status_code == 200 and "set-cookie" not in first.headers
        for _ in range(LIFETIME_MS // (IDLE_MS - RENEW_MS)):
            clock.advance(IDLE_MS - RENEW_MS)
            answer = await console.http.get("/api/overview", headers={"cookie": used})
            assert answer.status_code == 200
            used = answer.headers["set-cookie"].partition(";")[0]
            console.http.cookies.clear()
        assert await status(console, idle) == 401
        clock.advance(IDLE_MS - RENEW_MS)
        assert await status(console, used) == 401


async def test_a_login_takes_the_place_of_the_session_it_comes_with(tmp_path: Path) -> None:
    async with serving(tmp_path, console=GUARDED) as console:
        before = await login(console)
        answer = await console.http.post("/api/login", json={"token": TOKEN}, headers={"cookie": before})
        console.http.cookies.clear()
        after = answer.headers["set-cookie"].partition(";")[0]
        assert [await status(console, each) for each in (before, after)] == [401, 200]


ODD = [
    "a=b", 'j={"x":1}', "k=[1,2]", "foo[bar]=1", "a b=c", 'x="unclosed', "=novalue", "utf=\xe9\xff", "a,b=1",
    "\\" * 30_000,
    "\x80\xfe=\xa0\t\xff", ";;;", "x=" + "y" * 30_000, "n=1; " * 5_000 + "n=1", f"{COOKIE}=evil",
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=[each[:12] for each in ODD])
async def test_other_applications_cookies_log_nobody_out(tmp_path: Path, odd: str) -> None:
    async with serving(tmp_path, console=GUARDED) as console:
        cookie = await login(console)
        for header in (f"{odd}; {cookie}", f"{cookie}; {odd}"):
            assert await status(console, header.encode("latin-1")) == 200


async def test_cookies_of_our_name_that_others_set_do_not_hide_ours(tmp_path: Path) -> None:
    """A cookie of a longer path, or of the domain above, comes first or last."""
    async with serving(tmp_path, console=GUARDED) as console:
        cookie = await login(console)
        name, _, value = cookie.partition("=")
        shaped = value[:-1] + ("0" if value[-1] != "0" else "1")
        for evil in ("evil", "", shaped, value.upper(), f"{value}.{value}", "\xb2" * 8):
            header = f"{name}={evil}; {cookie}; {name}={evil}"
            assert await status(console, header.encode("latin-1")) == 200
            assert await status(console, f"{name}={evil}".encode("latin-1")) == 401


async def test_two_projects_on_one_host_have_cookies_of_their_own(tmp_path: Path) -> None:
    """Browsers keep cookies by host, whatever the port."""
    async with (
        serving(tmp_path / "one", console=GUARDED) as one,
        serving(tmp_path / "two", console=GUARDED) as two,
        httpx.AsyncClient(trust_env=False) as browser,
    ):
        for console in (one, two):
            answer = await browser.post(f"{console.address}/api/login", json={"token": TOKEN})
            assert answer.status_code == 200
        for console in (one, two):
            assert (await browser.get(f"{console.address}/api/overview")).status_code == 200


# ------------------------------------------------------------------------------- with a store alone


async def begun(sessions: Sessions, store: LmdbStore | MemoryStore) -> tuple[str, Session]:
    cookie = await sessions.begin(None, ME.did(store, "login"))
    session = sessions.of([cookie])
    assert session is not None
    return cookie, session


async def test_every_instance_on_the_store_knows_a_session_and_its_end() -> None:
    store = MemoryStore()
    await store.open()
    one, two, other = (Sessions(store, token) for token in (b"token", b"token", b"another"))
    await asyncio.gather(one.open(), two.open())
    cookie, session = await begun(one, store)
    assert two.of([cookie]) == session and one.tag == two.tag
    await two.end(session, ME.did(store, "logout"))
    await one.end(session, ME.did(store, "logout"))
    assert not one.lives(session) and one.of([cookie]) is None
    cookie, session = await begun(one, store)
    await other.open()
    assert one.of([cookie]) is None and other.of([cookie]) is None
    await store.close()


async def test_one_session_too_many_ends_the_oldest() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    await store.open()
    sessions = Sessions(store, b"token")
    cookies = []
    for _ in range(SESSIONS_MAX + 2):
        clock.advance(1)
        cookies.append((await begun(sessions, store))[0])
    alive = [sessions.of([cookie]) is not None for cookie in cookies]
    assert alive == [False] * 2 + [True] * SESSIONS_MAX
    assert len(store.marks("console/")) == SESSIONS_MAX + 5
    await store.close()


async def test_logins_at_the_same_time_get_sessions_of_their_own() -> None:
    store = MemoryStore()
    await store.open()
    sessions = Sessions(store, b"token")
    await sessions.open()
    made = await asyncio.gather(*(begun(sessions, store) for _ in range(50)))
    assert len({session.place for _, session in made}) == 50
    assert all(sessions.of([cookie]) == session for cookie, session in made)
    await store.close()


async def fill(store: LmdbStore) -> None:
    for number in range(1_000):
        await store.commit(Txn((Put("a", str(number), b"x" * 20_000),)))


async def test_in_a_full_store_one_may_log_in_and_out(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "data", map_bytes=2 << 20)
    await store.open()
    sessions = Sessions(store, b"token")
    await sessions.open()
    with pytest.raises(StoreFull):
        await fill(store)
    cookie, session = await begun(sessions, store)
    await sessions.end(session, ME.did(store, "logout"))
    assert sessions.of([cookie]) is None
    assert store.verify() == []
    await store.close()


async def test_a_clock_that_was_set_back_makes_no_session_last_longer() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    await store.open()
    sessions = Sessions(store, b"token")
    cookie, _ = await begun(sessions, store)
    clock.set_wall(clock.wall_ms() - LIFETIME_MS)
    assert sessions.of([cookie]) is None
    await store.close()
