from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    LEVELS = 11                  # of 64 slots: 66 bits, so that any 64-bit time has a place
    SLOT_BITS = 6
    SLOTS = 64
    SLOT_LATE = LEVELS * SLOTS   # one more: what was already past when it was scheduled
    SLOT_COUNT = SLOT_LATE + 1
    SLOT_NONE = SLOT_COUNT       # of a timer that is free

cdef struct Timer:
    uint64_t due_ms
    uint32_t next        # in its slot, in the order of scheduling; in a free timer, the next free one
    uint32_t previous
    uint32_t generation  # raised when the timer is vacated, so that an old handle no longer fits
    uint32_t slot        # level * 64 + digit, SLOT_LATE or SLOT_NONE

cdef struct Slot:
    uint32_t first       # NIL: empty
    uint32_t last
    uint64_t due_min_ms  # no timer in it is due earlier; exact until that one is cancelled


cdef class TimerWheel:
    # storage
    cdef list items               # the objects by timer, where the garbage collector sees them; None: free
    cdef Timer *timers            # `capacity` of them, len(items) in use or free
    cdef uint32_t count
    cdef uint32_t capacity
    cdef uint32_t free_timer      # head of the free list, or NIL
    # the wheel
    cdef uint64_t time_ms         # the latest time seen
    cdef uint64_t occupied[LEVELS]  # bit d of level L: slot L * 64 + d is not empty
    cdef uint32_t levels          # bit L: occupied[L] is not zero
    cdef Slot slots[SLOT_COUNT]

    # storage
    cdef int grow(self) except -1
    cdef uint32_t occupy(self, object item) except? 0
    cdef object vacate(self, uint32_t timer)
    # the wheel
    cdef uint32_t slot_for(self, uint64_t due_ms) noexcept
    cdef uint64_t start_ms(self, uint32_t slot) noexcept
    cdef uint32_t first_slot(self) noexcept
    cdef void link(self, uint32_t timer) noexcept
    cdef void unlink(self, uint32_t timer) noexcept
    cdef void spread(self, uint32_t slot) noexcept
    cdef int fire(self, uint32_t timer, list fired) except -1
    cdef int fire_late(self, list fired) except -1
    cdef int fire_until(self, uint64_t now_ms, list fired) except -1
    cdef uint32_t check_slot(self, uint32_t slot, uint32_t length_max) except? 0
