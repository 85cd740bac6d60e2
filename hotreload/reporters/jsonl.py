"""One JSON object a line, for programs. Keys: DESIGN.md section 9, and the schema in the package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from hotreload.model import Change, ChangeKind, EventKind, Fault, LayoutRow, LayoutSide, Problem, Record
from hotreload.reporters.pipe import silence
from hotreload.reporters.wording import failure_code

if TYPE_CHECKING:  # the session takes its time to import, and one-shot commands have none
    from hotreload.meter import HostView
    from hotreload.session import State

SCHEMA = Path(__file__).resolve().parent.parent / "schema" / "event.json"
ANSWERS = SCHEMA.with_name("answers.json")
"""What every line keeps to."""


class JsonReporter:
    """Writes each record to ``stream`` and flushes it, so that a reader sees it at once. Notes are left out."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.broken = False

    def start(self) -> None:
        """Nothing to prepare."""

    def update(self, state: State, hosts: Mapping[int, HostView]) -> None:
        """State is no event."""

    def record(self, record: Record) -> None:
        if self.broken or record.kind is EventKind.NOTE:
            return
        try:
            # ASCII only: a reader with another encoding, or a path that is no text, must not break a line.
            self._stream.write(json.dumps(as_object(record)) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self.broken = True
            silence(self._stream)

    def close(self) -> None:
        """Every line is already flushed."""


def as_object(record: Record) -> dict[str, Any]:
    """The record as ``--json`` prints it; keys without content are left out."""
    host, module = record.host, record.module
    everything = {
        "event": record.kind.value,
        "time": rfc3339(record.time),
        "host": host and {"pid": host.pid, "name": host.name},
        "module": module
        and {"name": module.name, "version": module.version, "build_id": module.build_id, "path": module.path},
        "slots": [_slot(item) for item in record.changes],
        "code": failure_code(record),
        "reason": record.reason,
        "found": record.found,
        "expected": record.expected,
        "fix": record.fix,
        "layout": [layout_row(row) for row in record.layout if row.changes],
        "us": dict(record.us),
        "warnings": list(record.warnings),
        "problems": [_problem(item) for item in record.problems],
        "fault": record.fault and _fault(record.fault),
    }
    return {key: value for key, value in everything.items() if value}


def _problem(problem: Problem) -> dict[str, Any]:
    """A compiler's message; what it did not tell is left out."""
    names = ("severity", "message", "path", "line", "column", "code")
    return {name: value for name in names if (value := getattr(problem, name))}


def schema_text() -> str:
    """The JSON schema of `as_object`'s results."""
    return SCHEMA.read_text(encoding="utf-8")


def answer_schema(command: str) -> str:
    """The JSON schema of what a command that prints no events prints with ``--json``, and of its errors."""
    whole = json.loads(ANSWERS.read_text(encoding="utf-8"))
    parts = whole.pop("$defs")
    shared = {name: parts[name] for name in ("error", "side")}
    return json.dumps({**whole, "$id": f"{whole['$id']}:{command}", **parts[command], "$defs": shared}, indent=2)


def layout_row(row: LayoutRow) -> dict[str, Any]:
    """A line of a comparison of layouts; a side that does not have the field is null."""
    about = {"slot": row.type, "argument": row.field} if row.argument else {"type": row.type, "field": row.field}
    sides = {"host": _side(row.host), "module": _side(row.module)}
    return {**about, "changes": list(row.changes), "refused": row.refused, **sides}


def _side(side: LayoutSide | None) -> dict[str, Any] | None:
    if side is None:
        return None
    everything = {"type": side.type, "offset": side.offset, "size": side.size, "align": side.align}
    return {key: value for key, value in everything.items() if value or key in ("offset", "size")}


def _slot(change: Change) -> dict[str, Any]:
    """A slot that did not simply change says so: ``"undeclared": true`` or ``"kept": true``."""
    item: dict[str, Any] = {"symbol": change.symbol, "from": change.before, "to": change.after}
    return item if change.kind is ChangeKind.SWAPPED else {**item, change.kind.value: True}


def _fault(fault: Fault) -> dict[str, Any]:
    everything = {
        "signal": fault.signal,
        "function": fault.function,
        "at": fault.at,
        "thread": fault.thread,
        "address": fault.address,
        "restored": fault.restored,
    }
    return {key: value for key, value in everything.items() if value}


def rfc3339(when: float) -> str:
    """A moment in seconds since the epoch as UTC with milliseconds: ``2026-01-31T09:30:00.250Z``."""
    moment = datetime.fromtimestamp(when, tz=timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
