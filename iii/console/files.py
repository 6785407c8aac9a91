"""The console's pages as they lie in static/: each with its type and an ETag. What is served is known at the
first request; no name that a client sends reaches the file system.

The style sheets go as one, ALL_STYLES: a page waits for each it links to before it paints.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

__all__ = ["file"]

STATIC = Path(__file__).parent / "static"
ALL_STYLES = "all.css"
STYLES = ("vendor/uplot.css", "theme.css", "layout.css", "parts.css", "pages.css")
"""In this order, later rules over earlier ones."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
}


def file(request: Request, parts: list[str]) -> Response | None:
    """The file at this path below static/; None where there is none. 304 for who has it already."""
    paths = _served().get(tuple(parts), ())
    if not paths or not all(path.is_file() for path in paths):
        return None
    content, etag = _content(*((path, path.stat().st_mtime_ns) for path in paths))
    headers = {"etag": etag, "cache-control": "no-cache"}
    if etag in (each.strip() for each in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers=headers)
    return Response(content, headers={**headers, "content-type": TYPES[paths[0].suffix]})


@lru_cache(maxsize=1)
def _served() -> dict[tuple[str, ...], tuple[Path, ...]]:
    """By the parts of its path, what a page is made of."""
    found = {
        path.relative_to(STATIC).parts: (path,)
        for path in STATIC.rglob("*")
        if path.suffix in TYPES and path.is_file()
    }
    return found | {(ALL_STYLES,): tuple(STATIC / name for name in STYLES)}


@lru_cache(maxsize=256)
def _content(*paths: tuple[Path, int]) -> tuple[bytes, str]:
    """Of (path, time of its last change), one after the other: read again when one was changed."""
    content = b"\n".join(path.read_bytes() for path, _ in paths)
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'
