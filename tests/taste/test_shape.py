"""The shape of the sources: sizes, names, what tests may not do, what the core may not know."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

from source_files import ROOT, Source

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
EMPTY_WORDS = {"util", "utils", "helper", "helpers", "common", "manager", "misc"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _oversized(source: Source) -> Iterator[str]:
    if source.lines > FILE_LINES_MAX:
        yield f"{source.name} has {source.lines} lines, {FILE_LINES_MAX} at most"
    for node in source.nodes():
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                where = f"{source.name}:{node.lineno} {node.name}"
                yield f"{where} has {lines} lines, {FUNCTION_LINES_MAX} at most"


def test_files_and_functions_of_the_engine_fit_on_a_few_screens(
    sources: list[Source], remark: list[str]
) -> None:
    remark += [found for source in sources if not source.is_engine for found in _oversized(source)]
    oversized = [found for source in sources if source.is_engine for found in _oversized(source)]
    assert not oversized, "\n".join(oversized)


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", name)}


def _definitions(source: Source) -> Iterator[str]:
    yield source.path.stem
    yield from source.path.relative_to(ROOT).parts[:-1]
    for node in source.nodes():
        if isinstance(node, Function | ast.ClassDef):
            yield node.name


def test_nothing_is_named_after_nothing(sources: list[Source]) -> None:
    empty = [
        f"{source.name}: {name}"
        for source in sources
        for name in _definitions(source)
        if _words(name) & EMPTY_WORDS
    ]
    assert not empty, "\n".join(empty)


def test_every_module_of_the_engine_says_what_it_owns(sources: list[Source]) -> None:
    silent = [
        source.name
        for source in sources
        if source.is_engine
        and source.path.suffix == ".py"
        and "template" not in source.path.parts
        and source.text.strip()
        and not ast.get_docstring(ast.parse(source.text))
    ]
    assert not silent, "\n".join(silent)


def test_every_module_defers_its_annotations(sources: list[Source]) -> None:
    """One rule for all files: names in annotations never cost an import at run time."""
    eager = [
        source.name
        for source in sources
        if source.is_engine
        and source.path.suffix == ".py"
        and "template" not in source.path.parts
        and any(isinstance(node, Function | ast.AnnAssign) for node in source.nodes())
        and "from __future__ import annotations" not in source.text
    ]
    assert not eager, "\n".join(eager)


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([*([node.id] if isinstance(node, ast.Name) else []), *reversed(parts)])


def _evasions(source: Source) -> Iterator[str]:
    """Mocks, skipped tests and sleeps."""
    for node in source.nodes():
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [_dotted(node)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = [node.func.id]
        else:
            continue
        for name in names:
            if re.match(
                r"(unittest\.mock|mock|pytest_mock)\b|pytest\.(mark\.)?(skip|skipif|xfail|importorskip)\b"
                r"|unittest\.skip|time\.sleep$",
                name,
            ):
                yield f"{source.name}:{node.lineno} {name}"


def test_tests_mock_skip_and_sleep_nothing(sources: list[Source]) -> None:
    """tests/deadline.py alone sleeps, between two looks at something real."""
    tests = [source for source in sources if source.name.startswith("tests/")]
    evasions = [f for source in tests if source.name != "tests/deadline.py" for f in _evasions(source)]
    assert not evasions, "\n".join(evasions)


def test_test_files_have_names_of_their_own(sources: list[Source]) -> None:
    """Without packages under tests/, pytest imports test files by their bare name."""
    names = Counter(source.path.name for source in sources if source.name.startswith("tests/"))
    assert [name for name, count in names.items() if count > 1 and name != "conftest.py"] == []


def test_the_core_knows_nothing_of_the_engine(sources: list[Source]) -> None:
    """import-linter sees Python alone; this sees the Cython sources too."""
    knowing = [
        f"{source.name}: {line.strip()}"
        for source in sources
        if source.name.startswith("core/")
        for line in source.text.splitlines()
        if re.match(r"\s*(from|import|cimport)\s+iii(\.|\s|$)", line)
    ]
    assert not knowing, "\n".join(knowing)
