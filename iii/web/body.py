"""From body bytes to what a handler reads, by content type and schema.

    with body_schema    JSON that says so; anything else is 415, an empty body 400
    without             JSON value | form fields | bytes; not asked for when empty

A page of any site can have a browser send a form, plain text or a body of no type without a preflight (WHATWG
Fetch, "CORS-safelisted request-header"): none of these is taken for JSON.

Compressed bodies are refused: what they expand to is not known before the work is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from iii.errors import Detail, StepError, ValidationError
from iii.formats import codec
from iii.formats.json_text import REFUSED, parse
from iii.schema import Validator
from iii.web.refused import Refused
from iii.web.request import FIELDS_MAX, MultiDict, Request, UploadedFile, parse_fields
from iii_core.json_scan import is_plain, may_overflow

if TYPE_CHECKING:
    from python_multipart.multipart import Field, File

__all__ = ["read_body", "require_storable"]

URLENCODED, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
_JSON = b"application/json"
_ACCEPT_JSON = (b"accept", _JSON)


def read_body(request: Request, schema: Validator | None) -> object:
    """The decoded and checked body; without a schema there is one. Refused 415, or ValidationError (400)."""
    fields = request.fields
    is_plain = fields.get(b"content-type") == _JSON and b"content-encoding" not in fields
    if is_plain and schema is not None and request.raw:  # most
        return _validated(request.raw, schema)
    encoding = fields.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in (b"identity", b""):
        raise Refused(
            415,
            f"content-encoding {encoding.decode('latin-1')!r} is not accepted; send the body uncompressed",
            headers=((b"accept-encoding", b"identity"),),
        )
    media = request.content_type
    if schema is not None:
        return _checked(request, media, schema)
    if _is_json(media):
        _refuse_charset(request)
        return parse(request.raw)
    if media == URLENCODED:
        return _form(lambda: parse_fields(request.raw))
    if media == MULTIPART:
        return _form(lambda: _multipart(request))
    return request.raw


def _checked(request: Request, media: str, schema: Validator) -> object:
    if not (request.raw or media):
        raise ValidationError("validation failed", (Detail("", "a JSON body is required"),))
    if not _is_json(media):
        given = f"content type {media!r} is not accepted here" if media else "the body has no content type"
        message = f"{given}; send the header content-type: application/json (curl: --json instead of -d)"
        raise Refused(415, message, headers=(_ACCEPT_JSON,))
    _refuse_charset(request)
    if not request.raw:
        raise ValidationError("validation failed", (Detail("", "a JSON body is required"),))
    return _validated(request.raw, schema)


def _validated(raw: bytes, schema: Validator) -> object:
    if is_plain(raw):  # most: all that its reader takes is there, and can be stored
        value = schema.validate_json(raw)
        if not schema.is_exact:
            require_storable(value, lambda: parse(raw), raw)
        return value
    read = parse(raw)
    value = schema.validate_read(raw, read)
    if not schema.is_exact:
        require_storable(value, lambda: read, raw)
    return value


def require_storable(value: object, read: Callable[[], object], raw: bytes) -> None:
    """ValidationError where a schema made of what was read a number that cannot be stored. What it brought
    along itself, a default of infinity, is no fault of the client. `raw`: the text that was read."""
    if not may_overflow(raw):  # most; nothing is encoded, by serializers of the user's, without need
        return
    try:
        codec.encode(value)
    except StepError as error:
        fault = error.fault
        if fault is not None and not fault.is_type and _is_given(read(), fault.path):
            raise ValidationError(REFUSED, (Detail(error.field, fault.reason),)) from None


def _is_given(read: Any, path: Sequence[str | int]) -> bool:
    for step in path:
        if isinstance(read, str):
            return True  # of a query: one text, or a list of it
        try:
            read = read[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _is_json(media: str) -> bool:
    return media == "application/json" or media.endswith("+json")


def _refuse_charset(request: Request) -> None:
    """JSON is UTF-8 (RFC 8259 §8.1); another charset is refused rather than misread."""
    _, _, parameters = request.fields.get(b"content-type", b"").partition(b";")
    for parameter in parameters.split(b";") if parameters else ():
        name, _, value = parameter.strip().lower().partition(b"=")
        if name == b"charset" and value.strip(b'"') not in (b"utf-8", b"utf8", b"us-ascii"):
            charset = value.decode("latin-1")
            raise Refused(415, f"charset {charset} is not accepted; send UTF-8", headers=(_ACCEPT_JSON,))


def _form(parse: Callable[[], MultiDict[str] | MultiDict[str | UploadedFile]]) -> object:
    try:
        return parse()
    except ValueError as error:
        reason = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ValidationError("invalid form", (Detail("", reason),)) from None


def _multipart(request: Request) -> MultiDict[str | UploadedFile]:
    """RFC 7578 by python-multipart, all in memory. ValueError where it is malformed or cut short."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import FormParser, parse_options_header

    parts = _Parts()
    _, options = parse_options_header(request.fields[b"content-type"])
    if not options.get(b"boundary"):
        raise ValueError("the content type names no boundary")
    in_memory = {"MAX_MEMORY_FILE_SIZE": len(request.raw) + 1, "UPLOAD_ERROR_ON_BAD_CTE": True}
    try:
        parser = FormParser(
            MULTIPART,
            parts.on_field,
            parts.on_file,
            parts.on_end,
            boundary=options[b"boundary"],
            config=in_memory,
        )
        parser.write(request.raw)
        parser.finalize()
    except FormParserError as error:
        raise ValueError(f"malformed multipart: {error}") from None
    if not parts.complete:
        raise ValueError("malformed multipart: it ends before its last boundary")
    return MultiDict(parts.lists)


class _Parts:
    """What the multipart parser reports, gathered."""

    def __init__(self) -> None:
        self.lists: dict[str, list[str | UploadedFile]] = {}
        self.count = 0
        self.complete = False

    def on_field(self, field: Field) -> None:
        self._add(field.field_name, (field.value or b"").decode())

    def on_file(self, file: File) -> None:
        file.file_object.seek(0)
        name, kind = (file.file_name or b"").decode(), file.content_type or "application/octet-stream"
        self._add(file.field_name, UploadedFile(name, kind, file.file_object.read()))
        file.close()

    def on_end(self) -> None:
        self.complete = True

    def _add(self, name: bytes | None, part: str | UploadedFile) -> None:
        self.count += 1
        if self.count > FIELDS_MAX:
            raise ValueError(f"more than {FIELDS_MAX} fields")
        self.lists.setdefault((name or b"").decode(), []).append(part)
