"""The pane of the selected slot: what runs, since when, what ran before."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from hotreload.meter import BUCKETS, HostView
from hotreload.model import Change, EventKind, Record, SlotRecord, SlotState
from hotreload.reporters.panes import Pane, label
from hotreload.reporters.screen import Line, Run, cut_middle, cut_start
from hotreload.reporters.view.events import tone_of
from hotreload.reporters.view.scene import Scene
from hotreload.reporters.view.slots import module_text
from hotreload.reporters.wording import call_times, clean, clock, count, module_title, plural, step_times, took

_SEARCHED = 40  # records looked through for a slot's past: one record may name thousands of slots


def detail_pane(scene: Scene, inner: int) -> Pane | None:
    if scene.view is None or scene.selected is None:
        return None
    slot = scene.view.snapshot.slots[scene.selected]
    past = past_of(scene, slot)
    lines = facts_of(scene, scene.view, scene.selected, slot, past, inner)
    if scene.ui.details:
        lines += _history(scene, slot, past)
    title: list[Run] = [("title", cut_middle(clean(slot.symbol), inner // 2))]
    followed = scene.ui.selected is None
    note: list[Run] = [("faint", "newest swap" if followed and slot.swaps else f"slot {slot.index}")]
    rank, least = (1, min(6, len(lines))) if scene.ui.details else (3, 2)
    return Pane(title, note, rank, least, len(lines), len(lines), lambda rows: lines)


def facts_of(
    scene: Scene, view: HostView, row: int, slot: SlotRecord, past: Sequence[tuple[Record, Change]], inner: int
) -> list[Line]:
    snapshot = view.snapshot
    since = f"  since {clock(slot.swapped_at)}, {scene.ago(slot.swapped_at)}" if slot.swaps else "  since the start"
    runs: list[Run] = [label("runs"), ("strong", f"v{slot.version}  {module_text(slot)}"), ("", since)]
    lines: list[Line] = [runs, _called(scene, view, row, slot)]
    if len(snapshot.times) > row and (text := call_times(*snapshot.times[row])):
        lines.append([label("took"), ("", text)])
    lines.append([label("versions"), *_chain(slot, past, inner - 10)])
    if past and past[-1][0].us:
        last = past[-1][0]
        lines.append([label("last"), ("", f"{last.kind.value} in {took(last)}"), ("faint", f"  {step_times(last)}")])
    if slot.module and slot.module.path:
        lines.append([label("file"), ("faint", cut_start(clean(slot.module.path), inner - 10))])
    if slot.state is SlotState.UNDECLARED:
        lines.insert(1, [label("note", "warn"), ("warn", "no host slot declares this symbol: a typo in the module?")])
    if len(snapshot.in_flight) > row and snapshot.in_flight[row] and scene.ui.details:
        lines.append([label("inside"), ("", plural(snapshot.in_flight[row], "thread"))])
    return lines


def _called(scene: Scene, view: HostView, row: int, slot: SlotRecord) -> Line:
    """Whether the slot's current version is being called."""
    snapshot = view.snapshot
    on_version = snapshot.calls_on_version(row)
    rate = view.meter.rate(row) if scene.alive else 0.0
    history = view.meter.history(row)
    if rate > 0:
        now: Run = ("accent", f"{count(rate)} calls/s")
    elif not scene.alive:
        now = ("faint", "host gone")
    elif not on_version:
        now = ("warn", "not called since the swap" if slot.swaps else "never called")
    else:
        quiet = next((age for age, speed in enumerate(reversed(history)) if speed > 0), len(history))
        now = ("faint", f"not called for {quiet} s" if quiet < BUCKETS else f"not called for {BUCKETS} s or more")
    threads = plural(snapshot.in_flight[row], "thread") + " inside now"
    rest = f"  {on_version:,} on this version, {snapshot.calls[row]:,} in all, {threads}"
    return [label("called"), now, ("", rest)]


def past_of(scene: Scene, slot: SlotRecord) -> list[tuple[Record, Change]]:
    """The remembered commits of this host that changed the slot, oldest first."""
    found: list[tuple[Record, Change]] = []
    searched = 0
    for record in chain(reversed(scene.state.records), reversed(scene.state.cleared)):
        if searched >= _SEARCHED or len(found) >= slot.swaps:
            break
        if record.kind not in (EventKind.SWAP, EventKind.ROLLBACK, EventKind.CRASH) or not record.changes:
            continue
        if record.host and record.host.pid != scene.pid:
            continue
        searched += 1
        found += [(record, item) for item in record.changes if item.symbol == slot.symbol and item.after != item.before]
    return found[::-1]


def _chain(slot: SlotRecord, past: Sequence[tuple[Record, Change]], width: int) -> list[Run]:
    """``v0 built in › v1 0be2aa01 › [v2 a1f3c09e]``: the current one in brackets, the oldest cut first."""
    steps_back = [f"v{item.after} {_what_ran(record)}" for record, item in past if item.after != slot.version]
    if past and past[0][1].before == 0:
        steps_back.insert(0, "v0 built in")
    elif slot.version and not steps_back:
        steps_back.insert(0, "v0 built in" + (" › …" if slot.version > 1 else ""))
    elif slot.version:
        steps_back.insert(0, "…")
    current = f"[v{slot.version} {slot.module.short_id if slot.module else 'built in'}]"
    while len(steps_back) > 1 and sum(map(len, steps_back)) + 3 * len(steps_back) + len(current) > width:
        steps_back = ["…", *steps_back[2:]]
    return [("faint", "".join(f"{step} › " for step in steps_back)), ("strong", current)]


def _what_ran(record: Record) -> str:
    if record.kind is not EventKind.SWAP:
        return "rolled back"
    return record.module.short_id if record.module else "swap"


def _history(scene: Scene, slot: SlotRecord, past: Sequence[tuple[Record, Change]]) -> list[Line]:
    lines: list[Line] = [[("faint", "history")]]
    for record, item in reversed(past):
        title = module_title(record.module) if record.module else ""
        lines.append(
            [
                ("faint", f"{clock(record.time)}  "),
                (tone_of(record), f"{record.kind.value:<9}"),
                ("", f"v{item.before}→v{item.after}  {title}  "),
                ("strong", took(record)),
                ("faint", f"  {step_times(record)}"),
            ]
        )
    if len(past) < slot.swaps:
        lines.append([("faint", f"and {plural(slot.swaps - len(past), 'earlier change')}, no longer remembered")])
    elif not past:
        lines.append([("faint", "never changed")])
    return lines
