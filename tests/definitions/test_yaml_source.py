"""The file as text: broken YAML, keys given twice, variables, .env."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iii.config import Config, load
from iii.errors import ConfigError
from iii.formats.variables import expand

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


NUMBERS = ["0101", "08", "+07", "-01", "00", "0_1", "1:30", "1:30.5", "190:20:30", "1_0:00", "0:0"]


@pytest.mark.parametrize("written", NUMBERS)
@pytest.mark.parametrize("field", ["http: {timeout: %s}", "console: {token: %s}", "log: {redact: [%s]}"])
def test_a_number_that_not_all_read_alike_is_refused_wherever_it_stands(
    read: Load, written: str, field: str
) -> None:
    error = refusal(read, "\n" + field % written)
    assert error.file.endswith("iii-config.yaml:2")
    assert error.message.startswith(f"{written} is ")
    assert "in quotes where it is a text" in error.message


@pytest.mark.parametrize("written", ["0101", "1:30"])
def test_as_a_key_it_is_refused_too(read: Load, written: str) -> None:
    assert refusal(read, f"queues: {{{written}: {{}}}}").message.startswith(f"{written} is ")


def test_a_number_that_all_read_alike_is_taken_and_quotes_make_it_a_text(read: Load) -> None:
    config = read(
        "http: {port: 0x1F90, timeout: 1_500, send_timeout: 0b1111111}\n"
        "store: {path: '0101'}\nqueues: {'1:30': {jitter: .5}, a: {dead_letter_queue: \"010\"}}"
    )
    assert (config.http.port, config.http.timeout_ms, config.http.send_timeout_ms) == (8080, 1500, 127)
    assert config.store.path.name == "0101"
    assert (config.queues["1:30"].jitter, config.queues["a"].dead_letter_queue) == (0.5, "010")


@pytest.mark.parametrize("written", ["2026-01-02", "2026-13-45", "2026-01-02 03:04:05"])
def test_a_date_is_its_text(read: Load, written: str) -> None:
    assert read(f"store: {{path: {written}}}").store.path.name == written


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


DEFAULTS = {
    "${T_UNSET:-/srv/data}": "/srv/data",
    "${T_EMPTY:-/srv/data}": "/srv/data",
    "${T_SET:-/srv/data}": "here",
    "/a/${T_UNSET:-b}/${T_SET}": "/a/b/here",
    "${T_UNSET:--b}": "-b",
    "${T_UNSET:${T_OTHER:x}}": "x",
    "${T_UNSET:-${T_OTHER:-${T_SET}}}": "here",
    "${T_SET:${T_OTHER}}": "here",
    "${T_UNSET:a{b}c}": "a{b}c",
    "${T_UNSET:a$${b}c}": "a${b}c",
    "{${T_SET}}": "{here}",
    "${T_UNSET:=:?+}": None,
    "${T_UNSET:a:b}": "a:b",
    "${T_BRACES}": "${T_SET}",
}


@pytest.mark.parametrize("text", DEFAULTS)
def test_a_default_is_what_a_shell_makes_of_it(text: str) -> None:
    given = {"T_SET": "here", "T_EMPTY": "", "T_BRACES": "${T_SET}"}
    if (expected := DEFAULTS[text]) is not None:
        assert expand(text, given) == expected
    else:
        with pytest.raises(ValueError, match="means nothing here"):
            expand(text, given)


def test_all_that_are_not_set_are_told_at_once() -> None:
    with pytest.raises(ValueError, match="variables T_A, T_B and T_C are not set; set them, put them into"):
        expand("${T_A}/${T_B:}/${T_B}/${T_D:${T_C}}/${T_A}/${T_SET:${T_D}}", {"T_SET": "x"})


@pytest.mark.parametrize("sign", "?=+")
@pytest.mark.parametrize("given", [{}, {"A": "x"}])
def test_what_else_a_shell_does_with_a_variable_is_refused(sign: str, given: dict[str, str]) -> None:
    with pytest.raises(
        ValueError, match=r"\$\{A:.…\} means nothing here; write \$\{A\}, which has to be set"
    ):
        expand(f"${{A:{sign}text}}", given)
    with pytest.raises(ValueError, match="cannot name a variable"):
        expand(f"${{A{sign}text}}", given)


@pytest.mark.parametrize("text", ["${A:${", "${A:${B}", "${A:{}", "${A:{b}", "${A:$${b}", "${A:${B:{}}"])
@pytest.mark.parametrize("given", [{}, {"A": "x", "B": "y"}])
def test_a_brace_that_is_not_closed_is_refused_whatever_is_set(text: str, given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="without its }"):
        expand(text, given)


@pytest.mark.parametrize(
    "text", ["${A:${B C}}", "${${A}}", "${A-x}", "${#A}", "${A%b}", "${ A }", "${{ A }}"]
)
@pytest.mark.parametrize("given", [{}, {"A": "x", "B": "y"}])
def test_what_cannot_name_a_variable_is_refused_whatever_is_set(text: str, given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot name a variable"):
        expand(text, given)


@pytest.mark.parametrize("text", ["$HOME", "$DATA_DIR/iii", '"$HOME"', "'$HOME/a$b'"])
def test_a_variable_without_braces_is_refused_with_the_right_form(read: Load, text: str) -> None:
    error = refusal(read, f"store: {{path: {text}}}")
    assert error.field == "store.path"
    assert "write ${HOME} for" in error.message or "write ${DATA_DIR} for" in error.message


@pytest.mark.parametrize(
    "text", ["$ecret-token-0123", "a$TOKEN-0123456789", "$2b$12$abcdefghijklmnop", "$T-0123456789abcd"]
)
def test_a_dollar_in_a_text_stays(read: Load, text: str) -> None:
    assert read(f"console: {{token: {text}}}").console.token == text


@pytest.mark.parametrize("text", ["steps: ${", "steps: ${A", "steps: ${A B}", "steps: ${}"])
def test_a_malformed_reference_is_refused(read: Load, text: str) -> None:
    error = refusal(read, text)
    assert error.field == "steps"
    assert "write ${VAR} or ${VAR:default}" in error.message


def test_a_variable_of_the_wrong_kind_is_refused(read: Load) -> None:
    os.environ["T_PORT"] = "http"
    assert "whole number" in refusal(read, "http:\n  port: ${T_PORT}\n").message


@pytest.mark.parametrize(
    "make", [Path.mkdir, lambda file: file.symlink_to("gone"), lambda file: file.write_bytes(b"A=\xff")]
)
def test_env_that_cannot_be_read_is_no_missing_one(
    read: Load, tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / ".env")
    error = refusal(read, "")
    assert error.file.endswith(".env") and "cannot be read" in error.message


def test_a_line_of_env_that_sets_nothing_is_named_and_not_shown(read: Load, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# fine\nexport T_A=1\nT_B: secret\nT_C=2\n")
    error = refusal(read, "")
    assert str(error) == f"{tmp_path / '.env'}:3: is no NAME=value; mend it, or begin it with #"
    assert "T_A" not in os.environ


def test_env_beside_the_file_is_loaded_and_overrides_nothing(read: Load, tmp_path: Path) -> None:
    os.environ["T_HOST"] = "real"
    (tmp_path / ".env").write_text("T_HOST=fromfile\nT_PORT=99\n")
    config = read("http:\n  host: ${T_HOST}\n  port: ${T_PORT}\n")
    assert (config.http.host, config.http.port) == ("real", 99)
    assert os.environ["T_PORT"] == "99"
