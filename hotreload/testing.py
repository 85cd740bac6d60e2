"""Public fakes of the seams to the outside, for tests of this package and of tools built on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hotreload.model import Candidate, Directory, DirectoryChanged, Settled, Settling, WatchMode


class FakeClock:
    """Time that passes when the test says so, in seconds."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        """What ``time.time`` would say."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Lets time pass; returns the new time."""
        self._now += seconds
        return self._now


class FakeWatcher:
    """Stands in for `hotreload.watcher.Watcher`: delivers what the test says, on the test's own thread.

    Attributes:
        started: `start` was called, and `stop` was not.
        rescans: How often `rescan` was called.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        deliver: Callable[[Settled | Settling | DirectoryChanged], None],
        *,
        existing: bool = True,
        poll: bool = False,
    ) -> None:
        self.paths = tuple(paths)
        self.existing = existing
        self.poll = poll
        self.started = False
        self.rescans = 0
        self._deliver = deliver

    def start(self) -> None:
        """Reports every path as a watched directory, as the watcher does."""
        self.started = True
        for path in self.paths:
            self.directory(path, WatchMode.POLLING if self.poll else WatchMode.INOTIFY)

    def stop(self) -> None:
        """Nothing is delivered after this."""
        self.started = False

    def rescan(self) -> None:
        """Counts."""
        self.rescans += 1

    def settle(self, *candidates: Candidate) -> None:
        """Delivers outputs that settled together."""
        self._send(Settled(candidates))

    def settling(self, path: Path, seconds: float, reason: str = "a writer has it open") -> None:
        """Reports an output that takes long; 0 seconds take that back."""
        self._send(Settling(path, seconds, reason))

    def directory(self, path: Path, mode: WatchMode) -> None:
        """Reports how a directory is watched."""
        self._send(DirectoryChanged(Directory(path, mode)))

    def _send(self, event: Settled | Settling | DirectoryChanged) -> None:
        if self.started:
            self._deliver(event)
