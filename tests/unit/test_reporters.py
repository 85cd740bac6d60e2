"""Plain lines and JSON lines: what each record says, and what becomes of a reader that leaves."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from scenes import HOST, NEXT, NOW, REJECTED, STEPS, SWAPPED, SYNTH, child, failed_build, records, session, utc

from hotreload.model import Change, ChangeKind, EventKind, Module, Record
from hotreload.reporters.jsonl import JsonReporter, as_object, rfc3339
from hotreload.reporters.plain import PlainReporter
from hotreload.reporters.wording import clean, count, span, step_times, uptime

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _utc() -> Iterator[None]:
    with utc():
        yield


class Terminal(io.StringIO):
    """A text stream that counts its flushes."""

    flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        super().flush()


def plain(*shown: Record, **options: object) -> list[str]:
    stream = Terminal()
    reporter = PlainReporter(Console(file=stream, width=40, **options))  # type: ignore[arg-type]
    reporter.start()
    for record in shown:
        reporter.record(record)
    reporter.close()
    assert stream.flushes >= len(shown)
    return stream.getvalue().splitlines()


# ---- plain ----


def test_every_record_is_one_line_however_narrow_the_terminal() -> None:
    lines = plain(*records(), REJECTED)
    assert len(lines) == len(records()) + 1
    assert lines[0] == "13:52:31 attach    synth pid 48213  6 slots, shim 0.1.0"


def test_a_swap_says_module_host_slots_and_times() -> None:
    (line,) = plain(SWAPPED)
    assert line == (
        "14:02:11 swap      synth v7 a1f3c09e; in synth pid 48213; synth.render_block v6→v7, synth.voice_tick v6→v7; "
        "1.93 ms (stage 0.31 preflight 0.24 open 1.18 on load 0.02 commit 0.01)"
    )


def test_a_module_of_which_only_the_name_is_known_gets_no_made_up_numbers() -> None:
    for name, start in (("synth", "E-NO-PREVIOUS; synth  no such"), ("", "E-NO-PREVIOUS; no such")):
        (line,) = plain(replace(REJECTED, module=Module(name, 0, "", ""), code="E-NO-PREVIOUS", reason="no such"))
        assert line.startswith(f"14:04:19 REJECT    {start};")


def test_a_rejection_says_why_what_and_how_to_mend_it() -> None:
    (line,) = plain(REJECTED)
    assert line.startswith("14:04:19 REJECT    E-ABI; synth v8 e81012f4  the module's ABI version is not the host's;")
    assert "expected: abi_version 0x0001, struct_size 0x0038; found: abi_version 0x0002, struct_size 0x0040" in line
    assert "fix: rebuild the module against this shim's headers" in line
    assert "nothing was swapped" in line


def test_a_crash_says_that_it_was_rolled_back() -> None:
    (line,) = plain(Record(EventKind.CRASH, NOW, HOST, NEXT, code="E-CRASH", reason="SIGSEGV in synth.voice_tick"))
    assert "CRASH" in line and "E-CRASH" in line and "rolled back" in line and "nothing was swapped" not in line


def test_kept_and_undeclared_slots_are_told_apart_and_many_are_counted() -> None:
    kept = Change("a", 3, 3, ChangeKind.KEPT)
    typo = Change("b", 0, 1, ChangeKind.UNDECLARED)
    more = tuple(Change(f"s{i}", 1, 2) for i in range(900))
    (line,) = plain(Record(EventKind.SWAP, NOW, HOST, SYNTH, (kept, typo, *more)))
    assert "a keeps v3, b v0→v1 (no host slot declares it), s0 v1→v2, s1 v1→v2 and 898 more" in line


def test_an_output_without_a_manifest_is_named_by_its_file() -> None:
    (line,) = plain(replace(REJECTED, module=Module("", 0, "", "/x/libbad.so"), code="E-NOT-ELF"))
    assert "libbad.so" in line


def test_warnings_are_shown() -> None:
    assert "warning: nodelete, tls" in plain(replace(SWAPPED, warnings=("nodelete", "tls")))[0]


def test_texts_from_outside_cannot_steer_the_terminal_or_break_the_line() -> None:
    evil = "a\x1b[2Jb\nc\x07\u202ed\udc80"
    (line,) = plain(Record(EventKind.NOTE, NOW, reason=evil))
    assert line == "14:04:31 note      ab cd?"


def test_rich_markup_in_texts_is_text() -> None:
    assert plain(Record(EventKind.NOTE, NOW, reason="[bold]x[/bold] :smile:"))[0].endswith("[bold]x[/bold] :smile:")


def test_colour_is_rich_s_choice_and_words_remain_without_it() -> None:
    coloured = plain(REJECTED, force_terminal=True, color_system="standard")[0]
    bare = plain(REJECTED, force_terminal=True, color_system="standard", no_color=True)[0]
    assert "31m" in coloured and "31m" not in bare and "REJECT" in bare


def test_an_encoding_without_arrows_gets_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    reporter = PlainReporter(Console(file=stream))
    reporter.record(replace(SWAPPED, changes=(Change("gänge", 1, 2),)))
    assert b"g?nge v1>v2" in raw.getvalue() and not reporter.broken


def test_build_errors_and_host_output_are_quoted_once() -> None:
    stream = io.StringIO()
    reporter = PlainReporter(Console(file=stream))
    first = child()
    state = session(build=failed_build(), child=replace(first, lines=("one", "two", "two")))
    reporter.update(state, {})
    reporter.update(state, {})
    assert state.child is not None
    # The oldest line was dropped and two were added, one of them equal to one seen before.
    reporter.update(replace(state, child=replace(first, lines=(*state.child.lines[1:], "thr" + "ee", "two ")[:5])), {})
    text = stream.getvalue().splitlines()
    assert [line for line in text if line.startswith("host")] == [
        "host | one",
        "host | two",
        "host | two",
        "host | three",
        "host | two ",
    ]
    assert sum("mismatched types" in line for line in text) == 1


# ---- JSON ----


def emitted(*shown: Record) -> list[dict[str, object]]:
    stream = Terminal()
    reporter = JsonReporter(stream)
    reporter.start()
    for record in shown:
        reporter.record(record)
    reporter.close()
    lines = stream.getvalue().splitlines()
    assert stream.flushes == len(lines)
    return [json.loads(line) for line in lines]


def test_a_swap_as_json() -> None:
    assert emitted(SWAPPED) == [
        {
            "event": "swap",
            "time": "2026-01-01T14:02:11.000Z",
            "host": {"pid": 48213, "name": "synth"},
            "module": {
                "name": "synth",
                "version": 7,
                "build_id": "a1f3c09e5b20",
                "path": "/home/ada/synth/target/release/libsynth.so",
            },
            "slots": [
                {"symbol": "synth.render_block", "from": 6, "to": 7},
                {"symbol": "synth.voice_tick", "from": 6, "to": 7},
            ],
            "us": STEPS,
        }
    ]


def test_kept_and_undeclared_slots_as_json() -> None:
    changes = (Change("a", 1, 1, ChangeKind.KEPT), Change("b", 0, 1, ChangeKind.UNDECLARED))
    (found,) = emitted(Record(EventKind.SWAP, NOW, changes=changes))
    assert found["slots"] == [
        {"symbol": "a", "from": 1, "to": 1, "kept": True},
        {"symbol": "b", "from": 0, "to": 1, "undeclared": True},
    ]


def test_a_rejection_as_json() -> None:
    (found,) = emitted(REJECTED)
    assert found["event"] == "reject" and found["code"] == "E-ABI"
    assert found["reason"] == "the module's ABI version is not the host's"
    assert found["fix"] == "rebuild the module against this shim's headers: hotreload config --cflags"
    assert found["found"] and found["expected"]
    assert set(found) == {"event", "time", "host", "module", "code", "reason", "found", "expected", "fix", "us"}


def test_keys_without_content_are_left_out() -> None:
    assert as_object(Record(EventKind.DETACH, NOW)) == {"event": "detach", "time": "2026-01-01T14:04:31.000Z"}


def test_only_failures_have_a_code() -> None:
    assert as_object(Record(EventKind.BUILD, NOW, code="E-BUILD"))["code"] == "E-BUILD"
    assert "code" not in as_object(Record(EventKind.SAME, NOW, code="same"))
    assert "code" not in as_object(Record(EventKind.SWAP, NOW, code="ok"))


def test_notes_are_for_people_only() -> None:
    assert emitted(Record(EventKind.NOTE, NOW, reason="hello")) == []


def test_event_names_are_the_documented_ones() -> None:
    names = {as_object(Record(kind, NOW))["event"] for kind in EventKind if kind is not EventKind.NOTE}
    assert " ".join(sorted(map(str, names))) == (
        "attach blocked budget build called candidate crash detach layout reject retire rollback same swap unload"
    )


def test_a_path_that_is_no_text_still_makes_a_line() -> None:
    (found,) = emitted(replace(REJECTED, module=replace(NEXT, path="/x/\udcff.so"), reason="line\nbreak"))
    assert found["reason"] == "line\nbreak"


@pytest.mark.parametrize(
    ("when", "text"), [(0.0, "1970-01-01T00:00:00.000Z"), (1767276271.2504, "2026-01-01T14:04:31.250Z")]
)
def test_time_is_utc_with_milliseconds(when: float, text: str) -> None:
    assert rfc3339(when) == text


# ---- a reader that leaves ----

LEFT_ALONE = """
    import sys
    sys.path[:0] = [{root!r}, {tests!r}]
    from rich.console import Console
    from hotreload.reporters.jsonl import JsonReporter
    from hotreload.reporters.plain import PlainReporter
    from scenes import SWAPPED
    reporter = {reporter}
    sys.stdin.readline()
    for _ in range(3):
        reporter.record(SWAPPED)
    assert reporter.broken
    print("not for the pipe")
    sys.exit(7)
"""


@pytest.mark.parametrize("reporter", ["JsonReporter(sys.stdout)", "PlainReporter(Console())"])
def test_a_closed_pipe_is_noticed_and_nobody_hears_of_it(reporter: str) -> None:
    program = textwrap.dedent(LEFT_ALONE).format(root=str(ROOT), tests=str(ROOT / "tests"), reporter=reporter)
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=write, stderr=subprocess.PIPE
    ) as process:
        os.close(write)
        os.close(read)
        _, errors = process.communicate(b"\n", timeout=60)
    assert process.returncode == 7, errors.decode()
    assert errors == b""


# ---- words and numbers ----


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (0.01, "<0.1"),
        (0.44, "0.4"),
        (8.0, "8"),
        (37, "37"),
        (999, "999"),
        (999.6, "1.00k"),
        (1200, "1.20k"),
        (99_960, "100k"),
        (131_000, "131k"),
        (999_600, "1.00M"),
        (8_044_000, "8.04M"),
        (10**21, "1000E"),
        (2**64, "18.4E"),
    ],
)
def test_counts_fit_five_cells(number: float, text: str) -> None:
    assert count(number) == text and len(text) <= 5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (8.9, "8 s"), (125, "2 min 05 s"), (11_220, "3 h 07 min"), (356_400, "4 d 03 h")],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_uptime_and_steps() -> None:
    assert uptime(724) == "00:12:04" and uptime(3 * 86400 + 5) == "3d 00:00:05"
    odd = replace(SWAPPED, us={"odd": 1500, "commit": 10, "stage": 0, "check": 4, "total": 9})
    assert step_times(odd) == "commit 0.01 odd 1.50"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain", "plain"),
        ("\x1b[1;31merror\x1b[0m", "error"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b(Bx\x1bM", "x"),
        ("a\tb", "a    b"),
        ("e\u0301 漢 👩\u200d🚀", "e\u0301 漢 👩🚀"),
    ],
)
def test_clean(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
