r"""What a regular expression may cost, told from its text and never by trying it.

Read are Python's own parser's trees. From a tree come *positions* (the characters of the pattern, repeats
written out) and which position may follow which (Glushkov, 1961). Three questions are answered from them:

    steps       how many a backtracking engine (Python's `re`, which msgspec uses) takes at most for a text
                of a given length. Where each character of a text leaves one way to go on, it is linear; where
                ways overlap, a power of the length, one for each repeat; repeats of repeats: without bound
    is_small    whether a linear engine's automaton has few and small states, read from either end, so that it
                is kept and takes a nanosecond a character
    size        how many characters the pattern has, repeats written out: what a linear engine may take for
                each character of a text where it is not small

Whatever is not understood (look-around, back-references) is answered by the worst.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from msgspec import Struct

from iii.errors import StepError

__all__ = ["is_small", "refuse_slow_pattern", "size", "steps"]

TEXT_MAX = 1 << 20
STEPS_MAX = 4 * TEXT_MAX

_POSITIONS_MAX = 1000
_STATES_MAX, _IN_STATES_MAX = 2000, 20_000
_LATIN = 256
_HIGH = 1 << _LATIN  # one bit for all characters beyond: sets that have some of them count as overlapping
_ALL = (_HIGH << 1) - 1
_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, getattr(ops, "POSSESSIVE_REPEAT", ops.MAX_REPEAT))
_PROPERTY = re.compile(r"\\[pP](?:\{[^}]*\}|\w)")
_COUNT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_BEGINS = (ops.AT_BEGINNING, ops.AT_BEGINNING_STRING)


class _Unknown(Exception):
    """The pattern holds what is not understood here, or is too large."""


class _Part(Struct):
    """A part of a pattern: can it be empty, at which positions it may begin and end (each once per way)."""

    nullable: bool
    first: list[int]
    last: list[int]


class _Loop(NamedTuple):
    """A repeat: its positions, and how many more or fewer rounds it may take (None: any number)."""

    begin: int
    end: int
    times: int | None


class _Automaton:
    def __init__(self, pattern: str) -> None:
        self.sets: list[int] = []
        self.follow: list[Counter[int]] = []
        self.loops: list[_Loop] = []
        try:
            with warnings.catch_warnings(action="ignore"):  # of what a later Python may read in another way
                tree = parser.parse(pattern)
        except (re.error, RecursionError, OverflowError):
            raise _Unknown from None
        self._ignore_case = bool(tree.state.flags & re.IGNORECASE)
        if tree.state.flags & re.MULTILINE:
            raise _Unknown
        items = list(tree)
        self.anchored = bool(items) and items[0][0] is ops.AT and items[0][1] in _BEGINS
        self.whole = self._sequence(items)

    def _sequence(self, items: Iterable[Any]) -> _Part:
        whole = _Part(True, [], [])
        for op, value in items:
            whole = self._joined(whole, self._item(op, value))
        return whole

    def _joined(self, left: _Part, right: _Part) -> _Part:
        self._link(left.last, right.first)
        return _Part(
            left.nullable and right.nullable,
            left.first + right.first if left.nullable else left.first,
            left.last + right.last if right.nullable else right.last,
        )

    def _link(self, lasts: list[int], firsts: list[int]) -> None:
        for last in lasts:
            self.follow[last].update(firsts)

    def _item(self, op: Any, value: Any) -> _Part:
        if op is ops.AT:
            return _Part(True, [], [])
        if op is ops.SUBPATTERN:
            return self._sequence(value[-1])
        if op is ops.BRANCH:
            parts = [self._sequence(branch) for branch in value[1]]
            return _Part(
                any(part.nullable for part in parts),
                [first for part in parts for first in part.first],
                [last for part in parts for last in part.last],
            )
        if op in _REPEATS:
            return self._repeat(value[0], value[1], value[2])
        return self._position(self._set(op, value))

    def _repeat(self, least: int, most: Any, body: Iterable[Any]) -> _Part:
        begin, body = len(self.sets), list(body)
        whole = _Part(True, [], [])
        for _ in range(least):
            whole = self._joined(whole, self._sequence(body))
        if most is ops.MAXREPEAT:
            part = self._sequence(body)
            self._link(part.last, part.first)
            rest = _Part(True, part.first, part.last)
        else:
            rest = _Part(True, [], [])
            for _ in range(most - least):  # from the innermost: x?(x?(x?))
                part = self._sequence(body)
                joined = self._joined(part, rest)
                rest = _Part(True, joined.first, joined.last)
        if least != most or most > 1:
            times = None if most is ops.MAXREPEAT else most - least + 1
            self.loops.append(_Loop(begin, len(self.sets), times))
        return self._joined(whole, rest)

    def _position(self, characters: int) -> _Part:
        if len(self.sets) >= _POSITIONS_MAX:
            raise _Unknown
        number = len(self.sets)
        self.sets.append(characters)
        self.follow.append(Counter())
        return _Part(False, [number], [number])

    def _set(self, op: Any, value: Any) -> int:
        if op is ops.ANY:
            return _ALL
        if op is ops.LITERAL:
            return self._range(value, value)
        if op is ops.NOT_LITERAL:
            return _ALL & ~self._range(value, value) | _HIGH
        if op is ops.IN:
            negated = value[0][0] is ops.NEGATE
            found = 0
            for each, given in value[negated:]:
                found |= self._member(each, given)
            return _ALL & ~found | _HIGH if negated else found
        raise _Unknown

    def _member(self, op: Any, value: Any) -> int:
        if op is ops.LITERAL:
            return self._range(value, value)
        if op is ops.RANGE:
            return self._range(*value)
        if op is ops.CATEGORY and value in _CATEGORIES:
            return _CATEGORIES[value]
        raise _Unknown

    def _range(self, low: int, high: int) -> int:
        found = _HIGH if high >= _LATIN else 0
        for code in range(low, min(high, _LATIN - 1) + 1):
            found |= 1 << code
            if self._ignore_case:
                for other in (chr(code).lower(), chr(code).upper()):
                    found |= 1 << ord(other) if len(other) == 1 and ord(other) < _LATIN else _HIGH
        return found

    def steps(self, length: int) -> int | None:
        """A repeat that each character either goes on with or ends costs only its reading. One that may
        end in several places is tried in all of them, so the length counts once more. One whose rounds can
        themselves be read in several ways doubles the work with each round."""
        power, factor = 1, 1
        if not self.anchored:
            power += any(loop.times is None for loop in self.loops)
            factor = max(1, len(self.sets) // 8)  # most beginnings fail at once
        ways = [self.whole.first, *(list(targets.elements()) for targets in self.follow)]
        for loop in self.loops:
            inside = [[each for each in targets if loop.begin <= each < loop.end] for targets in ways]
            if any(map(self._overlap, inside)):
                return None
            out = [targets for targets in ways[loop.begin + 1 : loop.end + 1] if self._overlap(targets)]
            if out:
                power += loop.times is None
                factor *= (loop.times or 1) * max(map(len, out))
        for position, targets in enumerate(ways, -1):
            alone = not any(loop.begin <= position < loop.end for loop in self.loops)
            factor *= len(targets) if alone and self._overlap(targets) else 1
        return int(length**power) * factor

    def _overlap(self, targets: list[int]) -> bool:
        """Whether some character leads to two of `targets`, or to one of them in two ways."""
        taken = 0
        for position in targets:
            if taken & self.sets[position]:
                return True
            taken |= self.sets[position]
        return False

    def is_small(self, high: int) -> bool:
        """`high`: how much a set with characters beyond Latin counts in a state.
        Engines read a text from its end, too, to find where a match begins: not where that is known."""
        if not self._has_few_states(self.whole.first, self.follow, high, again=not self.anchored):
            return False
        return self.anchored or self._has_few_states(self.whole.last, self._backwards(), high, again=False)

    def _backwards(self) -> list[Counter[int]]:
        before: list[Counter[int]] = [Counter() for _ in self.follow]
        for position, targets in enumerate(self.follow):
            for target in targets:
                before[target][position] = 1
        return before

    def _has_few_states(
        self, first: list[int], follow: list[Counter[int]], high: int, *, again: bool
    ) -> bool:
        begin = frozenset(first)
        restart = begin if again else frozenset()
        letters = _letters(self.sets)
        weights = [high if each & _HIGH else 1 for each in self.sets]
        waiting, known, size = [begin], {begin}, len(begin)
        while waiting:
            state = waiting.pop()
            for letter in letters:
                at = [position for position in state if self.sets[position] & letter]
                then = restart.union(*(follow[position] for position in at))
                if then not in known:
                    known.add(then)
                    waiting.append(then)
                    size += sum(weights[position] for position in then)
            if len(known) > _STATES_MAX or size > _IN_STATES_MAX:
                return False
        return True


def _letters(sets: list[int]) -> list[int]:
    """One character for each group of characters that no set tells apart."""
    groups: dict[tuple[bool, ...], int] = {}
    for code in range(_LATIN + 1):
        bit = 1 << code
        groups.setdefault(tuple(bool(each & bit) for each in sets), bit)
    return list(groups.values())


def _matching(*kinds: str) -> int:
    return sum(1 << code for code in range(_LATIN) if any(getattr(chr(code), kind)() for kind in kinds))


_DIGITS, _SPACES = _matching("isdigit") | _HIGH, _matching("isspace") | _HIGH
_WORDS = _matching("isalnum") | 1 << ord("_") | _HIGH
_CATEGORIES = {
    ops.CATEGORY_DIGIT: _DIGITS,
    ops.CATEGORY_NOT_DIGIT: _ALL & ~_DIGITS | _HIGH,
    ops.CATEGORY_SPACE: _SPACES,
    ops.CATEGORY_NOT_SPACE: _ALL & ~_SPACES | _HIGH,
    ops.CATEGORY_WORD: _WORDS,
    ops.CATEGORY_NOT_WORD: _ALL & ~_WORDS | _HIGH,
}


def steps(pattern: str, length: int) -> int | None:
    """The most that a search of a text of `length` characters takes; None: it may be exponential."""
    try:
        return _Automaton(pattern).steps(length)
    except _Unknown:
        return None


def refuse_slow_pattern(pattern: str, max_length: int | None) -> None:
    """StepError for a pattern that Python's `re` may run for too long on a text of `max_length` characters
    (None: of any length)."""
    most = steps(pattern, max_length if max_length is not None else TEXT_MAX)
    if most is not None and most <= STEPS_MAX:
        return
    if steps(pattern, 1) is None:
        raise StepError(
            f"the pattern {pattern!r} may run for ever in Python's re: it has look-around, back-references "
            "or repeats within repeats, or is too large to tell. Check it in the handler, or use a JSON "
            'Schema dict, whose patterns take linear time (several of them under "allOf" say what (?=…) does)'
        )
    raise StepError(
        f"the pattern {pattern!r} may hold a text of {max_length or TEXT_MAX:,} characters for seconds or "
        "longer: Python's re tries all ways that its repeats leave open; give it a max_length (255, say), or "
        "use a JSON Schema dict: its patterns take linear time"
    )


def is_small(pattern: str, high: int = 1) -> bool:
    """Whether the automaton of a search for `pattern` has at most 2,000 states, of ten positions each."""
    try:
        return _Automaton(pattern).is_small(high)
    except _Unknown:
        return False


def size(pattern: str) -> int:
    """At most how many characters `pattern` has, with its repeats written out."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return _size(parser.parse(_PROPERTY.sub(r"\\w", pattern)))
    except (re.error, RecursionError, OverflowError):  # what Python's parser does not know: too much is said
        return len(pattern) * math.prod(
            max(int(each or 0) for each in (1, *counts)) for counts in _COUNT.findall(pattern)
        )


def _size(items: Iterable[Any]) -> int:
    found = 0
    for op, value in items:
        if op in _REPEATS:
            times = max(1, value[0] if value[1] is ops.MAXREPEAT else value[1])
            found += times * _size(value[2])
        elif op is ops.BRANCH:
            found += sum(map(_size, value[1]))
        elif op is ops.SUBPATTERN:
            found += _size(value[-1])
        else:
            found += op is not ops.AT
    return found
