from cpython.object cimport PyObject

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN   # the result is what it returned
        PYGEN_ERROR    # an exception is set
        PYGEN_NEXT     # the result is what it waits for
    PySendResult PyIter_Send(object coroutine, object value, PyObject** result) except PYGEN_ERROR
