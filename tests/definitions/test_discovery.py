"""Which files are steps: links, names a little off, tests, other languages. Nothing of it is passed over in
silence, and nothing is run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iii.definitions.discovery import step_files
from iii.definitions.warning import SetupWarning
from iii.errors import StepError

STEP = """\
from iii import StepConfig, queue
config = StepConfig(triggers=[queue("t")])
async def handler(input, ctx): raise AssertionError("never imported")
"""
TEST = "from hello_step import config, handler\ndef test_hello(): pass\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "steps").mkdir()
    return tmp_path / "steps"


def write(folder: Path, name: str, text: str = STEP) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def steps(folder: Path) -> list[str]:
    """All that is found, and all of it is a step."""
    found = list(step_files(folder))
    return [str(each.relative_to(folder)) for each in found if isinstance(each, Path)] if found else []


def only(folder: Path) -> tuple[str, str, str]:
    """(kind, file, message) of the one thing that is found."""
    [found] = step_files(folder)
    assert isinstance(found, StepError | SetupWarning), found
    return type(found).__name__, found.file, found.message


# --------------------------------------------------------------------------------------------------- links


def test_a_linked_folder_is_looked_into_as_a_linked_file_is(folder: Path, tmp_path: Path) -> None:
    write(tmp_path, "shared/deep/s_step.py")
    (folder / "shared").symlink_to("../shared")
    (folder / "l_step.py").symlink_to("../shared/deep/s_step.py")
    write(folder, "z_step.py")
    assert steps(folder) == ["l_step.py", "shared/deep/s_step.py", "z_step.py"]


@pytest.mark.parametrize("target", [".", "..", "/", "orders"])
def test_a_link_to_a_folder_around_it_is_refused(folder: Path, target: str) -> None:
    (folder / "orders").mkdir()
    (folder / "orders" / "back").symlink_to(folder / target)
    kind, file, message = only(folder)
    assert (kind, file) == ("StepError", "steps/orders/back")
    assert message.startswith("is a link to a folder that it lies in (/")


def test_two_folders_that_link_to_each_other_end(folder: Path, tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / other).symlink_to(tmp_path / other)
    (folder / "a").symlink_to(tmp_path / "a")
    assert only(folder)[1] == "steps/a/b/a"


@pytest.mark.parametrize("name", ["dead_step.py", "dead.step.py", "deadStep.py", "shared"])
def test_a_link_to_nothing_that_was_a_step_or_a_folder_is_refused(folder: Path, name: str) -> None:
    (folder / name).symlink_to("../gone")
    assert only(folder) == ("StepError", f"steps/{name}", "is a link to nothing: ../gone; mend or remove it")


@pytest.mark.parametrize("name", ["prices.py", "rates.csv"])
def test_another_link_to_nothing_gets_a_word(folder: Path, name: str) -> None:
    (folder / name).symlink_to("../gone")
    assert only(folder) == (
        "SetupWarning",
        f"steps/{name}",
        "is a link to nothing: ../gone; mend or remove it",
    )


def test_a_link_to_itself_is_one_to_nothing(folder: Path) -> None:
    (folder / "a_step.py").symlink_to("a_step.py")
    assert only(folder)[2] == "is a link to nothing: a_step.py; mend or remove it"


# ------------------------------------------------------------------------------------------------ no files


@pytest.mark.parametrize("name", ["foo_step.py", "foo.step.py", "FooStep.py"])
def test_a_folder_named_like_a_step_is_refused(folder: Path, name: str) -> None:
    write(folder, f"{name}/inner_step.py")
    assert only(folder) == ("StepError", f"steps/{name}", "is a folder, and a step is a file: rename it")


def test_a_pipe_named_like_a_step_is_refused_and_not_read(folder: Path) -> None:
    os.mkfifo(folder / "foo_step.py")
    os.mkfifo(folder / "foo.py")
    assert only(folder)[2].startswith("is a pipe, a socket or a device")


def test_a_folder_that_cannot_be_read_is_refused(folder: Path) -> None:
    """Longer a path than the system takes."""
    name, place = "x" * 200, os.open(folder, os.O_RDONLY)
    for _ in range(25):
        os.mkdir(name, dir_fd=place)
        inner = os.open(name, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)
    kind, file, message = only(folder)
    assert (kind, message.partition(")")[0]) == ("StepError", "cannot be read (File name too long")
    assert file.startswith("steps/xxx")


# -------------------------------------------------------------------------------------------------- names

NEARLY = {
    "b_steps.py": "b_step.py",
    "cStep.py": "c_step.py",
    "d_Step.py": "d_step.py",
    "step.py": "my_step.py",
    "steps.py": "my_step.py",
    "orders/step.py": "orders_step.py",
    "SendMailStep.py": "send_mail_step.py",
    "SEND_STEP.PY": "send_step.py",
    "send_step.PY": "send_step.py",
    "send_step.pyw": "send_step.py",
    "send_step .py": "send_step.py",
    "send_step": "send_step.py",
    "sendStep": "send_step.py",
    "send-mail.step.py": "send_mail_step.py",
    "send mail step.py": "send_mail_step.py",
    "send-step.py": "send_step.py",
}


@pytest.mark.parametrize("name", NEARLY)
def test_a_step_under_a_name_a_little_off_is_refused_with_the_right_one(folder: Path, name: str) -> None:
    write(folder, name)
    message = f"a step's file ends in _step.py: rename it to {NEARLY[name]}"
    assert only(folder) == ("StepError", f"steps/{name}", message)


@pytest.mark.parametrize("name", ["steps.py", "step.py", "footSteps.py", "timestep.py"])
@pytest.mark.parametrize("text", ["def march(): pass\n", "config = {}\n", "handler = 1\n", ""])
def test_a_neighbour_under_such_a_name_is_none(folder: Path, name: str, text: str) -> None:
    write(folder, name, text)
    assert steps(folder) == []


def test_what_may_be_a_step_and_is_not_python_gets_a_word(folder: Path) -> None:
    write(folder, "sendStep.py", "config = {\n")
    assert only(folder)[::2] == (
        "SetupWarning",
        "is not valid Python; the name of a step would end in _step.py",
    )


FORMS = [
    STEP,
    'config = {"triggers": []}\ndef handler(): ...\n',
    'config: dict = {"type": "event", "subscribes": ["a"]}\nfrom shared import handler\n',
    "import iii\nif True:\n    config = iii.StepConfig()\nhandler = lambda input: None\n",
    "try:\n    config = dict(triggers=[])\nexcept E:\n    handler = None\n",
]


@pytest.mark.parametrize("text", FORMS)
@pytest.mark.parametrize(
    "name", ["send_mail.py", "send_stpe.py", "sendstep.py", "_draft.py", "mail/__init__.py"]
)
def test_a_step_under_any_other_name_gets_a_word(folder: Path, name: str, text: str) -> None:
    write(folder, name, text)
    kind, file, message = only(folder)
    assert (kind, file) == ("SetupWarning", f"steps/{name}")
    assert "has a step's config and handler and does not run" in message
    assert '_step.py, or move it into a folder that begins with "__"' in message


OTHERS = [
    "import logging\nconfig = {'level': 'info'}\nhandler = logging.StreamHandler()\n",
    "def handler(): ...\n",
    'def make():\n    config = {"triggers": []}\n    def handler(): ...\n',
    "config = \\d\n",
    "x = '\\d'  # config handler\n",
]


@pytest.mark.parametrize("text", OTHERS)
def test_what_only_uses_the_words_is_no_step(folder: Path, text: str) -> None:
    write(folder, "setup.py", text)
    assert steps(folder) == []


@pytest.mark.parametrize(
    "name",
    [
        "a.step.ts",
        "a_step.js",
        "a.step.tsx",
        "a-step.mjs",
        "a_step.rb",
        "a_step.cpython-311.so",
        "a_step.py.txt",
    ],
)
def test_a_step_that_is_no_python_file_gets_a_word(folder: Path, name: str) -> None:
    write(folder, name)
    assert only(folder) == (
        "SetupWarning",
        f"steps/{name}",
        "does not run: a step is a Python file that ends in _step.py",
    )


def test_what_is_hidden_or_set_aside_is_left_alone(folder: Path) -> None:
    names = (
        ".a_step.py",
        "._a_step.py",
        ".hidden/a_step.py",
        "__drafts/a_step.py",
        "a_step.pyc",
        "a_step.py~",
    )
    for name in (*names, "a_step.py.bak", "a_step.pyi"):
        write(folder, name)
    write(folder, "time_step", "0.1 s\n")
    write(folder, "a_step/notes.txt")
    (folder / ".#a_step.py").symlink_to("somebody@host.123:456")  # as editors mark what they edit
    assert steps(folder) == []


# -------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize(
    "text",
    [
        TEST,
        "class TestHello: ...\n",
        "import hello_step\n",
        "",
        "from iii import config\ndef test_it(): ...\n",
    ],
)
def test_the_tests_of_a_step_are_no_step(folder: Path, text: str) -> None:
    write(folder, "test_hello_step.py", text)
    write(folder, "hello_step_test.py", text)
    write(folder, "conftest.py", STEP)
    write(folder, "hello_step.py")
    assert steps(folder) == ["hello_step.py"]


@pytest.mark.parametrize(
    "text", [STEP, STEP + "def test_connection(url): ...\n", "config = {}\n", "handler = 1\n", "config = {\n"]
)
def test_a_step_that_is_named_like_a_test_is_one_or_says_what_it_lacks(folder: Path, text: str) -> None:
    write(folder, "test_connection_step.py", text)
    assert steps(folder) == ["test_connection_step.py"]
