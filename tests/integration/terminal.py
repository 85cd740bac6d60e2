"""A program on a pseudo-terminal, with the screen that a terminal emulator makes of what it writes."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyte

PATIENCE = 60.0
"""Seconds until a screen that does not come is a failure; no test waits that long when all is well."""


class Terminal:
    """A program on a pseudo-terminal, and the screen that a terminal emulator makes of what it writes."""

    def __init__(
        self,
        command: Sequence[str | Path],
        width: int,
        height: int,
        environment: Mapping[str, str],
        cwd: Path | None = None,
    ) -> None:
        self.master, slave = pty.openpty()
        self.screen = pyte.Screen(width, height)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self._size(width, height)
        self.attributes = termios.tcgetattr(slave)
        self.slave = slave
        inherited = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR"}}
        self.process = subprocess.Popen(
            list(command),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            cwd=cwd,
            env={**inherited, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", "TZ": "UTC", **environment},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def _size(self, width: int, height: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def resize(self, width: int, height: int) -> None:
        self.screen.resize(height, width)
        self._size(width, height)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def whole(self) -> bool:
        """Whether no frame is half read."""
        return self.raw.rfind(b"\x1b[?2026l") >= self.raw.rfind(b"\x1b[?2026h")

    def read(self, seconds: float) -> bool:
        """Feed the screen with what comes within the time; False at the end of output."""
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.raw += data
        # pyte knows neither synchronised updates nor no-wrap by these numbers; it skips what it does not know.
        self.stream.feed(data)
        return bool(data)

    def until(self, shown: Callable[[Terminal], bool]) -> None:
        """Wait for the screen to be as it should."""
        end = time.monotonic() + PATIENCE
        while not (self.whole and shown(self)):
            assert time.monotonic() < end, f"the screen never came to that:\n{self.text}"
            assert self.read(0.1) or shown(self), f"the program ended:\n{self.text}"

    def shows(self, text: str) -> None:
        self.until(lambda terminal: text in terminal.text)

    def hides(self, text: str) -> None:
        self.until(lambda terminal: text not in terminal.text)

    def ended(self) -> int:
        """Wait for the end of the program; its exit code."""
        os.close(self.slave) if self.slave >= 0 else None
        self.slave = -1
        end = time.monotonic() + PATIENCE
        while self.read(0.1) and time.monotonic() < end and self.process.poll() is None:
            pass
        while select.select([self.master], [], [], 0.2)[0] and self.read(0.0):
            pass
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for descriptor in (self.master, self.slave):
            if descriptor >= 0:
                os.close(descriptor)
