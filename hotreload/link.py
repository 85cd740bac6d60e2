"""A connection to one host: requests over its socket, its black box in memory."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from hotreload import native
from hotreload.errors import HotreloadError, NoHost
from hotreload.model import Host, Record, Snapshot

ANSWER_SECONDS = 30.0
"""Longer than a host may wait for its safe point (10 s)."""


class Link:
    """Speaks with one host. Requests are answered one at a time; `begin` and `finish` let several hosts work at once.

    Args:
        path: The host's socket.

    Raises:
        NoHost: Nobody answers there.
        HotreloadError: ``E-DENIED``: it belongs to another user; ``E-PROTOCOL``: another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers = 0
        self._events_seen = 0
        self._socket = _connect(path)
        try:
            welcome, box_fd = self._hello()
        except BaseException:
            self._socket.close()
            raise
        self.client = welcome.client
        try:
            self._box = native.Box(box_fd, Host(welcome.pid, welcome.name, 0.0, welcome.version))
        finally:
            os.close(box_fd)
        self.host = self._box.host
        self._events_seen = self._box.newest_event()

    def fileno(self) -> int:
        """The socket's descriptor: readable or hung up without a request means that the host is gone."""
        return self._socket.fileno()

    def load(self, paths: Sequence[str]) -> native.Reply:
        """Loads modules as one transaction."""
        return self._ask(native.LOAD, native.paths_body(paths))

    def rollback(self, module: str | None) -> native.Reply:
        """Takes back a module, or what the newest commit brought in."""
        return self._ask(native.ROLLBACK, native.rollback_body(module))

    def begin_prepare(self, paths: Sequence[str]) -> None:
        """Asks for a preparation; `finish` waits for its outcome."""
        self._send(native.PREPARE, native.paths_body(paths))

    def begin_commit(self) -> None:
        """Asks to publish what is prepared; `finish` waits for its outcome."""
        self._send(native.COMMIT, b"")

    def begin_abort(self) -> None:
        """Asks to take the preparation back; `finish` waits until that is done."""
        self._send(native.ABORT, b"")

    def finish(self) -> native.Reply:
        """Waits for the answer to what was begun. Raises NoHost when the host goes away or does not answer."""
        return native.parse_reply(self._receive())

    def snapshot(self, now: float, *, alive: bool = True) -> Snapshot:
        """The black box as it is now; works on after the host's death."""
        return self._box.snapshot(now, alive=alive)

    def foreign_events(self) -> list[Record]:
        """What happened in the host since the last call and was not caused over this connection."""
        found = self._box.events(self._events_seen)
        if found:
            self._events_seen = found[-1][0]
        return [record for _, origin, record in found if origin != self.client]

    def close(self) -> None:
        """Ends the connection (a prepared transaction is aborted by the host); the black box stays readable."""
        self._socket.close()

    def _ask(self, kind: int, body: bytes) -> native.Reply:
        self._send(kind, body)
        return self.finish()

    def _send(self, kind: int, body: bytes) -> None:
        self._numbers += 1
        try:
            self._socket.sendall(native.message(kind, body, self._numbers))
        except OSError as error:
            raise self._gone(error) from error

    def _hello(self) -> tuple[native.Welcome, int]:
        self._send(native.HELLO, native.hello_body())
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, native.HEADER_SIZE, 1)
        except OSError as error:
            raise self._gone(error) from error
        try:
            welcome = native.parse_welcome(self._rest(data))
        except HotreloadError:
            for fd in fds:
                os.close(fd)
            raise
        if not fds:
            raise HotreloadError("E-PROTOCOL", "the host handed over no black box")
        return welcome, fds[0]

    def _receive(self) -> bytes:
        return self._rest(b"")

    def _rest(self, data: bytes) -> bytes:
        head = data + self._exactly(native.HEADER_SIZE - len(data))
        _, length, _ = native.parse_header(head)
        return self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                part = self._socket.recv(size - len(data))
            except OSError as error:
                raise self._gone(error) from error
            if not part:
                raise self._gone(None)
            data += part
        return bytes(data)

    def _gone(self, error: OSError | None) -> NoHost:
        if isinstance(error, TimeoutError):
            reason = f"the host did not answer within {ANSWER_SECONDS:.0f} s"
            return NoHost("E-HOST-GONE", reason, fix="see whether it is stopped, or stuck in a module's on_load")
        return NoHost("E-HOST-GONE", "the host has exited", fix="start the host again")


def _connect(path: Path) -> socket.socket:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(ANSWER_SECONDS)
    try:
        link.connect(str(path))
        _check_owner(link, path)
    except HotreloadError:
        link.close()
        raise
    except OSError as error:
        link.close()
        raise NoHost("E-HOST-GONE", f"no host answers at {path}", fix="start the host again") from error
    return link


def _check_owner(link: socket.socket, path: Path) -> None:
    """A socket of another user in our directory would let its owner show us anything."""
    size = 12
    credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    owner = int.from_bytes(credentials[4:8], "little")
    if owner != os.geteuid():
        raise HotreloadError(
            "E-DENIED", f"{path} belongs to another user", found=f"user {owner}", expected=f"user {os.geteuid()}"
        )
