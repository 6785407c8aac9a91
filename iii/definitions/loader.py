"""Finding and importing steps: steps/**/*_step.py, each with a `config` and a `handler`.

Each folder becomes a package of its own name in sys.modules, so that two projects in one process do
not meet and `from .prices import vat` works; the folder and the one above are also put at the end of
sys.path, so that `from prices import vat` does (what is installed wins). Loading again imports anew.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

from iii.config import Config
from iii.definitions.import_errors import explain
from iii.definitions.step_config import make_step
from iii.errors import ConfigError, StepError
from iii.step import HttpTrigger, QueueTrigger, Step

__all__ = ["check_steps", "load_steps", "make_step"]

_PREFIX = "iii_steps_"
_SUFFIX = "_step.py"
_NEARLY = (".step.py", "-step.py")


def load_steps(folder: Path) -> list[Step]:
    """The steps of `folder`, in order of their paths. StepError names the file and line at fault."""
    folder = Path(os.path.abspath(folder))
    if not folder.is_dir():
        raise StepError("no such folder; make it, or name another with `steps:` or --steps", file=str(folder))
    package = _package(folder)
    return [_load(file, folder, package) for file in _files(folder)]


def check_steps(steps: Sequence[Step], config: Config) -> None:
    """What only all steps together can show: two of one name or on one route, and knobs that do not fit."""
    named: dict[str, Step] = {}
    routed: dict[tuple[str, str], Step] = {}
    for step in steps:
        _refuse_taken(named.setdefault(step.name, step), step, "name", f'the name "{step.name}"')
        for index, trigger in enumerate(step.triggers):
            at = f"triggers[{index}]"
            if isinstance(trigger, HttpTrigger):
                route = f"the route {trigger.method} {trigger.path}"
                _refuse_taken(routed.setdefault(trigger.shape, step), step, f"{at}.path", route)
            elif isinstance(trigger, QueueTrigger):
                _check_rules(step, f"{at}.config", trigger, config)


def _refuse_taken(first: Step, step: Step, field: str, what: str) -> None:
    if first is not step:
        raise StepError(f"{what} is already taken by {first.file}; change one", file=step.file, field=field)


def _check_rules(step: Step, field: str, trigger: QueueTrigger, config: Config) -> None:
    """The file's knobs and the trigger's own fit alone; here they meet."""
    try:
        config.rules(trigger.topic, trigger.config)
    except ConfigError as error:
        raise StepError(error.message, file=step.file, field=field) from None


# --------------------------------------------------------------------------------- finding and importing


def _files(folder: Path) -> list[Path]:
    """The step files, sorted; folders that begin with "." or "__" are left alone."""
    found = []
    for file in sorted(folder.rglob("*.py")):
        inner = file.relative_to(folder)
        if any(part.startswith((".", "__")) for part in inner.parts[:-1]):
            continue
        if file.name.endswith(_SUFFIX):
            found.append(file)
        elif file.name.endswith(_NEARLY):
            right = file.name[: -len(_SUFFIX)] + _SUFFIX
            raise StepError(
                f"a step's file ends in {_SUFFIX}: rename it to {right}", file=_shown(file, folder)
            )
    return found


def _load(file: Path, folder: Path, package: str) -> Step:
    shown = _shown(file, folder)
    inner = file.relative_to(folder).with_suffix("").parts
    if any("." in part for part in inner):
        raise StepError(
            'a step\'s file and its folders cannot have a "." in their names; rename it', file=shown
        )
    try:
        module = importlib.import_module(".".join((package, *inner)))
    except StepError as error:
        raise StepError(error.message, file=error.file or shown, field=error.field) from None
    except (Exception, SystemExit) as error:
        raise explain(error, file, folder) from error
    if not hasattr(module, "config"):
        raise StepError(
            "is missing; write `config = {...}` or `config = StepConfig(...)`", file=shown, field="config"
        )
    return make_step(module.config, getattr(module, "handler", None), shown)


def _shown(file: Path, folder: Path) -> str:
    """The file as messages name it: from the folder above the steps on."""
    return str(file.relative_to(folder.parent))


def _package(folder: Path) -> str:
    """A package for `folder`, made without running any code of it; its submodules are found in it."""
    earlier = _forget_modules()
    name = _PREFIX + blake2b(str(folder).encode(), digest_size=6).hexdigest()
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
    packages = [m for name, m in sys.modules.items() if name.startswith(_PREFIX) and "." not in name]
    folders = {path for package in packages for path in package.__path__}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if name.startswith(_PREFIX) or any(file.startswith(f"{folder}/") for folder in folders):
            del sys.modules[name]
    return folders
