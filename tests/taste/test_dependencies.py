"""What the project stands on: bounds in pyproject.toml, pins and sums in constraints.txt, docs/sbom.json."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from itertools import chain
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
CALENDARS = {"tzdata"}  # versions that are dates: nothing in it breaks us


def shipped() -> list[Requirement]:
    """What a user who wants every extra installs."""
    project = PROJECT["project"]
    return [Requirement(each) for each in chain(project["dependencies"], *extras().values())]


def extras() -> dict[str, list[str]]:
    return PROJECT["project"]["optional-dependencies"]  # type: ignore[no-any-return]


def everything() -> list[Requirement]:
    """What anybody here installs: to run, to build, to test, to measure, to release."""
    groups = chain(PROJECT["build-system"]["requires"], *PROJECT["dependency-groups"].values())
    return shipped() + [Requirement(each) for each in groups]


def pins() -> dict[str, tuple[str, int]]:
    """Name -> version and number of hashes, from constraints.txt."""
    text = (ROOT / "constraints.txt").read_text().replace("\\\n", " ")
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    found = [(row[0].partition("=="), sum(word.startswith("--hash=sha256:") for word in row)) for row in rows]
    return {canonicalize_name(name): (version, hashes) for (name, _, version), hashes in found}


def closure(wanted: Iterable[Requirement]) -> set[str]:
    """The names of `wanted` and of what they want in turn, as far as it is installed here."""
    found: dict[tuple[str, str], None] = {}
    stack = list(wanted)
    while stack:
        requirement = stack.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in found:
                continue
            found[name, extra] = None
            inner = map(Requirement, _wanted_by(name))
            stack += [each for each in inner if _applies(each, extra)]
    return {name for name, _ in found}


def _wanted_by(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []  # what `make lock` alone installs


def _applies(requirement: Requirement, extra: str) -> bool:
    environment = {**default_environment(), "extra": extra}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def test_a_dependency_has_a_lower_and_an_upper_bound() -> None:
    unbounded = []
    for requirement in shipped():
        signs = {each.operator for each in requirement.specifier}
        if requirement.name not in CALENDARS and signs != {">=", "<"}:
            unbounded.append(str(requirement))
    assert unbounded == []


def test_every_package_is_pinned_with_its_hashes() -> None:
    pinned = pins()
    assert sorted(closure(everything()) - pinned.keys()) == [], "run make lock"
    assert [name for name, (_, hashes) in pinned.items() if not hashes] == []


def test_every_pin_lies_within_its_bounds() -> None:
    pinned = pins()
    outside = [
        str(each)
        for each in everything()
        if not each.specifier.contains(pinned[canonicalize_name(each.name)][0], prereleases=True)
    ]
    assert outside == [], "run make lock"


def test_the_bill_of_materials_names_what_is_shipped_and_no_more() -> None:
    pinned = pins()
    bom = json.loads((ROOT / "docs/sbom.json").read_text())
    told = {each["purl"]: each["version"] for each in bom["components"]}
    packages = {f"pkg:pypi/{name}@{pinned[name][0]}": pinned[name][0] for name in closure(shipped())}
    assert told == packages | {each["purl"]: each["version"] for each in _vendored()}, "run make lock"


def _vendored() -> list[Any]:
    spec = importlib.util.spec_from_file_location("vendored", ROOT / ".ci/vendored.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.vendored(module.VERSIONS.read_text())  # type: ignore[no-any-return]


def test_make_installs_nothing_without_constraints() -> None:
    makefile = (ROOT / "Makefile").read_text()
    installs = re.findall(r"pip install.*", makefile)
    assert installs
    assert [each for each in installs if not re.search(r"-c constraints\.txt|pip\.txt", each)] == []
