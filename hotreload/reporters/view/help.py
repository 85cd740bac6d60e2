"""The help: keys, columns, signs."""

from __future__ import annotations

from hotreload.reporters.panes import Pane
from hotreload.reporters.screen import Line, Run, wrap
from hotreload.reporters.view.scene import Scene


def help_panes(scene: Scene, width: int, rows: int) -> list[Pane]:
    lines, where = page(help_lines(scene, width), scene.ui.help_page, rows)
    note: list[Run] = [("faint", f"{where}  ↓ next")] if where else []
    return [Pane([("title", "help")], note, 0, 1, len(lines), len(lines), lambda rows: lines[:rows])]


def page(lines: list[Line], number: int, rows: int) -> tuple[list[Line], str]:
    """The page with that number, and which one it is when there are several."""
    if len(lines) <= rows or rows < 1:
        return lines, ""
    pages = -(-len(lines) // rows)
    at = number % pages
    start = min(at * rows, len(lines) - rows)
    return lines[start : start + rows], f"page {at + 1} of {pages}"


def _explained(tone: str, term: str, column: int, text: str, width: int) -> list[Line]:
    """A term and what it means, in as many lines as that takes."""
    first, *more = wrap(text, max(8, width - column), 9)
    return [[(tone, f"{term:<{column}}"), ("", first)], *([("", " " * column + rest)] for rest in more)]


def help_lines(scene: Scene, width: int) -> list[Line]:
    started = "; the host started here ends, others go on" if scene.state.child else "; hosts go on as they are"
    keys = (
        ("q", f"quit{started}"),
        ("↑ ↓  j k", "select a slot; Esc goes back to the newest swap"),
        ("Enter", "the selected slot's history"),
        ("b", "roll back: commit the previous code again, and quarantine this one"),
        ("p", "pause: hold new modules until pressed again"),
        ("r", "run the build command now (with --build, or dev)"),
        ("e  n", "open a compile error in your editor; show the next one first"),
        ("h", "start the host again (with dev)"),
        ("s", "sort by name, calls/s, total, newest swap"),
        ("/", "filter: show only slots whose name contains a text"),
        ("Tab", "next host"),
        ("PgUp PgDn", "older and newer events"),
        ("c", "clear the events"),
    )
    signs = (
        ("faint", "○ fallback", "the code built into the host"),
        ("good", "● live", "code of a module"),
        ("warn", "◆ probation", "just swapped, the guard still watches it"),
        ("warn", "◌ uncalled", "swapped, and not called since"),
        ("warn", "? undeclared", "a module brought it, no host slot declares it"),
        ("bad", "✗", "its newest module was rejected; it runs what it ran before"),
    )
    lines = [line for key, text in keys for line in _explained("key", key, 12, text, width)]
    lines.append([])
    lines += [line for tone, sign, text in signs for line in _explained(tone, sign, 14, text, width)]
    return lines
