"""Runs a build command: its lines as they come, what is wrong at its end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread

from hotreload.model import Problem
from hotreload.problems import Transcript

LINGER_SECONDS = 0.5
"""How long the output is awaited after the command's end: a daemon that it started may keep it open for ever."""
COLUMNS = 160
"""What compilers are told of the terminal's width: wide enough that they wrap no message."""
_TO_DROP = re.compile(
    r"\x1b\[[0-9;:?<=>]*[ -/]*[@-ln-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[^\[\]]|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]"
)


@dataclass(frozen=True, slots=True)
class Result:
    """How a build ended. ``exit_code`` is minus the signal's number where it was killed."""

    exit_code: int
    seconds: float
    ended: float
    """``time.time()``"""
    problems: tuple[Problem, ...]
    stopped: bool
    """By us, because sources have changed again."""


class Builder:
    """Runs one build at a time. ``run`` belongs to one thread at a time, ``stop`` to any.

    Args:
        terminal: Run it on a pseudo-terminal: compilers then colour their messages, as the user is used to.
    """

    def __init__(self, *, terminal: bool = False) -> None:
        self._terminal = terminal
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._lock = Lock()

    def run(self, command: str, line: Callable[[str], None]) -> Result:
        """Runs a shell command to its end; ``line`` receives what people are to see, with colours and nothing else of
        a terminal's sequences."""
        started = time.monotonic()
        transcript = Transcript(Path.cwd())
        reader = self._start(command)
        thread = Thread(target=_read, args=(reader, transcript, line), name="hotreload-build-output", daemon=True)
        thread.start()
        assert self._process
        code = self._process.wait()
        ended, seconds = time.time(), time.monotonic() - started
        thread.join(LINGER_SECONDS)
        return Result(code, seconds, ended, transcript.problems(), self._stopped)

    def stop(self) -> None:
        """Ends the running build with all that it has started."""
        with self._lock:
            self._stopped = True
            if self._process and self._process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGTERM)

    def _start(self, command: str) -> int:
        reader, writer = pty.openpty() if self._terminal else os.pipe()
        try:
            if self._terminal:
                _set_up(writer)
            with self._lock:
                self._stopped = False
                self._process = subprocess.Popen(
                    command, shell=True, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, start_new_session=True,
                    env={**_PLEASE, **os.environ} if self._terminal else None,
                )  # fmt: skip
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return reader


_PLEASE = {"CARGO_TERM_PROGRESS_WHEN": "never", "CLICOLOR_FORCE": "1", "CARGO_TERM_COLOR": "always"}
"""Colours without progress bars, which are of no use here; what the user has set wins."""


def readable(line: str) -> str:
    """A line with its colours, without all other sequences; what a carriage return has overwritten is gone."""
    return _TO_DROP.sub("", line.rstrip("\r").rsplit("\r", 1)[-1]).replace("\t", "    ")


def _read(reader: int, transcript: Transcript, line: Callable[[str], None]) -> None:
    for raw in _lines(reader):
        for shown in transcript.take(readable(raw)):
            line(shown)


def _lines(reader: int) -> Iterator[str]:
    rest = b""
    with os.fdopen(reader, "rb", buffering=0) as stream:
        while True:
            try:
                data = stream.read(65536)
            except OSError:  # EIO: the last writer has closed the terminal
                data = b""
            if not data:
                break
            *whole, rest = (rest + data).split(b"\n")
            yield from (each.decode("utf-8", "replace") for each in whole)
    if rest:
        yield rest.decode("utf-8", "replace")


def _set_up(terminal: int) -> None:
    with suppress(OSError, termios.error):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
        attributes = termios.tcgetattr(terminal)
        attributes[1] &= ~termios.OPOST  # no carriage returns
        termios.tcsetattr(terminal, termios.TCSANOW, attributes)
