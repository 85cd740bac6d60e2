"""The dashboard's picture of a session: ``render(state, hosts, ui, width, height, now) -> Screen``. Pure, no terminal.

Three forms, and never a refusal: the full one from 80 x 20, a compact one below, one line of facts below 40 x 6.
Only what is visible is turned into text, so a host with thousands of slots costs what its visible rows cost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from hotreload.meter import BUCKETS, HostView
from hotreload.model import Change, EventKind, LayoutRow, Module, Problem, Record, SlotRecord, SlotState, WatchMode
from hotreload.reporters.layouts import comparison_lines
from hotreload.reporters.panes import LABEL, Pane, label, labelled, rule, share
from hotreload.reporters.screen import (
    Line,
    Run,
    Screen,
    cells,
    cut,
    cut_middle,
    cut_start,
    fit,
    fold,
    left,
    right,
    spread,
    width_of,
    wrap,
)
from hotreload.reporters.sgr import runs as coloured
from hotreload.reporters.ui import Sort, Ui, bindings, focus, ordered, press, problems_shown, selected_row
from hotreload.reporters.wording import (
    LOUD,
    call_times,
    change,
    changes,
    clean,
    clock,
    count,
    failure_code,
    module_title,
    outcome,
    residents,
    span,
    step_times,
    took,
    uptime,
    what,
)
from hotreload.session import Build, BuildPhase, HostState, State

__all__ = ["HostView", "Sort", "Ui", "press", "render", "sparkline"]

FULL = (80, 20)
COMPACT = (40, 6)
_LEVELS = "▁▂▃▄▅▆▇"
_UNCALLED_SECONDS = 3.0  # after a swap; then a slot that nobody calls says so
_SEARCHED = 40  # records looked through for a slot's past: one record may name thousands of slots

_SIGNS = {
    SlotState.FALLBACK: ("faint", "○"),
    SlotState.LIVE: ("good", "●"),
    SlotState.PROBATION: ("warn", "◆"),
    SlotState.UNDECLARED: ("warn", "?"),
}
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


@dataclass(frozen=True, slots=True)
class Scene:
    """What one frame shows, looked up once."""

    state: State
    hosts: Mapping[int, HostView]
    ui: Ui
    now: float
    pid: int | None
    host: HostState | None
    view: HostView | None
    rows: Sequence[int]
    selected: int | None

    @property
    def alive(self) -> bool:
        return self.view is not None and self.view.snapshot.alive and (self.host is None or self.host.attached)

    def ago(self, when: float) -> str:
        return f"{span(self.now - when)} ago"


def render(state: State, hosts: Mapping[int, HostView], ui: Ui, width: int, height: int, now: float) -> Screen:
    """The frame for a terminal of ``width`` by ``height`` cells; ``now`` in seconds since the epoch."""
    scene = _look_up(state, hosts, ui, now)
    if width < COMPACT[0] or height < COMPACT[1]:
        lines = _tiny(scene, width, height)
    elif width < FULL[0] or height < FULL[1]:
        lines = _compact(scene, width, height)
    else:
        lines = _full(scene, width, height)
    lines += [[] for _ in range(height - len(lines))]
    return Screen(tuple(tuple(fit(line, width)) for line in lines[: max(0, height)]), width)


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


def _look_up(state: State, hosts: Mapping[int, HostView], ui: Ui, now: float) -> Scene:
    pid = focus(state, hosts, ui)
    view = hosts.get(pid) if pid is not None else None
    rows = ordered(view, ui) if view else []
    selected = selected_row(view, ui, rows) if view else None
    host = state.hosts.get(pid) if pid is not None else None
    return Scene(state, hosts, ui, now, pid, host, view, rows, selected)


# ---- the three forms ----


def _full(scene: Scene, width: int, height: int) -> list[Line]:
    inner = width - 4
    lines: list[Line] = [rule("╭", _title(scene), _standing(scene), "╮", width)]
    lines += [_boxed(line, inner) for line in _header(scene, inner)]
    room = height - len(lines) - 2
    panes = _help_panes(scene, inner, room - 1) if scene.ui.help else _panes(scene, inner, compact=False)
    for pane, rows in share(panes, room):
        lines.append(rule("├", pane.title, pane.note, "┤", width, pane.tone))
        body = pane.draw(rows)[:rows]
        body += [[] for _ in range(rows - len(body))]
        lines += [_boxed(line, inner, pane.tone) for line in body]
    while len(lines) < height - 2:
        lines.append(_boxed([], inner))
    lines.append(rule("╰", _generation(scene), _tally(scene), "╯", width))
    lines.append(_footer(scene, width))
    return lines


def _compact(scene: Scene, width: int, height: int) -> list[Line]:
    lines: list[Line] = [spread(_title(scene), _standing(scene), width)]
    if height >= 8:
        lines += islice(_header(scene, width, brief=True), 2)
    room = height - len(lines) - 1
    panes = _help_panes(scene, width, room - 1) if scene.ui.help else _panes(scene, width, compact=True)
    for pane, rows in share(panes, room):
        lines.append(rule("─", pane.title, pane.note, "─", width, pane.tone))
        body = pane.draw(rows)[:rows]
        lines += body + [[] for _ in range(rows - len(body))]
    lines += [[] for _ in range(height - 1 - len(lines))]
    lines.append(_footer(scene, width))
    return lines


def _tiny(scene: Scene, width: int, height: int) -> list[Line]:
    """The most important fact first, as one line may be all there is. Help and details take the place of the rest."""
    lines: list[Line] = _tiny_facts(scene, width, height)
    if scene.ui.help:
        lines, _ = _page(_help_lines(scene, width), scene.ui.help_page, height - 1)
    if height > 1 and (scene.ui.help or scene.ui.details or height > len(lines)):
        lines = lines[: height - 1]
        lines += [[] for _ in range(height - 1 - len(lines))]
        lines.append(_footer(scene, width))
    return lines


def _tiny_facts(scene: Scene, width: int, height: int) -> list[Line]:
    state, lines = scene.state, list[Line]()
    if state.rejection:
        code = failure_code(state.rejection) or "REJECTED"
        lines.append([("bad", f"✗ {code} "), ("", _rejected_name(state.rejection))])
    if state.build and state.build.phase is BuildPhase.FAILED and state.build.problems:
        problem = problems_shown(scene.ui, state.build)[0]
        place = f"{Path(problem.path).name}:{problem.line} " if problem.path else ""
        lines.append([("bad", f"✗ {place}"), ("", clean(problem.message))])
    lines.append(_tiny_status(scene))
    if scene.view and scene.selected is not None:
        slot = scene.view.snapshot.slots[scene.selected]
        if scene.ui.details:
            return lines + _facts(scene, scene.view, scene.selected, slot, _past(scene, slot), width)
        rate = _rate_text(scene, scene.selected)
        spark = sparkline(scene.view.meter.history(scene.selected), 6)
        room = width - width_of(rate) - 8
        lines.append([("strong", cut_middle(clean(slot.symbol), room)), ("", f" {rate} "), ("spark", spark)])
    # Newest first, and no mere retirement: it follows every swap and would hide it.
    told = (record for record in reversed(state.records) if record.kind is not EventKind.RETIRE or record.reason)
    for record in islice(told, max(1, height - 1 - len(lines))):
        kind: Run = (_tone(record), record.kind.value)
        lines.append([("faint", clock(record.time) + " "), kind, ("", f" {what(record)}")])
    return lines


def _tiny_status(scene: Scene) -> Line:
    if scene.host is None and scene.view is None:
        return [("warn", "○ waiting for a host")]
    newest = _newest_slot(scene)
    runs = f"{clean(newest.module.name)} v{newest.module.version}" if newest and newest.module else "built-in code"
    if not scene.alive:
        return [("bad", "✗ gone "), ("", f"ran {runs}")]
    paused: list[Run] = [("warn", "PAUSED ")] if scene.state.paused else []
    sign: Run = ("good", "● ") if newest and newest.module else ("faint", "○ ")
    return [*paused, sign, ("", f"{runs} {_calls_a_second(scene)}")]


# ---- header and footer ----


def _title(scene: Scene) -> list[Run]:
    runs: list[Run] = [("name", "hotreload")]
    host = scene.host.host if scene.host else scene.view.snapshot.host if scene.view else None
    if host:
        runs += [("frame", " · "), ("title", cut_middle(clean(host.name), 28)), ("", f"  pid {host.pid}")]
        if host.started and scene.alive:
            runs.append(("", f"  up {uptime(scene.now - host.started)}"))
    return runs


def _standing(scene: Scene) -> list[Run]:
    runs: list[Run] = []
    if scene.state.paused:
        runs += [("warn", f"▮▮ PAUSED, {scene.state.held} held"), ("frame", " · ")]
    if scene.host is None and scene.view is None:
        return [*runs, ("warn", "○ waiting for a host")]
    if scene.alive:
        return [*runs, ("good", "● attached")]
    since = f" since {clock(scene.host.since)}" if scene.host and scene.host.since else ""
    return [*runs, ("bad", f"✗ host gone{since}")]


def _header(scene: Scene, width: int, brief: bool = False) -> list[Line]:
    lines: list[Line] = []
    if scene.view is not None and not scene.alive:
        why = clean(scene.host.gone) if scene.host and scene.host.gone else "the host exited"
        lines.append([label("gone", "bad"), ("bad", why), ("", ". Below is its last known state.")])
    if brief and scene.view is not None:
        lines.append(_runs(scene, width))
        build = scene.state.build
        # The pane of compile errors says in its title that the build has failed.
        if build and (build.phase is BuildPhase.RUNNING or (build.phase is BuildPhase.FAILED and not build.problems)):
            lines.append([label("build"), *_build_state(build, scene.now, named=False)])
        return lines
    build_runs = _build_state(scene.state.build, scene.now, named=width >= 90)
    if build_runs:
        build_runs = [("faint", "  build  "), *build_runs]
    lines.append(spread(_watching(scene, width - cells(build_runs)), build_runs, width))
    lines.append(_runs(scene, width))
    if len(scene.state.hosts) > 1:
        lines.append(_strip(scene, width))
    if scene.view and scene.view.snapshot.blocked:
        lines.append([label("waiting", "warn"), ("warn", clean(scene.view.snapshot.blocked))])
    if scene.view and scene.view.snapshot.residents.too_many:
        lines.append([label("resident", "warn"), ("warn", residents(scene.view.snapshot.residents))])
    return lines


def _watching(scene: Scene, width: int) -> Line:
    runs: list[Run] = [label("watching")]
    directories = scene.state.directories
    if not directories:
        runs.append(("warn", "no directory"))
    room = max(8, (width - 10) // max(1, min(2, len(directories))) - 11)
    # A directory that is missing may be a typing error: it is never among those that are only counted.
    for place in sorted(directories, key=lambda place: place.mode is not WatchMode.WAITING)[:2]:
        runs.append(("strong", cut_start(clean(str(place.path)), room)))
        if place.mode is WatchMode.WAITING:
            runs.append(("warn", " not there yet"))
        else:
            runs.append(("faint", f" {place.mode.value}"))
        runs.append(("", "  "))
    if len(directories) > 2:
        runs.append(("faint", f"and {len(directories) - 2} more  "))
    if scene.state.settling:
        runs.append(("warn", f"settling {clean(scene.state.settling[0].name)}"))
    return runs


def _build_state(build: Build | None, now: float, *, named: bool) -> list[Run]:
    if build is None:
        return []
    command = cut(clean(build.command), 24) if named else ""
    if build.phase is BuildPhase.RUNNING:
        return [("warn", f"▸ running {span(now - build.started)}"), ("faint", f"  {command}".rstrip())]
    if build.phase is BuildPhase.FAILED:
        return [("bad", f"✗ failed, exit {build.exit_code}"), ("faint", f"  {clock(build.started + build.seconds)}")]
    if build.phase is BuildPhase.OK:
        done = f"✓ ok {build.seconds:.2f} s"
        return [("good", done), ("faint", f"  {clock(build.started + build.seconds)}  {command}".rstrip())]
    return [("faint", f"not run yet  {command}".rstrip())]


def _runs(scene: Scene, width: int) -> Line:
    """What runs now, since when, and whether it is called."""
    if scene.view is None:
        return [label("runs"), ("faint", "nothing yet: no host is attached")]
    slots = scene.view.snapshot.slots
    newest = _newest_slot(scene)
    # Each with its importance: what does not fit is left out whole, least important first.
    facts: list[tuple[int, Run]] = []
    if newest is None:
        facts.append((0, ("strong", "built-in code")))
        facts.append((2, ("", f"  in all of {_plural(len(slots), 'slot')}")))
    else:
        others = sum(1 for item in scene.view.snapshot.modules if item.state == "live") - 1
        title = module_title(newest.module) if newest.module else "built-in code"
        facts.append((0, ("strong", cut_middle(title, width - LABEL))))
        facts.append((4, ("faint", f" and {others} more" if newest.module and others > 0 else "")))
        facts.append((4, ("warn", "" if newest.module else "  rolled back")))
        facts.append((2, ("", f"  since {clock(newest.swapped_at)}")))
        facts.append((3, ("", f", {scene.ago(newest.swapped_at)}")))
    if scene.alive:
        facts.append((1, ("accent", f"  {_calls_a_second(scene)}")))
    if newest is not None:
        patched = sum(1 for slot in slots if slot.module is not None)
        facts.append((5, ("faint", f"  {patched} of {len(slots)} slots patched")))
    room = width - LABEL
    kept: set[int] = set()
    for index in sorted(range(len(facts)), key=lambda index: facts[index][0]):
        wide = width_of(facts[index][1][1])
        if wide > room:
            break
        room -= wide
        kept.add(index)
    return [label("runs" if scene.alive else "ran"), *(fact for index, (_, fact) in enumerate(facts) if index in kept)]


def _strip(scene: Scene, width: int) -> Line:
    """All hosts in one line; the focused one has the cursor."""
    known = list(scene.state.hosts.values())
    at = next((index for index, item in enumerate(known) if item.host.pid == scene.pid), 0)
    runs: list[Run] = [label("hosts")]
    first = max(0, min(at - 1, len(known) - 4))
    if first:
        runs.append(("faint", f"{first} more  "))
    for item in known[first:]:
        sign: Run = ("good", "● ") if item.attached else ("bad", "✗ ")
        focused = item.host.pid == scene.pid
        name = cut_middle(clean(item.host.name), 16)
        piece: list[Run] = [("cursor", "▸" if focused else " "), sign, ("strong" if focused else "", name)]
        piece.append(("faint", f" {item.host.pid}{'' if item.attached else ' gone'}  "))
        if cells(runs) + cells(piece) > width - 8:
            return [*runs, ("faint", f"+{len(known) - known.index(item)} more")]
        runs += piece
    return runs


def _generation(scene: Scene) -> list[Run]:
    return [("faint", f"generation {scene.view.snapshot.generation}")] if scene.view else []


def _tally(scene: Scene) -> list[Run]:
    state = scene.state
    runs: list[Run] = [("good" if state.swaps else "faint", _plural(state.swaps, "swap")), ("frame", " · ")]
    runs += [("badly" if state.rejections else "faint", f"{state.rejections} rejected"), ("frame", " · ")]
    return [*runs, ("warn" if state.rollbacks else "faint", _plural(state.rollbacks, "rollback"))]


def _footer(scene: Scene, width: int) -> Line:
    """The keys valid now; whole ones only."""
    runs: list[Run] = [("", " ")]
    if scene.ui.filtering:
        runs += [("key", "/"), ("input", clean(scene.ui.filter) + " "), ("", "  ")]
    for binding in bindings(scene.ui, scene.state, scene.hosts, scene.rows):
        piece = [("key", binding.sign), ("faint", f" {binding.label}  ")]
        if binding.shown and cells(runs) + cells(piece) - 2 <= width:
            runs += piece
    return [*runs[:-1], (runs[-1][0], runs[-1][1].rstrip())]


# ---- panes ----


def _panes(scene: Scene, inner: int, compact: bool) -> list[Pane]:
    """The panes of a frame from top to bottom; those with the smaller rank keep their place when rows run short."""
    found = [
        _slot_pane(scene, inner),
        _rejection_pane(scene, inner),
        _build_pane(scene, inner),
        _detail_pane(scene, inner) if not compact or scene.ui.details else None,
        _child_pane(scene, inner),
        _event_pane(scene, inner),
    ]
    return [pane for pane in found if pane]


def _help_panes(scene: Scene, width: int, rows: int) -> list[Pane]:
    lines, where = _page(_help_lines(scene, width), scene.ui.help_page, rows)
    note: list[Run] = [("faint", f"{where}  ↓ next")] if where else []
    return [Pane([("title", "help")], note, 0, 1, len(lines), len(lines), lambda rows: lines[:rows])]


def _page(lines: list[Line], number: int, rows: int) -> tuple[list[Line], str]:
    """The page with that number, and which one it is when there are several."""
    if len(lines) <= rows or rows < 1:
        return lines, ""
    pages = -(-len(lines) // rows)
    at = number % pages
    start = min(at * rows, len(lines) - rows)
    return lines[start : start + rows], f"page {at + 1} of {pages}"


def _explained(tone: str, term: str, column: int, text: str, width: int) -> list[Line]:
    """A term and what it means, in as many lines as that takes."""
    first, *more = wrap(text, max(8, width - column), 9)
    return [[(tone, f"{term:<{column}}"), ("", first)], *([("", " " * column + rest)] for rest in more)]


def _help_lines(scene: Scene, width: int) -> list[Line]:
    started = "; the host started here ends, others go on" if scene.state.child else "; hosts go on as they are"
    keys = (
        ("q", f"quit{started}"),
        ("↑ ↓  j k", "select a slot; Esc goes back to the newest swap"),
        ("Enter", "the selected slot's history"),
        ("b", "roll back: commit the previous code again, and quarantine this one"),
        ("p", "pause: hold new modules until pressed again"),
        ("r", "run the build command now (with --build, or dev)"),
        ("e  n", "open a compile error in your editor; show the next one first"),
        ("h", "start the host again (with dev)"),
        ("s", "sort by name, calls/s, total, newest swap"),
        ("/", "filter: show only slots whose name contains a text"),
        ("Tab", "next host"),
        ("PgUp PgDn", "older and newer events"),
        ("c", "clear the events"),
    )
    signs = (
        ("faint", "○ fallback", "the code built into the host"),
        ("good", "● live", "code of a module"),
        ("warn", "◆ probation", "just swapped, the guard still watches it"),
        ("warn", "◌ uncalled", "swapped, and not called since"),
        ("warn", "? undeclared", "a module brought it, no host slot declares it"),
        ("bad", "✗", "its newest module was rejected; it runs what it ran before"),
    )
    lines = [line for key, text in keys for line in _explained("key", key, 12, text, width)]
    lines.append([])
    lines += [line for tone, sign, text in signs for line in _explained(tone, sign, 14, text, width)]
    return lines


# -- slots


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


def _slot_pane(scene: Scene, inner: int) -> Pane:
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
        ended = f"{command} {_exit(child.exit_code)}; its last words are below."
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
    full = max(width_of(_module_text(slot)) for slot in slots)
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
    if _is_rejected(slot, scene.state.rejection):
        tone, sign = "bad", "✗"
    gap = " " * columns.gap
    runs: list[Run] = [
        ("cursor", "▸ " if chosen else "  "),
        ("cursor" if chosen else "", left(cut_middle(clean(slot.symbol), columns.slot), columns.slot)),
        ("strong" if slot.version else "faint", gap + right(f"v{slot.version}", columns.version)),
    ]
    if columns.module:
        text = _module_text(slot) if columns.full_module else slot.module.short_id if slot.module else "built in"
        runs.append(("" if slot.module else "faint", gap + left(text, columns.module)))
    runs.append((tone, f"{gap}{sign} "))
    runs.append((tone if tone != "bad" else "", left(_state_text(slot, scene.now), columns.state - 2)))
    rate = _rate_text(scene, row)
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


def _module_text(slot: SlotRecord) -> str:
    return module_title(slot.module) if slot.module else "built in"


def _rate_text(scene: Scene, row: int) -> str:
    if scene.view is None or not scene.alive:
        return "-"
    rate = scene.view.meter.rate(row)
    return f"{count(rate)}/s" if rate > 0 else "idle"


def _is_rejected(slot: SlotRecord, rejection: Record | None) -> bool:
    """Whether the pinned rejection was about this slot: named by it, or of the same module."""
    if rejection is None:
        return False
    if rejection.changes:
        return any(item.symbol == slot.symbol for item in rejection.changes)
    refused = rejection.module
    return bool(refused and slot.module and _same_module(refused, slot.module))


def _same_module(one: Module, other: Module) -> bool:
    return (bool(one.name) and one.name == other.name) or (bool(one.path) and one.path == other.path)


# -- the pinned rejection


def _rejection_pane(scene: Scene, inner: int) -> Pane | None:
    rejection = scene.state.rejection
    if rejection is None:
        return None
    code = failure_code(rejection)
    title: list[Run] = [("bad", f"✗ {_rejected_name(rejection)} {_verdict(rejection)}, {outcome(rejection)}")]
    when = f"{clock(rejection.time)}, {scene.ago(rejection.time)}"
    note: list[Run] = [("bad", code), ("frame.bad", " · "), ("", when)]
    if inner < 70:
        title = [("bad", f"✗ {_rejected_name(rejection)} {_verdict(rejection)}")]
        note = [("bad", code)]
    lines = _rejection_lines(scene, rejection, inner)
    least = min(4, len(lines))

    def draw(rows: int) -> list[Line]:
        if rows >= len(lines):
            return lines
        fewer = min(len(rejection.layout), _LAYOUT_ROWS) - (len(lines) - rows) - 1  # fields, and a line for the rest
        if rejection.layout and fewer > 1:
            return _rejection_lines(scene, rejection, inner, fewer)[:rows]
        return _rejection_brief(rejection, inner, rows)

    return Pane(title, note, 1, least, len(lines), len(lines), draw, "frame.bad")


def _verdict(record: Record) -> str:
    if record.kind is EventKind.LAYOUT:
        return "differs from its host"
    if record.kind is not EventKind.CRASH:
        return "rejected"
    return "hung" if record.code == "E-HANG" else "crashed"


def _rejected_name(rejection: Record) -> str:
    return module_title(rejection.module) if rejection.module else "build output"


_LAYOUT_ROWS = 10
"""Lines of a table of fields; beyond them only their number."""


def _rejection_lines(scene: Scene, rejection: Record, inner: int, fields: int = _LAYOUT_ROWS) -> list[Line]:
    lines: list[Line] = [[("strong", text)] for text in wrap(clean(rejection.reason), inner, 3)]
    if rejection.layout:
        lines += _layout_lines(rejection.layout, inner, fields)
    else:
        lines += labelled("expected", rejection.expected, inner, "good", 8)
        lines += labelled("found", rejection.found, inner, "badly", 8)
    lines += labelled("fix", _cure(rejection), inner, "", 3)
    if still := _still_runs(scene, rejection):
        lines += labelled("still", still, inner, "", 1)
    return lines


def _layout_lines(rows: Sequence[LayoutRow], inner: int, most: int) -> list[Line]:
    """The fields that differ: name, the host's side, the module's side."""
    table = comparison_lines(rows)
    shown = table[:most]
    name, side = max(len(line.name) for line in shown), (max(inner - 4, 30)) // 3
    name = min(name, side)
    lines: list[Line] = [[("faint", f"  {'':{name}}  {'host':{side}} module")]]
    for line in shown:
        tone = "badly" if line.refused else "good" if line.change else "faint"
        text = f"{line.mark or ' '} {cut(line.name, name):{name}}  {cut(line.host, side):{side}} "
        lines.append([(tone, cut(text + line.module, inner))])
    if more := len(table) - len(shown):
        lines.append([("faint", f"  {more} more lines: hotreload inspect --against")])
    return lines


def _rejection_brief(rejection: Record, inner: int, rows: int) -> list[Line]:
    """One line each: why, what was expected and found, the cure. Three rows take the difference in one."""
    lines: list[Line] = [[("strong", cut(clean(rejection.reason), inner))]]
    lines += labelled("expected", rejection.expected, inner, "good", 1)
    lines += labelled("found", rejection.found, inner, "badly", 1)
    if len(lines) == 3 and rows < 4:
        texts = (clean(rejection.expected), clean(rejection.found))
        lines[1:] = [[("faint", "expected "), ("good", texts[0]), ("faint", ", found "), ("badly", texts[1])]]
    return lines + labelled("fix", _cure(rejection), inner, "", 1)


def _cure(rejection: Record) -> str:
    """What is done about it here, where a key does what elsewhere a command does."""
    return "b rolls it back" if rejection.kind is EventKind.LAYOUT else rejection.fix


def _still_runs(scene: Scene, rejection: Record) -> str:
    """Which code the slots of a rejected module go on with."""
    if scene.view is None or rejection.kind is EventKind.LAYOUT:
        return ""
    slots = [slot for slot in scene.view.snapshot.slots if _is_rejected(slot, rejection)]
    if not slots:
        return ""
    names = ", ".join(clean(slot.symbol) for slot in slots[:2]) + (f" and {len(slots) - 2} more" if slots[2:] else "")
    return f"{names} run{'s' if len(slots) == 1 else ''} {_module_text(slots[0])}, as before"


# -- build output, and the output of a host that watch started


def _build_pane(scene: Scene, inner: int) -> Pane | None:
    build = scene.state.build
    if build is None or build.phase not in (BuildPhase.RUNNING, BuildPhase.FAILED):
        return None
    failed = build.phase is BuildPhase.FAILED
    if not failed and not build.lines:
        return None
    tone = "frame.bad" if failed else "frame"
    title: list[Run] = [("title", "build "), *_build_state(build, scene.now, named=True)]
    note: list[Run] = [("", "running code is unchanged")] if failed else []
    # What the compilers objected to comes first; the rest of the output where none of it was recognised.
    told = _told(problems_shown(scene.ui, build), inner) if failed else []
    if told:
        title = [("bad", f"✗ {_tally_of(build)}"), ("faint", f"  {clock(build.started + build.seconds)}")]

    def draw(rows: int) -> list[Line]:
        lines = _from_first_error(build.lines, rows) if failed else build.lines[-rows:]
        return told[:rows] or [_build_line(line) for line in lines[:rows]] or [[("faint", "no output")]]

    height = max(2, len(told or build.lines))
    # An error with its excerpt is what one waits for: before events, and on the smallest screens before the slots.
    rank, least = (-1, min(_ERROR_ROWS, height)) if told else (2, 2)
    return Pane(title, note if inner >= 70 else [], rank, least, min(8, height), min(14, height), draw, tone)


_ERROR_ROWS = 5
"""What an error needs: rustc's message, place, gutter, source line, and caret."""
_MESSAGE_LINES = 3
_MESSAGE = re.compile(r"(?:\w+(?:\[\w+\])?|.*:\d+(?::\d+)?): |\s*= ?\w+: ")


def _told(problems: Iterable[Problem], inner: int) -> list[Line]:
    """The compilers' lines. Messages are wrapped; source lines are not: the carets below would point elsewhere."""
    lines: list[Line] = []
    for problem in problems:
        for index, text in enumerate(problem.lines):
            line = _build_line(text)
            words = not index or _MESSAGE.match("".join(part for _, part in line))
            lines += fold(line, inner, _MESSAGE_LINES) if words else [line]
    return lines


def _tally_of(build: Build) -> str:
    """``build failed: 2 errors, 1 warning``."""
    errors = sum(1 for each in build.problems if each.severity == "error")
    counts = ((errors, "error"), (len(build.problems) - errors, "warning"))
    return "build failed: " + ", ".join(_plural(number, noun) for number, noun in counts if number)


def _from_first_error(lines: Sequence[str], rows: int) -> Sequence[str]:
    """The first error is the one to mend; those after it often follow from it."""
    for index, line in enumerate(lines):
        if _is_error(clean(line)):
            return lines[index : index + rows]
    return lines[-rows:]


def _is_error(line: str) -> bool:
    lowered = line.lower()
    return lowered.startswith("error") or ": error" in lowered or ": fatal error" in lowered


def _build_line(line: str) -> Line:
    if "\x1b[" in line:
        return coloured(line)
    line = clean(line)
    tone = "bad" if _is_error(line) else "warn" if "warning" in line.lower() else ""
    return [(tone, line)]


def _child_pane(scene: Scene, inner: int) -> Pane | None:
    child = scene.state.child
    if child is None or not (child.pid or child.lines):
        return None
    title: list[Run] = [("title", "output "), ("", cut(clean(" ".join(child.command)), max(10, inner // 2)))]
    if child.exit_code is None:
        title.append(("faint", f"  pid {child.pid}"))
    else:
        title.append(("bad" if child.exit_code else "warn", f"  ✗ {_exit(child.exit_code)}"))
    note: list[Run] = [("faint", cut_start(clean(str(child.log)), inner // 3))] if child.log and inner >= 70 else []

    def draw(rows: int) -> list[Line]:
        return [[("", clean(line))] for line in child.lines[-rows:]] or [[("faint", "no output yet")]]

    return Pane(title, note, 4, 2, min(5, max(2, len(child.lines))), 12, draw, stretches=True)


def _exit(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exited with {code}"


# -- the selected slot


def _detail_pane(scene: Scene, inner: int) -> Pane | None:
    if scene.view is None or scene.selected is None:
        return None
    slot = scene.view.snapshot.slots[scene.selected]
    past = _past(scene, slot)
    lines = _facts(scene, scene.view, scene.selected, slot, past, inner)
    if scene.ui.details:
        lines += _history(scene, slot, past)
    title: list[Run] = [("title", cut_middle(clean(slot.symbol), inner // 2))]
    followed = scene.ui.selected is None
    note: list[Run] = [("faint", "newest swap" if followed and slot.swaps else f"slot {slot.index}")]
    rank, least = (1, min(6, len(lines))) if scene.ui.details else (3, 2)
    return Pane(title, note, rank, least, len(lines), len(lines), lambda rows: lines)


def _facts(
    scene: Scene, view: HostView, row: int, slot: SlotRecord, past: Sequence[tuple[Record, Change]], inner: int
) -> list[Line]:
    snapshot = view.snapshot
    since = f"  since {clock(slot.swapped_at)}, {scene.ago(slot.swapped_at)}" if slot.swaps else "  since the start"
    runs: list[Run] = [label("runs"), ("strong", f"v{slot.version}  {_module_text(slot)}"), ("", since)]
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
        lines.append([label("inside"), ("", _plural(snapshot.in_flight[row], "thread"))])
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
    threads = _plural(snapshot.in_flight[row], "thread") + " inside now"
    rest = f"  {on_version:,} on this version, {snapshot.calls[row]:,} in all, {threads}"
    return [label("called"), now, ("", rest)]


def _past(scene: Scene, slot: SlotRecord) -> list[tuple[Record, Change]]:
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
                (_tone(record), f"{record.kind.value:<9}"),
                ("", f"v{item.before}→v{item.after}  {title}  "),
                ("strong", took(record)),
                ("faint", f"  {step_times(record)}"),
            ]
        )
    if len(past) < slot.swaps:
        lines.append([("faint", f"and {_plural(slot.swaps - len(past), 'earlier change')}, no longer remembered")])
    elif not past:
        lines.append([("faint", "never changed")])
    return lines


# -- events


def _event_pane(scene: Scene, inner: int) -> Pane:
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
    start: list[Run] = [("faint", clock(record.time) + "  "), (_tone(record), f"{kind:<9} ")]
    if several and record.host and record.kind not in (EventKind.ATTACH, EventKind.DETACH):
        start.append(("accent", f"{cut_middle(clean(record.host.name), 12)} {record.host.pid}  "))
    if code := failure_code(record):
        start.append(("bad", f"{code}  "))
    return start


def _event_line(record: Record, inner: int, several: bool) -> Line:
    start = _event_start(record, several)
    start.append(("faint" if _tone(record) == "faint" else "", what(record)))
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
    short = _plural(len(items), "slot")
    texts = [changes(items), changes(items, 1), short] if len(items) > 1 else [change(items[0])]
    for room in (beside, alone):
        for text in texts:
            if width_of(text) + 2 <= room:
                return text
    return texts[-1]


def _tone(record: Record) -> str:
    if record.kind is EventKind.BUILD:
        return "bad" if failure_code(record) else ""
    return _TONES.get(record.kind, "")


# ---- small things ----


def _newest_slot(scene: Scene) -> SlotRecord | None:
    """The slot that changed last; None while everything is as built."""
    if scene.view is None:
        return None
    slots = scene.view.snapshot.slots
    newest = max(slots, key=lambda slot: slot.swapped_at, default=None)
    if newest is None or not newest.swaps:
        return None
    if newest.module is None:  # rolled back to built-in code; another module may still back other slots
        others = [slot for slot in slots if slot.module is not None]
        return max(others, key=lambda slot: slot.swapped_at, default=newest)
    return newest


def _calls_a_second(scene: Scene) -> str:
    rates = scene.view.meter.rates() if scene.view else []
    everything = sum(rates)
    return f"{count(everything)} calls/s" if everything > 0 else "not called now"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _boxed(line: Iterable[Run], inner: int, tone: str = "frame") -> Line:
    side = "┃" if tone == "frame.bad" else "│"
    return [(tone, f"{side} "), *fit(line, inner), (tone, f" {side}")]
