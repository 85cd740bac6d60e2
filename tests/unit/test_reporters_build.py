"""A build's problems on screen: the compiler's colours, which problem comes first, and how an editor is told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenes import HOST, NOW, attached, synth

from hotreload.model import Problem
from hotreload.reporters import editor, sgr
from hotreload.reporters.screen import STYLES, fold, scrolled
from hotreload.reporters.ui import Edit, Ui, press
from hotreload.reporters.view import render
from hotreload.session import Build, BuildPhase, Child, Rebuild, RestartHost, State

RED = Problem(
    "error", "no such thing", "src/a.c", 12, 5, "", ("src/a.c:12:5: \x1b[01;31merror: \x1b[mno such thing", "  x")
)
WARN = Problem("warning", "unused", "b.c", 3, 1, "", ("b.c:3:1: warning: unused",))
LINES = ("cc src/a.c", "noise", *RED.lines, *WARN.lines)
FAILED = State(build=Build("make", BuildPhase.FAILED, NOW, 1.0, 2, LINES, (RED, WARN)))


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("plain", [("", "plain")]),
        ("\x1b[1mbold\x1b[0m not", [("sgr.bold", "bold"), ("", " not")]),
        ("\x1b[01;31mred\x1b[m", [("sgr.bold.red", "red")]),
        ("\x1b[38;5;9mbright\x1b[39m \x1b[38;5;200mother", [("sgr.red", "bright"), ("", " "), ("", "other")]),
        ("\x1b[38;2;1;2;3mtrue\x1b[94mblue\x1b[22m", [("", "true"), ("sgr.blue", "blue")]),
        ("\x1b[;mx\x1b[48;5;1my\x1b[38;5mz", [("", "x"), ("", "y"), ("", "z")]),
        ("\x1b[2Jerased\x07", [("", "erased")]),
    ],
)
def test_colours(text: str, runs: list[tuple[str, str]]) -> None:
    assert sgr.runs(text) == runs
    assert all(style in STYLES for style, _ in sgr.runs(text))


@pytest.mark.parametrize(
    ("template", "environment", "words"),
    [
        ("", {}, ["vi", "+3", "a b.c"]),
        ("", {"EDITOR": "nvim -p"}, ["nvim", "-p", "+call cursor(3,7)", "a b.c"]),
        ("", {"EDITOR": "nano", "VISUAL": "code -w"}, ["code", "-w", "--goto", "a b.c:3:7"]),
        ("/usr/bin/hx", {}, ["/usr/bin/hx", "a b.c:3:7"]),
        ("emacsclient -n", {}, ["emacsclient", "-n", "+3:7", "a b.c"]),
        ("nano", {}, ["nano", "+3,7", "a b.c"]),
        ("my 'ed itor' {file}@{line}", {}, ["my", "ed itor", "a b.c@3"]),
    ],
)
def test_editors(template: str, environment: dict[str, str], words: list[str]) -> None:
    assert editor.command(template, environment, "a b.c", 3, 7) == words


def test_an_unknown_place_opens_the_first_line() -> None:
    assert editor.command("{file}:{line}:{column}", {}, "a.c", 0, 0) == ["a.c:1:1"]


@pytest.mark.parametrize("size", [(100, 30), (60, 15)])
def test_errors_come_first(size: tuple[int, int]) -> None:
    text = "\n".join(render(FAILED, {}, Ui(), *size, NOW).text)
    assert "build failed: 1 error, 1 warning" in text
    assert text.index("src/a.c:12:5: error: no such thing") < (text + "b.c:3:1: warning").index("b.c:3:1: warning")
    assert "noise" not in text and "e edit a.c:12" in text


GCC = Problem(
    "error", "expected declaration specifiers or '...' before string constant", "patch.c", 18, 10, "",
    (
        "patch.c:18:10: \x1b[1;31merror: \x1b[mexpected declaration specifiers or '...' before string constant",
        '   18 | HR_MODUL("counter", 1, HR_PATCH("counter.tick", on_tick), HR_PATCH("counter.end", on_end))',
        "      |          ^~~~~~~~~",
        "patch.c:3:1: note: a note that is longer than sixty cells can ever be, and is wrapped as well",
    ),
)  # fmt: skip
RUSTC = Problem(
    "error", "mismatched types", "crates/patch/src/lib.rs", 5, 19, "E0308",
    (
        "error[E0308]: mismatched types",
        " --> crates/patch/src/lib.rs:5:19",
        "  |",
        '5 | const STEP: i64 = "ten";',
        "  |                   ^^^^^ expected `i64`, found `&str`",
    ),
)  # fmt: skip


def failed(problem: Problem) -> State:
    return State(build=Build("make", BuildPhase.FAILED, NOW, 1.0, 2, problem.lines, (problem,)))


def test_messages_are_wrapped_and_source_lines_are_not() -> None:
    screen = [line.rstrip() for line in render(failed(GCC), {}, Ui(), 60, 24, NOW).text]
    at = screen.index("patch.c:18:10: error: expected declaration specifiers or")
    assert screen[at + 1] == "'...' before string constant"
    assert screen[at + 2].startswith("   18 | HR_MODUL(") and screen[at + 2].endswith("…")
    assert screen[at + 3] == "      |          ^~~~~~~~~", "the caret is where the compiler put it"
    assert screen[at + 4].startswith("patch.c:3:1: note: ") and "wrapped as well" in screen[at + 5]


FAR = "x" * 70
LONG = Problem(
    "error", "oops", "a.c", 18, 86, "",
    ("a.c:18:86: error: oops", f"   18 |     {FAR} = wrong + {FAR};", f"      | {' ' * 77}^~~~~ expected 'right'",
     "      | " + " " * 77 + "right", "a.c:2:1: note: here", "    2 | short", "      | ^~~~~"),
)  # fmt: skip


@pytest.mark.parametrize("width", [40, 60, 80])
def test_an_excerpt_is_scrolled_until_its_caret_is_seen(width: int) -> None:
    screen = [line.rstrip() for line in render(failed(LONG), {}, Ui(), width, 24, NOW).text]
    source, caret, hint = (next(line for line in screen if part in line) for part in ("wrong", "^~~~~", "  right"))
    assert source.index("wrong") == caret.index("^") == hint.index("right") < width - 4
    assert "   18 | …x" in source and "      |  " in caret
    at = next(number for number, line in enumerate(screen) if "a.c:2:1: note: here" in line)
    for line, shown in zip(screen[at + 1 :], ("    2 | short", "      | ^~~~~"), strict=False):
        assert shown in line, "what is seen stays where it is"


def test_wide_signs_are_scrolled_by_the_cells_that_they_take() -> None:
    line = [("a", "12|漢字"), ("b", "漢字 ^")]
    assert scrolled(line, 3, 3) == [("a", "12|… "), ("b", "漢字 ^")]
    assert scrolled([("", "12|      x")], 3, 4) == [("", "12|   x")]


@pytest.mark.parametrize("size", [(100, 20), (60, 15), (60, 8), (40, 8)])
def test_the_excerpt_is_shown_on_small_screens_too(size: tuple[int, int]) -> None:
    screen = render(replace(failed(RUSTC), hosts=attached(HOST)), {HOST.pid: synth()}, Ui(), *size, NOW).text
    assert any('5 | const STEP: i64 = "ten";' in line for line in screen), "\n".join(screen)


def test_one_line_tells_where_the_build_failed() -> None:
    first = render(replace(failed(RUSTC), hosts=attached(HOST)), {HOST.pid: synth()}, Ui(), 38, 1, NOW).text[0]
    assert first.startswith("✗ lib.rs:5 mismatched types")


def test_a_host_that_is_still_to_be_built_is_not_asked_for() -> None:
    awaited = State(build=Build("make", BuildPhase.RUNNING, NOW, lines=("cc",)), child=Child(("build/host", "-x")))
    text = "\n".join(render(awaited, {}, Ui(), 100, 30, NOW).text)
    assert "build/host -x starts when it is built." in text
    assert "hotreload watch" not in text and "pid 0" not in text
    broken = replace(failed(GCC), child=awaited.child)
    assert "build/host -x starts after the first good build." in "\n".join(render(broken, {}, Ui(), 60, 20, NOW).text)


@pytest.mark.parametrize(
    ("child", "restart", "told"),
    [
        (Child(("h",), 7), False, "h runs, and has not called hr_serve() yet."),
        (Child(("h",), 7, exit_code=3), False, "h exited with 3; its last words are below."),
        (Child(("h",), 7, exit_code=-11), True, "h starts it again."),
        (None, False, "To start one from here:"),
    ],
)
def test_what_is_known_of_a_host_that_is_not_attached(child: Child | None, restart: bool, told: str) -> None:
    text = "\n".join(render(State(child=child, restart=restart), {}, Ui(), 100, 30, NOW).text)
    assert told in text
    assert ("starts it again" in text) == restart


def test_folded_lines_keep_their_styles() -> None:
    line = [("bad", "one two "), ("", "three"), ("good", "fourfive")]
    assert fold(line, 9, 9) == [[("bad", "one two")], [("", "three"), ("good", "four")], [("good", "five")]]
    assert fold(line, 9, 2) == [[("bad", "one two")], [("", "three"), ("good", "fou"), ("good", "…")]]
    assert fold(line, 40, 3) == [line] and fold([], 5, 3) == [[]]
    assert fold([("", "漢字漢字")], 5, 9) == [[("", "漢字")], [("", "漢字")]]


def test_n_shows_the_next_problem_and_e_edits_it() -> None:
    ui, wish = press(Ui(), "e", FAILED, {})
    assert wish == Edit(RED)
    ui, wish = press(ui, "n", FAILED, {})
    assert wish is None and press(ui, "e", FAILED, {})[1] == Edit(WARN)
    assert "b.c:3:1: warning" in "\n".join(render(FAILED, {}, ui, 100, 30, NOW).text)
    ui, _ = press(ui, "n", FAILED, {})
    assert press(ui, "e", FAILED, {})[1] == Edit(RED), "after the last comes the first"
    ui, _ = press(ui, "n", FAILED, {})
    again = State(build=Build("make", BuildPhase.FAILED, NOW + 9, 1.0, 2, LINES, (RED, WARN)))
    assert press(ui, "e", again, {})[1] == Edit(RED), "another build begins with its first"


def test_what_the_compiler_did_not_place_is_shown_as_before() -> None:
    state = State(build=Build("make", BuildPhase.FAILED, NOW, 1.0, 2, ("noise", "error: odd", "after")))
    text = "\n".join(render(state, {}, Ui(), 100, 30, NOW).text)
    assert "error: odd" in text and "noise" not in text
    assert press(Ui(), "e", state, {}) == (Ui(), None)


def test_keys_of_dev() -> None:
    state = State(build=Build("make"), child=Child(("host",)), restart=True)
    assert press(Ui(), "h", state, {})[1] == RestartHost()
    assert press(Ui(), "r", state, {})[1] == Rebuild()
    assert press(Ui(), "h", State(child=Child(("host",))), {})[1] is None
