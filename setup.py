"""Compiles the native core. Everything else about the package stands in pyproject.toml.

`III_DEBUG=1 pip install -e .` builds with bounds checks, line tracing and C asserts.
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("III_DEBUG") == "1"

extensions = [
    Extension(
        f"iii_core.{source.stem}",
        [source.as_posix()],
        extra_compile_args=["-O0", "-g"] if DEBUG else ["-O3"],
        undef_macros=["NDEBUG"] if DEBUG else [],
    )
    for source in sorted(Path("core/iii_core").glob("*.pyx"))
]
if not extensions:
    raise SystemExit("core/iii_core/*.pyx are not here: this is no whole source of iii")

setup(
    ext_modules=cythonize(
        extensions,
        include_path=["core"],
        build_dir=f"build/cython-{sys.implementation.cache_tag}",  # several Pythons may share the tree
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "binding": True,
            "embedsignature": True,
        },
    )
)
