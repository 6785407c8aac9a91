from libc.stdint cimport uint64_t
from iii_core.priority_queue cimport PriorityQueue

cdef class _Group:                 # exists while it has a message queued or running
    cdef object key
    cdef bint running              # its head runs; otherwise its head is in the lane's `ready`
    cdef list behind               # _Members that wait for the head to be done, from `behind_first` on
    cdef Py_ssize_t behind_first

    cdef _Member head_of_behind(self)
    cdef Py_ssize_t behind_count(self) noexcept
    cdef int drop_head_of_behind(self) except -1


cdef class _Member:                # a message of a group; one without a group is queued bare
    cdef object item
    cdef int priority
    cdef uint64_t ticket           # its age in the lane
    cdef _Group group              # None while behind, so that the two do not form a cycle


cdef class _Lane:
    cdef object key
    cdef PriorityQueue ready       # what may run now: messages without a group, and heads of groups
    cdef dict groups               # group key -> _Group
    cdef Py_ssize_t behind         # messages that wait behind the heads of their groups
    cdef Py_ssize_t slots
    cdef Py_ssize_t ahead          # how many more than its slots demand() asks for
    cdef Py_ssize_t running
    cdef Py_ssize_t running_grouped
    cdef bint paused
    cdef bint removed
    cdef bint in_ring              # exactly if may_run()
    cdef _Lane next
    cdef _Lane previous

    cdef bint may_run(self) noexcept
    cdef Py_ssize_t queued(self) noexcept


cdef class Dispatcher:
    cdef dict by_key               # lane key -> _Lane
    cdef _Lane first               # of the ring of lanes that may run: whose turn it is; None: no lane may
    cdef Py_ssize_t running_sum
    cdef Py_ssize_t running_max    # over all lanes
    cdef Py_ssize_t queued_sum

    # lanes
    cdef _Lane find(self, object lane_key)
    cdef int refuse_unknown(self, object lane_key) except -1
    cdef void place(self, _Lane lane) noexcept
    cdef void join(self, _Lane lane) noexcept
    cdef void leave(self, _Lane lane) noexcept
    # messages
    cdef int push_grouped(self, _Lane lane, _Member member, object group) except -1
    cdef object take_from(self, _Lane lane)
    cdef int end_grouped(self, _Lane lane, object group) except -1
    cdef int promote(self, _Lane lane, _Group group) except -1
    cdef int empty(self, _Lane lane, list drained) except -1
    cdef int check_lane(self, _Lane lane) except -1
