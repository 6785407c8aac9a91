"""What people are shown of texts from outside: nothing in it is obeyed by a terminal or a reader of lines."""

from __future__ import annotations

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from iii.formats.printable import indented, printable, printable_json

TURNS_TEXT = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C]
OBEYED = {*range(0x20), *range(0x7F, 0xA0), *TURNS_TEXT, 0x2028, 0x2029, *range(0xD800, 0xE000)}


def test_every_character_that_is_obeyed_is_escaped_and_no_other() -> None:
    for code in range(0x11000):
        told = printable(f"a{chr(code)}b")
        assert (told != f"a{chr(code)}b") == (code in OBEYED), hex(code)
        assert told.isascii() or code not in OBEYED


def test_escapes_are_those_of_python() -> None:
    told = printable("a\x1b[31m\n\r\t\x9b\x7f\u202e\u2028\ud800ü漢\U0001f642")
    assert told == r"a\x1b[31m\n\r\t\x9b\x7f\u202e\u2028\ud800ü漢" + "\U0001f642"
    assert printable(told) == told


def test_a_text_of_several_lines_is_indented() -> None:
    assert indented("a\n20:00:00.000 info\r\x1b[2K") == "  a\n  20:00:00.000 info\\r\\x1b[2K"


@given(st.recursive(st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=5))
def test_json_stays_the_same_value(value: object) -> None:
    for indent in (None, 2):
        told = printable_json(json.dumps(value, ensure_ascii=False, indent=indent))
        assert json.loads(told) == value
        assert not any(unicodedata.category(each) == "Cc" and each != "\n" for each in told)
        assert not any(ord(each) in OBEYED and each != "\n" for each in told)
