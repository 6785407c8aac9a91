"""Which files of a folder are steps, told by their names and without running any: steps/**/*_step.py.

a link to a folder          is followed, as one to a file is; one to nothing, or back to a folder it lies in,
                            is refused
begins with "."             left alone, as is a folder that begins with "__"
test_x_step.py              left alone where it is a test and no step
almost a step's name        refused where its content is a step's (.step.py and -step.py in any case)
any other name              a warning where its content is a step's, or it names one in another language
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from iii.definitions.source import Outline, outline
from iii.definitions.warning import SetupWarning
from iii.errors import StepError

__all__ = ["SUFFIX", "shown_file", "step_files"]

SUFFIX = "_step.py"

_ALWAYS = (".step.py", "-step.py")
_NEARLY = re.compile(r"(?P<name>(?:.*[\W_])?|.*[a-z0-9](?=S))(?i:steps?\s*\.py[w3]?)")
_BARE = re.compile(r"(?P<name>(?:.*[\W_])?|.*[a-z0-9](?=S))(?i:step)")
_FOREIGN = re.compile(
    r".+[._-]steps?\.(?:[cm]?[jt]sx?|rb|php|go|rs|pyx|(?:[\w-]+\.)?so|py\.txt)", re.IGNORECASE
)
_TESTS = re.compile(r"test_.*\.py|.*_test\.py|conftest\.py")
_Identity: TypeAlias = tuple[int, int]

Found: TypeAlias = Path | StepError | SetupWarning


def step_files(folder: Path) -> Iterator[Found]:
    """The step files, sorted by path, and in its place what is wrong or in doubt. `folder`: absolute."""
    real = folder.resolve()
    around = tuple(_identity(each) for each in (real, *real.parents))
    yield from _within(folder, folder, around)


def shown_file(file: Path, folder: Path) -> str:
    """The file as messages name it: from the folder above the steps on."""
    return str(file.relative_to(folder.parent))


def _within(place: Path, folder: Path, around: tuple[_Identity | None, ...]) -> Iterator[Found]:
    """What is in the folder `place`; `around`: the folders that it lies in, itself included."""
    try:
        with os.scandir(place) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        yield StepError(
            f"cannot be read ({error.strerror}), so whether steps are in it is not known",
            file=shown_file(place, folder),
        )
        return
    for entry in entries:
        path = place / entry.name
        if entry.name.startswith("."):
            continue
        if os.path.isdir(path) or entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith("__"):
                yield from _folder(path, folder, around)
        elif entry.is_symlink() and not os.path.exists(path):
            yield from _link_to_nothing(path, folder)
        else:
            yield from _file(path, folder)


def _folder(path: Path, folder: Path, around: tuple[_Identity | None, ...]) -> Iterator[Found]:
    shown = shown_file(path, folder)
    if _names_a_step(path.name):
        yield StepError("is a folder, and a step is a file: rename it", file=shown)
        return
    identity = _identity(path)
    if identity is not None and identity in around:
        yield StepError(f"is a link to a folder that it lies in ({path.resolve()}): remove it", file=shown)
        return
    yield from _within(path, folder, (*around, identity))


def _identity(path: Path) -> _Identity | None:
    """Which folder it is; None where that cannot be told, which reading it tells better."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _link_to_nothing(path: Path, folder: Path) -> Iterator[Found]:
    """It may have been a step, or a folder of steps; else it is worth a word."""
    try:
        target = os.readlink(path)
    except OSError:  # removed since
        return
    kind = StepError if _names_a_step(path.name) or not path.suffix else SetupWarning
    yield kind(f"is a link to nothing: {target}; mend or remove it", file=shown_file(path, folder))


def _names_a_step(name: str) -> bool:
    return name.endswith((SUFFIX, *_ALWAYS)) or _NEARLY.fullmatch(name) is not None


def _file(path: Path, folder: Path) -> Iterator[Found]:
    name, shown = path.name, shown_file(path, folder)
    if not path.is_file():
        if _names_a_step(name):
            yield StepError("is a pipe, a socket or a device, and a step is a file: remove it", file=shown)
    elif name.endswith(SUFFIX):
        if not (_TESTS.fullmatch(name) and _is_test(outline(path))):
            yield path
    elif name.endswith(_ALWAYS):
        yield _misnamed(path, folder)
    elif _FOREIGN.fullmatch(name):
        yield SetupWarning(f"does not run: a step is a Python file that ends in {SUFFIX}", file=shown)
    elif not _TESTS.fullmatch(name) and (path.suffix == ".py" or _near(path)):
        yield from _misplaced(path, folder, outline(path))


def _misplaced(path: Path, folder: Path, read: Outline | None) -> Iterator[Found]:
    """A file whose name is no step's: what if its content is?"""
    shown, is_near = shown_file(path, folder), _near(path) is not None
    if read is None:
        if is_near and path.suffix:
            yield SetupWarning(f"is not valid Python; the name of a step would end in {SUFFIX}", file=shown)
    elif is_near and {"config", "handler"} <= read.names:
        yield _misnamed(path, folder)
    elif read.has_config and "handler" in read.names:
        yield SetupWarning(
            f"has a step's config and handler and does not run: a step's file ends in {SUFFIX}; rename it to "
            f'{_right(path, folder)}, or move it into a folder that begins with "__"',
            file=shown,
        )


def _near(path: Path) -> re.Match[str] | None:
    return _NEARLY.fullmatch(path.name) or _BARE.fullmatch(path.name)


def _is_test(read: Outline | None) -> bool:
    """Whether a file named like pytest's is what it says. A step that checks a connection may be named so,
    too: it has a config and a handler of its own. What cannot be read is no test: its import tells why."""
    if read is None or {"config", "handler"} <= read.defined:
        return False
    return read.has_tests or not {"config", "handler"} & read.names


def _misnamed(path: Path, folder: Path) -> StepError:
    right = _right(path, folder)
    return StepError(f"a step's file ends in {SUFFIX}: rename it to {right}", file=shown_file(path, folder))


def _right(path: Path, folder: Path) -> str:
    """SendMailStep.py -> send_mail_step.py; orders/step.py -> orders_step.py."""
    near = _near(path)
    stem = path.stem if near is None else near["name"] or ""
    if stem == "__init__" or not stem.strip("._- "):
        stem = "my" if path.parent == folder else path.parent.name.removesuffix("_step")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", stem)
    return re.sub(r"[\W_]+", "_", words).strip("_").lower() + SUFFIX
