"""A build's output to what is wrong: messages with their places, as gcc, clang, zig, rustc and cargo tell them.

The compilers' own lines are kept, with their colours: nobody can show an excerpt better than who wrote the message.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hotreload.model import Problem

PROBLEMS_KEPT = 50
EXCERPT_LINES = 12
"""Of one message, at most; its first lines tell the most."""

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m|\x1b\[K")
_GNU = re.compile(
    r"(?P<path>(?!\d+:)[^\s:][^:]*):(?P<line>\d+):(?:(?P<column>\d+):)? "
    r"(?P<severity>fatal error|error|warning): (?P<message>.+)"
)
_NOTE = re.compile(r"[^\s:][^:]*:(?:\d+:)+ note: ")
_LINKER = re.compile(
    r"(?:\S*ld(?:\.\w+)?: )?(?P<path>[^\s:][^:]*):(?P<line>\d+): (?P<message>undefined reference to .+)"
)
_RUST = re.compile(r"(?P<severity>error|warning)(?:\[(?P<code>\w+)\])?: (?P<message>.+)")
_ARROW = re.compile(r"\s*--> (?P<path>.+?):(?P<line>\d+):(?P<column>\d+)")
_GUTTER = re.compile(r"\s*(?:\d+|\.\.\.)?\s*\||\s*= (?:note|help)|\s*-->|\s*\d+\s*[~+-] ")
_CARET = re.compile(r"[\s~^-]*\^[\s~^]*\S*$")
_ENTERING = re.compile(r"(?:\w+(?:\[\d+\])?): Entering directory [`'\"](?P<path>.+)['\"]")


class Transcript:
    """Takes a build's output line by line.

    Args:
        directory: Where the build runs: relative paths begin there, or in a directory that make or ninja enters.
    """

    def __init__(self, directory: Path) -> None:
        self._directories = [directory]
        self._lines: list[str] = []
        self._told: list[Problem] = []

    def take(self, line: str) -> list[str]:
        """What a person is to see of a line: itself, or the text in one of cargo's JSON messages."""
        if line.startswith('{"reason":'):
            return self._take_json(line)
        self._lines.append(line)
        return [line]

    def problems(self) -> tuple[Problem, ...]:
        """All that was wrong, errors first, in the order told."""
        found = {(each.path, each.line, each.column, each.message): each for each in (*self._told, *self._read())}
        errors = [each for each in found.values() if each.severity == "error"]
        warnings = [each for each in found.values() if each.severity != "error"]
        return tuple((errors + warnings)[:PROBLEMS_KEPT])

    def _take_json(self, line: str) -> list[str]:
        try:
            told: Any = json.loads(line)
            if told["reason"] != "compiler-message":
                return []
            shown = str(told["message"]["rendered"]).rstrip("\n").split("\n")
            if (problem := _from_cargo(told["message"], shown)) is not None:
                self._told.append(self._placed(problem))
            return [*shown, ""]
        except (ValueError, KeyError, TypeError):  # somebody else's JSON
            return [line]

    def _read(self) -> Iterator[Problem]:
        plain = [_COLOUR.sub("", line) for line in self._lines]
        for at, text in enumerate(plain):
            if entered := _ENTERING.match(text):
                self._directories.append(Path(entered["path"]))
            elif found := _GNU.match(text) or _LINKER.match(text):
                yield self._placed(_from_match(found, self._lines[at : _excerpt_end(plain, at)]))
            elif (found := _RUST.match(text)) and (arrow := _ARROW.match(plain[at + 1] if at + 1 < len(plain) else "")):
                problem = _from_match(found, self._lines[at : _excerpt_end(plain, at)])
                place = {"path": arrow["path"], "line": int(arrow["line"]), "column": int(arrow["column"])}
                yield self._placed(replace(problem, **place))  # type: ignore[arg-type]

    def _placed(self, problem: Problem) -> Problem:
        """With the path of a file that exists, where one can be found, as short as it can be from where the build runs;
        its own lines say it likewise."""
        for directory in reversed(self._directories):
            # Ninja builds in a directory of its own: what it tells begins with ../
            path = Path(os.path.normpath(directory / problem.path))
            if problem.path and path.is_file():
                base = self._directories[0]
                shown = str(path.relative_to(base) if path.is_relative_to(base) else path)
                return replace(problem, path=shown, lines=_shortened(problem.lines, problem.path, shown))
        return problem


def _shortened(lines: Sequence[str], told: str, shown: str) -> tuple[str, ...]:
    """The lines with the path as it is shown instead of as the compiler told it."""
    path = re.compile(rf"((?:^|\s)(?:{_COLOUR.pattern})*){re.escape(told)}(?=:)")
    return tuple(path.sub(lambda found: found[1] + shown, line) for line in lines)


def _from_match(found: re.Match[str], lines: Sequence[str]) -> Problem:
    parts = found.groupdict()
    severity = (parts.get("severity") or "error").removeprefix("fatal ")
    return Problem(
        severity,
        parts["message"],
        parts.get("path") or "",
        int(parts.get("line") or 0),
        int(parts.get("column") or 0),
        parts.get("code") or "",
        tuple(lines[:EXCERPT_LINES]),
    )


def _from_cargo(message: Any, shown: Sequence[str]) -> Problem | None:
    span = next((each for each in message["spans"] if each["is_primary"]), None)
    if span is None or message["level"] not in ("error", "warning"):
        return None  # a summary, such as "aborting due to 2 previous errors"
    code = message["code"]["code"] if message.get("code") else ""
    place = (span["file_name"], span["line_start"], span["column_start"])
    return Problem(message["level"], message["message"], *place, code, tuple(shown[:EXCERPT_LINES]))


def _excerpt_end(lines: Sequence[str], at: int) -> int:
    """The first line after a message that does not belong to it: source lines with a gutter (gcc, new clang, rustc), a
    source line with a caret below it (clang, zig), and notes, which have excerpts of their own."""
    end = at + 1
    while end < len(lines):
        if _GUTTER.match(lines[end]) or _NOTE.match(lines[end]):
            end += 1
        elif end + 1 < len(lines) and _CARET.match(lines[end + 1]) and not _GNU.match(lines[end]):
            end += 2
        else:
            break
    return end
