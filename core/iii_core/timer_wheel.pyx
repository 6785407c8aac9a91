# cython: auto_pickle=False, autotestdict=False
"""A hierarchical timer wheel: timers by due time, scheduled and cancelled in O(1), fired in order.

A time in ms is read as 11 digits of 6 bits. A timer lies at the level of the highest digit in which its due
time differs from the wheel's time, in the slot of its own digit there. So every timer of a lower level is due
before every timer of a higher one, within a level the slots are in order, and all timers of one due time are
in one slot: "what comes first" is two bit scans, and a jump of 30 days costs the occupied slots it crosses,
not its length. When the wheel's time enters a slot above level 0, the timers in it are spread over the levels
below. It reads no clock: time is an argument.

Invariant (`check`): a timer is in slot_for(its due_ms); a bit is set exactly where a slot is not empty; no
timer of a slot is due before its `due_min_ms`. Each method leaves it
true before it lets go of an object, since that may run a destructor which comes back into the wheel.
"""

from types import GenericAlias

cimport cython
from libc.stdlib cimport free, malloc, qsort, realloc
from iii_core.arguments cimport as_handle, as_ms

cdef extern from *:
    int leading_zeros "__builtin_clzll"(unsigned long long) noexcept nogil
    int trailing_zeros "__builtin_ctzll"(unsigned long long) noexcept nogil

cdef enum:
    CAPACITY_MIN = 16
    CAPACITY_MAX = 0x40000000
    NIL = 0xFFFFFFFF

cdef struct Late:
    uint64_t due_ms
    uint32_t order
    uint32_t timer


cdef int compare_late(const void *a, const void *b) noexcept nogil:
    cdef const Late *left = <const Late *>a
    cdef const Late *right = <const Late *>b
    if left.due_ms != right.due_ms:
        return -1 if left.due_ms < right.due_ms else 1
    return -1 if left.order < right.order else 1


@cython.final
cdef class TimerWheel:
    """Timers in ms on a time axis that only the caller moves; it starts at `now_ms`, 0 to 2**64 - 1.

    Any object may be an item; it is never compared, hashed or called. About 11 KiB when empty; memory follows
    the largest number of timers there was. Each call holds the GIL from its first change to its last.
    Raises TypeError for a time that is no int and ValueError for one that is negative or beyond 64 bits.

    Source: G. Varghese, A. Lauck, Hashed and hierarchical timing wheels (SOSP 1987), scheme 7; the placement
    by the highest differing digit and the bitmap per level are those of tokio's timer.
    """

    def __cinit__(self, now_ms=0):
        cdef uint32_t slot
        self.items = []
        self.free_timer = NIL
        for slot in range(<uint32_t>SLOT_COUNT):
            self.slots[slot].first = self.slots[slot].last = NIL
        self.time_ms = as_ms(now_ms, "now_ms")

    def __dealloc__(self):
        free(self.timers)

    @classmethod
    def __class_getitem__(cls, item, /):
        return GenericAlias(cls, item)

    def __len__(self):
        return self.count

    def __bool__(self):
        return self.count > 0

    @property
    def now_ms(self):
        """The latest time the wheel was told."""
        return self.time_ms

    def schedule(self, due_ms, item):
        """Adds `item`, due at `due_ms`, and returns its handle, an int for `cancel()`. O(1).

        What is due already, at `now_ms` or before it, is returned by the next `advance()`, to whatever time.
        """
        cdef uint64_t due = as_ms(due_ms, "due_ms")
        cdef uint32_t timer = self.occupy(item)
        self.timers[timer].due_ms = due
        self.timers[timer].slot = self.slot_for(due)
        self.link(timer)
        self.count += 1
        return (<uint64_t>self.timers[timer].generation << 32) | timer

    def cancel(self, handle):
        """Takes the timer out and returns True, or False if it has fired or was cancelled before. O(1).

        Raises TypeError if `handle` is no int. A handle is not mistaken for a later one until its place has
        been used 2**32 times.
        """
        cdef uint64_t number = as_handle(handle)
        cdef uint32_t timer = <uint32_t>number
        if timer >= <size_t>len(self.items) or self.timers[timer].generation != <uint32_t>(number >> 32):
            return False
        if self.timers[timer].slot == SLOT_NONE:
            return False
        self.unlink(timer)
        self.vacate(timer)
        return True

    def advance(self, now_ms):
        """Moves the time to `now_ms` and returns the items due by then, by due time, then as scheduled.

        O(k) for k items, plus the occupied slots crossed: a timer is moved at most 10 times in its life,
        whatever the distance. A `now_ms` before the latest one leaves the time where it is, so that a clock
        that was set back neither fires anything twice nor raises.
        """
        cdef uint64_t now = as_ms(now_ms, "now_ms")
        cdef list fired = []
        if self.slots[SLOT_LATE].first != NIL:
            self.fire_late(fired)
        self.fire_until(max(now, self.time_ms), fired)
        return fired

    def next_ms(self):
        """When to come back: the due time of the earliest timer, or None if there is none. O(1).

        Never later than that due time, and exact unless the earliest timer of its slot was cancelled; then it
        may be earlier, and an `advance()` to it that finds nothing makes it exact again. May lie in the past.
        """
        if self.slots[SLOT_LATE].first != NIL:
            return self.slots[SLOT_LATE].due_min_ms
        if self.levels == 0:
            return None
        return self.slots[self.first_slot()].due_min_ms

    def check(self):
        """Asserts the invariant. O(n). For tests; raises AssertionError."""
        cdef uint32_t slot, timer
        cdef uint32_t linked = 0
        cdef uint32_t vacant = 0
        for slot in range(<uint32_t>SLOT_COUNT):
            linked += self.check_slot(slot, self.count - linked)
        assert linked == self.count, f"{linked} timers are in slots, {self.count} are counted"
        timer = self.free_timer
        while timer != NIL:
            vacant += 1
            assert vacant <= len(self.items), "the free list is a ring"
            assert self.items[timer] is None, f"free timer {timer} keeps an object alive"
            assert self.timers[timer].slot == SLOT_NONE, f"free timer {timer} claims a slot"
            timer = self.timers[timer].next
        assert linked + vacant == len(self.items) <= self.capacity, "a timer is neither in a slot nor free"

    cdef uint32_t check_slot(self, uint32_t slot, uint32_t length_max) except? 0:
        cdef uint32_t length = 0
        cdef uint32_t previous = NIL
        cdef uint32_t timer = self.slots[slot].first
        cdef uint32_t level = slot // SLOTS
        while timer != NIL:
            length += 1
            assert length <= length_max, f"slot {slot} has more timers than are counted"
            assert self.timers[timer].slot == slot, f"timer {timer} does not know its slot {slot}"
            assert self.slot_for(self.timers[timer].due_ms) == slot, f"timer {timer} is wrong in slot {slot}"
            assert self.timers[timer].previous == previous, f"timer {timer} does not know the one before it"
            assert self.timers[timer].due_ms >= self.slots[slot].due_min_ms, f"due_min_ms of slot {slot}"
            previous, timer = timer, self.timers[timer].next
        assert self.slots[slot].last == previous, f"slot {slot} does not know its last timer"
        if slot != SLOT_LATE:
            assert bool(self.occupied[level] >> (slot % SLOTS) & 1) == bool(length), f"bit of slot {slot}"
            assert bool(self.levels >> level & 1) == bool(self.occupied[level]), f"bit of level {level}"
        return length

    # ---- storage

    cdef int grow(self) except -1:
        cdef size_t capacity = 2 * <size_t>self.capacity if self.capacity else CAPACITY_MIN
        cdef void *timers
        if capacity > CAPACITY_MAX:
            raise MemoryError(f"a TimerWheel holds at most {CAPACITY_MAX} timers")
        timers = realloc(self.timers, capacity * sizeof(Timer))
        if timers == NULL:
            raise MemoryError()
        self.timers = <Timer *>timers
        self.capacity = <uint32_t>capacity
        return 0

    cdef uint32_t occupy(self, object item) except? 0:
        cdef uint32_t timer = self.free_timer
        if timer != NIL:
            self.free_timer = self.timers[timer].next
            self.items[timer] = item
            return timer
        timer = <uint32_t>len(self.items)
        if timer == self.capacity:
            self.grow()
        self.items.append(item)
        self.timers[timer].generation = 1
        return timer

    cdef object vacate(self, uint32_t timer):
        cdef object item = self.items[timer]
        self.items[timer] = None
        self.timers[timer].generation += 1
        if self.timers[timer].generation == 0:
            self.timers[timer].generation = 1
        self.timers[timer].slot = SLOT_NONE
        self.timers[timer].next = self.free_timer
        self.free_timer = timer
        self.count -= 1
        return item

    # ---- the wheel

    cdef uint32_t slot_for(self, uint64_t due_ms) noexcept:
        cdef uint32_t level
        if due_ms < self.time_ms:
            return SLOT_LATE
        level = <uint32_t>(63 - leading_zeros((due_ms ^ self.time_ms) | (SLOTS - 1))) // SLOT_BITS
        return level * SLOTS + <uint32_t>((due_ms >> (level * SLOT_BITS)) & (SLOTS - 1))

    cdef uint64_t start_ms(self, uint32_t slot) noexcept:
        """The first ms of an occupied slot: the wheel's digits above its level, its own digit, then zeros."""
        cdef uint32_t level = slot // SLOTS
        cdef uint32_t shift = level * SLOT_BITS
        cdef uint64_t digit = <uint64_t>(slot % SLOTS) << shift
        if level == LEVELS - 1:  # no digit above it, and a shift by 66 bits would be undefined
            return digit
        return ((self.time_ms >> (shift + SLOT_BITS)) << (shift + SLOT_BITS)) | digit

    cdef uint32_t first_slot(self) noexcept:
        """The slot of the earliest timer; `levels` must not be zero, the late ones are not looked at."""
        cdef uint32_t level = <uint32_t>trailing_zeros(self.levels)
        return level * SLOTS + <uint32_t>trailing_zeros(self.occupied[level])

    cdef void link(self, uint32_t timer) noexcept:
        cdef uint32_t number = self.timers[timer].slot
        cdef Slot *slot = &self.slots[number]
        self.timers[timer].next = NIL
        self.timers[timer].previous = slot.last
        if slot.first == NIL:
            slot.first = timer
            slot.due_min_ms = self.timers[timer].due_ms
            if number != SLOT_LATE:
                self.occupied[number // SLOTS] |= <uint64_t>1 << (number % SLOTS)
                self.levels |= <uint32_t>1 << (number // SLOTS)
        else:
            self.timers[slot.last].next = timer
            slot.due_min_ms = min(slot.due_min_ms, self.timers[timer].due_ms)
        slot.last = timer

    cdef void unlink(self, uint32_t timer) noexcept:
        cdef uint32_t number = self.timers[timer].slot
        cdef Slot *slot = &self.slots[number]
        cdef uint32_t previous = self.timers[timer].previous
        cdef uint32_t following = self.timers[timer].next
        if previous == NIL:
            slot.first = following
        else:
            self.timers[previous].next = following
        if following == NIL:
            slot.last = previous
        else:
            self.timers[following].previous = previous
        if slot.first == NIL and number != SLOT_LATE:
            self.occupied[number // SLOTS] &= ~(<uint64_t>1 << (number % SLOTS))
            if self.occupied[number // SLOTS] == 0:
                self.levels &= ~(<uint32_t>1 << (number // SLOTS))

    cdef void spread(self, uint32_t slot) noexcept:
        """Moves the timers of a slot the time has just entered to the levels below, in their order."""
        cdef uint32_t timer
        while self.slots[slot].first != NIL:
            timer = self.slots[slot].first
            self.unlink(timer)
            self.timers[timer].slot = self.slot_for(self.timers[timer].due_ms)
            self.link(timer)

    cdef int fire(self, uint32_t timer, list fired) except -1:
        fired.append(self.items[timer])
        self.unlink(timer)
        self.vacate(timer)
        return 0

    cdef int fire_late(self, list fired) except -1:
        """The late slot has no order of its own, so it is sorted here. O(l log l)."""
        cdef uint32_t timer = self.slots[SLOT_LATE].first
        cdef uint32_t length = 0
        cdef uint32_t position
        cdef Late *late = <Late *>malloc(self.count * sizeof(Late))
        if late == NULL:
            raise MemoryError()
        try:
            while timer != NIL:
                late[length].due_ms = self.timers[timer].due_ms
                late[length].order = length
                late[length].timer = timer
                length += 1
                timer = self.timers[timer].next
            qsort(late, length, sizeof(Late), compare_late)
            for position in range(length):
                self.fire(late[position].timer, fired)
        finally:
            free(late)
        return 0

    cdef int fire_until(self, uint64_t now_ms, list fired) except -1:
        cdef uint32_t slot
        cdef uint64_t start
        while self.levels:
            slot = self.first_slot()
            start = self.start_ms(slot)
            if start > now_ms:
                break
            self.time_ms = start
            if slot < SLOTS:
                while self.slots[slot].first != NIL:
                    self.fire(self.slots[slot].first, fired)
            else:
                self.spread(slot)
        self.time_ms = now_ms
        return 0
