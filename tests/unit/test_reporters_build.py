"""A build's problems on screen: the compiler's colours, which problem comes first, and how an editor is told of it."""

from __future__ import annotations

import pytest
from scenes import NOW

from hotreload.model import Problem
from hotreload.reporters import editor, sgr
from hotreload.reporters.screen import STYLES
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
        ("", {"EDITOR": "nvim -p"}, ["nvim", "-p", "+3", "a b.c"]),
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
