# cython: auto_pickle=False, autotestdict=False
"""A swap-buffer: many producers append to a list, one consumer takes the whole list and leaves an empty one.

The consumer's cost does not grow with the batch, no producer ever waits for it, and there is no lock beside
the GIL: between its first and its last change a call runs no Python code, so no other thread comes between.
The first producer of a batch is told so, and wakes the consumer; the others know that it has been woken.

Invariant (`check`): `size` is the sum of the sizes appended since the last `swap()`, and within the limit.
"""

from types import GenericAlias

cimport cython
from iii_core.arguments cimport as_count

cdef long long TOTAL_MAX = <long long>1 << 62  # what "no bound" means


class BatchFull(Exception):
    """There is no room now and nothing was added: append again when the consumer has called `swap()`."""


@cython.final
cdef class Batch:
    """A buffer between many producers, in any threads, and one consumer that takes all there is.

    `limit` bounds the sum of the sizes in it (None: no bound). What a size counts is the caller's choice,
    such as bytes; it is 1 for an item that names none, so that a plain Batch counts its items.
    """

    def __cinit__(self, limit=None):
        self.items = []
        self.total_max = TOTAL_MAX
        if limit is not None:
            self.total_max = min(self.total_max, as_count(limit, "limit"))

    @classmethod
    def __class_getitem__(cls, item, /):
        return GenericAlias(cls, item)

    def __len__(self):
        return len(self.items)

    @property
    def size(self):
        """The sum of the sizes appended since the last `swap()`."""
        return self.total

    def append(self, item, size=1):
        """Adds `item`; returns True if it is the first of its batch: then, and only then, wake the consumer.

        O(1). Raises BatchFull if there is no room for `size` now, ValueError if there never will be or it is
        negative, TypeError if it is no int. A size of 0 always has room.
        """
        return self.add(item, as_count(size, "size")) == 1

    def extend(self, items, size=None):
        """Adds all `items`, whose sizes add up to `size` (None: one each), or none of them.

        O(k). Returns True if they begin their batch, and raises as `append()` does.
        """
        cdef list added = list(items)
        cdef long long total = len(added) if size is None else as_count(size, "size")
        cdef bint first = len(self.items) == 0
        if not added:
            return False
        if total > self.total_max - self.total:
            self.refuse(total)
        self.items.extend(added)
        self.total += total
        return first

    def swap(self):
        """Takes and returns all items in the order of their appending, and leaves the batch empty. O(1)."""
        cdef list taken = []
        taken, self.items = self.items, taken
        self.total = 0
        return taken

    def check(self):
        """Asserts the invariant as far as it can be seen from here. For tests; raises AssertionError."""
        assert 0 <= self.total <= self.total_max, f"size {self.total} is outside 0 to {self.total_max}"
        assert self.items or self.total == 0, f"an empty batch has size {self.total}"

    cdef int add(self, object item, long long size) except -1:
        cdef bint first = len(self.items) == 0
        if size > self.total_max - self.total:
            self.refuse(size)
        self.items.append(item)
        self.total += size
        return first

    cdef int refuse(self, long long size) except -1:
        if size > self.total_max:
            raise ValueError(f"size {size} can never fit: the limit of this batch is {self.total_max}")
        raise BatchFull(f"{self.total} of {self.total_max} are taken, no room for {size}")
