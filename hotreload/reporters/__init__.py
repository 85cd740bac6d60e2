"""Ways to show a session: the dashboard, plain lines, JSON lines. All of them answer to one protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hotreload.meter import HostView
    from hotreload.model import Record
    from hotreload.session import State

__all__ = ["Reporter"]


class Reporter(Protocol):
    """What the runner tells a reporter. Calls come from one thread, never block it, and never raise for a lost reader.

    ``broken`` turns true when nobody can read the output any more (a closed pipe, a terminal that vanished).
    """

    broken: bool

    def start(self) -> None:
        """Begin; called once, from the main thread."""

    def update(self, state: State, hosts: Mapping[int, HostView]) -> None:
        """The session's state or a host's counters changed. ``hosts`` is by pid and is not changed afterwards."""

    def record(self, record: Record) -> None:
        """Something happened. The same record is also in the next ``state.records``."""

    def close(self) -> None:
        """End and give the terminal back; calling it twice is harmless."""
