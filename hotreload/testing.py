"""Public fakes of the seams to the outside, for tests of this package and of tools built on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from zlib import crc32

from hotreload.errors import NoHost
from hotreload.model import (
    OK,
    Candidate,
    Directory,
    DirectoryChanged,
    Failure,
    Host,
    Module,
    Report,
    Settled,
    Settling,
    WatchMode,
)
from hotreload.native import Reply


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


class FakeLink:
    """Stands in for `hotreload.link.Link`: a host that takes every module but those that it is told to refuse.

    Attributes:
        host: Who it says it is.
        refusals: By path, why a module is refused.
        prepared: What it has prepared and neither committed nor taken back.
        running: The paths committed so far, oldest first.
        asked: Its requests, oldest first: ``"prepare"``, ``"commit"``, ``"abort"``.
    """

    def __init__(self, host: Host, refusals: Mapping[str, Failure] | None = None, *, dies_at: str = "") -> None:
        self.host = host
        self.refusals = dict(refusals or {})
        self.prepared: tuple[str, ...] = ()
        self.running: list[str] = []
        self.asked: list[str] = []
        self._dies_at = dies_at
        self._reply: Reply | None = None

    def begin_prepare(self, paths: Sequence[str]) -> None:
        """Refuses all of them when one is refused, as a host does."""
        culprits = [path for path in paths if path in self.refusals]
        self.prepared = () if culprits else tuple(paths)
        self._begin("prepare", [self._report(path, self._verdict(path, culprits)) for path in paths])

    def begin_commit(self) -> None:
        """Runs what was prepared."""
        done, self.prepared = self.prepared, ()
        self._begin("commit", [self._report(path, None) for path in done])
        self.running += done

    def begin_abort(self) -> None:
        """Forgets what was prepared."""
        self.prepared = ()
        self._begin("abort", [])

    def finish(self) -> Reply:
        """The answer. Raises NoHost where it was told to die."""
        reply, self._reply = self._reply, None
        if reply is None:
            raise NoHost("E-HOST-GONE", "the host has exited")
        return reply

    def _begin(self, request: str, reports: list[Report]) -> None:
        self.asked.append(request)
        failure = next((report.failure for report in reports if report.failure), None)
        if request != self._dies_at:
            self._reply = Reply(failure.code if failure else OK, failure, tuple(reports))

    def _verdict(self, path: str, culprits: list[str]) -> Failure | None:
        if path in self.refusals:
            return self.refusals[path]
        return Failure("E-ABORTED", "another module was refused") if culprits else None

    def _report(self, path: str, failure: Failure | None) -> Report:
        module = Module(Path(path).stem, 1, "", path, crc32(path.encode()))
        return Report(failure.code if failure else OK, module, len(self.running), failure=failure)


class FakeWatcher:
    """Stands in for `hotreload.watcher.Watcher`: delivers what the test says, on the test's own thread.

    Attributes:
        started: `start` was called, and `stop` was not.
        rescans: How often `rescan` was called.
        forgotten: What `forget` was called for.
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
        self.forgotten: list[Path] = []
        self._deliver = deliver

    def start(self) -> None:
        """Reports every path as a watched directory, as the watcher does."""
        self.started = True
        for path in self.paths:
            self.directory(path, WatchMode.POLLING if self.poll else WatchMode.INOTIFY)

    def stop(self) -> None:
        """Nothing is delivered after this."""
        self.started = False

    def rescan(self, then: Callable[[], None] | None = None) -> None:
        """Counts, and answers at once."""
        self.rescans += 1
        if then is not None:
            then()

    def forget(self, path: Path) -> None:
        """Remembers that it was asked to."""
        self.forgotten.append(path)

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
