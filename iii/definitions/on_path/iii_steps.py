"""The package above each folder of steps: `iii_steps.<key of the folder>.<the step's file>`.

A child of multiprocessing (spawn, forkserver, joblib's loky) has its parent's sys.path and no more of it, and
unpickles a function by the name of its module. So this folder and those of the steps are on that path (the
loader puts them there), and each is found by its key, in the parent and in the child alike.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from hashlib import blake2b
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["name_of"]

__path__: list[str] = []


def name_of(folder: str) -> str:
    """The name of the package that the steps in `folder` are modules of."""
    return f"{__name__}.{blake2b(os.fsencode(folder), digest_size=6).hexdigest()}"


class _Folders:
    """Of sys.meta_path: a folder becomes a package without running any code of it."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.rpartition(".")[0] != __name__:
            return None
        folder = next((each for each in sys.path if isinstance(each, str) and name_of(each) == name), None)
        if folder is None:
            return None
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [folder]
        return spec


sys.meta_path.append(_Folders)
