"""The dashboard on a real terminal: one thread that draws on change, reads keys and follows resizes."""

from __future__ import annotations

import atexit
import os
import select
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any

from rich.console import Console

from hotreload.meter import HostView
from hotreload.model import Problem, Record
from hotreload.reporters.editor import command
from hotreload.reporters.keys import Keys
from hotreload.reporters.screen import Painter
from hotreload.reporters.ui import Edit, Ui, press
from hotreload.reporters.view import render
from hotreload.session import Command, Note, Quit, State

FRAME_SECONDS = 0.25
"""What changes by itself is drawn at most this often. A key is answered at once: nobody types faster than it costs."""

_IDLE_SECONDS = 1.0  # clocks and sparklines move on even when nothing else does
_ESCAPE_SECONDS = 0.05  # a lone ESC byte is the Escape key when nothing follows it for so long
_SEQUENCE_SECONDS = 1.0  # what has begun as a sequence is one; its rest may be late (a slow line, a busy machine)

# Alternate screen, no cursor, no wrapping: a character of doubtful width must not push a line onto the next.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_LEAVE = "\x1b[?2026l\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"

Handler = Callable[[int, FrameType | None], Any] | int | None


class Dashboard:
    """Shows a session and its hosts until closed.

    Args:
        console: Decides on file, colour and encoding.
        keys: The terminal's file descriptor to read keys from, or None to show only.
        send: Takes what the user asks for; called from the dashboard's own thread.
        editor: How a place is opened: a name, or a command with {file}, {line} and {column}; empty for $EDITOR.
    """

    def __init__(
        self, console: Console, keys: int | None, send: Callable[[Command | Note], None], *, editor: str = ""
    ) -> None:
        self._editor = editor
        self._console = console
        self._keys = keys
        self._send = send
        self._decoder = Keys()
        self._patience = 0.0  # until this time the rest of a pending sequence may come
        self._painter = Painter(console)
        self._ui = Ui()
        self._latest: tuple[State, Mapping[int, HostView]] = (State(), {})
        self._dirty = True
        self._closing = False
        self._thread: threading.Thread | None = None
        self._wake_read, self._wake_write = -1, -1
        self._saved: list[Any] | None = None
        self._previous: Handler = None
        self._handling = False
        self._size = (0, 0)
        self.broken = False

    # ---- called by the runner ----

    def start(self) -> None:
        """Take over the terminal and begin to draw. From the main thread, resizes are also followed by SIGWINCH."""
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._enter()
        atexit.register(self.close)
        self._follow_resizes()
        self._thread = threading.Thread(target=self._run, name="hotreload-dashboard", daemon=True)
        self._thread.start()

    def update(self, state: State, hosts: Mapping[int, HostView]) -> None:
        """Remember what to draw. One assignment of one tuple: the drawing thread sees the old pair or the new one."""
        self._latest = (state, hosts)
        if not self._dirty:
            self._dirty = True
            self._wake()

    def record(self, record: Record) -> None:
        """Nothing to do: records are in the state."""

    def close(self) -> None:
        """Stop drawing and give the terminal back as it was."""
        if self._closing:
            return
        self._closing = True
        self._wake()
        if self._thread and self._thread is not threading.current_thread():
            # Bounded: a terminal that takes no bytes (flow control, a hung connection) must not keep us from ending.
            self._thread.join(timeout=2.0)
        self._unfollow_resizes()
        if self._thread:
            self._leave()
        atexit.unregister(self.close)
        if self._thread and not self._thread.is_alive():
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_read = self._wake_write = -1

    # ---- the drawing thread ----

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException:  # a fault of ours: it must be readable, and the terminal usable
            self._leave()
            self.broken = True
            raise
        finally:
            if self.broken and not self._closing:
                self._send(Quit())  # nobody can see or steer this session any more

    def _loop(self) -> None:
        drawn, keyed = -_IDLE_SECONDS, False
        while not self._closing and not self.broken:
            now = time.monotonic()
            due = drawn + (FRAME_SECONDS if self._dirty else _IDLE_SECONDS)
            if self._resized() or keyed or now >= due:
                self._draw()
                drawn, keyed = time.monotonic(), False
                continue
            pending = self._decoder.waiting
            keyed = self._listen(min(due - now, FRAME_SECONDS, self._patience - now if pending else FRAME_SECONDS))

    def _draw(self) -> None:
        self._dirty = False  # before the state is read: a change after this line is drawn by the next frame
        state, hosts = self._latest
        width, height = self._size
        frame = self._painter.frame(render(state, hosts, self._ui, width, height, time.time()))
        if frame:
            self._write(frame)

    def _listen(self, seconds: float) -> bool:
        """Wait for keys, a wake-up, or ``seconds``; whether a key was pressed."""
        watched = [self._wake_read] if self._keys is None else [self._wake_read, self._keys]
        try:
            ready = select.select(watched, [], [], max(0.0, seconds))[0]
        except (OSError, ValueError):
            self._keys = None  # the terminal's descriptor was closed under us
            return False
        if self._wake_read in ready:
            _drain(self._wake_read)
        if self._keys is None or self._keys not in ready:
            names = self._decoder.flush() if time.monotonic() >= self._patience else []
        else:
            names = self._decoder.feed(self._read())
            self._patience = time.monotonic() + (_ESCAPE_SECONDS if self._decoder.lone else _SEQUENCE_SECONDS)
        for name in names:
            self._press(name)
        return bool(names)

    def _read(self) -> bytes:
        """What was typed. End of input or an error means that the terminal has vanished."""
        assert self._keys is not None
        try:
            data = os.read(self._keys, 1024)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.broken = True
        return data

    def _press(self, name: str) -> None:
        state, hosts = self._latest
        self._ui, wish = press(self._ui, name, state, hosts)
        if isinstance(wish, Edit):
            self._edit(wish.problem)
        elif wish is not None:
            self._send(wish)

    def _edit(self, problem: Problem) -> None:
        """Gives the terminal to the editor until it ends. The session goes on: what is saved there is built."""
        words = command(self._editor, os.environ, problem.path, problem.line, problem.column)
        self._leave()
        try:
            subprocess.run(words, check=False)
        except OSError as error:
            self._send(
                Note(f"{words[0]} cannot be started: {error.strerror}; set $EDITOR, or editor in hotreload.toml")
            )
        self._decoder = Keys()
        self._size = (0, 0)  # it may be another now, and nothing is left of what was drawn
        if not self._closing:
            self._enter()

    def _resized(self) -> bool:
        """Ask the terminal itself: rich prefers COLUMNS and LINES, which stay as they were when a window is resized."""
        try:
            size = tuple(os.get_terminal_size(self._console.file.fileno()))
        except (OSError, ValueError):
            size = tuple(self._console.size)
        # A terminal that does not know its size says 0 x 0.
        if size[0] < 1 or size[1] < 1:
            size = (80, 24)
        if size == self._size:
            return False
        self._size = (size[0], size[1])
        self._painter.forget()
        return True

    # ---- the terminal ----

    def _enter(self) -> None:
        if self._keys is not None:
            try:
                self._saved = termios.tcgetattr(self._keys)
                termios.tcsetattr(self._keys, termios.TCSANOW, _cbreak(self._saved))
            except (termios.error, OSError, ValueError):
                self._saved = None  # not a terminal: its bytes still count as keys
        self._write(_ENTER)

    def _leave(self) -> None:
        if self._thread is threading.current_thread() or not (self._thread and self._thread.is_alive()):
            self._write(_LEAVE)  # else that thread is stuck in a write, and so would we be
        if self._keys is not None and self._saved is not None:
            with suppress(termios.error, OSError, ValueError):  # it vanished: there is nothing to restore
                termios.tcsetattr(self._keys, termios.TCSANOW, self._saved)
            self._saved = None

    def _write(self, text: str) -> None:
        if self.broken:
            return
        try:
            self._console.file.write(text)
            self._console.file.flush()
        except UnicodeEncodeError:  # an encoding that calls itself UTF but lacks a sign
            self._write(text.encode("ascii", "replace").decode("ascii"))
        except (OSError, ValueError):
            self.broken = True

    def _wake(self) -> None:
        with suppress(OSError):  # full: it is awake already; closed: it has ended
            os.write(self._wake_write, b"w")

    def _follow_resizes(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # signals belong to the main thread; the size is polled with every wake-up anyway
        self._previous = signal.getsignal(signal.SIGWINCH)
        signal.signal(signal.SIGWINCH, self._on_resize)
        self._handling = True

    def _unfollow_resizes(self) -> None:
        if not self._handling or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGWINCH) == self._on_resize:  # else someone took it over since: theirs now
            signal.signal(signal.SIGWINCH, self._previous if self._previous is not None else signal.SIG_DFL)
        self._handling = False

    def _on_resize(self, number: int, frame: FrameType | None) -> None:
        self._wake()
        if callable(self._previous):
            self._previous(number, frame)


def _cbreak(attributes: list[Any]) -> list[Any]:
    """Keys at once and unechoed. Ctrl-C still interrupts.

    Ctrl-Z and Ctrl-\\ are off: both would leave the terminal without echo or cursor. (Restoring it on SIGTSTP was
    rejected: suspending the watcher silently stops reloads, which is what p, pause, is for.)
    """
    changed = [*attributes[:6], list(attributes[6])]
    changed[3] &= ~(termios.ICANON | termios.ECHO)
    changed[0] &= ~termios.ICRNL
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    disabled = b"\0"
    changed[6][termios.VSUSP] = changed[6][termios.VQUIT] = disabled
    return changed


def _drain(descriptor: int) -> None:
    with suppress(BlockingIOError):
        while os.read(descriptor, 1024):
            pass
