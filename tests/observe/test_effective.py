"""The configuration as it is told is one that a file could have."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from iii.config import Config, load
from iii.observe.effective import HIDDEN, effective

EVERYTHING = """
steps: elsewhere
store: {type: lmdb, path: here, fsync: meta, map_size: 3000001, lock_after: 7s, stale_after: 90s}
health: {stuck_after: 17s}
http:
  {enabled: false, host: 0.0.0.0, port: 80, max_body: 3MiB, max_head: 70000, timeout: 90s, head_timeout: 1234,
   keep_alive: 0, send_timeout: 2h, lane: false, idempotency_ttl: 36h, hosts: [shop.test],
   max_connections: 77, trusted_proxies: [10.0.0.0/8],
   idempotency_identity: [X-Api-Key, x-user], max_idempotency: 5MiB, max_idempotency_body: 3KiB,
   cors: {origins: ["https://a.example"], methods: [GET], headers: [x-a], credentials: true, max_age: 90s}}
queues:
  body_bytes_max: {max_retries: 0, retry_delay: 1500, backoff: exponential, retry_delay_max: 2h, jitter: 0.5}
  a.b: {concurrency: 1, max_in_flight: 2, dead_letter_queue: x, timeout: 1s, max_depth: 9, retention: 1d}
  c: {max_crashes: 1}
  defaults: {timeout: 5m, concurrency: 3}
console: {enabled: true, host: 0.0.0.0, port: 1, token: a-secret-of-sixteen, read_only: true,
  hosts: [iii.example.com], https: true, trusted_proxies: [10.0.0.0/8, "::1"]}
instances: 3
history: {keep: 1, max_age: 5d, max_bytes: 1GiB, traces_per_second: 7}
log: {level: debug, format: json, redact: [pin], max_file: 12MiB}
shutdown_timeout: 61s
"""


@pytest.mark.parametrize("text", ["", EVERYTHING], ids=["defaults", "everything"])
def test_what_is_told_loads_as_the_same_configuration(tmp_path: Path, text: str) -> None:
    written, told = tmp_path / "written.yaml", tmp_path / "told.yaml"
    written.write_text(text)
    config = load(written)
    shown = effective(config)
    if config.console.token is not None:
        shown["console"]["token"] = "another-one-of-sixteen"
    told.write_bytes(msgspec.yaml.encode(shown))
    assert _known(load(told)) == _known(config)


def _known(config: Config) -> Config:
    console = msgspec.structs.replace(config.console, token=None)
    return msgspec.structs.replace(config, file=None, console=console)


def test_the_token_is_hidden_and_a_topic_may_be_called_like_one(tmp_path: Path) -> None:
    file = tmp_path / "iii-config.yaml"
    file.write_text("console: {token: a-secret-of-sixteen}\nqueues: {token: {timeout: 1s}}\n")
    told = effective(load(file))
    assert told["console"]["token"] == HIDDEN and told["queues"] == {"token": {"timeout": "1s"}}
    assert "a-secret" not in str(told)
