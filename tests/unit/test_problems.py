"""Compilers' messages, as they really write them: their places, their own words, and what is no message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hotreload.model import Problem
from hotreload.problems import EXCERPT_LINES, PROBLEMS_KEPT, Transcript

GCC = """\
cc -O1 -o build/p.so patch.c
patch.c: In function 'on_tick':
patch.c:12:18: error: 'STPE' undeclared (first use in this function); did you mean 'STEP'?
   12 |     done->step = STPE;
      |                  ^~~~
      |                  STEP
patch.c:12:18: note: each undeclared identifier is reported only once for each function it appears in
patch.c:20:9: warning: unused variable 'a' [-Wunused-variable]
   20 |     int a;
      |         ^
make: *** [Makefile:18: build/p.so] Error 1
"""
CLANG = """\
patch.c:12:18: error: use of undeclared identifier 'STPE'
    done->step = STPE;
                 ^
1 error generated.
"""
HEADER = """\
In file included from patch.c:2:
state.h:9:5: fatal error: nothing.h: No such file or directory
    9 | #include "nothing.h"
      |          ^~~~~~~~~~~
compilation terminated.
"""
ZIG = """\
install
+- install p
   +- compile lib p Debug native 1 errors
src/patch.zig:6:16: error: invalid digit 'x' for decimal base
const step = 50x;
               ^
error: 1 compilation errors
"""
RUSTC = """\
   Compiling p-patch v0.1.0 (/home/ada/p)
error[E0425]: cannot find value `STPE` in this scope
  --> src/lib.rs:9:17
   |
9  |     done.step = STPE;
   |                 ^^^^ help: a constant with a similar name exists: `STEP`

error: aborting due to 1 previous error
error: could not compile `p-patch` (lib) due to 1 previous error
"""
LINKER = """\
/usr/bin/ld: /tmp/cc1.o: in function `main':
/home/ada/p/host.c:41: undefined reference to `nowhere'
collect2: error: ld returned 1 exit status
"""


def read(text: str, directory: Path = Path("/nowhere")) -> tuple[Problem, ...]:
    transcript = Transcript(directory)
    for line in text.splitlines():
        transcript.take(line)
    return transcript.problems()


@pytest.mark.parametrize(
    ("text", "place", "message", "excerpt"),
    [
        (GCC, ("patch.c", 12, 18), "'STPE' undeclared (first use in this function); did you mean 'STEP'?", 5),
        (CLANG, ("patch.c", 12, 18), "use of undeclared identifier 'STPE'", 3),
        (HEADER, ("state.h", 9, 5), "nothing.h: No such file or directory", 3),
        (ZIG, ("src/patch.zig", 6, 16), "invalid digit 'x' for decimal base", 3),
        (RUSTC, ("src/lib.rs", 9, 17), "cannot find value `STPE` in this scope", 5),
        (LINKER, ("/home/ada/p/host.c", 41, 0), "undefined reference to `nowhere'", 1),
    ],
    ids=["gcc", "clang", "header", "zig", "rustc", "linker"],
)
def test_first_error(text: str, place: tuple[str, int, int], message: str, excerpt: int) -> None:
    first = read(text)[0]
    assert (first.path, first.line, first.column) == place
    assert (first.severity, first.message, len(first.lines)) == ("error", message, excerpt)


def test_errors_come_before_warnings() -> None:
    assert [each.severity for each in read(GCC)] == ["error", "warning"]
    swapped = "\n".join([*GCC.splitlines()[7:10], *GCC.splitlines()[2:6]])
    assert [each.severity for each in read(swapped)] == ["error", "warning"]


@pytest.mark.parametrize(
    "text", ["", "all is well", "12:30:01: error: a clock", "make: *** [Makefile:18: x] Error 1", "{"]
)
def test_what_is_no_message(text: str) -> None:
    assert read(text) == ()


def test_colours_are_kept_and_not_in_the_way() -> None:
    line = "\x1b[01m\x1b[Kpatch.c:6:14:\x1b[m\x1b[K \x1b[01;31m\x1b[Kerror: \x1b[m\x1b[Kbad"
    (found,) = read(line)
    assert (found.path, found.line, found.message, found.lines) == ("patch.c", 6, "bad", (line,))


def cargo(level: str = "error", message: str = "cannot find value", primary: bool = True) -> str:
    span = {"file_name": "crates/a/src/lib.rs", "line_start": 9, "column_start": 17, "is_primary": primary}
    rendered = f"\x1b[1m{level}\x1b[0m: {message}\n  --> crates/a/src/lib.rs:9:17\n"
    told = {"level": level, "message": message, "code": {"code": "E0425"}, "spans": [span], "rendered": rendered}
    return json.dumps({"reason": "compiler-message", "message": told}).replace('{"reason": ', '{"reason":', 1)


def test_cargo_speaks_json() -> None:
    transcript = Transcript(Path("/nowhere"))
    shown = transcript.take(cargo())
    assert shown == ["\x1b[1merror\x1b[0m: cannot find value", "  --> crates/a/src/lib.rs:9:17", ""]
    assert transcript.take('{"reason":"compiler-artifact","package_id":"x"}') == []
    assert transcript.take('{"reason":"build-finished","success":false}') == []
    (found,) = transcript.problems()
    assert (found.path, found.line, found.column, found.code) == ("crates/a/src/lib.rs", 9, 17, "E0425")


def test_a_summary_without_a_place_is_shown_and_no_problem() -> None:
    transcript = Transcript(Path("/nowhere"))
    assert transcript.take(cargo(message="aborting due to 2 previous errors", primary=False))
    assert transcript.problems() == ()


@pytest.mark.parametrize(
    "line", ['{"reason":"compiler-message"}', '{"reason":', '{"reason":"compiler-message","message":3}']
)
def test_what_only_looks_like_cargo_is_shown(line: str) -> None:
    assert Transcript(Path("/nowhere")).take(line) == [line]


def test_paths_begin_where_make_went(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.c").touch()
    text = f"make[1]: Entering directory '{tmp_path}/sub'\na.c:1:2: error: bad\n"
    assert read(text, tmp_path)[0].path == "sub/a.c"
    assert read(f"{tmp_path}/sub/a.c:1:2: error: bad", tmp_path)[0].path == "sub/a.c"


def test_ninja_builds_elsewhere(tmp_path: Path) -> None:
    """Compilers tell paths from ninja's directory, or whole ones: on screen they are as short as they can be."""
    (tmp_path / "src").mkdir()
    (tmp_path / "build").mkdir()
    (tmp_path / "src" / "a.c").touch()
    text = f"ninja: Entering directory `{tmp_path}/build'\n../src/a.c:1:2: error: bad\n    1 | x\n"
    (found,) = read(text, tmp_path)
    assert (found.path, found.lines) == ("src/a.c", ("src/a.c:1:2: error: bad", "    1 | x"))
    (found,) = read(f"\x1b[01m\x1b[K{tmp_path}/src/a.c:1:2:\x1b[m\x1b[K error: not {tmp_path}/src/a.cc", tmp_path)
    assert found.lines == (f"\x1b[01m\x1b[Ksrc/a.c:1:2:\x1b[m\x1b[K error: not {tmp_path}/src/a.cc",)


def test_no_flood() -> None:
    many = "\n".join(f"a.c:{line}:1: error: bad" for line in range(1, 1000))
    assert len(read(many)) == PROBLEMS_KEPT
    deep = "a.c:1:1: error: bad\n" + "   1 | x\n" * 100
    assert len(read(deep)[0].lines) == EXCERPT_LINES


def test_one_message_of_a_header_in_many_files_is_told_once() -> None:
    assert len(read("a.h:1:1: error: bad\na.h:1:1: error: bad\n")) == 1
