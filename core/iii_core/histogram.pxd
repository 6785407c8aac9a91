cdef class Histogram:
    cdef double* bounds        # `size` of them
    cdef long long* buckets    # `size` + 1 of them
    cdef Py_ssize_t size
    cdef double total          # the sum of what was added

    cdef void count(self, double value) noexcept
