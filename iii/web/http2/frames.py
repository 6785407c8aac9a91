"""h2's connection with its own tables bounded: what the peer makes it remember, and what it may ask of it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import h2.config
import h2.connection
import h2.events
from h2.connection import AllowedStreamIDs
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from h2.stream import H2Stream

from iii.web.response import RawHeaders

__all__ = ["UNACKNOWLEDGED_BYTES_MAX", "Frames", "refusal"]

STREAMS_MAX = 100
FRAME_BYTES_MAX = 16 << 10
UNACKNOWLEDGED_BYTES_MAX = 16 << 10  # a quarter of a window, until it is opened again
HEAD_ROOM_BYTES = 64 << 10  # heads a little too large get to the application, which says so in JSON
HEADER_TABLE_BYTES_MAX = 4096


class _Connection(h2.connection.H2Connection):
    MAX_CLOSED_STREAMS = 1024  # remembered, for frames that are late; 65,536 take 10 MiB

    def _begin_new_stream(self, stream_id: int, allowed_ids: AllowedStreamIDs) -> H2Stream:
        """For a content-length that lies h2 ends the connection, and with it requests of other people, whom a
        proxy has sent with it: connection.py counts, and answers the one."""
        stream = super()._begin_new_stream(stream_id, allowed_ids)
        stream._track_content_length = _nothing  # type: ignore[method-assign]
        return stream


def _nothing(length: int, end_stream: bool) -> None: ...


class Frames:
    """One connection's: bytes to events, and what is to be sent to bytes.

    unacknowledged_bytes: received, and not yet given back to the connection's window."""

    def __init__(self, head_bytes_max: int) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding=None)
        self._h2 = _Connection(config)
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS_MAX,
                SettingCodes.MAX_HEADER_LIST_SIZE: head_bytes_max,
            },
        )
        self._h2.decoder.max_header_list_size = head_bytes_max + HEAD_ROOM_BYTES
        self.unacknowledged_bytes = 0

    def begin(self) -> None:
        self._h2.initiate_connection()

    def received(self, data: bytes) -> list[h2.events.Event]:
        """ProtocolError: the connection has ended, and its GOAWAY is to be sent."""
        return self._h2.receive_data(data)

    def to_send(self) -> bytes:
        return self._h2.data_to_send()

    def last_words(self) -> bytes:
        """What is sent after a ProtocolError: a GOAWAY, also where h2 has none for it (a broken preface)."""
        if not (said := self.to_send()):
            self.go_away(ErrorCodes.PROTOCOL_ERROR)
            said = self.to_send()
        return said

    def send_head(self, id: int, headers: RawHeaders, *, ends: bool) -> None:
        self._h2.send_headers(id, headers, end_stream=ends)

    def send_data(self, id: int, data: bytes, *, ends: bool) -> None:
        self._h2.send_data(id, data, end_stream=ends)

    def window(self, id: int) -> int:
        """What may be sent of this stream now, in one frame."""
        window = self._h2.local_flow_control_window(id)
        return min(window, self._h2.max_outbound_frame_size, FRAME_BYTES_MAX)

    def own_window(self, id: int) -> int:
        """The window of this stream, whatever the connection's is; 0 where it has ended."""
        stream = self._h2.streams.get(id)
        return 0 if stream is None else stream.outbound_flow_control_window

    def reset(self, id: int, code: ErrorCodes) -> None:
        with suppress(ProtocolError):  # the client did it first
            self._h2.reset_stream(id, code)

    def go_away(self, code: ErrorCodes, reason: bytes = b"") -> None:
        with suppress(ProtocolError):
            self._h2.close_connection(code, additional_data=reason or None)

    def open_window(self, id: int, size: int) -> None:
        with suppress(ProtocolError, KeyError):  # it has ended
            self._h2.increment_flow_control_window(size, id)

    def acknowledge(self) -> None:
        """Open the connection's window: its streams' windows hold senders back."""
        if self.unacknowledged_bytes >= UNACKNOWLEDGED_BYTES_MAX:
            with suppress(ProtocolError):
                self._h2.increment_flow_control_window(self.unacknowledged_bytes)
            self.unacknowledged_bytes = 0

    def bound_settings(self, changed: Iterable[int]) -> None:
        """Forget settings that nobody knows (h2 keeps a queue for each), and keep the table of the headers
        that we send small, however large the peer says that it may be."""
        known = frozenset(SettingCodes)
        for code in changed:
            if code not in known:
                self._h2.remote_settings.pop(code, None)
        if self._h2.encoder.header_table_size > HEADER_TABLE_BYTES_MAX:
            self._h2.encoder.header_table_size = HEADER_TABLE_BYTES_MAX


def refusal(reason: bytes, code: ErrorCodes) -> bytes:
    """What tells an HTTP/2 client on a new connection to go away, and why."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    connection.close_connection(code, additional_data=reason)
    return connection.data_to_send()
