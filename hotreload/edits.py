"""Watches source trees: directories in, edited files out.

watchdog is not used here: it spends a thread or an inotify instance on every directory, and its recursive mode also
watches build trees, whose thousands of files would wake us all through a build. One inotify descriptor of our own with
a watch on every directory that matters needs neither, and tells of a save within a millisecond. A sweep finds what
events miss (hard links, remote file systems); where inotify has nothing left it works alone, ten times a second.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

SOURCE_SUFFIXES = frozenset(
    {".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".rs", ".zig", ".zon", ".s", ".toml", ".inc"}
)
SOURCE_NAMES = frozenset({"Makefile", "makefile", "GNUmakefile", "CMakeLists.txt", "meson.build", "build.rs"})
SKIPPED = frozenset({"target", "build", "node_modules", "__pycache__", "venv", "zig-cache", "zig-out"})
SWEEP_SECONDS = 1.0
POLL_SECONDS = 0.1
SWEEP_SHARE = 0.02
"""The part of a core that sweeps may take: large trees are swept less often."""
QUIET_SECONDS = 0.001
"""How long nothing must happen before an edit is told: a save of several files, or of one in two steps, is one edit."""
STORM_SECONDS = 0.1
"""How long a storm of events (a checkout) may hold up what began it."""

Stamp = tuple[int, int]
"""Modification time in ns, and size in bytes."""


class Edits:
    """Tells of edited files, on a thread of its own.

    Args:
        roots: Source trees; build trees and hidden directories in them are left out.
        outputs: Watched build outputs: directories that are no sources either.
        special: Single files that matter whatever their name is.
        tell: Receives the files that changed together (absolute, resolved, sorted), and when the newest was saved
            (``time.time()``).
        idle: Called between waits, at least once a second.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        outputs: Sequence[Path],
        special: Sequence[Path],
        tell: Callable[[Sequence[str], float], None],
        *,
        idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._roots, self._outputs, self._special = _resolved(roots, outputs, special)
        self._tell = tell
        self._idle = idle
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._notifier = Notifier.open()
        self._stopped = Event()
        self._known: dict[str, Stamp] = {}
        self._thread = Thread(target=self._work, name="hotreload-edits", daemon=True)

    def start(self, before: Edits | None = None) -> None:
        """Begins. What is edited after this returns is told, and what was edited since ``before`` was stopped."""
        self._known = self._sweep()
        self._due = time.monotonic() + (SWEEP_SECONDS if self._notifier else POLL_SECONDS)
        if before:
            fresh = {path: stamp for path, stamp in self._known.items() if not before._has(path)}
            self._known = {path: stamp for path, stamp in before._known.items() if self._has(path)} | fresh
            self._due = 0.0  # the first sweep finds what differs
        self._thread.start()

    def watches(self, roots: Sequence[Path], outputs: Sequence[Path], special: Sequence[Path]) -> bool:
        """Whether it was made for these."""
        return (self._roots, self._outputs, self._special) == _resolved(roots, outputs, special)

    def _has(self, path: str) -> bool:
        """Whether it would be seen, if it is a source."""
        return path in self._special or any(path.startswith(f"{root}/") for root in self._roots)

    def stop(self) -> None:
        """Ends; nothing is told after this returns."""
        self._stopped.set()
        os.write(self._wake_write, b"x")
        if self._thread.is_alive():
            self._thread.join()
        if self._notifier:
            self._notifier.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _work(self) -> None:
        while not self._stopped.is_set():
            touched = self._listen(min(max(0.0, self._due - time.monotonic()), POLL_SECONDS))
            if self._stopped.is_set():
                return
            if touched:
                self._report({path: _stamp(path) for path in touched})
            if time.monotonic() >= self._due:
                started = time.monotonic()
                now = self._sweep()
                gone = self._known.keys() - now.keys()
                self._report({**now, **dict.fromkeys(gone)})
                spent = time.monotonic() - started
                complete = self._notifier is not None and self._notifier.complete
                self._due = time.monotonic() + max(SWEEP_SECONDS if complete else POLL_SECONDS, spent / SWEEP_SHARE)
            self._idle()

    def _report(self, stamps: Mapping[str, Stamp | None]) -> None:
        changed = sorted(path for path, stamp in stamps.items() if self._known.get(path) != stamp)
        if not changed:
            return
        for path in changed:
            if (stamp := stamps[path]) is None:
                self._known.pop(path, None)
            else:
                self._known[path] = stamp
        now = time.time()
        times = [stamp[0] / 1e9 for path in changed if (stamp := stamps[path]) is not None]
        # A file that was moved here, or has a date of its own, was not saved when it says so.
        saved = max(times, default=now)
        self._tell(changed, saved if now - 1.0 <= saved <= now else now)

    def _listen(self, seconds: float) -> set[str]:
        """Waits for events. Returns the files that matter; after the first one until there is quiet."""
        touched: set[str] = set()
        deadline = time.monotonic() + STORM_SECONDS
        while self._wait(QUIET_SECONDS if touched else seconds):
            assert self._notifier
            for directory, name, is_directory in self._notifier.read():
                path = f"{directory}/{name}"
                if is_directory and not self._is_skipped(path, name):
                    touched.update(self._walk(path))
                elif not is_directory and self._matters(path, name):
                    touched.add(path)
            if touched and time.monotonic() > deadline:
                break
        return touched

    def _wait(self, seconds: float) -> bool:
        """Whether there are events; False after the time, or when asked to stop."""
        watched = [self._wake_read] + ([self._notifier.fd] if self._notifier else [])
        ready = select.select(watched, [], [], seconds)[0]
        return not self._stopped.is_set() and self._notifier is not None and self._notifier.fd in ready

    def _sweep(self) -> dict[str, Stamp]:
        paths: Iterable[str] = (path for root in self._roots for path in self._walk(root))
        found = {path: stamp for path in paths if (stamp := _stamp(path)) is not None}
        for path in self._special:
            if self._notifier:
                self._notifier.add(str(Path(path).parent))
            if (stamp := _stamp(path)) is not None:
                found[path] = stamp
        return found

    def _walk(self, directory: str) -> Iterator[str]:
        """The sources below a directory; each directory on the way is watched from before it is read."""
        if self._notifier:
            self._notifier.add(directory)
        try:
            entries = list(os.scandir(directory))
        except OSError:
            return
        for entry in entries:
            path = f"{directory}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if not self._is_skipped(path, entry.name):
                    yield from self._walk(path)
            elif self._matters(path, entry.name):
                yield path

    def _matters(self, path: str, name: str) -> bool:
        own = name in SOURCE_NAMES or name[name.rfind(".") :] in SOURCE_SUFFIXES
        # Editors' swap and backup files are hidden, or end otherwise.
        return (own and not name.startswith(".")) or str(Path(path).absolute()) in self._special

    def _is_skipped(self, path: str, name: str) -> bool:
        return name.startswith(".") or name in SKIPPED or path in self._outputs


def _resolved(
    roots: Sequence[Path], outputs: Sequence[Path], special: Sequence[Path]
) -> tuple[tuple[str, ...], frozenset[str], frozenset[str]]:
    """One name for one directory: inotify tells of it by a number, whatever name it was asked for by."""
    found = tuple(map(os.path.realpath, roots)), frozenset(map(os.path.realpath, outputs))
    return *found, frozenset(map(os.path.realpath, special))


def _stamp(path: str) -> Stamp | None:
    try:
        info = os.stat(path)  # noqa: PTH116 (as often as there are sources)
    except OSError:
        return None
    return info.st_mtime_ns, info.st_size


class Notifier:
    """inotify: one descriptor, a watch for each directory."""

    _EVENT = struct.Struct("iIII")
    _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
    _IS_DIRECTORY, _ONLY_DIRECTORIES = 0x40000000, 0x01000000

    def __init__(self, fd: int, libc: ctypes.CDLL) -> None:
        self.fd = fd
        self.complete = True
        """Every directory that was added is watched."""
        self._libc = libc
        self._directories: dict[int, str] = {}

    @classmethod
    def open(cls) -> Notifier | None:
        """None where the user has no instance left, or the system no inotify."""
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        return cls(fd, libc) if fd >= 0 else None

    def add(self, directory: str) -> None:
        """Watches a directory; a second time changes nothing."""
        mask = self._CLOSE_WRITE | self._MOVED_FROM | self._MOVED_TO | self._CREATE | self._DELETE
        watch = self._libc.inotify_add_watch(self.fd, os.fsencode(directory), mask | self._ONLY_DIRECTORIES)
        if watch >= 0:
            self._directories[watch] = directory
        elif Path(directory).is_dir():
            self.complete = False

    def read(self) -> list[tuple[str, str, bool]]:
        """Directory, name, and whether a directory has appeared there, for everything that has happened. A file that
        was only created is left out: what is written into it is told when it is closed."""
        found: list[tuple[str, str, bool]] = []
        data = b""
        with suppress(BlockingIOError):
            data = os.read(self.fd, 65536)
        at = 0
        while at + self._EVENT.size <= len(data):
            watch, mask, _, length = self._EVENT.unpack_from(data, at)
            name = os.fsdecode(data[at + self._EVENT.size :][:length].rstrip(b"\0"))
            at += self._EVENT.size + length
            is_directory = bool(mask & self._IS_DIRECTORY)
            unwanted = self._MOVED_FROM | self._DELETE if is_directory else self._CREATE
            if watch in self._directories and name and not mask & unwanted:
                found.append((self._directories[watch], name, is_directory))
        return found

    def close(self) -> None:
        """Ends all watches."""
        os.close(self.fd)
