"""The dashboard's picture, without a terminal: what it says at fixed sizes, and that it always fits."""

from __future__ import annotations

import io
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from scenes import (
    EFFECTS,
    HOST,
    NEXT,
    NOW,
    OLD,
    REJECTED,
    STEPS,
    SWAPPED,
    SYNTH,
    attached,
    child,
    directory,
    failed_build,
    many,
    records,
    rejected,
    session,
    slot,
    synth,
    utc,
    view,
)

from hotreload.meter import HostView, Meter
from hotreload.model import (
    Change,
    Directory,
    EventKind,
    Host,
    LayoutRow,
    LayoutSide,
    Record,
    SlotState,
    Snapshot,
    Times,
    WatchMode,
)
from hotreload.reporters.panes import Pane, rule, share
from hotreload.reporters.screen import Painter, Screen, cells, cut, cut_middle, cut_start, fit, to_ascii, width_of, wrap
from hotreload.reporters.ui import Sort, Ui
from hotreload.reporters.view import render
from hotreload.reporters.view.slots import sparkline
from hotreload.session import Build, BuildPhase, HostState, State

PICTURE = Path(__file__).resolve().parents[2] / "examples" / "dashboard.svg"
MIXER = Host(48300, "mixer", NOW - 40, "0.1.0")
SIZES = ((100, 30), (60, 15), (30, 5))


@pytest.fixture(autouse=True)
def _utc() -> Iterator[None]:
    with utc():
        yield


def lines(
    state: State, hosts: Mapping[int, HostView], width: int = 100, height: int = 30, ui: Ui | None = None
) -> list[str]:
    """The screen as text; always of exactly the size asked for."""
    screen = render(state, hosts, ui or Ui(), width, height, NOW)
    assert [width_of(line) for line in screen.text] == [width] * height
    assert all(line.isprintable() for line in screen.text)
    return screen.text


def text(*args: object, **options: object) -> str:
    return "\n".join(lines(*args, **options))  # type: ignore[arg-type]


def one(found: HostView) -> dict[int, HostView]:
    return {found.snapshot.host.pid: found}


def row(screen: list[str], start: str) -> str:
    """The line whose text, without frame and cursor, begins so."""
    found = [line for line in screen if line.strip("│┃▸ ").startswith(start)]
    assert len(found) == 1, (start, screen)
    return found[0]


# ---- what runs, since when, is it called, why was the last one rejected ----


@pytest.mark.parametrize("size", [(100, 30), (80, 20), (140, 50), (60, 15), (40, 8)])
def test_it_says_at_once_what_runs_since_when_and_how_often(size: tuple[int, int]) -> None:
    found = text(session(), one(synth()), *size)
    assert "synth v7 a1f3c09e" in found
    assert "14:02:11" in found or size[0] < 60
    assert "calls/s" in found.lower()


def test_the_full_form_has_every_part() -> None:
    screen = lines(session(), one(synth()))
    assert "hotreload · synth  pid 48213  up 00:12:04" in screen[0] and "● attached" in screen[0]
    assert "target/release inotify" in screen[1] and "✓ ok 1.84 s  14:02:10  cargo build --release" in screen[1]
    assert "since 14:02:11, 2 min 20 s ago" in screen[2] and "and 3 more" in screen[2]
    heading = row(screen, "SLOT").split()
    assert " ".join(heading) == "│ SLOT VER MODULE STATE CALLS/S LAST 30 S TOTAL ON VER IN │"
    assert row(screen, "synth.voice_tick").split()[1:7] == ["synth.voice_tick", "v7", "a1f3c09e", "●", "live", "8.54k"]
    assert row(screen, "fx.limiter").split()[1:7] == ["fx.limiter", "v0", "built", "in", "○", "fallback"]
    assert "idle" in row(screen, "ui.on_key") and "···············" in row(screen, "ui.on_key")
    assert row(screen, "synth.voice_tick").split()[-2] == "1"
    assert "[v7 a1f3c09e]" in row(screen, "versions") and "v6 0be2aa01 ›" in row(screen, "versions")
    assert "swap in 1.93 ms  stage 0.31 preflight 0.24 open 1.18" in row(screen, "last")
    assert "7 swaps · 0 rejected · 0 rollbacks" in screen[-2] and "generation 9" in screen[-2]
    assert screen[-1].startswith(" q quit  ? help")


def test_counts_are_of_the_whole_life_and_of_this_version() -> None:
    found = view([slot("a", 0, 2, SYNTH, since=NOW - 9, at_swap=3000)], [lambda second: 100])
    screen = lines(session(), one(found))
    assert row(screen, "a ").split()[-4:-2] == ["7.20k", "4.20k"]
    assert "100 calls/s  4,200 on this version, 7,200 in all" in row(screen, "called")


def test_a_version_that_was_never_called_is_pointed_out() -> None:
    found = view([slot("a", 0, 1, SYNTH, since=NOW - 9, called=False)], [lambda second: 0])
    shown = text(session(), one(found))
    assert "not called since the swap" in shown and "◌ uncalled" in shown
    just_now = view([slot("a", 0, 1, SYNTH, since=NOW - 1, called=False)], [lambda second: 0])
    assert "● live" in text(session(), one(just_now))


def test_call_times_stand_beside_those_of_the_version_before() -> None:
    found = view([slot("a", 0, 2, SYNTH, since=NOW - 9)], [lambda second: 5])
    times = ((Times(2, 100, 1200, 3400), Times(1, 50, 600, 800)),)
    timed = replace(found, snapshot=replace(found.snapshot, times=times))
    assert "p50 1.2 µs, p99 3.4 µs; v1: 600 ns, 800 ns (x2.00)" in text(session(), one(timed))
    assert "p50" not in text(session(), one(found))


def test_a_slot_that_fell_silent_says_for_how_long() -> None:
    found = view([slot("a", 0, 1, SYNTH, since=NOW - 90)], [lambda second: 0 if second > 26 else 9])
    assert "not called for 5 s" in text(session(), one(found))


@pytest.mark.parametrize(("width", "height"), [(100, 30), (80, 20), (60, 15)])
def test_a_rejection_is_pinned_with_expected_found_and_cure(width: int, height: int) -> None:
    screen = lines(rejected(), one(synth()), width, height)
    found = "\n".join(screen)
    assert "✗ synth v8 e81012f4 rejected" in found and "E-ABI" in found
    assert "the module's ABI version is not the host's" in found
    # One below the other, so that the difference is seen.
    expected, actual = row(screen, "expected"), row(screen, "found")
    assert expected.index("abi_version 0x0001") == actual.index("abi_version 0x0002")
    assert "rebuild the module against this shim's headers" in row(screen, "fix")
    assert "Esc hide rejection" in screen[-1]
    # The table still says what runs, and marks what the rejection was about without relying on colour.
    assert "✗ live" in next(line for line in screen if "synth.r" in line and "live" in line)


def test_a_rejection_says_that_nothing_was_swapped_and_what_still_runs() -> None:
    screen = lines(rejected(), one(synth()))
    assert any("rejected, nothing was swapped" in line and "14:04:19, 12 s ago" in line for line in screen)
    assert "synth.render_block, synth.voice_tick run synth v7 a1f3c09e, as before" in row(screen, "still")


def test_a_crash_after_the_swap_is_not_called_harmless() -> None:
    crash = replace(REJECTED, kind=EventKind.CRASH, code="E-CRASH")
    found = text(rejected(rejection=crash), one(synth()))
    assert "crashed, rolled back" in found and "nothing was swapped" not in found


def test_a_layout_that_differs_is_a_table_of_fields() -> None:
    def side(offset: int) -> LayoutSide:
        return LayoutSide("float", offset, 4)

    def row(field: str, host: LayoutSide | None, module: LayoutSide | None, *changes: str) -> LayoutRow:
        return LayoutRow("Voice", field, host, module, changes, refused=bool(changes))

    refused = replace(
        REJECTED,
        code="E-LAYOUT",
        layout=(
            row("", LayoutSide("", 0, 96, 4), LayoutSide("", 0, 104, 4), "resized"),
            row("phase", side(0), side(0)),
            row("detune", None, side(4), "added"),
            row("env", side(4), side(8), "moved"),
            *(row(f"tap{number}", side(8 + number), side(12 + number), "moved") for number in range(12)),
        ),
    )
    screen = lines(rejected(rejection=refused), one(synth()), 100, 50)
    found = [" ".join(line.strip("│┃ ").split()) for line in screen]
    assert "host module" in found
    assert "~ Voice 96 bytes, align 4 104 bytes, align 4" in found
    assert "+ detune (absent) float @ 4, 4" in found
    assert "~ env float @ 4, 4 float @ 8, 4" in found
    assert any("more lines: hotreload inspect --against" in line for line in found)
    assert not any("tap11" in line for line in found) and "abi_version" not in "".join(found)
    usual = text(rejected(rejection=refused), one(synth()))
    assert "detune" in usual and "more lines" in usual and "as before" in usual, "as many fields as there is room for"
    assert "E-LAYOUT" in text(rejected(rejection=refused), one(synth()), 60, 16)


def test_a_module_that_differs_from_its_host_is_pinned_with_the_key_that_takes_it_back() -> None:
    differs = replace(REJECTED, kind=EventKind.LAYOUT, code="E-LAYOUT", fix="hotreload rollback synth --host 1")
    found = text(rejected(rejection=differs), one(synth()), 100, 40)
    assert "differs from its host, it runs already" in found and "b rolls it back" in found
    assert "hotreload rollback" not in found and "as before" not in found and "E-LAYOUT" in found
    assert "b rolls it back" in text(rejected(rejection=differs), one(synth()), 60, 15)


def test_a_rejection_without_a_module_or_details_is_still_a_panel() -> None:
    bare = Record(EventKind.REJECT, NOW, code="E-NOT-ELF", reason="not a shared library")
    assert "✗ build output rejected" in text(rejected(rejection=bare), one(synth()))


def test_a_long_difference_keeps_its_lines() -> None:
    fields = "\n".join(f"field_{index}  f32  @ {4 * index}" for index in range(20))
    screen = lines(rejected(rejection=replace(REJECTED, found=fields, expected="")), one(synth()), 100, 40)
    assert "field_0  f32  @ 0" in row(screen, "found") and "field_7  f32  @ 28" in row(screen, "field_7")


# ---- hosts ----


@pytest.mark.parametrize("size", SIZES)
def test_no_host_yet(size: tuple[int, int]) -> None:
    found = text(State((directory(WatchMode.WAITING),)), {}, *size)
    assert "waiting for a host" in found and "attached" not in found.replace("is attached", "")
    if size[0] >= 60:
        assert "hr_serve()" in found and "hotreload watch PATH -- ./program" in found


@pytest.mark.parametrize("size", SIZES)
def test_a_host_that_is_gone_stays_on_screen_and_is_called_gone(size: tuple[int, int]) -> None:
    state = session(hosts={HOST.pid: HostState(HOST, False, NOW - 3, "killed by signal 9")})  # noqa: FBT003
    screen = lines(state, one(synth(alive=False)), *size)
    found = "\n".join(screen)
    assert "gone" in found and "attached" not in found
    if size[0] >= 60:
        assert "killed by signal 9" in found and "last known state" in found
        assert "v7" in row(screen, "synth.voice_tick") and "8.54k" not in found
        assert row(screen, "ran").count("synth v7 a1f3c09e") == 1
        assert "calls/s" not in found.replace("CALLS/S", "")
        assert "roll back" not in screen[-1]


def test_several_hosts_are_a_strip_and_the_focused_one_has_the_cursor() -> None:
    hosts = {**one(synth()), **one(synth(MIXER))}
    state = session(hosts=attached(HOST, MIXER))
    screen = lines(state, hosts, ui=Ui(host=MIXER.pid))
    strip = row(screen, "hosts")
    assert "▸● mixer 48300" in strip and "▸● synth" not in strip and "● synth 48213" in strip
    assert "mixer  pid 48300" in screen[0] and "Tab next host" in screen[-1]
    # Events now say whose they are.
    assert "synth 48213  seq v5 c90a4471" in "\n".join(screen)


def test_a_hundred_hosts_keep_the_focused_one_in_the_strip() -> None:
    hosts = [Host(1000 + index, f"worker-{index}", NOW - 9) for index in range(100)]
    state = session(hosts=attached(*hosts))
    strip = row(lines(state, {}, ui=Ui(host=1057)), "hosts")
    assert "▸● worker-57 1057" in strip and "more" in strip


# ---- session ----


@pytest.mark.parametrize("size", SIZES)
def test_a_pause_is_seen(size: tuple[int, int]) -> None:
    state = session(paused=True, groups=(frozenset({Path("a"), Path("b")}),))
    screen = lines(state, one(synth()), *size)
    assert "PAUSED" in "\n".join(screen[:2])
    if size[0] >= 60:
        assert "2 held" in screen[0] and "p resume" in screen[-1]


def test_directories_say_how_they_are_watched() -> None:
    places = (directory(), Directory(Path("build"), WatchMode.WAITING), Directory(Path("x"), WatchMode.POLLING))
    first = lines(session(directories=places, settling=(Path("build/libk.so"),)), one(synth()), 140)[1]
    missing = (directory(), Directory(Path("y"), WatchMode.INOTIFY), Directory(Path("typo"), WatchMode.WAITING))
    assert "typo not there yet" in lines(session(directories=missing), one(synth()))[1]
    assert "target/release inotify" in first and "build not there yet" in first and "and 1 more" in first
    assert "settling libk.so" in first
    assert "no directory" in lines(State(), {})[1]


def test_a_running_build_and_a_failed_one() -> None:
    running = Build("make", BuildPhase.RUNNING, NOW - 3, lines=("cc -c a.c", "cc -c b.c"))
    found = text(session(build=running), one(synth()))
    assert "▸ running 3 s" in found and "cc -c b.c" in found
    screen = lines(session(build=failed_build()), one(synth()))
    found = "\n".join(screen)
    assert "✗ failed, exit 101" in found and "running code is unchanged" in found
    # The first error is on top, without the escape sequences of the compiler.
    assert "Compiling" not in found and "┃ error[E0308]: mismatched types" in found
    assert "build" not in lines(session(build=None, records=()), one(synth()))[1]


def test_the_output_of_our_own_host() -> None:
    found = text(session(child=child()), one(synth()))
    assert "output ./target/release/synth --loop  pid 48213" in found and "bar 39: 120 bpm" in found
    assert "/tmp/synth.log" in found
    ended = text(session(child=replace(child(), exit_code=-11)), one(synth()))
    assert "killed by signal 11" in ended
    assert "exited with 3" in text(session(child=replace(child(), exit_code=3)), one(synth()))


def test_events_show_each_step_where_there_is_room() -> None:
    wide = text(session(), one(synth()), 140)
    assert "stage 0.31 preflight 0.24 open 1.18 on load 0.02 commit 0.01  1.93 ms" in wide
    narrow = [line for line in lines(session(), one(synth()), 60, 15) if "swap " in line][-1]
    assert narrow.startswith("14:02:11  swap      synth v7 a1f3c09e") and narrow.endswith("1.93 ms")


def test_events_scroll() -> None:
    screen = lines(session(), one(synth()), 60, 15, Ui(scroll=3))
    assert "3 newer below" in "\n".join(screen) and "PgDn newer" in " ".join(
        lines(session(), {}, 140, 30, Ui(scroll=3))
    )
    assert not any("14:02:11  swap" in line for line in screen)


def test_details_show_the_slot_s_history() -> None:
    screen = lines(session(), one(synth()), ui=Ui(details=True))
    assert "swap     v6→v7  synth v7 a1f3c09e  1.93 ms" in row(screen, "14:02:11  swap     v6")
    assert "and 5 earlier changes, no longer remembered" in "\n".join(screen)
    compact = lines(session(), one(synth()), 60, 15, Ui(details=True))
    assert row(compact, "called")


def test_cleared_events_are_still_the_slot_s_history() -> None:
    past = session().records
    for form in (Ui(), Ui(details=True)):
        before, after = (
            lines(replace(session(), records=shown, cleared=gone), one(synth()), ui=form)
            for shown, gone in ((past, ()), ((), past))
        )
        assert row(before, "versions") == row(after, "versions") and row(before, "last") == row(after, "last")
    assert "since they were cleared" in "\n".join(after)


def test_a_rolled_back_slot_says_so() -> None:
    back = Record(EventKind.ROLLBACK, NOW - 1, HOST, SYNTH, (Change("a", 1, 2),), us=STEPS)
    first = replace(SWAPPED, changes=(Change("a", 0, 1),))
    found = replace(slot("a", 0, 2, None, since=NOW - 1), swaps=2)
    screen = lines(session(records=(first, back)), one(view([found], [lambda second: 5])))
    assert "v0 built in › v1 a1f3c09e › [v2 built in]" in row(screen, "versions")
    assert "built-in code  rolled back  since 14:04:30" in screen[2]


def test_a_slot_that_no_host_declares_is_a_warning() -> None:
    typo = slot("synth.voice_tikc", 0, 1, SYNTH, SlotState.UNDECLARED, NOW - 5)
    screen = lines(session(), one(view([typo], [lambda second: 0])))
    assert "? undeclared" in row(screen, "synth.voice_tikc  ") and "a typo in the module?" in "\n".join(screen)
    probation = slot("a", 0, 1, SYNTH, SlotState.PROBATION, NOW - 5)
    assert "◆ probation" in text(session(), one(view([probation], [lambda second: 0])))


def test_a_grace_period_that_waits_names_the_thread() -> None:
    found = synth()
    blocked = replace(found.snapshot, blocked="thread 48219 is in fx.reverb for 12 s")
    assert "thread 48219 is in fx.reverb for 12 s" in text(session(), one(HostView(blocked, found.meter)))


def test_help_explains_every_sign_and_key() -> None:
    found = text(session(), one(synth()), ui=Ui(help=True))
    for word in ("○ fallback", "● live", "◆ probation", "? undeclared", "roll back", "pause", "filter", "Tab"):
        assert word in found
    assert "page" not in found
    assert "the host started here ends" not in found
    assert "the host started here ends" in text(session(child=child()), one(synth()), ui=Ui(help=True))


@pytest.mark.parametrize(("width", "height"), [(60, 15), (80, 16), (45, 10), (30, 5)])
def test_all_of_the_help_can_be_read_on_a_small_screen(width: int, height: int) -> None:
    pages = [text(session(), one(synth()), width, height, Ui(help=True, help_page=page)) for page in range(40)]
    for word in ("quit", "quarantine", "◆ probation", "before"):
        assert any(word in page for page in pages), word
    assert pages[0] != pages[1] and pages[0] in pages[1:], "it begins again"
    assert text(session(), one(synth()), width, height, Ui(help=True, help_page=-1)) in pages


def test_the_newest_note_is_told_in_full_where_it_does_not_fit_a_line() -> None:
    told = "demo: dlopen of this file would have killed the host; it was never opened by it, nor mapped"
    note = Record(EventKind.NOTE, NOW, reason=told)
    before = session().records
    found = lines(session(records=(*before, note)), one(synth()), 60, 15)
    assert told in " ".join("\n".join(found).replace(" note ", " ").split())
    later = lines(session(records=(*before, note, before[-1])), one(synth()), 60, 15)
    assert sum("demo: " in line for line in later) == 1 and "nor mapped" not in "\n".join(later)


# ---- slots ----


def test_only_visible_rows_are_drawn_and_the_rest_is_counted() -> None:
    screen = lines(session(), one(many(1000)), 100, 30, Ui(selected="module04.kernel_00498"))
    drawn = [line for line in screen if "kernel_" in line and "live" in line]
    assert 5 < len(drawn) < 25
    assert any("▸ module04.kernel_00498" in line for line in drawn)
    assert "↑" in row(screen, "SLOT") and "↓" in row(screen, "SLOT")


def test_the_table_follows_the_cursor_to_both_ends() -> None:
    names = sorted(record.symbol for record in many(100).snapshot.slots)
    first = lines(session(), one(many(100)), ui=Ui(selected=names[0]))
    last = lines(session(), one(many(100)), ui=Ui(selected=names[-1]))
    assert "↑" not in row(first, "SLOT") and f"▸ {names[0]}" in "\n".join(first)
    assert "↓" not in row(last, "SLOT") and f"▸ {names[-1]}" in "\n".join(last)


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        (Sort.NAME, "fx.limiter"),
        (Sort.RATE, "synth.voice_tick"),
        (Sort.TOTAL, "synth.voice_tick"),
        (Sort.RECENT, "synth.render_block"),
    ],
)
def test_sorts(sort: Sort, first: str) -> None:
    screen = lines(session(), one(synth()), ui=Ui(sort=sort))
    at = next(index for index, line in enumerate(screen) if "SLOT" in line)
    assert first in screen[at + 1] and f"sort {sort.value}" in screen[at - 1]


def test_a_filter_hides_and_says_so() -> None:
    screen = lines(session(), one(synth()), ui=Ui(filter="FX."))
    found = "\n".join(screen)
    assert "slots 2 of 6" in found and "filter FX." in found and "fx.limiter" in found and "ui.on_key" not in found
    assert "No slot contains 'zzz'." in text(session(), one(synth()), ui=Ui(filter="zzz"))
    assert " /fx  " in lines(session(), one(synth()), ui=Ui(filter="fx", filtering=True))[-1]


@pytest.mark.parametrize("size", SIZES)
def test_a_host_without_slots(size: tuple[int, int]) -> None:
    found = text(session(records=()), one(view([], [])), *size)
    assert "declared no slots" in found or size[0] < 40


@pytest.mark.parametrize("size", [*SIZES, (80, 20), (41, 7)])
def test_long_and_wide_names_stay_in_their_columns(size: tuple[int, int]) -> None:
    names = [
        "very::long::rust::path::" * 5 + "tail",
        "音声合成.発振器.次のサンプル",
        "e\u0301" * 30,
        "🎹🎹🎹🎹🎹🎹🎹🎹🎹.key",
        "x",
    ]
    slots = [slot(name, index, index, SYNTH, since=NOW - index) for index, name in enumerate(names)]
    screen = lines(session(), one(view(slots, [lambda second: 3] * 5, host=replace(HOST, name="名前" * 30))), *size)
    rows = [line for line in screen if " ● live" in line]
    assert len({width_of(line[: line.index("● live")]) for line in rows}) <= 1
    if size == (100, 30):
        assert len(rows) == 5 and any("very::" in line and "…" in line and "tail" in line for line in rows)


@pytest.mark.parametrize("width", range(80, 111))
def test_no_column_is_cut_off(width: int) -> None:
    """The numbers at the end, however short the names are, as those take what the sparkline wants."""
    for name in ("x", "counter.add", "a.name.of.13", "a.name.of.15.c", "a.name.of.18.cells"):
        screen = lines(session(), one(view([slot(name, 0, 1, SYNTH, since=NOW)], [lambda second: 3])), width, 20)
        assert any(line.endswith(" IN │") for line in screen), name
        assert any("● live" in line and line.endswith(" 0 │") for line in screen), name


def test_more_counters_than_slots_or_fewer_do_not_crash_the_screen() -> None:
    """A snapshot is read while the host runs: the meter may know fewer rows than the newest slots."""
    slots = (slot("a", 0), slot("b", 1))
    snapshot = Snapshot(1.0, HOST, 1, alive=True, slots=slots, modules=(), calls=[1, 2], in_flight=[0, 0])
    for sort in Sort:
        assert "b" in text(session(), {HOST.pid: HostView(snapshot, Meter())}, ui=Ui(sort=sort))


# ---- every size ----


def test_every_size_is_filled_exactly() -> None:
    """Never a refusal, never a line too long: from a full screen to nothing at all."""
    gone = session(hosts={**attached(HOST), 9: HostState(MIXER, False, NOW, "gone")})  # noqa: FBT003
    scenes = (
        (rejected(build=failed_build(), child=child()), one(synth()), Ui(details=True, filter="s")),
        (gone, one(many(300)), Ui(filtering=True, filter="k" * 50)),
        (State(), {}, Ui(help=True)),
    )
    widths, heights = (0, 1, 2, 5, 12, 39, 40, 41, 79, 80, 81, 200), (0, 1, 2, 3, 5, 6, 7, 8, 19, 20, 21, 70)
    for (state, hosts, ui), width, height in itertools.product(scenes, widths, heights):
        lines(state, hosts, width, height, ui)


def test_the_smallest_form_answers_every_key_that_it_offers() -> None:
    assert "quit" in lines(session(), one(synth()), 30, 5, Ui(help=True))[0]
    screen = lines(session(), one(synth()), 30, 5, Ui(details=True))
    assert row(screen, "called") and "Esc less" in screen[-1]


def test_the_smallest_form_shows_the_swap_and_not_what_it_retired() -> None:
    retired = Record(EventKind.RETIRE, NOW, HOST, OLD)
    screen = lines(session(records=(SWAPPED, retired)), one(synth()), 30, 5)
    assert "swap" in screen[2] and "retire" not in "\n".join(screen)


def test_a_large_screen_is_given_to_the_host_s_output() -> None:
    state = session(child=replace(child(), lines=tuple(f"line {number}" for number in range(100))))
    assert sum("│ line " in line for line in lines(state, one(synth()), 100, 70)) > 20


def test_the_smallest_form_puts_the_most_important_first() -> None:
    assert lines(session(), one(synth()), 39, 1)[0].startswith("● synth v7 9.")
    assert lines(rejected(), one(synth()), 30, 5)[0].startswith("✗ E-ABI synth v8")
    screen = lines(session(), one(synth()), 30, 5)
    assert (
        "synth.re…er_block" in screen[1] and screen[2].startswith("14:02:11 swap") and screen[4].startswith(" q quit")
    )


# ---- drawing ----


@pytest.mark.parametrize(
    ("history", "width", "drawn"),
    [
        ([], 5, "     "),
        ([0.0] * 30, 15, "·" * 15),
        ([0.0] * 3, 30, "···".rjust(30)),
        ([7.0] * 30, 30, "▅" * 30),
        ([*[1.0] * 28, 0.0, 9.0], 30, "▂" * 28 + "·▇"),
        ([*[0.0] * 28, 5.0, 0.0], 15, "·" * 14 + "▇"),
    ],
)
def test_sparklines(history: list[float], width: int, drawn: str) -> None:
    assert sparkline(history, width) == drawn


def test_sparkline_is_never_wider_than_asked() -> None:
    for width, known in itertools.product(range(1, 40), range(31)):
        assert len(sparkline([float(index) for index in range(known)], width)) == width


def test_cutting_counts_cells() -> None:
    assert (
        cut("漢字漢字", 5) == "漢字…" and cut("漢字漢字", 4) == "漢…" and cut("abc", 3) == "abc" and cut("abc", 0) == ""
    )
    assert cut_middle("synth.render_block", 11) == "synth…block" and cut_middle("abcdef", 4) == "abc…"
    assert cut_start("target/release", 8) == "…release"
    assert fit([("bad", "漢字漢字"), ("", "x")], 6) == [("bad", "漢字"), ("bad", "… ")]
    assert cells(fit([("", "ab"), ("", "cd")], 4)) == 4 and fit([("", "ab")], 0) == []


def test_wrapping() -> None:
    assert wrap("one two three", 7, 5) == ["one two", "three"]
    assert wrap("one two three four", 7, 2) == ["one two", "three…"]
    assert wrap("x" * 20, 8, 5) == ["x" * 8, "x" * 8, "xxxx"]
    assert wrap("", 8, 2) == [""]


def test_rows_are_shared_by_rank_and_never_more_than_there_are() -> None:
    def pane(rank: int, least: int, comfortable: int, most: int) -> Pane:
        return Pane([], [], rank, least, comfortable, most, lambda rows: [])

    panes = [pane(0, 3, 9, 99), pane(2, 2, 6, 50), pane(1, 4, 4, 4)]
    for height in range(60):
        shared = share(panes, height)
        assert sum(rows + 1 for _, rows in shared) <= height
        assert shared == [] or shared[0][0] is panes[0]
    assert [rows for _, rows in share(panes, 12)] == [3, 2, 4]
    assert [rows for _, rows in share(panes, 9)] == [3, 4]
    assert [rows for _, rows in share(panes, 40)] == [18, 15, 4]


def test_a_rule_is_exactly_as_wide_as_asked() -> None:
    for width in range(6, 60):
        assert cells(rule("├", [("title", "a long title 漢字")], [("faint", "note")], "┤", width)) == width


def test_ascii_is_just_as_wide() -> None:
    screen = render(rejected(), one(synth()), Ui(), 100, 30, NOW)
    plain = [to_ascii(line) for line in screen.text]
    assert all(line.isascii() and len(line) == 100 for line in plain)
    assert "* live" in "\n".join(plain) and "?" not in plain[0]
    assert to_ascii("漢é") == "???"


def console(**options: object) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, color_system="256", **options)  # type: ignore[arg-type]


def test_the_painter_sends_only_lines_that_changed() -> None:
    painter = Painter(console())
    first = Screen(((("good", "one"),), (("", "two"),), (("", "three"),)), 5)
    whole = painter.frame(first)
    assert "\x1b[2J" in whole and whole.count("\x1b[2K") == 3 and "\x1b[32mone\x1b[0m" in whole
    assert painter.frame(first) == ""
    second = painter.frame(Screen((first.lines[0], (("", "TWO"),), first.lines[2]), 5))
    assert "\x1b[2;1H" in second and "TWO" in second and "three" not in second and "\x1b[2J" not in second
    painter.forget()
    assert painter.frame(first).count("\x1b[2K") == 3


def test_no_color_keeps_weight_but_no_colour() -> None:
    frame = Painter(console(no_color=True)).frame(Screen(((("bad", "x"), ("good", "y")),), 2))
    assert "\x1b[1mx\x1b[0m" in frame and "3" not in frame.replace("\x1b[?2026", "")
    bare = Painter(Console(file=io.StringIO(), force_terminal=True, color_system=None))
    assert "\x1b[1m" not in bare.frame(Screen(((("bad", "x"),),), 1))


def test_printed_by_rich_it_is_the_same_picture() -> None:
    out = Console(file=io.StringIO(), width=100, height=30)
    screen = render(session(), one(synth()), Ui(), 100, 30, NOW)
    out.print(screen, end="")
    assert out.file.getvalue().splitlines() == screen.text  # type: ignore[attr-defined]


def pieces(picture: str) -> list[tuple[str, str]]:
    """The texts of an exported picture with their styles; not its template, which changes with rich's version."""
    return re.findall(r'<text class="([^"]*)"[^>]*>([^<]*)</text>', picture)


def test_the_picture_in_the_readme_is_current() -> None:
    """``HOTRELOAD_UPDATE_SVG=1`` writes it anew. Times, widths and ids are fixed: it is the same everywhere."""
    out = Console(record=True, width=100, height=30, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    out.print(render(rejected(), one(synth()), Ui(), 100, 30, NOW), end="")
    picture = out.export_svg(title="hotreload watch target/release -- ./synth", unique_id="hotreload")
    if os.environ.get("HOTRELOAD_UPDATE_SVG") == "1":
        PICTURE.write_text(picture, encoding="utf-8")
    found = pieces(PICTURE.read_text(encoding="utf-8"))
    assert len(found) > 100
    assert found == pieces(picture), "run with HOTRELOAD_UPDATE_SVG=1 and look at the picture"


def test_nothing_of_another_host_s_past_is_shown() -> None:
    other = replace(SWAPPED, host=MIXER, module=OLD, changes=(Change("fx.reverb", 1, 2),))
    screen = lines(session(records=(other,)), one(synth()), ui=Ui(selected="fx.reverb", details=True))
    assert "and 3 earlier changes" in "\n".join(screen)
    assert EFFECTS.short_id in row(screen, "versions") and NEXT.short_id not in "\n".join(screen)
    assert len(records()) == 8
