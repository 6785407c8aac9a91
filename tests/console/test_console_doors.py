"""Whose page may ask the console, and which acts a console that only shows has: every one is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from socket import gethostname

import pytest
from console_kit import CONSOLE, DEADLINE_S, Console, serving, step
from msgspec.structs import replace

from iii import queue
from iii.console import bodies
from iii.console.app import PAGES
from iii.console.bodies import BODY_BYTES_MAX

TOKEN = "a-long-random-text"


async def idle(mail: object) -> None: ...


async def enqueue(console: Console, *headers: tuple[str, str | bytes]) -> int:
    given = [(name.encode(), each.encode() if isinstance(each, str) else each) for name, each in headers]
    body = b'{"topic": "mail", "data": 1}'
    if not any(name == "content-type" for name, _ in headers):
        given.append((b"content-type", b"application/json"))
    answer = await console.http.post("/api/enqueue", content=body, headers=given)
    return answer.status_code


ORIGINS = [
    "null", "", "file://", "http://", "http://[::1", "http://[", "//", "ftp://localhost", "localhost", "*",
    "http://localhost.evil.example", "http://evil.example#", "data:", "chrome-extension://a", "\xff\xfe", "http://\x80",
]  # fmt: skip


@pytest.mark.parametrize("origin", ORIGINS)
async def test_a_page_of_an_odd_origin_changes_nothing(tmp_path: Path, origin: str) -> None:
    async with serving(tmp_path, step(idle, queue("mail"), name="Mail")) as console:
        odd, own = ("origin", origin.encode("latin-1")), ("origin", console.address)
        for headers in ((odd,), (own, odd), (odd, own)):
            assert await enqueue(console, *headers) in (400, 403)
        assert await console.audit() == []


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "SAME-ORIGIN"])
async def test_a_page_of_another_site_or_port_asks_the_api_nothing(tmp_path: Path, site: str) -> None:
    """Cookies are the same on every port of a host."""
    async with serving(tmp_path, step(idle, queue("mail"), name="Mail")) as console:
        assert await enqueue(console, ("sec-fetch-site", site)) == 403
        for path in ("/api/overview", "/api/events", "/api/login"):
            answer = await console.http.get(path, headers={"sec-fetch-site": site})
            assert answer.status_code == 403
        assert (await console.http.get("/", headers={"sec-fetch-site": site})).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "text/plain;application/json", "application/jsonp", "", "x"])
async def test_what_changes_something_is_json_where_it_says_what_it_is(tmp_path: Path, kind: str) -> None:
    async with serving(tmp_path, step(idle, queue("mail"), name="Mail")) as console:
        own = ("origin", console.address)
        assert await enqueue(console, own, ("content-type", kind)) == 415
        twice = ("content-type", "application/json"), ("content-type", kind)
        assert await enqueue(console, *twice) in (400, 415)
        assert await enqueue(console, own, ("content-type", "Application/JSON; charset=utf-8")) == 200


@pytest.mark.parametrize(
    "host", ["evil@localhost", "localhost@evil", "localhost:1@evil", "127.0.0.1.evil", "a b"]
)
async def test_a_host_that_only_looks_like_ours_is_refused(tmp_path: Path, host: str) -> None:
    async with serving(tmp_path) as console:
        assert (await console.http.get("/api/overview", headers={"host": host})).status_code in (400, 421)


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("https://iii.example.com", "iii.example.com:443", 200),
        ("https://iii.example.com:443", "iii.example.com", 200),
        ("http://iii.example.com", "iii.example.com:80", 200),
        ("https://III.example.com", "iii.example.com", 200),
        ("https://iii.example.com", "iii.example.com:80", 403),
        ("https://iii.example.com:444", "iii.example.com", 403),
    ],
)
async def test_the_port_that_a_scheme_implies_need_not_be_written(
    tmp_path: Path, origin: str, host: str, status: int
) -> None:
    named = replace(CONSOLE, hosts=("iii.example.com",))
    async with serving(tmp_path, step(idle, queue("mail"), name="Mail"), console=named) as console:
        assert await enqueue(console, ("origin", origin), ("host", host)) == status


async def test_read_only_refuses_every_act_there_is(tmp_path: Path) -> None:
    acts = [(method, path) for page in PAGES for method, path, _ in page.ROUTES if method != "GET"]
    assert len(acts) > 10
    shown = replace(CONSOLE, read_only=True, token=TOKEN)
    async with serving(tmp_path, console=shown, token=TOKEN) as console:
        for method, path in [*acts, ("PATCH", "/api/state/a/b"), ("OPTIONS", "/api/overview")]:
            filled = path.replace("{", "").replace("}", "")
            error = await console.refused(403, method, filled, {})
            assert "read_only" in error["message"]
        assert await console.audit() == []
        assert (await console.http.post("/api/login", json={"token": TOKEN})).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/health", "/metrics", "/api/overview", "/%61pi/overview", "/api/x", "/x"]
)
async def test_nothing_but_files_is_kept_by_browsers_and_proxies(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as console:
        kept = (await console.http.get(path)).headers["cache-control"]
        assert kept == ("no-cache" if path == "/" else "no-store")


@pytest.mark.parametrize("framing", ["content-length: {size}", "transfer-encoding: chunked"])
async def test_a_body_that_is_too_large_is_413_however_it_is_framed(tmp_path: Path, framing: str) -> None:
    async with serving(tmp_path) as console:
        size = BODY_BYTES_MAX + 1
        body = b"%x\r\n%b\r\n" % (size, b" " * size) if "chunked" in framing else b""
        assert await status_of(console, framing.format(size=size), body) == 413
        assert await console.audit() == []


async def test_a_body_that_does_not_arrive_is_408(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_MS", 50)
    async with serving(tmp_path) as console:
        for framing, body in (("content-length: 9", b"{"), ("transfer-encoding: chunked", b"1\r\n{\r\n")):
            assert await status_of(console, framing, body) == 408


async def status_of(console: Console, framing: str, body: bytes) -> int:
    """Of an act that is sent so far."""
    host, port = console.address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = "POST /api/enqueue HTTP/1.1", "host: localhost", "content-type: application/json", framing
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        line = await asyncio.wait_for(reader.readline(), DEADLINE_S)
        return int(line.split()[1])
    finally:
        writer.close()


BEHIND = replace(CONSOLE, hosts=("iii.example.com",), trusted_proxies=("127.0.0.1",))


@pytest.mark.parametrize(
    ("told", "host", "origin", "status"),
    [
        ({"x-forwarded-host": "iii.example.com"}, "localhost", "http://iii.example.com", 200),
        ({"forwarded": "host=iii.example.com;proto=https"}, "localhost", "https://iii.example.com", 200),
        ({"forwarded": "host=iii.example.com;proto=https"}, "localhost", "http://iii.example.com", 403),
        ({"x-forwarded-host": "evil.example, iii.example.com"}, "localhost", "http://evil.example", 403),
        ({"x-forwarded-host": "evil.example"}, "localhost", "http://evil.example", 421),
        ({"x-forwarded-host": "iii.example.com"}, "evil.example", "http://iii.example.com", 421),
        ({"x-forwarded-host": "a/b"}, "localhost", "http://a/b", 403),
    ],
)
async def test_the_host_that_a_trusted_proxy_was_asked_for_is_ours_too_and_so_are_its_pages(
    tmp_path: Path, told: dict[str, str], host: str, origin: str, status: int
) -> None:
    async with serving(tmp_path, step(idle, queue("mail"), name="Mail"), console=BEHIND) as console:
        assert await enqueue(console, ("host", host), ("origin", origin), *told.items()) == status


async def test_what_others_say_of_the_host_that_was_asked_says_nothing(tmp_path: Path) -> None:
    alone = replace(BEHIND, trusted_proxies=())
    async with serving(tmp_path, step(idle, queue("mail"), name="Mail"), console=alone) as console:
        told = ("x-forwarded-host", "iii.example.com"), ("forwarded", "host=iii.example.com")
        assert await enqueue(console, *told, ("origin", "http://iii.example.com")) == 403
        assert await enqueue(console, *told, ("origin", console.address)) == 200


async def test_a_scheme_that_the_client_wrote_itself_opens_no_door(tmp_path: Path) -> None:
    """A proxy that appends its own: the first one may be anybody's."""
    async with serving(tmp_path, step(idle, queue("mail"), name="Mail"), console=BEHIND) as console:
        asked = ("host", "iii.example.com"), ("origin", "http://iii.example.com")
        assert await enqueue(console, *asked, ("x-forwarded-proto", "http, https")) == 403
        assert await enqueue(console, *asked, ("x-forwarded-proto", "https, http")) == 200


async def test_bound_to_all_addresses_each_is_ours_and_no_name_that_is_rebound(tmp_path: Path) -> None:
    wide = replace(CONSOLE, host="0.0.0.0", token=TOKEN)
    async with serving(tmp_path, console=wide, token=TOKEN) as console:
        for host, status in (
            ("10.1.2.3:3113", 200), ("[fd00::1]", 200), (gethostname(), 200), ("localhost", 200),
            ("evil.example", 421), ("10.0.0.1.nip.io", 421), ("", 400),
        ):  # fmt: skip
            answer = await console.http.get("/api/overview", headers={"host": host})
            assert answer.status_code == status, host
            assert status != 421 or "console.hosts" in answer.text


@pytest.mark.parametrize(
    "host", ["[::ffff:127.0.0.1]", "[::FFFF:7f00:1]:1", "127.9.9.9", "LocalHost.", "a.localhost"]
)
async def test_loopback_is_ours_however_it_is_written(tmp_path: Path, host: str) -> None:
    async with serving(tmp_path) as console:
        assert (await console.http.get("/api/overview", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(("host", "status"), [("evil", 421), ("a b", 400), ("localhost", 100)])
async def test_a_client_under_a_name_that_is_not_ours_is_refused_before_it_sends_its_body(
    tmp_path: Path, host: str, status: int
) -> None:
    async with serving(tmp_path) as console:
        address, port = console.address.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(address, int(port))
        try:
            head = "POST /api/enqueue HTTP/1.1", f"host: {host}", "content-length: 9", "expect: 100-continue"
            writer.write("\r\n".join([*head, "", ""]).encode())
            line = await asyncio.wait_for(reader.readline(), DEADLINE_S)
            assert int(line.split()[1]) == status
        finally:
            writer.close()
