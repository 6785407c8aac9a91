"""What never leaves: values under names that say so, and secrets within texts."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import msgspec
import pytest

from iii.observe.redaction import HIDDEN, Redaction
from iii.observe.secret_text import TEXT_CHARS_MAX
from iii.sections import LogConfig

REDACT = Redaction(LogConfig().redact)

SECRET_NAMES = [
    *("password", "PASSWORD", "userPassword", "user_password", "db.password", "passwords", "dbpassword"),
    *("passwd", "mysql_pwd", "passphrase", "secret", "clientSecret", "AWS_SECRET_ACCESS_KEY", "token"),
    *(
        "accessToken",
        "csrftoken",
        "id-token",
        "api_key",
        "apiKey",
        "APIKey",
        "X-Api-Key",
        "apikey",
        "x-apikey",
    ),
    *(
        "Authorization",
        "Proxy-Authorization",
        "cookie",
        "Set-Cookie",
        "cookies",
        "credentials",
        "private key",
    ),
    *("privateKey", "session", "session_id", "sessionId", "PHPSESSIONID", "jwt"),
]
HARMLESS = [
    *(
        "secretary",
        "tokenizer",
        "tokenize",
        "monkey",
        "keyboard",
        "author",
        "public_key",
        "pass",
        "db",
        "user",
    ),
    *("cookbook", "passenger", "broken"),
]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_name_that_has_a_secrets_name_in_it_hides_its_value(name: str) -> None:
    assert REDACT({name: "hunter2"}) == {name: HIDDEN}
    assert REDACT({"a": [{name: {"b": "hunter2"}}]}) == {"a": [{name: HIDDEN}]}
    assert REDACT([(name, "hunter2"), (name.encode(), b"hunter2")])[0] == [name, HIDDEN]
    assert "hunter2" not in REDACT.json([(name.encode(), b"hunter2")]).decode()
    assert "hunter2" not in REDACT.json({"name": name, "value": "hunter2"}).decode()
    if " " not in name:
        for text in (
            f"{name}=hunter2",
            f"{name}: 'hunter2'",
            f'{{"{name}":"hunter2"}}',
            f"?a=1&{name}=hunter2&b=2",
        ):
            told = REDACT.text(f"got {text} so")
            assert "hunter2" not in told and told.startswith("got ") and HIDDEN in told, told


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_name_hides_nothing(name: str) -> None:
    assert REDACT({name: "hunter2"}) == {name: "hunter2"}
    assert REDACT.text(f"{name}=hunter2") == f"{name}=hunter2"


def test_what_counts_secrets_and_what_is_no_text_is_shown() -> None:
    shown = {"max_tokens": 4096, "token_count": 17, "tokensUsed": 3.5, "tokens": 2, "hasPassword": True}
    assert REDACT({**shown, "password": None}) == {**shown, "password": None}
    assert REDACT({"password": 1234, "token_count": "abc"}) == {"password": HIDDEN, "token_count": HIDDEN}
    assert REDACT.text("max_tokens=4096 tokens: 2") == "max_tokens=4096 tokens: 2"


TEXTS = {
    "postgres://u:hunter2@db/orders failed": f"postgres://u:{HIDDEN}@db/orders failed",
    "redis://:hunter2@h and http://u:hun/ter2@h": f"redis://:{HIDDEN}@h and http://u:{HIDDEN}@h",
    "https://hunter2@h/x": f"https://{HIDDEN}@h/x",
    "ssh://git@github.com/a http://h:80/a@b http://[::1]:80/": None,
    "GET /x?token=hunter2&n=1": f"GET /x?token={HIDDEN}&n=1",
    "sent Bearer hunter2, got 401": f"sent Bearer {HIDDEN}, got 401",
    "sent Basic dXNlcjpwYXNz": f"sent Basic {HIDDEN}",
    "the basic plan, bearer token missing": None,
    "Authorization: Digest a=1, b=2\nHost: h": f"Authorization: {HIDDEN}\nHost: h",
    "Cookie: a=1; b=2": f"Cookie: {HIDDEN}",
    "{'user': 'ada', 'password': 'hun\\'ter2', 'n': 1}": f"{{'user': 'ada', 'password': '{HIDDEN}', 'n': 1}}",
    '"{\\"api_key\\": \\"hunter2\\"}"': f'"{{\\"api_key\\": \\"{HIDDEN}\\"}}"',
    "Login(user='ada', password='hunter2')": f"Login(user='ada', password='{HIDDEN}')",
    "[('x-api-key', 'hunter2')]": f"[('x-api-key', '{HIDDEN}')]",
    "secrets: {'a': {'b': 'hunter2'}} end": f"secrets: {HIDDEN} end",
    "password: expected a string, got number": None,
    "the password is wrong": None,
    "Grüße, passwort ok, password=hunter2": f"Grüße, passwort ok, password={HIDDEN}",
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_loses_its_secrets_and_keeps_the_rest(text: str) -> None:
    expected = TEXTS[text] or text
    assert REDACT.text(text) == expected
    assert REDACT.text(expected) == expected
    assert REDACT({"url": text}) == {"url": expected}


def test_a_traceback_keeps_its_code_and_loses_what_the_error_says() -> None:
    code = '  File "a.py", line 1, in handler\n    {}\nValueError: {}'
    kept = "token = read(token=it.token, cookies=jar)"
    assert REDACT.traceback(code.format(kept, "token=hunter2")) == code.format(kept, f"token={HIDDEN}")
    for literal in (
        'raise ValueError("token=hunter2")',
        "connect(password='hunter2')",
        "get('http://u:hunter2@h')",
    ):
        told = REDACT.traceback(code.format(literal, "no"))
        assert told == code.format(literal.replace("hunter2", HIDDEN), "no")


def test_a_list_of_ones_own_replaces_the_names_and_an_empty_one_hides_nothing() -> None:
    own = Redaction(["pin", "customer number"])
    told = own({"cardPin": "1", "customerNumber": "2", "password": "x", "shipping": "y"})
    assert told == {"cardPin": HIDDEN, "customerNumber": HIDDEN, "password": "x", "shipping": "y"}
    assert own.text("pin=1 password=x") == f"pin={HIDDEN} password=x"
    none = Redaction(())
    assert none({"password": "x"}) == {"password": "x"} and none.text("password=x") == "password=x"


def test_values_of_other_kinds_hide_theirs() -> None:
    @dataclasses.dataclass
    class Settings:
        user: str
        password: str

    class Login(msgspec.Struct):
        token: str

    told = json.loads(REDACT.json({"a": Settings("ada", "hunter2"), "b": Login("hunter2"), "c": {1, 2}}))
    assert told["a"] == {"user": "ada", "password": HIDDEN} and "hunter2" not in told["b"]


HOSTILE = [
    *(
        "password",
        "password=",
        "token={",
        "password='",
        "://",
        "://a:",
        "://@",
        "bearer ",
        "Basic ",
        "=",
        ":",
    ),
    *("authorization: ", 'password\\"', "a", "token ", "[", "'token', '", "pass_word.", "\\", '"', "://u:p"),
]


def steps_of(text: str) -> int:
    """How often a regular expression is asked."""
    asked = 0

    class Counted:
        def __init__(self, find: Any) -> None:
            self._find = find

        def __call__(self, *given: Any) -> re.Match[str] | None:
            nonlocal asked
            asked += 1
            return self._find(*given)  # type: ignore[no-any-return]

    within = Redaction(LogConfig().redact).text
    within._find = Counted(within._find)  # type: ignore[attr-defined]
    within(text)
    return asked


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_hostile_text_costs_no_more_than_its_length(piece: str) -> None:
    size = TEXT_CHARS_MAX // len(piece)
    whole, half = steps_of(piece * size), steps_of(piece * (size // 2))
    assert whole <= 2 * half + 10 and whole <= TEXT_CHARS_MAX
    assert steps_of(piece * (1 << 20)) <= whole + 10, "beyond that a text is shortened"


def test_what_is_told_of_a_value_is_bounded() -> None:
    large: list[Any] = [{"a": "x" * 10_000, "b": list(range(1_000))} for _ in range(1_000)]
    assert len(REDACT.json(large)) < 400_000
    deep: Any = "x"
    for _ in range(10_000):
        deep = [deep]
    assert len(REDACT.json({"deep": deep})) < 100
    assert len(REDACT.text("y" * (1 << 20))) < TEXT_CHARS_MAX + 100
