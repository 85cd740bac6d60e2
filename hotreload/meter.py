"""How often each slot of one host is called: now, and second by second over the last half minute."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from hotreload.model import Snapshot

BUCKETS = 30
_SECOND = 0.95  # a bucket may end this early, else a sampler that is 1 ms fast would make every bucket 1.25 s long
_SPACING = 0.2  # closer snapshots replace the newest sample, so a burst of them does not shorten the window of `rate`
_WINDOW = 1.3

_Sample = tuple[float, Sequence[int]]


class Meter:
    """Rates of one host's slots, by row of its snapshots.

    It keeps whole counter arrays at second marks and subtracts on demand, only for the rows somebody asks for: one
    thousand slots cost one array copy a second. (Per-slot rings were rejected: 30,000 list writes a second to show 20
    rows.) One thread observes, others may read at any time: both sample lists are immutable tuples, replaced whole.
    """

    def __init__(self) -> None:
        self._marks: tuple[_Sample, ...] = ()
        self._recent: tuple[_Sample, ...] = ()
        self._identity: tuple[int, float] | None = None

    def observe(self, snapshot: Snapshot) -> None:
        """Take note of a snapshot; ``snapshot.time`` (monotonic seconds) orders them. Another host starts afresh."""
        identity = (snapshot.host.pid, snapshot.host.started)
        if identity != self._identity or (self._recent and snapshot.time < self._recent[-1][0]):
            self._marks = self._recent = ()
            self._identity = identity
        self._remember(snapshot.time, snapshot.calls)
        if not self._marks or snapshot.time - self._marks[-1][0] >= _SECOND:
            self._marks = (*self._marks[-BUCKETS:], (snapshot.time, array("Q", snapshot.calls)))

    def rate(self, row: int) -> float:
        """Calls per second over about the last second; 0.0 before there are two snapshots."""
        recent = self._recent
        if len(recent) < 2:
            return 0.0
        (before, old), (after, new) = recent[0], recent[-1]
        return _speed(_count(new, row) - _count(old, row), after - before)

    def rates(self) -> list[float]:
        """``rate`` of every row."""
        recent = self._recent
        if not recent:
            return []
        (before, old), (after, new) = recent[0], recent[-1]
        seconds = after - before
        if seconds <= 0:
            return [0.0] * len(new)
        rates = [(b - a) / seconds if b > a else 0.0 for a, b in zip(old, new, strict=False)]
        return rates + [_speed(count, seconds) for count in new[len(old) :]]

    def history(self, row: int) -> list[float]:
        """Calls per second in each of the last whole seconds, oldest first, at most ``BUCKETS`` of them."""
        found: list[float] = []
        before, old = 0.0, -1
        for after, calls in self._marks:
            new = calls[row] if row < len(calls) else 0  # a slot that did not exist yet had no calls
            if old >= 0:
                seconds = after - before
                speed = (new - old) / seconds if new > old else 0.0
                if seconds < 1.5:
                    found.append(speed)
                else:
                    found.extend([speed] * min(BUCKETS, round(seconds)))
            before, old = after, new
        return found[-BUCKETS:]

    def _remember(self, time: float, calls: Sequence[int]) -> None:
        kept = tuple(sample for sample in self._recent if sample[0] >= time - _WINDOW)
        if len(kept) > 1 and time - kept[-2][0] < _SPACING:
            kept = kept[:-1]
        self._recent = (*(kept or self._recent[-1:]), (time, calls))


@dataclass(frozen=True, slots=True)
class HostView:
    """What reporters see of one host: its newest (or, when it is gone, its last) snapshot, and its call rates."""

    snapshot: Snapshot
    meter: Meter


def _count(calls: Sequence[int], row: int) -> int:
    """A slot that did not exist yet had no calls."""
    return calls[row] if row < len(calls) else 0


def _speed(calls: int, seconds: float) -> float:
    return calls / seconds if calls > 0 and seconds > 0 else 0.0
