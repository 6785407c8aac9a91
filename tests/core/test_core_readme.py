"""core/README.md: its example prints what it says it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "core" / "README.md"


def test_the_example_prints_what_the_readme_says() -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (example,) = [text for language, text in blocks if language == "python"]
    (output,) = [text for language, text in blocks if language == "text"]
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == (output, "")


def test_the_table_names_every_public_method() -> None:
    import iii_core

    text = README.read_text(encoding="utf-8")
    for name in iii_core.__all__:
        structure = getattr(iii_core, name)
        if not issubclass(structure, Exception):
            public = [method for method in vars(structure) if not method.startswith("_")]
            missing = [method for method in public if not re.search(rf"\b{method}\b", text)]
            assert missing == [], f"{name} in core/README.md"
