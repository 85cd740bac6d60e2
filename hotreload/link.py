"""A connection to one host: requests over its socket, its black box in memory."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from types import TracebackType

from hotreload import native, symbols
from hotreload.errors import HotreloadError, NoHost
from hotreload.model import Host, HostOptions, Manifest, Record, Report, Snapshot

CHUNK = 65536
ANSWER_SECONDS = 30.0
"""Longer than a host may wait for its safe point (10 s)."""
LOOK_SECONDS = 0.1
"""Between two looks whether a host that does not answer is stopped."""


class Link:
    """Speaks with one host. Requests are answered one at a time; `begin` and `finish` let several hosts work at once.

    Args:
        path: The host's socket.
        patience: Seconds to wait for each answer; ANSWER_SECONDS by default.

    Raises:
        NoHost: Nobody answers there; a host that is stopped is not waited for.
        HotreloadError: ``E-DENIED``: it belongs to another user; ``E-PROTOCOL``: another version.
    """

    def __init__(self, path: Path, patience: float | None = None) -> None:
        self.path = path
        self._numbers = 0
        self._kind = 0
        self._received = bytearray()
        """Of the answer under way: header and body come in one piece, mostly."""
        self._events_seen = 0
        self._patience = ANSWER_SECONDS if patience is None else patience
        self._using = Lock()
        """Held while the socket is sent to or waited for: `close` on another thread must not give its number away, the
        next connection would have it."""
        self._socket = _connect(path, self._patience)
        self._pid = _peer(self._socket)[0]
        try:
            self._greet()
        except BaseException:
            self._socket.close()
            raise

    def _greet(self) -> None:
        welcome, box_fd = self._hello()
        try:
            self._box = native.Box(box_fd, Host(welcome.pid, welcome.name, 0.0, welcome.version))
        finally:
            os.close(box_fd)
        self.client = welcome.client
        self.host = self._box.host
        self._events_seen = self._box.newest_event()

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """The socket's descriptor, -1 after `close`: hung up means that the host is gone, or what it said made no
        sense and the connection was given up."""
        return self._socket.fileno()

    def load(self, paths: Sequence[str]) -> native.Reply:
        """Loads modules as one transaction."""
        return self._ask(native.LOAD, native.paths_body(paths))

    def rollback(self, module: str | None) -> native.Reply:
        """Takes back a module, or what the newest commit brought in."""
        return self._ask(native.ROLLBACK, native.rollback_body(module))

    def set_options(self, asked: HostOptions) -> None:
        """Asks for options, which hold from the next swap on. Asks nothing where none is named.

        Raises:
            HotreloadError: ``E-USAGE``: the host's shim does not know one of them.
        """
        if asked == HostOptions():
            return
        reply = self._ask(native.OPTIONS, native.options_body(asked))
        if reply.failure:
            raise native.error_of(reply.failure)

    def begin_load(self, paths: Sequence[str]) -> None:
        """Asks to load modules as one transaction; `finish` waits for its outcome."""
        self._send(native.LOAD, native.paths_body(paths))

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
        """Waits for the answer to what was begun.

        Raises:
            NoHost: The host went away, or did not answer in time.
            HotreloadError: ``E-PROTOCOL``: its answer makes no sense.

        After either the connection is of no use: a late answer would be taken for that to another request.
        """
        try:
            reply = native.parse_reply(self._body(b""))
        except HotreloadError:
            self.hang_up()
            raise
        if reply.failure is None:
            return reply
        return replace(reply, reports=tuple(self._with_layout(each) for each in reply.reports))

    def layouts(self) -> bytes:
        """The host's layouts as they are now, for `native.compare`; empty where it declares none.

        Raises:
            NoHost: The host went away, or did not answer in time.
            HotreloadError: ``E-PROTOCOL``: the host's shim knows nothing of layouts.
        """
        self._send(native.LAYOUTS, b"")
        return native.parse_layouts(self._body(b""))

    def _with_layout(self, report: Report) -> Report:
        """A report of E-LAYOUT tells all that differs, as far as the build output is still the one that was refused."""
        if report.failure is None or report.failure.code != "E-LAYOUT":
            return report
        manifest = native.inspect(Path(report.module.path))
        if not isinstance(manifest, Manifest) or manifest.module.content != report.module.content:
            return report
        try:
            rows = native.compare(self.layouts(), manifest.layout).rows
        except HotreloadError:
            return report
        return replace(report, failure=replace(report.failure, layout=rows))

    def snapshot(self, now: float, *, alive: bool = True) -> Snapshot:
        """The black box as it is now; works on after the host's death."""
        return self._box.snapshot(now, alive=alive)

    def foreign_events(self) -> list[Record]:
        """What happened in the host since the last call and was not caused over this connection."""
        found: list[Record] = []
        before = -1
        while self._events_seen != before:
            before = self._events_seen
            self._events_seen, events = self._box.events(before)
            found += [_located(record) for origin, record in events if origin != self.client]
        return found

    def rewind(self) -> None:
        """Lets the next `foreign_events` begin with the oldest event that the host remembers."""
        self._events_seen = 0

    def close(self) -> None:
        """Ends the connection (a prepared transaction is aborted by the host); the black box stays readable. From any
        thread: whoever waits for an answer on another is told that the host has gone."""
        self.hang_up()
        with self._using:
            self._socket.close()

    def hang_up(self) -> None:
        """Gives the connection up, as when an answer makes no sense; whoever waits for an answer, or for the host's
        end, on another thread is woken."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _ask(self, kind: int, body: bytes) -> native.Reply:
        self._send(kind, body)
        return self.finish()

    def _send(self, kind: int, body: bytes) -> None:
        self._numbers += 1
        self._kind = kind
        message = native.message(kind, body, self._numbers)
        try:
            with self._using:
                self._socket.sendall(message)
        except OSError as error:
            self.hang_up()
            raise self._gone(error) from error

    def _hello(self) -> tuple[native.Welcome, int]:
        self._send(native.HELLO, native.hello_body())
        self._await_answer()
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, native.HEADER_SIZE, 1)
        except OSError as error:
            raise self._gone(error) from error
        try:
            if not data:
                raise self._gone(None)
            welcome = native.parse_welcome(self._body(data))
            if len(fds) != 1:
                raise native.protocol_error(f"the host handed over {len(fds)} descriptors instead of its black box")
        except HotreloadError:
            for fd in fds:
                os.close(fd)
            raise
        return welcome, fds[0]

    def _body(self, begun: bytes) -> bytes:
        """The body of the answer to the request sent last; ``begun`` is what has been received of the answer."""
        head = begun + self._exactly(native.HEADER_SIZE - len(begun))
        kind, length, number = native.parse_header(head)
        if (kind, number) != (self._kind, self._numbers):
            raise native.protocol_error("the host's answer belongs to another request")
        return self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            try:
                with self._using:
                    self._await_answer()
                    part = self._socket.recv(max(size - len(self._received), CHUNK))
            except OSError as error:
                raise self._gone(error) from error
            if not part:
                raise self._gone(None)
            self._received += part
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def _await_answer(self) -> None:
        """Waits until there is something to receive; not for a host that is stopped, which may be so for hours."""
        if self._socket.fileno() < 0:  # closed on another thread, which has seen its end before us
            raise self._gone(None)
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | select.POLLRDHUP)
        deadline = time.monotonic() + self._patience
        while not poll.poll(max(0.0, min(LOOK_SECONDS, deadline - time.monotonic())) * 1000):
            if is_stopped(self._pid):
                raise stopped_error(self._pid)
            if time.monotonic() >= deadline:
                raise self._gone(TimeoutError())

    def _gone(self, error: OSError | None) -> NoHost:
        if isinstance(error, TimeoutError):
            reason = f"the host did not answer within {self._patience:.0f} s"
            return NoHost("E-HOST-GONE", reason, fix="see whether it is stuck in a module's on_load")
        return NoHost("E-HOST-GONE", "the host has exited", fix="start the host again")


def _located(record: Record) -> Record:
    """With the source line of a fault, looked up here: the host has other things to do."""
    fault = record.fault
    if fault is None or fault.offset == 0:
        return record
    at = symbols.locate(Path(fault.staged), fault.offset)
    return replace(record, reason=_with_place(record.reason, at), fault=replace(fault, at=at))


def _with_place(reason: str, at: str) -> str:
    """The place follows what happened, and precedes what became of the state: a narrow screen shows the beginning."""
    happened, semicolon, rest = reason.partition(";")
    return f"{happened} ({at}){semicolon}{rest}" if at else reason


def is_stopped(pid: int) -> bool:
    """Whether a process stands still, by SIGSTOP, Ctrl-Z or in a debugger."""
    first = _stop_of(pid)
    if not first:
        return False
    time.sleep(STOP_SECONDS)  # one that is traced stops at every step, and goes on
    return first == _stop_of(pid)


STOP_SECONDS = 0.02


def _stop_of(pid: int) -> str:
    """The number of its context switches; empty while it runs."""
    try:
        told = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    state = told.partition("\nState:")[2].split(maxsplit=1)[:1]
    return told[told.find("voluntary_ctxt_switches") :] if state and state[0] in "tT" else ""


def runs(pid: int) -> bool:
    """Whether there is such a process, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def stopped_error(pid: int) -> NoHost:
    """What is said of a host that is stopped."""
    fix = f"let it go on: kill -CONT {pid}, or continue it in its debugger"
    return NoHost("E-HOST-GONE", f"host {pid} is stopped, by a signal or a debugger", fix=fix)


def _connect(path: Path, patience: float) -> socket.socket:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(patience)
    try:
        link.connect(str(path))
        _check_owner(link, path)
    except HotreloadError:
        link.close()
        raise
    except BlockingIOError as error:  # its backlog is full: it does not look at its socket
        link.close()
        raise NoHost("E-HOST-GONE", f"the host at {path} is busy", fix="see whether it is stopped") from error
    except OSError as error:
        link.close()
        raise NoHost("E-HOST-GONE", f"no host answers at {path}", fix="start the host again") from error
    return link


def _check_owner(link: socket.socket, path: Path) -> None:
    """A socket of another user in our directory would let its owner show us anything."""
    _, owner = _peer(link)
    if owner != os.geteuid():
        raise HotreloadError(
            "E-DENIED", f"{path} belongs to another user", found=f"user {owner}", expected=f"user {os.geteuid()}"
        )


def _peer(link: socket.socket) -> tuple[int, int]:
    """Process and user of the other side."""
    size = 12
    credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int.from_bytes(credentials[:4], "little"), int.from_bytes(credentials[4:8], "little")
