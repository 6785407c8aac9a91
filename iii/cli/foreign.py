"""Other distributions that install a package `iii` into this environment: iii-sdk does, which motia requires.

Whichever is installed last overwrites files of the other, and takes them along when it is removed. Nothing of
the package is imported here: it may be the other's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["OWN", "overwritten", "told"]

OWN = "iii-engine"
_DIST_INFO = re.compile(r"(?P<name>[A-Za-z0-9._]+)-(?P<version>[^-]+)\.dist-info")
_FILE = re.compile(rb"^iii(?:/|\.py,)", re.MULTILINE)


def told() -> str | None:
    """What others are installed beside this engine and what to do; None: none."""
    others = _others()
    if not others:
        return None
    listed = " and ".join(f"{name} {version}" for name, version in others.items())
    return (
        f'{listed} installs a package "iii", too, and each overwrites files of the other: an environment has '
        f"room for one of them; {_remedy(others)}"
    )


def overwritten() -> str:
    """Why the package `iii` that is imported is not this engine's, and what to do."""
    others = _others()
    listed = " and ".join(f"{name} {version}" for name, version in others.items())
    why = (
        f"was overwritten by {listed}" if others else "lacks files: another one that installs it was removed"
    )
    return f'the package "iii" of {OWN} {why}; {_remedy(others)}'


def _remedy(others: dict[str, str]) -> str:
    again = f"pip install --force-reinstall --no-deps {OWN}"
    if not others:
        return again
    return f"pip uninstall {' '.join([*others, *_dependents(others)])} && {again}"


def _others() -> dict[str, str]:
    """Name -> version."""
    found = {}
    for folder, name, version in _installed():
        if name != OWN and _FILE.search(_content(folder / "RECORD")):
            found[name] = version
    return found


def _dependents(others: dict[str, str]) -> list[str]:
    """What is of no use without them, or would have them installed again."""
    names = "|".join(re.escape(name).replace("\\-", "[-_.]") for name in others)
    needs = re.compile(rf"^Requires-Dist: *(?:{names})(?![\w.-])(?![^\n]*;[^\n]*extra)".encode(), re.M | re.I)
    found = {name for folder, name, _ in _installed() if needs.search(_content(folder / "METADATA"))}
    return sorted(found - {*others, OWN})


def _installed() -> Iterator[tuple[Path, str, str]]:
    """The folder, name and version of each distribution on the path."""
    for place in dict.fromkeys(sys.path):
        folder = Path(place or ".")
        for each in sorted(folder.glob("*.dist-info")) if folder.is_dir() else ():
            if match := _DIST_INFO.fullmatch(each.name):
                yield each, re.sub(r"[-_.]+", "-", match["name"]).lower(), match["version"]


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
