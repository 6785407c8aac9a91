"""A client's address, scheme and host as trusted proxies say: and as nobody else does."""

from __future__ import annotations

from typing import Any

import pytest
from http_kit import Serve
from web_kit import Site, get, site

from iii.config import HttpConfig
from iii.web.forwarded import PEERS_MAX, Forwarded
from iii.web.request import Request

BEHIND = HttpConfig(port=0, hosts=("a",), trusted_proxies=("127.0.0.1", "10.0.0.0/8"))


async def seen(request: Any) -> Any:
    return [request.client, request.scheme, request.host]


def told(*headers: tuple[str, str], peer: str = "10.0.0.1") -> list[str | None]:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in (("host", "inner"), *headers)]
    request = Request("GET", "/", raw_headers=raw, client=peer)
    Forwarded(BEHIND.trusted_proxies).apply(request)
    return [request.client, request.scheme, request.host]


OWN = ["10.0.0.1", "http", "inner"]
X = {
    "nothing": ([], OWN),
    "all": (
        [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "b.test:80"),
        ],
        ["1.2.3.4", "https", "b.test:80"],
    ),
    "what the client wrote before": ([("x-forwarded-for", "6.6.6.6, 1.2.3.4")], ["1.2.3.4", "http", "inner"]),
    "two lines": (
        [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.2.3.4")],
        ["1.2.3.4", "http", "inner"],
    ),
    "two proxies": ([("x-forwarded-for", "1.2.3.4, 10.9.9.9")], ["1.2.3.4", "http", "inner"]),
    "two proxies that add": (
        [
            ("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.9.9.9"),
            ("x-forwarded-proto", "gopher, https, http"),
            ("x-forwarded-host", "evil.example, shop.test, inner"),
        ],
        ["1.2.3.4", "https", "shop.test"],
    ),
    "a scheme that the client wrote": ([("x-forwarded-proto", "https, http")], OWN),
    "a scheme that is none": ([("x-forwarded-proto", "javascript")], OWN),
    "a host that is none": ([("x-forwarded-host", "a/b")], OWN),
    "an address that is none": ([("x-forwarded-for", "unknown")], OWN),
    "IPv6 with a port": ([("x-forwarded-for", "[2001:db8::1]:4711")], ["2001:db8::1", "http", "inner"]),
    "Forwarded": (
        [("forwarded", 'for="[2001:db8::1]:4711";proto=https;by=10.0.0.1;host="shop.test:8443"')],
        ["2001:db8::1", "https", "shop.test:8443"],
    ),
    "Forwarded by two": (
        [("forwarded", "for=6.6.6.6;host=evil.example, For=1.2.3.4;Proto=HTTPS, for=10.9.9.9;proto=http")],
        ["1.2.3.4", "https", "inner"],
    ),
    "Forwarded, hidden": (
        [("forwarded", "for=_hidden;proto=https")],
        ["10.0.0.1", "https", "inner"],
    ),
    "both, which agree": (
        [("forwarded", "for=1.2.3.4"), ("x-forwarded-for", "1.2.3.4")],
        ["1.2.3.4", "http", "inner"],
    ),
    "both, which contradict each other": (
        [("forwarded", "for=6.6.6.6;proto=https"), ("x-forwarded-for", "1.2.3.4")],
        ["10.0.0.1", "https", "inner"],
    ),
}


@pytest.mark.parametrize(("headers", "expected"), X.values(), ids=X)
def test_what_a_trusted_proxy_says_counts_as_far_as_it_wrote_it(
    headers: list[tuple[str, str]], expected: list[str]
) -> None:
    assert told(*headers) == expected


@pytest.mark.parametrize("peer", ["192.0.2.1", "11.0.0.1", "::1"])
def test_from_others_the_same_headers_say_nothing(peer: str) -> None:
    for headers, _ in X.values():
        assert told(*headers, peer=peer) == [peer, "http", "inner"]


def test_hostile_headers_are_read_in_no_time_and_peers_are_forgotten() -> None:
    forwarded = Forwarded(["0.0.0.0/0"])
    for alphabet in (" ", '"', ",", ";", "=", "\t", 'for="', '",', ";=", "for=1.2.3.4,"):
        value = (alphabet * (64 << 10))[: 64 << 10].encode()
        for name in (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"):
            forwarded.apply(Request("GET", "/", raw_headers=[(name, value)], client="1.1.1.1"))
    for number in range(2 * PEERS_MAX):
        forwarded.apply(Request("GET", "/", client=f"1.1.{number >> 8}.{number & 255}"))
        assert len(forwarded._peers) <= PEERS_MAX


def ask(running: Site, **headers: str) -> Request:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    request = running.request("GET", "/", headers=named)
    request.client = "127.0.0.1"
    return request


async def test_where_no_proxy_is_trusted_the_headers_are_headers_like_others() -> None:
    async with site(get("/", seen)) as running:
        sent = await running.endpoint.answer(ask(running, x_forwarded_for="1.2.3.4", host="a"))
        assert sent.body == b'["127.0.0.1","http","a"]'


async def test_handlers_see_what_the_proxy_says_and_the_headers_as_they_came(serving: Serve) -> None:
    async def shown(request: Any) -> Any:
        return [*(await seen(request)), request.headers["x-forwarded-for"]]

    async with serving(get("/", shown), config=BEHIND) as running:
        wire = await running.connect()
        wire.send("GET / HTTP/1.1", "Host: a", "X-Forwarded-For: 9.9.9.9, 1.2.3.4")
        assert (await wire.reply())[2] == b'["1.2.3.4","http","a","9.9.9.9, 1.2.3.4"]'
        wire.writer.close()
