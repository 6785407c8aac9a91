"""`iii create`: a small project of one's own, as it lies in template/: configuration, step, test, image."""

from __future__ import annotations

from pathlib import Path

import click

from iii import __version__
from iii.cli.group import config_option
from iii.cli.output import say
from iii.errors import InputError

__all__ = ["create"]

TEMPLATE = Path(__file__).parent / "template"
FILES = {
    "iii-config.yaml": "iii-config.yaml",
    "steps/hello_step.py": "steps/hello_step.py",
    "tests/test_hello.py": "tests/test_hello.py",
    "requirements.txt": "requirements.txt",
    "wheels/README.md": "wheels/README.md",
    "Dockerfile": "Dockerfile",
    "dockerignore": ".dockerignore",
    "README.md": "README.md",
    "gitignore": ".gitignore",
}
"""file in template/ -> file in the project"""
VERSION = "==VERSION"
"""in requirements.txt: the version that writes it"""


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@config_option
def create(folder: Path, config_file: Path | None) -> None:
    """Write a small project of your own: configuration, one step, its test.

    DIR is a new or an empty folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not an empty folder; name a new one")
    for source, target in FILES.items():
        file = folder / target
        file.parent.mkdir(parents=True, exist_ok=True)
        text = (TEMPLATE / source).read_text(encoding="utf-8")
        file.write_text(text.replace(VERSION, f"=={__version__}"), encoding="utf-8")
        say(f"wrote {file}")
    say()
    say(f"start it:  cd {folder} && iii")
    say(f"test it:   cd {folder} && pip install pytest && python -m pytest")
