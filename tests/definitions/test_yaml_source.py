"""The file as text: broken YAML, keys given twice, variables, .env."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iii.config import Config, load
from iii.errors import ConfigError

Load = Callable[[str], Config]


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """A .env is loaded into the process's environment: put it back afterwards."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def read(tmp_path: Path) -> Load:
    def read(text: str) -> Config:
        file = tmp_path / "iii-config.yaml"
        file.write_text(text)
        return load(file)

    return read


def refusal(read: Load, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return caught.value


LAUGHS = "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdef", "bcdefg", strict=True)
)


def test_broken_yaml_names_line_and_column(read: Load) -> None:
    error = refusal(read, "http:\n  port: 1\n port: 2\n")
    assert error.file.endswith("iii-config.yaml:3:2")
    assert error.message.startswith("is not YAML: ")


def test_a_tab_says_to_use_spaces(read: Load) -> None:
    assert "not with tabs" in refusal(read, "http:\n\tport: 1\n").message


def test_a_key_given_twice_names_both_lines(read: Load) -> None:
    error = refusal(read, "http:\n  port: 1\n  host: a\n  port: 2\n")
    assert (error.field, error.message) == ("http.port", "is given twice, on lines 2 and 4; keep one")
    assert error.file.endswith(":4")


def test_a_wrong_value_names_its_line(read: Load) -> None:
    error = refusal(read, "queues:\n  a.b:\n    concurrency: 5\n    max_retries: x\n")
    assert error.file.endswith("iii-config.yaml:4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "an alias contains itself"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "the tag tag:yaml.org,2002:python/object/apply:os.system means nothing",
        ),
        ("a: !!python/name:os.system ls", "could not determine a constructor"),
        ("a: &a [0,0,0,0,0,0,0,0,0]\n" + LAUGHS, "more than 100000 values"),
        ("? [1, 2]\n: 3", "a key must be a plain name"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("a: " + "[" * 500, "nested too deeply"),
        ('a: "\x00"', "is not YAML"),
        ("{port: ${PORT:3000}}", "is not YAML"),
    ],
)
def test_strange_yaml_is_refused_without_a_crash(read: Load, text: str, message: str) -> None:
    error = refusal(read, text)
    assert message in error.message


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"steps: \xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load(tmp_path / "c.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_anchors_and_merge_keys_work(read: Load) -> None:
    config = read("queues:\n  a: &slow {concurrency: 1, max_retries: 7}\n  b: {<<: *slow, max_retries: 2}\n")
    assert (config.queues["b"].concurrency, config.queues["b"].max_retries) == (1, 2)


# ------------------------------------------------------------------------------------------- variables


def test_a_variable_stands_for_a_string_a_number_a_boolean_or_a_duration(read: Load) -> None:
    os.environ |= {
        "T_HOST": "::1",
        "T_PORT": "81",
        "T_ON": "False",
        "T_TIME": "2m",
        "T_TOKEN": "0123456789012345",
    }
    config = read(
        "http:\n  host: ${T_HOST}\n  port: ${T_PORT}\n  enabled: ${T_ON}\n  timeout: ${T_TIME}\n"
        "console: {token: '${T_TOKEN}'}\n"
        "queues: {a: {jitter: '${T_JITTER:0.25}'}}"
    )
    assert (config.http.host, config.http.port, config.http.enabled) == ("::1", 81, False)
    assert config.http.timeout_ms == 120_000
    assert config.console.token == "0123456789012345"
    assert config.queues["a"].jitter == 0.25


def test_a_default_holds_where_the_variable_is_not_set(read: Load) -> None:
    config = read(
        "steps: ${T_UNSET:src}/x\nhttp:\n  port: ${T_UNSET:4000}\nconsole:\n  token: a$${b}-and-more-of-it"
    )
    assert config.steps.parts[-2:] == ("src", "x")
    assert config.http.port == 4000
    assert config.console.token == "a${b}-and-more-of-it"


def test_an_unset_variable_is_named(read: Load) -> None:
    os.environ["T_SECRET_KEY"] = "x"
    error = refusal(read, "console:\n  token: ${T_SECRETKEY}\n")
    assert (error.field, error.file[-2:]) == ("console.token", ":2")
    assert "the environment variable T_SECRETKEY is not set" in error.message
    assert 'did you mean "T_SECRET_KEY"?' in error.message
    assert "${T_SECRETKEY:default}" in error.message


@pytest.mark.parametrize("text", ["steps: ${", "steps: ${A", "steps: ${A B}", "steps: ${}"])
def test_a_malformed_reference_is_refused(read: Load, text: str) -> None:
    error = refusal(read, text)
    assert error.field == "steps"
    assert "write ${VAR} or ${VAR:default}" in error.message


def test_a_variable_of_the_wrong_kind_is_refused(read: Load) -> None:
    os.environ["T_PORT"] = "http"
    assert "whole number" in refusal(read, "http:\n  port: ${T_PORT}\n").message


def test_env_beside_the_file_is_loaded_and_overrides_nothing(read: Load, tmp_path: Path) -> None:
    os.environ["T_HOST"] = "real"
    (tmp_path / ".env").write_text("T_HOST=fromfile\nT_PORT=99\n")
    config = read("http:\n  host: ${T_HOST}\n  port: ${T_PORT}\n")
    assert (config.http.host, config.http.port) == ("real", 99)
    assert os.environ["T_PORT"] == "99"
