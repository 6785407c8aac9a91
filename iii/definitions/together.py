"""What only all steps together, and the configuration beside them, can show: errors, and what may be one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from iii.config import Config
from iii.definitions.handler import GENERATOR, wraps_unrun
from iii.definitions.warning import SetupWarning, log_warning
from iii.errors import ConfigError, StepError
from iii.formats import filters
from iii.formats.units import nearest
from iii.section_readers import QUEUE_DEFAULTS
from iii.sections import CRASHES_MIN, QueueConfig
from iii.step import HttpTrigger, QueueTrigger, StateTrigger, Step

__all__ = ["check_steps", "conflicts", "doubts"]

ONE_LETTER = 0.85
"""How alike topics are that differ by a letter or two (difflib's ratio)."""


def check_steps(steps: Sequence[Step], config: Config) -> None:
    """StepError where `conflicts` finds something; what is only in doubt is logged."""
    for error in conflicts(steps, config):
        raise error
    for warning in doubts(steps, config):
        log_warning(warning)


def conflicts(
    steps: Sequence[Step], config: Config, *, is_whole: bool = True
) -> Iterator[StepError | ConfigError]:
    """What only all steps together can show: two of one name or on one route, knobs that fit nothing.
    is_whole: these are all the steps that there are."""
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
    if is_whole:
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


# ----------------------------------------------------------------------------------------- what may be meant


def doubts(steps: Sequence[Step], config: Config, *, is_whole: bool = True) -> Iterator[SetupWarning]:
    """What stops nothing and has probably no effect, or another one than it seems. is_whole: these are all
    the steps that there are, and without conflicts."""
    for step in steps:
        yield from _unrun(step)
        for index, trigger in enumerate(step.triggers):
            filter = trigger.filter if isinstance(trigger, StateTrigger) else None
            for where, message in filters.doubts(filter or {}):
                yield SetupWarning(message, file=step.file, field=f"triggers[{index}].filter.{where}")
            own = trigger.config if isinstance(trigger, QueueTrigger) else None
            yield from _few_crashes(own, file=step.file, field=f"triggers[{index}].config")
    file = str(config.file or "")
    yield from _few_crashes(config.queue_defaults, file=file, field=f"queues.{QUEUE_DEFAULTS}")
    for topic, queue in config.queues.items():
        yield from _few_crashes(queue, file=file, field=f"queues.{topic}")
    if is_whole:
        topics = _topics(steps, config)
        yield from _misspelt_topics(steps, topics)
        yield from _unused_topics(topics, steps, config)


def _few_crashes(queue: QueueConfig | None, *, file: str, field: str) -> Iterator[SetupWarning]:
    if queue is not None and queue.max_crashes is not None and queue.max_crashes < CRASHES_MIN:
        message = (
            f"{queue.max_crashes} means {CRASHES_MIN}: a worker dies twice before its messages run alone, "
            "and twice alone before one of them is to blame"
        )
        yield SetupWarning(message, file=file, field=f"{field}.max_crashes")


def _unrun(step: Step) -> Iterator[SetupWarning]:
    """Of what a handler may wrap. A generator that a request's handler returns is streamed."""
    streams = all(isinstance(trigger, HttpTrigger) for trigger in step.triggers)
    if not streams or wraps_unrun(step.handler) != GENERATOR:
        yield from _wraps(step, "handler", step.handler)
    for index, trigger in enumerate(step.triggers):
        if trigger.condition is not None:
            yield from _wraps(step, f"triggers[{index}].condition", trigger.condition)
        middleware = trigger.middleware if isinstance(trigger, HttpTrigger) else ()
        for at, each in enumerate(middleware):
            yield from _wraps(step, f"triggers[{index}].middleware[{at}]", each)


def _wraps(step: Step, field: str, function: Callable[..., object]) -> Iterator[SetupWarning]:
    if (what := wraps_unrun(function)) is not None:
        message = f"wraps {what}: unless the decorator runs it, nothing in it runs"
        yield SetupWarning(message, file=step.file, field=field)


def _misspelt_topics(steps: Sequence[Step], served: set[str]) -> Iterator[SetupWarning]:
    """A topic that is sent to and not served may be another program's; one that differs by a letter from one
    that is served is probably that."""
    for step in steps:
        for topic in sorted((step.enqueues or frozenset()) - served):
            meant = _a_letter_off(topic, served)
            if meant is not None:
                message = f'no step here has the topic "{topic}" among its triggers; did you mean "{meant}"?'
                yield SetupWarning(message, file=step.file, field="enqueues")


def _a_letter_off(topic: str, served: set[str]) -> str | None:
    """Numbers do not count: order.paid.v1 and order.paid.v2 are two."""
    meant = next((each for each in sorted(served) if sorted(each) == sorted(topic)), None)
    meant = meant or nearest(topic, served, cutoff=ONE_LETTER)
    is_version = meant is not None and re.sub(r"\d+", "", topic) == re.sub(r"\d+", "", meant)
    return None if is_version else meant


def _unused_topics(served: set[str], steps: Sequence[Step], config: Config) -> Iterator[SetupWarning]:
    """Other programs may send to a topic, and steps elsewhere serve it: knobs for it are no error."""
    topics = served.union(*(step.enqueues or () for step in steps))
    for topic in config.queues:
        if topic in topics or topic.startswith("$"):
            continue
        meant = nearest(topic, topics)
        hint = f'; did you mean "{meant}"?' if meant else ""
        yield SetupWarning(
            f"no step here has this topic among its triggers or its `enqueues`{hint}",
            file=str(config.file or ""),
            field=f"queues.{topic}",
        )


def _topics(steps: Sequence[Step], config: Config) -> set[str]:
    """Those that are served, and those of dead letters."""
    found: set[str] = set()
    for step in steps:
        for lane, index in step.lanes():
            trigger = step.triggers[index]
            own = trigger.config if isinstance(trigger, QueueTrigger) else None
            found |= {lane.topic, config.rules(lane.topic, own).dead_letter_queue}
    return {topic for topic in found if not topic.startswith("$")}
