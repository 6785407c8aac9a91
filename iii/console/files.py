"""The console's pages as they lie in static/: each with its type and an ETag. Nothing outside of it is
served."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

__all__ = ["file"]

STATIC = Path(__file__).parent / "static"
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
    if any(part in ("", ".", "..") or "/" in part or "\0" in part for part in parts):
        return None
    path = STATIC.joinpath(*parts)
    kind = TYPES.get(path.suffix)
    if kind is None or not path.is_file():
        return None
    stat = path.stat()
    content, etag = _content(path, stat.st_mtime_ns, stat.st_size)
    headers = {"etag": etag, "cache-control": "no-cache"}
    if etag in (each.strip() for each in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers=headers)
    return Response(content, headers={**headers, "content-type": kind})


@lru_cache(maxsize=256)
def _content(path: Path, mtime_ns: int, size: int) -> tuple[bytes, str]:
    """Read again when it was changed."""
    content = path.read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'
