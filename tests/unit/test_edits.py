"""Which files count as sources, and that every way to save one is told once, with and without inotify."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

import pytest

from hotreload import edits
from hotreload.edits import Edits

PATIENCE = 20.0

Start = Callable[..., "Told"]


class Told:
    """What a watcher has told so far."""

    def __init__(self, root: Path, before: Edits | None = None, **options: Sequence[Path]) -> None:
        self.root = root
        self.all: list[tuple[list[str], float]] = []
        self._news = Event()
        given = {"roots": [root], "outputs": [root / "out"], "special": [], **options}
        self.edits = Edits(given["roots"], given["outputs"], given["special"], self._take)
        self.edits.start(before)

    def _take(self, paths: Sequence[str], saved: float) -> None:
        self.all.append(([str(Path(path).relative_to(self.root.resolve())) for path in paths], saved))
        self._news.set()

    def next(self) -> list[str]:
        """Waits for what is told next."""
        deadline = time.monotonic() + PATIENCE
        while not self.all:
            assert self._news.wait(deadline - time.monotonic()), "nothing was told"
            self._news.clear()
        return self.all.pop(0)[0]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    told: list[Told] = []

    def begin(before: Edits | None = None, **options: Sequence[Path]) -> Told:
        told.append(Told(tmp_path, before, **options))
        return told[-1]

    yield begin
    for each in told:
        each.edits.stop()


@pytest.fixture(params=["inotify", "sweeps"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the kernel's events, whose sweep is then kept from hiding a lost one; and without any."""
    if request.param == "sweeps":
        monkeypatch.setattr(edits.Notifier, "open", lambda: None)
    else:
        monkeypatch.setattr(edits, "SWEEP_SECONDS", 3600.0)
    return str(request.param)


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_sources_are_told_from_the_rest(start: Start, way: str, tmp_path: Path) -> None:
    put(tmp_path / "sub" / "b.rs")
    told = start()
    for name in ("a.o", "notes.txt", "target/x.c", ".git/y.c", "out/z.c", "liba.so", ".a.c.swp.c", "sub/.hidden.c"):
        put(tmp_path / name)
    put(tmp_path / "sub" / "b.rs", "longer")
    assert told.next() == ["sub/b.rs"]
    time.sleep(0.3)
    assert told.all == []


@pytest.mark.parametrize("name", ["a.c", "CMakeLists.txt", "Makefile", "a.hpp", "build.zig.zon"])
def test_a_new_file(start: Start, way: str, tmp_path: Path, name: str) -> None:
    told = start()
    put(tmp_path / name)
    assert told.next() == [name]


def test_ways_to_save(start: Start, way: str, tmp_path: Path) -> None:
    source = put(tmp_path / "a.c")
    told = start()

    source.write_text("in place")
    assert told.next() == ["a.c"]
    put(tmp_path / "a.c.new", "by a rename").replace(source)
    assert told.next() == ["a.c"]
    source.unlink()
    assert told.next() == ["a.c"]
    put(tmp_path / "aside").rename(source)
    assert told.next() == ["a.c"]
    assert told.all == []


def test_new_directories_are_watched_whole(start: Start, way: str, tmp_path: Path) -> None:
    told = start()
    put(tmp_path / "one" / "two" / "a.c")
    assert told.next() == ["one/two/a.c"]
    put(tmp_path / "one" / "two" / "b.c")
    # Where the new directory's files are found before the event of the last write to one comes, that is told as well.
    while (names := told.next()) == ["one/two/a.c"]:
        pass
    assert names == ["one/two/b.c"]


def test_what_is_saved_together_is_told_once(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edits, "QUIET_SECONDS", 0.5)
    told = start()
    for name in ("b.c", "a.c", "c.c"):
        put(tmp_path / name)
    assert told.next() == ["a.c", "b.c", "c.c"]


def test_when_it_was_saved(start: Start, way: str, tmp_path: Path) -> None:
    told = start()
    before = time.time()
    put(tmp_path / "a.c")
    deadline = time.monotonic() + PATIENCE
    while not told.all and time.monotonic() < deadline:
        time.sleep(0.01)
    assert before - 0.02 <= told.all[0][1] <= time.time()


def test_a_file_with_a_date_of_its_own_was_saved_now(start: Start, way: str, tmp_path: Path) -> None:
    old = put(tmp_path / "aside")
    os.utime(old, (1000, 1000))
    told = start()
    before = time.time()
    old.rename(tmp_path / "a.c")
    deadline = time.monotonic() + PATIENCE
    while not told.all and time.monotonic() < deadline:
        time.sleep(0.01)
    assert told.all[0][1] >= before


def test_special_files_may_have_any_name(start: Start, way: str, tmp_path: Path) -> None:
    special = tmp_path / "elsewhere" / "config.ini"
    put(special)
    told = start(roots=[], special=[special, tmp_path / "elsewhere" / "later.ini"])
    put(special, "changed")
    assert told.next() == ["elsewhere/config.ini"]
    put(tmp_path / "elsewhere" / "later.ini")
    assert told.next() == ["elsewhere/later.ini"]


def test_what_is_edited_between_two_watches_is_told(start: Start, way: str, tmp_path: Path) -> None:
    """A change of the configuration replaces one by the other while its user goes on typing."""
    for name in ("edited.c", "gone.c", "kept.c", "other/far.c"):
        put(tmp_path / "src" / name)
    given = ([tmp_path / "src"], [tmp_path / "out"], [])
    told = start(roots=given[0])
    assert told.edits.watches(*given) and not told.edits.watches([tmp_path], *given[1:])
    told.edits._stopped.set()
    told.edits._thread.join(PATIENCE)
    put(tmp_path / "src" / "edited.c", "other")
    put(tmp_path / "src" / "new.c")
    put(tmp_path / "far.c")
    (tmp_path / "src" / "gone.c").unlink()
    after = start(before=told.edits, roots=[tmp_path])
    assert after.next() == ["src/edited.c", "src/gone.c", "src/new.c"]
    put(tmp_path / "src" / "other" / "far.c", "other")
    assert after.next() == ["src/other/far.c"], "and what comes later"
    narrow = start(before=after.edits, roots=[tmp_path / "src" / "other"])
    put(tmp_path / "src" / "other" / "far.c", "once more")
    assert narrow.next() == ["src/other/far.c"], "what is no source any more is no edit"


def test_a_link_in_a_circle_ends(start: Start, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    told = start()
    put(tmp_path / "a.c")
    assert told.next() == ["a.c"]


def test_hard_links_are_found_by_the_sweep(start: Start, tmp_path: Path) -> None:
    aside = put(tmp_path / "aside")
    told = start()
    (tmp_path / "a.c").hardlink_to(aside)
    assert told.next() == ["a.c"]
