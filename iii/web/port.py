"""Listening sockets, and who has a port that is taken. Knows nothing of HTTP."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from iii.errors import ConfigError

__all__ = ["PortTaken", "address_of", "listen", "owners", "url_of", "who_has"]

BACKLOG = 2048
_LISTENING = "0A"  # TCP_LISTEN, as /proc/net/tcp writes it


class PortTaken(ConfigError):
    """Somebody else listens there."""


def listen(host: str, port: int, *, file: str = "", field: str = "http.port") -> list[socket.socket]:
    """Listen on every address of `host`; port 0 takes a free one, the same for all of them.

    ConfigError names who has the port, or what is wrong; `file` and `field` are where the port stands.
    """
    sockets: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port, file, field):
            taken = sockets[0].getsockname()[1] if sockets and port == 0 else address[1]
            sockets.append(_listen_on(family, (address[0], taken, *address[2:])))
    except OSError as error:
        for each in sockets:
            each.close()
        raise _explained(error, host, port, file, field) from None
    return sockets


def address_of(sockets: list[socket.socket]) -> tuple[str, int]:
    """(host, port) of the first socket."""
    host, port = sockets[0].getsockname()[:2]
    return str(host), int(port)


def url_of(sockets: list[socket.socket]) -> str:
    """http://host:port of the first socket."""
    host, port = address_of(sockets)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def who_has(port: int) -> str:
    """The process that listens on `port`, as "process 71 (python app.py)"; "" where it may not be seen."""
    pid = next(owners(port), None)
    return "" if pid is None else f"process {pid}{_command(Path('/proc', str(pid)))}"


def owners(port: int) -> Iterator[int]:
    """The pids of the processes that listen on `port`: several, where they share a socket."""
    inodes = {f"socket:[{inode}]" for inode in _listeners(port)}
    for process in Path("/proc").iterdir() if inodes else ():
        if process.name.isdigit() and not inodes.isdisjoint(_open_files(process)):
            yield int(process.name)


def _addresses(host: str, port: int, file: str, field: str) -> list[tuple[int, tuple[str | int, ...]]]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        message = f"{host!r} is no address of this machine: {error}"
        raise ConfigError(message, file=file, field=_host(field)) from None
    addresses: dict[tuple[int, tuple[str | int, ...]], None] = {}
    for family, _, _, _, address in found:
        addresses[family, tuple(part if isinstance(part, int) else str(part) for part in address)] = None
    return list(addresses)


def _listen_on(family: int, address: tuple[str | int, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _explained(error: OSError, host: str, port: int, file: str, field: str) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        owner = who_has(port) or "another process"
        message = f"{host}:{port} is taken by {owner}; stop it or choose another port"
        return PortTaken(message, file=file, field=field)
    if error.errno in (errno.EACCES, errno.EPERM):
        message = f"this user may not listen on port {port}; choose one above 1023"
    else:
        message, field = f"cannot listen on {host}:{port}: {error.strerror}", _host(field)
    return ConfigError(message, file=file, field=field)


def _host(field: str) -> str:
    return field.replace(".port", ".host")


def _listeners(port: int) -> Iterator[str]:
    """Inodes of the sockets that listen on `port`, whatever the address."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                    yield columns[9]


def _open_files(process: Path) -> Iterator[str]:
    with suppress(OSError):
        for file in (process / "fd").iterdir():
            with suppress(OSError):
                yield os.readlink(file)


def _command(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return ""
    command = " ".join(words)
    return f" ({command if len(command) <= 80 else command[:79] + '…'})" if command else ""
