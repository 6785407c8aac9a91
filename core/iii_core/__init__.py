"""The native core of iii: which message runs next, when to come back, what many hand to one.

Five structures without I/O, clock, event loop or storage, and without anything of iii; README.md beside this
package shows them at work. Time is an argument, and every structure can `check()` itself. Beside them stand
`iii_core.http1`, which reads and writes heads, `iii_core.json_scan`, `iii_core.coroutines`, and
`iii_core.deadman`, which ends a process whose threads all stand still.
"""

from iii_core.batch import Batch, BatchFull
from iii_core.dispatcher import Dispatcher
from iii_core.histogram import Histogram
from iii_core.priority_queue import PriorityQueue
from iii_core.timer_wheel import TimerWheel

__all__ = ["Batch", "BatchFull", "Dispatcher", "Histogram", "PriorityQueue", "TimerWheel"]
