"""Which names have secrets under them: `password`, and so userPassword, DB_PASSWORD, X-Api-Key, sessionToken.

    a name is split into words    at capitals, at `_ - . :` and spaces: userApiKey -> user api key
    it names a secret             where words in a row are a listed name, or its plural, or where a word ends
                                  with one of five letters or more: dbpassword, csrftoken
    no secret all the same        true, false, null; numbers under a name that counts: max_tokens, token_count

So `secretary`, `tokenizer`, `author` and `monkey` are no secrets. What each name is, is worked out once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["SecretNames"]

NAME_CHARS_MAX = 128
KNOWN_MAX = 4_096
ENDING_CHARS_MIN = 5

SHOWN, COUNTED, HIDDEN = range(3)

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_A-Za-z]+")
_SEPARATORS = re.compile(r"[\W_]+")
_COUNTING = """
age at attempts budget bytes cached completion cost count counts expire expires expiration expiry
index input left len length limit limits max min ms n num number output per prompt rate reasoning
remaining retries s seconds size sum timeout total totals ttl usage used version
"""
_COUNTS = frozenset(_COUNTING.split())


class SecretNames:
    """`names`: as they are configured, in any style."""

    __slots__ = ("_endings", "_joined", "_known", "pattern")

    def __init__(self, names: Iterable[str]) -> None:
        words = [found for name in names if (found := _words(name))]
        joined = {"".join(each) for each in words}
        self._joined = frozenset(joined | {f"{each}s" for each in joined})
        self._endings = tuple(each for each in self._joined if len(each) >= ENDING_CHARS_MIN)
        self._known: dict[object, int] = {}
        each_in_text = sorted({"[-_. ]?".join(map(re.escape, each)) for each in words}, key=len, reverse=True)
        self.pattern = "|".join(each_in_text)
        """A regular expression that finds, whatever the case, where such a name may stand; "" for none."""

    def __bool__(self) -> bool:
        return bool(self._joined)

    def hides(self, name: object, value: object) -> bool:
        """Whether `value` must not be seen. `name`: text or bytes; nothing else is one."""
        known = self._known.get(name) if isinstance(name, str) else None
        if known is None:
            known = self._judged(name)
        if known == SHOWN or value is None or isinstance(value, bool):
            return False
        return known == HIDDEN or not isinstance(value, int | float)

    def _judged(self, name: object) -> int:
        if isinstance(name, bytes):
            name = name[:NAME_CHARS_MAX].decode("latin-1")
        if not isinstance(name, str):
            return SHOWN
        judged = self._judge(name[-NAME_CHARS_MAX:])
        if len(name) <= NAME_CHARS_MAX:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[name] = judged
        return judged

    def _judge(self, name: str) -> int:
        words = _words(name)
        for start in range(len(words)):
            run = ""
            for end in range(start, min(len(words), start + 4)):
                run += words[end]
                if run in self._joined or (end == start and run.endswith(self._endings)):
                    is_plural = run.endswith("s") and run[:-1] in self._joined
                    return COUNTED if is_plural or not _COUNTS.isdisjoint(words) else HIDDEN
        return HIDDEN if _SEPARATORS.sub("", name).casefold() in self._joined else SHOWN


def _words(name: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(name)]
