"""What a notebook shows: plain lines, kept until the next cell takes them."""

from __future__ import annotations

import io
import sys

from rich.console import Console

from hotreload.reporters.plain import PlainReporter

WIDTH = 120
"""Columns of tables: a notebook does not tell how wide it is."""


class NotebookReporter(PlainReporter):
    """Keeps its lines instead of printing them from the session's thread, into whatever cell happens to run."""

    def __init__(self) -> None:
        self._lines = io.StringIO()
        self._taken = 0
        super().__init__(_console(self._lines))

    def take(self) -> str:
        """The lines since the last call."""
        text = self._lines.getvalue()
        # The rest is not removed: what the session's thread writes in between must stay.
        news, self._taken = text[self._taken :], len(text)
        return news


def console() -> Console:
    """A console for the output of the cell that runs; as text, which every front end can show."""
    return _console(sys.stdout)


def _console(stream: io.StringIO | object) -> Console:
    return Console(file=stream, force_jupyter=False, force_terminal=False, no_color=True, highlight=False, width=WIDTH)  # type: ignore[arg-type]
