"""Timestamped plain lines, for logs, pipes and terminals without a cursor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import is_

from rich.console import Console
from rich.text import Text

from hotreload.meter import HostView
from hotreload.model import EventKind, Record
from hotreload.reporters.pipe import silence
from hotreload.reporters.wording import clean, clock, one_line
from hotreload.session import BuildPhase, State

_STYLES = {
    EventKind.SWAP: "green",
    EventKind.ROLLBACK: "yellow",
    EventKind.REJECT: "bold red",
    EventKind.CRASH: "bold red",
    EventKind.LAYOUT: "bold yellow",
    EventKind.DETACH: "yellow",
    EventKind.SAME: "dim",
    EventKind.NOTE: "dim",
}


class PlainReporter:
    """One line a record; also the lines of a failed build, and what a host that watch started prints."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._child: tuple[str, ...] = ()
        self._failed: float | None = None
        self.broken = False

    def start(self) -> None:
        """Nothing to prepare."""

    def update(self, state: State, hosts: Mapping[int, HostView]) -> None:
        build, child = state.build, state.child
        if build and build.phase is BuildPhase.FAILED and build.started != self._failed:
            self._failed = build.started
            self._quote("build", build.lines)
        if child and child.lines is not self._child:
            self._quote("host", newer(self._child, child.lines))
            self._child = child.lines

    def record(self, record: Record) -> None:
        self._print(line_of(record))

    def close(self) -> None:
        """Every line is already flushed."""

    def _quote(self, source: str, lines: Sequence[str]) -> None:
        for line in lines:
            self._print(Text.assemble((f"{source} | ", "dim"), clean(line)))

    def _print(self, text: Text) -> None:
        if self.broken:
            return
        encoding = self._console.encoding
        text = text if encoding.startswith("utf") else _encodable(text, encoding)
        try:
            # soft_wrap: a log line is as long as it is; wrapping and cropping belong to whoever reads it.
            self._console.print(text, soft_wrap=True, highlight=False)
            self._console.file.flush()
        except (OSError, ValueError, SystemExit):  # rich answers a broken pipe with SystemExit
            self.broken = True
            silence(self._console.file)  # type: ignore[arg-type]


def line_of(record: Record) -> Text:
    """A record with its time."""
    text = Text(f"{clock(record.time)} ", style="")
    text.append(one_line(record), style=_STYLES.get(record.kind, ""))
    return text


def newer(seen: Sequence[str], lines: Sequence[str]) -> Sequence[str]:
    """The lines after those seen, when ``lines`` may have lost its oldest.

    Aligned by object identity: programs print the same text again and again, so equality would match too early.
    """
    for lost in range(len(seen)):
        kept = seen[lost:]
        if len(kept) <= len(lines) and all(map(is_, kept, lines)):
            return lines[len(kept) :]
    return lines


def _encodable(text: Text, encoding: str) -> Text:
    copy = text.copy()
    copy.plain = text.plain.replace("→", ">").encode(encoding, "replace").decode(encoding)
    return copy
