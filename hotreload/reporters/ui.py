"""What the user looks at, and what each key does to it. Pure: no terminal, no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from hotreload.meter import HostView
from hotreload.model import EventKind, Problem, SlotRecord
from hotreload.session import (
    Build,
    BuildPhase,
    Clear,
    Command,
    Dismiss,
    HostState,
    Quit,
    Rebuild,
    RestartHost,
    RollBack,
    State,
    TogglePause,
)

PAGE = 5


class Sort(Enum):
    """The order of slots; the values are what the screen calls them."""

    NAME = "name"
    RATE = "calls/s"
    TOTAL = "total"
    RECENT = "newest swap"


@dataclass(frozen=True, slots=True)
class Ui:
    """What the user chose to look at. None means: the dashboard picks what is most of interest."""

    host: int | None = None
    selected: str | None = None
    sort: Sort = Sort.NAME
    filter: str = ""
    filtering: bool = False
    details: bool = False
    help: bool = False
    help_page: int = 0
    """Counts on for ever: the view knows how many pages there are at its size, and begins again after the last."""
    scroll: int = 0
    """How many of the newest events are scrolled out of view."""
    problem: int = 0
    """Which of a build's problems is shown first."""
    problem_of: float = 0.0
    """Of the build that began then; another build shows its first."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Open the place of a problem in the user's editor. The dashboard does it: the editor needs its terminal."""

    problem: Problem


Wish = Command | Edit


@dataclass(frozen=True, slots=True)
class Binding:
    """A key that is valid now, as the footer shows it, with what it does."""

    keys: tuple[str, ...]
    sign: str
    label: str
    act: Callable[[], tuple[Ui, Wish | None]]
    shown: bool = True


def press(ui: Ui, key: str, state: State, hosts: Mapping[int, HostView]) -> tuple[Ui, Wish | None]:
    """What a key does. Keys that are not valid now do nothing: the footer and this function read one table."""
    if ui.filtering and (len(key) == 1 or key == "backspace"):
        return replace(ui, filter=ui.filter[:-1] if key == "backspace" else ui.filter + key, selected=None), None
    for binding in bindings(ui, state, hosts):
        if key in binding.keys:
            return binding.act()
    return ui, None


def bindings(ui: Ui, state: State, hosts: Mapping[int, HostView], rows: Sequence[int] | None = None) -> list[Binding]:
    """The keys that do something now, in the order of the footer: what is lost on a narrow screen comes last.

    ``rows`` may hand in what ``ordered`` gave for the same state, to save sorting twice for one frame.
    """

    def become(**changes: object) -> Callable[[], tuple[Ui, Wish | None]]:
        return lambda: (replace(ui, **changes), None)  # type: ignore[arg-type]

    def order(command: Wish) -> Callable[[], tuple[Ui, Wish | None]]:
        return lambda: (ui, command)

    if ui.help:
        return [
            Binding(("?", "esc", "enter"), "Esc", "close help", become(help=False, help_page=0)),
            Binding(("q",), "q", "quit", order(Quit())),
            Binding(("down", "j", "page-down", " "), "", "", become(help_page=ui.help_page + 1), shown=False),
            Binding(("up", "k", "page-up"), "", "", become(help_page=ui.help_page - 1), shown=False),
        ]
    pid = focus(state, hosts, ui)
    view = hosts.get(pid) if pid is not None else None
    if rows is None:
        rows = ordered(view, ui) if view else []
    found: list[Binding] = []
    if ui.filtering:
        found.append(Binding(("enter",), "Enter", "keep filter", become(filtering=False)))
        found.append(Binding(("esc",), "Esc", "clear filter", become(filtering=False, filter="", selected=None)))
        found += _moves(ui, view, rows)
        return found
    found.append(Binding(("q",), "q", "quit", order(Quit())))
    found.append(Binding(("?",), "?", "help", become(help=True)))
    if escape := _escape(ui, state):
        label, result = escape
        found.append(Binding(("esc",), "Esc", label, lambda: result))
    if state.build and (problem := shown_problem(ui, state.build)):
        place = f"{problem.path.rpartition('/')[2]}:{problem.line}"
        found.append(Binding(("e",), "e", f"edit {place}", order(Edit(problem))))
        if len(state.build.problems) > 1:
            found.append(Binding(("n",), "n", "next problem", become(**_next_problem(ui, state.build))))
    if command := _roll_back(ui, state, view, rows):
        what = f" {command.module}" if command.module else ""
        found.append(Binding(("b",), "b", f"roll back{what}", order(command)))
    found.append(Binding(("p",), "p", "resume" if state.paused else "pause", order(TogglePause())))
    if state.build:
        again = state.build.phase is BuildPhase.RUNNING
        found.append(Binding(("r",), "r", "rebuild again" if again else "rebuild", order(Rebuild())))
    if state.child and state.restart:
        found.append(Binding(("h",), "h", "restart host", order(RestartHost())))
    if len(state.hosts) > 1:
        found.append(Binding(("tab",), "Tab", "next host", become(**_next_host(ui, state, pid, 1))))
        found.append(Binding(("shift-tab",), "", "", become(**_next_host(ui, state, pid, -1)), shown=False))
    if rows:
        found.append(Binding(("enter",), "Enter", "details", become(details=not ui.details), shown=not ui.details))
    if len(rows) > 1:
        found.append(Binding(("s",), "s", "sort", become(sort=_following(ui.sort))))
    if view and view.snapshot.slots:
        found.append(Binding(("/",), "/", "filter", become(filtering=True)))
    found += _moves(ui, view, rows)
    if state.records:
        found.append(Binding(("c",), "c", "clear", lambda: (replace(ui, scroll=0), Clear())))
    older, newer = min(ui.scroll + PAGE, max(0, len(state.records) - 1)), max(0, ui.scroll - PAGE)
    found.append(Binding(("page-up",), "PgUp", "older", become(scroll=older), shown=False))
    found.append(Binding(("page-down",), "PgDn", "newer", become(scroll=newer), shown=ui.scroll > 0))
    return found


def shown_problem(ui: Ui, build: Build) -> Problem | None:
    """The problem that is shown first, of a build that has ended; None where there is none with a place."""
    if build.phase is BuildPhase.RUNNING or not build.problems:
        return None
    problem = build.problems[_problem_index(ui, build)]
    return problem if problem.path else None


def problems_shown(ui: Ui, build: Build) -> Sequence[Problem]:
    """All problems of a build in the order shown."""
    at = _problem_index(ui, build)
    return (*build.problems[at:], *build.problems[:at])


def _problem_index(ui: Ui, build: Build) -> int:
    return ui.problem % len(build.problems) if build.problems and ui.problem_of == build.started else 0


def _next_problem(ui: Ui, build: Build) -> dict[str, object]:
    return {"problem": _problem_index(ui, build) + 1, "problem_of": build.started}


def focus(state: State, hosts: Mapping[int, HostView], ui: Ui) -> int | None:
    """The host to show: the one chosen; else the newest attached one; else the last that is gone.

    When the chosen one is gone, an attached host of the same name is its successor and takes its place.
    """
    known = state.hosts
    chosen = known.get(ui.host) if ui.host is not None else None
    if chosen:
        later = [item for item in known.values() if item.attached and item.host.name == chosen.host.name]
        return ui.host if chosen.attached or not later else _newest(later)
    attached = [item for item in known.values() if item.attached]
    if attached:
        return _newest(attached)
    if known:
        return _newest(list(known.values()))
    return next(iter(hosts), None)


def ordered(view: HostView, ui: Ui) -> list[int]:
    """The rows of the snapshot that pass the filter, in the chosen order."""
    slots = view.snapshot.slots
    names = [slot.symbol for slot in slots]
    rows: Sequence[int] = range(len(slots))
    if ui.filter:
        wanted = ui.filter.casefold()
        rows = [row for row in rows if wanted in names[row].casefold()]
    by_name = sorted(rows, key=names.__getitem__)
    if ui.sort is Sort.NAME:
        return by_name
    return sorted(by_name, key=_weights(view, ui.sort).__getitem__, reverse=True)


def selected_row(view: HostView, ui: Ui, rows: Sequence[int]) -> int | None:
    """The row of the selected slot; when the user selected none, of the slot that changed last."""
    if not rows:
        return None
    slots = view.snapshot.slots
    if ui.selected is not None:
        for row in rows:
            if slots[row].symbol == ui.selected:
                return row
    if any(slots[row].swaps for row in rows):
        return max(rows, key=lambda row: (slots[row].swapped_at, -row))
    return rows[0]


def _weights(view: HostView, sort: Sort) -> Sequence[float]:
    snapshot = view.snapshot
    if sort is Sort.RECENT:
        return [slot.swapped_at for slot in snapshot.slots]
    weights: Sequence[float] = view.meter.rates() if sort is Sort.RATE else snapshot.calls
    missing = len(snapshot.slots) - len(weights)
    return [*weights, *[0.0] * missing] if missing > 0 else weights


def _newest(items: Sequence[HostState]) -> int:
    return max(items, key=lambda item: (item.since, item.host.pid)).host.pid


def _next_host(ui: Ui, state: State, pid: int | None, step: int) -> dict[str, object]:
    pids = list(state.hosts)
    index = pids.index(pid) if pid in pids else 0
    return {"host": pids[(index + step) % len(pids)], "selected": None}


def _following(sort: Sort) -> Sort:
    sorts = list(Sort)
    return sorts[(sorts.index(sort) + 1) % len(sorts)]


def _escape(ui: Ui, state: State) -> tuple[str, tuple[Ui, Command | None]] | None:
    """Escape closes what lies on top."""
    if ui.details:
        return "less", (replace(ui, details=False), None)
    if ui.scroll:
        return "newest events", (replace(ui, scroll=0), None)
    if state.rejection:
        return "hide rejection", (ui, Dismiss())
    if ui.filter:
        return "clear filter", (replace(ui, filter="", selected=None), None)
    if ui.selected is not None:
        return "follow newest", (replace(ui, selected=None), None)
    return None


def _roll_back(ui: Ui, state: State, view: HostView | None, rows: Sequence[int]) -> RollBack | None:
    """The selected slot's module; while the user has selected nothing, the one that is pinned because it differs from
    its host, or the newest commit."""
    if view is None or not view.snapshot.alive:
        return None
    pid = view.snapshot.host.pid
    known = state.hosts.get(pid)
    if known and not known.attached:
        return None
    slots: Sequence[SlotRecord] = view.snapshot.slots
    row = selected_row(view, ui, rows)
    if row is None or slots[row].symbol != ui.selected:
        pinned = state.rejection
        if pinned and pinned.kind is EventKind.LAYOUT and pinned.host and pinned.module and pinned.host.pid == pid:
            return RollBack(pid, pinned.module.name)
        return RollBack(pid) if any(slot.module for slot in slots) else None
    module = slots[row].module
    return RollBack(pid, module.name) if module else None


def _moves(ui: Ui, view: HostView | None, rows: Sequence[int]) -> list[Binding]:
    if view is None or len(rows) < 2:
        return []
    current = selected_row(view, ui, rows)
    at = rows.index(current) if current is not None else 0
    targets = (
        (("up", "k"), max(0, at - 1)),
        (("down", "j"), min(len(rows) - 1, at + 1)),
        (("home", "g"), 0),
        (("end", "G"), len(rows) - 1),
    )
    moves = []
    for keys, target in targets:
        chosen = replace(ui, selected=view.snapshot.slots[rows[target]].symbol)
        moves.append(Binding(keys, "", "", lambda chosen=chosen: (chosen, None), shown=False))  # type: ignore[misc]
    moves[0] = replace(moves[0], sign="↑↓", label="select", shown=not ui.filtering)
    return moves
