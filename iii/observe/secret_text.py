"""Secrets within a text: a message, an error, a traceback. HIDDEN stands in the place of each.

    password=hunter2   apiKey: "x"   {'token': 'x'}   ?access_token=x&   the value, to where it ends
    Authorization: Digest a, b       Cookie: a=b      the rest of the line
    Bearer x   Basic dXNlcjpwYXNz                     what follows
    postgres://user:secret@host/db                    the password; of https://x@host the x

It sees names and shapes, no meanings: a bare secret in a sentence ("tried hunter2") stays. Every step of it
goes forwards, so that a hostile text costs no more time than its length.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from iii.observe.secret_names import SecretNames

__all__ = ["HIDDEN", "TEXT_CHARS_MAX", "SecretText"]

HIDDEN = "[redacted]"
TEXT_CHARS_MAX = 32 << 10
"""Of a longer text only its beginning and its end are looked at, and kept."""

NAME_CHARS_MAX = 64

_QUOTED = r"\\{0,4}+[\"']"
_AFTER_NAME = (  # : or =, or the comma of a pair, both of its sides in quotes
    rf"[\w.\-]{{0,64}}+(?:(?:{_QUOTED})?+\]?+[ \t]{{0,3}}+(?::=|=>|[:=])|{_QUOTED},(?=[ \t]{{0,3}}b?[\"']))"
    r"[ \t]{0,3}+"
)
_NAME_BEFORE = re.compile(r"[\w.\-]*\Z")
_QUOTE = re.compile(r"[a-zA-Z]?(\\{0,4}[\"'])")
_BRACKET = re.compile(r"[\[\](){}]")
_BARE = re.compile(r"[^\s,;&)\]}>\"'|\\]+")
_TO_THE_END_OF_THE_LINE = re.compile(r"[^\r\n\"'\\}\]]+")
_SCHEME = re.compile(r"(?:bearer|basic|digest|negotiate|token|apikey)\s+", re.IGNORECASE)
_CREDENTIAL = re.compile(r"[\w.~+/=:\-]+")
_AUTHORITY = re.compile(r"[^\s/?#\"'<>]{0,2048}")
_PORT = re.compile(r"(?:\[[^\]]*\]|[\w.\-%]*)(?::\d{0,5})?\Z")
_USER = re.compile(r"[^\s\"'<>@]{0,512}@")

Find: TypeAlias = Callable[[str, int], "re.Match[str] | None"]

_WHOLE_LINE = frozenset(("authorization", "proxy-authorization", "cookie", "set-cookie"))
_SENTENCES = """
a an and as at cannot does expected extra field for from has have header in input invalid is it
length may missing must no none not null object of or required should string the to too true false
type unknown value was were with auth authentication authorization scheme schema token tokens
"""
_PROSE = frozenset(_SENTENCES.split())
_NOT_BASIC = re.compile(r"[A-Z]?[a-z]*[.:]?\Z")


class SecretText:
    __slots__ = ("_find", "_glance", "_names")

    def __init__(self, names: SecretNames) -> None:
        self._names = names
        scheme = r"\b(?P<scheme>bearer|basic)[ \t]{1,3}+"
        found = rf"(?P<name>{names.pattern}){_AFTER_NAME}|(?P<url>://)|{scheme}"
        self._find: Find = re.compile(found, re.IGNORECASE).search
        self._glance: Find = re.compile(f"{names.pattern}|://|bearer|basic").search  # ten times as quick

    def __call__(self, text: str) -> str:
        """`text` without its secrets."""
        if len(text) > TEXT_CHARS_MAX:
            text = shortened(text)
        lowered = text.lower()
        if ":" not in text and "=" not in text and "," not in text:
            if "bearer" not in lowered and "basic" not in lowered:
                return text
        elif self._glance(lowered, 0) is None:
            return text
        return self._cleared(text)

    def of_traceback(self, text: str) -> str:
        """As that; of source code only what stands in quotes: `token = read_token()` says nothing."""
        lines, kept = shortened(text).split("\n"), []
        is_code = False
        for line in lines:
            kept.append(self._cleared(line, is_code=True) if is_code and len(line) < 1_000 else self(line))
            is_code = line.lstrip(" |").startswith('File "') and ", line " in line
        return "\n".join(kept)

    def _cleared(self, text: str, *, is_code: bool = False) -> str:
        parts: list[str] = []
        at = 0  # up to where `text` is in `parts`
        found = self._find(text, 0)
        while found is not None:
            go_on = found.end()
            secret = self._secret(text, found)
            if is_code and secret is not None and found["name"] and not _in_quotes(text, secret[0]):
                secret = None
            if secret is not None and secret[0] >= at:
                start, end = secret
                parts += text[at:start], HIDDEN
                at, go_on = end, max(go_on, end)
            found = self._find(text, go_on)
        return "".join((*parts, text[at:])) if parts else text

    def _secret(self, text: str, found: re.Match[str]) -> tuple[int, int] | None:
        """Where the secret stands; None where there is none."""
        if found["url"]:
            return _in_url(text, found.start(), found.end())
        if found["scheme"]:
            return _after_scheme(text, found)
        before = _NAME_BEFORE.search(text, max(0, found.start() - NAME_CHARS_MAX), found.start())
        start = before.start() if before is not None else found.start()
        name = re.match(r"[\w.\- ]*[\w.\-]", text[start : found.end()])
        told = (name[0] if name is not None else found["name"]).strip("-.")
        return self._value(text, found.end(), told, is_prose=text[found.end() - 1] in " \t")

    def _value(self, text: str, at: int, name: str, *, is_prose: bool) -> tuple[int, int] | None:
        if text.startswith(HIDDEN, at):
            return None
        bare = _BARE.match(text, at)
        value = _literal(bare[0]) if bare is not None else ""
        if not self._names.hides(name, value):
            return None
        if (quote := _QUOTE.match(text, at)) is not None:
            return quote.end(), _closing(text, quote.end(), quote[1])
        if text[at : at + 1] in ("[", "{", "("):
            return at, _closing_bracket(text, at)
        if name.lower() in _WHOLE_LINE:
            return _extent(_TO_THE_END_OF_THE_LINE, text, at)
        if bare is None or (is_prose and bare[0].rstrip(".:").lower() in _PROSE):
            return None
        if (scheme := _SCHEME.match(text, at)) is not None:
            return _extent(_BARE, text, scheme.end())
        return at, bare.end()


def shortened(text: str) -> str:
    """Its first quarter and its last three: what an error says stands at its end."""
    left_out = len(text) - TEXT_CHARS_MAX
    if left_out <= 0:
        return text
    begins, ends = TEXT_CHARS_MAX // 4, TEXT_CHARS_MAX * 3 // 4
    return f"{text[:begins]} ... ({left_out:,} characters left out) ... {text[-ends:]}"


def _in_quotes(code: str, at: int) -> bool:
    """Whether what stands there is part of a literal."""
    quote = ""
    for before, character in zip(f" {code}", code[:at], strict=False):
        if character in "\"'" and before != "\\":
            quote = "" if quote == character else quote or character
    return bool(quote)


def _literal(word: str) -> object:
    """What is no text: numbers, true, null."""
    if word.lower() in ("true", "false", "null", "none"):
        return None
    return 0 if word.replace(".", "", 1).isdecimal() else word


def _extent(pattern: re.Pattern[str], text: str, at: int) -> tuple[int, int] | None:
    found = pattern.match(text, at)
    return found.span() if found is not None else None


def _closing(text: str, at: int, quote: str) -> int:
    """Where the quoted text ends that begins at `at`; the end of its line where nothing ends it."""
    end = text.find(quote, at)
    while end > at and len(quote) == 1 and text[end - 1] == "\\" and text[end - 2] != "\\":
        end = text.find(quote, end + 1)
    if end < 0:
        end = text.find("\n", at)
    return len(text) if end < 0 else end


def _closing_bracket(text: str, at: int) -> int:
    depth = 0
    for found in _BRACKET.finditer(text, at):
        depth += 1 if found[0] in "[({" else -1
        if depth == 0:
            return found.end()
    return len(text)


def _in_url(text: str, start: int, at: int) -> tuple[int, int] | None:
    """The password in `user:password@host`; of a user alone, as a token is sent, only over HTTP."""
    authority = _AUTHORITY.match(text, at)
    end = authority.end() if authority is not None else at
    host = text.rfind("@", at, end)
    if host < 0:
        if _PORT.match(text, at, end) is not None or (user := _USER.match(text, at)) is None:
            return None
        host = user.end() - 1  # a slash in the password
    colon = text.find(":", at, host)
    if colon >= 0:
        return colon + 1, host
    return (at, host) if text[max(0, start - 5) : start].lower().endswith(("http", "https")) else None


def _after_scheme(text: str, found: re.Match[str]) -> tuple[int, int] | None:
    credential = _CREDENTIAL.match(text, found.end())
    if credential is None:
        return None
    word = credential[0].rstrip(".,:;=").lower()
    if word in _PROSE or (found["scheme"].lower() == "basic" and _NOT_BASIC.match(credential[0])):
        return None
    return credential.span()
