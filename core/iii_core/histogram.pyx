# cython: auto_pickle=False, autotestdict=False
"""How often something took how long: a count for each bucket, and the sum of all.

Invariant (`check`): the bounds rise strictly, and no bucket has been counted down.
"""

cimport cython
from libc.stdlib cimport calloc, free


@cython.final
cdef class Histogram:
    """`bounds`: the upper bound of each bucket, itself included, rising; one more holds what is beyond."""

    def __cinit__(self, bounds):
        cdef Py_ssize_t i
        numbers = [float(bound) for bound in bounds]
        if sorted(set(numbers)) != numbers:
            raise ValueError(f"bounds must rise, got {numbers}")
        self.size = len(numbers)
        self.bounds = <double*>calloc(self.size + 1, sizeof(double))
        self.buckets = <long long*>calloc(self.size + 1, sizeof(long long))
        if self.bounds == NULL or self.buckets == NULL:
            raise MemoryError
        for i in range(self.size):
            self.bounds[i] = numbers[i]

    def __dealloc__(self):
        free(self.bounds)
        free(self.buckets)

    @property
    def counts(self):
        """How many fell into each bucket, not added up."""
        return [self.buckets[i] for i in range(self.size + 1)]

    @property
    def sum(self):
        """Of all that was added."""
        return self.total

    def add(self, double value, /):
        """Counts `value`. O(buckets before it): what is quick is found at once."""
        self.count(value)

    def check(self):
        """Asserts the invariant. For tests; raises AssertionError."""
        for i in range(1, self.size):
            assert self.bounds[i - 1] < self.bounds[i], f"bound {i} is not above the one before"
        assert min(self.counts) >= 0, f"a bucket was counted down: {self.counts}"

    cdef void count(self, double value) noexcept:
        cdef Py_ssize_t i = 0
        while i < self.size and value > self.bounds[i]:
            i += 1
        self.buckets[i] += 1
        self.total += value
