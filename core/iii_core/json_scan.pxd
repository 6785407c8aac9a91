cdef struct Key:
    const unsigned char* at    # inside the text
    Py_ssize_t size            # bytes
    int owner                  # the number of its object, counted as they open
