"""What a mutant is: a known bug, put in by replacing an object, so that it does not care how that is written.

    @mutant("what goes wrong", "tests/….py::test_that_notices", …)
    def name_of_the_bug() -> None:
        around(Class, "method", lambda original: wrapper)

Where the class or its method is not found any more the mutant is old: rewrite it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

Wrap: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


class Mutant(NamedTuple):
    """`noticed_by`: tests that pass without it and must fail with it. `put_in`: in this process, for good."""

    bug: str
    put_in: Callable[[], None]
    noticed_by: tuple[str, ...]


ALL: dict[str, Mutant] = {}


def mutant(bug: str, *noticed_by: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def known(put_in: Callable[[], None]) -> Callable[[], None]:
        ALL[put_in.__name__] = Mutant(bug, put_in, noticed_by)
        return put_in

    return known


def around(owner: Any, name: str, wrap: Wrap) -> None:
    """wrap(original) in place of a class's method, or of a module's function wherever it was imported."""
    original = getattr(owner, name)
    changed = wrap(original)
    setattr(owner, name, changed)
    if not isinstance(owner, type):
        for module in [each for key, each in sys.modules.items() if key.partition(".")[0] == "iii"]:
            for alias, held in list(vars(module).items()):
                if held is original:
                    setattr(module, alias, changed)


def instead(owner: Any, name: str, changed: Callable[..., Any]) -> None:
    around(owner, name, lambda original: changed)
