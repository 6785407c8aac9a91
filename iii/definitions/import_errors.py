"""Why a step's file could not be imported, told as one line about the user's code instead of a traceback."""

from __future__ import annotations

import dis
import inspect
import re
import sys
import traceback
from pathlib import Path

from iii import step
from iii.errors import StepError
from iii.formats.units import nearest

__all__ = ["PREFIX", "explain", "is_interrupt"]

PREFIX = "iii_steps."
"""Of the names of the packages that folders of steps become (on_path/)."""

_UNEXPECTED = re.compile(
    r"(?P<function>\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(?P<name>\w+)'"
)
_OTHER = (
    'another engine, whose installation overwrites the package "iii" of this one: import what the step needs '
    "from iii (README: Coming from Motia)"
)
_OTHER_ENGINES = {
    "iii": "iii-sdk, as it seems: this engine has no such module; import from iii itself",
    **dict.fromkeys(("motia", "iii_helpers", "iii_sdk"), _OTHER),
}
_WORDS = (step.http, step.queue, step.cron, step.state_trigger, step.StepConfig)


def explain(error: BaseException, file: Path, folder: Path) -> StepError:
    """The StepError for what importing `file` raised; the line is the last one in the user's own code."""
    if isinstance(error, SyntaxError):
        where = Path(error.filename) if error.filename else file
        return StepError(f"is not valid Python: {error.msg}", file=_at(where, error.lineno, folder))
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    if name and name.startswith(PREFIX):
        return _not_beside(name.split(".")[2:], error, file, folder)
    return StepError(_reason(error), file=_at(*_origin(error, file, folder), folder))


def _not_beside(parts: list[str], error: BaseException, file: Path, folder: Path) -> StepError:
    """A module of the steps' own package is not there: another has the name of its folder, or none has."""
    for at in range(1, len(parts)):
        hides = folder.joinpath(*parts[:at])
        if hides.is_dir() and hides.with_suffix(".py").is_file():
            message = f"hides the folder {_at(hides, None, folder)} with the steps in it; rename one of them"
            return StepError(message, file=_at(hides.with_suffix(".py"), None, folder))
    expected = _at(folder.joinpath(*parts).with_suffix(".py"), None, folder)
    message = f"imports {expected}, which is not there; add it, or check the spelling"
    return StepError(message, file=_at(*_origin(error, file, folder), folder))


def is_interrupt(error: BaseException) -> bool:
    """Whether somebody interrupted the import (Ctrl-C), rather than the user's code raising this itself."""
    if not isinstance(error, KeyboardInterrupt):
        return False
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is None or dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]] != "RAISE_VARARGS"


def _reason(error: BaseException) -> str:
    text = str(error)[:300]
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if package in _OTHER_ENGINES:
            return f'imports "{error.name}", which is of {_OTHER_ENGINES[package]}'
        return f'imports "{error.name}", which is not installed; install it, or check the spelling'
    if isinstance(error, ImportError):
        return f"import fails: {text}{_public_name(error)}"
    if isinstance(error, SystemExit):
        return 'exits when it is imported; put what runs under `if __name__ == "__main__":`'
    return f"raised {type(error).__name__} when it was imported" + (f": {text}{_hint(text)}" if text else "")


def _public_name(error: ImportError) -> str:
    """The name of iii's that a misspelt one was meant to be."""
    if error.name != "iii":
        return ""
    known = sys.modules["iii"].__all__
    match = re.search(r"cannot import name '(\w+)'", str(error))
    meant = nearest(match[1], known) if match else None
    return f'; did you mean "{meant}"?' if meant else "; this engine has no such name"


def _hint(text: str) -> str:
    """The keyword that a misspelt one of iii's own functions was meant to be."""
    match = _UNEXPECTED.search(text)
    for word in _WORDS if match else ():
        if match and word.__name__ == match["function"]:
            known = list(inspect.signature(word).parameters)
            meant = nearest(match["name"], known)
            return f'; did you mean "{meant}"?' if meant else f"; known are {', '.join(known)}"
    return ""


def _origin(error: BaseException, file: Path, folder: Path) -> tuple[Path, int | None]:
    """The last line of the user's own code that was running: below the project, not an installed package."""
    own = [
        (Path(frame.filename), frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if folder.parent in Path(frame.filename).parents and "site-packages" not in frame.filename
    ]
    inside = [place for place in own if folder in place[0].parents]
    return (inside or own or [(file, None)])[-1]


def _at(file: Path, line: int | None, folder: Path) -> str:
    shown = file.relative_to(folder.parent) if folder.parent in file.parents else file
    return f"{shown}:{line}" if line else str(shown)
