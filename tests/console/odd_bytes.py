"""Requests and frames that are wrong in every way that bytes can be, for Hypothesis to draw from."""

from __future__ import annotations

import struct
from urllib.parse import quote

import hpack
from hypothesis import strategies as st

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA_FRAME, HEADERS_FRAME, SETTINGS_FRAME = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4

PIECES = [
    *(
        b"",
        b"a",
        b"%",
        b"%zz",
        b"%00",
        b"%ff",
        b"%ed%a0%80",
        b"%2f",
        b"..",
        b".",
        b"[",
        b"]",
        b"//[",
        b"http://[",
    ),
    *(
        b"\xff",
        b"\xed\xa0\x80",
        b"\x00",
        b"\x7f",
        b"\t",
        b" ",
        b"*",
        b"@",
        b":",
        b";",
        b"?",
        b"#",
        b"&",
        b"=",
        b"+",
    ),
    *(
        b"a" * 300,
        b"9" * 400,
        b"-1",
        b"1e3",
        b"0x10",
        b"NaN",
        b"18446744073709551616",
        b"\xc2\x85",
        b"\xe2\x80\xae",
    ),
    *(
        b"__proto__",
        b"null",
        b"true",
        b"'",
        b'"',
        b"\\",
        b"{}",
        b"[]",
        b"<x>",
        b"%u0041",
        b"%C0%AF",
        b"$",
        b"~",
        b"|",
    ),
]
odd = st.one_of(
    st.sampled_from(PIECES),
    st.lists(st.sampled_from(PIECES), max_size=4).map(b"".join),
    st.binary(max_size=12),
)
in_url = st.one_of(odd.map(lambda each: quote(each, safe="").encode()), st.just(b"mail"), odd)
HEADERS = [
    *(
        b"Host",
        b"Origin",
        b"Cookie",
        b"Authorization",
        b"Content-Type",
        b"Content-Length",
        b"Transfer-Encoding",
    ),
    *(
        b"Range",
        b"If-None-Match",
        b"If-Modified-Since",
        b"Last-Event-ID",
        b"traceparent",
        b"tracestate",
        b"Upgrade",
    ),
    *(
        b"Idempotency-Key",
        b"Expect",
        b"Accept",
        b"Accept-Encoding",
        b"Connection",
        b"Sec-Fetch-Site",
        b"Referer",
    ),
    *(b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Forwarded", b"HTTP2-Settings", b"TE"),
    *(b"Sec-WebSocket-Key", b"Sec-WebSocket-Version", b"Access-Control-Request-Method", b"Content-Encoding"),
    *(b"Access-Control-Request-Headers", b"X-\xff", b"A B", b""),
]
KNOWN = {
    b"Host": [
        b"localhost",
        b"127.0.0.1",
        b"[::1]",
        b"[::1",
        b"localhost:99999",
        b"localhost:x",
        b"a b",
        b"[::1]:",
    ],
    b"Origin": [
        b"null",
        b"http://[::1",
        b"http://localhost",
        b"http://localhost:1",
        b"http://",
        b"://",
        b"http://[x]",
    ],
    b"Content-Type": [
        *(b"application/json", b"application/json; charset=utf-16", b"application/x-www-form-urlencoded"),
        *(b"multipart/form-data; boundary=B", b"multipart/form-data", b'multipart/form-data; boundary="\\"'),
        *(
            b"multipart/form-data; boundary=" + b"B" * 300,
            b"text/plain",
            b"application/ld+json",
            b";;;",
            b"/",
        ),
    ],
    b"Content-Length": [
        b"+1",
        b"-1",
        b"1e3",
        b"1, 1",
        b"0x1",
        b"99999999999999999999",
        b" 1",
        b"1_0",
        b"\xb2",
    ],
    b"Transfer-Encoding": [b"chunked", b"gzip, chunked", b"chunked, chunked", b"identity", b"xchunked"],
    b"Range": [
        b"bytes=0-",
        b"bytes=-1",
        b"bytes=9-1",
        b"bytes=a-b",
        b"bytes=0-0,1-1",
        b"bytes=" + b"0-1," * 200,
    ],
    b"Cookie": [
        b"iii_console=x.y",
        b"iii_console=\xff.\xff",
        b"iii_console",
        b'iii_console="\\',
        b"a=b; " * 300,
    ],
    b"Authorization": [b"Bearer ", b"Bearer \xff", b"Bearer \xe9\xe9", b"Basic %%", b"Bearer", b"x" * 500],
    b"traceparent": [
        *(b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-00"),
        *(
            b"ff-x-y-z",
            b"00-" + b"\xe9" * 32 + b"-" + b"b" * 16 + b"-01",
            b"----",
            b"00-" + b"g" * 32 + b"-1-1",
        ),
    ],
    b"Upgrade": [b"websocket", b"h2c", b"\xff"],
    b"Connection": [b"close", b"keep-alive", b"Upgrade", b"Upgrade, HTTP2-Settings", b"close, close"],
    b"Expect": [b"100-continue", b"200-ok"],
    b"If-None-Match": [b"*", b'W/"x"', b"," * 400],
    b"If-Modified-Since": [b"Thu, 99 Foo 99999 99:99:99 GMT", b"-1"],
    b"Last-Event-ID": [b"9" * 400, b"-1", b"x"],
    b"Access-Control-Request-Method": [b"GET"],
}
headers = st.sampled_from(HEADERS).flatmap(
    lambda name: st.one_of(st.sampled_from(KNOWN.get(name, [b"x"])), odd).map(lambda value: (name, value))
)
FORM = b"--B\r\nContent-Disposition: form-data"
BODIES = [
    *(
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        b"[" * 3_000 + b"]" * 3_000,
        b'{"a":' * 3_000 + b"1" + b"}" * 3_000,
    ),
    *(
        b'{"token":' + b"[" * 3_000 + b"]" * 3_000 + b"}",
        b'{"text":"\\ud800"}',
        b'{"text":"\xed\xa0\x80"}',
        b"\xff",
    ),
    *(
        b'{"text":"a","n":18446744073709551616}',
        b'{"n":1e400}',
        b'{"n":NaN}',
        b'{"text":"a\\u0000b"}',
        b"1 2",
    ),
    *(
        b"\xef\xbb\xbf{}",
        '{"text":"a"}'.encode("utf-16"),
        b'{"text":"a","text":"b"}',
        b'{"\\ud800":1}',
        b"9" * 5_000,
    ),
    *(
        b"a=%zz&b=%ff&=&&;",
        b"&".join([b"a=1"] * 1_001),
        b"a=%ed%a0%80",
        b"--B\r\n\r\nx\r\n--B--",
        b"--B--",
        b"--B",
    ),
    b'--B\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n\xff\r\n--B--\r\n',
    FORM + b'; name="a"; filename="../\x00"\r\nContent-Type: \xff\r\n\r\nx\r\n--B--\r\n',
    b"--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--\r\n",
    b"--B\r\nContent-Disposition: \xff\r\n: \r\n\r\nx\r\n--B--\r\n",
    FORM + b'; name="a"\r\nContent-Transfer-Encoding: base64\r\n\r\n%%%\r\n--B--\r\n',
    b"5\r\nhello\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"-1\r\n\r\n",
    b"1;x=\xff\r\na\r\n0\r\nT: \xff\r\n\r\n",
]
bodies = st.one_of(st.sampled_from(BODIES), st.binary(max_size=40))
FIELDS = [
    "topic",
    "step",
    "ids",
    "filter",
    "dry_run",
    "payload",
    "priority",
    "delay_ms",
    "data",
    "delay",
    "group",
]
FIELDS += [
    "value",
    "if_version",
    "method",
    "path",
    "headers",
    "body",
    "token",
    "text",
    "n",
    "q",
    "error",
    "state",
]
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 70), 1 << 70),
        st.floats(),
        st.sampled_from(
            ["", "\0", "x" * 500, "$", "a/b", "\u202e", "9" * 50, "1e9", "5s", "GET", "/", "//[", "mail"]
        ),
        st.text(max_size=5),
    ),
    lambda each: st.one_of(
        st.lists(each, max_size=3), st.dictionaries(st.sampled_from(FIELDS), each, max_size=3)
    ),
    max_leaves=4,
)
PLAUSIBLE: dict[str, list[object]] = {
    "topic": ["mail", "mail.failed", "$cron/x", "$", ""],
    "step": ["Mail", None, ""],
    "ids": [["1"], [], ["x"], ["9" * 30], ["0" * 12 + "-1"]],
    "filter": [
        {},
        {"q": "a"},
        {"field": "a.b", "value": "1"},
        {"state": "dead"},
        {"field": "." * 50, "value": ""},
    ],
    "dry_run": [True, False],
    "payload": [{}, 1 << 64, [[]]],
    "priority": ["high", 255, 256, -1, 1 << 80, ""],
    "delay_ms": [0, -1, 1 << 62, 1 << 80],
    "data": [{}, None, 1 << 64, "x"],
    "delay": ["5s", 0, -1, "9" * 30 + "d", 1 << 70, "\u0665s"],
    "group": ["g", "", "\0", "x" * 600],
    "value": [1, None, {}, 1 << 64],
    "if_version": [0, -1, 1 << 62, 1 << 70],
    "method": ["GET", "POST", "get", "\u0131"],
    "path": ["/echo", "/echo/%zz/a?b=%ff", "//[", "/\n", "/" + "a" * 3_000, "/\0"],
    "headers": [{}, {"a\n": "b"}, {"a": "\xff"}, {"": ""}, {"traceparent": "-"}, {"host": "["}],
    "token": ["x" * 20, "\xe9" * 20, ""],
}
json_objects = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(st.sampled_from(values), st.sampled_from(values), json_values)
        for name, values in PLAUSIBLE.items()
    },
)


def request_of(
    method: bytes,
    target: bytes,
    fields: list[tuple[bytes, bytes]],
    body: bytes,
    *,
    framed: bool,
    version: bytes = b"1.1",
    lf: bytes = b"\r\n",
) -> bytes:
    """framed: with a host and the length of its body, unless `fields` have them."""
    names = {name.lower() for name, _ in fields}
    if framed:
        own = {b"host": (b"Host", b"localhost"), b"content-length": (b"Content-Length", b"%d" % len(body))}
        fields = [*(pair for name, pair in own.items() if name not in names), *fields]
        if b"connection" not in names:
            fields = [*fields, (b"Connection", b"close")]
    lines = [b"%s %s HTTP/%s" % (method, target, version), *(b"%s: %s" % pair for pair in fields), b"", b""]
    return lf.join(lines) + body


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def frames_of(frames: list[tuple[int, int, int, bytes]]) -> bytes:
    """A connection of HTTP/2 that sends these."""
    return PREFACE + frame(SETTINGS_FRAME, 0, 0, b"") + b"".join(frame(*each) for each in frames)


pseudo_headers = st.fixed_dictionaries(
    {},
    optional={
        b":method": st.one_of(st.sampled_from([b"GET", b"POST", b"CONNECT", b"\xff"]), odd),
        b":path": st.one_of(st.sampled_from([b"/echo", b"/typed", b"*", b"", b"echo"]), odd),
        b":scheme": st.one_of(st.just(b"http"), odd),
        b":authority": st.one_of(st.just(b"localhost"), odd),
        b":protocol": st.just(b"websocket"),
    },
)


def http2_of(pseudo: dict[bytes, bytes], fields: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    block = hpack.Encoder().encode([*pseudo.items(), *((name.lower(), value) for name, value in fields)])
    frames = [(HEADERS_FRAME, END_HEADERS | (0 if body else END_STREAM), 1, block[:16_000])]
    if body:
        frames.append((DATA_FRAME, END_STREAM, 1, body[:16_000]))
    return frames_of(frames)
