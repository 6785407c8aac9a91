cdef class Batch:
    cdef list items           # what was appended since the last swap()
    cdef long long total      # the sum of their sizes
    cdef long long total_max

    cdef int add(self, object item, long long size) except -1
    cdef int refuse(self, long long size) except -1
