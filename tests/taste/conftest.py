"""What the taste tests share: the sources by folder, and findings that are shown but fail nothing."""

from __future__ import annotations

import pytest
from source_files import ROOT, Source

FOLDERS = ("iii", "core", "steps", "bench", "tests")
REMARKS = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    found = [
        Source(path)
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".pyi", ".pyx", ".pxd") and "__pycache__" not in path.parts
    ]
    assert {source.name.split("/")[0] for source in found} >= {"iii", "core", "tests"}
    return found


@pytest.fixture
def remark(pytestconfig: pytest.Config) -> list[str]:
    """Append a sentence here: it stands at the end of the run's report and fails nothing."""
    return pytestconfig.stash.setdefault(REMARKS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for sentence in config.stash.get(REMARKS, []):
        terminalreporter.write_line(f"remark: {sentence}")
