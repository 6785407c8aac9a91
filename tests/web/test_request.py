"""What a handler sees of a request: path, query, headers, cookies, and bodies of every kind."""

from __future__ import annotations

from typing import Any

import pytest
from web_kit import Reply, get, post, site

from iii.trace import Trace
from iii.web.cookies import read_cookies
from iii.web.request import Headers, MultiDict, Request, UploadedFile


async def echo_body(request: Any) -> Any:
    return {"body": request.body, "type": type(request.body).__name__}


async def seen(content: bytes, kind: str | None) -> Reply:
    async with site(post("/", echo_body)) as running:
        headers = {"content-type": kind} if kind is not None else {}
        return await running.send("POST", "/", content=content, headers=headers)


async def test_repeated_query_keys_are_kept() -> None:
    async def handler(request: Any) -> Any:
        return {
            "last": request.query["a"],
            "all": request.query.get_all("a"),
            "blank": request.query["b"],
            "missing": request.query.get("c"),
            "none": request.query.get_all("c"),
            "params": request.query_params["a"],
        }

    async with site(get("/", handler)) as running:
        reply = await running.send("GET", "/?a=1&b=&a=%32+2")
    assert reply.json() == {
        "last": "2 2",
        "all": ["1", "2 2"],
        "blank": "",
        "missing": None,
        "none": [],
        "params": "2 2",
    }


async def test_path_parameters_are_decoded_and_an_encoded_slash_stays_inside_its_segment() -> None:
    async def handler(request: Any) -> Any:
        return [request.path_params, request.params["name"], request.path]

    async with site(get("/files/:folder/{name}", handler)) as running:
        reply = await running.send("GET", "/files/caf%C3%A9/a%2Fb%20c")
        assert reply.json() == [{"folder": "café", "name": "a/b c"}, "a/b c", "/files/café/a/b c"]


async def test_json_without_a_schema_is_decoded() -> None:
    assert (await seen(b'{"a": [1, null]}', "application/json")).json() == {
        "body": {"a": [1, None]},
        "type": "dict",
    }
    assert (await seen(b"[" * 100_000, "application/json")).status == 400


async def test_integers_over_64_bits_are_refused_and_never_rounded() -> None:
    async def handler(request: Any) -> Any:
        return str(request.body)

    async with site(post("/", handler)) as running:
        for content, status in ((b"18446744073709551615", 200), (b"18446744073709551616", 400)):
            reply = await running.send(
                "POST", "/", content=content, headers={"content-type": "application/json"}
            )
            assert (reply.status, content in reply.body) == (status, True)


async def test_a_form_without_a_schema_is_a_dict_of_fields() -> None:
    async def handler(request: Any) -> Any:
        return [request.body["a"], request.body.get_all("a"), dict(request.body)]

    async with site(post("/", handler)) as running:
        kind = {"content-type": "application/x-www-form-urlencoded"}
        reply = await running.send("POST", "/", content=b"a=1&a=%C3%A9+x&b=", headers=kind)
        assert reply.json() == ["é x", ["1", "é x"], {"a": "é x", "b": ""}]
        reply = await running.send("POST", "/", content=b"a=%ff", headers=kind)
        assert (reply.status, reply.json()["error"]) == (400, "invalid form")


MULTIPART = (
    b'--xyz\r\nContent-Disposition: form-data; name="title"\r\n\r\n caf\xc3\xa9\r\n'
    b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n'
    b"Content-Type: image/png\r\n\r\n\x00\x01\r\n\xff\r\n"
    b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="b.txt"\r\n\r\nsecond\r\n'
    b"--xyz--\r\n"
)


async def test_a_multipart_form_has_fields_and_files() -> None:
    found: list[MultiDict[str | UploadedFile]] = []

    async def handler(request: Any) -> None:
        found.append(request.body)

    async with site(post("/", handler)) as running:
        kind = {"content-type": 'multipart/form-data; boundary="xyz"'}
        assert (await running.send("POST", "/", content=MULTIPART, headers=kind)).status == 204
    assert found[0]["title"] == " café"
    assert found[0].get_all("file") == [
        UploadedFile("a.png", "image/png", b"\x00\x01\r\n\xff"),
        UploadedFile("b.txt", "application/octet-stream", b"second"),
    ]


BAD_FORMS = {
    "no boundary": ("multipart/form-data", MULTIPART),
    "another boundary": ("multipart/form-data; boundary=abc", MULTIPART),
    "cut short": ("multipart/form-data; boundary=xyz", MULTIPART[:-20]),
    "cut in a header": ("multipart/form-data; boundary=xyz", MULTIPART[:30]),
    "not a form": ("multipart/form-data; boundary=xyz", b"hello"),
    "a part without a name": (
        "multipart/form-data; boundary=xyz",
        b"--xyz\r\nContent-Disposition: form-data\r\n\r\na\r\n--xyz--\r\n",
    ),
    "too many parts": (
        "multipart/form-data; boundary=xyz",
        b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 1001 + b"--xyz--\r\n",
    ),
    "a name that is no UTF-8": (
        "multipart/form-data; boundary=xyz",
        b'--xyz\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n1\r\n--xyz--\r\n',
    ),
}


@pytest.mark.parametrize(("kind", "content"), BAD_FORMS.values(), ids=BAD_FORMS)
async def test_a_malformed_form_is_400(kind: str, content: bytes) -> None:
    reply = await seen(content, kind)
    assert (reply.status, reply.json()["error"]) == (400, "invalid form")
    assert reply.json()["details"][0]["message"]


async def test_any_other_body_is_bytes_and_none_is_none() -> None:
    async def handler(request: Any) -> Any:
        return request.body

    async with site(post("/", handler)) as running:
        for kind in ("text/plain", "application/octet-stream", "image/png"):
            reply = await running.send("POST", "/", content=b"\xff\x00", headers={"content-type": kind})
            assert (reply.status, reply.body) == (200, b"\xff\x00")
        assert (await running.send("POST", "/", content=b"\xff")).body == b"\xff"
        assert (await running.send("POST", "/", headers={"content-type": "application/json"})).status == 204


async def test_the_raw_body_is_there_beside_the_decoded_one() -> None:
    async def handler(request: Any) -> Any:
        return [request.raw.decode(), request.content_type]

    async with site(post("/", handler)) as running:
        reply = await running.send(
            "POST", "/", content=b'{"a":  1}', headers={"content-type": "Application/JSON; charset=utf-8"}
        )
    assert reply.json() == ['{"a":  1}', "application/json"]


def test_headers_are_found_whatever_their_case_and_repeated_ones_kept() -> None:
    headers = Headers([(b"X-Tag", b"a"), (b"x-tag", b"b"), (b"cookie", b"a=1"), (b"cookie", b"b=2")])
    assert headers["x-TAG"] == "a, b"
    assert headers.get_all("X-Tag") == ["a", "b"]
    assert "X-tag" in headers
    assert "y" not in headers
    assert headers.get("y") is None
    assert headers["Cookie"] == "a=1; b=2"
    assert list(headers) == ["x-tag", "cookie"]


def test_cookies_are_read_leniently() -> None:
    request = Request("GET", "/", raw_headers=[(b"cookie", b'a=1; b="two words"; =x; c; d=; a=2;e=x=y')])
    assert request.cookies == {"a": "1", "b": "two words", "d": "", "e": "x=y"}
    assert Request("GET", "/").cookies == {}


@pytest.mark.parametrize("odd", ['"\\\\\\', "a[]=1", 'b="un;closed', "=", "c d=e", "é=é", "; ;;", "x"])
def test_an_odd_cookie_takes_none_of_its_neighbours_with_it(odd: str) -> None:
    cookies = read_cookies(f"before=1; {odd}; after=2")
    assert (cookies["before"], cookies["after"]) == ("1", "2")


def test_cookies_of_several_lines_are_read_as_one_and_their_values_keep_what_only_looks_like_space() -> None:
    request = Request("GET", "/", raw_headers=[(b"cookie", b"a=\xa0x\xa0"), (b"cookie", b"\tb = 2 ;")])
    assert request.cookies == {"a": "\xa0x\xa0", "b": "2"}


async def test_step_trace_client_and_trigger_are_told() -> None:
    async def handler(request: Any, ctx: Any) -> Any:
        assert isinstance(request.trace, Trace)
        trigger = ctx.trigger
        return {
            "step": request.step,
            "same": request.trace.trace_id == ctx.trace_id,
            "trigger": [trigger.type, trigger.index, trigger.method, trigger.path],
            "attempt": ctx.attempt,
        }

    async with site(get("/a/:id", handler, name="Seeing")) as running:
        assert (await running.send("GET", "/a/1")).json() == {
            "step": "Seeing",
            "same": True,
            "trigger": ["http", 0, "GET", "/a/{id}"],
            "attempt": 1,
        }
