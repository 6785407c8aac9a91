"""What an instance prints, passed on with its number: `[2] ` before a line, `"instance":2` in one of JSON.
Number 0 is the quarantine."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Numbered"]

LINE_BYTES_MAX = 1 << 20


class Numbered:
    """One stream of an instance. Only whole lines are passed on, so that those of several do not mix."""

    def __init__(self, number: int, write: Callable[[bytes], object]) -> None:
        self._plain, self._json = b"[%d] " % number, b'{"instance":%d,' % number
        if not number:
            self._plain = b"[quarantine] "
        self._write, self._begun = write, b""
        self.last = ""
        """The last line that is not empty."""

    def feed(self, chunk: bytes) -> None:
        lines = (self._begun + chunk).split(b"\n")
        self._begun = lines.pop()
        if len(self._begun) > LINE_BYTES_MAX:
            lines.append(self._begun)
            self._begun = b""
        if lines:
            self._pass_on(lines)

    def end(self) -> None:
        """What it printed last may lack its newline."""
        if self._begun:
            self._pass_on([self._begun])
            self._begun = b""

    def _pass_on(self, lines: list[bytes]) -> None:
        self._write(b"".join(map(self._numbered, lines)))
        last = next((line for line in reversed(lines) if line.strip()), None)
        if last is not None:
            self.last = last.decode(errors="replace").strip()

    def _numbered(self, line: bytes) -> bytes:
        if line.startswith(b'{"') and line.endswith(b"}"):
            return b"%b%b\n" % (self._json, line[1:])
        return b"%b%b\n" % (self._plain, line)
