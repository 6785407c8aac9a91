"""Finding and importing steps: steps/**/*_step.py, each with a `config` and a `handler`.

Each folder becomes a package of its own name in sys.modules, so that two projects in one process do
not meet and `from .prices import vat` works; the folder and the one above are also put at the end of
sys.path, so that `from prices import vat` does (what is installed wins). Loading again imports anew.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

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
    """A package for `folder`, made without running any code of it; its submodules are found in it."""
    earlier = _forget_modules()
    name = PREFIX + blake2b(str(folder).encode(), digest_size=6).hexdigest()
    package = ModuleType(name, f"The steps in {folder}.")
    package.__path__ = [str(folder)]
    sys.modules[name] = package
    place = next((index for index, path in enumerate(sys.path) if path in earlier), len(sys.path))
    for path in (str(folder.parent), str(folder)):
        if path not in sys.path[:place]:
            if path in sys.path:
                sys.path.remove(path)
            sys.path.insert(place, path)
    importlib.invalidate_caches()
    return name


def _forget_modules() -> set[str]:
    """Drop what earlier loads imported, neighbours of the steps included: names may mean other files now.

    Returns the folders of those loads.
    """
    packages = [m for name, m in sys.modules.items() if name.startswith(PREFIX) and "." not in name]
    folders = {path for package in packages for path in package.__path__}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if name.startswith(PREFIX) or any(file.startswith(f"{folder}/") for folder in folders):
            del sys.modules[name]
    return folders
