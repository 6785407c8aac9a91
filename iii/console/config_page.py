"""/api/config: the configuration as it holds, every default filled in and every secret hidden."""

from __future__ import annotations

from typing import Any

import msgspec

from iii.console.asks import Ask
from iii.observe.redaction import Redaction

__all__ = ["ROUTES"]

HIDDEN = "•••"
SECRETS = ("token", "password", "secret", "api_key")


def config(ask: Ask) -> dict[str, Any]:
    held = ask.means.config
    effective = msgspec.to_builtins(held, enc_hook=str)  # paths
    effective.pop("root"), effective.pop("file")
    hide = Redaction((*held.log.redact, *SECRETS))
    names = effective["log"].pop("redact")
    shown = hide(effective)
    shown["log"]["redact"] = names
    if held.traces is not None:
        shown["traces"]["headers"] = dict.fromkeys(held.traces.headers, HIDDEN)
    if held.console.token is None:
        shown["console"]["token"] = None
    return {"file": str(held.file) if held.file else None, "effective": _marked(shown)}


def _marked(value: Any) -> Any:
    """As pages write what is hidden."""
    if isinstance(value, dict):
        return {name: _marked(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_marked(inner) for inner in value]
    return HIDDEN if value == "[redacted]" else value


ROUTES = (("GET", "/api/config", config),)
