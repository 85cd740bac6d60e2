"""Finds the user's running hosts, and starts one."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from hotreload import native
from hotreload.errors import HotreloadError, NoHost
from hotreload.link import Link, is_stopped, stopped_error

TERMINATE_SECONDS = 2.0
LOGS_KEPT = 10
LOG_BYTES = 32 << 20
"""A host's log begins again when it has grown to this size; what was in it until then is kept beside it, once."""
LINES_TOLD = 400
_CONTROL = re.compile(r"\x1b\[[0-9;:?<=>]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.|[\x00-\x08\x0b-\x1f\x7f]")


class Finder:
    """The sockets of hosts in the user's runtime directory."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = native.runtime_directory() if directory is None else directory

    def sockets(self) -> dict[int, Path]:
        """Every socket by the pid in its name, dead ones included."""
        found: dict[int, Path] = {}
        with suppress(OSError), os.scandir(self.directory) as entries:
            for entry in entries:
                stem, _, suffix = entry.name.partition(".")
                if suffix == "sock" and stem.isdigit():
                    found[int(stem)] = Path(entry.path)
        return found

    def connect(self, wanted: Sequence[str] = (), *, patience: float | None = None) -> list[Link]:
        """Links to all living hosts, or to those whose name or pid is wanted, by pid. Dead sockets are passed over.

        A host that cannot be spoken with (E-PROTOCOL, E-DENIED, one that is stopped) does not keep the others from the
        user: it is raised only when it is wanted by pid, or when there is no other.
        """
        links: list[Link] = []
        strange: dict[int, HotreloadError] = {}
        for pid, path in sorted(self.sockets().items()):
            if is_stopped(pid):
                strange[pid] = stopped_error(pid)
                continue
            try:
                link = connect(path, patience)
            except HotreloadError as error:
                strange[pid] = error
                continue
            if link is not None and chosen(link.host.name, pid, wanted):
                links.append(link)
            elif link is not None:
                link.close()
        named = [error for pid, error in strange.items() if str(pid) in wanted]
        if named or (strange and not links):
            for link in links:
                link.close()
            raise (named or list(strange.values()))[0]
        return links

    def stopped(self) -> list[int]:
        """Hosts that stand still: `connect` leaves them out."""
        return [pid for pid in sorted(self.sockets()) if is_stopped(pid)]

    def require(self, wanted: Sequence[str] = ()) -> list[Link]:
        """The same, for commands that need one. Raises NoHost."""
        links = self.connect(wanted)
        if not links:
            named = f" that matches {' or '.join(wanted)}" if wanted else ""
            fix = "see `hotreload ps`" if wanted else "start a program that calls hr_serve (or Runtime.serve)"
            raise NoHost("E-NO-HOST", f"no host is running{named}", fix=fix)
        return links


def connect(path: Path, patience: float | None = None) -> Link | None:
    """A link, or None where nobody answers any more."""
    try:
        return Link(path, patience)
    except NoHost:
        return None


def chosen(name: str, pid: int, wanted: Sequence[str]) -> bool:
    """Whether ``--host`` values (names or pids) ask for this host; none of them ask for all."""
    return not wanted or name in wanted or str(pid) in wanted


class HostProcess:
    """A host that we started. Its output comes through a pseudo-terminal, so that it arrives line by line, without
    the program's own buffering of a pipe; it goes, raw, into the log file, and as plain lines to ``lines``.

    Args:
        command: Program and arguments.
        log: The file for its output.
        lines: Receives the newest lines, LINES_TOLD of 64 KiB at most, on a thread of this object.
        ended: Receives the exit code (minus the signal's number for a killed host).

    Raises:
        HotreloadError: ``E-NO-HOST``: the program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        lines: Callable[[Sequence[str]], None],
        ended: Callable[[int], None],
    ) -> None:
        self._lines = lines
        self._ended = ended
        self._log = _Log(log)
        reader, writer = pty.openpty()
        _set_size(writer)
        try:
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, start_new_session=True
            )
        except OSError as error:
            os.close(reader)
            self._log.close()
            log.unlink(missing_ok=True)
            fix = "name a program that exists and may be executed after --"
            raise NoHost("E-NO-HOST", f"{command[0]} cannot be started: {error.strerror}", fix=fix) from error
        finally:
            os.close(writer)
        self.pid = self._process.pid
        self._exited = Event()
        self._reader = reader
        self._thread = Thread(target=self._read, name="hotreload-host-output", daemon=True)
        self._thread.start()
        # A thread of its own: a grandchild may keep the terminal open long after the host has ended.
        Thread(target=self._wait, name="hotreload-host-exit", daemon=True).start()

    def stop(self) -> None:
        """Ends the host, and what a shell that was started in its place has left behind: SIGTERM, and SIGKILL after two
        seconds.
        """
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + TERMINATE_SECONDS
        self._exited.wait(TERMINATE_SECONDS)
        # The terminal closes with its last user, whoever of them that is.
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive() or not self._exited.is_set():
            self._signal(signal.SIGKILL)
        self._exited.wait()
        self._process.wait()
        self._thread.join(TERMINATE_SECONDS)

    def _signal(self, number: int) -> None:
        """To the whole group, while its number is certain to be its own: the first process is not reaped."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _read(self) -> None:
        rest = ""
        for text in self._chunks():
            lines = (rest + text).split("\n")
            rest = lines.pop()[-4096:]
            if lines:  # of a torrent the newest: making them all plain would take the interpreter from the others
                self._lines([plain(each) for each in lines[-LINES_TOLD:]])
        if rest:
            self._lines([plain(rest)])
        os.close(self._reader)
        self._log.close()

    def _wait(self) -> None:
        # Only stop() reaps it: until then its number belongs to nobody else, and so does that of its group.
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        code = 0 if ended is None else ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        self._exited.set()
        self._thread.join(0.2)
        self._ended(code)

    def _chunks(self) -> Iterable[str]:
        while True:
            try:
                data = os.read(self._reader, 65536)
            except OSError:  # EIO: the last writer has closed the terminal
                return
            if not data:
                return
            self._log.write(data)
            yield data.decode("utf-8", "replace")


class _Log:
    """A file that holds the newest of what is written to it: between LOG_BYTES and twice as much, in two files.

    What cannot be written is lost: a full disk must not stop the host, which waits for its output to be taken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb", buffering=0)
        self._size = 0

    def write(self, data: bytes) -> None:
        with suppress(OSError, ValueError):
            self._append(data)

    def _append(self, data: bytes) -> None:
        if self._size + len(data) > LOG_BYTES and self._size:
            self._file.close()
            self._path.replace(self._path.with_suffix(".log.old"))
            self._file = self._path.open("wb", buffering=0)
            self._size = 0
        self._file.write(data)
        self._size += len(data)

    def close(self) -> None:
        self._file.close()


def state_directory() -> Path:
    """Where logs, the history and staged modules are kept; it need not exist yet."""
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else Path.home() / ".local" / "state") / "hotreload"


class OwnCode:
    """The files that a host's own code is in: compared with what they were when it was started.

    Contents are compared, not times: a linker that writes the same program again changes nothing.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._stamps = {path: _stamp(path) for path in paths}
        self._contents = {path: _content(path) for path in self._stamps}

    @classmethod
    def of(cls, command: Sequence[str], further: Iterable[Path]) -> OwnCode:
        """That of a command: its program, as far as it lies in the project, and what else is named."""
        found = shutil.which(command[0])
        return cls([*([Path(found)] if found else []), *further])

    def add(self, path: Path) -> None:
        """A further file, as it is now."""
        if path not in self._stamps:
            self._contents[path] = _content(path)
            self._stamps[path] = _stamp(path)

    def changed(self) -> bool:
        """Whether one of them holds something else now. One that is missing is being written, and does not count."""
        for path, stamp in list(self._stamps.items()):
            now = _stamp(path)
            if now == stamp or now is None:
                continue
            if _content(path) != self._contents[path]:
                return True
            self._stamps[path] = now
        return False

    def settled(self) -> bool:
        """Whether none of them has a writer, or bytes missing."""
        told = (native.settled(path) for path in self._stamps)
        return all(failure is None or failure.code != "E-TRUNCATED" for failure in told)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_ino, info.st_size, info.st_mtime_ns


def _content(path: Path) -> bytes:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    except OSError:
        return b""


def new_log(program: str) -> Path:
    """A file for a host's output, which outlives the session; the newest LOGS_KEPT are kept."""
    directory = state_directory() / "logs"
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    old = sorted(directory.glob("*.log"), key=lambda path: path.stat().st_mtime)
    for path in old[: -(LOGS_KEPT - 1)]:
        path.unlink(missing_ok=True)
        path.with_suffix(".log.old").unlink(missing_ok=True)
    return directory / f"{Path(program).name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"


def plain(line: str) -> str:
    """A line without escape sequences and control characters; what a carriage return has overwritten is gone."""
    shown = line.rstrip("\r").rsplit("\r", 1)[-1]
    return _CONTROL.sub("", shown).replace("\t", "    ")


def _set_size(terminal: int) -> None:
    with suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))


__all__ = ["Finder", "HostProcess", "HotreloadError", "chosen", "connect", "plain"]
