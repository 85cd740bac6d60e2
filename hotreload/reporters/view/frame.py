"""The dashboard's picture of a session: ``render(state, hosts, ui, width, height, now) -> Screen``. Pure, no terminal.

Three forms, and never a refusal: the full one from 80 x 20, a compact one below, one line of facts below 40 x 6.
Only what is visible is turned into text, so a host with thousands of slots costs what its visible rows cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from hotreload.meter import HostView
from hotreload.model import EventKind, WatchMode
from hotreload.reporters.panes import LABEL, Pane, label, rule, share
from hotreload.reporters.screen import Line, Run, Screen, cells, cut_middle, cut_start, fit, spread, width_of
from hotreload.reporters.ui import Ui, bindings, problems_shown
from hotreload.reporters.view.build import build_pane, build_state
from hotreload.reporters.view.child import child_pane
from hotreload.reporters.view.details import detail_pane, facts_of, past_of
from hotreload.reporters.view.events import event_pane, tone_of
from hotreload.reporters.view.help import help_lines, help_panes, page
from hotreload.reporters.view.rejection import rejected_name, rejection_pane
from hotreload.reporters.view.scene import Scene, calls_a_second, look_up, newest_slot
from hotreload.reporters.view.slots import rate_text, slot_pane, sparkline
from hotreload.reporters.wording import clean, clock, failure_code, module_title, plural, residents, uptime, what
from hotreload.session import BuildPhase, State

FULL = (80, 20)
COMPACT = (40, 6)


def render(state: State, hosts: Mapping[int, HostView], ui: Ui, width: int, height: int, now: float) -> Screen:
    """The frame for a terminal of ``width`` by ``height`` cells; ``now`` in seconds since the epoch."""
    scene = look_up(state, hosts, ui, now)
    if width < COMPACT[0] or height < COMPACT[1]:
        lines = _tiny(scene, width, height)
    elif width < FULL[0] or height < FULL[1]:
        lines = _compact(scene, width, height)
    else:
        lines = _full(scene, width, height)
    lines += [[] for _ in range(height - len(lines))]
    return Screen(tuple(tuple(fit(line, width)) for line in lines[: max(0, height)]), width)


# ---- the three forms ----


def _full(scene: Scene, width: int, height: int) -> list[Line]:
    inner = width - 4
    lines: list[Line] = [rule("╭", _title(scene), _standing(scene), "╮", width)]
    lines += [_boxed(line, inner) for line in _header(scene, inner)]
    room = height - len(lines) - 2
    panes = help_panes(scene, inner, room - 1) if scene.ui.help else _panes(scene, inner, compact=False)
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
    panes = help_panes(scene, width, room - 1) if scene.ui.help else _panes(scene, width, compact=True)
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
        lines, _ = page(help_lines(scene, width), scene.ui.help_page, height - 1)
    if height > 1 and (scene.ui.help or scene.ui.details or height > len(lines)):
        lines = lines[: height - 1]
        lines += [[] for _ in range(height - 1 - len(lines))]
        lines.append(_footer(scene, width))
    return lines


def _tiny_facts(scene: Scene, width: int, height: int) -> list[Line]:
    state, lines = scene.state, list[Line]()
    if state.rejection:
        code = failure_code(state.rejection) or "REJECTED"
        lines.append([("bad", f"✗ {code} "), ("", rejected_name(state.rejection))])
    if state.build and state.build.phase is BuildPhase.FAILED and state.build.problems:
        problem = problems_shown(scene.ui, state.build)[0]
        place = f"{Path(problem.path).name}:{problem.line} " if problem.path else ""
        lines.append([("bad", f"✗ {place}"), ("", clean(problem.message))])
    lines.append(_tiny_status(scene))
    if scene.view and scene.selected is not None:
        slot = scene.view.snapshot.slots[scene.selected]
        if scene.ui.details:
            return lines + facts_of(scene, scene.view, scene.selected, slot, past_of(scene, slot), width)
        rate = rate_text(scene, scene.selected)
        spark = sparkline(scene.view.meter.history(scene.selected), 6)
        room = width - width_of(rate) - 8
        lines.append([("strong", cut_middle(clean(slot.symbol), room)), ("", f" {rate} "), ("spark", spark)])
    # Newest first, and no mere retirement: it follows every swap and would hide it.
    told = (record for record in reversed(state.records) if record.kind is not EventKind.RETIRE or record.reason)
    for record in islice(told, max(1, height - 1 - len(lines))):
        kind: Run = (tone_of(record), record.kind.value)
        lines.append([("faint", clock(record.time) + " "), kind, ("", f" {what(record)}")])
    return lines


def _tiny_status(scene: Scene) -> Line:
    if scene.host is None and scene.view is None:
        return [("warn", "○ waiting for a host")]
    newest = newest_slot(scene)
    runs = f"{clean(newest.module.name)} v{newest.module.version}" if newest and newest.module else "built-in code"
    if not scene.alive:
        return [("bad", "✗ gone "), ("", f"ran {runs}")]
    paused: list[Run] = [("warn", "PAUSED ")] if scene.state.paused else []
    sign: Run = ("good", "● ") if newest and newest.module else ("faint", "○ ")
    return [*paused, sign, ("", f"{runs} {calls_a_second(scene)}")]


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
            lines.append([label("build"), *build_state(build, scene.now, named=False)])
        return lines
    build_runs = build_state(scene.state.build, scene.now, named=width >= 90)
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


def _runs(scene: Scene, width: int) -> Line:
    """What runs now, since when, and whether it is called."""
    if scene.view is None:
        return [label("runs"), ("faint", "nothing yet: no host is attached")]
    slots = scene.view.snapshot.slots
    newest = newest_slot(scene)
    # Each with its importance: what does not fit is left out whole, least important first.
    facts: list[tuple[int, Run]] = []
    if newest is None:
        facts.append((0, ("strong", "built-in code")))
        facts.append((2, ("", f"  in all of {plural(len(slots), 'slot')}")))
    else:
        others = sum(1 for item in scene.view.snapshot.modules if item.state == "live") - 1
        title = module_title(newest.module) if newest.module else "built-in code"
        facts.append((0, ("strong", cut_middle(title, width - LABEL))))
        facts.append((4, ("faint", f" and {others} more" if newest.module and others > 0 else "")))
        facts.append((4, ("warn", "" if newest.module else "  rolled back")))
        facts.append((2, ("", f"  since {clock(newest.swapped_at)}")))
        facts.append((3, ("", f", {scene.ago(newest.swapped_at)}")))
    if scene.alive:
        facts.append((1, ("accent", f"  {calls_a_second(scene)}")))
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
    runs: list[Run] = [("good" if state.swaps else "faint", plural(state.swaps, "swap")), ("frame", " · ")]
    runs += [("badly" if state.rejections else "faint", f"{state.rejections} rejected"), ("frame", " · ")]
    return [*runs, ("warn" if state.rollbacks else "faint", plural(state.rollbacks, "rollback"))]


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
        slot_pane(scene, inner),
        rejection_pane(scene, inner),
        build_pane(scene, inner),
        detail_pane(scene, inner) if not compact or scene.ui.details else None,
        child_pane(scene, inner),
        event_pane(scene, inner),
    ]
    return [pane for pane in found if pane]


def _boxed(line: Iterable[Run], inner: int, tone: str = "frame") -> Line:
    side = "┃" if tone == "frame.bad" else "│"
    return [(tone, f"{side} "), *fit(line, inner), (tone, f" {side}")]
