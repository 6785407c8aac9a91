# cython: auto_pickle=False, autotestdict=False
"""One step of a coroutine, without the exception by which Python tells that it returned."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF


def first_step(coroutine, /):
    """(True, what it returned), or (False, what it waits for); raises what it raises."""
    cdef PyObject* found
    cdef PySendResult sent = PyIter_Send(coroutine, None, &found)
    result = <object>found
    Py_DECREF(result)
    return sent == PYGEN_RETURN, result
