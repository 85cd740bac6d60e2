"""The entries of debug info as pyelftools reads them, with what that leaves to its callers: files that were split off
(-gsplit-dwarf), types in units of their own, and forms of values that the two need.

Places are counted from the beginning of ``.debug_info``; those in ``.debug_types`` (DWARF 4) begin at `TYPES_START`.
Nothing in the bytes is relied on: elftools answers nonsense with whatever Python does, and ends.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from elftools.dwarf.compileunit import CompileUnit
    from elftools.dwarf.die import DIE
    from elftools.dwarf.dwarfinfo import DWARFInfo
    from elftools.dwarf.typeunit import TypeUnit

TYPES_START = 1 << 48
"""No section is so long: one number tells any place."""

_IN_UNIT = frozenset(f"DW_FORM_{name}" for name in ("ref1", "ref2", "ref4", "ref8", "ref_udata"))
_REFERENCES = _IN_UNIT | {"DW_FORM_ref_addr", "DW_FORM_ref_sig8"}
_ADDRESSES = frozenset(f"DW_FORM_{name}" for name in ("addrx", "addrx1", "addrx2", "addrx3", "addrx4"))


class Entry:
    """One entry; equal to no other object."""

    __slots__ = ("_attributes", "_die", "_name", "offset", "tag", "unit")

    def __init__(self, unit: Unit, die: DIE) -> None:
        self.unit = unit
        self.offset = die.offset + unit.bias
        """Its place; no two entries of a file have one."""
        self.tag = str(die.tag).removeprefix("DW_TAG_")
        self._die = die
        self._attributes = die.attributes
        self._name: str | None = None

    def has(self, name: str) -> bool:
        """Whether it has an attribute."""
        return f"DW_AT_{name}" in self._attributes

    def get(self, name: str) -> int | bytes | None:
        """An attribute's value: a number, bytes, or None where it has none."""
        found = self._attributes.get(f"DW_AT_{name}")
        value = None if found is None else found.value
        if isinstance(value, list):
            return bytes(value)
        return value if isinstance(value, (int, bytes)) else None

    def number(self, name: str) -> int | None:
        """A value that is a number."""
        value = self.get(name)
        return value if isinstance(value, int) else None

    def constant(self, name: str) -> int | None:
        """A value that is a number; none where it is told by an expression or by another entry."""
        found = self._attributes.get(f"DW_AT_{name}")
        return None if found is None or found.form in _REFERENCES else self.number(name)

    @property
    def name(self) -> str:
        """Empty where it has none."""
        if self._name is None:
            self._name = self.text("name")
        return self._name

    def text(self, name: str) -> str:
        """A value that is a text; empty where there is none."""
        found = self._attributes.get(f"DW_AT_{name}")
        if found is None:
            return ""
        value = self.unit.text(found.value) if found.form == "DW_FORM_GNU_str_index" else found.value
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""

    def address(self, name: str) -> int | None:
        """A value that is an address in the program."""
        found = self._attributes.get(f"DW_AT_{name}")
        if found is None:
            return None
        return self.unit.address(found.value) if found.form == "DW_FORM_GNU_addr_index" else self.number(name)

    def place(self, name: str) -> int | None:
        """The place of the entry that it refers to."""
        found = self._attributes.get(f"DW_AT_{name}")
        if found is None:
            return None
        if found.form in _IN_UNIT:
            return self.unit.offset + int(found.raw_value)
        if found.form == "DW_FORM_ref_addr":
            return int(found.raw_value)
        if found.form == "DW_FORM_ref_sig8":
            return self.unit.file.place_of(found.raw_value)
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
        return bool(self._die.has_children)

    def children(self) -> Iterator[Entry]:
        """The entries that lie directly in it."""
        for die in self._die.iter_children():
            yield Entry(self.unit, die)


class Unit:
    """One unit of a section; ``offset`` is its place."""

    def __init__(self, file: Units, unit: CompileUnit | TypeUnit, bias: int) -> None:
        self.file = file
        self.bias = bias
        self.offset = unit.cu_offset + bias
        self.end = self.offset + unit["unit_length"] + unit.structs.initial_length_field_size()
        self.offset_size = unit.structs.dwarf_format // 8
        self.version = int(unit["version"])
        self.address_size = int(unit["address_size"])
        kind = unit.header.get("unit_type", "")
        self.is_type = bool(bias) or kind in ("DW_UT_type", "DW_UT_split_type")
        """It holds one type, to which others refer by a signature."""
        self.type_at = int(unit.header.get("type_offset", 0))
        """Where a type unit's type lies in it."""
        if self.version < 5:  # elftools has names for these forms of split files alone
            for form in ("DW_FORM_GNU_str_index", "DW_FORM_GNU_addr_index"):
                unit.structs.Dwarf_dw_form[form] = unit.structs.the_Dwarf_uleb128
        self._unit: Any = unit
        self._top: Entry | None = None

    @property
    def identity(self) -> int:
        """Of a type unit its type's signature, of a split one what tells its file; 0 for others."""
        head = self._unit.header
        for name in ("type_signature", "signature", "dwo_id"):
            if head.get(name):
                return int(head[name])
        return self.top.number("dwo_id") or self.top.number("GNU_dwo_id") or 0

    @property
    def split(self) -> str:
        """The file that it was split off into; empty where it is whole."""
        return "" if self.file.skeleton else self.top.text("dwo_name") or self.top.text("GNU_dwo_name")

    @property
    def top(self) -> Entry:
        """The entry of the unit itself."""
        if self._top is None:
            self._top = Entry(self, self._top_die())
        return self._top

    def _top_die(self) -> DIE:
        skeleton = self.file.skeleton
        if skeleton is None or self.version < 5:
            return cast("DIE", self._unit.get_top_DIE())
        # Split files leave out where their tables of texts and lists begin (behind the heads), and that of addresses
        # (the program's unit says it). elftools insists on being told, but has the entry by then.
        from elftools.common.exceptions import DWARFError
        from elftools.dwarf.die import AttributeValue

        with suppress(DWARFError, AssertionError):
            self._unit.get_top_DIE()
        top = cast("DIE", self._unit.get_top_DIE())
        lists = 20 if self.offset_size == 8 else 12
        addresses = skeleton.top.number("addr_base") or 8
        given = {"str_offsets": self.texts_base, "addr": addresses, "rnglists": lists, "loclists": lists}
        for name, value in given.items():
            told = f"DW_AT_{name}_base"
            top.attributes.setdefault(told, AttributeValue(told, "DW_FORM_sec_offset", value, value, 0, 0))
        top.attributes.pop("DW_AT_ranges", None)  # are the program's unit's, and may be in its sections
        top._translate_indirect_attributes()
        return top

    def entry(self, place: int) -> Entry:
        """The entry at a place in it."""
        top = self.top  # first: it tells what others are read by
        if place == top.offset:
            return top
        die = self._unit.get_DIE_from_refaddr(place - self.bias)
        if die.tag is None:
            raise ValueError("a reference to nowhere")
        return Entry(self, die)

    def mentions(self, needles: tuple[bytes, ...]) -> bool:
        """Whether its bytes hold one of these: texts with the zero at their ends, or their places as four bytes."""
        if self.offset_size != 4:
            return True
        if self.file.skeleton or self.top.has("str_offsets_base"):  # the places are in a table, by number
            texts, base = self.file.section("str_offsets"), self.texts_base
            end = base - 4 + int.from_bytes(texts[base - 8 : base - 4], "little") if self.version >= 5 else len(texts)
            if any(texts.find(needle, base, end) >= 0 for needle in needles):
                return True
        data = self.file.section("types" if self.bias else "info")
        return any(data.find(needle, self.offset - self.bias, self.end - self.bias) >= 0 for needle in needles)

    @property
    def texts_base(self) -> int:
        """Where its numbers of texts begin in ``.debug_str_offsets``."""
        base = None if self.file.skeleton else self.top.number("str_offsets_base")
        if base is not None:
            return base
        return 0 if self.version < 5 else (16 if self.offset_size == 8 else 8)

    def text(self, number: int) -> bytes:
        """The text of a number (DW_FORM_GNU_str_index, of DWARF 4)."""
        data, width = self.file.section("str_offsets"), self.offset_size
        (place,) = struct.unpack_from("<Q" if width == 8 else "<I", data, number * width)
        texts = self.file.section("str")
        return texts[place : texts.index(b"\0", place)]

    def address(self, number: int) -> int:
        """The address of a number (DW_FORM_GNU_addr_index, of DWARF 4)."""
        skeleton = self.file.skeleton or self
        base = skeleton.top.number("GNU_addr_base") or 0
        return int(struct.unpack_from("<Q", self.file.section("addr"), base + number * 8)[0])

    def files(self) -> list[tuple[str, str]]:
        """Directory and name of each file, by the number that its entries give it; empty where it has no table."""
        info, unit, skeleton = self.file.info, self._unit, self.file.skeleton
        program: Any = None
        if skeleton and not self.top.has("stmt_list"):
            if info.debug_line_sec is None:
                return skeleton.files()
            # What was split off has a table of its own for its files alone.
            program = info._parse_line_program_at_offset(0, unit.structs)
        elif self.top.has("stmt_list"):
            program = info.line_program_for_CU(unit)
        if program is None:
            return []
        modern = program.header["version"] >= 5
        home = [] if modern else [self.top.text("comp_dir").encode()]
        names = [*home, *program.header["include_directory"]]
        found = [] if modern else [("", "")]
        for each in program.header["file_entry"]:
            directory = names[each.dir_index] if each.dir_index < len(names) else b""
            found.append((_text(directory), _text(each.name)))
        return found

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The addresses that it says are its own."""
        top = self.top
        low, high, ranges = top.address("low_pc"), self._attribute("high_pc"), self._attribute("ranges")
        base = low or 0
        if low is not None and high is not None:
            yield base, high.value if high.form == "DW_FORM_addr" or high.form in _ADDRESSES else base + high.value
        if ranges is None:
            return
        lists: Any = self.file.info.range_lists()
        for each in lists.get_range_list_at_offset(ranges.value, cu=self._unit):
            if hasattr(each, "base_address"):
                base = each.base_address
            else:
                start = 0 if getattr(each, "is_absolute", False) else base
                yield start + each.begin_offset, start + each.end_offset

    def _attribute(self, name: str) -> Any:
        return self.top._attributes.get(f"DW_AT_{name}")


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


class Units:
    """All units of a file.

    Args:
        info: Of its sections.
        check: Called now and then; raises to end what takes too long.
        skeleton: Of a file that holds what was split off: the unit that was left in the program.
    """

    def __init__(self, info: DWARFInfo, check: Callable[[], None], skeleton: Unit | None = None) -> None:
        self.info = info
        self.check = check
        self.skeleton = skeleton
        self._known: dict[int, Unit] = {}
        self._signatures: dict[int, int] | None = None
        self._table: Any = None
        """Which unit is where; False where there is no such table. Read once: functions are asked for one by one."""

    def section(self, name: str) -> bytes:
        """``.debug_<name>``; empty where there is none."""
        found = getattr(self.info, f"debug_{name}_sec")
        return b"" if found is None else found.stream.getvalue()

    def __iter__(self) -> Iterator[Unit]:
        for bias, units in ((0, self.info.iter_CUs()), (TYPES_START, self.info.iter_TUs())):
            for unit in units:
                self.check()
                yield self._unit(unit, bias)

    def _unit(self, unit: CompileUnit | TypeUnit, bias: int) -> Unit:
        place = unit.cu_offset + bias
        if place not in self._known:
            self._known[place] = Unit(self, unit, bias)
        return self._known[place]

    def holding(self, place: int) -> Unit:
        """The unit that a place lies in.

        Raises:
            ValueError: There is none.
        """
        if place < TYPES_START:
            return self._unit(self.info.get_CU_containing(place), 0)
        for unit in self:
            if unit.offset <= place < unit.end:
                return unit
        raise ValueError("a reference to nowhere")

    def running_at(self, address: int) -> Unit | None:
        """The unit of the function at an address: by the table made for that, else by the units' own words."""
        if self._table is None:
            self._table = self.info.get_aranges() or False
        place = self._table.cu_offset_at_addr(address) if self._table else None
        if place is not None:
            return self._unit(self.info.get_CU_at(place), 0)
        for unit in self:
            if not unit.is_type and any(start <= address < end for start, end in unit.ranges()):
                return unit
        return None

    def at(self, place: int, near: Unit | None = None) -> Entry:
        """The entry at a place; most lie in the unit that refers to them.

        Raises:
            ValueError: There is none.
        """
        unit = near if near is not None and near.offset <= place < near.end else self.holding(place)
        return unit.entry(place)

    def place_of(self, signature: int) -> int:
        """Where the type with a signature lies.

        Raises:
            ValueError: No unit has it.
        """
        if self._signatures is None:
            self._signatures = {each.identity: each.offset + each.type_at for each in self if each.is_type}
        if signature not in self._signatures:
            raise ValueError("a type that no unit tells of")
        return self._signatures[signature]
