"""What a Python file defines at its top level, read without running it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

__all__ = ["Outline", "outline"]

_BYTES_MAX = 1 << 20
_STEP_KEYS = frozenset(("triggers", "trigger", "subscribes", "enqueues", "emits"))


class Outline(Struct, frozen=True):
    """`defined`: the names of what the file itself assigns or defines; `names`: of what it imports, too.
    has_tests: pytest would collect some. has_config: its `config` is a step's, as far as can be seen."""

    defined: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    has_tests: bool = False
    has_config: bool = False


def outline(path: Path) -> Outline | None:
    """None where the file is not Python or cannot be read; an empty one where it is too large for a step."""
    try:
        source = path.read_bytes()
        if len(source) > _BYTES_MAX:
            return Outline()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes: whoever imports the file hears of them
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    defined: set[str] = set()
    imported: set[str] = set()
    has_config = False
    for node in _statements(tree.body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            imported |= {(each.asname or each.name).partition(".")[0] for each in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            named = {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
            defined |= named
            has_config |= "config" in named and _is_config(node.value)
    has_tests = any(name.startswith(("test_", "Test")) for name in defined)
    return Outline(frozenset(defined), frozenset(defined | imported), has_tests, has_config)


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Those that run at the import, the inner ones of `if`, `try` and `with` too."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            for inner in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, inner, ()))
            for handler in getattr(node, "handlers", ()):
                yield from _statements(handler.body)


def _is_config(value: ast.expr) -> bool:
    """A dict with a step's keys, or a call that makes one: StepConfig(…), dict(triggers=…)."""
    if isinstance(value, ast.Dict):
        return any(isinstance(key, ast.Constant) and key.value in _STEP_KEYS for key in value.keys)
    if not isinstance(value, ast.Call):
        return False
    called = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
    return called == "StepConfig" or any(each.arg in _STEP_KEYS for each in value.keywords)
