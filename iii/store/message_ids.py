"""What a message is called outside of a store: `<epoch>-<number>`, or the number alone.

A number is given once in one store, but again where a backup takes that store's place. An epoch is 12 hex
digits, drawn at random when nobody else uses the store, so that what a copy gives is in another one. Numbers
from before a store's first epoch stand alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

__all__ = ["EPOCH_BITS", "SHAPE", "is_message_id", "number_of", "prefix_of"]

EPOCH_BITS: Final = 48
SHAPE: Final = '"0b5e1c9a44f7-6" (12 hex digits, "-", the number), or the number alone'

_SHAPE: Final = re.compile(r"(?:[0-9a-f]{12}-)?(0|[1-9][0-9]{0,17})", re.ASCII)


def prefix_of(epoch: int) -> str:
    """What stands before the numbers of this epoch."""
    return f"{epoch:012x}-"


def is_message_id(text: str) -> bool:
    """Whether it looks like one."""
    return _SHAPE.fullmatch(text) is not None


def number_of(text: str, called: Callable[[int], str]) -> int | None:
    """What Store.number_of says; `called`: its message_id."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        return None
    number = int(found[1])
    return number if text in (found[1], called(number)) else None
