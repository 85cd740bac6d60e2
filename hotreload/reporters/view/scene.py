"""What one frame shows, looked up once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hotreload.meter import HostView
from hotreload.model import SlotRecord
from hotreload.reporters.ui import Ui, focus, ordered, selected_row
from hotreload.reporters.wording import count, span
from hotreload.session import HostState, State


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


def look_up(state: State, hosts: Mapping[int, HostView], ui: Ui, now: float) -> Scene:
    pid = focus(state, hosts, ui)
    view = hosts.get(pid) if pid is not None else None
    rows = ordered(view, ui) if view else []
    selected = selected_row(view, ui, rows) if view else None
    host = state.hosts.get(pid) if pid is not None else None
    return Scene(state, hosts, ui, now, pid, host, view, rows, selected)


def newest_slot(scene: Scene) -> SlotRecord | None:
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


def calls_a_second(scene: Scene) -> str:
    rates = scene.view.meter.rates() if scene.view else []
    everything = sum(rates)
    return f"{count(everything)} calls/s" if everything > 0 else "not called now"
