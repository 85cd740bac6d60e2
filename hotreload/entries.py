"""The entries of debug info (DWARF 2 to 5): units, what they hold, and what refers to what.

Only what the types of programs are told by is read. An abbreviation, which says how the entries of one kind are laid
out, becomes one `struct.Struct` where its parts have fixed sizes: an entry is then read by one call. Nothing in the
bytes is relied on: nonsense raises ValueError, IndexError, KeyError, struct.error or RecursionError, and ends.

Places are counted from the beginning of ``.debug_info``; those in ``.debug_types`` (DWARF 4) begin at `TYPES_START`.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import lru_cache

TYPES_START = 1 << 48
"""No section is so long: one number tells any place."""

TAGS = {
    0x01: "array_type", 0x02: "class_type", 0x04: "enumeration_type", 0x05: "formal_parameter",
    0x0B: "lexical_block", 0x0D: "member", 0x0F: "pointer_type", 0x10: "reference_type", 0x11: "compile_unit",
    0x13: "structure_type", 0x15: "subroutine_type", 0x16: "typedef", 0x17: "union_type", 0x19: "variant",
    0x1C: "inheritance", 0x1D: "inlined_subroutine", 0x1E: "module", 0x1F: "ptr_to_member_type",
    0x21: "subrange_type", 0x24: "base_type", 0x25: "catch_block", 0x26: "const_type", 0x28: "enumerator",
    0x2D: "packed_type", 0x2E: "subprogram", 0x2F: "template_type_param", 0x32: "try_block", 0x33: "variant_part",
    0x34: "variable", 0x35: "volatile_type", 0x37: "restrict_type", 0x39: "namespace", 0x3B: "unspecified_type",
    0x3C: "partial_unit", 0x41: "type_unit", 0x42: "rvalue_reference_type", 0x47: "atomic_type",
    0x4A: "skeleton_unit", 0x4B: "immutable_type",
}  # fmt: skip
"""DW_TAG_*, by number."""

NAMES = {
    0x01: "sibling", 0x03: "name", 0x0B: "byte_size", 0x0C: "bit_offset", 0x0D: "bit_size", 0x10: "stmt_list",
    0x11: "low_pc", 0x12: "high_pc", 0x13: "language", 0x16: "discr_value", 0x1B: "comp_dir", 0x1C: "const_value",
    0x2F: "upper_bound", 0x31: "abstract_origin", 0x37: "count", 0x38: "data_member_location", 0x3A: "decl_file",
    0x3C: "declaration", 0x3E: "encoding", 0x3F: "external", 0x47: "specification", 0x49: "type", 0x55: "ranges",
    0x69: "signature", 0x6B: "data_bit_offset", 0x72: "str_offsets_base", 0x73: "addr_base", 0x74: "rnglists_base",
    0x76: "dwo_name", 0x88: "alignment", 0x2130: "dwo_name", 0x2131: "dwo_id", 0x2132: "ranges_base",
    0x2133: "addr_base",
}  # fmt: skip
"""DW_AT_*, by number; all others are skipped."""

# DW_FORM_*
ADDR, STRP, REF_ADDR, INDIRECT, SEC_OFFSET, STRX, ADDRX, STRP_SUP, LINE_STRP = (
    0x01, 0x0E, 0x10, 0x16, 0x17, 0x1A, 0x1B, 0x1D, 0x1F,
)  # fmt: skip
STRING, REF_SIG8, IMPLICIT_CONST, RNGLISTX, GNU_ADDR_INDEX, GNU_STR_INDEX = 0x08, 0x20, 0x21, 0x23, 0x1F01, 0x1F02
FLAG_PRESENT = 0x19
_STRINGS_BY_NUMBER = frozenset({STRX, 0x25, 0x26, 0x27, 0x28, GNU_STR_INDEX})
_ADDRESSES_BY_NUMBER = frozenset({ADDRX, 0x29, 0x2A, 0x2B, 0x2C, GNU_ADDR_INDEX})
_IN_UNIT = frozenset({0x11, 0x12, 0x13, 0x14, 0x15})
_FIXED = {
    0x05: "H", 0x06: "I", 0x07: "Q", 0x0B: "B", 0x0C: "B", 0x11: "B", 0x12: "H", 0x13: "I", 0x14: "Q",
    0x1C: "I", 0x1E: "16s", REF_SIG8: "Q", 0x24: "Q", 0x25: "B", 0x26: "H", 0x27: "3s", 0x28: "I",
    0x29: "B", 0x2A: "H", 0x2B: "3s", 0x2C: "I",
}  # fmt: skip
_OFFSETS = frozenset({STRP, SEC_OFFSET, STRP_SUP, LINE_STRP, 0x1F20, 0x1F21})

# DW_UT_*
_SPLIT = frozenset({0x04, 0x05})
"""The unit that was left in the program, and the one that was split off."""
_TYPE_UNITS = frozenset({0x02, 0x06})


def uleb(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned number of any length, and the place behind it."""
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7


def sleb(data: bytes, at: int) -> tuple[int, int]:
    """A signed one."""
    value, end = uleb(data, at)
    bits = 7 * (end - at)
    return value - (1 << bits) if data[end - 1] & 0x40 else value, end


def cstring(data: bytes, at: int) -> tuple[bytes, int]:
    """A text that ends with a zero, and the place behind that."""
    end = data.index(b"\0", at)
    return data[at:end], end + 1


def _block(size: Callable[[bytes, int], tuple[int, int]]) -> Callable[[bytes, int], tuple[bytes, int]]:
    def read(data: bytes, at: int) -> tuple[bytes, int]:
        length, start = size(data, at)
        if start + length > len(data):
            raise IndexError("a block beyond the end")
        return data[start : start + length], start + length

    return read


def _of_bytes(count: int) -> Callable[[bytes, int], tuple[int, int]]:
    return lambda data, at: (int.from_bytes(data[at : at + count], "little"), at + count)


Value = int | bytes
Reader = Callable[[bytes, int], tuple["Value | tuple[int, Value]", int]]
"""Of a value and the place behind it; with its form where the entry itself tells that."""

_VARIABLE: dict[int, Callable[[bytes, int], tuple[Value, int]]] = {
    0x03: _block(_of_bytes(2)),
    0x04: _block(_of_bytes(4)),
    STRING: cstring,
    0x09: _block(uleb),
    0x0A: _block(_of_bytes(1)),
    0x0D: sleb,
    0x0F: uleb,
    0x15: uleb,
    0x18: _block(uleb),
    STRX: uleb,
    ADDRX: uleb,
    0x22: uleb,
    RNGLISTX: uleb,
    GNU_ADDR_INDEX: uleb,
    GNU_STR_INDEX: uleb,
}


def fixed_form(form: int, version: int, address_size: int, offset_size: int) -> str | None:
    """How `struct` spells a form whose size is fixed; None for others."""
    if form == ADDR or (form == REF_ADDR and version < 3):
        return "Q" if address_size == 8 else "I"
    if form in _OFFSETS or form == REF_ADDR:
        return "Q" if offset_size == 8 else "I"
    return _FIXED.get(form)


def read_form(form: int, data: bytes, at: int, version: int, address_size: int, offset_size: int) -> tuple[Value, int]:
    """A value by itself, and the place behind it."""
    spelled = fixed_form(form, version, address_size, offset_size)
    if spelled is None:
        return _VARIABLE[form](data, at)
    return struct.unpack_from("<" + spelled, data, at)[0], at + struct.calcsize("<" + spelled)


def _indirect(how: tuple[int, int, int]) -> Reader:
    def read(data: bytes, at: int) -> tuple[tuple[int, Value], int]:
        form, at = uleb(data, at)
        value, at = read_form(form, data, at, *how)
        return (form, value), at

    return read


class _Shape:
    """How the entries of one abbreviation are laid out: runs of fixed size, and between them what tells its own."""

    __slots__ = ("children", "constants", "steps", "tag", "where", "whole")

    def __init__(self, tag: int, children: bool, parts: list[tuple[int, int, int]], how: tuple[int, int, int]) -> None:
        self.tag = TAGS.get(tag, f"tag {tag:#x}")
        self.children = children
        self.where: dict[str, tuple[int, int]] = {}
        """For each attribute that is read the index of its value (negative: among the constants), and its form."""
        self.constants: list[int] = []
        self.steps: list[tuple[struct.Struct | None, Reader | None, bool]] = []
        run, index = "<", 0
        for number, form, constant in parts:
            name = NAMES.get(number)
            if form in (IMPLICIT_CONST, FLAG_PRESENT):
                if name:
                    self.constants.append(constant if form == IMPLICIT_CONST else 1)
                    self.where[name] = -len(self.constants), form
                continue
            spelled = fixed_form(form, *how)
            if spelled is not None:
                run += spelled if name else f"{struct.calcsize('<' + spelled)}x"
            else:
                if run != "<":
                    self.steps.append((struct.Struct(run), None, True))
                    run = "<"
                reader = _indirect(how) if form == INDIRECT else _VARIABLE[form]
                self.steps.append((None, reader, name is not None))
            if name:
                self.where[name] = index, form
                index += 1
        if run != "<":
            self.steps.append((struct.Struct(run), None, True))
        self.constants.reverse()
        self.whole = self.steps[0][0] if len(self.steps) == 1 else None
        """The one step of an entry of fixed size."""

    def read(self, data: bytes, at: int) -> tuple[tuple[Value | tuple[int, Value], ...], int]:
        """The values that are of use, and the place behind the entry."""
        if self.whole is not None:
            return self.whole.unpack_from(data, at), at + self.whole.size
        values: list[Value | tuple[int, Value]] = []
        for fixed, reader, wanted in self.steps:
            if fixed is not None:
                values += fixed.unpack_from(data, at)
                at += fixed.size
            elif reader is not None:
                value, at = reader(data, at)
                if wanted:
                    values.append(value)
        return tuple(values), at

    def skip(self, data: bytes, at: int) -> int:
        """The place behind an entry."""
        if self.whole is not None:
            return at + self.whole.size
        for fixed, reader, _ in self.steps:
            if fixed is not None:
                at += fixed.size
            elif reader is not None:
                at = reader(data, at)[1]
        return at


class Entry:
    """One entry; equal to no other object."""

    __slots__ = ("_after", "_name", "_shape", "_values", "offset", "start", "tag", "unit")

    def __init__(
        self, unit: Unit, offset: int, shape: _Shape, values: tuple[Value | tuple[int, Value], ...], start: int
    ) -> None:
        self.unit = unit
        self.offset = offset
        """Its place; no two entries of a file have one."""
        self.tag = shape.tag
        self.start = start
        """The byte behind it in its section: where its children begin."""
        self._shape = shape
        self._values = values
        self._after = -1
        self._name: str | None = None

    def has(self, name: str) -> bool:
        """Whether it has an attribute."""
        return name in self._shape.where

    def form(self, name: str) -> int:
        """The form of one; 0 where it has none."""
        index, form = self._shape.where.get(name, (0, 0))
        if form == INDIRECT:
            value = self._values[index]
            return value[0] if isinstance(value, tuple) else 0
        return form

    def get(self, name: str) -> Value | None:
        """An attribute's value as it was written."""
        found = self._shape.where.get(name)
        if found is None:
            return None
        index = found[0]
        if index < 0:
            return self._shape.constants[index]
        value = self._values[index]
        return value[1] if isinstance(value, tuple) else value

    def number(self, name: str) -> int | None:
        """A value that is a number, no reference; also an index or a place in another section."""
        value = self.get(name)
        return value if isinstance(value, int) else None

    def constant(self, name: str) -> int | None:
        """A value that is a number; none where it is told by an expression or by another entry."""
        form = self.form(name)
        return None if form in _IN_UNIT or form in (REF_ADDR, REF_SIG8) else self.number(name)

    @property
    def name(self) -> str:
        """Empty where it has none."""
        if self._name is None:
            self._name = self.text("name")
        return self._name

    def text(self, name: str) -> str:
        """A value that is a text; empty where there is none."""
        value = self.get(name)
        return "" if value is None else self.unit.text(value, self.form(name))

    def address(self, name: str) -> int | None:
        """A value that is an address in the program."""
        value = self.get(name)
        if value is None:
            return None
        return self.unit.address(value) if self.form(name) in _ADDRESSES_BY_NUMBER else _integer(value)

    def place(self, name: str) -> int | None:
        """The place of the entry that it refers to."""
        value = self.get(name)
        if value is None:
            return None
        form = self.form(name)
        if form in _IN_UNIT:
            return self.unit.offset + _integer(value)
        if form == REF_ADDR:
            return _integer(value)
        if form == REF_SIG8:
            return self.unit.file.place_of(_integer(value))
        raise ValueError("a reference into another file")

    def target(self, name: str) -> Entry | None:
        """The entry that it refers to.

        Raises:
            ValueError: There is none at that place.
        """
        place = self.place(name)
        return None if place is None else self.unit.file.at(place, self.unit)

    @property
    def has_children(self) -> bool:
        """Whether entries lie inside of it."""
        return self._shape.children

    def children(self) -> Iterator[Entry]:
        """The entries that lie directly in it."""
        if not self._shape.children:
            return
        unit, at = self.unit, self.start
        while (child := unit.entry(at)) is not None:
            yield child
            at = child.after()

    def after(self) -> int:
        """The byte behind it and its children."""
        if self._after < 0:
            self._after = self._find_after()
        return self._after

    def _find_after(self) -> int:
        if not self._shape.children:
            return self.start
        if self.form("sibling") in _IN_UNIT:
            at = self.unit.begin + _integer(self.get("sibling"))
            if not self.start < at <= self.unit.end:
                raise ValueError("an entry whose sibling is elsewhere")
            return at
        return self.unit.skip_children(self.start)


def _integer(value: Value | None) -> int:
    if isinstance(value, int):
        return value
    if isinstance(value, bytes):
        return int.from_bytes(value, "little")
    raise ValueError("no value where one must be")


class Unit:
    """One unit of a section. ``begin``, ``end`` and ``first`` (the entry of the unit itself) are bytes of the section,
    ``offset`` is its place."""

    def __init__(self, file: Units, data: bytes, begin: int, bias: int) -> None:
        self.file = file
        self.data = data
        self.begin = begin
        self.offset = begin + bias
        length, at, self.offset_size = unit_length(data, begin)
        self.end = at + length
        if self.end > len(data):
            raise ValueError("a unit that is cut")
        (self.version,) = struct.unpack_from("<H", data, at)
        if not 2 <= self.version <= 5:
            raise ValueError(f"DWARF {self.version}")
        at += 2
        self.kind = 0x02 if bias else 0x01
        self.identity = 0
        """Of a type unit its type's signature, of a split one what tells its file."""
        offset = "<Q" if self.offset_size == 8 else "<I"
        if self.version >= 5:
            self.kind, self.address_size = data[at], data[at + 1]
            (abbreviations,) = struct.unpack_from(offset, data, at + 2)
        else:
            (abbreviations,) = struct.unpack_from(offset, data, at)
            self.address_size = data[at + self.offset_size]
        at += self.offset_size + (2 if self.version >= 5 else 1)
        if self.kind in _TYPE_UNITS or self.kind in _SPLIT:
            (self.identity,) = struct.unpack_from("<Q", data, at)
            at += 8
        self.type_at = 0
        """Where a type unit's type lies in it."""
        if self.kind in _TYPE_UNITS:
            (self.type_at,) = struct.unpack_from(offset, data, at)
            at += self.offset_size
        self.first = at
        self._abbreviations = abbreviations
        self._shapes: dict[int, _Shape] | None = None
        self._known: dict[int, Entry | None] = {}
        self._top: Entry | None = None
        self._bias = bias

    @property
    def is_type(self) -> bool:
        """It holds one type, to which others refer by a signature."""
        return self.kind in _TYPE_UNITS

    @property
    def top(self) -> Entry:
        """The entry of the unit itself."""
        if self._top is None:
            self._top = self.entry(self.first)
            if self._top is None:
                raise ValueError("a unit without an entry")
        return self._top

    def entry(self, at: int) -> Entry | None:
        """The entry at a byte of the section; None: it ends those of its parent."""
        found = self._known.get(at, self)
        if found is not self:
            return found  # type: ignore[return-value]
        if not self.first <= at < self.end:
            raise ValueError("an entry outside of its unit")
        code, start = uleb(self.data, at)
        made = None
        if code:
            shape = self._table()[code]
            values, end = shape.read(self.data, start)
            if end > self.end:
                raise ValueError("an entry that is cut")
            made = Entry(self, at + self._bias, shape, values, end)
        self._known[at] = made
        return made

    def _table(self) -> dict[int, _Shape]:
        if self._shapes is None:
            how = (self.version, self.address_size, self.offset_size)
            self._shapes = self.file.shapes(self._abbreviations, how)
        return self._shapes

    def skip_children(self, at: int) -> int:
        """The byte behind the entries from here to the one that ends them, and those inside of them."""
        data, end, depth, count = self.data, self.end, 1, 0
        shapes = self._table()
        while depth:
            if at >= end:
                raise ValueError("entries that do not end")
            code = data[at]
            at += 1
            if code >= 0x80:
                code, at = uleb(data, at - 1)
            if code:
                shape = shapes[code]
                at = shape.skip(data, at)
                depth += shape.children
            else:
                depth -= 1
            count += 1
            if not count & 0xFFF:
                self.file.check()
        return at

    # ---- what its attributes' values mean ----

    def text(self, value: Value, form: int) -> str:
        """What a form of texts says."""
        if form in _STRINGS_BY_NUMBER:
            return self._string(self.file.section("str"), self._text_place(_integer(value)))
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if form == STRP:
            return self._string(self.file.section("str"), value)
        if form == LINE_STRP:
            return self._string(self.file.section("line_str"), value)
        return ""

    @staticmethod
    def _string(texts: bytes, at: int) -> str:
        return cstring(texts, at)[0].decode("utf-8", "replace")

    def _text_place(self, number: int) -> int:
        place = self.texts_base + number * self.offset_size
        (found,) = struct.unpack_from("<Q" if self.offset_size == 8 else "<I", self.file.section("str_offsets"), place)
        return int(found)

    @property
    def texts_base(self) -> int:
        """Where its numbers of texts begin in ``.debug_str_offsets``."""
        base = self.top.number("str_offsets_base")
        if base is not None:
            return base
        return 0 if self.version < 5 else (16 if self.offset_size == 8 else 8)

    def address(self, value: Value) -> int:
        """The address of a number in ``.debug_addr``."""
        base, addresses = self.file.addresses_of(self)
        width = self.address_size
        place = base + _integer(value) * width
        (found,) = struct.unpack_from("<Q" if width == 8 else "<I", addresses, place)
        return int(found)


def unit_length(data: bytes, at: int) -> tuple[int, int, int]:
    """Of a unit of any section: its length, where that is counted from, and the bytes of an offset in it."""
    (length,) = struct.unpack_from("<I", data, at)
    if length < 0xFFFFFFF0:
        return length, at + 4, 4
    if length != 0xFFFFFFFF:
        raise ValueError("a unit's length makes no sense")
    (length,) = struct.unpack_from("<Q", data, at + 4)
    return length, at + 12, 8


class Units:
    """All units of a file.

    Args:
        section: The bytes of ``.debug_<name>``; empty where there is none.
        check: Called now and then; raises to end what takes too long.
    """

    def __init__(self, section: Callable[[str], bytes], check: Callable[[], None]) -> None:
        self._read = section
        self.check = check
        self._sections: dict[str, bytes] = {}
        self._known: list[Unit] | None = None
        self._begins: list[int] = []
        self._signatures: dict[int, int] | None = None
        self._shapes: dict[tuple[int, tuple[int, int, int]], dict[int, _Shape]] = {}
        self.skeleton: Unit | None = None
        """Of a file that holds what was split off: the unit that was left in the program."""

    def section(self, name: str) -> bytes:
        """``.debug_<name>``; read once."""
        if name not in self._sections:
            self._sections[name] = self._read(name)
        return self._sections[name]

    def shapes(self, place: int, how: tuple[int, int, int]) -> dict[int, _Shape]:
        """The abbreviations at a place, by code."""
        known = self._shapes.get((place, how))
        if known is None:
            data = self.section("abbrev")
            known = (_kept_shapes if len(data) <= _KEPT_BYTES else _shapes_of)(data, place, how)
            self._shapes[place, how] = known
        return known

    def __iter__(self) -> Iterator[Unit]:
        yield from self._all()

    def _all(self) -> list[Unit]:
        if self._known is None:
            found: list[Unit] = []
            for name, bias in (("info", 0), ("types", TYPES_START)):
                data, at = self.section(name), 0
                while at < len(data):
                    found.append(Unit(self, data, at, bias))
                    at = found[-1].end
                    if not len(found) & 0xFF:
                        self.check()
            self._known, self._begins = found, [each.offset for each in found]
        return self._known

    def holding(self, place: int) -> Unit:
        """The unit that a place lies in.

        Raises:
            ValueError: There is none.
        """
        units = self._all()
        index = bisect_right(self._begins, place) - 1
        if index < 0 or place - units[index].offset >= units[index].end - units[index].begin:
            raise ValueError("a reference to nowhere")
        return units[index]

    def at(self, place: int, near: Unit | None = None) -> Entry:
        """The entry at a place; most lie in the unit that refers to them.

        Raises:
            ValueError: There is none.
        """
        unit = near
        if unit is None or not 0 <= place - unit.offset < unit.end - unit.begin:
            unit = self.holding(place)
        found = unit.entry(place - unit.offset + unit.begin)
        if found is None:
            raise ValueError("a reference to nowhere")
        return found

    def place_of(self, signature: int) -> int:
        """Where the type with a signature lies.

        Raises:
            ValueError: No unit has it.
        """
        if self._signatures is None:
            self._signatures = {each.identity: each.offset + each.type_at for each in self._all() if each.is_type}
        if signature not in self._signatures:
            raise ValueError("a type that no unit tells of")
        return self._signatures[signature]

    def addresses_of(self, unit: Unit) -> tuple[int, bytes]:
        """Where a unit's numbers of addresses begin, and the section of them; it stays in the program."""
        if self.skeleton is not None:
            return self.skeleton.file.addresses_of(self.skeleton)
        base = unit.top.number("addr_base")
        return (base if base is not None else 8 if unit.version >= 5 else 0), self.section("addr")


_KEPT_BYTES = 64 * 1024


def _shapes_of(table: bytes, at: int, how: tuple[int, int, int]) -> dict[int, _Shape]:
    """The abbreviations of the table that begins at a byte, by code."""
    found: dict[int, _Shape] = {}
    while True:
        code, at = uleb(table, at)
        if not code:
            return found
        tag, at = uleb(table, at)
        children = table[at] != 0
        at += 1
        parts: list[tuple[int, int, int]] = []
        while True:
            number, at = uleb(table, at)
            form, at = uleb(table, at)
            constant = 0
            if form == IMPLICIT_CONST:
                constant, at = sleb(table, at)
            if not number and not form:
                break
            parts.append((number, form, constant))
        found[code] = _Shape(tag, children, parts, how)


_kept_shapes = lru_cache(maxsize=32)(_shapes_of)
"""One build's abbreviations are the next one's, as a rule."""
