"""DNS rebinding: on loopback nobody is answered who asks under a name that is not ours."""

from __future__ import annotations

import socket

import pytest
from http_kit import serving
from web_kit import get

from iii.config import HttpConfig
from iii.web.hosts import ACCEPTED_MAX, Hosts
from iii.web.port import listen
from iii.web.refused import Refused

OURS = [
    *("localhost", "LocalHost", "localhost.", "localhost:3000", "localhost:", "shop.localhost:80"),
    *("127.0.0.1", "127.0.0.1:3000", "127.9.9.9", "[::1]", "[::1]:3000", "[0:0::1]", "[::ffff:127.0.0.1]"),
    *("shop.test", "SHOP.TEST:8080", "10.1.2.3:80"),
]
FOREIGN = [
    *("evil.example", "evil.example:3000", "localhost.evil.example", "notlocalhost", "127.0.0.1.nip.io"),
    *(
        "10.0.0.1",
        "0.0.0.0",
        "[::]",
        "[::2]",
        "127.1",
        "2130706433",
        "0x7f000001",
        "localhost..",
        "a.shop.test",
    ),
]
NONE = [
    *(
        "",
        " ",
        ":80",
        "localhost:80:80",
        "localhost:x",
        "localhost:123456",
        "a b",
        "a,b",
        "a/b",
        "a?b",
        "a#b",
    ),
    *(
        "u@localhost",
        "[localhost]",
        "[::1",
        "::1",
        "[::1]x",
        "loc\u00e4lhost",
        "a" * 254,
        "%6cocalhost",
        "a\\b",
    ),
]


def loopback() -> Hosts:
    return Hosts(["127.0.0.1", "Shop.Test.", "10.1.2.3"])


@pytest.mark.parametrize("host", OURS)
def test_names_of_loopback_and_those_of_the_config_are_ours_whatever_their_port(host: str) -> None:
    assert loopback().accepts(host.encode())


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names_are_421_with_the_remedy(host: str) -> None:
    with pytest.raises(Refused, match=r"http\.hosts") as refused:
        loopback().check(host.encode())
    assert refused.value.status == 421
    assert Hosts().accepts(host.encode())


def test_where_every_address_is_ours_names_are_not_and_the_remedy_names_its_key() -> None:
    hosts = Hosts(["FD00:0::1", "shop.test"], key="console.hosts", any_address=True)
    for host in (b"10.0.0.1:80", b"[::]", b"[fd00::2]", b"shop.test", b"a.localhost"):
        assert hosts.accepts(host)
    for host in (b"evil.example", b"10.0.0.1.nip.io", b"127.1", b"2130706433"):
        with pytest.raises(Refused, match=r"console\.hosts"):
            hosts.check(host)
    assert Hosts(["FD00:0::1"]).accepts(b"[fd00::1]:80")


@pytest.mark.parametrize("host", NONE)
def test_what_is_no_host_is_400_wherever_we_listen(host: str) -> None:
    for hosts in (loopback(), Hosts()):
        with pytest.raises(Refused) as refused:
            hosts.check(host.encode("latin-1"))
        assert refused.value.status == 400


def test_what_was_found_good_is_remembered_but_not_for_ever() -> None:
    hosts = loopback()
    for number in range(3 * ACCEPTED_MAX):
        assert hosts.accepts(f"{number}.localhost".encode())
        assert not hosts.accepts(f"{number}.example".encode())
        assert len(hosts.accepted) <= ACCEPTED_MAX + 1
    assert None in hosts.accepted


def test_names_count_only_where_all_sockets_are_on_loopback() -> None:
    config = HttpConfig(host="localhost", hosts=("shop.test",))
    sockets = listen("localhost", 0)
    wide = socket.socket()
    wide.bind(("0.0.0.0", 0))
    try:
        assert not Hosts.on(sockets, config).accepts(b"evil.example")
        assert Hosts.on(sockets, config).accepts(b"shop.test")
        assert Hosts.on([*sockets, wide], config).accepts(b"evil.example")
    finally:
        for each in (*sockets, wide):
            each.close()


@pytest.mark.parametrize("lane", [True, False])
async def test_a_page_that_rebinds_its_name_reads_nothing(lane: bool) -> None:
    asked = []
    config = HttpConfig(port=0, hosts=("shop.test",))
    async with serving(get("/", lambda: asked.append(1)), config=config, lane=lane) as running:
        for path in ("/", "/health", "/openapi.json", "/none"):
            wire = await running.connect()
            wire.send(f"GET {path} HTTP/1.1", f"Host: evil.example:{running.port}", "Cookie: a=1")
            status, _, body = await wire.reply()
            assert status == 421
            assert b"evil.example" in body and b"shop.test" in body
            await wire.end()
        assert not asked
        for host in (f"127.0.0.1:{running.port}", f"localhost:{running.port}", "shop.test"):
            wire = await running.connect()
            wire.send("GET /health HTTP/1.1", f"Host: {host}")
            assert (await wire.reply())[0] == 200
            wire.writer.close()


@pytest.mark.parametrize("lane", [True, False])
async def test_an_upgrade_to_websocket_under_a_foreign_name_is_refused_too(lane: bool) -> None:
    async with serving(lane=lane) as running:
        wire = await running.connect()
        upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        wire.send(
            "GET / HTTP/1.1", "Host: evil.example", *upgrade, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
        )
        assert (await wire.reply())[0] == 421
        await wire.end()
