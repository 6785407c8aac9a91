# cython: auto_pickle=False, autotestdict=False
"""Which message runs next: lanes of priority queues, each with its slots, taken from in turn.

A lane is a queue and the number of its messages that may run at once. Lanes that have both a message and a
free slot form a ring; `take()` takes one message from the lane whose turn it is, and passes the turn. So a
lane is never looked at in vain, and one with a million messages delays another by one message a turn.

Of a group, one message of a lane runs at a time, in the order of pushing: only its head is in the lane's
queue or running; the others wait behind it and join the queue with the priority and age of their pushing.

It knows neither what a message is nor who runs it: `done()` says that a slot is free again.

Invariant (`check`): a lane is in the ring exactly if it is not paused, has a message that may run and a free
slot; every group has a head, queued or running; the sums are those of the lanes. Only a lane key's `__hash__`
and `__eq__` are a caller's code here, and they run before anything is changed.
"""

from types import GenericAlias

cimport cython
from iii_core.arguments cimport as_count, as_priority, check_group
from iii_core.priority_queue cimport PriorityQueue

cdef enum:
    KNOWN_LANES_SHOWN_MAX = 10
    BEHIND_GAP_MIN = 32  # a shorter gap at the front of `behind` is not worth closing

cdef Py_ssize_t RUNNING_MAX = <Py_ssize_t>((<size_t>-1) >> 1)  # what "no limit" means


cdef class _Group:
    cdef _Member head_of_behind(self):
        return <_Member>self.behind[self.behind_first]

    cdef Py_ssize_t behind_count(self) noexcept:
        return len(self.behind) - self.behind_first

    cdef int drop_head_of_behind(self) except -1:
        """O(1), since the gap at the front is closed only when it is half of the list."""
        self.behind[self.behind_first] = None
        self.behind_first += 1
        if self.behind_first == len(self.behind) or (
            self.behind_first >= BEHIND_GAP_MIN and 2 * self.behind_first >= len(self.behind)
        ):
            del self.behind[:self.behind_first]
            self.behind_first = 0
        return 0


cdef class _Member:
    pass


cdef class _Lane:
    cdef bint may_run(self) noexcept:
        return self.ready.count > 0 and self.running < self.slots and not self.paused and not self.removed

    cdef Py_ssize_t queued(self) noexcept:
        return self.ready.count + self.behind


@cython.final
cdef class Dispatcher:
    """Hands out messages from lanes in turn; within a lane by priority, then age; within a group in order.

    `limit` bounds the messages that run at once over all lanes (None: only their slots do). A lane's key is
    any hashable value, a message any object, a group a str, bytes or int. For one thread, such as a loop's.

    A method that names a lane raises KeyError, listing those there are, if it is not among them. In the
    costs, n is the messages queued in the lane; only that of `demand()` depends on the number of lanes.
    """

    def __cinit__(self, limit=None):
        self.by_key = {}
        self.running_max = RUNNING_MAX if limit is None else as_count(limit, "limit")

    @classmethod
    def __class_getitem__(cls, item, /):
        return GenericAlias(cls, item)

    # ---- lanes

    def add_lane(self, lane_key, slots, *, paused=False):
        """Adds a lane of which at most `slots` messages run at once; 0 is a lane that only queues.

        Raises ValueError if there is such a lane or `slots` is negative, TypeError if the key has no hash.
        """
        cdef _Lane lane = _Lane.__new__(_Lane)
        lane.key = lane_key
        lane.ready = PriorityQueue()
        lane.groups = {}
        lane.slots = as_count(slots, "slots")
        lane.paused = bool(paused)
        if self.by_key.setdefault(lane_key, lane) is not lane:
            raise ValueError(f"there is a lane {lane_key!r} already")

    def remove_lane(self, lane_key):
        """Removes a lane of which nothing runs, and returns its queued messages as `drain()` does.

        Raises ValueError while one of its messages runs: pause it and wait for `done()`.
        """
        cdef _Lane lane = self.find(lane_key)
        cdef list drained = []
        if lane.running:
            raise ValueError(f"{lane.running} messages of lane {lane_key!r} run: pause it, wait for done()")
        lane.removed = True  # from here on find() refuses it, even to the key's own __eq__
        self.place(lane)
        try:
            del self.by_key[lane.key]
        except BaseException:
            lane.removed = False
            self.place(lane)
            raise
        self.empty(lane, drained)
        return drained

    def set_slots(self, lane_key, slots):
        """Sets how many messages of the lane may run at once. If more are running, they finish. O(1)."""
        cdef Py_ssize_t lane_slots = as_count(slots, "slots")
        cdef _Lane lane = self.find(lane_key)
        lane.slots = lane_slots
        self.place(lane)

    def set_ahead(self, lane_key, ahead):
        """Sets how many messages `demand()` asks for beyond the free slots, to wait for one here. O(1)."""
        cdef Py_ssize_t ahead_max = as_count(ahead, "ahead")
        self.find(lane_key).ahead = ahead_max

    def pause(self, lane_key):
        """Takes nothing more from the lane and asks for nothing more; what runs, runs on. O(1)."""
        cdef _Lane lane = self.find(lane_key)
        lane.paused = True
        self.place(lane)

    def resume(self, lane_key):
        """Ends a pause; no error if there was none. O(1)."""
        cdef _Lane lane = self.find(lane_key)
        lane.paused = False
        self.place(lane)

    # ---- messages

    def push(self, lane_key, item, priority=128, group=None):
        """Queues `item` in a lane. O(log n).

        Raises TypeError if `priority` is no int or `group` of another type than str, bytes, int or None, and
        ValueError if the priority is outside 0 to 255 (higher comes first).
        """
        cdef int level = as_priority(priority)
        cdef _Member member = None
        cdef _Lane lane
        check_group(group)
        if group is not None:
            member = _Member.__new__(_Member)
            member.item = item
            member.priority = level
        lane = self.find(lane_key)
        if member is None:
            lane.ready.insert(item, level, lane.ready.draw_ticket())
        else:
            self.push_grouped(lane, member, group)
        self.queued_sum += 1
        if not lane.in_ring:
            self.place(lane)

    def take(self, n):
        """Takes up to `n` messages that may run now, each as (lane key, item, group or None). O(k log n).

        One from each lane in turn, and the next call goes on where this one ended. They count as running
        until `done()`. Raises TypeError if `n` is no int and ValueError if it is negative.
        """
        cdef Py_ssize_t left = as_count(n, "n")
        cdef list batch = []
        while left > 0 and self.first is not None and self.running_sum < self.running_max:
            batch.append(self.take_from(self.first))
            left -= 1
        return batch

    def done(self, lane_key, group=None):
        """Ends one running message of the lane, of `group` if it has one: its slot is free again. O(log n).

        The next message of the group may run then. Raises ValueError if no such message is running.
        """
        cdef _Lane lane
        check_group(group)
        lane = self.find(lane_key)
        if group is not None:
            self.end_grouped(lane, group)
        elif lane.running == lane.running_grouped:
            raise ValueError(f"done() without a running message of lane {lane_key!r} that has no group")
        lane.running -= 1
        self.running_sum -= 1
        if not lane.in_ring:
            self.place(lane)

    def drain(self, lane_key):
        """Takes all queued messages out of the lane, by priority, then age, to give them back. O(n log n).

        They do not count as running, and those that run are not among them.
        """
        cdef list drained = []
        self.empty(self.find(lane_key), drained)
        return drained

    # ---- numbers

    def demand(self):
        """How many more messages each lane could run, as {lane key: count}, to fetch no more. O(lanes).

        The slots and `ahead` beyond what is queued and running, and no more than the limit leaves (each lane
        for itself: together they may ask for more than it). Lanes without, and paused ones, are left out.
        """
        cdef dict wanted = {}
        cdef Py_ssize_t free_max = self.running_max - self.running_sum - self.queued_sum
        cdef Py_ssize_t free
        cdef _Lane lane
        for lane in list(self.by_key.values()):
            free = lane.slots - lane.running - lane.queued()
            free = min(free + min(lane.ahead, RUNNING_MAX - lane.slots), free_max)
            if free > 0 and not lane.paused:
                wanted[lane.key] = free
        return wanted

    def running(self, lane_key):
        """The messages of the lane that were taken and are not done."""
        return self.find(lane_key).running

    def queued(self, lane_key):
        """The messages of the lane that were pushed and not taken, those behind their group's head too."""
        return self.find(lane_key).queued()

    @property
    def running_total(self):
        """The messages running, over all lanes."""
        return self.running_sum

    @property
    def queued_total(self):
        """The messages queued, over all lanes."""
        return self.queued_sum

    def check(self):
        """Asserts the invariant. O(n) over all lanes. For tests; raises AssertionError."""
        cdef _Lane lane
        cdef Py_ssize_t running = 0
        cdef Py_ssize_t queued = 0
        cdef Py_ssize_t ring = 0
        for lane in self.by_key.values():
            self.check_lane(lane)
            running += lane.running
            queued += lane.queued()
            ring += lane.in_ring
        assert running == self.running_sum <= self.running_max, f"{running} run, {self.running_sum} known"
        assert queued == self.queued_sum, f"{queued} queued, {self.queued_sum} counted"
        lane = self.first
        while ring:
            assert lane.in_ring and lane.next.previous is lane, f"lane {lane.key!r} is linked wrongly"
            lane = lane.next
            ring -= 1
        assert lane is self.first, "the ring holds other lanes than say so"

    cdef int check_lane(self, _Lane lane) except -1:
        cdef _Group group
        cdef Py_ssize_t behind = 0
        cdef Py_ssize_t grouped = 0
        cdef Py_ssize_t heads = 0
        lane.ready.check()
        assert lane.in_ring == lane.may_run(), f"lane {lane.key!r}: in the ring or not, against may_run()"
        for key, group in lane.groups.items():
            assert group.key == key and group.behind_count() >= 0, f"group {key!r}"
            behind += group.behind_count()
            grouped += group.running
        for item in lane.ready.items:
            heads += type(item) is _Member
        assert behind == lane.behind, f"lane {lane.key!r}: {behind} behind, {lane.behind} counted"
        assert heads + grouped == len(lane.groups), f"lane {lane.key!r}: a group has no head or two"
        assert grouped == lane.running_grouped <= lane.running, f"lane {lane.key!r}: {grouped} groups running"
        return 0

    # ---- lanes

    cdef _Lane find(self, object lane_key):
        cdef _Lane lane = self.by_key.get(lane_key)
        if lane is None or lane.removed:
            self.refuse_unknown(lane_key)
        return lane

    cdef int refuse_unknown(self, object lane_key) except -1:
        cdef list known = [repr(key) for key in self.by_key]
        if len(known) > KNOWN_LANES_SHOWN_MAX:
            known[KNOWN_LANES_SHOWN_MAX:] = [f"{len(known) - KNOWN_LANES_SHOWN_MAX} more"]
        raise KeyError(f"no lane {lane_key!r}; known lanes: {', '.join(known) or 'none'}")

    cdef void place(self, _Lane lane) noexcept:
        """Makes the ring true again after a change to the lane. O(1)."""
        cdef bint may_run = lane.may_run()
        if may_run and not lane.in_ring:
            self.join(lane)
        elif lane.in_ring and not may_run:
            self.leave(lane)

    cdef void join(self, _Lane lane) noexcept:
        """As the last of the turn."""
        lane.in_ring = True
        if self.first is None:
            lane.next = lane.previous = lane
            self.first = lane
            return
        lane.next = self.first
        lane.previous = self.first.previous
        lane.previous.next = lane
        lane.next.previous = lane

    cdef void leave(self, _Lane lane) noexcept:
        lane.in_ring = False
        if self.first is lane:
            self.first = None if lane.next is lane else lane.next
        lane.previous.next = lane.next
        lane.next.previous = lane.previous
        lane.next = lane.previous = None

    # ---- messages

    cdef int push_grouped(self, _Lane lane, _Member member, object key) except -1:
        cdef _Group group = lane.groups.get(key)
        if group is not None:
            member.ticket = lane.ready.draw_ticket()
            group.behind.append(member)
            lane.behind += 1
            return 0
        group = _Group.__new__(_Group)
        group.key = key
        group.behind = []
        member.group = group
        if lane.removed or key in lane.groups:  # a garbage collection came between: its destructors were here
            return self.push_grouped(self.find(lane.key), member, key)
        member.ticket = lane.ready.draw_ticket()
        lane.groups[key] = group
        lane.ready.insert(member, member.priority, member.ticket)
        return 0

    cdef object take_from(self, _Lane lane):
        cdef object item = lane.ready.take_first()
        cdef object key = None
        cdef _Member member
        if type(item) is _Member:
            member = <_Member>item
            item = member.item
            key = member.group.key
            member.group.running = True
            lane.running_grouped += 1
        lane.running += 1
        self.running_sum += 1
        self.queued_sum -= 1
        if lane.may_run():
            self.first = lane.next
        else:
            self.leave(lane)
        return (lane.key, item, key)

    cdef int end_grouped(self, _Lane lane, object key) except -1:
        cdef _Group group = lane.groups.get(key)
        if group is None or not group.running:
            raise ValueError(f"done() without a running message of group {key!r} in lane {lane.key!r}")
        if group.behind_count():
            self.promote(lane, group)
        else:
            del lane.groups[key]
        group.running = False
        lane.running_grouped -= 1
        return 0

    cdef int promote(self, _Lane lane, _Group group) except -1:
        """Moves the next message of a group into the lane's queue, where its age counts, not the moment."""
        cdef _Member member = group.head_of_behind()
        member.group = group
        lane.ready.insert(member, member.priority, member.ticket)
        group.drop_head_of_behind()
        lane.behind -= 1
        return 0

    cdef int empty(self, _Lane lane, list drained) except -1:
        cdef dict running = {}
        cdef _Group group
        for group in lane.groups.values():
            while group.behind_count():
                self.promote(lane, group)
            if group.running:
                running[group.key] = group
        lane.groups = running
        self.queued_sum -= lane.ready.count
        while lane.ready.count:
            item = lane.ready.take_first()
            if type(item) is _Member:
                item = (<_Member>item).item
            drained.append(item)
        self.place(lane)
        return 0
