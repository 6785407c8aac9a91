# cython: auto_pickle=False, autotestdict=False
"""A stable priority queue: the highest priority first, the oldest first among equals.

A heap whose elements know their own position (as in beanstalkd's `heap.c`), so that an element is removed by
its handle and never searched for. It is 4-ary and keeps each key beside its slot, so that the four children
of a node lie in one cache line; priority and age are one 64-bit key, so that a comparison is one instruction.
256 FIFO rings under a bitmap were measured too: equal up to some 250 elements, two to four times as fast to
pop from 100,000. The heap won because a lane holds what its slots will soon run, because a ring cannot take
back an element at its old age (a group's next message), and because an empty lane should not weigh 2 KiB.

Invariant (`check`): heap[0] has the smallest key; slots[heap[i].slot].position == i; every slot of `items` is
in the heap or in the free list. Each method leaves it true before it lets go of an object, since that may run
a destructor which comes back into the queue.
"""

from types import GenericAlias

cimport cython
from libc.stdlib cimport free, realloc
from iii_core.arguments cimport as_count, as_handle, as_priority

cdef enum:
    ARITY = 4
    CAPACITY_MIN = 16
    CAPACITY_MAX = 0x40000000
    NIL = 0xFFFFFFFF
    TICKET_BITS = 56  # 22 years of a hundred million pushes a second


@cython.final
cdef class PriorityQueue:
    """A stable priority queue: higher priorities (0 to 255) first, first in first out among equals.

    Any object may be an element; elements are never compared, hashed or copied. Memory follows the largest
    size there was, until `clear()`. Each call holds the GIL from its first change to its last.

    Source: J. W. J. Williams, Algorithm 232: Heapsort (1964); D. B. Johnson, Priority queues with update and
    finding minimum spanning trees (1975), for the d-ary heap; beanstalkd, whose elements know their index.
    """

    def __cinit__(self):
        self.items = []
        self.free_slot = NIL
        self.generation_min = 1

    def __dealloc__(self):
        free(self.slots)
        free(self.heap)

    @classmethod
    def __class_getitem__(cls, item, /):
        return GenericAlias(cls, item)

    def __len__(self):
        return self.count

    def __bool__(self):
        return self.count > 0

    def push(self, item, priority=128):
        """Adds `item` and returns its handle, an int for `remove()`. O(log n), O(1) among equal priorities.

        Raises TypeError if `priority` is no int and ValueError if it is outside 0 to 255.
        """
        cdef int level = as_priority(priority)
        return self.insert(item, level, self.draw_ticket())

    def push_many(self, items, priority=128):
        """Adds all `items` at one priority, in their order, without handles. O(k log n).

        All or none: if the iteration raises, nothing was added. Raises as `push()` does.
        """
        cdef int level = as_priority(priority)
        cdef list batch = list(items)
        while self.count + <size_t>len(batch) > self.capacity:
            self.grow()
        for item in batch:
            self.insert(item, level, self.draw_ticket())

    def pop(self):
        """Removes and returns the first element. O(log n). Raises IndexError if the queue is empty."""
        if self.count == 0:
            raise IndexError("pop from an empty PriorityQueue")
        return self.take_first()

    def pop_many(self, n):
        """Removes the first `n` elements, or all if there are fewer, and returns them in order. O(k log n).

        Raises TypeError if `n` is no int and ValueError if it is negative.
        """
        cdef Py_ssize_t left = as_count(n, "n")
        cdef list batch = []
        while left > 0 and self.count > 0:
            batch.append(self.take_first())
            left -= 1
        return batch

    def peek(self):
        """Returns the first element and leaves it there. O(1). Raises IndexError if the queue is empty."""
        if self.count == 0:
            raise IndexError("peek into an empty PriorityQueue")
        return self.items[self.heap[0].slot]

    def remove(self, handle):
        """Removes the element that `push()` returned `handle` for, and returns it. O(log n).

        Raises KeyError if it is gone (popped, removed or cleared) and TypeError if `handle` is no int. A
        handle is not mistaken for a later one until its slot has been used 2**32 times.
        """
        cdef uint32_t slot = self.slot_of(as_handle(handle))
        if slot == NIL:
            raise KeyError(f"no element has handle {handle:#x}: popped, removed, cleared or never pushed")
        return self.take_at(self.slots[slot].position)

    def clear(self):
        """Removes all elements and gives the memory back; older handles stay invalid. O(n)."""
        cdef list dropped = []
        cdef uint32_t slot
        for slot in range(<uint32_t>len(self.items)):
            self.generation_min = max(self.generation_min, self.slots[slot].generation + 1)
        free(self.slots)
        free(self.heap)
        self.slots = NULL
        self.heap = NULL
        self.count = self.capacity = 0
        self.free_slot = NIL
        dropped, self.items = self.items, dropped

    def check(self):
        """Asserts the invariant. O(n). For tests; raises AssertionError."""
        cdef uint64_t ticket_mask = (<uint64_t>1 << TICKET_BITS) - 1
        cdef uint32_t position, parent, slot
        cdef uint32_t vacant = 0
        assert self.count <= len(self.items) <= self.capacity, "more elements than capacity"
        for position in range(self.count):
            slot = self.heap[position].slot
            assert slot < len(self.items), f"heap[{position}] names slot {slot}, which is none"
            assert self.slots[slot].position == position, f"slot {slot} does not know its position {position}"
            assert self.heap[position].key & ticket_mask <= self.ticket_last, f"heap[{position}] is not born"
            if position:
                parent = (position - 1) // ARITY
                assert self.heap[parent].key < self.heap[position].key, f"heap order at {position}"
        slot = self.free_slot
        while slot != NIL:
            vacant += 1
            assert vacant <= len(self.items), "the free list is a ring"
            assert self.items[slot] is None, f"free slot {slot} keeps an object alive"
            slot = self.slots[slot].position
        assert self.count + vacant == len(self.items), f"{self.count} + {vacant} of {len(self.items)} slots"

    # ---- for those who cimport it

    cdef uint64_t draw_ticket(self) noexcept:
        self.ticket_last += 1
        return self.ticket_last

    cdef uint64_t insert(self, object item, int priority, uint64_t ticket) except 0:
        """Adds `item` at the age its ticket says, which may lie before elements already here."""
        cdef uint32_t slot = self.occupy(item)
        cdef Entry entry
        entry.key = (<uint64_t>(255 - priority) << TICKET_BITS) | ticket
        entry.slot = slot
        self.count += 1
        self.rise(self.count - 1, entry)
        return (<uint64_t>self.slots[slot].generation << 32) | slot

    cdef object take_first(self):
        return self.take_at(0)

    # ---- storage

    cdef int grow(self) except -1:
        cdef size_t capacity = 2 * <size_t>self.capacity if self.capacity else CAPACITY_MIN
        cdef void *slots
        cdef void *heap
        if capacity > CAPACITY_MAX:
            raise MemoryError(f"a PriorityQueue holds at most {CAPACITY_MAX} elements")
        slots = realloc(self.slots, capacity * sizeof(Slot))
        if slots == NULL:
            raise MemoryError()
        self.slots = <Slot *>slots
        heap = realloc(self.heap, capacity * sizeof(Entry))
        if heap == NULL:
            raise MemoryError()
        self.heap = <Entry *>heap
        self.capacity = <uint32_t>capacity
        return 0

    cdef uint32_t occupy(self, object item) except? 0:
        cdef uint32_t slot = self.free_slot
        if slot != NIL:
            self.free_slot = self.slots[slot].position
            self.items[slot] = item
            return slot
        slot = <uint32_t>len(self.items)
        if slot == self.capacity:
            self.grow()
        self.items.append(item)
        self.slots[slot].generation = self.generation_min
        return slot

    cdef object vacate(self, uint32_t slot):
        cdef object item = self.items[slot]
        self.items[slot] = None
        self.slots[slot].generation += 1
        if self.slots[slot].generation == 0:
            self.slots[slot].generation = 1
        self.slots[slot].position = self.free_slot
        self.free_slot = slot
        return item

    cdef uint32_t slot_of(self, uint64_t handle) noexcept:
        """The slot in the heap that `handle` names, or NIL. No entry names a slot that is free."""
        cdef uint32_t slot = <uint32_t>handle
        cdef uint32_t position
        if slot >= <size_t>len(self.items) or self.slots[slot].generation != <uint32_t>(handle >> 32):
            return NIL
        position = self.slots[slot].position
        if position >= self.count or self.heap[position].slot != slot:
            return NIL
        return slot

    # ---- heap

    cdef inline void put(self, uint32_t position, Entry entry) noexcept:
        self.heap[position] = entry
        self.slots[entry.slot].position = position

    cdef void rise(self, uint32_t position, Entry entry) noexcept:
        cdef uint32_t parent
        while position:
            parent = (position - 1) // ARITY
            if self.heap[parent].key < entry.key:
                break
            self.put(position, self.heap[parent])
            position = parent
        self.put(position, entry)

    cdef void sink(self, uint32_t position, Entry entry) noexcept:
        cdef uint32_t child, end, least
        while True:
            child = position * ARITY + 1
            if child >= self.count:
                break
            end = min(child + ARITY, self.count)
            least = child
            while child + 1 < end:
                child += 1
                if self.heap[child].key < self.heap[least].key:
                    least = child
            if entry.key < self.heap[least].key:
                break
            self.put(position, self.heap[least])
            position = least
        self.put(position, entry)

    cdef object take_at(self, uint32_t position):
        """Removes the element there; the last one fills the gap and moves up or down to where it belongs."""
        cdef uint32_t slot = self.heap[position].slot
        cdef Entry last
        self.count -= 1
        if position < self.count:
            last = self.heap[self.count]
            if position and last.key < self.heap[(position - 1) // ARITY].key:
                self.rise(position, last)
            else:
                self.sink(position, last)
        return self.vacate(slot)
