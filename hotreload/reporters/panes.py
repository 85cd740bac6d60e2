"""Panes: titled groups of lines that share the height of the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hotreload.reporters.screen import Line, Run, cells, cut, fit, wrap
from hotreload.reporters.wording import clean

LABEL = 10


@dataclass(frozen=True, slots=True)
class Pane:
    """One part of the screen. Its heights are in rows without the title rule: needed, comfortable, and useful at most.

    ``rank`` decides who keeps a place when rows run short: the smaller stays.
    """

    title: Sequence[Run]
    note: Sequence[Run]
    rank: int
    least: int
    comfortable: int
    most: int
    draw: Callable[[int], list[Line]]
    tone: str = "frame"
    stretches: bool = False
    """Takes the rows that no other pane has a use for."""


def share(panes: Sequence[Pane], height: int) -> list[tuple[Pane, int]]:
    """Which panes are shown, in order, and with how many rows; each also takes one row for its title."""
    granted: dict[int, int] = {}
    for index in sorted(range(len(panes)), key=lambda index: panes[index].rank):
        need = panes[index].least + 1
        if need <= height or (not granted and height >= 2):
            granted[index] = min(need, height) - 1
            height -= min(need, height)
    for index in sorted(granted, key=lambda index: panes[index].rank):
        more = max(0, min(panes[index].comfortable - granted[index], height))
        granted[index] += more
        height -= more
    height = _grow(granted, panes, height)
    for index in [index for index in granted if panes[index].stretches][:1]:
        granted[index] += height
    return [(panes[index], granted[index]) for index in sorted(granted)]


def _grow(granted: dict[int, int], panes: Sequence[Pane], height: int) -> int:
    """Hand out what is left row by row, so that two panes that could fill the screen get the same. Returns the rest."""
    hungry = [index for index in granted if granted[index] < panes[index].most]
    while height > 0 and hungry:
        for index in hungry[:height]:
            granted[index] += 1
            height -= 1
        hungry = [index for index in hungry if granted[index] < panes[index].most]
    return height


def rule(start: str, title: Sequence[Run], note: Sequence[Run], end: str, width: int, tone: str = "frame") -> Line:
    """A horizontal line with a title at its left and a note at its right; the note goes first when room is short."""
    room = width - 4
    head: list[Run] = [(tone, f"{start}─"), *([("", " "), *title, ("", " ")] if title else [])]
    tail: list[Run] = [*([("", " "), *note, ("", " ")] if note else []), (tone, f"─{end}")]
    if cells(head) + cells(tail) > width:
        tail = [(tone, f"─{end}")]
        head = [(tone, f"{start}─"), ("", " "), *fit(title, max(0, min(cells(title), room - 2))), ("", " ")]
    gap = max(0, width - cells(head) - cells(tail))
    return [*head, (tone, "─" * gap), *tail]


def label(text: str, style: str = "faint") -> Run:
    """The name of a fact, in a column of its own."""
    return (style, f"{text:<{LABEL}}")


def labelled(name: str, text: str, width: int, style: str, most: int) -> list[Line]:
    """A named text of one or several lines; nothing where there is no text."""
    if not text.strip():
        return []
    room = width - LABEL
    lines: list[str] = []
    for part in text.splitlines():
        part = clean(part)
        lines += wrap(part, room, most) if "  " not in part.strip() else [cut(part, room)]
    return [[label(name if not index else ""), (style, line)] for index, line in enumerate(lines[:most])]
