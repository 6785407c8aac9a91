# cython: auto_pickle=False, autotestdict=False
"""Heads of HTTP/1 (RFC 9112): a request's from bytes, an answer's to bytes. Knows no connection and no body.

The grammar is the part that no two servers read differently; `read_head` answers None to all else, be it
wrong, old (line folding, bare LF), ambiguous (two lengths, a length beside a transfer coding) or more than a
plain request (an upgrade, Expect, CONNECT, a target that is no path).

A scan ends at the NUL behind every bytes object at the latest: no class of characters holds it.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.string cimport memcmp, memcpy, strncmp

from sys import intern

CHUNKED = -1

cdef frozenset SECRETS = frozenset((b"authorization", b"cookie", b"proxy-authorization"))
cdef tuple ONCE = (
    b"host", b"connection", b"content-length", b"content-type", b"expect", b"transfer-encoding", b"upgrade"
)

cdef enum:
    LENGTH_DIGITS_MAX = 20

cdef enum:  # classes of characters
    UPPER = 1    # of a method
    TOKEN = 2    # of a header's name
    VALUE = 4    # of a header's value
    TARGET = 8   # of a request target

cdef unsigned char KINDS[256]
cdef unsigned char LOWER[256]

cdef int classify() except -1:
    cdef int c
    for c in range(256):
        KINDS[c] = VALUE if c == 9 or c >= 32 and c != 127 else 0
        LOWER[c] = <unsigned char>c
        if c"A" <= c <= c"Z":
            KINDS[c] |= UPPER
            LOWER[c] = <unsigned char>(c + 32)
        if 33 <= c <= 126 and c != c"#":
            KINDS[c] |= TARGET
    for c in b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz":
        KINDS[c] |= TOKEN
    return 0

classify()


@cython.final
cdef class Head:
    """What a request says before its body. Not to be changed: whoever remembers it shares it."""

    cdef bint read(self, const unsigned char* at) except -1:
        """Whether what begins at `at`, up to the blank line, is a head of the grammar."""
        at = self.read_target(at)
        if at == NULL:
            return False
        self.headers, self.fields = [], {}
        while at[0] != c"\r":
            at = self.read_field(at)
            if at == NULL:
                return False
        return at[1] == c"\n" and at[2] == 0 and self.frame()

    cdef const unsigned char* read_target(self, const unsigned char* at) except? NULL:
        """The request line; behind it, or NULL."""
        cdef const unsigned char* begin = at
        cdef const unsigned char* question
        while KINDS[at[0]] & UPPER:
            at += 1
        if at == begin or at[0] != c" " or at[1] != c"/":
            return NULL
        self.method = intern(PyUnicode_DecodeASCII(<const char*>begin, at - begin, NULL))
        begin = at = at + 1
        while KINDS[at[0]] & TARGET and at[0] != c"?":
            at += 1
        self.path = PyUnicode_DecodeASCII(<const char*>begin, at - begin, NULL)
        question = at
        while KINDS[at[0]] & TARGET:
            at += 1
        self.query = question[1:at - question] if at > question else b""
        if strncmp(<const char*>at, b" HTTP/1.", 8) or not c"0" <= at[8] <= c"1":
            return NULL
        if at[9] != c"\r" or at[10] != c"\n":
            return NULL
        self.minor = at[8] - c"0"
        return at + 11

    cdef const unsigned char* read_field(self, const unsigned char* at) except? NULL:
        """A header's line; behind it, or NULL."""
        cdef const unsigned char* begin = at
        cdef const unsigned char* end
        cdef bytes name, value
        while KINDS[at[0]] & TOKEN:
            at += 1
        if at == begin or at[0] != c":":
            return NULL
        name = lowered(begin, at - begin)
        begin = at = at + 1
        while KINDS[at[0]] & VALUE:
            at += 1
        if at[0] != c"\r" or at[1] != c"\n":
            return NULL
        end = at
        while begin < end and (begin[0] == c" " or begin[0] == c"\t"):
            begin += 1
        while begin < end and ((end - 1)[0] == c" " or (end - 1)[0] == c"\t"):
            end -= 1
        value = PyBytes_FromStringAndSize(<const char*>begin, end - begin)
        self.headers.append((name, value))
        self.fields[name] = value
        return at + 2

    cdef bint frame(self) except -1:
        """The length of the body and what becomes of the connection; False where they are in doubt."""
        cdef dict fields = self.fields
        self.length, self.keeps_alive = 0, self.minor == 1
        if len(fields) != len(self.headers) and repeats(self.headers):
            return False
        if self.method == "CONNECT" or b"upgrade" in fields or b"expect" in fields:
            return False
        if self.minor and b"host" not in fields:
            return False
        coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
        if coding is not None:
            if coding != b"chunked" or length is not None or not self.minor:
                return False
            self.length = CHUNKED
        elif length is not None:
            if not length.isdigit() or len(length) > LENGTH_DIGITS_MAX:
                return False
            self.length = int(length)
        options = fields.get(b"connection")
        if options is not None and b"close" in [option.strip() for option in options.lower().split(b",")]:
            self.keeps_alive = False
        self.is_secret = not SECRETS.isdisjoint(fields)
        return True


def read_head(raw, /):
    """The head that the bytes are, its last blank line included; None where it leaves a doubt."""
    if not isinstance(raw, bytes):
        raise TypeError(f"a head is bytes, not {type(raw).__name__}")
    cdef Head head = Head.__new__(Head)
    if PyBytes_GET_SIZE(raw) < 4 or memcmp(tail(raw, 4), b"\r\n\r\n", 4):
        return None
    return head if head.read(<const unsigned char*>PyBytes_AS_STRING(raw)) else None


def join_answer(bytes start not None, list headers not None, bytes body not None, bint closes, /):
    """`start` (the status line, and lines that go with it), a line for each (name, value), and behind the
    blank line `body`. closes: with `connection: close`.

    TypeError where a header is no pair of bytes. What they hold is the caller's to check.
    """
    cdef Py_ssize_t size = PyBytes_GET_SIZE(start) + PyBytes_GET_SIZE(body) + 2
    cdef bytes joined, name, value
    cdef char* at
    for name, value in headers:
        size += PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(value) + 4
    if closes:
        size += 19
    joined = PyBytes_FromStringAndSize(NULL, size)
    at = put(PyBytes_AS_STRING(joined), start)
    for name, value in headers:
        at = put(put_two(put(at, name), b": "), value)
        at = put_two(at, b"\r\n")
    if closes:
        at = put(at, b"connection: close\r\n")
    put(put_two(at, b"\r\n"), body)
    return joined


cdef inline const char* tail(bytes data, Py_ssize_t size) noexcept:
    return PyBytes_AS_STRING(data) + PyBytes_GET_SIZE(data) - size


cdef inline char* put(char* at, bytes data) noexcept:
    memcpy(at, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return at + PyBytes_GET_SIZE(data)


cdef inline char* put_two(char* at, const char* pair) noexcept:
    at[0], at[1] = pair[0], pair[1]
    return at + 2


cdef inline bytes lowered(const unsigned char* at, Py_ssize_t size):
    cdef bytes name = PyBytes_FromStringAndSize(NULL, size)
    cdef char* to = PyBytes_AS_STRING(name)
    cdef Py_ssize_t i
    for i in range(size):
        to[i] = LOWER[at[i]]
    return name


cdef bint repeats(list headers) except -1:
    """Whether a header that may come once came twice."""
    cdef list names = [name for name, _ in headers]
    for name in ONCE:
        if names.count(name) > 1:
            return True
    return False
