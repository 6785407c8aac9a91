"""Steps on disk: what is found, how neighbours are imported, and what stops the start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from steps_kit import GOOD, write

from iii.definitions import on_path
from iii.definitions.loader import each_step, load_steps
from iii.definitions.warning import SetupWarning
from iii.errors import StepError
from iii.step import Step


def refusal(folder: Path) -> StepError:
    with pytest.raises(StepError) as caught:
        load_steps(folder)
    return caught.value


def result(step: Step) -> object:
    return step.handler()


# ------------------------------------------------------------------------------------------ what works


def test_what_is_wrong_comes_in_the_place_of_its_step_all_of_it(folder: Path) -> None:
    write(folder, "a_step.py", GOOD % ("a", 1))
    write(folder, "b_step.py", 'config = {"triggers": [{"type": "ftp"}], "flows": 3}\nhandler = 3\n')
    write(folder, "c_step.py", GOOD % ("c", 1))
    found = [each.name if isinstance(each, Step) else each.field for each in each_step(folder)]
    assert found == ["A", "triggers[0].type", "handler", "flows", "C"]


def test_steps_are_found_in_all_folders_in_order(folder: Path) -> None:
    for name in ("b_step.py", "a_step.py", "orders/pay_step.py", "orders/deep/x_step.py"):
        write(folder, name, GOOD % ("t", 1))
    for name in ("prices.py", "step.py", "notes.txt", ".hidden/c_step.py", "__pycache__/d_step.py"):
        write(folder, name, "raise AssertionError('not a step')")
    steps = load_steps(folder)
    assert [step.file for step in steps] == [
        "steps/a_step.py",
        "steps/b_step.py",
        "steps/orders/deep/x_step.py",
        "steps/orders/pay_step.py",
    ]
    assert [step.name for step in steps] == ["A", "B", "X", "Pay"]


def test_an_empty_folder_has_no_steps(folder: Path) -> None:
    assert load_steps(folder) == []


def test_neighbours_can_be_imported_both_ways(folder: Path) -> None:
    write(folder, "prices_of_test.py", "VAT = 19")
    write(folder.parent, "app_of_test/__init__.py", "NAME = 'shop'")
    write(folder, "orders/rates.py", "RATE = 3")
    lines = [
        "from prices_of_test import VAT",
        "from app_of_test import NAME",
        "from .prices_of_test import VAT as V",
    ]
    write(folder, "a_step.py", "\n".join([*lines, GOOD % ("t", "(VAT, NAME, V)")]))
    write(folder, "orders/b_step.py", "from .rates import RATE\n" + GOOD % ("t", "RATE"))
    assert [result(step) for step in load_steps(folder)] == [(19, "shop", 19), 3]


def test_a_neighbour_never_hides_what_is_installed(folder: Path) -> None:
    write(folder, "json.py", "raise AssertionError('shadows the standard library')")
    sys.modules.pop("json.tool", None)
    write(folder, "a_step.py", "import json.tool\n" + GOOD % ("t", "json.__name__"))
    assert result(load_steps(folder)[0]) == "json"


def test_two_projects_in_one_process_do_not_meet(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "steps"
    for place, value in ((folder, 1), (other, 2)):
        write(place, "shared_of_test.py", f"VALUE = {value}")
        write(place, "a_step.py", "from shared_of_test import VALUE\n" + GOOD % ("t", "VALUE"))
    first, second, again = load_steps(folder)[0], load_steps(other)[0], load_steps(folder)[0]
    assert [result(step) for step in (first, second, again)] == [1, 2, 1]


@pytest.mark.parametrize("beside", ["near_of_test.py", "near_of_test/__init__.py", "near_of_test/part.py"])
def test_what_lies_beside_the_steps_of_two_projects_is_each_ones_own(
    folder: Path, tmp_path: Path, beside: str
) -> None:
    other = tmp_path / "other" / "steps"
    module = beside.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    for place, value in ((folder, 1), (other, 2)):
        write(place.parent, beside, f"VALUE = {value}")
        write(place, "a_step.py", f"from {module} import VALUE\n" + GOOD % ("t", "VALUE"))
    first, second, again = load_steps(folder)[0], load_steps(other)[0], load_steps(folder)[0]
    assert [result(step) for step in (first, second, again)] == [1, 2, 1]


def test_a_handler_finds_its_neighbours_after_others_were_loaded(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "steps"
    for place, value in ((folder, 1), (other, 2)):
        write(place, "late_of_test.py", f"VALUE = {value}")
        late = "__import__('late_of_test', globals(), None, ['VALUE'], 1).VALUE"  # from .late_of_test import
        write(place, "a_step.py", GOOD % ("t", late))
    first, second = load_steps(folder)[0], load_steps(other)[0]
    assert [result(step) for step in (first, second)] == [1, 2]


def test_loading_again_reads_the_files_again(folder: Path) -> None:
    write(folder, "shared_of_test.py", "VALUE = 1")
    write(folder, "a_step.py", "from shared_of_test import VALUE\n" + GOOD % ("t", "VALUE"))
    assert result(load_steps(folder)[0]) == 1
    write(folder, "shared_of_test.py", "VALUE = 1 + 1  # another size, so that no cached bytecode fits")
    assert result(load_steps(folder)[0]) == 2


def test_the_path_of_the_process_keeps_its_order(folder: Path) -> None:
    before = list(sys.path)
    load_steps(folder)
    load_steps(folder)
    own = [*on_path.__path__, str(folder), str(folder.parent)]
    assert [path for path in sys.path if path not in own] == [path for path in before if path not in own]
    assert [sys.path.count(path) for path in own] == [1, 1, 1]
    assert sys.path.index(str(folder)) == sys.path.index(str(folder.parent)) - 1


# ---------------------------------------------------------------------------------------- what does not

TYPESCRIPT = "steps/b.step.ts: does not run: a step is a Python file that ends in _step.py"
HEAD = "config = {'triggers': [{'type': 'queue', 'topic': 't'}]}\n"

CRON = "config = {'triggers': [{'type': 'cron', 'expression': '* 25 * * *'}]}\n"
WORDS = "from iii.step import StepConfig, http\n"
HANDLER = "def handler(): ...\n"

UNIMPORTABLE = [
    ("def f(:\n  pass\n", 1, "is not valid Python: "),
    ("x = 1\nif x\n", 2, "expected ':'"),
    ("\n\nimport nosuchpackage.sub\n", 3, 'imports "nosuchpackage", which is not installed'),
    ("from json import nosuchname\n", 1, "cannot import name 'nosuchname' from 'json'"),
    ("from .nosuch import x\n", 1, "imports steps/nosuch.py, which is not there; add it, or check"),
    ("x = 1\ny = 1 / 0\n", 2, "raised ZeroDivisionError when it was imported: division by zero"),
    ("def f():\n  raise KeyError('k')\nf()\n", 2, "raised KeyError when it was imported: 'k'"),
    ("import json\njson.loads('{')\n", 2, "raised JSONDecodeError"),
    ("import sys\nsys.exit(3)\n", 2, "exits when it is imported"),
    ("x = 1\nraise BaseException\n", 2, "raised BaseException when it was imported"),
    ("x = 1\nraise KeyboardInterrupt\n", 2, "raised KeyboardInterrupt when it was imported"),
    (
        "import asyncio\nraise asyncio.CancelledError('x')\n",
        2,
        "raised CancelledError when it was imported: x",
    ),
    ("import motia\n", 1, 'imports "motia", which is of another engine, whose installation overwrites'),
    ("from iii.triggers import http\n", 1, 'imports "iii.triggers", which is of iii-sdk, as it seems'),
    ("from iii import StepConfg\n", 1, 'did you mean "StepConfig"?'),
    ("from iii import register_worker\n", 1, "this engine has no such name"),
    (WORDS + "http('GET', '/', body_shema=1)\n", 2, 'did you mean "body_schema"?'),
    (WORDS + "StepConfig(trigers=[])\n", 2, 'did you mean "triggers"?'),
    (WORDS + "StepConfig(zzz=[])\n", 2, "known are name, description, triggers"),
]


@pytest.mark.parametrize(("text", "line", "message"), UNIMPORTABLE)
def test_a_file_that_cannot_be_imported_names_the_users_own_line(
    folder: Path, text: str, line: int, message: str
) -> None:
    write(folder, "a_step.py", text)
    error = refusal(folder)
    assert error.file == f"steps/a_step.py:{line}"
    assert message in error.message
    assert "\n" not in str(error)


INCOMPLETE = [
    ("handler = print\n", "config", "is missing; write `config = {...}`"),
    (HEAD, "handler", "is missing; write `async def handler(input, ctx):`"),
    (HEAD + "handler = 5\n", "handler", "expected a function, got number 5"),
    ("config = 5\n" + HANDLER, "config", "expected a dict or a StepConfig, got number 5"),
    (CRON + HANDLER, "triggers[0].expression", 'hour "25"'),
]


@pytest.mark.parametrize(("text", "field", "message"), INCOMPLETE)
def test_a_file_that_is_no_step_names_what_it_lacks(
    folder: Path, text: str, field: str, message: str
) -> None:
    write(folder, "a_step.py", text)
    error = refusal(folder)
    assert (error.file, error.field) == ("steps/a_step.py", field)
    assert message in error.message


def test_a_mistake_in_a_neighbour_names_the_neighbour(folder: Path) -> None:
    write(folder, "a_step.py", "from wrong_of_test import x\n")
    write(folder, "wrong_of_test.py", "x = 1\nx = (\n")
    assert refusal(folder).file == "steps/wrong_of_test.py:2"
    write(folder, "wrong_of_test.py", "x = 1\n\nx = y  # longer now\n")
    error = refusal(folder)
    assert error.file == "steps/wrong_of_test.py:3"
    assert "NameError" in error.message


def test_ctrl_c_during_an_import_is_nobodys_mistake(folder: Path) -> None:
    write(folder, "slow_step.py", "import signal\nsignal.raise_signal(signal.SIGINT)\nx = 1\n")
    with pytest.raises(KeyboardInterrupt):
        load_steps(folder)


def test_bytes_that_are_no_python_are_refused(folder: Path) -> None:
    (folder / "a_step.py").write_bytes(b"x = '\xff'\n")
    assert "is not valid Python" in refusal(folder).message
    (folder / "a_step.py").write_bytes(b"x = 1\x00\n# longer")
    assert refusal(folder).file.startswith("steps/a_step.py")


def test_a_missing_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="gone: no such folder; make it, or name another with `steps:`"):
        load_steps(tmp_path / "gone")


@pytest.mark.parametrize("name", ["send.step.py", "send-step.py"])
def test_a_file_that_is_almost_a_step_is_not_passed_over(folder: Path, name: str) -> None:
    write(folder, name, GOOD % ("t", 1))
    error = refusal(folder)
    assert (error.file, error.message) == (
        f"steps/{name}",
        "a step's file ends in _step.py: rename it to send_step.py",
    )


def test_a_dot_in_a_folders_name_is_refused(folder: Path) -> None:
    write(folder, "v1.2/a_step.py", GOOD % ("t", 1))
    assert 'cannot have a "."' in refusal(folder).message


def test_a_module_that_hides_a_folder_of_steps_is_named(folder: Path) -> None:
    write(folder, "orders.py", "")
    write(folder, "orders/pay_step.py", GOOD % ("t", 1))
    assert str(refusal(folder)) == (
        "steps/orders.py: hides the folder steps/orders with the steps in it; rename one of them"
    )


def test_a_root_that_is_a_link_to_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "steps").symlink_to("gone")
    with pytest.raises(StepError, match="steps: is a link to nothing: gone; make it, or name another"):
        load_steps(tmp_path / "steps")


def test_steps_behind_a_linked_folder_run_with_their_neighbours(folder: Path, tmp_path: Path) -> None:
    write(tmp_path, "shared/rates.py", "RATE = 3")
    write(tmp_path, "shared/s_step.py", "from .rates import RATE\n" + GOOD % ("t", "RATE"))
    (folder / "shared").symlink_to("../shared")
    assert [(step.file, result(step)) for step in load_steps(folder)] == [("steps/shared/s_step.py", 3)]


def test_what_may_be_a_mistake_is_told_and_stops_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, "a_step.py", GOOD % ("a", 1))
    write(folder, "b.step.ts", "")
    warned: list[SetupWarning] = []
    assert [step.name for step in load_steps(folder, warned.append)] == ["A"]
    assert ([str(each) for each in warned], caplog.messages) == ([TYPESCRIPT], [])
    load_steps(folder)
    assert caplog.messages == [TYPESCRIPT]
