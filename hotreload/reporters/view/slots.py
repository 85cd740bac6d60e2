"""The table of slots, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hotreload.meter import BUCKETS, HostView
from hotreload.model import Module, Record, SlotRecord, SlotState
from hotreload.reporters.panes import Pane
from hotreload.reporters.screen import Line, Run, cut, cut_middle, left, right, width_of, wrap
from hotreload.reporters.view.child import exit_text
from hotreload.reporters.view.scene import Scene
from hotreload.reporters.wording import clean, count, module_title
from hotreload.session import BuildPhase, State

_LEVELS = "▁▂▃▄▅▆▇"
_UNCALLED_SECONDS = 3.0  # after a swap; then a slot that nobody calls says so
_SIGNS = {
    SlotState.FALLBACK: ("faint", "○"),
    SlotState.LIVE: ("good", "●"),
    SlotState.PROBATION: ("warn", "◆"),
    SlotState.UNDECLARED: ("warn", "?"),
}


def sparkline(history: Sequence[float], width: int) -> str:
    """The last BUCKETS seconds in ``width`` cells, newest right: blank where nothing is known, a dot for no calls.

    The highest bar is 7/8 of a cell, so that the lines of two busy slots do not melt into a wall, and a steady speed is
    drawn at half height, so that a change shows in either direction.
    """
    group = -(-BUCKETS // width)
    known = [max(history[max(0, end - group) : end]) for end in range(len(history), 0, -group)][:width][::-1]
    highest = max(known, default=0.0)
    if highest <= 0:
        return ("·" * len(known)).rjust(width)
    scale = (len(_LEVELS) - 1) / max(highest, 1.5 * sum(known) / len(known))
    return "".join("·" if speed <= 0 else _LEVELS[round(speed * scale)] for speed in known).rjust(width)


@dataclass(frozen=True, slots=True)
class _Columns:
    slot: int
    version: int
    module: int
    full_module: bool
    state: int
    spark: int
    counts: bool
    gap: int


def slot_pane(scene: Scene, inner: int) -> Pane:
    view, ui = scene.view, scene.ui
    if view is None:
        lines = _no_host(scene, inner)
        return Pane([("title", "slots")], [], 0, 2, len(lines), 99, lambda rows: lines)
    slots = view.snapshot.slots
    shown = f"{len(scene.rows)} of {len(slots)}" if ui.filter else f"{len(slots)}"
    note: list[Run] = [("faint", "sort "), ("", ui.sort.value)]
    if ui.filter:
        note += [("frame", " · "), ("faint", "filter "), ("", cut(clean(ui.filter), 20))]
    title = [("title", "slots "), ("", shown)]
    if not scene.rows:
        text = f"No slot contains '{clean(ui.filter)}'." if ui.filter else "This host has declared no slots yet."
        return Pane(title, note, 0, 1, 1, 99, lambda rows: [[("faint", text)]])
    wanted = len(scene.rows) + 1
    return Pane(title, note, 0, 3, min(wanted, 9), wanted, lambda rows: _table(scene, view, inner, rows))


def _no_host(scene: Scene, inner: int) -> list[Line]:
    texts = _awaited(scene.state)
    lines: list[Line] = []
    for text in texts:
        parts = [text] if text.startswith(" ") else wrap(text, inner, 3)
        lines += [[("faint" if lines else "strong", part)] for part in parts]
    return lines


def _awaited(state: State) -> list[str]:
    """What is waited for, and what can be done about it."""
    child, build = state.child, state.build
    if child is None:
        return [
            "Waiting for a host. A running one is found by itself, and a new one as soon as it starts.",
            "A host is a program that declares slots and calls hr_serve(). To start one from here:",
            "    hotreload watch PATH -- ./program, or host in hotreload.toml",
        ]
    command = clean(" ".join(child.command))
    if child.exit_code is not None:
        ended = f"{command} {exit_text(child.exit_code)}; its last words are below."
        return [ended, *["h starts it again."] * state.restart]
    if child.pid:
        return [f"{command} runs, and has not called hr_serve() yet."]
    if build and build.phase is BuildPhase.FAILED:
        return [f"{command} starts after the first good build."]
    return [f"{command} starts when it is built."]


def _table(scene: Scene, view: HostView, inner: int, height: int) -> list[Line]:
    slots, visible = view.snapshot.slots, max(1, height - 1)
    at = scene.rows.index(scene.selected) if scene.selected is not None else 0
    first = max(0, min(at - visible // 2, len(scene.rows) - visible))
    rows = scene.rows[first : first + visible]
    columns = _columns([slots[row] for row in rows], inner, scene.now)
    above, below = first, len(scene.rows) - first - len(rows)
    more = f" ↑{above}" * bool(above) + f" ↓{below}" * bool(below)
    return [_heading(columns, more), *(_slot_line(scene, view, row, columns) for row in rows)]


def _columns(slots: Sequence[SlotRecord], inner: int, now: float) -> _Columns:
    """Widths by what is visible. Room goes first to the names, then to the modules' names, then to the sparkline."""
    gap = 2 if inner >= 90 else 1
    name = max(12, max(width_of(clean(slot.symbol)) for slot in slots))
    version = max(3, max(len(str(slot.version)) + 1 for slot in slots))
    state = max(8, max(len(_state_text(slot, now)) + 2 for slot in slots))
    full = max(width_of(module_text(slot)) for slot in slots)
    counts = inner >= 76
    module = 8 if inner >= 70 else 0
    fixed = 2 + gap + version + (gap + module if module else 0) + gap + state + gap + 7 + (3 * gap + 15) * counts
    spare = inner - fixed - min(name, 14)
    longer = max(0, min(name, 18) - 14)
    spark = next((size for size in (15, 10, 8) if spare >= gap + size + (size == 15) * longer), 0)
    spare -= gap + spark if spark else 0
    slot = min(name, min(name, 14) + max(0, spare))
    spare = inner - fixed - (gap + spark if spark else 0) - slot
    if module and full > module and spare >= full - module:
        spare -= full - module
        module = full
    if spark and spare >= BUCKETS - spark:
        spark, spare = BUCKETS, spare - (BUCKETS - spark)
    return _Columns(slot + max(0, spare), version, module, module == full, state, spark, counts, gap)


def _heading(columns: _Columns, more: str) -> Line:
    gap = " " * columns.gap
    parts = ["  " + left(f"SLOT{more}", columns.slot), right("VER", columns.version)]
    parts += [left("MODULE", columns.module)] * bool(columns.module)
    parts += [left("STATE", columns.state), right("CALLS/S", 7)]
    parts += [left("LAST 30 S" if columns.spark > 8 else "30 S", columns.spark)] * bool(columns.spark)
    parts += [right("TOTAL", 6), right("ON VER", 6), right("IN", 3)] * columns.counts
    return [("faint", gap.join(parts))]


def _slot_line(scene: Scene, view: HostView, row: int, columns: _Columns) -> Line:
    slot, snapshot = view.snapshot.slots[row], view.snapshot
    chosen = row == scene.selected
    tone, sign = ("warn", "◌") if _is_uncalled(slot, scene.now) else _SIGNS[slot.state]
    if is_rejected(slot, scene.state.rejection):
        tone, sign = "bad", "✗"
    gap = " " * columns.gap
    runs: list[Run] = [
        ("cursor", "▸ " if chosen else "  "),
        ("cursor" if chosen else "", left(cut_middle(clean(slot.symbol), columns.slot), columns.slot)),
        ("strong" if slot.version else "faint", gap + right(f"v{slot.version}", columns.version)),
    ]
    if columns.module:
        text = module_text(slot) if columns.full_module else slot.module.short_id if slot.module else "built in"
        runs.append(("" if slot.module else "faint", gap + left(text, columns.module)))
    runs.append((tone, f"{gap}{sign} "))
    runs.append((tone if tone != "bad" else "", left(_state_text(slot, scene.now), columns.state - 2)))
    rate = rate_text(scene, row)
    runs.append(("faint" if rate in ("idle", "-") else "strong", gap + right(rate.removesuffix("/s"), 7)))
    if columns.spark:
        history = view.meter.history(row)
        tone = "spark" if scene.alive and any(history) else "faint"
        runs.append((tone, gap + sparkline(history, columns.spark)))
    if columns.counts:
        counts = (count(snapshot.calls[row]), count(snapshot.calls_on_version(row)))
        runs.append(("", "".join(gap + right(text, 6) for text in counts)))
        inside = snapshot.in_flight[row]
        runs.append(("strong" if inside else "faint", gap + right(str(inside), 3)))
    return runs


def _is_uncalled(slot: SlotRecord, now: float) -> bool:
    return slot.unproven and slot.state is SlotState.LIVE and now - slot.swapped_at > _UNCALLED_SECONDS


def _state_text(slot: SlotRecord, now: float) -> str:
    return "uncalled" if _is_uncalled(slot, now) else slot.state.value


def module_text(slot: SlotRecord) -> str:
    return module_title(slot.module) if slot.module else "built in"


def rate_text(scene: Scene, row: int) -> str:
    if scene.view is None or not scene.alive:
        return "-"
    rate = scene.view.meter.rate(row)
    return f"{count(rate)}/s" if rate > 0 else "idle"


def is_rejected(slot: SlotRecord, rejection: Record | None) -> bool:
    """Whether the pinned rejection was about this slot: named by it, or of the same module."""
    if rejection is None:
        return False
    if rejection.changes:
        return any(item.symbol == slot.symbol for item in rejection.changes)
    refused = rejection.module
    return bool(refused and slot.module and _same_module(refused, slot.module))


def _same_module(one: Module, other: Module) -> bool:
    return (bool(one.name) and one.name == other.name) or (bool(one.path) and one.path == other.path)
