"""The console's pages as files: what is vendored is what was published, nothing in them can become markup."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import iii
from iii.console.app import PAGES
from iii.console.files import ALL_STYLES, STYLES

STATIC = Path(iii.__file__).parent / "console" / "static"
OWN = sorted(path for path in STATIC.rglob("*") if path.is_file() and "vendor" not in path.parts)
SCRIPTS = [path for path in OWN if path.suffix == ".js"]
LINES_MAX = 400
OF_OUR_OWN_NAMES = ("EVENT_TOPICS", "NAMES", "SPACE")
"""Tables that are asked for nothing else."""

FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    r"|<[a-z][^<>$]* style=\"|<[a-z][^<>$]* on[a-z]+=\"|https?://(?!www\.w3\.org/2000/svg)"
)
IMPORT = re.compile(r"""(?:from|import\()\s*"(\.{1,2}/[^"]+)\"""")
LINK = re.compile(r"""(?:href|src)="(static/[^"]+)\"""")


def _name(path: Path) -> str:
    return path.relative_to(STATIC).as_posix()


def test_what_is_vendored_is_what_versions_says() -> None:
    versions = (STATIC / "vendor" / "VERSIONS").read_text()
    sums = (line.split() for line in versions.partition("sha256\n")[2].splitlines())
    told = {name: sum for sum, name in sums}
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (STATIC / "vendor").iterdir()
        if path.suffix in (".js", ".css")
    }
    assert found == told
    for licence in re.findall(r"LICENSE-\S+", versions):
        assert (STATIC / "vendor" / licence).is_file()


@pytest.mark.parametrize("path", OWN, ids=_name)
def test_nothing_becomes_markup_or_comes_from_elsewhere(path: Path) -> None:
    assert FORBIDDEN.findall(path.read_text()) == []
    assert path.read_text().count("\n") <= LINES_MAX


@pytest.mark.parametrize("path", SCRIPTS, ids=_name)
def test_imports_lead_to_files_and_are_used(path: Path) -> None:
    text = path.read_text()
    assert [name for name in IMPORT.findall(text) if not (path.parent / name).is_file()] == []
    body = re.sub(r"^import [^;]*;", "", text, flags=re.MULTILINE)
    taken = [
        name.strip()
        for names in re.findall(r"^import \{([^}]*)\} from", text, re.MULTILINE)
        for name in names.split(",")
    ]
    assert [name for name in taken if name and not re.search(rf"\b{name}\b", body)] == []


TABLE = re.compile(
    r"const ([A-Z_]+) = \{(?! __proto__: null,|\n  __proto__: null,)"
    r"|\{ (?!__proto__: null)[^{}]*\}\)?\[[a-z]"
)


@pytest.mark.parametrize("path", SCRIPTS, ids=_name)
def test_tables_that_are_asked_for_any_name_inherit_none(path: Path) -> None:
    """Each other object knows a "constructor"."""
    text = path.read_text()
    tables = [found[1] for found in TABLE.finditer(text)]
    asked = [name for name in tables if name is None or re.search(rf"\b{name}\[[a-z]", text)]
    assert [name for name in asked if name not in OF_OUR_OWN_NAMES] == []


def test_the_api_is_documented_whole_and_nothing_beside_it() -> None:
    document = (Path(iii.__file__).parents[1] / "docs" / "api.md").read_text()
    told = re.findall(r"^\| `(GET|POST|PUT|DELETE) (/\S+)`", document, re.MULTILINE)
    own = [("POST", "/api/login"), ("POST", "/api/logout")]
    assert sorted(told) == sorted(
        [*own, *((method, path) for page in PAGES for method, path, _ in page.ROUTES)]
    )


def test_the_first_page_links_to_files_that_are_there() -> None:
    links = LINK.findall((STATIC / "index.html").read_text())
    assert len(links) > 10
    files = [link.removeprefix("static/") for link in links]
    assert [name for name in files if name != ALL_STYLES and not (STATIC / name).is_file()] == []
    assert {path.name for path in STATIC.rglob("*.css")} == {Path(name).name for name in STYLES}
