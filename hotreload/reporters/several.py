"""Several reporters as one: the first shows the session, the others do something beside it."""

from __future__ import annotations

from collections.abc import Mapping

from hotreload.meter import HostView
from hotreload.model import Record
from hotreload.reporters import Reporter
from hotreload.session import State


class Several:
    """Tells all of them, in order; ``broken`` is the first one's word."""

    def __init__(self, first: Reporter, *others: Reporter) -> None:
        self._first = first
        self._all = (first, *others)

    @property
    def broken(self) -> bool:
        return self._first.broken

    @broken.setter
    def broken(self, value: bool) -> None:
        self._first.broken = value

    def start(self) -> None:
        for each in self._all:
            each.start()

    def update(self, state: State, hosts: Mapping[int, HostView]) -> None:
        for each in self._all:
            each.update(state, hosts)

    def record(self, record: Record) -> None:
        for each in self._all:
            each.record(record)

    def close(self) -> None:
        """In reverse: the one that owns the terminal gives it back last of all."""
        for each in reversed(self._all):
            each.close()
