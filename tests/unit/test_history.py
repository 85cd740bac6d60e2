"""The journal and its copies, without a host."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import BuildModule

from hotreload import errors, history, native
from hotreload.history import Entry, History
from hotreload.model import Change, EventKind, Host, Manifest, Module, Record

HOST = Host(4711, "game", 1000.5)
ADD = "static int32_t add(void *s, const void *i, void *o) { (void)s; (void)i; (void)o; return NUMBER; }"


def swap(module: Module, after: int = 1, host: Host = HOST, kind: EventKind = EventKind.SWAP) -> Record:
    return Record(kind, 2000.25 + after, host, module, (Change("game.add", after - 1, after),))


def plain(version: int, content: int = 0, name: str = "m") -> Module:
    return Module(name, version, f"{content or version:08x}aa", f"/out/{name}.so", content or version)


@pytest.fixture
def journal(tmp_path: Path) -> History:
    return History(tmp_path / "state" / "hotreload" / "history")


@pytest.fixture
def real(build_module: BuildModule) -> Module:
    return module_at(build_module("m", 1, ADD.replace("NUMBER", "1"), {"game.add": "add"}))


def module_at(path: Path) -> Module:
    found = native.inspect(path)
    assert isinstance(found, Manifest)
    return found.module


def test_entries_come_back_as_they_were(journal: History, tmp_path: Path) -> None:
    assert journal.entries() == []
    module = Module("naïve\u2028", 2**60, "ab", "/out/\udcff.so", 2**64 - 1)
    journal.add(swap(module), tmp_path)
    journal.add(swap(plain(2), 2, kind=EventKind.ROLLBACK), tmp_path)
    first, second = journal.entries()
    assert (first.number, first.kind, first.host, first.module) == (1, EventKind.SWAP, HOST, module)
    assert first.changes == (Change("game.add", 0, 1),) and first.project == str(tmp_path)
    assert (second.number, second.kind) == (2, EventKind.ROLLBACK)


def test_what_two_tools_tell_is_entered_once(journal: History, tmp_path: Path) -> None:
    record = swap(plain(1))
    journal.add(record, tmp_path)
    journal.add(replace(record, time=record.time + 3), tmp_path / "elsewhere")
    assert len(journal.entries()) == 1
    journal.add(swap(plain(1), 2), tmp_path)  # the same module again is another swap
    journal.add(swap(plain(1), 1, replace(HOST, started=3000.0)), tmp_path)  # and so is one in another life
    assert len(journal.entries()) == 3


def test_only_what_changes_slots_is_entered(journal: History, tmp_path: Path) -> None:
    journal.add(Record(EventKind.REJECT, 1.0, HOST, plain(1), code="E-ABI"), tmp_path)
    journal.add(Record(EventKind.ATTACH, 1.0, HOST), tmp_path)
    assert journal.entries() == [] and not journal.directory.exists()


def test_damaged_lines_are_passed_over(journal: History, tmp_path: Path) -> None:
    journal.add(swap(plain(1)), tmp_path)
    with (journal.directory / "journal.jsonl").open("a") as file:
        file.write('{"number": 7\n[]\n{"number": 1, "event": "dance"}\n\xff\n')
    journal.add(swap(plain(2), 2), tmp_path)
    assert [entry.module.version for entry in journal.entries()] == [1, 2]


def test_the_journal_is_bounded(journal: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "JOURNAL_BYTES", 4000)
    for version in range(1, 101):
        journal.add(swap(plain(version), version), tmp_path)
        assert (journal.directory / "journal.jsonl").stat().st_size <= 4000
    found = [entry.number for entry in journal.entries()]
    assert found[-1] == 100 and found == list(range(found[0], 101)) and len(found) >= 5


def test_entering_reads_the_end_of_a_long_journal_alone(
    journal: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "RECENT_BYTES", 2000)
    for version in range(1, 31):
        journal.add(swap(plain(version), version), tmp_path)
    journal.add(swap(plain(30), 30), tmp_path)
    assert [entry.number for entry in journal.entries()] == list(range(1, 31))
    assert 3 <= len(journal._read(2000)) <= 10


def add_many(directory: Path, host: int, count: int) -> None:
    for version in range(1, count + 1):
        History(directory).add(swap(plain(version), version, Host(host, "game", 1.0)), directory)


def test_several_tools_write_at_once(journal: History) -> None:
    context = multiprocessing.get_context("fork")
    tools = [context.Process(target=add_many, args=(journal.directory, host, 25)) for host in range(1, 5)]
    for tool in tools:
        tool.start()
    for tool in tools:
        tool.join(60)
    found = journal.entries()
    assert [entry.number for entry in found] == list(range(1, 101)), "no line is lost, no number is used twice"
    assert {entry.host.pid for entry in found} == {1, 2, 3, 4}


def test_the_directory_is_private(journal: History, real: Module, tmp_path: Path) -> None:
    journal.add(swap(real), tmp_path)
    kept = journal.retained(real.content)
    assert kept is not None
    modes = [path.stat().st_mode & 0o777 for path in (journal.directory.parent, journal.directory, kept.parent, kept)]
    assert modes == [0o700, 0o700, 0o700, 0o500]


# ---- copies ----


def test_a_copy_is_kept_and_outlives_the_output(journal: History, real: Module, tmp_path: Path) -> None:
    journal.add(swap(real), tmp_path)
    Path(real.path).unlink()
    (entry,) = journal.entries()
    assert entry.retained is not None and module_at(entry.retained).content == real.content


def test_the_staged_file_comes_first(journal: History, real: Module, tmp_path: Path) -> None:
    staged = tmp_path / "staged.so"
    Path(real.path).rename(staged)
    journal.add(swap(real), tmp_path, str(staged))
    assert journal.retained(real.content) is not None


def test_an_output_that_has_changed_is_not_taken_for_it(
    journal: History, real: Module, tmp_path: Path, build_module: BuildModule
) -> None:
    build_module("m", 1, ADD.replace("NUMBER", "2"), {"game.add": "add"}, output=Path(real.path))
    journal.add(swap(real), tmp_path, str(tmp_path / "gone.so"))
    (entry,) = journal.entries()
    assert entry.retained is None
    assert list((journal.directory / "modules").iterdir()) == [], "nothing half made is left"


def test_copies_are_bounded_and_the_oldest_go_first(
    journal: History, tmp_path: Path, build_module: BuildModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "RETAINED_COUNT", 2)
    modules = [
        module_at(build_module("m", version, ADD.replace("NUMBER", str(version)), {"game.add": "add"}))
        for version in (1, 2, 3)
    ]
    for number, each in enumerate([modules[0], modules[1], modules[0], modules[2]], 1):
        journal.add(swap(each, number), tmp_path)
    assert [journal.retained(each.content) is not None for each in modules] == [True, False, True]
    monkeypatch.setattr(history, "RETAINED_BYTES", 1)
    journal._forget_oldest()
    assert [journal.retained(each.content) is not None for each in modules] == [False, False, True], "the newest stays"


# ---- which one is meant ----


def entry(number: int, module: Module, *, kept: bool = True, project: str = "/work") -> Entry:
    retained = Path(f"/kept/{module.content}") if kept else None
    return Entry(number, EventKind.SWAP, float(number), HOST, module, (), project, retained)


ENTRIES = [
    entry(1, plain(1, 0xAAAA0001)),
    entry(2, plain(2, 0xBBBB0002)),
    entry(3, plain(2, 0xCCCC0003)),
    entry(4, plain(3, 0xDDDD0004), kept=False),
    entry(5, plain(1, 0xAAAA0001)),
    entry(6, plain(1, 0xEEEE0005, "other")),
]


@pytest.mark.parametrize(
    ("module", "asked", "number"),
    [("m", "1", 5), ("m", "v1", 5), ("other", "1", 6), (None, "#2", 2), (None, "cccc", 3), ("m", "BBBB0002", 2),
     (None, "00000000bbbb", 2), (None, "6", 6), ("m", "5", 5)],
)  # fmt: skip
def test_a_version_is_found(module: str | None, asked: str, number: int) -> None:
    assert history.choose(ENTRIES, module, asked).number == number


def test_a_version_of_a_slot_is_found_where_no_manifest_has_it() -> None:
    """The templates' modules are all of version 1; what a screen shows are the slot's versions."""
    lives = [(1, plain(1, 0xA1)), (2, plain(1, 0xA2)), (1, plain(1, 0xB1)), (2, plain(1, 0xB2))]
    entries = [
        replace(entry(number, module), changes=(Change("m.tick", after - 1, after),))
        for number, (after, module) in enumerate(lives, 1)
    ]
    assert history.choose(entries, "m", "v2").number == 4, "of the last life"
    assert history.choose(entries, None, "2").number == 2, "without v it is the entry"
    with pytest.raises(errors.HotreloadError, match="knows no version m v3"):
        history.choose(entries, "m", "v3")
    with pytest.raises(errors.ConfigError, match="4 different modules"):
        history.choose(entries, "m", "v1")


@pytest.mark.parametrize(
    ("module", "asked", "error", "words"),
    [
        ("m", "2", errors.ConfigError, "2 different modules"),
        (None, "1", errors.ConfigError, "2 different modules"),
        ("m", "3", errors.HotreloadError, "no copy"),
        ("m", "9", errors.HotreloadError, "knows no version m 9"),
        ("nobody", "1", errors.HotreloadError, "knows no version"),
        (None, "aa", errors.HotreloadError, "knows no version"),
        (None, "#99", errors.HotreloadError, "knows no version"),
    ],
)
def test_a_version_is_not_found(module: str | None, asked: str, error: type[errors.HotreloadError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        history.choose(ENTRIES, module, asked)
    assert caught.value.fix
    if error is errors.ConfigError:
        assert "m " in caught.value.found


def test_entries_of_a_project(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    inner = tmp_path / "src" / "deep"
    inner.mkdir(parents=True)
    project = history.project_of(inner)
    assert project == tmp_path.resolve()
    mine = entry(1, plain(1), project=str(project))
    built = entry(2, replace(plain(2), path=str(project / "build" / "m.so")))
    assert history.of_project([mine, built, entry(3, plain(3))], project) == [mine, built]
    bare = tmp_path.parent / f"{tmp_path.name}-bare"
    bare.mkdir()
    assert history.project_of(bare) == bare.resolve() or (bare / ".git").exists() is False
