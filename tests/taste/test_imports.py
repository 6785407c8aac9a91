"""What an import costs, asked of a fresh interpreter; and what the public names are."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import iii

HEAVY = [
    "hypercorn",
    "h2",
    "lmdb",
    "uvloop",
    "rich",
    "jsonschema",
    "pydantic",
    "watchfiles",
    "httptools",
    "opentelemetry",
]

COSTS = {
    "import iii": [*HEAVY, "asyncio", "click"],
    "from iii.core import PriorityQueue, Dispatcher, TimerWheel, Batch": [
        *HEAVY,
        "asyncio",
        "click",
        "msgspec",
    ],
    "from iii import Engine": [
        "hypercorn",
        "lmdb",
        "click",
        "rich",
        "jsonschema",
        "pydantic",
        "starlette",
        "opentelemetry",
    ],
    "import iii.console.server": ["hypercorn", "starlette", "anyio", "click"],
    "import iii.store.memory": HEAVY,
    "import iii.cli": [*HEAVY, "asyncio", "msgspec", "orjson"],
}


@pytest.mark.parametrize("statement", COSTS)
def test_an_import_brings_only_what_it_needs(statement: str) -> None:
    code = f"import sys\n{statement}\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "iii" in loaded
    assert loaded & set(COSTS[statement]) == set()


def test_no_public_name_hides_a_submodule() -> None:
    """`iii.state` is an object, `iii.store` a package: were both one name, an import would decide which."""
    assert iii.__all__
    assert set(iii.__all__) & {module.name for module in pkgutil.iter_modules(iii.__path__)} == set()


def test_every_public_name_is_there() -> None:
    assert [name for name in iii.__all__ if not hasattr(iii, name)] == []
