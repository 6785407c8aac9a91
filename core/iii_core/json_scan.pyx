# cython: auto_pickle=False, autotestdict=False
"""Whether a JSON text is so plain that every reader takes the same from it, told in one pass.

The reader that took the text vouches for its grammar; here is told where readers differ, lose or round. No is
"look closely": the answer to a backslash, a byte beyond ASCII, an exponent, 19 digits in a row (64 bits hold
any 18), NaN and Infinity, over LEVELS_MAX levels or KEYS_MAX keys, and two like keys in one object.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcmp

cdef enum:
    LEVELS_MAX = 16
    KEYS_MAX = 64  # each is compared with those before it
    DIGITS_MAX = 18


def is_plain(bytes raw not None, /):
    """Whether all readers agree on `raw`, where one of them found it to be JSON. O(bytes)."""
    cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(raw)
    return plain(at, at + PyBytes_GET_SIZE(raw))


def may_overflow(bytes raw not None, /):
    """Whether a text or number in `raw` (JSON or a query string) may be read as NaN, infinity or an integer
    beyond 64 bits; True, too, where escapes leave that open. O(bytes)."""
    cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(raw)
    return overflowing(at, at + PyBytes_GET_SIZE(raw))


cdef bint overflowing(const unsigned char* at, const unsigned char* end) noexcept:
    cdef int digits = 0
    cdef unsigned char byte
    while at < end:
        byte = at[0]
        at += 1
        if c"0" <= byte <= c"9" or byte == c"_" or byte == c".":
            digits += 1
            if digits >= DIGITS_MAX:
                return True
            continue
        if byte > 126 or byte == c"\\" or byte == c"%" or (digits and (byte | 32) == c"e"):
            return True
        digits = 0
        if end - at >= 2 and (
            ((byte | 32) == c"n" and (at[0] | 32) == c"a" and (at[1] | 32) == c"n")
            or ((byte | 32) == c"i" and (at[0] | 32) == c"n" and (at[1] | 32) == c"f")
        ):
            return True
    return False


cdef bint plain(const unsigned char* at, const unsigned char* end) noexcept:
    cdef Key keys[KEYS_MAX]
    cdef int owners[LEVELS_MAX]
    cdef int levels = 0, opened = 0, count = 0, digits = 0
    cdef Key key
    cdef unsigned char byte
    key.at, key.size, key.owner = NULL, 0, 0
    while at < end:
        byte = at[0]
        at += 1
        if c"0" <= byte <= c"9":
            digits += 1
            if digits > DIGITS_MAX:
                return False
            continue
        if byte > 126 or byte == c"N" or byte == c"I" or (digits and (byte == c"e" or byte == c"E")):
            return False
        digits = 0
        if byte == c'"':
            key.at = at
            while at < end and at[0] != c'"':
                if at[0] == c"\\" or at[0] < 32 or at[0] > 126:
                    return False
                at += 1
            key.size = at - key.at
            at += 1
        elif byte == c":":
            if key.at == NULL or levels == 0 or count == KEYS_MAX:
                return False
            key.owner = owners[levels - 1]
            if is_there(&keys[0], count, &key):
                return False
            keys[count] = key
            count += 1
        elif byte == c"{" or byte == c"[":
            if levels == LEVELS_MAX:
                return False
            owners[levels] = opened
            opened += 1
            levels += 1
        elif byte == c"}" or byte == c"]":
            if levels == 0:
                return False
            levels -= 1
    return at == end and levels == 0


cdef bint is_there(const Key* keys, int count, const Key* key) noexcept:
    cdef int i
    for i in range(count):
        if keys[i].owner == key.owner and keys[i].size == key.size:
            if memcmp(keys[i].at, key.at, key.size) == 0:
                return True
    return False
