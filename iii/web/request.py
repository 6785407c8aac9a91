"""What a handler and its middleware see of an HTTP request. Knows no transport, no route and no schema.

A transport makes a `Request` from the head and the whole body; the endpoint fills in what the route
and its schemas say (path_params, query_params, body). Headers, query and cookies are parsed when first read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from msgspec import Struct, field

from iii.formats.percent import unquoted
from iii.trace import Trace
from iii.web.cookies import read_cookies

__all__ = ["Headers", "MultiDict", "Request", "UploadedFile"]

FIELDS_MAX = 1000
"""Fields a query string or a form may have; parsing more would be a way to keep the loop busy."""

NO_TRACE = Trace("")

T = TypeVar("T")


class MultiDict(Mapping[str, T], Generic[T]):
    """A read-only dict with repeated keys: `d["a"]` is the last value, `d.get_all("a")` all of them."""

    __slots__ = ("_lists",)

    def __init__(self, lists: Mapping[str, list[T]]) -> None:
        self._lists = lists

    def __getitem__(self, name: str) -> T:
        return self._lists[name][-1]

    def get_all(self, name: str) -> list[T]:
        """Every value of `name` in the order sent; [] where there is none."""
        return list(self._lists.get(name, ()))

    def lists(self) -> dict[str, list[T]]:
        return {name: list(values) for name, values in self._lists.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._lists)

    def __len__(self) -> int:
        return len(self._lists)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self._lists)!r})"


class Headers(Mapping[str, str]):
    """Request headers, whatever their case: repeated ones joined by ", ", or apart with `get_all`."""

    __slots__ = ("_lists",)

    def __init__(self, raw: Sequence[tuple[bytes, bytes]]) -> None:
        self._lists: dict[str, list[str]] = {}
        for name, value in raw:
            self._lists.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))

    def __getitem__(self, name: str) -> str:
        lowered = name.lower()
        return ("; " if lowered == "cookie" else ", ").join(self._lists[lowered])

    def get_all(self, name: str) -> list[str]:
        return list(self._lists.get(name.lower(), ()))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._lists

    def __iter__(self) -> Iterator[str]:
        return iter(self._lists)

    def __len__(self) -> int:
        return len(self._lists)

    def __repr__(self) -> str:
        return f"Headers({self._lists!r})"


class UploadedFile(Struct, frozen=True):
    """A file out of a multipart form, whole in memory: forms obey the body limit."""

    filename: str
    content_type: str
    content: bytes


class Request(Struct, eq=False):
    """One request.

    method in upper case, raw_path percent-encoded and without query, names of raw_headers in lower case.

    body          validated by body_schema; else JSON value, form (MultiDict), bytes, or None when empty
    raw           the body's bytes
    path_params   {"id": "7"} for /orders/{id}, percent-decoded; also `params`
    query         every field as text (MultiDict); query_params: validated by its schema, else the same
    client        the address that asked; scheme, host: how, under which name (it may have a port). As trusted
                  proxies say, where one sent it (`http.trusted_proxies`)
    trace, step   the request's Trace; the name of the step that answers it
    """

    method: str
    raw_path: str
    query_string: bytes = b""
    raw_headers: Sequence[tuple[bytes, bytes]] = ()
    raw: bytes = b""
    client: str | None = None
    _fields: dict[bytes, bytes] | None = None
    scheme: str = "http"
    body: Any = None
    path: str = ""
    path_params: dict[str, str] = field(default_factory=dict)
    trace: Trace = NO_TRACE
    step: str = ""
    _headers: Headers | None = None
    _query: MultiDict[str] | None = None
    _query_params: Any = None
    _cookies: dict[str, str] | None = None
    forwarded_host: str | None = None

    @property
    def fields(self) -> dict[bytes, bytes]:
        """The last header of each name, as sent: what the endpoint itself looks up."""
        if self._fields is None:
            self._fields = dict(self.raw_headers)
        return self._fields

    @property
    def headers(self) -> Headers:
        if self._headers is None:
            self._headers = Headers(self.raw_headers)
        return self._headers

    @property
    def query(self) -> MultiDict[str]:
        """ValueError where the query string is not UTF-8 or has too many fields: the endpoint asks first."""
        if self._query is None:
            self._query = parse_fields(self.query_string)
        return self._query

    @property
    def query_params(self) -> Any:
        return self.query if self._query_params is None else self._query_params

    @query_params.setter
    def query_params(self, validated: Any) -> None:
        self._query_params = validated

    @property
    def cookies(self) -> dict[str, str]:
        if self._cookies is None:
            self._cookies = read_cookies(self.headers.get("cookie", ""))
        return self._cookies

    @property
    def host(self) -> str:
        """ "" in HTTP/1.0 without one."""
        return self.forwarded_host or self.fields.get(b"host", b"").decode("latin-1")

    @property
    def params(self) -> dict[str, str]:
        return self.path_params

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; "" where none was sent."""
        return self.fields.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")

    def __repr__(self) -> str:
        return f"Request({self.method} {self.raw_path})"


def parse_fields(encoded: bytes) -> MultiDict[str]:
    """The fields of a query string or an urlencoded form. ValueError: not UTF-8, or over FIELDS_MAX."""
    lists: dict[str, list[str]] = {}
    if encoded.count(b"&") >= FIELDS_MAX:
        raise ValueError(f"more than {FIELDS_MAX} fields")
    for pair in encoded.replace(b"+", b" ").split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            lists.setdefault(unquoted(name).decode(), []).append(unquoted(value).decode())
    return MultiDict(lists)
