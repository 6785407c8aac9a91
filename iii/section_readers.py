"""Each section of iii-config.yaml, read into its struct of sections.py: every key's default, range and
remedy. What two keys say together is checked here too, where they lie in one section."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, cast

from iii.formats.fields import Fields
from iii.formats.networks import network_fault
from iii.formats.origins import origin_fault
from iii.formats.units import NAME_RULE, is_address, is_header_name, is_host, is_name, is_unicode, shown
from iii.sections import (
    DAY,
    GIB,
    HOUR,
    KIB,
    MIB,
    MINUTE,
    SECOND,
    Backoff,
    ConsoleConfig,
    CorsConfig,
    Fsync,
    HealthConfig,
    HistoryConfig,
    HttpConfig,
    LogConfig,
    LogFormat,
    QueueConfig,
    StoreConfig,
    StoreKind,
)

_TEMPLATE = re.compile(r"\$\(.*|`.*|\$\w+|%\(\w+\)s|%[A-Za-z_]\w*%|\{\{.*")
"""What shells and other programs would replace in a path."""


def read_http(top: Fields) -> HttpConfig:
    with top.mapping("http") as http:
        usual = HttpConfig()
        kept_bytes_max = http.size("max_idempotency", usual.idempotency_bytes_max, 64 * KIB, 1 << 40)
        return HttpConfig(
            enabled=http.flag("enabled", usual.enabled),
            host=_host(http, usual.host),
            port=http.whole("port", usual.port, 0, 65535),
            body_bytes_max=http.size("max_body", usual.body_bytes_max, KIB, GIB),
            head_bytes_max=http.size("max_head", usual.head_bytes_max, KIB, 16 * MIB),
            timeout_ms=http.duration("timeout", usual.timeout_ms, 1, DAY),
            head_timeout_ms=http.duration("head_timeout", usual.head_timeout_ms, 100, HOUR),
            keep_alive_ms=http.duration("keep_alive", usual.keep_alive_ms, 0, DAY),
            send_timeout_ms=http.duration("send_timeout", usual.send_timeout_ms, 100, DAY),
            lane=http.flag("lane", usual.lane),
            h2=http.flag("h2", usual.h2),
            hosts=_hosts(http),
            trusted_proxies=read_networks(http, "trusted_proxies"),
            connections_max=http.whole("max_connections", usual.connections_max, 1, 1_000_000),
            cors=_cors(http),
            idempotency_ttl_ms=http.duration("idempotency_ttl", usual.idempotency_ttl_ms, SECOND, 365 * DAY),
            idempotency_identity=_identity(http),
            idempotency_bytes_max=kept_bytes_max,
            idempotency_body_bytes_max=_kept_body(http, kept_bytes_max),
        )


def _identity(http: Fields) -> tuple[str, ...]:
    """The names of headers that say who asks, in lower case, each once."""
    names = http.texts("idempotency_identity", ())
    for index, name in enumerate(names):
        if not is_header_name(name):
            message = f'{name!r:.60} is no header name; write it as in "X-Api-Key"'
            raise http.error(f"idempotency_identity[{index}]", message)
    return tuple(dict.fromkeys(name.lower() for name in names))


def _kept_body(http: Fields, most: int) -> int:
    usual = min(HttpConfig().idempotency_body_bytes_max, most)
    size = http.size("max_idempotency_body", usual, 0, 4 * MIB)
    if size > most:
        raise http.error(
            "max_idempotency_body",
            f"({size} bytes) is above http.max_idempotency ({most} bytes): none of that size would be kept",
        )
    return size


def read_path(fields: Fields, name: str, default: str, root: Path) -> Path:
    """A path, relative to the file's folder."""
    written = fields.text(name, default)
    if "\0" in written or not is_unicode(written):
        raise fields.error(name, f"{written!r} is no path: it has a NUL or a lone surrogate in it")
    if found := _TEMPLATE.search(written):
        raise fields.error(name, f'"{found[0]}" stays as it is in a path; only ${{VAR}} is replaced')
    try:
        return root / Path(written).expanduser()
    except RuntimeError:
        raise fields.error(name, f'"{written}" begins with the home of nobody here; write it out') from None


def _host(fields: Fields, default: str) -> str:
    """A name or an address; whether it is one of this machine shows when it is listened on."""
    host = fields.text("host", default)
    if not is_host(host):
        raise fields.error("host", f'{host!r} is no host; write an address or a name, like "127.0.0.1"')
    return host


def _hosts(fields: Fields) -> tuple[str, ...]:
    hosts = fields.texts("hosts", ())
    for index, host in enumerate(hosts):
        if not is_host(host) or (":" in host and not is_address(host)):
            message = f"{host!r} is no host; write the name that browsers use, without scheme and port"
            raise fields.error(f"hosts[{index}]", message)
    return hosts


def _cors(http: Fields) -> CorsConfig | None:
    if http.raw("cors") is None:
        return None
    with http.mapping("cors") as cors:
        usual = CorsConfig()
        read = CorsConfig(
            origins=cors.texts("origins", usual.origins),
            methods=tuple(m.upper() for m in cors.texts("methods", usual.methods)),
            headers=cors.texts("headers", usual.headers),
            credentials=cors.flag("credentials", usual.credentials),
            max_age=cors.duration("max_age", usual.max_age * SECOND, 0, 7 * DAY) // SECOND,
        )
        _check_cors(cors, read)
        return read


def _check_cors(cors: Fields, read: CorsConfig) -> None:
    """What no browser could ever send or use is refused: it would fail in silence, in the browser."""
    if not read.origins:
        raise cors.error("origins", "is empty, so that no page may call; name an origin, or leave cors out")
    for index, origin in enumerate(read.origins):
        if origin not in ("*", "null") and (fault := origin_fault(origin)) is not None:
            raise cors.error(f"origins[{index}]", f'"{origin}" {fault}')
    if read.credentials and "*" in read.origins:
        raise cors.error("credentials", 'browsers refuse credentials with origins "*"; name the origins')
    if read.credentials and "null" in read.origins:
        message = 'every page can make itself the origin "null" (a sandboxed frame); with it no credentials'
        raise cors.error("credentials", message)
    for index, method in enumerate(read.methods):
        if not is_header_name(method) or method in ("CONNECT", "TRACE", "TRACK"):
            raise cors.error(f"methods[{index}]", f'"{method}" is no method that a page can send')
    for index, header in enumerate(read.headers):
        if not is_header_name(header):
            raise cors.error(f"headers[{index}]", f'"{header}" is no name of a header')


def read_store(top: Fields, root: Path) -> StoreConfig:
    with top.mapping("store") as store:
        usual = StoreConfig(root)
        return StoreConfig(
            kind=cast(StoreKind, store.choice("type", usual.kind, ("lmdb", "memory"))),
            path=read_path(store, "path", "data", root),
            fsync=cast(Fsync, store.choice("fsync", usual.fsync, ("commit", "meta", "interval"))),
            map_bytes=store.size("map_size", usual.map_bytes, MIB, 16 << 40),
            lock_after_ms=store.duration("lock_after", usual.lock_after_ms, SECOND, MINUTE),
            stale_after_ms=store.duration("stale_after", usual.stale_after_ms, 5 * SECOND, 5 * MINUTE),
            changes_bytes_max=store.size("max_changes", usual.changes_bytes_max, 64 * KIB, 1 << 40),
        )


def read_health(top: Fields) -> HealthConfig:
    with top.mapping("health") as health:
        stuck_after_ms = health.duration("stuck_after", HealthConfig().stuck_after_ms, 0, HOUR)
        if 0 < stuck_after_ms < SECOND:
            raise health.error("stuck_after", "is too short; allowed are 0 (off) and 1s to 1h")
        return HealthConfig(stuck_after_ms=stuck_after_ms)


def read_console(top: Fields) -> ConsoleConfig:
    with top.mapping("console") as console:
        usual = ConsoleConfig()
        read = ConsoleConfig(
            enabled=console.flag("enabled", usual.enabled),
            host=_host(console, usual.host),
            port=console.whole("port", usual.port, 0, 65535),
            token=console.text("token", None),
            read_only=console.flag("read_only", usual.read_only),
            hosts=_hosts(console),
            https=console.flag("https", usual.https),
            trusted_proxies=read_networks(console, "trusted_proxies"),
        )
        if (fault := read.token_fault) is not None:
            raise console.error("token", fault)
        return read


def read_networks(section: Fields, name: str) -> tuple[str, ...]:
    """Addresses and networks, as formats/networks.py takes them."""
    written = section.texts(name, ())
    for index, each in enumerate(written):
        if (fault := network_fault(each)) is not None:
            raise section.error(f"{name}[{index}]", fault)
    return written


def read_history(top: Fields) -> HistoryConfig:
    with top.mapping("history") as history:
        usual = HistoryConfig()
        return HistoryConfig(
            keep=history.whole("keep", usual.keep, 0, 10_000_000),
            keep_failed=history.whole("keep_failed", usual.keep_failed, 0, 10_000_000),
            max_age_ms=history.duration("max_age", usual.max_age_ms, 0, 3650 * DAY),
            max_bytes=history.size("max_bytes", usual.max_bytes, 0, 1 << 40),
            traces_per_second=history.whole("traces_per_second", usual.traces_per_second, 0, 1_000_000),
        )


def _redacted(log: Fields) -> tuple[str, ...]:
    names = log.texts("redact", LogConfig().redact)
    for index, name in enumerate(names):
        if not any(map(str.isalnum, name)):
            raise log.error(
                f"redact[{index}]", f"{shown(name)} is no name of a field: it has no letter in it"
            )
    return names


def read_log(top: Fields) -> LogConfig:
    with top.mapping("log") as log:
        usual = LogConfig()
        level = log.choice("level", usual.level, ("debug", "info", "warning", "error"))
        return LogConfig(
            level=cast(Literal["debug", "info", "warning", "error"], level),
            format=cast(LogFormat, log.choice("format", usual.format, ("auto", "text", "json"))),
            redact=_redacted(log),
            file_bytes_max=log.size("max_file", usual.file_bytes_max, 0, 1 << 40),
        )


QUEUE_DEFAULTS = "defaults"
"""The key of `queues` that stands for every topic; no topic of that name has knobs of its own."""


def read_named_queue(topic: str, queue: Fields) -> QueueConfig:
    if topic != QUEUE_DEFAULTS and topic.lower() in ("default", QUEUE_DEFAULTS, "*"):
        meant = f'did you mean "{QUEUE_DEFAULTS}", which stands for every topic?'
        raise queue.error(
            "", f"is no topic here; {meant} One of that name has its knobs in its trigger's config"
        )
    own = topic.removeprefix("$cron/").removeprefix("$state/")
    if not is_name(own):
        raise queue.error("", f"is no topic name; allowed are {NAME_RULE} ($cron/STEP and $state/STEP too)")
    read = read_queue(queue)
    if read.dead_letter_queue == topic:
        raise queue.error("dead_letter_queue", "is the queue itself; name another topic")
    return read


def read_queue(queue: Fields) -> QueueConfig:
    """The knobs of one queue, from the file or from a trigger's own `config`."""
    read = QueueConfig(
        max_retries=queue.whole("max_retries", None, 0, 1_000_000),
        retry_delay_ms=queue.duration("retry_delay", None, 0, 30 * DAY),
        backoff=cast("Backoff | None", queue.choice("backoff", None, ("fixed", "exponential"))),
        retry_delay_max_ms=queue.duration("retry_delay_max", None, 0, 30 * DAY),
        jitter=queue.fraction("jitter", None, 0, 1),
        concurrency=queue.whole("concurrency", None, 1, 10_000),
        max_in_flight=queue.whole("max_in_flight", None, 1, 1_000_000),
        dead_letter_queue=queue.text("dead_letter_queue", None),
        timeout_ms=queue.duration("timeout", None, 1, 30 * DAY),
        max_depth=queue.whole("max_depth", None, 1, 1_000_000_000),
        retention_ms=queue.duration("retention", None, 0, 3650 * DAY),
        max_crashes=queue.whole("max_crashes", None, 1, 1000),
    )
    dead, delay, delay_max = read.dead_letter_queue, read.retry_delay_ms, read.retry_delay_max_ms
    if dead is not None and not is_name(dead):
        raise queue.error("dead_letter_queue", f'"{dead}" is no topic name; allowed are {NAME_RULE}')
    if delay is not None and delay_max is not None and delay > delay_max:
        raise queue.error("retry_delay", f"({delay} ms) is above retry_delay_max ({delay_max} ms)")
    return read
