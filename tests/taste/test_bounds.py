"""Each row of docs/bounds.md names a test that there is."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEST = re.compile(r"`(tests/\S+\.py)::(test_\w+)`")


def test_each_bound_that_the_docs_tell_has_its_test() -> None:
    rows = [line for line in (ROOT / "docs/bounds.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        named = TEST.findall(row)
        assert named, row
        for file, name in named:
            assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), name
