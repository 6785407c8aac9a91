"""The configuration as it holds: every default filled in, under the names and in the units of the file.

Written to a file, with its secrets put in, and loaded again it is the same configuration: what is secret is
HIDDEN, which the console does not take for a token. Of queues only what was written is told; the rest comes
from their triggers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from iii.config import Config
from iii.formats.units import duration_text, size_text
from iii.section_readers import QUEUE_DEFAULTS

__all__ = ["HIDDEN", "effective"]

HIDDEN = "•••"
SIZES = {
    "body_bytes_max": "max_body",
    "head_bytes_max": "max_head",
    "map_bytes": "map_size",
    "changes_bytes_max": "max_changes",
    "idempotency_bytes_max": "max_idempotency",
    "idempotency_body_bytes_max": "max_idempotency_body",
    "max_bytes": "max_bytes",
    "file_bytes_max": "max_file",
}
NAMES = {"kind": "type", "connections_max": "max_connections"}


def effective(config: Config) -> dict[str, Any]:
    held = msgspec.to_builtins(config, enc_hook=str)  # paths
    usual = held.pop("queue_defaults")
    queues = ({QUEUE_DEFAULTS: usual} if _written(usual) else {}) | held.pop("queues")
    if held["console"]["token"] is not None:
        held["console"]["token"] = HIDDEN
    if config.traces is not None:
        held["traces"]["headers"] = dict.fromkeys(config.traces.headers, HIDDEN)
    if (cors := held["http"]["cors"]) is not None:
        cors["max_age_ms"] = cors.pop("max_age") * 1000
    told = _section({name: value for name, value in held.items() if name not in ("root", "file")})
    return told | {"queues": {topic: _section(_written(knobs)) for topic, knobs in queues.items()}}


def _written(knobs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in knobs.items() if value is not None}


def _section(fields: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            told[name] = _section(value)
        elif name in SIZES:
            told[SIZES[name]] = size_text(value)
        elif name.endswith("_ms"):
            told[name.removesuffix("_ms")] = duration_text(value)
        else:
            told[NAMES.get(name, name)] = value
    return told
