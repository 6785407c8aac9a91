"""What only all steps together and the configuration can show: conflicts, and what may be a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from steps_kit import QUEUE, step_with, write

from iii.config import Config, QueueConfig, StoreConfig
from iii.definitions.loader import load_steps
from iii.definitions.together import check_steps, doubts
from iii.errors import ConfigError, StepError

TICKING = """\
from iii import cron
config = {"triggers": [cron("* * * * *")]}
def handler(): pass
"""


PLAIN = Config(root=Path("/"), steps=Path("/steps"), store=StoreConfig(Path("/data")))


def together(folder: Path, first: str, second: str, config: Config = PLAIN) -> StepError:
    write(folder, "a_step.py", first)
    write(folder, "b_step.py", second)
    steps = load_steps(folder)
    with pytest.raises(StepError) as caught:
        check_steps(steps, config)
    return caught.value


def test_two_steps_of_one_name_are_refused_with_both_files(folder: Path) -> None:
    queue = "{'type': 'queue', 'topic': 't'}"
    error = together(folder, step_with("Same", queue), step_with("Same", queue))
    assert str(error) == (
        'steps/b_step.py: name: the name "Same" is already taken by steps/a_step.py; change one'
    )


def test_two_steps_on_one_route_are_refused_with_both_files(folder: Path) -> None:
    error = together(
        folder,
        step_with("A", "{'type': 'http', 'method': 'GET', 'path': '/orders/:id'}"),
        step_with(
            "B",
            "{'type': 'queue', 'topic': 't'}, {'type': 'http', 'method': 'get', 'path': '/orders/{order}'}",
        ),
    )
    assert (error.file, error.field) == ("steps/b_step.py", "triggers[1].path")
    assert error.message == "the route GET /orders/{order} is already taken by steps/a_step.py; change one"


def test_knobs_that_do_not_fit_the_file_are_refused(folder: Path) -> None:
    config = Config(
        root=Path("/"),
        steps=Path("/steps"),
        store=StoreConfig(Path("/data")),
        queues={"t": QueueConfig(retry_delay_max_ms=1000)},
    )
    trigger = "{'type': 'queue', 'topic': 't', 'config': {'retry_delay': '5s'}}"
    error = together(
        folder, step_with("A", "{'type': 'queue', 'topic': 't'}"), step_with("B", trigger), config
    )
    assert (error.file, error.field) == ("steps/b_step.py", "triggers[0].config")
    assert "above retry_delay_max" in error.message


def test_steps_that_differ_may_share_topics_and_paths_of_other_methods(folder: Path) -> None:
    both = "{'type': 'queue', 'topic': 't'}, {'type': 'http', 'method': '%s', 'path': '/a'}"
    write(folder, "a_step.py", step_with("A", both % "GET"))
    write(folder, "b_step.py", step_with("B", both % "POST"))
    steps = load_steps(folder)
    check_steps(steps, PLAIN)
    assert [step.name for step in steps] == ["A", "B"]


def test_knobs_for_a_trigger_that_no_step_has_are_refused(folder: Path) -> None:
    write(folder, "tick_step.py", TICKING)
    steps = load_steps(folder)
    queues = {"$cron/Tick": QueueConfig(concurrency=1), "nobody.listens": QueueConfig(retention_ms=1)}
    made = Config(folder, folder, StoreConfig(folder), queues=queues)
    check_steps(steps, made)
    queues["$state/Tick"] = QueueConfig(concurrency=1)
    with pytest.raises(
        ConfigError, match="no step has such a trigger; those with a state trigger: none"
    ) as caught:
        check_steps(steps, made)
    assert caught.value.field == "queues.$state/Tick"
    del queues["$state/Tick"]
    queues["$cron/Tock"] = QueueConfig(concurrency=1)
    with pytest.raises(ConfigError, match=r"those with a cron trigger: \$cron/Tick"):
        check_steps(steps, made)


def test_knobs_for_a_topic_that_no_step_takes_or_sends_to_get_a_word(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, "a_step.py", step_with("A", QUEUE % "order.paid") + "config['enqueues'] = ['mail.sent']\n")
    own = "{'type': 'queue', 'topic': 'b', 'config': {'dead_letter_queue': 'b.dead'}}"
    write(folder, "b_step.py", step_with("B", own))
    steps = load_steps(folder)
    queues = dict.fromkeys(
        ("order.paid", "mail.sent", "order.paid.failed", "b.dead", "oder.paid", "zzz"), QueueConfig()
    )
    made = Config(folder, folder, StoreConfig(folder), file=Path("/c.yaml"), queues=queues)
    nobody = "no step here has this topic among its triggers or its `enqueues`"
    expected = [
        f'/c.yaml: queues.oder.paid: {nobody}; did you mean "order.paid"?',
        f"/c.yaml: queues.zzz: {nobody}",
    ]
    assert [str(each) for each in doubts(steps, made)] == expected
    check_steps(steps, made)
    assert caplog.messages == expected


def test_fewer_crashes_than_it_takes_to_tell_whose_fault_they_were_get_a_word(folder: Path) -> None:
    own = "{'type': 'queue', 'topic': 'a', 'config': {'max_crashes': 1}}"
    write(folder, "a_step.py", step_with("A", own))
    queues = {"a": QueueConfig(max_crashes=3), "a.failed": QueueConfig(max_crashes=4)}
    usual = QueueConfig(max_crashes=2)
    made = Config(
        folder, folder, StoreConfig(folder), file=Path("/c.yaml"), queues=queues, queue_defaults=usual
    )
    fields = {each.field: each.message[:9] for each in doubts(load_steps(folder), made)}
    assert fields == {
        "triggers[0].config.max_crashes": "1 means 4",
        "queues.defaults.max_crashes": "2 means 4",
        "queues.a.max_crashes": "3 means 4",
    }


def test_a_filter_that_looks_into_no_value_gets_a_word(folder: Path) -> None:
    trigger = "{'type': 'state', 'filter': {'order.status': 'paid'}}"
    write(folder, "a_step.py", step_with("A", f"{QUEUE % 't'}, {trigger}"))
    [told] = doubts(load_steps(folder), PLAIN)
    assert str(told).startswith(
        'steps/a_step.py: triggers[1].filter.order.status: is taken for the one name "order'
    )


LAZY = """\
import functools
def plain(function):
    @functools.wraps(function)
    def wrapper(*args): return function(*args)
    return wrapper
@plain
def handler(input):
    yield input
config = {"name": "%s", "triggers": [%s]}
"""


def test_a_decorated_generator_gets_a_word_where_nobody_streams_it(folder: Path) -> None:
    write(folder, "a_step.py", LAZY % ("A", QUEUE % "t"))
    write(folder, "b_step.py", LAZY % ("B", "{'type': 'http', 'method': 'GET', 'path': '/b'}"))
    steps = load_steps(folder)
    [told] = doubts(steps, PLAIN)
    assert str(told).startswith("steps/a_step.py: handler: wraps a generator: unless the decorator runs it")


def test_what_is_to_be_entered_gets_a_word_wherever_it_is(folder: Path) -> None:
    lazy = LAZY.replace("@plain", "@plain\n@__import__('contextlib').contextmanager")
    write(folder, "b_step.py", lazy % ("B", "{'type': 'http', 'method': 'GET', 'path': '/b'}"))
    [told] = doubts(load_steps(folder), PLAIN)
    assert (told.field, "wraps a context manager" in told.message) == ("handler", True)


def test_a_condition_or_a_middleware_that_wraps_one_gets_a_word_too(folder: Path) -> None:
    trigger = "{'type': 'http', 'method': 'GET', 'path': '/a', 'condition': handler, 'middleware': [handler]}"
    write(folder, "a_step.py", LAZY % ("A", trigger) + "handler = print\n")
    told = doubts(load_steps(folder), PLAIN)
    assert [each.field for each in told] == ["triggers[0].condition", "triggers[0].middleware[0]"]


def test_a_topic_that_is_sent_to_and_served_under_a_name_a_letter_off_gets_a_word(folder: Path) -> None:
    sends = ["order.piad", "order.shipped", "mail.v1", "order.paid", "a", "orders.paid.failed", "mial.v2"]
    write(folder, "a_step.py", step_with("A", QUEUE % "order.paid") + f"config['enqueues'] = {sends}\n")
    write(folder, "b_step.py", step_with("B", QUEUE % "mail.v2"))
    nobody = (
        'steps/a_step.py: enqueues: no step here has the topic "%s" among its triggers; did you mean "%s"?'
    )
    assert [str(each) for each in doubts(load_steps(folder), PLAIN)] == [
        nobody % ("mial.v2", "mail.v2"),
        nobody % ("order.piad", "order.paid"),
        nobody % ("orders.paid.failed", "order.paid.failed"),
    ]
