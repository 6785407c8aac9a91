"""Who may ask the console what."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
from pathlib import Path
from types import ModuleType

import pytest
from console_kit import Console, config, serving, step

from iii import Engine, queue
from iii.config import ConsoleConfig, QueueConfig
from iii.console import security, sessions
from iii.console.files import STATIC, STYLES
from iii.console.security import COOKIE
from iii.errors import ConfigError

TOKEN = "a-long-random-text"
GUARDED = ConsoleConfig(port=0, token=TOKEN)


async def idle(mail: object) -> None: ...


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:3113", "localhost.evil.example", "", "[", "10.0.0.1"]
)
async def test_a_name_that_was_rebound_to_us_is_refused(tmp_path: Path, host: str) -> None:
    async with serving(tmp_path) as console:
        for path in ("/", "/api/overview", "/static/app.js", "/metrics"):
            answer = await console.http.get(path, headers={"host": host})
            assert answer.status_code in (400, 421), answer.text
            assert "content-security-policy" in answer.headers and answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:3113", "a.localhost", "iii.example.com"]
)
async def test_its_own_names_and_the_configured_ones_are_served(tmp_path: Path, host: str) -> None:
    named = ConsoleConfig(port=0, hosts=("iii.example.com",))
    async with serving(tmp_path, console=named) as console:
        assert (await console.http.get("/api/overview", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1.evil.example"]
)
async def test_a_page_of_another_origin_changes_nothing(tmp_path: Path, origin: str) -> None:
    async with serving(tmp_path, step(idle, queue("mail"), name="Mail")) as console:
        body = {"topic": "mail", "data": 1}
        answer = await console.http.post("/api/enqueue", json=body, headers={"origin": origin})
        assert answer.status_code == 403
        crossed = await console.http.post("/api/enqueue", json=body, headers={"sec-fetch-site": "cross-site"})
        assert crossed.status_code == 403
        assert await console.audit() == []


async def test_its_own_page_may_change_things(tmp_path: Path) -> None:
    async with serving(tmp_path, step(idle, queue("mail"), name="Mail")) as console:
        headers = {"origin": console.address, "sec-fetch-site": "same-origin"}
        answer = await console.http.post("/api/enqueue", json={"topic": "mail", "data": 1}, headers=headers)
        assert answer.status_code == 200


async def test_a_form_of_any_page_is_refused(tmp_path: Path) -> None:
    """Browsers send text/plain and forms across origins without asking first."""
    async with serving(tmp_path) as console:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            answer = await console.http.post(
                "/api/queues/pause", content=b'{"topic": "mail"}', headers={"content-type": kind}
            )
            assert answer.status_code == 415


async def test_with_a_token_only_pages_login_and_health_are_open(tmp_path: Path) -> None:
    async with serving(tmp_path, console=GUARDED) as console:
        for path in ("/", "/health", "/static/app.js"):
            assert (await console.http.get(path)).status_code == 200
        for path in ("/api/overview", "/metrics", "/api/events", "/api/nothing", "/api/login/x"):
            assert (await console.http.get(path)).status_code == 401
        for path in ("/static/..%2fapi/overview", "/static%2f..%2fapi%2foverview", "/health/../api/overview"):
            assert (await console.http.get(path)).status_code in (401, 404)
        assert (await console.http.post("/api/enqueue", json={})).status_code == 401


@pytest.mark.parametrize("given", ["", TOKEN[:-1], f"{TOKEN}x", TOKEN.upper(), "ü"])
async def test_a_wrong_token_is_refused(tmp_path: Path, given: str) -> None:
    async with serving(tmp_path, console=GUARDED) as console:
        assert (await console.http.post("/api/login", json={"token": given})).status_code == 401
        headers = [(b"authorization", f"Bearer {given}".strip().encode())]
        assert (await console.http.get("/api/overview", headers=headers)).status_code == 401


async def test_a_bearer_token_is_let_in(tmp_path: Path) -> None:
    async with serving(tmp_path, console=GUARDED, token=TOKEN) as console:
        await console.get("/api/overview")
        assert (await console.http.get("/metrics")).status_code == 200


async def test_a_login_sets_a_cookie_that_scripts_and_other_sites_cannot_use(tmp_path: Path) -> None:
    async with serving(tmp_path, console=GUARDED) as console:
        answer = await console.http.post("/api/login", json={"token": TOKEN})
        cookie = answer.headers["set-cookie"]
        parts = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "samesite=strict", "path=/"} <= parts
        assert cookie.startswith(f"{COOKIE}_") and TOKEN not in cookie and "secure" not in parts
        await console.get("/api/overview")
        gone = await console.http.post("/api/logout", json={})
        assert "Max-Age=0" in gone.headers["set-cookie"]
        assert (await console.http.get("/api/overview")).status_code == 401


@pytest.mark.parametrize(
    ("module", "digests"), [(security, ["self._token"]), (sessions, ["self._digest(head).encode()"])]
)
def test_secrets_are_compared_in_constant_time_only(module: ModuleType, digests: list[str]) -> None:
    """Times cannot be asserted on; that no secret is compared in any other way can be read in the code."""
    secrets = ("self._token", "self._digest")
    nodes = list(ast.walk(ast.parse(inspect.getsource(module))))
    compared = [
        ast.unparse(side)
        for node in nodes
        if isinstance(node, ast.Compare)
        for side in ast.iter_child_nodes(node)
    ]
    assert not [side for side in compared if side.startswith(secrets)]
    assert digests == [
        ast.unparse(node.args[1])
        for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "hmac.compare_digest"
    ]


async def test_beyond_loopback_it_does_not_start_without_a_token(tmp_path: Path) -> None:
    engine = Engine(config(tmp_path, ConsoleConfig(host="0.0.0.0", port=0)), [], console=True)
    with pytest.raises(ConfigError, match="set a token") as refused:
        await engine.start()
    assert refused.value.field == "console.token"
    open_to_all = ConsoleConfig(host="0.0.0.0", port=0, token=TOKEN)
    async with serving(tmp_path, console=open_to_all, token=TOKEN) as console:
        port = console.address.rpartition(":")[2]
        answer = await console.http.get(f"http://127.0.0.1:{port}/api/overview")
        assert answer.status_code == 200


async def test_read_only_shows_everything_and_changes_nothing(tmp_path: Path) -> None:
    shown = ConsoleConfig(port=0, read_only=True)
    async with serving(tmp_path, step(idle, queue("mail"), name="Mail"), console=shown) as console:
        assert (await console.get("/api/overview"))["read_only"] is True
        for method, path in (
            ("POST", "/api/enqueue"),
            ("POST", "/api/queues/pause"),
            ("POST", "/api/queues/purge"),
            ("PUT", "/api/state/a/b"),
            ("DELETE", "/api/state/a/b"),
            ("POST", "/api/request"),
        ):
            error = await console.refused(403, method, path, {"topic": "mail", "data": 1})
            assert "read_only" in error["message"]
        assert await console.audit() == []
        await console.post("/api/logout")


async def test_every_answer_carries_the_headers_that_keep_pages_in(tmp_path: Path) -> None:
    async with serving(tmp_path) as console:
        for path, status in (
            ("/", 200),
            ("/static/app.js", 200),
            ("/api/overview", 200),
            ("/api/nothing", 404),
        ):
            answer = await console.http.get(path)
            assert answer.status_code == status
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "script-src 'self'" in policy
            assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
        assert (await console.http.get("/api/overview")).headers["cache-control"] == "no-store"


async def test_the_page_has_no_inline_script_or_style(tmp_path: Path) -> None:
    async with serving(tmp_path) as console:
        text = (await console.http.get("/")).text
        assert "<script>" not in text and " style=" not in text and " onclick=" not in text
        assert "<style" not in text


async def test_static_files_come_with_a_type_and_an_etag_and_nothing_beside_them(tmp_path: Path) -> None:
    async with serving(tmp_path) as console:
        answer = await console.http.get("/static/app.js")
        assert answer.headers["content-type"].startswith("text/javascript")
        again = await console.http.get("/static/app.js", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        styles = await console.http.get("/static/all.css")
        assert styles.headers["content-type"].startswith("text/css")
        assert styles.text == "\n".join((STATIC / name).read_text() for name in STYLES)
        (tmp_path / "secret.txt").write_text("secret")
        up = os.path.relpath(tmp_path / "secret.txt", STATIC)
        for path in (up, up.replace("..", "%2e%2e"), up.replace("/", "%2f"), f"/{tmp_path}/secret.txt"):
            assert await raw_status(console, f"/static/{path}") == 404
        outside = ("../app.py", "%2e%2e/app.py", "..%2fapp.py", "/etc/passwd.txt", "%2fetc%2fhosts.txt")
        for path in (*outside, "", "vendor", "%00.js", "nothing.js"):
            assert await raw_status(console, f"/static/{path}") == 404


async def raw_status(console: Console, path: str) -> int:
    """Of a request whose path no client tidies up."""
    host, port = console.address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    return int(head.split()[1])


async def test_a_hostile_payload_is_data(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\u2028\x00"

    async def fail(mail: object) -> None:
        raise ValueError(hostile)

    queues = {"mail": QueueConfig(max_retries=0)}
    async with serving(tmp_path, step(fail, queue("mail"), name="Mail"), queues=queues) as console:
        [id] = (await console.post("/api/enqueue", {"topic": "mail", "data": {hostile: hostile}}))["ids"]
        await console.engine.idle(20, due_only=True)
        for path in (f"/api/messages/{id}", "/api/dead", "/api/runs", "/api/queues/mail.failed/messages"):
            answer = await console.http.get(path)
            assert answer.headers["content-type"] == "application/json"
            assert "onerror" in json.dumps(answer.json())
        message = await console.get(f"/api/messages/{id}")
        assert message["payload"] == {hostile: hostile}


async def test_a_body_that_is_too_large_or_no_json_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as console:
        answer = await console.http.post(
            "/api/enqueue", content=b"x" * (9 << 20), headers={"content-type": "application/json"}
        )
        assert answer.status_code == 413
        for body in (b"{", b"[]", b'{"topic": 5}', b"\xff", b'{"a":' * 5_000):
            answer = await console.http.post(
                "/api/enqueue", content=body, headers={"content-type": "application/json"}
            )
            assert answer.status_code == 400, answer.text
            assert isinstance(answer.json()["error"]["message"], str)


def test_the_default_is_loopback_without_a_token() -> None:
    default = ConsoleConfig()
    assert (default.host, default.token, default.token_fault) == ("127.0.0.1", None, None)


async def test_the_audit_log_does_not_keep_a_token_of_the_request_builder(tmp_path: Path) -> None:
    async with serving(tmp_path) as console:
        await console.post("/api/request", {"method": "GET", "path": "/health?n=1&access_token=hunter2"})
        assert (await console.audit())[-1][1]["path"] == "/health?n=1&access_token=[redacted]"
