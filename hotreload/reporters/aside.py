"""What happens beside the session when something happens in it: the journal, hook commands, desktop notifications,
the bell.

Commands run one after the other on a thread of their own; neither a slow nor a stuck one holds up a swap.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Full, Queue, SimpleQueue
from threading import Thread

from hotreload.history import KINDS, History
from hotreload.meter import HostView
from hotreload.model import EventKind, Record
from hotreload.reporters.jsonl import as_object
from hotreload.reporters.wording import LOUD, changes, clean, failure_code, module_title, what
from hotreload.session import State

COMMAND_SECONDS = 10.0
"""After which a command is ended, with all that it has started."""
END_SECONDS = 3.0
"""How long the end of a session waits for commands under way."""
JOURNAL_SECONDS = 10.0
"""How long the end of a session waits for the journal."""
WAITING = 100
"""Commands that may wait for their turn; more are left out, and that is said."""
LINES_TOLD = 5
BELL_SECONDS = 0.3
"""Rings in a burst are one ring."""

Tell = Callable[[str], None]


class _Aside:
    """A reporter that cares for records alone."""

    broken = False

    def start(self) -> None:
        """Nothing to prepare."""

    def update(self, state: State, hosts: Mapping[int, HostView]) -> None:
        """State is no event."""

    def record(self, record: Record) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing to give back."""


class Commands:
    """Runs commands in order, each with a text on its standard input.

    Args:
        tell: Told what they print, and how they fail.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._jobs: Queue[Callable[[], None] | None] = Queue(WAITING)
        self._running: subprocess.Popen[bytes] | None = None
        self._ending = False
        self._thread: Thread | None = None

    def run(
        self, name: str, command: Sequence[str], given: str = "", environment: Mapping[str, str] | None = None
    ) -> None:
        """Runs a command when its turn comes."""
        if self._thread is None:
            self._thread = Thread(target=self._work, name="hotreload-aside", daemon=True)
            self._thread.start()
        try:
            self._jobs.put_nowait(lambda: self._run(name, command, given, environment or {}))
        except Full:
            self._tell(f"{name} left out: {WAITING} commands are waiting")

    def close(self) -> None:
        """Waits END_SECONDS for what is under way, then ends it; what still waits for its turn is left out."""
        if self._thread is None:
            return
        with suppress(Full):
            self._jobs.put_nowait(None)
        self._thread.join(END_SECONDS)
        self._ending = True
        if self._running and self._thread.is_alive():
            _end(self._running)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None and not self._ending:
            job()

    def _run(self, name: str, command: Sequence[str], given: str, environment: Mapping[str, str]) -> None:
        # A file and no pipe: a program that the command leaves behind may keep its output open for ever.
        with tempfile.TemporaryFile() as printed:
            try:
                code = self._call(command, given, {**os.environ, **environment}, printed.fileno())
            except OSError as error:
                self._tell(f"{name}: {error.strerror}")
                return
            printed.seek(0)
            lines = printed.read(65536).decode("utf-8", "replace").strip().splitlines()
        for line in lines[-LINES_TOLD:]:
            self._tell(f"{name} | {clean(line)}")
        if code is None:
            self._tell(f"{name} was ended: it took more than {COMMAND_SECONDS:.0f} s")
        elif code != 0:
            self._tell(f"{name} failed with exit code {code}")

    def _call(self, command: Sequence[str], given: str, environment: Mapping[str, str], output: int) -> int | None:
        """The exit code; None when it took too long and was ended."""
        process = self._running = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment, start_new_session=True
        )
        assert process.stdin is not None
        with suppress(OSError), process.stdin as stdin:  # it need not read
            stdin.write(given.encode())
        try:
            return process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            _end(process)
            process.wait()
            return None
        finally:
            self._running = None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Journal(_Aside):
    """Enters swaps and roll backs into the history, on a thread of its own: a module may be large to copy."""

    def __init__(self, tell: Tell, project: Path, history: History | None = None) -> None:
        self._tell = tell
        self._project = project
        self._history = history or History()
        self._records: SimpleQueue[Record | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="hotreload-journal", daemon=True)
        self._thread.start()

    def record(self, record: Record) -> None:
        if record.kind in KINDS:
            self._records.put(record)

    def close(self) -> None:
        """Waits until everything is entered."""
        self._records.put(None)
        self._thread.join(JOURNAL_SECONDS)

    def _work(self) -> None:
        while (record := self._records.get()) is not None:
            try:
                self._history.add(record, self._project, record.staged)
            except OSError as error:
                self._tell(f"the history is not kept: {error}")
                return


class Hooks(_Aside):
    """Runs a shell command for each record of some kinds: the event as JSON on its standard input, the most wanted
    parts as variables (HR_EVENT, HR_HOST, HR_PID, HR_MODULE, HR_VERSION, HR_PATH, HR_CODE, HR_REASON, HR_FIX).

    Args:
        hook: For a kind, the name under which it is told of, and the command; empty for none.
    """

    def __init__(self, hook: Callable[[EventKind], tuple[str, str]], tell: Tell) -> None:
        self._hook = hook
        self._commands = Commands(tell)

    def record(self, record: Record) -> None:
        name, command = self._hook(record.kind)
        if command:
            self._commands.run(
                name, ["/bin/sh", "-c", command], json.dumps(as_object(record)) + "\n", variables(record)
            )

    def close(self) -> None:
        self._commands.close()


def variables(record: Record) -> dict[str, str]:
    """A record for a shell. A zero byte cannot be in a variable."""
    host, module = record.host, record.module
    found = {
        "HR_EVENT": record.kind.value,
        "HR_HOST": host.name if host else "",
        "HR_PID": str(host.pid) if host else "",
        "HR_MODULE": module.name if module else "",
        "HR_VERSION": str(module.version) if module else "",
        "HR_PATH": module.path if module else "",
        "HR_CODE": record.code,
        "HR_REASON": record.reason,
        "HR_FIX": record.fix,
    }
    return {name: value.replace("\0", "") for name, value in found.items()}


def is_news(record: Record) -> bool:
    """Whether a person who looks elsewhere wants to know."""
    if record.kind is EventKind.BUILD:
        return bool(failure_code(record))
    return record.kind in LOUD or record.kind in (EventKind.SWAP, EventKind.ROLLBACK)


class Bell(_Aside):
    """Rings the terminal's bell for news. It goes to the terminal, never to standard output."""

    def __init__(self, tell: Tell, wanted: Callable[[], bool]) -> None:
        self._tell = tell
        self._wanted = wanted
        self._rung = 0.0

    def record(self, record: Record) -> None:
        now = time.monotonic()
        if is_news(record) and self._wanted() and now - self._rung >= BELL_SECONDS:
            self._rung = now
            if not to_terminal("\a"):
                self._tell("no terminal here has a bell to ring")
                self._rung = float("inf")  # once is enough


class Notifier(_Aside):
    """Shows news on the desktop: by notify-send where there is a desktop, else by the terminal (OSC 9)."""

    def __init__(self, tell: Tell, wanted: Callable[[], bool]) -> None:
        self._tell = tell
        self._wanted = wanted
        desktop = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"))
        self._program = shutil.which("notify-send") if desktop else None
        self._commands = Commands(tell)
        self._told = False

    def record(self, record: Record) -> None:
        if not is_news(record) or not self._wanted():
            return
        title, text = notice(record)
        if self._program:
            urgency = "normal" if record.kind in (EventKind.SWAP, EventKind.ROLLBACK) else "critical"
            arguments = ["--app-name=hotreload", f"--urgency={urgency}", "--", title, text]
            self._commands.run("notify", [self._program, *arguments])
        elif not to_terminal(f"\x1b]9;{title}: {text}\x1b\\") and not self._told:
            self._told = True
            self._tell("notify: neither a desktop with notify-send nor a terminal is here")

    def close(self) -> None:
        self._commands.close()


def notice(record: Record) -> tuple[str, str]:
    """A record as title and text of a notification, without control characters."""
    subject = module_title(record.module) if record.module else "build"
    code = failure_code(record)
    verb = {EventKind.SWAP: "swapped", EventKind.ROLLBACK: "rolled back"}.get(record.kind, code or record.kind.value)
    return f"{subject} {verb}", changes(record.changes) or what(record)


def to_terminal(text: str) -> bool:
    """Writes to the terminal that this process has, wherever its outputs go. False when there is none."""
    try:
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), text.encode())
            return True
        terminal = os.open("/dev/tty", os.O_WRONLY | os.O_NOCTTY)
    except (OSError, ValueError):
        return False
    with suppress(OSError):
        os.write(terminal, text.encode())
    os.close(terminal)
    return True
