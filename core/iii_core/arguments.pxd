"""Reads the numbers in a caller's arguments; a refusal says what was given and what was expected.

Inlined into each structure, and called before anything is changed: an `__index__` is a caller's code, which
may raise or come back into the structure.
"""

from cpython.long cimport PyLong_AsUnsignedLongLong
from cpython.number cimport PyIndex_Check
from libc.stdint cimport uint64_t

cdef extern from "Python.h":
    Py_ssize_t clipped "PyNumber_AsSsize_t"(object, void*) except? -1  # with NULL: no overflow error
    Py_ssize_t PY_SSIZE_T_MAX, PY_SSIZE_T_MIN


cdef inline str shown(object number, Py_ssize_t value):
    """The number as an error shows it (the repr of a very long int would itself be an error)."""
    return "an int beyond 64 bits" if value in (PY_SSIZE_T_MIN, PY_SSIZE_T_MAX) else repr(number)


cdef inline int refuse_type(str name, object value) except -1:
    raise TypeError(f"{name} must be an int, not {type(value).__name__}")


cdef inline Py_ssize_t as_count(object number, str name) except -1:
    """0 or more; beyond 64 bits it is clipped, since no structure holds that much."""
    cdef Py_ssize_t value
    if not PyIndex_Check(number):
        refuse_type(name, number)
    value = clipped(number, NULL)
    if value < 0:
        raise ValueError(f"{name} must be 0 or more, not {shown(number, value)}")
    return value


cdef inline int as_priority(object number) except -1:
    cdef Py_ssize_t value
    if not PyIndex_Check(number):
        refuse_type("priority", number)
    value = clipped(number, NULL)
    if value < 0 or value > 255:
        raise ValueError(f"priority must be 0 to 255 (higher comes first), not {shown(number, value)}")
    return <int>value


cdef inline uint64_t as_ms(object number, str name) except? 0:
    if not isinstance(number, int):
        refuse_type(name, number)
    try:
        return PyLong_AsUnsignedLongLong(number)
    except OverflowError:
        raise ValueError(f"{name} must be 0 to 2**64 - 1 milliseconds") from None


cdef inline uint64_t as_handle(object number) except? 0:
    """The handle, or 0, which is never handed out, for an int that cannot be one."""
    if not isinstance(number, int):
        refuse_type("handle", number)
    try:
        return PyLong_AsUnsignedLongLong(number)
    except OverflowError:
        return 0


cdef inline int check_group(object group) except -1:
    """A group is hashed and compared between two changes, so it must not run a caller's code."""
    if group is None or type(group) is str or type(group) is bytes or type(group) is int:
        return 0
    raise TypeError(f"group must be a str, bytes, int or None, not {type(group).__name__}")
