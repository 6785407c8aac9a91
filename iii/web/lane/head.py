"""Requests' heads as the lane reads them: what it remembers of them, and what it need not wait for.

The grammar is iii_core.http1's, the names that may be asked for are hosts.py's; what that leaves in doubt is
judged at the gate before Hypercorn (http1/).
"""

from __future__ import annotations

from iii.web.hosts import Hosts
from iii_core.http1 import CHUNKED, Head, read_head

__all__ = ["CHUNKED", "Head", "Parser", "will_never_do"]

KNOWN_MAX = 512
KNOWN_BYTES_MAX = 1024


class Parser:
    """`read_head` with a memory: a client says most of its heads again and again, byte by byte. Heads with
    secrets, and long ones, are not remembered.

    whole(data): the head of the one request without a body that `data` is, if it is remembered.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._known: dict[bytes, Head] = {}
        self._bodiless: dict[bytes, Head] = {}
        self.whole = self._bodiless.get

    def parse(self, raw: bytes) -> Head | None:
        head = self._known.get(raw)
        if head is None:
            head = read_head(raw)
            if head is not None and (host := head.fields.get(b"host")) not in self._hosts.accepted:
                head = head if self._hosts.accepts(host) else None
            if head is not None and len(raw) <= KNOWN_BYTES_MAX and not head.is_secret:
                self._remember(raw, head)
        return head

    def _remember(self, raw: bytes, head: Head) -> None:
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
            self._bodiless.clear()
        self._known[raw] = head
        if not head.length:
            self._bodiless[raw] = head


def will_never_do(begun: bytes | bytearray) -> bool:
    """Whether `parse` answers None to the head that begins so, however it goes on."""
    return not 65 <= begun[0] <= 90 or begun.count(b"\n") != begun.count(b"\r\n")
