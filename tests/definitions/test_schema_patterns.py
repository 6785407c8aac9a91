"""Regular expressions of schemas: linear ones run, of the others the start says what to do."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pydantic
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from iii import schema
from iii.errors import StepError, ValidationError
from iii.schema.automaton import steps

LONG = 64 << 10


def fits(written: object, value: object) -> bool:
    validator = schema.compile(written)
    assert validator is not None
    try:
        validator.validate(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("where", ["pattern", "patternProperties", "propertyNames"])
def test_a_pattern_that_backtracks_for_ever_elsewhere_is_answered(where: str) -> None:
    hostile = "a" * LONG + "b"
    forms: dict[str, tuple[object, object]] = {
        "pattern": ({"pattern": "^(a+)+$"}, hostile),
        "patternProperties": (
            {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
            {hostile: 1},
        ),
        "propertyNames": ({"propertyNames": {"pattern": "^(a+)+$"}}, {hostile: 1}),
    }
    assert not fits(*forms[where])


def test_a_pattern_with_too_many_states_is_refused_for_a_long_text_and_run_for_a_short_one() -> None:
    written = {"pattern": "[ab]*a[ab]{400}c"}
    text = "".join(random.Random(1).choices("ab", k=LONG))
    validator = schema.compile(written)
    assert validator is not None
    with pytest.raises(ValidationError, match="steps to check"):
        validator.validate(text)
    assert fits(written, "a" + "b" * 400 + "c")


@pytest.mark.parametrize("pattern", ["^(?=.*[A-Z]).+$", r"^(a)\1$", "(?<!x)y", "a" * 40_000])
def test_what_cannot_run_in_linear_time_is_refused_at_start(pattern: str) -> None:
    for written in ({"properties": {"a": {"pattern": pattern}}}, {"patternProperties": {pattern: {}}}):
        with pytest.raises(StepError, match="linear time"):
            schema.compile(written)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"^\d+$", "12", True), (r"^\d+$", "१", False), (r"^\w$", "é", False), (r"^\s$", "\u00a0", True),
        (r"^\S$", "\u00a0", False), (r"^[\s]$", "\ufeff", True), (r"^[^\s]$", "\u2028", False),
        (r"^a$", "a\n", False), ("b", "abc", True),
        (r"^\u00e9\u{1F600}$", "é\U0001f600", True), (r"^\p{L}+$", "Größe", True), (r"\cJ", "\n", True),
        (r"^\\u0041$", r"\u0041", True), ("^.$", "\U0001f600", True), ("[[]]", "[]", True),
    ],
)  # fmt: skip
def test_patterns_mean_what_ecmascript_says(pattern: str, text: str, found: bool) -> None:
    assert fits({"pattern": pattern}, text) is found


# ------------------------------------------------------------------- patterns that Python's own `re` runs


@pytest.mark.parametrize(
    "pattern",
    [
        "^[a-z]+$",
        r"^\d{4}-\d{2}-\d{2}$",
        "^[a-z0-9]+(?:-[a-z0-9]+)*$",
        r"^\d+(\.\d+)?$",
        "[A-Z]{3}",
        "^(ab|cd)+$",
    ],
)
def test_a_pattern_whose_every_character_leaves_one_way_is_taken(pattern: str) -> None:
    assert schema.compile(Annotated[str, msgspec.Meta(pattern=pattern)]) is not None


@pytest.mark.parametrize(
    "pattern", ["^(a+)+$", "(a|ab|b)*$", "^(a?){30}a{30}$", r"^(\w+\s?)*$", "^(?=.*a).*$"]
)
@pytest.mark.parametrize("length", [None, 64])
def test_a_pattern_that_may_be_exponential_is_refused_at_any_length(pattern: str, length: int | None) -> None:
    name = Annotated[str, msgspec.Meta(pattern=pattern, max_length=length)]
    with pytest.raises(StepError, match="may run for ever"):
        schema.compile(msgspec.defstruct("Body", [("names", list[name])]))  # type: ignore[valid-type]
    assert steps(pattern, 2) is None


def test_a_pattern_that_is_a_power_of_the_length_needs_a_length() -> None:
    email = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
    with pytest.raises(StepError, match="max_length"):
        schema.compile(Annotated[str, msgspec.Meta(pattern=email)])
    with pytest.raises(StepError, match="max_length"):
        schema.compile(Annotated[str, pydantic.Field(pattern=re.compile(email))])
    bounded = Annotated[str, msgspec.Meta(pattern=email, max_length=254)]
    assert fits(bounded, "a@b.example")
    assert not fits(bounded, "a@" + "." * LONG + "@")


def test_a_pydantic_pattern_is_run_by_its_own_linear_engine() -> None:
    class Body(pydantic.BaseModel):
        name: str = pydantic.Field(pattern="^(a+)+$")

    assert not fits(Body, {"name": "a" * LONG + "b"})

    class Slow(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(regex_engine="python-re")
        name: str = pydantic.Field(pattern="^(a+)+$")

    with pytest.raises(StepError, match="the pattern"):
        schema.compile(Slow)


# ------------------------------------------------------------- large patterns of the linear engines


@pytest.mark.parametrize("pattern", ["(?:a{0,30}){30}b", "a{1,900}b", "[ab]{40}a[ab]*", "(a{1,31}){1,31}b"])
def test_a_repeated_repeat_is_not_run_over_a_text_that_is_long_for_it(pattern: str) -> None:
    validator = schema.compile({"items": {"pattern": pattern}})
    assert validator is not None
    with pytest.raises(ValidationError, match="steps to check"):
        validator.validate_json(msgspec.json.encode(["a" * 900_000 + "!"]))
    assert validator.validate_json(msgspec.json.encode(["a" * 41 + "b"]))


@pytest.mark.parametrize("pattern", ["(a{1,50}){1,50}b", "(a{1,100}){1,100}b"])
def test_a_large_pattern_of_pydantic_needs_a_length(pattern: str) -> None:
    for max_length in (None, 100_000):
        with pytest.raises(StepError, match=r"max_length of [\d,]+ at most"):
            schema.compile(Annotated[str, pydantic.Field(pattern=pattern, max_length=max_length)])
    assert schema.compile(Annotated[str, pydantic.Field(pattern=pattern, max_length=100)])


@pytest.mark.parametrize("pattern", ["(a{1,15}){1,15}b", r"\w{1,60}!", "[ab]*a[ab]{400}c"])
def test_a_pattern_of_pydantic_is_not_run_over_a_text_that_is_long_for_it(pattern: str) -> None:
    class Body(pydantic.BaseModel):
        name: str = pydantic.Field(pattern=pattern)

    validator = schema.compile(list[Body])
    assert validator is not None
    with pytest.raises(ValidationError, match="steps to check"):
        validator.validate_json(msgspec.json.encode([{"name": "a" * 900_000}]))


ORDINARY = {
    r"^([a-z0-9-]{1,63}\.){1,8}[a-z]{2,63}$": "www.some-host.example",
    "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$": "0123abcd-0000-4000-8000-0123456789ab",
    r"^[^@\s]+@[^@\s]+\.[^@\s]+$": "somebody@some-host.example",
    r"^\d{4}-\d{2}-\d{2}$": "2026-12-01",
    "^[a-z]{1,63}$": "somebody",
    r"^\w{1,64}$": "some_body",
    "^[a-z0-9]+(?:-[a-z0-9]+)*$": "a-slug-of-words",
    r"^.*$": "anything at all",
}


@pytest.mark.parametrize("pattern", ORDINARY)
def test_an_ordinary_pattern_is_run_over_many_texts(pattern: str) -> None:
    texts = [ORDINARY[pattern]] * ((1 << 18) // (len(ORDINARY[pattern]) + 3))
    raw = msgspec.json.encode(texts)
    for one in ({"items": {"pattern": pattern}}, list[Annotated[str, pydantic.Field(pattern=pattern)]]):
        validator = schema.compile(one)
        assert validator is not None
        assert validator.validate_json(raw) == texts


# -------------------------------------------------------- what is said of a pattern, against one that counts

EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "b", "[ab]", "[^a]"]),
    lambda inner: st.one_of(
        st.tuples(st.just("then"), inner, inner),
        st.tuples(st.just("or"), inner, inner),
        st.tuples(st.just("repeat"), inner, st.sampled_from([(0, None), (1, None), (0, 1), (2, 2), (0, 3)])),
    ),
    max_leaves=5,
)


def written(tree: Any) -> str:
    if isinstance(tree, str):
        return tree
    if tree[0] == "repeat":
        least, most = tree[2]
        return f"(?:{written(tree[1])}){{{least},{'' if most is None else most}}}"
    return f"(?:{written(tree[1])}{'|' if tree[0] == 'or' else ''}{written(tree[2])})"


class Backtracking:
    """A naive matcher that tries what `re` would try, and counts the characters it looks at."""

    def __init__(self, text: str) -> None:
        self.text, self.looked = text, 0

    def ends(self, tree: Any, at: int) -> Iterator[int]:
        if isinstance(tree, str):
            self.looked += 1
            assume(self.looked < 20_000)
            if at < len(self.text) and re.fullmatch(tree, self.text[at]):
                yield at + 1
        elif tree[0] == "then":
            for middle in self.ends(tree[1], at):
                yield from self.ends(tree[2], middle)
        elif tree[0] == "or":
            yield from self.ends(tree[1], at)
            yield from self.ends(tree[2], at)
        else:
            yield from self.rounds(tree[1], *tree[2], at)

    def rounds(self, body: Any, least: int, most: int | None, at: int) -> Iterator[int]:
        if most is None or most > 0:
            for after in self.ends(body, at):
                if after > at:
                    yield from self.rounds(body, max(0, least - 1), None if most is None else most - 1, after)
        if least == 0:
            yield at


@settings(deadline=None)
@given(EXPRESSIONS, st.text("ab", min_size=1, max_size=14))
def test_no_text_takes_more_steps_than_are_foreseen(tree: Any, text: str) -> None:
    pattern = f"^{written(tree)}$"
    foreseen = steps(pattern, len(text))
    if foreseen is not None:
        matcher = Backtracking(text)
        any(end == len(text) for end in matcher.ends(tree, 0))
        positions = (
            1 + len(re.findall("[ab]", pattern)) * 9
        )  # repeats written out, each looked at once in a place
        assert matcher.looked <= foreseen * positions + positions
