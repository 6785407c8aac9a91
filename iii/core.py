"""The native core under the engine's own name; `iii_core` is the same without iii."""

from iii_core import Batch, BatchFull, Dispatcher, Histogram, PriorityQueue, TimerWheel

__all__ = ["Batch", "BatchFull", "Dispatcher", "Histogram", "PriorityQueue", "TimerWheel"]
