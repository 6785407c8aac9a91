"""One attempt at one message, from its start until what follows from it is committed or given up.

Takes the answer of the store itself, in place of a future: a handler that never waits then costs the event
loop neither a task nor a future.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from iii.handling.context import Context
from iii.model import NO_EFFECTS, Committed, Message, Txn
from iii.running.bindings import Binding
from iii.running.retry import DONE, Outcome

__all__ = ["Attempt", "Settles", "Slot"]


class Settles(Protocol):
    """Who is told what the store made of an attempt's Txn."""

    def landed(self, attempt: Attempt) -> None: ...

    def refused(self, attempt: Attempt, error: Exception) -> None: ...


class Slot(Protocol):
    """Where an attempt runs."""

    def over(self) -> object:
        """Nothing of the attempt is left to do. Called once."""

    def detach(self) -> object:
        """The attempt is about to be settled, but its thread runs on: the slot stays taken, without lease."""

    def attach(self) -> object:
        """That thread has ended."""


class Attempt(Struct, eq=False):
    """`began`: perf_counter(); `seconds`:
    from then to the outcome. `dropped`: enqueues of a failed attempt."""

    message: Message
    binding: Binding
    ctx: Context
    began: float
    _settler: Settles
    _slot: Slot | None
    outcome: Outcome = DONE
    seconds: float = 0.0
    txn: Txn = NO_EFFECTS
    dropped: int = 0
    traceback: str = ""

    @property
    def wait_ms(self) -> int:
        """From when the message could have started until it did."""
        message = self.message
        return max(0, self.ctx.started_ms - (message.due_ms or message.enqueued_ms))

    def end(self) -> None:
        """Say that it is over. Idempotent."""
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.over()

    # ------------------------------------------------------------------- store.contract.Answer

    def done(self) -> bool:
        return self._slot is None

    def set_result(self, _: Committed) -> None:
        if self.outcome is DONE and len(self.txn.ops) == 1 and self.ctx.span is None:
            self.binding.meter.done += 1
            self.end()
        else:
            self._settler.landed(self)

    def set_exception(self, error: Exception) -> None:
        self._settler.refused(self, error)
