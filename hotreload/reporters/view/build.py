"""The pane of the build: its errors first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hotreload.model import Problem
from hotreload.reporters.panes import Pane
from hotreload.reporters.screen import Line, Run, cut, fold, scrolled
from hotreload.reporters.sgr import runs as coloured
from hotreload.reporters.ui import problems_shown
from hotreload.reporters.view.scene import Scene
from hotreload.reporters.wording import clean, clock, plural, span
from hotreload.session import Build, BuildPhase

_ERROR_ROWS = 5
"""What an error needs: rustc's message, place, gutter, source line, and caret."""
_MESSAGE_LINES = 3
_GUTTER = re.compile(r"\s*(?:\d+|\.\.\.)?\s*\| ?")
_CARET = re.compile(r"[\s|~-]*(?P<caret>\^)[\^~]*")
_CARET_SEEN = 4
"""Of a long underline so much is enough."""
_MESSAGE = re.compile(r"(?:\w+(?:\[\w+\])?|.*:\d+(?::\d+)?): |\s*= ?\w+: ")


def build_state(build: Build | None, now: float, *, named: bool) -> list[Run]:
    if build is None:
        return []
    command = cut(clean(build.command), 24) if named else ""
    if build.phase is BuildPhase.RUNNING:
        return [("warn", f"▸ running {span(now - build.started)}"), ("faint", f"  {command}".rstrip())]
    if build.phase is BuildPhase.FAILED:
        return [("bad", f"✗ failed, exit {build.exit_code}"), ("faint", f"  {clock(build.started + build.seconds)}")]
    if build.phase is BuildPhase.OK:
        done = f"✓ ok {build.seconds:.2f} s"
        return [("good", done), ("faint", f"  {clock(build.started + build.seconds)}  {command}".rstrip())]
    return [("faint", f"not run yet  {command}".rstrip())]


def build_pane(scene: Scene, inner: int) -> Pane | None:
    build = scene.state.build
    if build is None or build.phase not in (BuildPhase.RUNNING, BuildPhase.FAILED):
        return None
    failed = build.phase is BuildPhase.FAILED
    if not failed and not build.lines:
        return None
    tone = "frame.bad" if failed else "frame"
    title: list[Run] = [("title", "build "), *build_state(build, scene.now, named=True)]
    note: list[Run] = [("", "running code is unchanged")] if failed else []
    # What the compilers objected to comes first; the rest of the output where none of it was recognised.
    told = _told(problems_shown(scene.ui, build), inner) if failed else []
    if told:
        title = [("bad", f"✗ {_tally_of(build)}"), ("faint", f"  {clock(build.started + build.seconds)}")]

    def draw(rows: int) -> list[Line]:
        lines = _from_first_error(build.lines, rows) if failed else build.lines[-rows:]
        return told[:rows] or [_build_line(line) for line in lines[:rows]] or [[("faint", "no output")]]

    height = max(2, len(told or build.lines))
    # An error with its excerpt is what one waits for: before events, and on the smallest screens before the slots.
    rank, least = (-1, min(_ERROR_ROWS, height)) if told else (2, 2)
    return Pane(title, note if inner >= 70 else [], rank, least, min(8, height), min(14, height), draw, tone)


def _told(problems: Iterable[Problem], inner: int) -> list[Line]:
    """The compilers' lines. Messages are wrapped; source lines are not, as the carets below would point elsewhere: they
    are scrolled where the caret would not be seen."""
    lines: list[Line] = []
    for problem in problems:
        excerpt: list[Line] = []
        for index, text in enumerate(problem.lines):
            line = _build_line(text)
            if index and not _MESSAGE.match(_plain(line)):
                excerpt.append(line)
                continue
            lines += [*_with_caret(excerpt, inner), *fold(line, inner, _MESSAGE_LINES)]
            excerpt = []
        lines += _with_caret(excerpt, inner)
    return lines


def _with_caret(excerpt: list[Line], inner: int) -> list[Line]:
    """The source lines of one message and the carets below them, scrolled so that the first caret is seen; what stands
    left of them, the number and the bar, stays."""
    caret = next((found for line in excerpt if (found := _CARET.match(_plain(line)))), None)
    if caret is None or min(caret.end(), caret.start("caret") + _CARET_SEEN) <= inner:
        return excerpt
    gutter = _GUTTER.match(_plain(excerpt[0]))
    keep = gutter.end() if gutter and gutter.end() < inner // 2 else 0
    by = caret.start("caret") - keep - (inner - keep) // 2
    return [scrolled(line, keep, by) for line in excerpt]


def _plain(line: Line) -> str:
    return "".join(text for _, text in line)


def _tally_of(build: Build) -> str:
    """``build failed: 2 errors, 1 warning``."""
    errors = sum(1 for each in build.problems if each.severity == "error")
    counts = ((errors, "error"), (len(build.problems) - errors, "warning"))
    return "build failed: " + ", ".join(plural(number, noun) for number, noun in counts if number)


def _from_first_error(lines: Sequence[str], rows: int) -> Sequence[str]:
    """The first error is the one to mend; those after it often follow from it."""
    for index, line in enumerate(lines):
        if _is_error(clean(line)):
            return lines[index : index + rows]
    return lines[-rows:]


def _is_error(line: str) -> bool:
    lowered = line.lower()
    return lowered.startswith("error") or ": error" in lowered or ": fatal error" in lowered


def _build_line(line: str) -> Line:
    if "\x1b[" in line:
        return coloured(line)
    line = clean(line)
    tone = "bad" if _is_error(line) else "warn" if "warning" in line.lower() else ""
    return [(tone, line)]
