"""The watcher over real directories and real events; only what is inside a file is a toy format (`Toy`).

``settled`` and ``inspect`` have their own tests, and `test_writers.py` joins both with real linkers.
"""

from __future__ import annotations

import fcntl
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from hotreload import watcher as module
from hotreload.model import Candidate, DirectoryChanged, Failure, Manifest, Module, Settled, Settling, WatchMode
from hotreload.testing import FakeWatcher
from hotreload.watcher import Watcher, WatcherEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
LONG = 60.0
"""Seconds after which a test gives up; nothing here takes as long, however busy the machine."""


class Toy:
    """A probe for toy modules: ``7`` is version 7, ``7...`` lacks bytes, ``!E-ABI`` is refused."""

    def settled(self, path: Path) -> Failure | None:
        return None if path.exists() else Failure("E-IO", "it is gone")

    def inspect(self, path: Path) -> Manifest | Failure:
        try:
            text = path.read_text()
        except OSError as error:
            return Failure("E-IO", str(error))
        if text == "" or text.endswith("..."):
            return Failure("E-TRUNCATED", "bytes are missing")
        if text.startswith("!"):
            return Failure(text[1:], "refused")
        return Manifest(Module("toy", int(text), "", str(path), content=hash(text)), (), 0, 0, 0, ())


class Log:
    """What a watcher delivered."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[WatcherEvent] = queue.SimpleQueue()

    def next(self, kind: type[T]) -> T:
        """The next event of a kind; others before it are dropped."""
        while True:
            event = self.events.get(timeout=LONG)
            if isinstance(event, kind):
                return event

    def candidate(self) -> Candidate:
        (candidate,) = self.next(Settled).candidates
        return candidate

    def version(self) -> int:
        candidate = self.candidate()
        assert candidate.manifest is not None, candidate.failure
        return candidate.manifest.module.version

    def mode(self) -> WatchMode:
        return self.next(DirectoryChanged).directory.mode


class Deaf(Watcher):
    """Hears no events and never sweeps by itself: the test decides when it looks."""

    triggers = 0
    sweep_seconds = 3600.0


class NoSweep(Watcher):
    """Lives on events alone."""

    sweep_seconds = 3600.0


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def watch(log: Log) -> Iterator[Callable[..., Watcher]]:
    """Starts watchers of the class given, which are stopped at the end."""
    running: list[Watcher] = []

    def start(*paths: Path, kind: type[Watcher] = Watcher, probe: object = None, **options: bool) -> Watcher:
        watcher = kind(paths, log.events.put, probe=probe or Toy(), **options)  # type: ignore[arg-type]
        watcher.start()
        running.append(watcher)
        return watcher

    yield start
    for watcher in running:
        watcher.stop()


def replace(path: Path, text: str) -> None:
    """Writes as linkers do that rename: nobody ever sees the name with half of the text."""
    scratch = path.with_name(f"{path.name}.tmp")
    scratch.write_text(text)
    scratch.replace(path)


# ---- which files ----


def test_takes_modules_and_leaves_everything_else(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    watch(tmp_path, kind=NoSweep)
    for name in ("a.txt", ".hidden.so", "a.so.tmp", "libso", "b.so.1"):
        replace(tmp_path / name, "1")
    (tmp_path / "directory.so").mkdir()
    os.mkfifo(tmp_path / "pipe.so")
    replace(tmp_path / "last.so", "2")
    assert log.candidate().path == tmp_path / "last.so"


def test_a_single_file_narrows_to_its_name(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    watch(tmp_path / "mine.so", kind=NoSweep)
    replace(tmp_path / "other.so", "1")
    replace(tmp_path / "mine.so", "2")
    assert log.candidate().path == tmp_path / "mine.so"


def test_a_single_file_may_have_any_name(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    (tmp_path / "plugin.dat").write_text("1")
    watch(tmp_path / "plugin.dat")
    assert log.version() == 1


def test_a_directory_is_not_narrowed_by_a_file_of_it(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    (tmp_path / "a.so").write_text("1")
    (tmp_path / "b.so").write_text("2")
    watch(tmp_path / "a.so", tmp_path)
    assert {log.candidate().path.name, log.candidate().path.name} == {"a.so", "b.so"}


# ---- what was there before ----


def test_existing_files_come_one_by_one_oldest_first(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    for age, name in enumerate(("new.so", "older.so", "oldest.so")):
        (tmp_path / name).write_text("1")
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
    watch(tmp_path)
    found = [log.candidate() for _ in range(3)]
    assert [candidate.path.name for candidate in found] == ["oldest.so", "older.so", "new.so"]
    assert all(candidate.existing for candidate in found)
    replace(tmp_path / "new.so", "2")
    assert not log.candidate().existing


def test_existing_files_are_only_remembered_on_request(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    class Noting(Toy):
        inspected = ""

        def inspect(self, path: Path) -> Manifest | Failure:
            self.inspected += path.name
            return super().inspect(path)

    (tmp_path / "a.so").write_text("1")
    (tmp_path / "b.so").write_text("!E-ABI")
    os.utime(tmp_path / "a.so", (1_000_000, 1_000_000))
    watch(tmp_path, existing=False, probe=(probe := Noting()))
    wait_until(lambda: "b.so" in probe.inspected)
    replace(tmp_path / "a.so", "1")
    replace(tmp_path / "a.so", "2")
    found = log.candidate()
    assert (found.path.name, found.existing) == ("a.so", False)
    assert found.manifest is not None
    assert found.manifest.module.version == 2


def test_a_file_written_after_start_is_new_whatever_was_there(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher]
) -> None:
    """The window between arming and the first look belongs to the new build."""

    class Writer(Toy):
        wrote = False

        def settled(self, path: Path) -> Failure | None:
            if not self.wrote:
                self.wrote = True
                replace(path, "2")
            return super().settled(path)

    (tmp_path / "a.so").write_text("1")
    watch(tmp_path, existing=False, probe=Writer())
    assert log.version() == 2


# ---- what is news ----


def test_the_same_content_is_news_only_after_something_else(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher]
) -> None:
    watch(tmp_path)
    versions = []
    for text in ("1", "1", "2", "1"):
        replace(tmp_path / "a.so", text)
        if text != "1" or versions in ([], [1, 2]):
            versions.append(log.version())
    assert versions == [1, 2, 1]
    (tmp_path / "a.so").unlink()
    replace(tmp_path / "a.so", "1")
    replace(tmp_path / "b.so", "5")
    assert log.version() == 5


def test_a_refused_file_is_told_once_until_it_is_written_again(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher]
) -> None:
    watcher = watch(tmp_path, kind=Deaf)
    for _ in range(2):
        replace(tmp_path / "a.so", "!E-ABI")
        watcher.rescan()
        watcher.rescan()
        found = log.candidate()
        assert found.failure == Failure("E-ABI", "refused")
        assert found.manifest is None
    watcher.rescan()
    replace(tmp_path / "a.so", "3")
    watcher.rescan()
    assert log.version() == 3


def test_outputs_that_settle_together_are_delivered_together(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher]
) -> None:
    watcher = watch(tmp_path, kind=Deaf)
    for name in ("a.so", "b.so", "c.so"):
        replace(tmp_path / name, "1")
    watcher.rescan()
    assert [candidate.path.name for candidate in log.next(Settled).candidates] == ["a.so", "b.so", "c.so"]


# ---- not yet ----


def test_an_unfinished_file_is_asked_again(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    """No event comes after the first look: only the retries can find it."""

    class Slow(Toy):
        looks = 0

        def settled(self, path: Path) -> Failure | None:
            self.looks += 1
            return Failure("E-TRUNCATED", "a writer has it open") if self.looks < 5 else None

    watch(tmp_path, kind=NoSweep, probe=(probe := Slow()))
    replace(tmp_path / "a.so", "1")
    assert log.version() == 1
    assert probe.looks >= 5


def test_an_event_begins_the_retries_again(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    """The kernel may report a close before it takes the writer off the file."""

    class Late(Toy):
        looks = 0
        closed = False
        late = 0

        def settled(self, path: Path) -> Failure | None:
            self.looks += 1
            if self.closed and (late := self.late) < 3:
                self.late = late + 1
                return Failure("E-TRUNCATED", "a writer has it open")
            return None if self.closed else Failure("E-TRUNCATED", "a writer has it open")

    watch(tmp_path, kind=NoSweep, probe=(probe := Late()))
    with (tmp_path / "a.so").open("w") as file:
        file.write("1")
        file.flush()
        wait_until(lambda: probe.looks > len(module.RETRY_SECONDS))
        probe.closed = True
    assert log.version() == 1
    assert probe.late == 3


def test_a_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher]
) -> None:
    class Meddler(Toy):
        done = False

        def inspect(self, path: Path) -> Manifest | Failure:
            verdict = super().inspect(path)
            if not self.done:
                self.done = True
                path.write_text("22")
            return verdict

    watch(tmp_path, probe=Meddler())
    replace(tmp_path / "a.so", "1")
    assert log.version() == 22


def test_a_writer_that_comes_while_the_file_is_read_is_waited_for(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher]
) -> None:
    """Without a trace in stat, as on kernels that stamp times coarsely."""

    class Second(Toy):
        looks = 0

        def settled(self, path: Path) -> Failure | None:
            self.looks += 1
            return Failure("E-TRUNCATED", "a writer has it open") if self.looks == 2 else None

        def inspect(self, path: Path) -> Manifest | Failure:
            verdict = super().inspect(path)
            assert isinstance(verdict, Manifest)
            return verdict if self.looks > 1 else Failure("E-ABI", "half of one, half of the other")

    watch(tmp_path, kind=NoSweep, probe=Second())
    replace(tmp_path / "a.so", "1")
    assert log.version() == 1


def test_a_file_read_just_after_its_last_change_is_read_again(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where times are stamped in steps of 10 ms, a second writer may leave size and times as they were."""
    monkeypatch.setattr(module, "RACY_SECONDS", 60)  # also on a machine that reads it late

    class Counting(Toy):
        reads = 0

        def inspect(self, path: Path) -> Manifest | Failure:
            self.reads += 1
            return super().inspect(path)

    replace(tmp_path / "a.so", "1")
    watcher = watch(tmp_path, kind=Deaf, probe=(probe := Counting()))
    assert log.version() == 1
    watcher.rescan()
    wait_until(lambda: probe.reads >= 2)


def test_a_file_cut_off_is_refused_once_nobody_writes(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRUNCATED_SECONDS", 0.1)
    watcher = watch(tmp_path)
    (tmp_path / "a.so").write_text("12...")
    failure = log.candidate().failure
    assert failure is not None
    assert failure.code == "E-TRUNCATED"
    watcher.rescan()
    replace(tmp_path / "a.so", "12")
    assert log.version() == 12


def test_permissions_that_are_set_last_are_no_refusal(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Denied(Toy):
        looks = 0

        def settled(self, path: Path) -> Failure | None:
            self.looks += 1
            return Failure("E-DENIED", "others may write to it") if self.looks < 4 else None

    monkeypatch.setattr(module, "REFUSAL_SECONDS", 3600.0)
    watch(tmp_path, kind=NoSweep, probe=Denied())
    replace(tmp_path / "a.so", "1")
    assert log.version() == 1


def test_the_permissions_of_a_directory_are_mended_without_another_build(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wary(Toy):
        def settled(self, path: Path) -> Failure | None:
            open_to_all = path.parent.stat().st_mode & 0o022
            return Failure("E-DENIED", "others may write to the directory") if open_to_all else super().settled(path)

    monkeypatch.setattr(module, "REFUSAL_SECONDS", 0.01)
    monkeypatch.setattr(Watcher, "sweep_seconds", 0.05)
    tmp_path.chmod(0o775)
    watch(tmp_path, probe=Wary())
    replace(tmp_path / "a.so", "1")
    refused = log.candidate()
    assert refused.failure and refused.failure.code == "E-DENIED"
    tmp_path.chmod(0o755)
    assert log.version() == 1


def test_a_file_that_takes_long_is_reported_and_taken_back(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(Toy):
        def settled(self, path: Path) -> Failure | None:
            return Failure("E-TRUNCATED", "a writer has it open")

    monkeypatch.setattr(module, "SETTLING_SECONDS", 0.1)
    monkeypatch.setattr(Watcher, "sweep_seconds", 0.05)
    watch(tmp_path, probe=Stuck())
    replace(tmp_path / "a.so", "1")
    first, second = log.next(Settling), log.next(Settling)
    assert first.path == second.path == tmp_path / "a.so"
    assert (first.reason, second.reason) == ("a writer has it open",) * 2
    assert 0.1 <= first.seconds < second.seconds
    (tmp_path / "a.so").unlink()
    last = log.next(Settling)
    while 0.0 < last.seconds < LONG:
        last = log.next(Settling)
    assert (last.seconds, last.reason) == (0.0, "gone")


def test_permissions_that_a_linker_sets_last_are_no_second_refusal(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher]
) -> None:
    class Strict(Toy):
        def inspect(self, path: Path) -> Manifest | Failure:
            return super().inspect(path) if path.name == "b.so" else Failure("E-ABI", "another ABI")

    watcher = watch(tmp_path, probe=Strict())
    replace(tmp_path / "a.so", "1")
    refused = log.candidate()
    assert refused.failure and refused.failure.code == "E-ABI"
    time.sleep(0.02)  # the time of a change has steps of up to 10 ms
    (tmp_path / "a.so").chmod(0o755)
    watcher.rescan()
    replace(tmp_path / "b.so", "2")
    assert log.version() == 2
    replace(tmp_path / "a.so", "11")
    refused = log.candidate()
    assert refused.failure and refused.path == tmp_path / "a.so", "another file is another refusal"


def test_a_forgotten_content_is_news_when_it_is_written_again(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher]
) -> None:
    watcher = watch(tmp_path)
    output, other = tmp_path / "a.so", tmp_path / "b.so"

    def written(content: str, to: Path) -> tuple[Path, int]:
        replace(to, content)
        found = log.candidate()
        assert found.manifest is not None
        return found.path, found.manifest.module.version

    assert written("1", output) == (output, 1)
    watcher.forget(tmp_path / "unknown.so")
    watcher.forget(output)
    output.chmod(0o755)
    watcher.rescan()
    assert written("2", other) == (other, 2), "what lies there is no news"
    assert written("1", output) == (output, 1)
    replace(output, "1")
    assert written("3", other) == (other, 3), "it is remembered again"


# ---- directories that come and go ----


def test_waits_for_a_directory_that_does_not_exist(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    output = tmp_path / "target" / "deep" / "release"
    watch(output, kind=NoSweep)
    assert log.mode() is WatchMode.WAITING
    output.mkdir(parents=True)
    assert log.mode() is WatchMode.INOTIFY
    replace(output / "a.so", "1")
    found = log.candidate()
    assert (found.path, found.existing) == (output / "a.so", False)


def test_files_that_come_with_their_directory(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    staging = tmp_path / "staging" / "release"
    staging.mkdir(parents=True)
    watch(tmp_path / "target" / "release", kind=NoSweep)
    (staging / "a.so").write_text("1")
    staging.parent.rename(tmp_path / "target")
    assert log.candidate().path == tmp_path / "target" / "release" / "a.so"


def test_a_deleted_directory_is_watched_again(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    """On events alone: the kernel's watch ends with the directory, and its inode number comes back at once."""
    output = tmp_path / "target" / "release"
    output.mkdir(parents=True)
    watch(output, kind=NoSweep)
    for version in range(1, 6):
        shutil.rmtree(tmp_path / "target")
        output.mkdir(parents=True)
        (output / "a.so").write_text(str(version))
        assert log.version() == version


def test_a_directory_renamed_away_and_back(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    output = tmp_path / "release"
    output.mkdir()
    watcher = watch(output)
    assert log.mode() is WatchMode.INOTIFY
    output.rename(tmp_path / "away")
    assert log.mode() is WatchMode.WAITING
    replace(tmp_path / "away" / "a.so", "1")
    (tmp_path / "away").rename(output)
    assert log.mode() is WatchMode.INOTIFY
    assert log.version() == 1
    watcher.rescan()
    replace(output / "a.so", "2")
    assert log.version() == 2


def test_a_replaced_directory_is_followed(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    output, other = tmp_path / "release", tmp_path / "other"
    output.mkdir()
    other.mkdir()
    watcher = watch(output, kind=NoSweep)
    (other / "b.so").write_text("1")
    output.rename(tmp_path / "old")
    other.rename(output)
    watcher.rescan()
    assert log.version() == 1
    # From here on by events alone.
    replace(tmp_path / "old" / "a.so", "2")
    replace(output / "a.so", "3")
    assert log.version() == 3


def test_a_symbolic_link_to_a_directory_and_its_new_target(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher]
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    link = tmp_path / "release"
    link.symlink_to("one")
    watcher = watch(link, kind=NoSweep)
    replace(tmp_path / "one" / "a.so", "1")
    assert log.candidate().path == link / "a.so"
    (tmp_path / "two" / "b.so").write_text("2")
    scratch = tmp_path / "link"
    scratch.symlink_to("two")
    scratch.replace(link)
    watcher.rescan()
    assert log.version() == 2
    replace(tmp_path / "two" / "a.so", "3")
    assert log.version() == 3


def test_a_symbolic_link_to_a_versioned_file(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    replace(tmp_path / "liba.so.1", "1")
    (tmp_path / "liba.so").symlink_to("liba.so.1")
    watch(tmp_path, kind=NoSweep)
    assert log.version() == 1
    replace(tmp_path / "liba.so.1", "2")
    found = log.candidate()
    assert (found.path.name, found.existing) == ("liba.so", False)


def test_a_link_into_another_directory_is_found_by_the_sweep(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher]
) -> None:
    (tmp_path / "out").mkdir()
    replace(tmp_path / "real.so", "1")
    (tmp_path / "out" / "a.so").symlink_to("../real.so")
    watch(tmp_path / "out")
    assert log.version() == 1
    replace(tmp_path / "real.so", "2")
    assert log.version() == 2


def test_several_directories_and_an_ancestor_of_one(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    """Two watches of one directory share a kernel watch: the second must not take events from the first."""
    target = tmp_path / "target"
    target.mkdir()
    watch(target, target / "release", kind=NoSweep)
    with (target / "a.so").open("w") as file:
        file.write("1...")
        file.flush()
        file.seek(0)
        file.truncate()
        file.write("1")
    assert log.version() == 1
    (target / "release").mkdir()
    while log.next(DirectoryChanged).directory.path != target / "release":
        pass
    (target / "release" / "b.so").write_text("2")
    assert log.version() == 2


# ---- what watchdog does wrong ----


def test_a_storm_of_files_does_not_hide_the_last_one(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    watch(tmp_path)
    for number in range(10_000):
        path = tmp_path / f"{number}.so"
        path.touch()
        path.unlink()
    replace(tmp_path / "last.so", "7")
    assert log.version() == 7


READER = getattr(module.watchdog_inotify_c, "InotifyFD", None) or module.watchdog_inotify_c.Inotify


def test_a_reader_that_fails_is_replaced(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quietly, too: pytest turns an exception that ends a thread into an error."""
    original = READER.read_events
    failures: list[str] = []
    before = inotify_descriptors()

    def fails_once(self: object, **options: int) -> object:
        events = original(self, **options)
        if not failures:
            failures.append("once")
            raise KeyError("as watchdog does on a directory that changes quickly")
        return events

    monkeypatch.setattr(READER, "read_events", fails_once)
    watch(tmp_path, kind=NoSweep)
    (tmp_path / "ignored").touch()
    wait_until(lambda: bool(failures))
    replace(tmp_path / "a.so", "1")
    assert log.version() == 1
    replace(tmp_path / "a.so", "2")
    assert log.version() == 2
    assert len(inotify_descriptors() - before) <= 1


def test_lost_events_are_made_good_by_a_sweep(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's queue has overflowed: what it tells of no more is found all the same."""
    if not hasattr(READER, "handle_event"):
        pytest.skip("watchdog 6 does not tell of an overflow")
    original = READER.read_events

    def overflows(self: object, **options: int) -> object:
        original(self, **options)
        return [module.watchdog_inotify_c.InotifyEvent(-1, 0x4000, 0, b"")]  # IN_Q_OVERFLOW

    monkeypatch.setattr(READER, "read_events", overflows)
    watch(tmp_path, kind=NoSweep)
    replace(tmp_path / "a.so", "1")
    assert log.version() == 1


def test_half_of_a_rename_holds_nothing_back(
    tmp_path: Path, log: Log, watch: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """watchdog's own emitters hold back all that comes after it, by default for half a second."""
    for name in ("inotify_move_event_grouper.InotifyMoveEventGrouper", "inotify_buffer.InotifyBuffer"):
        with suppress(ImportError):
            monkeypatch.setattr(f"watchdog.observers.{name}.delay", 3600.0)
    watched = tmp_path / "watched"
    watched.mkdir()
    replace(watched / "a.so", "1")
    watch(watched, kind=NoSweep)
    assert log.version() == 1
    (watched / "a.so").rename(tmp_path / "away")
    replace(watched / "b.so", "2")
    assert log.version() == 2


def test_descriptors_are_not_inherited_and_all_closed(tmp_path: Path, watch: Callable[..., Watcher]) -> None:
    before = inotify_descriptors()
    watcher = watch(tmp_path)
    opened = inotify_descriptors() - before
    assert len(opened) == 1
    assert all(fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for descriptor in opened)
    watcher.stop()
    assert inotify_descriptors() == before


def test_threads_end_with_the_watcher(tmp_path: Path, watch: Callable[..., Watcher]) -> None:
    before = set(threading.enumerate())
    watcher = watch(tmp_path, tmp_path / "later" / "release")
    assert len(threading.enumerate()) > len(before)
    watcher.stop()
    watcher.stop()
    assert set(threading.enumerate()) == before


def test_nothing_reaches_the_terminal(tmp_path: Path) -> None:
    program = (
        "import logging, sys, warnings\n"
        "from pathlib import Path\n"
        "from hotreload.watcher import Watcher\n"
        "watcher = Watcher([Path(sys.argv[1])], lambda event: None)\n"
        "watcher.start()\n"
        "logging.getLogger('watchdog.observers.inotify_c').warning('queue overflowed')\n"
        "warnings.warn_explicit('callback', RuntimeWarning, 'inotify_c.py', 1, 'watchdog.observers.inotify_c')\n"
        "watcher.stop()\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, check=True, text=True)
    assert done.stdout + done.stderr == ""


# ---- polling ----


def test_polling_finds_what_is_written(tmp_path: Path, log: Log, watch: Callable[..., Watcher]) -> None:
    output = tmp_path / "release"
    before = inotify_descriptors()
    watch(output, poll=True)
    assert log.mode() is WatchMode.WAITING
    output.mkdir()
    assert log.mode() is WatchMode.POLLING
    assert inotify_descriptors() == before
    for text in ("1", "2"):
        (output / "a.so").write_text(text)
        assert log.version() == int(text)


@pytest.mark.parametrize("limit", ["max_inotify_instances", "max_inotify_watches"])
def test_polls_when_inotify_is_used_up(tmp_path: Path, limit: str) -> None:
    """In a user namespace of its own, where the limit can be set to nothing."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from hotreload.watcher import Watcher\n"
        "watcher = Watcher([Path(sys.argv[1])], print)\n"
        "watcher.start()\n"
        "watcher.rescan()\n"
        "watcher.stop()\n"
    )
    shell = f'echo 0 > /proc/sys/user/{limit} || exit 77; exec "$0" -c "$1" "$2"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", shell, sys.executable, program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode in (1, 77, 127) and "unshare" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert "WatchMode.POLLING" in done.stdout


# ---- the end, and the fake ----


def test_stop_from_deliver_ends_it(tmp_path: Path) -> None:
    events: list[WatcherEvent] = []

    def deliver(event: WatcherEvent) -> None:
        events.append(event)
        if isinstance(event, Settled):
            watcher.stop()

    for name in ("a.so", "b.so"):
        (tmp_path / name).write_text("1")
    watcher = Watcher([tmp_path], deliver, probe=Toy())
    watcher.start()
    wait_until(lambda: not watcher._thread.is_alive())
    assert [type(event) for event in events] == [DirectoryChanged, Settled]


def test_the_fake_delivers_what_it_is_told(tmp_path: Path) -> None:
    events: list[WatcherEvent] = []
    fake = FakeWatcher([tmp_path], events.append, poll=True)
    candidate = Candidate(tmp_path / "a.so", 0.0)
    fake.settle(candidate)
    fake.start()
    fake.settle(candidate)
    fake.settling(tmp_path / "a.so", 5.0)
    fake.rescan()
    fake.stop()
    fake.settle(candidate)
    assert [type(event) for event in events] == [DirectoryChanged, Settled, Settling]
    assert fake.rescans == 1


# ---- helpers ----


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def inotify_descriptors() -> set[int]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if os.readlink(entry) == "anon_inode:inotify":  # noqa: PTH115 - not a path
                found.add(int(entry.name))
        except OSError:
            continue
    return found
