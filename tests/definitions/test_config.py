"""iii-config.yaml: what it may say, what is refused, and that the refusal says where and what to do."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import Struct

from iii import config
from iii.config import Config, QueueConfig
from iii.errors import ConfigError

Load = Callable[[str], Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str) -> Config:
        file = tmp_path / "iii-config.yaml"
        file.write_text(text)
        return config.load(file)

    return load


def refusal(load: Load, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return caught.value


# ------------------------------------------------------------------------------------ what it may say


def test_an_empty_file_has_every_default(load: Load, tmp_path: Path) -> None:
    read = load("")
    assert (read.http.host, read.http.port, read.console.port, read.instances) == ("127.0.0.1", 3000, 3113, 1)
    assert read.steps == tmp_path / "steps"
    assert read.store.path == tmp_path / "data"
    assert read.store.fsync == "commit"
    assert read.http.timeout_ms == 30_000
    assert read.http.cors is None


def test_the_example_of_the_repository_reads(tmp_path: Path) -> None:
    read = config.load(Path(__file__).parents[2] / "iii-config.yaml")
    sent = read.rules("message.sent")
    assert (sent.max_retries, sent.retry_delay_ms, sent.concurrency) == (3, 5000, 5)
    assert sent.dead_letter_queue == "message.failed"
    assert read.rules("message.processed").retention_ms == 3_600_000
    assert (read.http.host, read.http.port) == ("127.0.0.1", 3000)


def test_without_a_file_the_working_folder_has_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read = config.load()
    assert (read.file, read.root, read.steps) == (None, tmp_path, tmp_path / "steps")
    (tmp_path / "iii-config.yaml").write_text("instances: 2")
    assert config.load().instances == 2


@pytest.mark.parametrize(
    "name",
    [
        "iii-config.yml",
        "iii_config.yaml",
        "III-Config.yaml",
        "iii.yaml",
        "iii-config.yaml.txt",
        "iii-config.json",
    ],
)
def test_a_file_whose_name_is_a_little_off_is_no_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("instances: 2")
    with pytest.raises(ConfigError, match="is not read: rename it to iii-config") as caught:
        config.load()
    assert caught.value.file == name
    found, errors = config.load_leniently()
    assert (found, [each.file for each in errors]) == (None, [name])
    (tmp_path / "iii-config.yaml").write_text("instances: 3")
    assert config.load().instances == 3


def test_a_link_to_nothing_or_a_folder_is_no_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "iii-config.yaml"
    file.symlink_to("gone.yaml")
    with pytest.raises(ConfigError, match="is a link to nothing: gone"):
        config.load()
    file.unlink()
    file.mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        config.load()


def test_other_signs_in_a_path_stay(load: Load) -> None:
    assert load("store: {path: 'a%20store/50% (x) {y} ~$'}").store.path.parts[-2:] == (
        "a%20store",
        "50% (x) {y} ~$",
    )


def test_units_both_spellings_and_every_knob(load: Load) -> None:
    read = load(
        """
        http:
          {maxBody: 2MiB, timeout: 1m, keep_alive: 1.5s, lane: false, sendTimeout: 2s,
           cors: {origins: https://a.example, max_age: 1h}}
        store: {type: memory, mapSize: 1GB}
        queues:
          a:
            maxRetries: 1
            retryDelay: 250ms
            backoff: exponential
            retry_delay_max: 2h
            jitter: 0.5
            concurrency: 7
            maxInFlight: 9
            deadLetterQueue: a.dead
            timeout: 2m
            max_depth: 100
            retention: 7d
            maxCrashes: 2
        shutdown_timeout: 5s
        """
    )
    assert read.http.body_bytes_max == 2 << 20
    assert (read.http.timeout_ms, read.http.keep_alive_ms) == (60_000, 1500)
    assert (read.http.lane, read.http.send_timeout_ms) == (False, 2000)
    assert read.http.cors is not None
    assert (read.http.cors.origins, read.http.cors.max_age) == (("https://a.example",), 3600)
    assert (read.store.kind, read.store.map_bytes) == ("memory", 10**9)
    assert read.queues["a"] == QueueConfig(
        1, 250, "exponential", 7_200_000, 0.5, 7, 9, "a.dead", 120_000, 100, 604_800_000, 2
    )
    assert read.shutdown_timeout_ms == 5000


def test_how_long_one_that_stands_still_is_borne_with(load: Load) -> None:
    read = load("")
    assert read.health.stuck_after_ms == 60_000
    assert (read.store.lock_after_ms, read.store.stale_after_ms) == (3_000, 10_000)
    for text, low, high in (("lock_after", "1s", "1m"), ("stale_after", "5s", "5m")):
        for written in (low, high):
            assert load(f"store: {{{text}: {written}}}").store != read.store
        for written in ("0", "999ms", "2h", "-1s"):
            with pytest.raises(ConfigError, match=rf"store\.{text}: .*"):
                load(f"store: {{{text}: {written}}}")
    for written, ms in (("0", 0), ("1s", 1_000), ("1h", 3_600_000)):
        assert load(f"health: {{stuck_after: {written}}}").health.stuck_after_ms == ms
    with pytest.raises(
        ConfigError, match=r"health\.stuck_after: is too short; allowed are 0 \(off\) and 1s to 1h"
    ):
        load("health: {stuck_after: 999ms}")
    with pytest.raises(ConfigError, match=r"health\.stuck_after: .*out of range"):
        load("health: {stuck_after: 61m}")
    with pytest.raises(ConfigError, match=r"health\.stuck: unknown key"):
        load("health: {stuck: 1s}")


def test_arguments_win_over_the_file(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "iii-config.yaml"
    file.write_text("http: {port: 1}\nstore: {fsync: meta}")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    read = config.load(file, port=8080, host="0.0.0.0", data="d", steps="s", instances=3)
    assert (read.http.port, read.http.host, read.instances) == (8080, "0.0.0.0", 3)
    assert read.store.path == tmp_path / "elsewhere" / "d"
    assert read.store.fsync == "meta"
    assert read.steps == tmp_path / "elsewhere" / "s"
    with pytest.raises(ConfigError, match="port: expected a whole number from 0 to 65535, got number 70000"):
        config.load(file, port=70_000)


def test_a_missing_file_is_an_error_where_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such file"):
        config.load(tmp_path / "gone.yaml")


# ----------------------------------------------------------------------------------------------- rules


def test_the_file_wins_over_the_triggers_own_config_knob_by_knob(load: Load) -> None:
    read = load("queues: {t: {max_retries: 9}}")
    rules = read.rules("t", QueueConfig(max_retries=1, concurrency=2))
    assert (rules.max_retries, rules.concurrency) == (9, 2)
    assert (rules.timeout_ms, rules.max_crashes, rules.backoff) == (900_000, 4, "fixed")


def test_dead_letters_go_to_a_topic_named_after_the_queue() -> None:
    assert config.load().rules("order.paid").dead_letter_queue == "order.paid.failed"


def test_what_is_said_of_every_topic_comes_last(load: Load) -> None:
    read = load(
        "queues:\n  defaults: {max_retries: 9, timeout: 1m, max_depth: 5, dead_letter_queue: dead}\n"
        "  t: {timeout: 2m}"
    )
    assert set(read.queues) == {"t"}
    rules = read.rules("t", QueueConfig(max_retries=1))
    assert (rules.max_retries, rules.timeout_ms, rules.max_depth, rules.dead_letter_queue) == (
        *(1, 120_000, 5, "dead"),
    )
    assert (read.rules("other").max_retries, read.rules("other").timeout_ms) == (9, 60_000)
    assert read.rules("dead").dead_letter_queue == "dead.failed"
    ticks = read.rules("$cron/Nightly")
    assert (ticks.max_retries, ticks.max_depth) == (9, None)


def test_a_long_retry_delay_raises_the_unwritten_maximum(load: Load) -> None:
    assert load("queues: {t: {retry_delay: 2h}}").rules("t").retry_delay_max_ms == 7_200_000


def test_a_delay_above_the_maximum_is_refused_where_file_and_trigger_meet(load: Load) -> None:
    read = load("queues: {t: {retry_delay_max: 1s}}")
    with pytest.raises(ConfigError, match=r"queues\.t\.retry_delay_max: .*5000 ms.* above .*1000 ms"):
        read.rules("t", QueueConfig(retry_delay_ms=5000))


def test_lanes_of_crons_and_state_triggers_can_be_tuned(load: Load) -> None:
    assert load("queues: {$cron/Nightly: {max_retries: 0}}").rules("$cron/Nightly").max_retries == 0


# ------------------------------------------------------------------------------------- what is refused

UNKNOWN = [
    ("htpp: {}", "htpp", "http"),
    ("http: {prot: 1}", "http.prot", "port"),
    ("http: {cors: {origin: x}}", "http.cors.origin", "origins"),
    ("store: {fsnc: commit}", "store.fsnc", "fsync"),
    ("queues: {a: {max_retrys: 1}}", "queues.a.max_retrys", "max_retries"),
    ("queues: {a.b: {maxRetrys: 1}}", "queues.a.b.maxRetrys", "max_retries"),
    ("console: {prt: 1}", "console.prt", "port"),
    ("history: {kep: 1}", "history.kep", "keep"),
    ("log: {levl: info}", "log.levl", "level"),
    ("traces: {endpont: x}", "traces.endpont", "endpoint"),
]


@pytest.mark.parametrize(("text", "field", "meant"), UNKNOWN)
def test_an_unknown_key_is_refused_at_every_level(load: Load, text: str, field: str, meant: str) -> None:
    error = refusal(load, f"# comment\n{text}\n")
    assert error.field == field
    assert error.file.endswith("iii-config.yaml:2")
    assert "unknown key" in error.message
    assert f'did you mean "{meant}"?' in error.message


def test_an_unknown_key_that_resembles_nothing_lists_the_known_ones(load: Load) -> None:
    known = "known here: enabled, host, hosts, https, port, read_only, token, trusted_proxies"
    assert known in refusal(load, "console: {zzz: 1}").message


@pytest.mark.parametrize("field", ["http.keepalive_max", "store.sync_interval"])
def test_a_key_that_nothing_obeys_is_unknown(load: Load, field: str) -> None:
    section, key = field.split(".")
    error = refusal(load, f"{section}: {{{key}: 1}}")
    assert (error.field, "unknown key" in error.message) == (field, True)


def test_what_later_versions_obey_is_known(load: Load) -> None:
    read = load(
        "console: {enabled: false, host: 127.0.0.1, port: 3114}\ninstances: 2\n"
        "history: {keep: 5, max_age: 1d, max_bytes: 1MiB}"
    )
    assert (read.console.enabled, read.console.port, read.instances) == (False, 3114, 2)
    assert (read.history.keep, read.history.max_age_ms, read.history.max_bytes) == (5, 86_400_000, 1 << 20)


def test_a_console_beyond_loopback_needs_a_token(load: Load) -> None:
    assert load("console: {host: 0.0.0.0, token: a-long-random-text, hosts: [iii.example.com]}").console.hosts
    assert not load("console: {host: 0.0.0.0, enabled: false}").console.enabled
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert load(f'console: {{host: "{host}", read_only: true}}').console.read_only


def test_spans_are_wanted_where_their_section_is_there(load: Load) -> None:
    assert load("").traces is None and load("traces:").traces is None
    assert load("traces: {}").traces == config.TracesConfig()
    assert load("traces: {enabled: false, endpoint: 'http://a'}").traces is None
    read = load(
        "traces: {endpoint: 'http://localhost:4318/', headers: {x-key: k, none: null}, serviceName: s,\n"
        "         timeout: 2s}"
    ).traces
    assert read == config.TracesConfig("http://localhost:4318/v1/traces", {"x-key": "k"}, "s", 2_000)
    whole = load("traces: {endpoint: 'https://[::1]/otlp/v1/traces'}").traces
    assert whole is not None and whole.endpoint == "https://[::1]/otlp/v1/traces"


SECTIONS: list[type[Struct]] = [
    Config,
    config.HttpConfig,
    config.CorsConfig,
    config.StoreConfig,
    config.QueueRules,
    config.HistoryConfig,
    config.LogConfig,
    config.ConsoleConfig,
    config.TracesConfig,
]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_is_read_outside_the_configuration(section: type[Struct]) -> None:
    engine = Path(config.__file__).parent
    read = {
        node.attr
        for file in engine.rglob("*.py")
        if file.name not in ("config.py", "sections.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    assert set(section.__struct_fields__) - read - {"root"} == set(), "root is no key"


WRONG = [
    ("log: {redact: [pin, '---']}", "log.redact[1]", "is no name of a field"),
    ("http: {port: abc}", "http.port", 'whole number from 0 to 65535, got string "abc"'),
    ('http: {port: "3000"}', "http.port", "remove the quotes"),
    ("http: {port: 65536}", "http.port", "from 0 to 65535"),
    ("http: {port: true}", "http.port", "got boolean True"),
    ("http: {port: 3.5}", "http.port", "whole number"),
    ("http: {host: 12}", "http.host", "expected a string, got number 12; put it in quotes"),
    ("http: {host: 'http://here'}", "http.host", "'http://here' is no host; write an address or a name"),
    ('console: {host: "a b"}', "console.host", "is no host"),
    ('store: {path: "a\\0b"}', "store.path", "it has a NUL or a lone surrogate in it"),
    ("store: {path: ~nobody.here/data}", "store.path", "begins with the home of nobody here"),
    ("store: {path: '/srv/$APP/data'}", "store.path", '"$APP" stays as it is in a path; only ${VAR} is'),
    ("store: {path: $(pwd)/data}", "store.path", '"$(pwd)/data" stays as it is'),
    ("store: {path: '`pwd`'}", "store.path", "stays as it is"),
    ("steps: '%(HERE)s/steps'", "steps", '"%(HERE)s" stays as it is'),
    ("steps: '%HERE%/steps'", "steps", '"%HERE%" stays as it is'),
    ("steps: '{{ here }}/steps'", "steps", '"{{ here }}/steps" stays as it is'),
    ("http: {port: '${T_UNSET:0101}'}", "http.port", 'got string "0101"; write it without the leading 0'),
    ("console: {host: 0.0.0.0}", "console.token", "0.0.0.0 is reached from other machines"),
    ('console: {host: "::"}', "console.token", "set a token"),
    ("http: {hosts: ['a.local:80']}", "http.hosts[0]", "without scheme and port"),
    ("console: {hosts: ['https://a']}", "console.hosts[0]", "'https://a' is no host; write the name"),
    ("console: {token: fifteen-letters}", "console.token", "has 15 characters; it needs 16 to 512"),
    ("console: {token: ''}", "console.token", "expected a string"),
    (f"console: {{token: {'x' * 513}}}", "console.token", "has 513 characters"),
    ("console: {token: 'short', enabled: false}", "console.token", "secrets.token_urlsafe"),
    ("console:\n  token: |\n    a-long-random-text\n", "console.token", "white space at an end"),
    ('console: {token: "a-long-random\\x1b-text"}', "console.token", "write it on one line, in quotes"),
    ("console: {https: 1}", "console.https", "expected true or false"),
    (
        "console: {trusted_proxies: [proxy.example]}",
        "console.trusted_proxies[0]",
        "is no address and no network",
    ),
    (
        "console: {trusted_proxies: [10.0.0.0/33]}",
        "console.trusted_proxies[0]",
        "is no address and no network",
    ),
    ("console: {trusted_proxies: ['::1', 10.0.0.7/8]}", "console.trusted_proxies[1]", 'write "10.0.0.0/8"'),
    ("http: {enabled: 1}", "http.enabled", "expected true or false, got number 1"),
    ("http: 3000", "http", "expected a mapping of names to values, got number 3000"),
    ("http: {timeout: 5x}", "http.timeout", 'like "5s", "2m", "1h", "7d"; got string "5x"'),
    ("http: {timeout: -1}", "http.timeout", "expected a duration"),
    ("http: {timeout: 0}", "http.timeout", "allowed are 1ms to 1d"),
    ("http: {max_body: 1XB}", "http.max_body", "expected a size"),
    ("http: {max_body: 10}", "http.max_body", "allowed are 1024 bytes"),
    ("http: {idempotency_identity: [X-Api-Key, 'a b']}", "http.idempotency_identity[1]", "no header name"),
    (
        "http: {idempotency_identity: ['x-a: b']}",
        "http.idempotency_identity[0]",
        'write it as in "X-Api-Key"',
    ),
    ("http: {idempotency_identity: {a: 1}}", "http.idempotency_identity", "expected a list of strings"),
    ("http: {max_idempotency: 1KiB}", "http.max_idempotency", "allowed are 65536 bytes"),
    ("http: {max_idempotency_body: 8MiB}", "http.max_idempotency_body", "allowed are 0 bytes to"),
    (
        "http: {max_idempotency: 100KiB, max_idempotency_body: 101KiB}",
        "http.max_idempotency_body",
        "is above http.max_idempotency",
    ),
    ("http: {cors: {origins: [1]}}", "http.cors.origins[0]", "expected a string, got number 1"),
    ("http: {cors: {origins: {a: 1}}}", "http.cors.origins", "expected a list of strings"),
    ("http: {cors: {credentials: true}}", "http.cors.credentials", "name the origins"),
    ("http: {cors: {origins: 'null', credentials: true}}", "http.cors.credentials", '"null"'),
    ("http: {cors: {origins: []}}", "http.cors.origins", "leave cors out"),
    ("http: {cors: {origins: [https://a.example, https://b.example/]}}", "http.cors.origins[1]", "write"),
    ("http: {cors: {methods: [GET, 'A B']}}", "http.cors.methods[1]", "no method"),
    ("http: {cors: {methods: [connect]}}", "http.cors.methods[0]", "no method"),
    ("http: {cors: {headers: ['x-a, x-b']}}", "http.cors.headers[0]", "no name of a header"),
    (
        "store: {fsync: comit}",
        "store.fsync",
        'one of commit, meta, interval; got string "comit"; did you mean',
    ),
    ("store: {type: 3}", "store.type", "expected one of lmdb, memory; got number 3"),
    ("instances: 0", "instances", "from 1 to 256"),
    ("queues: [a]", "queues", "expected a mapping"),
    ("queues: {a: 5}", "queues.a", "expected a mapping"),
    ("queues: {a b: {}}", "queues.a b", "is no topic name; allowed are 1 to 128 characters"),
    ("queues: {$other/x: {}}", "queues.$other/x", "is no topic name"),
    ("queues: {default: {}}", "queues.default", 'did you mean "defaults", which stands for every topic?'),
    ("queues: {Defaults: {}}", "queues.Defaults", 'did you mean "defaults"'),
    ('queues: {"*": {}}', "queues.*", 'did you mean "defaults"'),
    ("queues: {defaults: {max_retrys: 1}}", "queues.defaults.max_retrys", 'did you mean "max_retries"?'),
    ("queues: {1: {}}", "queues", "put it in quotes"),
    ("queues: {a: {concurrency: 0}}", "queues.a.concurrency", "from 1 to 10000"),
    ("queues: {a: {concurrency: 10001}}", "queues.a.concurrency", "from 1 to 10000"),
    ("queues: {a: {jitter: 1.5}}", "queues.a.jitter", "from 0 to 1"),
    ("queues: {a: {jitter: .nan}}", "queues.a.jitter", "from 0 to 1"),
    ("queues: {a: {backoff: expo}}", "queues.a.backoff", "fixed, exponential"),
    ("queues: {a: {retry_delay: 2s, retry_delay_max: 1s}}", "queues.a.retry_delay", "above retry_delay_max"),
    ("queues: {a: {dead_letter_queue: a}}", "queues.a.dead_letter_queue", "name another topic"),
    ("queues: {a: {dead_letter_queue: 'a b'}}", "queues.a.dead_letter_queue", "is no topic name"),
    ("queues: {a: {maxRetries: 1, max_retries: 2}}", "queues.a.max_retries", "twice"),
    ("log: {level: loud}", "log.level", "debug, info, warning, error"),
    ("traces: {endpoint: 'localhost:4318'}", "traces.endpoint", 'write "http://localhost:4318"'),
    ("traces: {endpoint: 'http://a:99999'}", "traces.endpoint", "is no URL of a collector"),
    ("traces: {endpoint: 'http://me:secret@a'}", "traces.endpoint", "is no URL of a collector"),
    ("traces: {endpoint: ''}", "traces.endpoint", "expected a string"),
    ("traces: {headers: [a]}", "traces.headers", "expected a mapping"),
    ("traces: {headers: {a b: x}}", "traces.headers", 'string "a b" is no name of a header'),
    ("traces: {headers: {1: x}}", "traces.headers", "number 1 is no name of a header"),
    ("traces: {headers: {a: 1}}", "traces.headers.a", "put it in quotes"),
    ('traces: {headers: {a: "x\\ny"}}', "traces.headers.a", "no header can carry"),
    ("traces: {timeout: 1ms}", "traces.timeout", "allowed are 100ms to 1h"),
    ("traces: true", "traces", "expected a mapping"),
    ("steps: [a]", "steps", "expected a string, got list"),
    ("[1, 2]", "", "expected a mapping of names to values, got list"),
    ("hello", "", 'expected a mapping of names to values, got string "hello"'),
]


@pytest.mark.parametrize(("text", "field", "message"), WRONG)
def test_a_wrong_value_names_field_given_and_allowed(load: Load, text: str, field: str, message: str) -> None:
    error = refusal(load, text)
    assert error.field == field
    assert message in error.message
    assert "iii-config.yaml" in error.file
    assert str(error) == ": ".join(part for part in (error.file, field, error.message) if part)
