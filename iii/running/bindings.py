"""Which step, trigger and rules a lane's messages meet in this process. Made once, from steps and config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from msgspec import Struct

from iii.config import Config, QueueRules
from iii.definitions.handler import Call
from iii.handling.context import StartedBy
from iii.handling.inputs import CRON_INPUT, STATE_INPUT
from iii.handling.unserved import Unserved
from iii.model import Lane, LanePolicy
from iii.observe.meters import StepMeter
from iii.schema import Validator
from iii.step import CronTrigger, HttpTrigger, QueueTrigger, StateTrigger, Step, Trigger
from iii.store.contract import Store

__all__ = ["TRIGGER_HEADER", "Binding", "Start", "attended", "bind", "inputs", "policies", "unserved"]

TRIGGER_HEADER = "iii-trigger"
"""Of a message in a lane that several triggers feed ($cron, $state): the index of its own."""


class Start(Struct, frozen=True):
    """One trigger as the runner sees it."""

    started_by: StartedBy
    validator: Validator | None = None
    condition: Call | None = None


class Binding(Struct, frozen=True):
    """What a lane's messages meet."""

    lane: Lane
    step: Step
    rules: QueueRules
    first: Start
    starts: dict[str, Start]  # by the TRIGGER_HEADER that names them
    single: bool  # one start only
    meter: StepMeter

    def start(self, headers: Mapping[str, str]) -> Start:
        """The trigger a message came from; the lane's first, where that one is no longer declared."""
        return self.starts.get(headers.get(TRIGGER_HEADER, ""), self.first)


def bind(steps: Iterable[Step], config: Config) -> dict[Lane, Binding]:
    """Every lane the steps work on."""
    return {lane: _binding(lane, step, index, config) for step in steps for lane, index in step.lanes()}


def policies(bindings: Iterable[Binding], config: Config) -> list[LanePolicy]:
    """How the store treats the lanes, and the topics that only the config names."""
    found = [
        LanePolicy(
            binding.lane.topic,
            binding.lane.step,
            binding.rules.max_in_flight,
            binding.rules.max_depth,
            binding.rules.retention_ms,
        )
        for binding in bindings
    ]
    for topic in config.queues:
        rules = config.rules(topic)
        found.append(LanePolicy(topic, "", None, rules.max_depth, rules.retention_ms))
    return found


def inputs(steps: Iterable[Step]) -> dict[str, tuple[tuple[str, Validator], ...]]:
    """Per topic the (step, validator) of each subscriber that has an input schema."""
    found: dict[str, tuple[tuple[str, Validator], ...]] = {}
    for step in steps:
        for trigger, schemas in zip(step.triggers, step.schemas, strict=True):
            if isinstance(trigger, QueueTrigger) and schemas.input is not None:
                found[trigger.topic] = (*found.get(trigger.topic, ()), (step.name, schemas.input))
    return found


def unserved(bindings: Iterable[Binding], store: Store) -> Unserved:
    return Unserved(attended(bindings), partial(_serves, store))


def attended(bindings: Iterable[Binding]) -> set[str]:
    """The topics in which nothing waits unnoticed: dead-letter topics are for people to look at and need no
    step."""
    topics = [(binding.lane.topic, binding.rules.dead_letter_queue) for binding in bindings]
    return {topic for both in topics for topic in both}


def _serves(store: Store, topic: str) -> bool:
    """Whether a session does. Of lanes there may be many more than strangers should have read."""
    return any(topic == served for session in store.sessions() for served, _ in session.lanes)


def _binding(lane: Lane, step: Step, index: int, config: Config) -> Binding:
    trigger = step.triggers[index]
    own = trigger.config if isinstance(trigger, QueueTrigger) else None
    kin = [n for n, other in enumerate(step.triggers) if type(other) is type(trigger)]
    if isinstance(trigger, QueueTrigger):
        kin = [index]
    starts = {str(n): _start(step, n) for n in kin}
    return Binding(
        lane, step, config.rules(lane.topic, own), starts[str(index)], starts, len(starts) == 1, StepMeter()
    )


def _start(step: Step, index: int) -> Start:
    trigger = step.triggers[index]
    validator = step.schemas[index].input
    if isinstance(trigger, StateTrigger):
        validator = STATE_INPUT
    elif isinstance(trigger, CronTrigger):
        validator = CRON_INPUT
    condition = None if trigger.condition is None else Call.of(trigger.condition)
    return Start(_started_by(trigger, index), validator, condition)


def _started_by(trigger: Trigger, index: int) -> StartedBy:
    match trigger:
        case HttpTrigger():
            return StartedBy("http", index, method=trigger.method, path=trigger.path)
        case QueueTrigger():
            return StartedBy("queue", index, topic=trigger.topic)
        case CronTrigger():
            return StartedBy("cron", index, expression=trigger.expression)
        case StateTrigger():
            return StartedBy("state", index, namespace=trigger.namespace)
