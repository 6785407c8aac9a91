"""Finding and importing steps: steps/**/*_step.py, each with a `config` and a `handler`.

Each folder becomes a package of its own name in sys.modules, so that two projects in one process do
not meet and `from .prices import vat` works; the folder and the one above are also put at the end of
sys.path, so that `from prices import vat` does (what is installed wins). Loading again imports anew.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

from iii.config import Config
from iii.definitions.import_errors import explain, is_interrupt
from iii.definitions.step_config import make_step, read_step
from iii.errors import ConfigError, StepError
from iii.step import HttpTrigger, QueueTrigger, Step

__all__ = ["check_steps", "conflicts", "each_step", "load_steps", "make_step"]

_PREFIX = "iii_steps_"
_SUFFIX = "_step.py"
_NEARLY = (".step.py", "-step.py")


def load_steps(folder: Path) -> list[Step]:
    """The steps of `folder`, in order of their paths. StepError names the file and line at fault."""
    return [_checked(found) for found in each_step(folder)]


def each_step(folder: Path) -> Iterator[Step | StepError]:
    """As load_steps, but what is wrong with a file comes in the place of its step: all that can be told."""
    folder = Path(os.path.abspath(folder))
    if not folder.is_dir():
        yield StepError("no such folder; make it, or name another with `steps:` or --steps", file=str(folder))
        return
    package = _package(folder)
    for file in _files(folder):
        try:
            yield from _load(file, folder, package)
        except StepError as error:
            yield error


def _checked(found: Step | StepError) -> Step:
    if isinstance(found, StepError):
        raise found
    return found


def check_steps(steps: Sequence[Step], config: Config) -> None:
    """StepError where `conflicts` finds something."""
    for error in conflicts(steps, config):
        raise error


def conflicts(steps: Sequence[Step], config: Config) -> Iterator[StepError | ConfigError]:
    """What only all steps together can show: two of one name or on one route, knobs that fit nothing."""
    named: dict[str, Step] = {}
    routed: dict[tuple[str, str], Step] = {}
    for step in steps:
        yield from _taken(named.setdefault(step.name, step), step, "name", f'the name "{step.name}"')
        for index, trigger in enumerate(step.triggers):
            at = f"triggers[{index}]"
            if isinstance(trigger, HttpTrigger):
                route = f"the route {trigger.method} {trigger.path}"
                yield from _taken(routed.setdefault(trigger.shape, step), step, f"{at}.path", route)
            elif isinstance(trigger, QueueTrigger):
                yield from _unfit_rules(step, f"{at}.config", trigger, config)
    yield from _unused_rules(steps, config)


def _taken(first: Step, step: Step, field: str, what: str) -> Iterator[StepError]:
    if first is not step:
        yield StepError(f"{what} is already taken by {first.file}; change one", file=step.file, field=field)


def _unfit_rules(step: Step, field: str, trigger: QueueTrigger, config: Config) -> Iterator[StepError]:
    """The file's knobs and the trigger's own fit alone; here they meet."""
    try:
        config.rules(trigger.topic, trigger.config)
    except ConfigError as error:
        yield StepError(error.message, file=step.file, field=field)


def _unused_rules(steps: Sequence[Step], config: Config) -> Iterator[ConfigError]:
    """Knobs for the crons or state triggers of a step that has none."""
    lanes = {lane.topic for step in steps for lane, _ in step.lanes()}
    for topic in config.queues:
        if topic.startswith("$") and topic not in lanes:
            kind = topic[1:].partition("/")[0]
            known = ", ".join(sorted(lane for lane in lanes if lane.startswith(f"${kind}/"))) or "none"
            yield ConfigError(
                f"no step has such a trigger; those with a {kind} trigger: {known}",
                file=str(config.file or ""),
                field=f"queues.{topic}",
            )


# --------------------------------------------------------------------------------- finding and importing


def _files(folder: Path) -> list[Path]:
    """The step files, sorted; folders that begin with "." or "__" are left alone."""
    found = []
    for file in sorted(folder.rglob("*.py")):
        inner = file.relative_to(folder)
        if any(part.startswith((".", "__")) for part in inner.parts[:-1]):
            continue
        if file.name.endswith((_SUFFIX, *_NEARLY)):
            found.append(file)
    return found


def _load(file: Path, folder: Path, package: str) -> Sequence[Step | StepError]:
    shown = _shown(file, folder)
    if not file.name.endswith(_SUFFIX):
        right = file.name[: -len(_SUFFIX)] + _SUFFIX
        raise StepError(f"a step's file ends in {_SUFFIX}: rename it to {right}", file=shown)
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
