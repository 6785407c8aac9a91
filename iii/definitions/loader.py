"""Finding and importing steps: steps/**/*_step.py, each with a `config` and a `handler`.

Each folder becomes a package of its own name, so that two projects in one process do not meet and `from
.prices import vat` works; the folder and the one above are also put at the end of sys.path, so that `from
prices import vat` does (what is installed wins), and beside them what processes that a step spawns find the
package by (on_path/). Loading again imports anew.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from iii.definitions import on_path
from iii.definitions.discovery import shown_file, step_files
from iii.definitions.import_errors import PREFIX, explain, is_interrupt
from iii.definitions.step_config import make_step, read_step
from iii.definitions.warning import SetupWarning, log_warning
from iii.errors import StepError
from iii.step import Step

__all__ = ["each_step", "load_steps", "make_step"]


def load_steps(folder: Path, warn: Callable[[SetupWarning], object] = log_warning) -> list[Step]:
    """The steps of `folder`, in order of their paths. StepError names the file and line at fault; `warn` is
    called with what only may be a mistake."""
    steps: list[Step] = []
    for found in each_step(folder):
        if isinstance(found, StepError):
            raise found
        if isinstance(found, Step):
            steps.append(found)
        else:
            warn(found)
    return steps


def each_step(folder: Path) -> Iterator[Step | StepError | SetupWarning]:
    """As load_steps, but what is wrong with a file comes in the place of its step: all that can be told."""
    folder = Path(os.path.abspath(folder))
    if not folder.is_dir():
        what = f"is a link to nothing: {os.readlink(folder)}" if folder.is_symlink() else "no such folder"
        yield StepError(f"{what}; make it, or name another with `steps:` or --steps", file=str(folder))
        return
    package = _package(folder)
    for found in step_files(folder):
        if not isinstance(found, Path):
            yield found
            continue
        try:
            yield from _load(found, folder, package)
        except StepError as error:
            yield error


def _load(file: Path, folder: Path, package: str) -> Sequence[Step | StepError]:
    shown = shown_file(file, folder)
    inner = file.relative_to(folder).with_suffix("").parts
    if any("." in part for part in inner):
        raise StepError(
            'a step\'s file and its folders cannot have a "." in their names; rename it', file=shown
        )
    try:
        module = importlib.import_module(".".join((package, *inner)))
    except StepError as error:
        raise StepError(error.message, file=error.file or shown, field=error.field) from None
    except BaseException as error:
        if is_interrupt(error):
            raise
        raise explain(error, file, folder) from error
    if not hasattr(module, "config"):
        raise StepError(
            "is missing; write `config = {...}` or `config = StepConfig(...)`", file=shown, field="config"
        )
    found = read_step(module.config, getattr(module, "handler", None), shown)
    return [found] if isinstance(found, Step) else found


def _package(folder: Path) -> str:
    """The name of a package for `folder`: its submodules are found in it."""
    (ours,) = on_path.__path__
    if ours not in sys.path:
        sys.path.append(ours)
    name: str = importlib.import_module("iii_steps").name_of(str(folder))
    earlier = _forget_modules(folder, name)
    place = next((index for index, path in enumerate(sys.path) if path in earlier), len(sys.path))
    for path in (str(folder.parent), str(folder)):
        if path not in sys.path[:place]:
            if path in sys.path:
                sys.path.remove(path)
            sys.path.insert(place, path)
    importlib.invalidate_caches()
    return name


def _forget_modules(folder: Path, package: str) -> set[str]:
    """Drop what `folder` imported earlier, and others' modules whose names may mean files of this project.

    Other packages of steps stay: their engines may run, and import by `from .prices import vat` at any time.
    Returns the folders of the earlier loads.
    """
    packages = [m for name, m in sys.modules.items() if name.startswith(PREFIX) and name.count(".") == 1]
    folders = {path for each in packages for path in each.__path__}
    foreign = _foreign_names(folder, {Path(each).parent for each in folders} - {folder.parent})
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if name.startswith(PREFIX):
            is_old = f"{name}.".startswith(f"{package}.")
        else:
            file = getattr(module, "__file__", None) or ""
            is_old = top in foreign or any(file.startswith(f"{each}/") for each in folders)
        if is_old:
            del sys.modules[name]
    return folders


def _foreign_names(folder: Path, roots: set[Path]) -> set[str]:
    """Names of what lies beside another project's steps, and beside or among the steps of this one too."""
    return {
        name
        for name, module in list(sys.modules.items())
        if "." not in name and name != "__main__" and _places(module) & roots
        if any((each / name).is_dir() or (each / f"{name}.py").is_file() for each in (folder.parent, folder))
    }


def _places(module: ModuleType) -> set[Path]:
    """The folders that a module's file lies in, or a package's folder."""
    parts = getattr(module, "__path__", None) or [getattr(module, "__file__", None)]
    return {Path(each).parent for each in parts if each}
