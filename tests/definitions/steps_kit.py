"""Folders of steps, written by tests."""

from __future__ import annotations

from pathlib import Path

GOOD = """\
config = {"triggers": [{"type": "queue", "topic": "%s"}]}
def handler(): return %s
"""
QUEUE = "{'type': 'queue', 'topic': '%s'}"
"""A trigger of a topic."""


def write(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def step_with(name: str, trigger: str) -> str:
    return f"config = {{'name': '{name}', 'triggers': [{trigger}]}}\ndef handler(): ...\n"
