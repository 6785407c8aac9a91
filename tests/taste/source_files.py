"""One file of the project, as the taste tests look at it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Source:
    """`name` is relative to the project; only Python files have nodes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(ROOT).as_posix()
        self.text = path.read_text(encoding="utf-8")
        self.lines = self.text.count("\n")

    @property
    def is_engine(self) -> bool:
        return self.name.startswith("iii/")

    def nodes(self) -> Iterator[ast.AST]:
        if self.path.suffix in (".py", ".pyi"):
            yield from ast.walk(ast.parse(self.text, self.name))
