"""The source files of a unit, as the head of its line table (DWARF 2 to 5) lists them: entries name them by number."""

from __future__ import annotations

import struct

from hotreload.entries import Unit, cstring, read_form, uleb, unit_length

_PATH, _DIRECTORY = 1, 2
"""DW_LNCT_*"""


def files_of(unit: Unit) -> list[tuple[str, str]]:
    """Directory and name of each file, by the number that entries of the unit give it; empty where it has no table.

    Raises:
        IndexError, KeyError, ValueError, struct.error: The table makes no sense.
    """
    place = unit.top.number("stmt_list")
    home = unit.file.skeleton
    if place is None and home is None:
        return []
    # What was split off has a table of its own for its files alone; where it has none, the program's counts.
    data = unit.file.section("line")
    if place is None and home is not None:
        if data:
            place = 0
        else:
            return files_of(home)
    assert place is not None
    _, at, offset_size = unit_length(data, place)
    (version,) = struct.unpack_from("<H", data, at)
    if not 2 <= version <= 5:
        raise ValueError(f"a line table of version {version}")
    at += 4 if version >= 5 else 2
    at += offset_size + (6 if version >= 4 else 5)  # up to the number of opcodes
    at += data[at - 1] - 1
    if version >= 5:
        return _modern(unit, data, at, offset_size)
    return _old(unit, data, at)


def _old(unit: Unit, data: bytes, at: int) -> list[tuple[str, str]]:
    directories = [unit.top.text("comp_dir")]
    while data[at]:
        text, at = cstring(data, at)
        directories.append(text.decode("utf-8", "replace"))
    at += 1
    found = [("", "")]
    while data[at]:
        text, at = cstring(data, at)
        index, at = uleb(data, at)
        for _ in ("time", "length"):
            at = uleb(data, at)[1]
        found.append((_one(directories, index), text.decode("utf-8", "replace")))
    return found


def _modern(unit: Unit, data: bytes, at: int, offset_size: int) -> list[tuple[str, str]]:
    directories, at = _table(unit, data, at, offset_size)
    files, _ = _table(unit, data, at, offset_size)
    names = [name for name, _ in directories]
    return [(_one(names, index), name) for name, index in files]


def _table(unit: Unit, data: bytes, at: int, offset_size: int) -> tuple[list[tuple[str, int]], int]:
    """Names with the numbers of their directories, and the place behind them."""
    formats = []
    count, at = data[at], at + 1
    for _ in range(count):
        content, at = uleb(data, at)
        form, at = uleb(data, at)
        formats.append((content, form))
    total, at = uleb(data, at)
    found: list[tuple[str, int]] = []
    for _ in range(total if formats else 0):
        name, index = "", 0
        for content, form in formats:
            value, at = read_form(form, data, at, 5, 8, offset_size)
            if content == _PATH:
                name = unit.text(value, form)
            elif content == _DIRECTORY and isinstance(value, int):
                index = value
        found.append((name, index))
    return found, at


def _one(names: list[str], index: int) -> str:
    return names[index] if index < len(names) else ""
