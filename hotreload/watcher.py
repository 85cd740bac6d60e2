"""Watches build outputs and delivers those that have settled: directories in, candidates out.

A debounce waits half a second and may still read half a file. Here nothing waits for time to pass: a file is taken as
soon as no writer has it open and all its bytes are there (``native.settled``), which is about a millisecond after the
writer's last system call.

Three sources say which file to look at, and each covers what the one before it misses: inotify events (through
watchdog), short retries while a writer is still busy, and a sweep (``scandir`` and ``stat``) once a second. Where
inotify does not serve, the sweep alone works, four times a second.

One thread does all of it, from reading events to delivering candidates: each further thread between the kernel and the
host would cost a wake-up, and a wait for the interpreter.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import stat
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event, Thread, current_thread
from typing import Any, ClassVar, Protocol

from watchdog.observers import inotify_c as watchdog_inotify_c

from hotreload import native
from hotreload.bell import Bell
from hotreload.model import Candidate, Directory, DirectoryChanged, Failure, Manifest, Settled, Settling, WatchMode
from hotreload.mounts import mount_of

SUFFIX = ".so"
RETRY_SECONDS = (0.002, 0.004, 0.008, 0.016, 0.025)
"""Pauses between looks at a file that a writer still has; after them the next event or sweep asks again."""
SWEEP_SECONDS = 1.0
POLL_SECONDS = 0.25
SETTLING_SECONDS = 5.0
"""How long a file may stay unfinished before, and between, reports of it."""
TRUNCATED_SECONDS = 1.0
"""How long a file with missing bytes must be unchanged before it counts as cut off instead of being written."""
REFUSAL_SECONDS = 0.15
"""How long a file that cannot even be opened, or whose permissions are wrong, must be unchanged before it is refused:
some writers set the permissions last."""
RACY_SECONDS = 0.1
"""A file changed less than this before it was read is read once more by the sweep: kernels before 6.13 stamp times in
steps of up to 10 ms, so that a second writer within one step leaves no trace in ``stat``."""
RESCAN_SECONDS = 0.5
"""How long the end of a `Watcher.rescan` waits for outputs that are still being written."""
REARM_BURST = 20
"""Directories that vanish and return are watched anew at once, up to this often between two sweeps: no busy loop."""

WatcherEvent = Settled | Settling | DirectoryChanged
Signature = tuple[int, int, int, int, int]
"""Device, inode, size in bytes, modification and change time in ns: says "look again", never "the same content"."""

CLOSED = int(watchdog_inotify_c.InotifyConstants.IN_CLOSE_WRITE)
CREATED = int(watchdog_inotify_c.InotifyConstants.IN_CREATE)
MOVED_HERE = int(watchdog_inotify_c.InotifyConstants.IN_MOVED_TO)

_TRUNCATED = "E-TRUNCATED"
_DENIED = "E-DENIED"


class Probe(Protocol):
    """What the watcher asks about a file; `hotreload.native` answers it."""

    def settled(self, path: Path, /) -> Failure | None:
        """None: no writer has it. Code ``E-TRUNCATED``: one has, ask again. Other codes: why it never will be."""

    def inspect(self, path: Path, /) -> Manifest | Failure:
        """The manifest, or why preflight refuses the file; ``E-TRUNCATED`` when bytes are missing."""


class Watcher:
    """Watches directories and single module files, and calls ``deliver`` on a thread of its own.

    Args:
        paths: Directories (every file in them whose name ends in ``.so``, hidden ones left out) and single module
            files. What does not exist yet is a directory unless its name ends in ``.so``.
        deliver: Receives `Settled`, `Settling` and `DirectoryChanged`. It must not block: nothing else is seen
            meanwhile. A `Settling` of 0 seconds takes an earlier one back: the file is gone, or it settled to what it
            was before.
        existing: Deliver the files that are there at the start (one `Settled` each, oldest first, ``existing=True``);
            otherwise their content is only remembered, so that it is not news when it is written again.
        poll: Look four times a second instead of asking the kernel for events.
        probe: Answers whether a file is settled and what is in it; `hotreload.native` by default.
    """

    # Tests switch single parts of the handling off by these.
    triggers: ClassVar[int] = CLOSED | CREATED | MOVED_HERE
    sweep_seconds: ClassVar[float] = SWEEP_SECONDS

    def __init__(
        self,
        paths: Sequence[Path],
        deliver: Callable[[WatcherEvent], None],
        *,
        existing: bool = True,
        poll: bool = False,
        probe: Probe | None = None,
    ) -> None:
        self._targets = _targets(paths)
        self._deliver = deliver
        self._existing = existing
        asked: Probe = native
        self._ledger = _Ledger(asked if probe is None else probe)
        self._before: dict[Path, Signature] = {}
        self._stopped = False
        self._poll = poll
        self._source = _Source(self.triggers)
        # None asks the thread to stop, a target alone to look at all of it, a path to look at that file.
        self._inbox: deque[_Target | Path | _Rescan | _Forget | None] = deque()
        self._rescans: list[_Rescan] = []
        self._armed = Event()
        self._thread = Thread(target=self._work, name="hotreload-watcher", daemon=True)

    def start(self) -> None:
        """Begins to watch. A file written after this returns is delivered as new. A watcher starts once."""
        self._thread.start()
        self._armed.wait()

    def stop(self) -> None:
        """Ends watching; nothing is delivered after this returns. May be called twice, and from ``deliver``."""
        self._stopped = True
        self._put(None)
        if self._thread.is_alive() and self._thread is not current_thread():
            self._thread.join()
        if not self._thread.is_alive():
            self._source.close()  # of one that was never started

    def rescan(self, then: Callable[[], None] | None = None) -> None:
        """Looks at every directory now instead of at the next sweep. Returns at once; delivers nothing twice.

        Args:
            then: Called on the watcher's thread when all that was there has been delivered; an output that is still
                being written is waited for, but not longer than half a second.
        """
        for target in self._targets:
            self._put(target)
        if then is not None:
            self._put(_Rescan(then, time.monotonic() + RESCAN_SECONDS))

    def forget(self, path: Path) -> None:
        """Takes the content of a file for news when it is written again. Returns at once."""
        self._put(_Forget(path))

    def _put(self, notice: _Target | _Rescan | _Forget | None) -> None:
        """From any thread."""
        self._inbox.append(notice)
        self._source.bell.ring()

    # ---- the thread ----

    def _work(self) -> None:
        try:
            for target in self._targets:
                self._keep_armed(target)
            self._before = {path: signature for target in self._targets for path, signature in target.files()}
            for target in self._targets:
                target.swept(self.sweep_seconds)
        finally:
            self._armed.set()
        try:
            self._announce()
            for path in sorted(self._before, key=lambda path: (self._before[path][3], path)):
                self._look([path])
            while (touched := self._receive()) is not None:
                self._look(sorted(touched | self._sweep()))
                self._end_rescans()
        finally:
            for target in self._targets:
                target.disarm()
            self._source.close()

    def _send(self, event: WatcherEvent) -> None:
        if not self._stopped:
            self._deliver(event)

    def _receive(self) -> set[Path] | None:
        """Waits for notices or for the next retry or sweep. Returns files to look at, or None to stop."""
        due = min([target.next_sweep for target in self._targets], default=time.monotonic() + SWEEP_SECONDS)
        due = min(due, self._ledger.next_due())
        if not self._inbox:
            self._source.listen_for(max(0.0, due - time.monotonic()))
        touched: set[Path] = set()
        # As many as there are now, not until it is empty: a storm of events must not keep the thread here.
        for notice in [self._inbox.popleft() for _ in range(len(self._inbox))]:
            if notice is None:
                return None
            if isinstance(notice, _Rescan):
                self._rescans.append(notice)
            elif isinstance(notice, _Target):
                notice.hurry()
            elif isinstance(notice, _Forget):
                self._ledger.forget(notice.path)
            else:
                self._ledger.renew(notice)
                touched.add(notice)
        return touched | self._ledger.due(time.monotonic())

    def _sweep(self) -> set[Path]:
        """Looks after the directories whose turn it is. Returns files that events have missed or left unfinished."""
        touched: set[Path] = set()
        for target in self._targets:
            if target.next_sweep <= time.monotonic():
                self._keep_armed(target)
                touched.update(path for path, signature in target.files() if self._ledger.missed(path, signature))
                touched.update(path for path in self._ledger.unfinished() if path.parent == target.path)
                target.swept(self.sweep_seconds if target.watch is not None else POLL_SECONDS)
        self._announce()
        return touched

    def _look(self, paths: Iterable[Path]) -> None:
        candidates = tuple(candidate for path in paths if (candidate := self._judge(path)) is not None)
        if candidates:
            self._send(Settled(candidates))
        for settling in self._ledger.reports():
            self._send(settling)

    def _judge(self, path: Path) -> Candidate | None:
        candidate = self._ledger.judge(path)
        if candidate is None or not self._ledger.judged_as(path, self._before.pop(path, None)):
            return candidate  # what was written since the watch began is news, whatever was there before
        return replace(candidate, existing=True) if self._existing else None

    def _end_rescans(self) -> None:
        busy = self._ledger.next_due() < float("inf")
        waiting, self._rescans = self._rescans, []
        for rescan in waiting:
            if busy and time.monotonic() < rescan.deadline:
                self._rescans.append(rescan)
            elif not self._stopped:
                rescan.then()

    def _announce(self) -> None:
        for target in self._targets:
            if (directory := target.news()) is not None:
                self._send(DirectoryChanged(directory))

    # ---- arming ----

    def _keep_armed(self, target: _Target) -> None:
        # Again after arming: the directory, or one above it, may have come or gone in between.
        for _ in range(len(target.path.parents) + 2):
            anchor = _nearest_directory(target.path)
            identity = _identity(anchor)
            if target.holds(anchor, identity):
                return
            target.disarm()
            watch = None
            if not self._poll and not _is_remote(anchor):
                try:
                    watch = self._source.watch(anchor, partial(self._notice, target, anchor))
                except FileNotFoundError:
                    continue
                except OSError:  # EMFILE, ENOSPC: out of instances or watches. Polling needs neither.
                    watch = None
            target.arm(anchor, identity, watch)

    def _notice(self, target: _Target, anchor: Path, name: str | None) -> None:
        """Takes an event's name; None when the watch has ended, or events were lost."""
        if name is None:
            self._inbox.append(target)
        elif anchor != target.path:
            if name == target.path.relative_to(anchor).parts[0]:
                self._inbox.append(target)
        elif target.wants(name):
            self._inbox.append(target.path / name)
        elif SUFFIX + "." in name:  # libm.so.1: perhaps what libm.so is a symbolic link to
            self._inbox.append(target)


@dataclass(frozen=True)
class _Rescan:
    """Whom to tell that what was there has been looked at; ``deadline`` is ``time.monotonic()``."""

    then: Callable[[], None]
    deadline: float


@dataclass(frozen=True, slots=True)
class _Forget:
    """A file whose next write is news."""

    path: Path


# ---- what is watched ----


class _Target:
    """One watched directory, or the nearest one above it. Only the watcher's thread uses it."""

    def __init__(self, path: Path, names: frozenset[str] | None) -> None:
        self.path = path
        self.names = names
        """The only names that matter, or None for every module."""
        self.watch: _Watch | None = None
        self.next_sweep = 0.0
        self._anchor: Path | None = None
        self._identity: tuple[int, int] | None = None
        self._mode = WatchMode.WAITING
        self._told: WatchMode | None = None
        self._hurries = 0

    def wants(self, name: str) -> bool:
        """Whether a file of this name may be a build output."""
        if self.names is not None:
            return name in self.names
        return name.endswith(SUFFIX) and not name.startswith(".")

    def files(self) -> Iterator[tuple[Path, Signature]]:
        """The outputs that are there now."""
        try:
            names = self.names if self.names is not None else [entry.name for entry in os.scandir(self.path)]
        except OSError:  # not there yet, or unreadable: the next sweep asks again
            return
        for path in (self.path / name for name in names if self.wants(name)):
            if (signature := _signature(path)) is not None:
                yield path, signature

    def hurry(self) -> None:
        """Makes the next sweep due now, within reason."""
        self._hurries += 1
        if self._hurries <= REARM_BURST:
            self.next_sweep = 0.0

    def swept(self, seconds: float) -> None:
        """Sets the time of the next sweep."""
        now = time.monotonic()
        if self.next_sweep > 0.0:  # this one came by the clock
            self._hurries = 0
        self.next_sweep = now + seconds

    def holds(self, anchor: Path, identity: tuple[int, int] | None) -> bool:
        """Whether this very directory is watched, by a watch that still works where there is one."""
        same = identity is not None and self._anchor == anchor and self._identity == identity
        return same and (self.watch is None or self.watch.works)

    def arm(self, anchor: Path, identity: tuple[int, int] | None, watch: _Watch | None) -> None:
        """Notes what is watched instead of the directory, or the directory itself, and how."""
        self._anchor, self._identity, self.watch = anchor, identity, watch
        if anchor != self.path:
            self._mode = WatchMode.WAITING
        else:
            self._mode = WatchMode.POLLING if watch is None else WatchMode.INOTIFY

    def disarm(self) -> None:
        """Ends the watch, dead or alive: a dead one may still hold its descriptors."""
        if self.watch is not None:
            self.watch.end()
        self.watch = self._anchor = self._identity = None

    def news(self) -> Directory | None:
        """How the directory is watched, if that has changed since the last call."""
        if self._told is self._mode:
            return None
        self._told = self._mode
        return Directory(self.path, self._mode)


def _targets(paths: Iterable[Path]) -> tuple[_Target, ...]:
    """One target a directory; a directory asked for as a whole is not narrowed by single files of it."""
    wanted: dict[Path, set[str] | None] = {}
    for path in (given.absolute() for given in paths):
        if path.is_dir() or not (path.exists() or path.name.endswith(SUFFIX)):
            wanted[path] = None
        elif (names := wanted.setdefault(path.parent, set())) is not None:
            names.add(path.name)
    return tuple(_Target(path, None if names is None else frozenset(names)) for path, names in wanted.items())


def _nearest_directory(path: Path) -> Path:
    return next(directory for directory in (path, *path.parents) if directory.is_dir())


def _identity(directory: Path) -> tuple[int, int] | None:
    # Inode numbers are reused at once by ext4, so this finds a directory that was replaced by renaming; one that was
    # deleted ends its watch.
    try:
        status = directory.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_remote(directory: Path) -> bool:
    try:
        return mount_of(directory).remote
    except OSError:
        return False


# ---- what is known about files ----


def _signature(path: Path) -> Signature | None:
    """None when it is not there or not a regular file."""
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _surroundings(path: Path) -> tuple[tuple[int, ...], ...]:
    """Owner, permissions and change time of the directory that a file is named in, and of the one it lies in."""
    found: list[tuple[int, ...]] = []
    for directory in (path.parent, Path(os.path.realpath(path)).parent):
        with suppress(OSError):
            status = directory.stat()
            found.append((status.st_dev, status.st_ino, status.st_uid, status.st_mode, status.st_ctime_ns))
    return tuple(found)


@dataclass(slots=True)
class _Wait:
    """A file that has not settled. Times are ``time.monotonic()``."""

    since: float
    signature: Signature
    unchanged_since: float
    reason: str = ""
    tries: int = 0
    due: float = 0.0
    reports: int = 0


@dataclass(slots=True)
class _Output:
    """What the watcher remembers about a path; it outlives the file, so that the same content is not news again."""

    judged: Signature | None = None
    racy: bool = False
    delivered: object = None
    """Identity of the last candidate: its content, or what was refused and why."""
    denied_in: tuple[tuple[int, ...], ...] = ()
    """For E-DENIED: the state of its directories then. Their permissions are mended without touching the file."""
    forgotten: Signature | None = None
    """What lay there when its content was to be forgotten."""
    wait: _Wait | None = None


@dataclass(slots=True)
class _Ledger:
    """Decides when a file has settled, and whether that is news."""

    probe: Probe
    outputs: dict[Path, _Output] = field(default_factory=dict)
    waiting: set[Path] = field(default_factory=set)
    settled_again: list[Settling] = field(default_factory=list)

    def judge(self, path: Path) -> Candidate | None:
        """Looks at a file. Returns what is to be delivered: nothing when it is unfinished, unchanged or gone."""
        signature = _signature(path)
        if signature is None:
            self._gone(path)
            return None
        output = self.outputs.setdefault(path, _Output())
        verdict = self._examine(path, signature, output)
        if verdict is None:
            return None
        output.judged = signature
        output.racy = abs(time.time() - max(signature[3:]) / 1e9) < RACY_SECONDS
        denied = isinstance(verdict, Failure) and verdict.code == _DENIED
        output.denied_in = _surroundings(path) if denied else ()
        return self._news(path, signature, output, verdict)

    def judged_as(self, path: Path, signature: Signature | None) -> bool:
        """Whether the last judgement of the file was of this state."""
        return self.outputs[path].judged == signature

    def missed(self, path: Path, signature: Signature) -> bool:
        """Whether the file is not the one judged last, or may have changed without a trace since then."""
        output = self.outputs.get(path)
        if output is None or output.judged != signature:
            return True
        racy, output.racy = output.racy, False
        return racy or (bool(output.denied_in) and output.denied_in != _surroundings(path))

    def renew(self, path: Path) -> None:
        """An event came for the file: if it is unfinished, the retries begin again."""
        if path in self.waiting:
            self._wait_of(path).tries = 0

    def unfinished(self) -> set[Path]:
        """Files that have not settled."""
        return set(self.waiting)

    def due(self, now: float) -> set[Path]:
        """Unfinished files whose retry is due."""
        return {path for path in self.waiting if self._wait_of(path).due <= now}

    def next_due(self) -> float:
        """When the next retry is due; infinity for never."""
        return min((self._wait_of(path).due for path in self.waiting), default=float("inf"))

    def reports(self) -> list[Settling]:
        """What is to be said about files that take long."""
        said, self.settled_again = self.settled_again, []
        now = time.monotonic()
        for path in sorted(self.waiting):
            wait = self._wait_of(path)
            if now - wait.since >= SETTLING_SECONDS * (wait.reports + 1):
                wait.reports = int((now - wait.since) / SETTLING_SECONDS)
                said.append(Settling(path, now - wait.since, wait.reason))
        return said

    def _examine(self, path: Path, signature: Signature, output: _Output) -> Manifest | Failure | None:
        """The verdict on a settled file. None when it has not settled: then the next look is arranged."""
        refused, verdict = self._ask(path)
        if _signature(path) != signature:
            return self._postpone(path, signature, output, "it is being changed")
        if refused is not None and refused.code != _TRUNCATED:
            return self._postpone(path, signature, output, refused.reason, refused, REFUSAL_SECONDS)
        if refused is not None:
            # Never refused, however long it takes: bfd opens its output before it optimises the whole program.
            return self._postpone(path, signature, output, refused.reason)
        if isinstance(verdict, Failure) and verdict.code == _TRUNCATED:
            return self._postpone(path, signature, output, verdict.reason, verdict)
        return verdict

    def _ask(self, path: Path) -> tuple[Failure | None, Manifest | Failure | None]:
        refused = self.probe.settled(path)
        if refused is not None:
            return refused, None
        verdict = self.probe.inspect(path)
        # Again: a second writer may have come while the bytes were read.
        return self.probe.settled(path), verdict

    def _postpone(
        self,
        path: Path,
        signature: Signature,
        output: _Output,
        reason: str,
        refusal: Failure | None = None,
        patience: float = TRUNCATED_SECONDS,
    ) -> Failure | None:
        """Waits. Returns the refusal, if there is one, when the file has been unchanged for the patience's seconds."""
        now = time.monotonic()
        wait = output.wait
        if wait is None:
            wait = output.wait = _Wait(now, signature, now)
            self.waiting.add(path)
        if wait.signature != signature:
            wait.signature, wait.unchanged_since = signature, now
        elif refusal is not None and now - wait.unchanged_since >= patience:
            return refusal
        wait.reason = reason
        enough = float("inf") if refusal is None else wait.unchanged_since + patience
        wait.due = now + RETRY_SECONDS[wait.tries] if wait.tries < len(RETRY_SECONDS) else enough
        wait.tries += 1
        return None

    def _news(self, path: Path, signature: Signature, output: _Output, verdict: Manifest | Failure) -> Candidate | None:
        failure = verdict if isinstance(verdict, Failure) else None
        manifest = None if isinstance(verdict, Failure) else verdict
        # Without ctime: permissions that are set last are no write. bfd sets them after it has closed its output.
        identity = (signature[2:4], failure) if manifest is None else manifest.module.content
        written = output.forgotten is not None and signature[:4] != output.forgotten[:4]
        if identity == output.delivered and not written:
            self._end_wait(path, output, "unchanged")
            return None
        self._end_wait(path, output, "")
        output.delivered, output.forgotten = identity, None
        return Candidate(path, time.monotonic(), manifest, failure, size=signature[2])

    def forget(self, path: Path) -> None:
        """The next write is news, whatever it brings; what lies there now is not, however often it is looked at."""
        if (output := self.outputs.get(path)) is not None:
            output.forgotten = output.judged

    def _gone(self, path: Path) -> None:
        if (output := self.outputs.get(path)) is not None:
            self._end_wait(path, output, "gone")
            if output.delivered is None:
                del self.outputs[path]

    def _end_wait(self, path: Path, output: _Output, taken_back: str) -> None:
        """Ends the wait; a report of it that no candidate will answer is taken back, for the reason given."""
        if taken_back and output.wait is not None and output.wait.reports:
            self.settled_again.append(Settling(path, 0.0, taken_back))
        output.wait = None
        self.waiting.discard(path)

    def _wait_of(self, path: Path) -> _Wait:
        wait = self.outputs[path].wait
        assert wait is not None  # both are changed together
        return wait


# ---- watchdog, versions 6 and 7 ----


class _Watch:
    """One directory, flat: tells the names of events in it, and None once when it has ended. It has the methods that
    watchdog 7 wants of a callback.
    """

    def __init__(self, notice: Callable[[str | None], None]) -> None:
        self.works = True
        """Whether events still come: the directory has not been deleted, and watchdog has not failed on its events."""
        self._notice = notice
        self._release: Callable[[], None] = lambda: None

    def holds(self, release: Callable[[], None]) -> None:
        """Notes what ends the kernel's watch."""
        self._release = release

    def on_event(self, event: Any) -> None:
        """Events without a name are about the directory itself; what matters of them comes as the watch's end."""
        if event.name:
            self._notice(os.fsdecode(event.name))

    def on_watch_deleted(self, _: object = None) -> None:
        """The kernel has ended the watch, with the directory."""
        if self.works:
            self.works = False
            self._notice(None)

    def on_queue_overflow(self) -> None:
        """Events were lost: a sweep finds what they were about."""
        self._notice(None)

    def end(self) -> None:
        """Tells nothing any more."""
        self._notice = lambda name: None
        self.works = False
        self._release()


class _Source:
    """What the watcher's thread waits for: inotify, and the other threads' bell.

    Of watchdog only the reader of inotify descriptors is used, on our own thread. Its emitters and its observer are
    left out: they are three threads between the kernel and us, hold back halves of renames, and the observer does not
    notice when an emitter ends with its directory. Version 7 reads one descriptor for all directories, version 6 one
    for each.
    """

    def __init__(self, triggers: int) -> None:
        # The same for every directory: inotify_add_watch replaces the mask of a directory that is watched already.
        self._triggers = triggers | watchdog_inotify_c.InotifyConstants.IN_DELETE_SELF
        self._readers: dict[int, tuple[Any, list[_Watch]]] = {}
        """By descriptor: watchdog's reader, and the watches that end with it."""
        self._shared: int | None = None
        self._poll = select.poll()
        self.bell = Bell()
        """Ends the wait of `listen_for`, or the next one."""
        self._poll.register(self.bell, select.POLLIN)
        _quieten()

    def listen_for(self, seconds: float) -> None:
        """Waits for the bell or for events, and passes those on."""
        for descriptor, _ in self._poll.poll(seconds * 1000):
            if descriptor in self._readers:
                self._read(descriptor)
            else:
                self.bell.hush()

    def watch(self, directory: Path, notice: Callable[[str | None], None]) -> _Watch:
        """Starts to watch.

        Raises:
            OSError: The directory is gone (ENOENT), or inotify has no instance or watch left (EMFILE, ENOSPC).
        """
        if not os.access(directory, os.R_OK):  # watchdog would take it and hear nothing
            raise PermissionError(directory)
        # Resolved: watchdog would watch a symbolic link itself.
        path = os.fsencode(directory.resolve(strict=True))
        watch = _Watch(notice)
        one: Any = getattr(watchdog_inotify_c, "Inotify", None)
        if one is None:
            self._join_shared(path, watch)
        else:
            descriptor = self._keep(one(path, event_mask=self._triggers))
            self._readers[descriptor][1].append(watch)
            watch.holds(lambda: self._drop(descriptor))
        return watch

    def close(self) -> None:
        """Ends all of it. May be called twice."""
        for descriptor in list(self._readers):
            self._drop(descriptor)
        self.bell.close()

    def _join_shared(self, path: bytes, watch: _Watch) -> None:
        if self._shared not in self._readers:
            self._shared = self._keep(watchdog_inotify_c.InotifyFD())
        assert self._shared is not None
        reader, watches = self._readers[self._shared]
        number = reader.add_callback(path, self._triggers, watch, id(watch))
        if number < 0:  # watchdog raises nothing for EACCES
            raise PermissionError(os.fsdecode(path))
        watches.append(watch)

        def release() -> None:
            watches.remove(watch)
            reader.remove_callbacks([(number, id(watch))])

        watch.holds(release)

    def _keep(self, reader: Any) -> int:
        descriptor: int = reader._inotify_fd
        fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)  # out of the hosts and builds that we start
        # It believes from the start that a thread reads it, which would have to close it.
        reader._is_reading = False
        self._readers[descriptor] = (reader, [])
        self._poll.register(descriptor, select.POLLIN)
        return descriptor

    def _drop(self, descriptor: int) -> None:
        if (kept := self._readers.pop(descriptor, None)) is not None:
            self._poll.unregister(descriptor)
            kept[0].close()

    def _read(self, descriptor: int) -> None:
        reader, watches = self._readers[descriptor]
        try:
            for event in reader.read_events():
                if hasattr(reader, "handle_event"):
                    reader.handle_event(event)
                elif event.is_ignored:
                    watches[0].on_watch_deleted()
                else:
                    watches[0].on_event(event)
        # Whatever the exception, the remedy is the same, and a traceback would tear the dashboard.
        except Exception:
            ended = list(watches)
            self._drop(descriptor)
            for watch in ended:
                watch.on_watch_deleted()


def _quieten() -> None:
    """Keeps watchdog's messages from the terminal: without a handler, logging writes warnings there, through the
    dashboard.
    """
    logging.getLogger("watchdog").addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\.")
