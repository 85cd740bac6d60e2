"""Which unit of debug info holds the code at an address: by the table made for that, else by the units' own words."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hotreload.entries import RNGLISTX, Unit, Units, uleb, unit_length


def unit_at(units: Units, address: int) -> Unit | None:
    """The unit of the function at an address.

    Raises:
        IndexError, KeyError, ValueError, struct.error: What is written makes no sense.
    """
    place = _in_table(units.section("aranges"), address)
    if place is not None:
        return units.holding(place)
    for unit in units:
        units.check()
        if not unit.is_type and any(start <= address < end for start, end in ranges_of(unit)):
            return unit
    return None


def _in_table(data: bytes, address: int) -> int | None:
    """The place of the unit that ``.debug_aranges`` names; None: it names none."""
    at = 0
    while at < len(data):
        length, start, offset_size = unit_length(data, at)
        end = start + length
        (place,) = struct.unpack_from("<Q" if offset_size == 8 else "<I", data, start + 2)
        width = data[start + 2 + offset_size]
        first = start + 4 + offset_size
        first += -(first - at) % (2 * width)  # pairs lie as if the head began at an address of their size
        if width == 8 and data[start + 3 + offset_size] == 0:
            pairs = data[first : first + (end - first) // 16 * 16]
            for low, size in struct.iter_unpack("<QQ", pairs):
                if low <= address < low + size:
                    return int(place)
        at = end
    return None


def ranges_of(unit: Unit) -> Iterator[tuple[int, int]]:
    """The addresses that a unit says are its own."""
    top = unit.top
    low, high, ranges = top.address("low_pc"), top.number("high_pc"), top.number("ranges")
    base = low or 0
    if low is not None and high is not None:
        yield base, high if top.form("high_pc") == 0x01 else base + high
    if ranges is None:
        return
    if unit.version >= 5:
        yield from _modern(unit, _place(unit, ranges), base)
    else:
        yield from _old(unit, ranges, base)


def _place(unit: Unit, ranges: int) -> int:
    if unit.top.form("ranges") != RNGLISTX:
        return ranges
    width = unit.offset_size
    base = unit.top.number("rnglists_base") or 0
    spelled = "<Q" if width == 8 else "<I"
    (offset,) = struct.unpack_from(spelled, unit.file.section("rnglists"), base + ranges * width)
    return base + int(offset)


def _old(unit: Unit, at: int, base: int) -> Iterator[tuple[int, int]]:
    data, width = unit.file.section("ranges"), unit.address_size
    pair = struct.Struct("<QQ" if width == 8 else "<II")
    while True:
        start, end = pair.unpack_from(data, at)
        at += pair.size
        if not start and not end:
            return
        if start == (1 << 8 * width) - 1:
            base = end
        else:
            yield base + start, base + end


def _modern(unit: Unit, at: int, base: int) -> Iterator[tuple[int, int]]:
    """A list of DW_RLE_* entries."""
    data, width = unit.file.section("rnglists"), unit.address_size

    def word() -> int:
        nonlocal at
        (found,) = struct.unpack_from("<Q" if width == 8 else "<I", data, at)
        at += width
        return int(found)

    def number() -> int:
        nonlocal at
        found, at = uleb(data, at)
        return found

    while True:
        kind, at = data[at], at + 1
        if kind == 0:  # end of list
            return
        if kind == 1:  # base_addressx
            base = unit.address(number())
        elif kind == 2:  # startx_endx
            yield unit.address(number()), unit.address(number())
        elif kind == 3:  # startx_length
            start = unit.address(number())
            yield start, start + number()
        elif kind == 4:  # offset_pair
            start, end = number(), number()
            yield base + start, base + end
        elif kind == 5:  # base_address
            base = word()
        elif kind == 6:  # start_end
            yield word(), word()
        elif kind == 7:  # start_length
            start = word()
            yield start, start + number()
        else:
            raise ValueError("a list of addresses makes no sense")
