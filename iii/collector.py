"""The `traces` section of iii-config.yaml: the collector that spans are sent to. Sends nothing itself."""

from __future__ import annotations

from iii.formats.fields import Fields
from iii.formats.units import is_header_name, is_http_url, shown
from iii.sections import HOUR, TracesConfig

__all__ = ["traces"]

PATH = "/v1/traces"


def traces(top: Fields) -> TracesConfig | None:
    """Where the section is there, spans are wanted, unless it says otherwise."""
    if top.raw("traces") is None:
        return None
    with top.mapping("traces") as traces:
        wanted = traces.flag("enabled", True)
        read = TracesConfig(
            endpoint=_endpoint(traces),
            headers=_headers(traces),
            service_name=traces.text("service_name", None),
            timeout_ms=traces.duration("timeout", None, 100, HOUR),
        )
    return read if wanted else None


def _endpoint(traces: Fields) -> str | None:
    """The collector's URL; PATH is added where it does not end in that."""
    if (written := traces.text("endpoint", None)) is None:
        return None
    url = written.rstrip("/")
    if not is_http_url(url):
        raise traces.error("endpoint", f'"{written}" is no URL of a collector; write "http://localhost:4318"')
    return url if url.endswith(PATH) else url + PATH


def _headers(traces: Fields) -> dict[str, str]:
    found: dict[str, str] = {}
    with traces.mapping("headers") as headers:
        names = headers.keys()
        for name in names:
            if not isinstance(name, str) or not is_header_name(name):
                raise headers.error("", f"{shown(name)} is no name of a header")
            value = headers.text(name, None)
            if value is not None and not (value.isascii() and value.isprintable()):
                raise headers.error(name, "has characters in it that no header can carry")
            if value is not None:
                found[name] = value
    return found
