cdef class Head:
    cdef readonly str method         # in upper case, as sent
    cdef readonly str path           # percent-encoded, without the query
    cdef readonly bytes query        # what follows the first "?", b"" where there is none
    cdef readonly int minor          # of HTTP/1.minor
    cdef readonly list headers       # (name in lower case, value without the blanks around it), in order
    cdef readonly dict fields        # the last of each name
    cdef readonly object length      # bytes of the body, or CHUNKED
    cdef readonly bint keeps_alive   # whether another request may follow
    cdef readonly bint is_secret     # it carries credentials

    cdef bint read(self, const unsigned char* at) except -1
    cdef const unsigned char* read_target(self, const unsigned char* at) except? NULL
    cdef const unsigned char* read_field(self, const unsigned char* at) except? NULL
    cdef bint frame(self) except -1
