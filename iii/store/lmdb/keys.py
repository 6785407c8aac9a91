"""Where every byte lies. Owns the key of each table; knows nothing of what the rows mean to whom.

Integers are big-endian: byte order is numeric order. u8 rank = 255 - priority, so that a lane reads in
the order of its grants. hash16 = blake2b-128 of a group or unique key.

    table    key                                  value
    meta     name                                 format number, time of creation, anchor of the delay clock
             "epoch/", u64 id, u64 version        u64 epoch, u32 how many before it (epochs.py); id and
                                                  version: the first ones given in it
    counter  "*"                                  COUNTERS: what the next commit, id, version ... will be
             "l" u32 lane                         LANE_COUNTS: exact counts, written once per group
             "n" namespace                        u64 number of keys
             "h" u8 part, share                   u64 rows, u64 bytes: of a history (quotas.py, histories.py)
             "i" u8 part, share, 00, u64 number   u32 bytes of this row of run or audit
             "j" u8 first part                    u64: the rows up to this number are under "i"
             "kept"                               KEPT: what the kept answers take (kept.py)
             "s" ready key                        - : this ready message is a suspect (suspects.py)
    mark     name                                 u64
    lane     u32 lane                             rows.LaneRow
    ready    u32 lane, u8 rank, u64 id            record
    later    u64 due_ms, u64 id, u32 lane         u8 priority, record
    group    u32 lane, hash16                     u64 id of the head: ready, later or leased
    behind   u32 lane, hash16, u64 id             u64 due_ms, u8 priority, record
    lease    u32 session, u64 id                  u64 token, u32 lane, u8 priority, record
    body     u32 lane, u64 id                     payload over BODY_BYTES_MIN, so that moves stay cheap
    unique   u32 lane, hash16                     u64 id, u64 until_ms
    expiry   u64 until_ms, u8 kind, rest          - (EXPIRES_READY: a ready key, EXPIRES_UNIQUE: a
                                                  unique key, EXPIRES_RUNS: u64, the runs up to it)
    state    namespace, 00, key                   u64 version, u64 updated_ms, value
    change   u64 version                          rows.ChangeRow
    session  u32 session                          rows.SessionEntry
    run      u64 number                           content, bounded history; audit likewise

A record is rows.Row. A message lies in exactly one of ready, later, behind, lease.

Within a format, processes of several versions may use one file, so only what an older one skips is added:
fields with a default at the end of a row, new keys in meta and counter, new headers. COUNTERS and LANE_COUNTS
never grow: an older process would write them back short. A new counter gets a key of its own.

Changing the format: raise FORMAT; in environment.py rewrite a file of the older number inside the transaction
that opens the tables; add such a file to tests/lmdb with a test that opens it, as tests/lmdb/v1 has.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from hashlib import blake2b

FORMAT = 1
BODY_BYTES_MIN = 2048
NEVER_MS = (1 << 63) - 1

TABLES = (
    "meta", "counter", "mark", "lane", "ready", "later", "group", "behind", "lease", "body",
    "unique", "expiry", "state", "change", "session", "run", "audit",
)  # fmt: skip

COUNTERS_KEY = b"*"
COUNTERS = struct.Struct(">8Q")  # commit, catalog, id, version, lane, session, run, audit
LANE_COUNTS = struct.Struct(">7Q")  # ready, later, behind, leased, dead, done, failed
HELD = struct.Struct(">QQ")

SUSPECT = b"s"
KEPT_KEY = b"kept"
KEPT = struct.Struct(">5Q")  # bytes, answers, newest, uncounted, evicted

EPOCHS_KEY = b"epoch/"
EPOCH = struct.Struct(">6sQQ")
EPOCH_VALUE = struct.Struct(">QI")

u64 = struct.Struct(">Q")
u32 = struct.Struct(">I")
READY = struct.Struct(">IBQ")
LATER = struct.Struct(">QQI")
GROUP = struct.Struct(">I16s")
BEHIND = struct.Struct(">I16sQ")
BEHIND_HEAD = struct.Struct(">QB")
LEASE = struct.Struct(">IQ")
LEASE_HEAD = struct.Struct(">QIB")
BODY = struct.Struct(">IQ")
UNIQUE = struct.Struct(">I16s")
UNIQUE_VALUE = struct.Struct(">QQ")
STATE_HEAD = struct.Struct(">QQ")
EXPIRY_HEAD = struct.Struct(">QB")

EXPIRES_READY = 0
EXPIRES_UNIQUE = 1
EXPIRES_RUNS = 2


@lru_cache(maxsize=4096)
def hash16(text: str) -> bytes:
    """What stands for a group or unique key: 128 bits do not collide by accident."""
    return blake2b(text.encode(), digest_size=16).digest()


def lane_counts_key(lane: int) -> bytes:
    return b"l" + u32.pack(lane)


def namespace_count_key(namespace: str) -> bytes:
    return b"n" + namespace.encode()


def held_key(part: int, share: str) -> bytes:
    return b"h%c%s" % (part, share.encode())


def placed_prefix(part: int, share: str) -> bytes:
    """Of the rows of a share; the number comes after it."""
    return b"i%c%s\0" % (part, share.encode())


def placed_up_to_key(part: int) -> bytes:
    return b"j%c" % part


def suspect_key(lane: int, rank: int, id: int) -> bytes:
    return SUSPECT + READY.pack(lane, rank, id)


def suspects_prefix(lane: int) -> bytes:
    return SUSPECT + u32.pack(lane)


def state_key(namespace: str, key: str) -> bytes:
    return namespace.encode() + b"\0" + key.encode()
