r"""Regular expressions of JSON Schema dicts, run by RE2: in a time proportional to the text.

They are written in ECMAScript's syntax. What RE2 lacks of it cannot be run in linear time (look-around,
back-references) and is refused at start; what it writes in another way (\uXXXX, \s) is translated.
"""

from __future__ import annotations

import re
from functools import lru_cache

from iii.errors import StepError
from iii.schema.automaton import is_small
from iii.schema.work import Work

__all__ = ["Pattern", "compile_pattern"]

_SIZE_MAX = 5000
_MEMORY_MAX = 16 << 20  # of the states that are kept; a pattern that is not small pays as if none were
_TOKEN = re.compile(
    r"\\u\{(?P<braced>[0-9a-fA-F]+)\}|\\u(?P<plain>[0-9a-fA-F]{4})|\\c(?P<control>[a-zA-Z])"
    r"|(?P<space>\\s)|(?P<other>\\S)|\\.|(?P<open>\[\^?\]?)|(?P<close>\])",
    re.DOTALL,
)
_SPACE = r"\s\x0b\pZ\x{feff}"  # ECMA-262 §22.2.2.9; RE2's \s is ASCII's without \v
_CALL_STEPS = 25


class Pattern:
    def __init__(self, source: str) -> None:
        import re2

        options = re2.Options()
        options.never_capture, options.log_errors = True, False
        options.longest_match = True  # its states are sets of positions then, not each order of them
        options.max_mem = _MEMORY_MAX
        self._search = re2.compile(_translated(source), options)
        self._size = self._search.programsize
        if self._size > _SIZE_MAX:
            raise re2.error(f"its program has {self._size} instructions, at most {_SIZE_MAX} are run")
        self._small = is_small(source)

    def fits(self, text: str, work: Work) -> bool:
        encoded = text.encode(errors="replace")
        size = len(encoded)
        work.spend(_CALL_STEPS + (size // 32 if self._small else size * self._size // 10))
        return self._search.search(encoded) is not None


@lru_cache(maxsize=1000)
def compile_pattern(source: str) -> Pattern:
    """StepError where RE2 cannot run `source`, with the way to write it."""
    try:
        import re2
    except ImportError:
        raise StepError(
            "a pattern in a JSON Schema needs the google-re2 library; pip install 'iii-engine[jsonschema]'"
        ) from None
    try:
        return Pattern(source)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise StepError(
            f"the pattern {source!r} cannot be run in linear time: {reason}. Look-around (?=…) and "
            'back-references \\1 are not available: several patterns under "allOf" say the same as (?=…). '
            'Nor are counts over 1,000: "maxLength" says the same as .{0,5000}'
        ) from None


def _translated(source: str) -> str:
    in_class = False

    def translate(match: re.Match[str]) -> str:
        nonlocal in_class
        if code := match["braced"] or match["plain"]:
            return f"\\x{{{code}}}"
        if match["control"]:
            return f"\\x{ord(match['control']) % 32:02x}"
        if match["space"]:
            return _SPACE if in_class else f"[{_SPACE}]"
        if match["other"] and not in_class:
            return f"[^{_SPACE}]"
        in_class = bool(match["open"]) or (in_class and not match["close"])
        return match[0]

    return _TOKEN.sub(translate, source)
