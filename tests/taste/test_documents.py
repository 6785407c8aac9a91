"""Code in the documents compiles, and its data parses."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec
import pytest
from source_files import ROOT

NAMES = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "core/README.md")
DOCUMENTS = [ROOT / name for name in NAMES if (ROOT / name).is_file()]
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _check(language: str, text: str) -> None:
    if language in ("python", "py"):
        compile(text, "<block>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    elif language in ("yaml", "yml"):
        msgspec.yaml.decode(text)
    elif language == "json":
        msgspec.json.decode(text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_blocks_are_code(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        try:
            _check(block[1], block[2])
        except (SyntaxError, msgspec.MsgspecError) as error:
            raise AssertionError(f"{document.name}:{line}: {error}") from error


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_to_files_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []
