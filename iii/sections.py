"""The sections of iii-config.yaml as frozen structs with their defaults. section_readers.py reads them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct

from iii.formats.units import is_loopback, is_unicode

__all__ = [
    "DAY",
    "GIB",
    "HOUR",
    "KIB",
    "MIB",
    "MINUTE",
    "SECOND",
    "Backoff",
    "ConsoleConfig",
    "CorsConfig",
    "Fsync",
    "HealthConfig",
    "HistoryConfig",
    "HttpConfig",
    "LogConfig",
    "LogFormat",
    "QueueConfig",
    "QueueRules",
    "StoreConfig",
    "StoreKind",
    "TracesConfig",
]

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

KEEP_FAILED = 10_000
CRASHES_MIN = 4
TOKEN_CHARS_MIN, TOKEN_CHARS_MAX = 16, 512
OPEN_CONSOLE = (
    "is missing, and {host} is reached from other machines: whoever reaches the console can change what runs "
    "here; set a token (a long random text), or host: 127.0.0.1"
)
SHORT_TOKEN = (
    "has {length} characters; it needs {least} to {most}: whoever guesses it can change what runs here. "
    "A good one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
)
ODD_TOKEN = (
    "has white space at an end or a control character in it, which no Authorization header carries; write it "
    "on one line, in quotes"
)

Backoff: TypeAlias = Literal["fixed", "exponential"]
Fsync: TypeAlias = Literal["commit", "meta", "interval"]
StoreKind: TypeAlias = Literal["lmdb", "memory"]
LogFormat: TypeAlias = Literal["auto", "text", "json"]


class CorsConfig(Struct, frozen=True):
    """Which browsers' pages may call. `max_age` in seconds, as the header has it."""

    origins: tuple[str, ...] = ("*",)
    methods: tuple[str, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    headers: tuple[str, ...] = ("*",)
    credentials: bool = False
    max_age: int = 600


class HttpConfig(Struct, frozen=True):
    """`hosts`: names beside those of loopback under which it may be asked, where it listens on loopback.
    `connections_max`: open at once; None: as many as the files that the process may open allow.
    `trusted_proxies`: whose word on a client's address, scheme and host counts."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 3000
    body_bytes_max: int = MIB
    head_bytes_max: int = 64 * KIB
    timeout_ms: int = 30 * SECOND
    head_timeout_ms: int = 5 * SECOND
    keep_alive_ms: int = 75 * SECOND
    send_timeout_ms: int = 30 * SECOND
    lane: bool = True
    h2: bool = False
    hosts: tuple[str, ...] = ()
    connections_max: int | None = None
    trusted_proxies: tuple[str, ...] = ()
    cors: CorsConfig | None = None
    idempotency_ttl_ms: int = DAY
    idempotency_identity: tuple[str, ...] = ()  # header names in lower case
    idempotency_bytes_max: int = 64 * MIB  # of kept answers; at most a quarter of the map
    idempotency_body_bytes_max: int = 256 * KIB


class StoreConfig(Struct, frozen=True):
    """`lock_after_ms`: a process whose heart stands still so long inside the write lock is killed by who
    waits for it. `stale_after_ms`: the messages of one that stands still so long are taken."""

    path: Path
    fsync: Fsync = "commit"
    map_bytes: int = 64 * GIB
    kind: StoreKind = "lmdb"
    lock_after_ms: int = 3 * SECOND
    stale_after_ms: int = 10 * SECOND
    changes_bytes_max: int = 64 * MIB  # of the change log; at most a sixteenth of the map


class QueueConfig(Struct, frozen=True):
    """The knobs of one queue as written; None = not written. QueueRules says what they mean."""

    max_retries: int | None = None
    retry_delay_ms: int | None = None
    backoff: Backoff | None = None
    retry_delay_max_ms: int | None = None
    jitter: float | None = None
    concurrency: int | None = None
    max_in_flight: int | None = None
    dead_letter_queue: str | None = None
    timeout_ms: int | None = None
    max_depth: int | None = None
    retention_ms: int | None = None
    max_crashes: int | None = None


class QueueRules(Struct, frozen=True):
    """What holds for one lane, every default filled in."""

    dead_letter_queue: str
    max_retries: int = 3  # after the first try
    retry_delay_ms: int = SECOND
    backoff: Backoff = "fixed"
    retry_delay_max_ms: int = HOUR
    jitter: float = 0.0  # share of the delay that is random, 0..1
    concurrency: int = 32  # slots per instance
    max_in_flight: int | None = None  # live leases over all instances
    timeout_ms: int = 15 * 60 * SECOND
    max_depth: int | None = None
    retention_ms: int = 7 * DAY  # of a topic nobody subscribes to
    max_crashes: int = CRASHES_MIN

    @property
    def crashes_max(self) -> int:
        """After so many deaths of its worker a message is a dead letter: two that made it a suspect, and two
        alone, are the fewest that tell whose fault it was."""
        return max(CRASHES_MIN, self.max_crashes)


class ConsoleConfig(Struct, frozen=True):
    """`hosts`: further names under which browsers may ask for it, behind a proxy. `https`: they speak HTTPS
    to it, which such a proxy ends. `trusted_proxies`: whose word on a client's address, scheme and host
    counts."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 3113
    token: str | None = None
    read_only: bool = False
    hosts: tuple[str, ...] = ()
    https: bool = False
    trusted_proxies: tuple[str, ...] = ()

    @property
    def token_fault(self) -> str | None:
        """Why no console may be served with this token, or without one; None: it may."""
        token = self.token
        if token is None:
            is_open = self.enabled and not is_loopback(self.host)
            return OPEN_CONSOLE.format(host=self.host) if is_open else None
        if not TOKEN_CHARS_MIN <= len(token) <= TOKEN_CHARS_MAX:
            return SHORT_TOKEN.format(length=len(token), least=TOKEN_CHARS_MIN, most=TOKEN_CHARS_MAX)
        is_odd = token != token.strip() or not token.replace(" ", "").isprintable() or not is_unicode(token)
        return ODD_TOKEN if is_odd else None


class HealthConfig(Struct, frozen=True):
    """`stuck_after_ms`: a process whose event loop stands still so long is ended; 0 = never."""

    stuck_after_ms: int = MINUTE


class HistoryConfig(Struct, frozen=True):
    """Run records: the newest `keep` of runs that did not fail (0 = none), recorded for as many traces a
    second, and the newest `keep_failed` of those that did (None: KEEP_FAILED, but with `keep` 0 none); all
    younger and together smaller than this."""

    keep: int = 10_000
    keep_failed: int | None = None
    max_age_ms: int = 7 * DAY
    max_bytes: int = 256 * MIB
    traces_per_second: int = 50


class LogConfig(Struct, frozen=True):
    """`redact`: fields whose values never reach the log. `file_bytes_max`: how much of the log the data
    folder keeps for `iii logs`; 0 = none."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: LogFormat = "auto"
    redact: tuple[str, ...] = (
        *("authorization", "cookie", "password", "passwd", "pwd", "passphrase", "secret", "token"),
        *("api_key", "access_key", "private_key", "credential", "session", "session_id", "jwt"),
    )
    file_bytes_max: int = 16 * MIB

    @property
    def threshold(self) -> int:
        """`level` as the logging module counts."""
        return logging.getLevelNamesMapping()[self.level.upper()]


class TracesConfig(Struct, frozen=True):
    """Where runs go as OpenTelemetry spans, by OTLP over HTTP. None: as the OTEL_* variables say."""

    endpoint: str | None = None  # whole, with its path
    headers: dict[str, str] = {}
    service_name: str | None = None
    timeout_ms: int | None = None  # of one request to the collector
