from libc.stdint cimport uint32_t, uint64_t

cdef struct Entry:  # one element's place in the heap
    uint64_t key    # (255 - priority) << 56 | ticket: the smallest comes first, and no two are equal
    uint32_t slot   # where its object and its generation are

cdef struct Slot:
    uint32_t position    # in the heap; in a free slot, the next free slot
    uint32_t generation  # raised when the slot is vacated, so that an old handle no longer fits


cdef class PriorityQueue:
    # storage
    cdef list items               # the objects by slot, where the garbage collector sees them; None: free
    cdef Slot *slots              # `capacity` of them, len(items) in use or free
    cdef Entry *heap              # 4-ary, `count` entries
    cdef uint32_t count
    cdef uint32_t capacity
    cdef uint32_t free_slot       # head of the free list, or NIL
    cdef uint32_t generation_min  # of a new slot; clear() raises it above all that were handed out
    cdef uint64_t ticket_last     # tickets number the elements by age

    # for those who cimport it (who validate first)
    cdef uint64_t draw_ticket(self) noexcept
    cdef uint64_t insert(self, object item, int priority, uint64_t ticket) except 0
    cdef object take_first(self)

    # storage
    cdef int grow(self) except -1
    cdef uint32_t occupy(self, object item) except? 0
    cdef object vacate(self, uint32_t slot)
    cdef uint32_t slot_of(self, uint64_t handle) noexcept

    # heap
    cdef void put(self, uint32_t position, Entry entry) noexcept
    cdef void rise(self, uint32_t position, Entry entry) noexcept
    cdef void sink(self, uint32_t position, Entry entry) noexcept
    cdef object take_at(self, uint32_t position)
