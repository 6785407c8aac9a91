"""Origins in the configuration: what no browser ever sends is told at start, with what it does send."""

from __future__ import annotations

import pytest

from iii.formats.origins import origin_fault

SENT_BY_BROWSERS = [
    "https://a.example",
    "http://localhost:5173",
    "http://127.0.0.1:8080",
    "https://[::1]:8443",
    "https://xn--bcher-kva.example",
    "https://a.example:8443",
    "http://a.example:443",
    "https://sub_domain.a.example",
    "https://a.example.",
    "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
    "capacitor://localhost",
]

NEVER_SENT = {
    "https://a.example/": "https://a.example",
    "https://a.example/app/index.html": "https://a.example",
    "https://a.example?x=1": "https://a.example",
    "https://a.example#top": "https://a.example",
    "https://ada@a.example": "https://a.example",
    "https://ada:secret@a.example:8443/": "https://a.example:8443",
    "https://A.Example": "https://a.example",
    "HTTPS://a.example": "https://a.example",
    "https://a.example:443": "https://a.example",
    "http://a.example:80": "http://a.example",
    "http://a.example:08080": "http://a.example:8080",
    "https://a.example:": "https://a.example",
    "https://bücher.example": "https://xn--bcher-kva.example",
    "https://BÜCHER.example": "https://xn--bcher-kva.example",
    "https://faß.example": "https://xn--fa-hia.example",
    "https://[0:0:0:0:0:0:0:1]:8443": "https://[::1]:8443",
    "a.example": "https://a.example",
    "localhost:5173": "https://localhost:5173",
    "//a.example": "https://a.example",
    "https://a.example, https://b.example": '["https://a.example", "https://b.example"]',
    "https://a.example https://b.example": '["https://a.example", "https://b.example"]',
}

OF_NO_SITE = [
    "https://*.example.com",
    "https://*",
    "https://",
    "https:///a",
    "file:///home/ada/a.html",
    "https://a.example:99999",
    "https://a.example:80a",
    "https://a..example",
    "https://-",
    "https://300.1.1.1",
    "https://[::1",
    "https://[v1.a]",
    "https://a\\b",
    "://a.example",
]


@pytest.mark.parametrize("origin", SENT_BY_BROWSERS)
def test_what_browsers_send_is_taken(origin: str) -> None:
    assert origin_fault(origin) is None


@pytest.mark.parametrize(("origin", "meant"), NEVER_SENT.items())
def test_what_no_browser_sends_is_told_with_what_it_does_send(origin: str, meant: str) -> None:
    fault = origin_fault(origin)
    assert fault is not None
    assert (meant if meant.startswith("[") else f'write "{meant}"') in fault


@pytest.mark.parametrize("origin", OF_NO_SITE)
def test_what_is_no_origin_at_all_is_told_with_what_one_looks_like(origin: str) -> None:
    fault = origin_fault(origin)
    assert fault is not None
    assert "origin" in fault
