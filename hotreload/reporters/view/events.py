"""The pane of events."""

from __future__ import annotations

from collections.abc import Sequence

from hotreload.model import Change, EventKind, Record
from hotreload.reporters.panes import Pane
from hotreload.reporters.screen import Line, Run, cells, cut_middle, spread, width_of, wrap
from hotreload.reporters.view.scene import Scene
from hotreload.reporters.wording import (
    LOUD,
    change,
    changes,
    clean,
    clock,
    failure_code,
    plural,
    step_times,
    took,
    what,
)

_TONES = {
    EventKind.ATTACH: "accent",
    EventKind.DETACH: "warn",
    EventKind.SWAP: "good",
    EventKind.REJECT: "bad",
    EventKind.ROLLBACK: "warn",
    EventKind.CRASH: "bad",
    EventKind.LAYOUT: "bad",
    EventKind.CALLED: "good",
    EventKind.SAME: "faint",
    EventKind.NOTE: "faint",
    EventKind.CANDIDATE: "faint",
}


def event_pane(scene: Scene, inner: int) -> Pane:
    records, scroll = scene.state.records, min(scene.ui.scroll, max(0, len(scene.state.records) - 1))
    several = len(scene.state.hosts) > 1
    nothing = "nothing has happened since they were cleared" if scene.state.cleared else "nothing has happened yet"

    def draw(rows: int) -> list[Line]:
        shown = records[max(0, len(records) - scroll - rows) : len(records) - scroll]
        lines = [_event_line(record, inner, several) for record in shown[:-1]]
        lines += _newest_event(shown[-1], inner, several, rows) if shown else [[("faint", nothing)]]
        return lines[-rows:]

    note: list[Run] = [("warn", f"{scroll} newer below")] if scroll else [("faint", "newest last")]
    return Pane([("title", "events")], note, 2, 2, min(6, max(2, len(records))), max(2, len(records)), draw)


def _newest_event(record: Record, inner: int, several: bool, rows: int) -> list[Line]:
    """The last event, and all of it when it is a note: the others have been read."""
    start, text = _event_start(record, several), what(record)
    if record.kind is not EventKind.NOTE or cells(start) + width_of(text) <= inner:
        return [_event_line(record, inner, several)]
    indent = min(cells(start), 10)
    first = wrap(text, max(8, inner - cells(start)), 99)[0]
    more = wrap(text[len(first) :], max(8, inner - indent), max(1, rows - 1))
    return [[*start, ("", first)], *([("", " " * indent + rest)] for rest in more)]


def _event_start(record: Record, several: bool) -> list[Run]:
    """When, what kind, in which host, with which code."""
    kind = record.kind.value.upper() if record.kind in LOUD else record.kind.value
    start: list[Run] = [("faint", clock(record.time) + "  "), (tone_of(record), f"{kind:<9} ")]
    if several and record.host and record.kind not in (EventKind.ATTACH, EventKind.DETACH):
        start.append(("accent", f"{cut_middle(clean(record.host.name), 12)} {record.host.pid}  "))
    if code := failure_code(record):
        start.append(("bad", f"{code}  "))
    return start


def _event_line(record: Record, inner: int, several: bool) -> Line:
    start = _event_start(record, several)
    start.append(("faint" if tone_of(record) == "faint" else "", what(record)))
    spent, parts = took(record), step_times(record)
    room = inner - cells(start) - (width_of(spent) + 2 if spent else 0)
    slots = _slots_text(record.changes, room - (len(parts) + 2 if parts else 0), room)
    body: list[Run] = [*start, ("", f"  {slots}" if slots else "")]
    end: list[Run] = [("strong", f"  {spent}")] if spent else []
    if parts and cells(body) + cells(end) + len(parts) + 2 <= inner:
        end.insert(0, ("faint", f"  {parts}"))
    return spread(body, end, inner)


def _slots_text(items: Sequence[Change], beside: int, alone: int) -> str:
    """The slots of a commit, as fully as they fit beside the step times, or at least alone."""
    if not items:
        return ""
    short = plural(len(items), "slot")
    texts = [changes(items), changes(items, 1), short] if len(items) > 1 else [change(items[0])]
    for room in (beside, alone):
        for text in texts:
            if width_of(text) + 2 <= room:
                return text
    return texts[-1]


def tone_of(record: Record) -> str:
    if record.kind is EventKind.BUILD:
        return "bad" if failure_code(record) else ""
    return _TONES.get(record.kind, "")
