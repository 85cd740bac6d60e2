"""A comparison of layouts as lines of text: what the dashboard's rejection and ``inspect --against`` show. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hotreload.model import LayoutRow, LayoutSide
from hotreload.reporters.wording import clean

_ABSENT = "(absent)"


@dataclass(frozen=True, slots=True)
class TableLine:
    """One line: what it is about, each side in words, how they differ. ``mark`` is ``+``, ``-``, ``~`` or empty."""

    mark: str
    name: str
    host: str
    module: str
    change: str
    refused: bool


def comparison_lines(rows: Sequence[LayoutRow]) -> list[TableLine]:
    """The rows that differ, each type's head first; equal fields between them are counted on one line."""
    lines: list[TableLine] = []
    equal = 0
    for row in rows:
        heads = not row.field or row.argument
        if heads:
            lines += _equal(equal)
            equal = 0
        if not row.changes and not heads:
            equal += 1
            continue
        lines.append(_head(row) if heads else _field(row))
    return lines + _equal(equal)


def summary(rows: Iterable[LayoutRow]) -> str:
    """The types and slots that differ, in one phrase."""
    names = list(dict.fromkeys(clean(row.type) for row in rows if row.changes))
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if names[4:] else "")


def _head(row: LayoutRow) -> TableLine:
    name = f"{clean(row.type)} {row.field}" if row.argument else clean(row.type)
    sides = (row.host, row.module)
    host, module = (_type_words(side) if side else _ABSENT for side in sides)
    return TableLine("~" if row.changes else "", name, host, module, ", ".join(row.changes), row.refused)


def _type_words(side: LayoutSide) -> str:
    size = f"{side.size} bytes, align {side.align}"
    return f"{clean(side.type)}, {size}" if side.type else size


def _field(row: LayoutRow) -> TableLine:
    mark = "+" if "added" in row.changes else "-" if "removed" in row.changes else "~"
    host, module = (_field_words(side) if side else _ABSENT for side in (row.host, row.module))
    return TableLine(mark, f"  {clean(row.field)}", host, module, ", ".join(row.changes), row.refused)


def _field_words(side: LayoutSide) -> str:
    if not side.type:
        return f"= {side.offset}"  # an enumerator
    return f"{clean(side.type)} @ {side.offset}, {side.size}"


def _equal(count: int) -> list[TableLine]:
    return [TableLine("", f"  {count} more", "equal", "equal", "", refused=False)] if count else []
