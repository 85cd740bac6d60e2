"""What a notebook shows: plain lines, kept until the next cell takes them."""

from __future__ import annotations

import io
import os
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from rich.console import Console
from rich.text import Text

from hotreload.model import EventKind, Record
from hotreload.reporters.plain import PlainReporter, line_of

WIDTH = 120
"""Columns of tables: a notebook does not tell how wide it is."""
TOLD_KEPT = 64


@dataclass(frozen=True, slots=True)
class Told:
    """What a cell has told by itself: everything of these kinds between two moments (``time.time()``) that is about one
    of the modules by their content, or a refusal with this code."""

    began: float
    ended: float
    contents: frozenset[int] = frozenset()
    code: str = ""

    def covers(self, record: Record) -> bool:
        """Whether the record says nothing new."""
        if not self.began <= record.time <= self.ended:
            return False
        if record.kind is EventKind.REJECT:
            return record.code == self.code
        done = record.kind in (EventKind.SWAP, EventKind.ROLLBACK)
        return done and record.module is not None and record.module.content in self.contents


class NotebookReporter(PlainReporter):
    """Keeps what there is to tell; the session's thread must not print it into whatever cell happens to run."""

    def __init__(self) -> None:
        self._lines = io.StringIO()
        self._waiting: SimpleQueue[Record | Text] = SimpleQueue()
        self._told: deque[Told] = deque(maxlen=TOLD_KEPT)
        super().__init__(_console(self._lines))

    def record(self, record: Record) -> None:
        self._waiting.put(record)

    def told(self, told: Told) -> None:
        """Leaves out what a cell has told already, whether the session has seen it before or sees it later."""
        self._told.append(told)

    def take(self) -> str:
        """The lines since the last call."""
        with suppress(Empty):
            while True:
                each = self._waiting.get_nowait()
                if isinstance(each, Text):
                    super()._print(each)
                elif not any(told.covers(each) for told in self._told):
                    super()._print(line_of(each))
        text = self._lines.getvalue()
        self._lines.seek(0)
        self._lines.truncate()
        return text

    def _print(self, text: Text) -> None:
        self._waiting.put(text)


def console() -> Console:
    """A console for the output of the cell that runs; as text, which every front end can show."""
    return _console(sys.stdout)


def _console(stream: io.StringIO | object) -> Console:
    return Console(
        file=stream,  # type: ignore[arg-type]
        force_jupyter=False,
        force_terminal=False,
        no_color=True,
        highlight=False,
        width=_width(),
    )


def _width() -> int:
    """Of IPython's terminal; a notebook's output is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError, AttributeError):
        return WIDTH
