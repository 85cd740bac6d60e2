"""What the debug info (DWARF 4 and 5) of an ELF file tells of the types that the functions of slots use.

An implementation takes ``void *``, so its types are found by what its code does with them:

    C, C++   every complete struct, union, class that the function's source file has a pointer or a reference to, and
             those that nothing refers to: casts leave no other trace
    Rust     the types of parameters, of type parameters, and what local variables point to; of what was inlined, too

and from there by value and by pointer. Types of the system, of compilers' libraries and of hotreload are left out:
as a field they count by name and size.

`elftools` is imported where a file is opened: nothing else that the package does should wait for it.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from zlib import crc32

if TYPE_CHECKING:
    from elftools.dwarf.compileunit import CompileUnit
    from elftools.dwarf.die import DIE
    from elftools.dwarf.typeunit import TypeUnit

BYTES_MOST = 256 * 1024 * 1024
"""Of ``.debug_info``, uncompressed: what is larger is not read."""
TYPES_MOST = 2000
"""That the functions of one module reach."""
SECONDS_MOST = 30.0
"""For one question: a file whose answer takes longer is given up."""
SYSTEM = Path("/usr/lib/debug")
"""Where distributions keep separate debug info."""

DECLARED = "declared"
"""The kind of a type that functions point to, whose fields the file does not tell."""

_NAME_MOST = 255
_TEXT_OFFSETS_MOST = 64
"""A name that ends so many texts of ``.debug_str`` says nothing about which unit has it."""


class NoDebugInfo(Exception):
    """Its text says why there is no answer, for people: ``"no debug info: compile with -g"``."""


@dataclass(frozen=True, slots=True)
class Member:
    """A field, bytes; of an enum an enumerator, whose value is ``offset``."""

    name: str
    type: str
    """With every typedef resolved: ``"Voice *"``, ``"float[16]"``."""
    offset: int
    size: int
    """0 also where it is not told."""
    number: str = ""
    """``"u32"`` and the like where it is one, or an array of them."""
    also: tuple[str, ...] = ()
    """The typedefs by which its author may have called it."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A complete type. ``name`` is plain, without namespaces and ``struct``; a nameless one is ``"Outer.field"``."""

    name: str
    kind: str
    """``struct``, ``union``, ``enum`` or ``declared``."""
    size: int
    align: int
    fixed: bool
    """The alignment is told; else it follows from the fields."""
    file: str
    """The name of the file that declares it; empty where that is not told (Rust)."""
    scope: str
    """Crate and modules of a Rust type: ``"game::state"``; empty for others."""
    members: tuple[Member, ...]
    reaches: tuple[str, ...] = ()
    """Types that it holds or points to, of those that count."""


def carries(path: Path) -> bool:
    """Whether a file has a section of debug info, or names a file that has it; some 30 us. Never raises."""
    try:
        with path.open("rb") as file:
            names = _section_names(file)
    except (OSError, OverflowError, ValueError, struct.error):  # places that no file has
        return False
    return any(name in names for name in (b".debug_info\0", b".zdebug_info\0", b".gnu_debuglink\0")) or (
        b".note.gnu.build-id\0" in names and SYSTEM.is_dir() and _system_file(path) is not None
    )


def _section_names(file: BinaryIO) -> bytes:
    head = file.read(64)
    if head[:6] != b"\x7fELF\x02\x01":
        return b""
    (table,) = struct.unpack_from("<Q", head, 0x28)
    size, _, index = struct.unpack_from("<HHH", head, 0x3A)
    file.seek(table + index * size)
    offset, length = struct.unpack_from("<QQ", file.read(64), 24)
    file.seek(offset)
    return file.read(min(length, 65536))


def _system_file(path: Path) -> Path | None:
    with suppress(NoDebugInfo, OSError), path.open("rb") as file:
        found = _by_build_id(_elf(file)[1])
        return found if found and found.is_file() else None
    return None


def _by_build_id(build_id: str) -> Path | None:
    return SYSTEM / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug" if len(build_id) > 2 else None


def _elf(file: BinaryIO) -> tuple[Any, str]:
    """The file as elftools reads it, and its build id. Raises NoDebugInfo."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(file)
        section = elf.get_section_by_name(".note.gnu.build-id")
        notes = section.iter_notes() if section and hasattr(section, "iter_notes") else ()
        found = [note["n_desc"] for note in notes if note["n_type"] == "NT_GNU_BUILD_ID"]
    except (ELFError, ValueError, KeyError, OSError, UnicodeError) as error:
        raise NoDebugInfo(f"it cannot be read: {error}") from error
    return elf, str(found[0]) if found else ""


def _has_dwarf(elf: Any) -> bool:
    return any(elf.get_section_by_name(name) for name in (".debug_info", ".zdebug_info"))


def _linked(elf: Any, path: Path) -> Path | None:
    """The separate file that ``.gnu_debuglink`` names, if it is the right one."""
    section = elf.get_section_by_name(".gnu_debuglink")
    if section is None:
        return None
    data = section.data()
    name, checksum = data.split(b"\0")[0].decode("utf-8", "replace"), data[-4:]
    home = path.resolve().parent
    for place in (home / name, home / ".debug" / name, SYSTEM / str(home).lstrip("/") / name):
        with suppress(OSError):
            if place.is_file() and crc32(place.read_bytes()) == int.from_bytes(checksum, "little"):
                return Path(place)
    return None


class DebugInfo:
    """An open file's types. Questions are answered from the file each time; see `hotreload.type_cache`.

    Args:
        path: The file; of a running program ``/proc/PID/exe``.
        build_id: That it is expected to have; empty for any.

    Raises:
        NoDebugInfo: It has none, is too large, another file by now, or makes no sense.
    """

    def __init__(self, path: Path, build_id: str = "") -> None:
        self._files: list[BinaryIO] = []
        try:
            elf = self._open(path)
            if build_id and self.build_id != build_id:
                raise NoDebugInfo("the file has changed meanwhile")
            self._elf = self._with_debug_info(elf, path)
            self.size = self._checked_size()
            """Of ``.debug_info`` as it lies in the file, bytes."""
        except BaseException:
            self.close()
            raise
        self._info: Any = None
        self._units: dict[int, _Unit] = {}
        self._ends = 0.0

    def _open(self, path: Path) -> Any:
        try:
            self._files.append(path.open("rb"))
        except OSError as error:
            raise NoDebugInfo(f"it cannot be read: {error.strerror}") from error
        elf, self.build_id = _elf(self._files[-1])
        return elf

    def _with_debug_info(self, elf: Any, path: Path) -> Any:
        if _has_dwarf(elf):
            return elf
        mine = self.build_id
        for place in (_by_build_id(mine), _linked(elf, path)):
            if place is None or not place.is_file():
                continue
            other = self._open(place)
            same, self.build_id = self.build_id in (mine, ""), mine
            if same and _has_dwarf(other):
                return other
        raise NoDebugInfo("no debug info: compile with -g, and do not strip")

    def _checked_size(self) -> int:
        section = self._elf.get_section_by_name(".debug_info") or self._elf.get_section_by_name(".zdebug_info")
        if section.data_size > BYTES_MOST:
            raise NoDebugInfo(f"its debug info is larger than {BYTES_MOST >> 20} MiB")
        return int(section.header["sh_size"])

    def close(self) -> None:
        """Closes the file."""
        for file in self._files:
            file.close()

    def __enter__(self) -> DebugInfo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def of_functions(self, addresses: Iterable[int]) -> tuple[Definition, ...]:
        """The types that the functions at these virtual addresses use, and those that they reach, by name.

        Raises:
            NoDebugInfo: None of them is described, or there are too many types.
        """
        found: tuple[Definition, ...] = self._guarded(lambda: self._of_functions(frozenset(addresses)))
        return found

    def named(self, names: Iterable[str]) -> dict[str, tuple[Definition, ...]]:
        """For each name the different types that have it; none where the file has no such type.

        Raises:
            NoDebugInfo: The file makes no sense, or takes too long.
        """
        wanted = frozenset(names)
        found: dict[str, tuple[Definition, ...]] = self._guarded(lambda: self._named(wanted))
        return found

    def _guarded(self, ask: Callable[[], Any]) -> Any:
        self._ends = time.monotonic() + SECONDS_MOST
        try:
            if self._info is None:
                self._info = self._elf.get_dwarf_info(relocate_dwarf_sections=False, follow_links=False)
            return ask()
        except NoDebugInfo:
            raise
        except Exception as error:  # elftools answers nonsense with whatever Python does
            raise NoDebugInfo(f"its debug info makes no sense ({type(error).__name__}: {error})") from error

    def check_time(self) -> None:
        """Raises NoDebugInfo when the question has taken too long."""
        if time.monotonic() > self._ends:
            raise NoDebugInfo(f"its debug info takes more than {SECONDS_MOST:.0f} s to read")

    # ---- units ----

    def _unit(self, unit: CompileUnit | TypeUnit) -> _Unit:
        known = self._units.get(unit.cu_offset)
        if known is None:
            known = self._units[unit.cu_offset] = _Unit(self, unit)
        return known

    def unit_of(self, die: DIE) -> _Unit:
        """The unit that holds an entry."""
        return self._unit(die.cu)

    def files_of(self, unit: CompileUnit | TypeUnit) -> list[tuple[str, str]]:
        """Directory and name of each file that the entries of a unit refer to by number."""
        program = self._info.line_program_for_CU(unit)
        if program is None:
            return []
        modern = program.header["version"] >= 5
        directories = [_text(each) for each in program.header["include_directory"]]
        if not modern:
            home = unit.get_top_DIE().attributes.get("DW_AT_comp_dir")
            directories = [_text(home.value) if home else "", *directories]
        found = [("", "")] if not modern else []
        for each in program.header["file_entry"]:
            index = each.dir_index
            found.append((directories[index] if index < len(directories) else "", _text(each.name)))
        return found

    def _holding(self, address: int) -> _Unit | None:
        table = self._info.get_aranges()
        offset = table.cu_offset_at_addr(address) if table else None
        if offset is not None:
            return self._unit(self._info.get_CU_at(offset))
        for unit in self._info.iter_CUs():
            self.check_time()
            if any(start <= address < end for start, end in self._ranges(unit)):
                return self._unit(unit)
        return None

    def _ranges(self, unit: CompileUnit) -> Iterator[tuple[int, int]]:
        top = unit.get_top_DIE()
        low, high, ranges = (top.attributes.get(f"DW_AT_{name}") for name in ("low_pc", "high_pc", "ranges"))
        base = low.value if low else 0
        if low and high:
            yield base, high.value if high.form == "DW_FORM_addr" else base + high.value
        if ranges is None:
            return
        for each in self._info.range_lists().get_range_list_at_offset(ranges.value, cu=unit):
            if hasattr(each, "base_address"):
                base = each.base_address
            else:
                start = 0 if getattr(each, "is_absolute", False) else base
                yield start + each.begin_offset, start + each.end_offset

    # ---- questions ----

    def _of_functions(self, addresses: frozenset[int]) -> tuple[Definition, ...]:
        units = {id(unit): unit for address in addresses if (unit := self._holding(address))}
        for unit in list(units.values()):  # link-time optimisation keeps the types in units of their own
            units.update((id(each), each) for each in unit.origins(addresses))
        if not units:
            raise NoDebugInfo("its slots' functions have no debug info: compile them with -g")
        if any(unit.split for unit in units.values()):
            raise NoDebugInfo("its debug info is split into .dwo files: compile without -gsplit-dwarf")
        found: dict[str, Definition] = {}
        waiting = [die for unit in units.values() for die in unit.roots(addresses)]
        while waiting:
            self.check_time()
            die = waiting.pop()
            unit = self.unit_of(die)
            for definition, inner in unit.definitions(die):
                if definition.name in found:
                    continue
                if len(found) == TYPES_MOST:
                    raise NoDebugInfo(f"its slots reach more than {TYPES_MOST} types")
                found[definition.name] = definition
                waiting += inner
        return tuple(found[name] for name in sorted(found))

    def _named(self, wanted: frozenset[str]) -> dict[str, tuple[Definition, ...]]:
        found: dict[str, list[Definition]] = {name: [] for name in wanted}
        outer = frozenset(name.split(".")[0] for name in wanted)
        needles = self._needles(outer)
        for unit in self._info.iter_CUs():
            self.check_time()
            if not self._mentions(unit, needles):
                continue
            for die in self._unit(unit).named(outer):
                for definition, _ in self.unit_of(die).definitions(die):
                    known = found.get(definition.name)
                    if known is not None and definition not in known:
                        known.append(definition)
        return {name: tuple(each) for name, each in found.items()}

    def _needles(self, names: frozenset[str]) -> tuple[bytes, ...] | None:
        """What the bytes of a unit hold that has one of the names: the text or its place; None when nothing tells.

        Looking for bytes is a thousand times faster than reading the entries of a unit."""
        needles: list[bytes] = []
        texts = self._info.debug_str_sec
        data = _section_bytes(texts) if texts else b""
        for name in names:
            ended = name.encode() + b"\0"
            needles.append(ended)
            at, count = data.find(ended), 0
            while at >= 0:
                needles.append(struct.pack("<I", at))
                count += 1
                if count > _TEXT_OFFSETS_MOST:
                    return None
                at = data.find(ended, at + 1)
        return tuple(needles)

    def _mentions(self, unit: CompileUnit, needles: tuple[bytes, ...] | None) -> bool:
        if needles is None or "DW_AT_str_offsets_base" in unit.get_top_DIE().attributes:
            return True
        stream = self._info.debug_info_sec.stream
        stream.seek(unit.cu_offset)
        data = stream.read(unit["unit_length"] + 12)
        return any(needle in data for needle in needles)


def _section_bytes(section: Any) -> bytes:
    section.stream.seek(0)
    return bytes(section.stream.read())


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# ---- one unit ----

_TYPES = {
    "DW_TAG_structure_type": "struct",
    "DW_TAG_class_type": "struct",
    "DW_TAG_union_type": "union",
    "DW_TAG_enumeration_type": "enum",
}
_POINTERS = frozenset({"DW_TAG_pointer_type", "DW_TAG_reference_type", "DW_TAG_rvalue_reference_type"})
_CAST = _TYPES.keys() - {"DW_TAG_enumeration_type"}
_SILENT = frozenset(
    f"DW_TAG_{name}_type" for name in ("const", "volatile", "restrict", "atomic", "immutable", "packed")
)
_SCOPES = frozenset({"DW_TAG_namespace", "DW_TAG_module"})
_BODIES = frozenset({"DW_TAG_lexical_block", "DW_TAG_inlined_subroutine", "DW_TAG_try_block", "DW_TAG_catch_block"})
_SYSTEM_PARTS = ("/usr/include/", "/usr/lib/", "/usr/local/include/", "/lib/gcc/", "/.rustup/", "/.cargo/registry/")
_SYSTEM_SCOPES = frozenset({"std", "__gnu_cxx", "__cxxabiv1"})
_SYSTEM_CRATES = frozenset({"core", "std", "alloc", "hashbrown", "hotreload", "libc"})
_OURS = frozenset(
    f"{name}.{end}"
    for name in (
        "abi",
        "status",
        "layout",
        "describe",
        "preflight",
        "report",
        "wire",
        "hotreload",
        "slot",
        "off",
        "patch",
    )
    for end in ("h", "hpp")
)
_LANGUAGES_RUST = frozenset({0x1C})
_DEPTH_MOST = 12
"""Of a type's text: pointers to functions that take pointers to functions."""


@dataclass(frozen=True, slots=True)
class _Spelled:
    """A type in words, with what its text is made of."""

    base: str
    stars: str = ""
    bounds: str = ""
    number: str = ""
    also: tuple[str, ...] = ()
    held: Any = None
    """The entry of the struct, union or enum that it is, or is an array of."""
    pointed: Any = None
    """The entry of the one that it points to."""

    @property
    def text(self) -> str:
        space = " " if self.stars else ""
        return _bounded(f"{self.base}{space}{self.stars}", self.bounds)


def _bounded(text: str, bounds: str = "") -> str:
    """Names of templates may be longer than a description's texts; their end is told by a number instead."""
    whole = text + bounds
    if len(whole.encode()) <= _NAME_MOST:
        return whole
    mark = f"~{crc32(whole.encode()):08x}"
    return whole.encode()[: _NAME_MOST - len(mark)].decode("utf-8", "ignore") + mark


class _Unit:
    """A compilation unit: its entries by name, and what they mean."""

    def __init__(self, whole: DebugInfo, unit: CompileUnit | TypeUnit) -> None:
        self._whole = whole
        self._unit = unit
        top = unit.get_top_DIE()
        language = top.attributes.get("DW_AT_language")
        self._rust = language is not None and language.value in _LANGUAGES_RUST
        self.split = any("dwo_name" in str(name) for name in top.attributes)
        """Its types are in a file of their own."""
        self._files: list[tuple[str, str]] | None = None
        self._entries: list[tuple[DIE, tuple[str, ...]]] | None = None
        self._paths: dict[int, tuple[str, ...]] = {}

    def entries(self) -> list[tuple[DIE, tuple[str, ...]]]:
        """Everything outside of functions, with the scopes around it."""
        if self._entries is None:
            self._entries = list(self._walk(self._unit.get_top_DIE(), ()))
            self._paths = {die.offset: path for die, path in self._entries}
        return self._entries

    def _walk(self, parent: DIE, path: tuple[str, ...]) -> Iterator[tuple[DIE, tuple[str, ...]]]:
        for die in parent.iter_children():
            self._whole.check_time()
            yield die, path
            if die.tag in _SCOPES and _name(die) in _SYSTEM_SCOPES and not self._rust:
                continue
            if die.has_children and (
                die.tag in _SCOPES or (die.tag in _TYPES and die.tag != "DW_TAG_enumeration_type")
            ):
                yield from self._walk(die, (*path, _name(die)))

    def named(self, names: frozenset[str]) -> Iterator[DIE]:
        """Complete types of these names; those of typedefs of nameless ones are the typedefs."""
        for die, _ in self.entries():
            if die.tag in _TYPES:
                if _plain(_name(die)) in names and _complete(die) and not self.is_system(die):
                    yield die
            elif die.tag == "DW_TAG_typedef" and _name(die) in names:
                target = self._target(die)
                if target is not None and target.tag in _TYPES and not _name(target):
                    yield die

    # ---- where functions begin ----

    def origins(self, addresses: frozenset[int]) -> Iterator[_Unit]:
        """Units that the functions at these addresses were written in, where that is not this one."""
        for die in self._functions(addresses):
            if "DW_AT_abstract_origin" in die.attributes:
                unit = self._whole.unit_of(die.get_DIE_from_attribute("DW_AT_abstract_origin"))
                if unit is not self:
                    yield unit

    def _functions(self, addresses: frozenset[int]) -> Iterator[DIE]:
        for die, _ in self.entries():
            low = die.attributes.get("DW_AT_low_pc") if die.tag == "DW_TAG_subprogram" else None
            if low and low.value in addresses:
                yield die

    def roots(self, addresses: frozenset[int]) -> list[DIE]:
        """The types, or typedefs of nameless ones, that the functions at these addresses work with."""
        found: dict[int, DIE] = {}
        if not self._rust:
            referred = self._referred()
            for die, _ in self.entries():
                if die.tag in _POINTERS:
                    self._add(found, self._target(die))
                elif die.offset not in referred and (die.tag in _CAST or die.tag == "DW_TAG_typedef"):
                    self._add(found, die)
        for die in self._functions(addresses) if self._rust else ():
            self._body(die, found, set())
        return list(found.values())

    def _referred(self) -> set[int]:
        """The places of types that something here refers to, other than a typedef that nothing refers to."""
        found: set[int] = set()
        names: dict[int, int] = {}
        for die, _ in self.entries():
            target = _reference(die)
            if target is None:
                continue
            if die.tag == "DW_TAG_typedef":
                names[die.offset] = target
            else:
                found.add(target)
        for die, _ in self.entries():
            if die.tag == "DW_TAG_subprogram" and die.has_children and not self.is_system(die):
                found.update(self._referred_in(die))
        found.update(names[at] for at in found & names.keys())
        return found

    def _referred_in(self, die: DIE) -> Iterator[int]:
        for child in die.iter_children():
            self._whole.check_time()
            target = _reference(child)
            if target is not None:
                yield target
            if child.has_children:
                yield from self._referred_in(child)

    def _add(self, found: dict[int, DIE], die: DIE | None) -> None:
        """Notes a type behind qualifiers and typedefs, if it counts."""
        spelled = self._spell(die)
        held = spelled.held
        if held is not None and not spelled.stars and _name(held):
            found.setdefault(held.offset, held)
        while die is not None and (die.tag in _SILENT or die.tag == "DW_TAG_typedef"):
            die = self._target(die)
        if die is not None and die.tag in _CAST and not _complete(die) and _name(die) and not self.is_system(die):
            found.setdefault(die.offset, die)

    def _body(self, die: DIE, found: dict[int, DIE], seen: set[int]) -> None:
        """What a Rust function's parameters, variables and type parameters are, and those of what is inlined in it."""
        if die.offset in seen:
            return
        seen.add(die.offset)
        self._whole.check_time()
        for name in ("DW_AT_abstract_origin", "DW_AT_specification"):
            if name in die.attributes and die.tag != "DW_TAG_variable":
                origin = die.get_DIE_from_attribute(name)
                self._whole.unit_of(origin)._body(origin, found, seen)
        for child in die.iter_children():
            if child.tag == "DW_TAG_template_type_param":
                target = self._target(child)
                if target is not None and _size_of(target):  # functions themselves are types of no size
                    self._add(found, target)
            elif child.tag in ("DW_TAG_formal_parameter", "DW_TAG_variable"):
                target = self._target(child)
                if target is not None and target.tag in _POINTERS:
                    self._add(found, self._target(target))
            elif child.tag in _BODIES:
                self._body(child, found, seen)

    # ---- which types count ----

    def _file(self, die: DIE) -> tuple[str, str]:
        number = die.attributes.get("DW_AT_decl_file")
        if number is None:
            return "", ""
        if self._files is None:
            self._files = self._whole.files_of(self._unit)
        return self._files[number.value] if number.value < len(self._files) else ("", "")

    def is_system(self, die: DIE) -> bool:
        """The type is the system's, a compiler's library's, or hotreload's."""
        directory, name = self._file(die)
        whole = f"{directory}/{name}" if not name.startswith("/") else name
        if name and (any(part in whole for part in _SYSTEM_PARTS) or whole.startswith("/rustc/")):
            return True
        if Path(name).name in _OURS and Path(whole).parent.name == "hotreload":
            return True
        if self._rust:
            self.entries()
            path = self._paths.get(die.offset)
            own = _name(die)
            return path is None or not path or path[0] in _SYSTEM_CRATES or own[:1] in "&(*[" or "<dyn " in own
        return name == "<built-in>" or _name(die).startswith("__va_list")

    # ---- types in words ----

    def _target(self, die: DIE) -> DIE | None:
        """What an entry's DW_AT_type says; None: void."""
        return die.get_DIE_from_attribute("DW_AT_type") if "DW_AT_type" in die.attributes else None

    def _spell(self, die: DIE | None, depth: int = 0) -> _Spelled:
        if die is None:
            return _Spelled("void")
        if depth > _DEPTH_MOST:
            return _Spelled("...")
        self._whole.check_time()
        unit = self._whole.unit_of(die)
        if unit is not self:
            return unit._spell(die, depth)
        tag = die.tag
        if tag in _SILENT:
            return self._spell(self._target(die), depth + 1)
        if tag == "DW_TAG_typedef":
            return self._spell_typedef(die, depth)
        if tag in _POINTERS:
            return self._spell_pointer(die, depth)
        if tag == "DW_TAG_array_type":
            return self._spell_array(die, depth)
        if tag == "DW_TAG_subroutine_type":
            result = self._spell(self._target(die), depth + 1).text
            kinds = [each for each in die.iter_children() if each.tag == "DW_TAG_formal_parameter"]
            takes = ", ".join(self._spell(self._target(each), depth + 1).text for each in kinds)
            return _Spelled(f"{result} ({takes})")
        if tag in _TYPES:
            held = die if _complete(die) and not self.is_system(die) else None
            return _Spelled(_plain(_name(die)) if held else _name(die) or "?", held=held)
        if tag == "DW_TAG_base_type":
            name, number = _number(die)
            return _Spelled(name, number=number)
        return _Spelled(_name(die) or str(tag).removeprefix("DW_TAG_"))

    def _spell_typedef(self, die: DIE, depth: int) -> _Spelled:
        name = _name(die)
        target = self._target(die)
        while target is not None and target.tag in _SILENT:
            target = self._target(target)
        if target is not None and target.tag in _TYPES and not _name(target) and _complete(target):
            system = self.is_system(die)
            return _Spelled(name, held=None if system else die)
        spelled = self._spell(target, depth + 1)
        if name == "hr_reserve":
            return replace(spelled, base=name)
        return replace(spelled, also=(*spelled.also, name))

    def _spell_pointer(self, die: DIE, depth: int) -> _Spelled:
        target = self._spell(self._target(die), depth + 1)
        also = tuple(f"{name} *" for name in target.also)
        base = target.text if target.stars or target.bounds else target.base
        return _Spelled(base.rstrip("* "), "*" * (base.count("*", len(base.rstrip("* "))) + 1), also=also,
                        pointed=target.held or target.pointed)  # fmt: skip

    def _spell_array(self, die: DIE, depth: int) -> _Spelled:
        element = self._spell(self._target(die), depth + 1)
        counts = [_count(each) for each in die.iter_children() if each.tag == "DW_TAG_subrange_type"]
        bounds = "".join(f"[{count}]" if count is not None else "[]" for count in counts or [None])
        also = tuple(f"{name}{bounds}" for name in element.also)
        return replace(element, bounds=bounds + element.bounds, also=also)

    # ---- definitions ----

    def definitions(self, die: DIE) -> list[tuple[Definition, list[DIE]]]:
        """A type, or typedef of a nameless one, and the nameless types in it; each with the types that it reaches."""
        name = _plain(_name(die))
        if die.tag in _CAST and not _complete(die):
            return [
                (Definition(_bounded(name), DECLARED, size=0, align=1, fixed=False, file="", scope="", members=()), [])
            ]
        body = die
        if die.tag == "DW_TAG_typedef":
            target = self._target(die)
            while target is not None and target.tag in _SILENT:
                target = self._target(target)
            assert target is not None
            body = target
        found: list[tuple[Definition, list[DIE]]] = []
        self._define(_bounded(name), body, Path(self._file(die)[1]).name, found, 0)
        return found

    def _define(self, name: str, body: DIE, file: str, found: list[tuple[Definition, list[DIE]]], depth: int) -> None:
        kind = _TYPES[str(body.tag)]
        size, told = _size_of(body) or 0, body.attributes.get("DW_AT_alignment")
        reaches: dict[str, DIE] = {}
        if kind == "enum":
            members = _enumerators(body)
        else:
            members = []
            for member, held in self._members(name, body, 0, file, found, depth):
                members.append(member)
                for each in held:
                    if each is not None:
                        reaches.setdefault(_plain(_name(each)), each)
        align = told.value if told else _align_of(self, body, 0)
        fixed, scope = told is not None, "::".join(self._paths.get(body.offset, ())) if self._rust else ""
        definition = Definition(name, kind, size, align, fixed, file, scope, tuple(members), tuple(sorted(reaches)))
        found.insert(0, (definition, list(reaches.values())))

    def _members(
        self, owner: str, body: DIE, start: int, file: str, found: list[tuple[Definition, list[DIE]]], depth: int
    ) -> Iterator[tuple[Member, tuple[DIE | None, DIE | None]]]:
        if depth > _DEPTH_MOST:
            raise NoDebugInfo("its debug info makes no sense")
        for die in body.iter_children():
            if die.tag == "DW_TAG_variant_part":
                yield from self._variants(die, start)
                continue
            if die.tag not in ("DW_TAG_member", "DW_TAG_inheritance") or "DW_AT_external" in die.attributes:
                continue
            at = _place(die)
            if at is None:  # a virtual base is where its object says
                continue
            target, name = self._target(die), _name(die)
            bare = target
            while bare is not None and bare.tag in _SILENT:
                bare = self._target(bare)
            nameless = bare is not None and bare.tag in _TYPES and not _name(bare)
            if die.tag == "DW_TAG_inheritance":
                name = f"base {_plain(_name(target)) if target is not None else ''}"
            elif nameless and bare is not None and not name:  # its members are the owner's
                yield from self._members(owner, bare, start + at, file, found, depth + 1)
                continue
            spelled = self._spell(target)
            if nameless and bare is not None:
                inner = _bounded(f"{owner}.{name}")
                self._define(inner, bare, file, found, depth + 1)
                spelled = _Spelled(inner)
            name = name.removeprefix("__") if self._rust and name[2:].isdigit() else name
            yield self._member(die, name or "?", start + at, spelled, target), (spelled.held, spelled.pointed)

    def _member(self, die: DIE, name: str, at: int, spelled: _Spelled, target: DIE | None) -> Member:
        bits = die.attributes.get("DW_AT_bit_size")
        size = (_size_of(target) if target is not None else None) or 0
        text, number = spelled.text, spelled.number if not spelled.stars else ""
        if bits is None:
            return Member(_bounded(name), text, at, size, number, tuple(map(_bounded, spelled.also)))
        first = _first_bit(die, size)
        at, first = at + first // 8, first % 8
        return Member(_bounded(name), f"{text}:{bits.value} bit {first}", at, (first + bits.value + 7) // 8)

    def _variants(self, part: DIE, start: int) -> Iterator[tuple[Member, tuple[DIE | None, DIE | None]]]:
        """A Rust enum with data: its tag, and one field for each variant, named with the tag's value."""
        for die in part.iter_children():
            if die.tag == "DW_TAG_member":
                spelled, target = self._spell(self._target(die)), self._target(die)
                yield self._member(die, "(tag)", start + (_place(die) or 0), spelled, target), (None, None)
            elif die.tag == "DW_TAG_variant":
                value = die.attributes.get("DW_AT_discr_value")
                for each in die.iter_children():
                    if each.tag != "DW_TAG_member":
                        continue
                    target = self._target(each)
                    name = _name(each) + (f" = {value.value}" if value else "")
                    text = ", ".join(self._fields_in_words(target)) if target is not None else ""
                    at, size = start + (_place(each) or 0), (_size_of(target) or 0) if target is not None else 0
                    yield Member(_bounded(name), _bounded(f"{{{text}}}"), at, size), (None, None)

    def _fields_in_words(self, body: DIE) -> Iterator[str]:
        for die in body.iter_children():
            if die.tag == "DW_TAG_member":
                yield f"{_name(die)} {self._spell(self._target(die)).text} at {_place(die)}"


def _reference(die: DIE) -> int | None:
    """The place of what DW_AT_type says, in the unit or in the file as a whole."""
    told = die.attributes.get("DW_AT_type")
    if told is None or not isinstance(told.value, int):
        return None
    inside = told.form in ("DW_FORM_ref1", "DW_FORM_ref2", "DW_FORM_ref4", "DW_FORM_ref8", "DW_FORM_ref_udata")
    return told.value + die.cu.cu_offset if inside else told.value


def _name(die: DIE) -> str:
    found = die.attributes.get("DW_AT_name")
    return _text(found.value) if found else ""


def _plain(name: str) -> str:
    """Without what a namespace puts in front; templates' arguments stay."""
    if "<" in name or "(" in name:
        return name
    return name.rpartition("::")[2] or name


def _complete(die: DIE) -> bool:
    return "DW_AT_declaration" not in die.attributes and "DW_AT_signature" not in die.attributes


def _size_of(die: DIE, depth: int = 0) -> int | None:
    """In bytes; None where it is not told."""
    told = die.attributes.get("DW_AT_byte_size")
    if told is not None:
        return int(told.value)
    if die.tag in _POINTERS:
        return int(die.cu["address_size"])
    target = die.get_DIE_from_attribute("DW_AT_type") if "DW_AT_type" in die.attributes else None
    if target is None or depth > _DEPTH_MOST:
        return None
    if die.tag == "DW_TAG_array_type":
        size = _size_of(target, depth + 1)
        for each in die.iter_children():
            if each.tag == "DW_TAG_subrange_type" and size is not None:
                size *= _count(each) or 0
        return size
    if die.tag in _SILENT or die.tag in ("DW_TAG_typedef", "DW_TAG_enumeration_type"):
        return _size_of(target, depth + 1)
    return None


def _align_of(unit: _Unit, die: DIE | None, depth: int) -> int:
    """As the fields want it; less where one of them lies as none of its type would (a packed struct)."""
    if die is None or depth > _DEPTH_MOST:
        return 1
    told = die.attributes.get("DW_AT_alignment")
    if told is not None:
        return int(told.value)
    if die.tag in _SILENT or die.tag in ("DW_TAG_typedef", "DW_TAG_array_type"):
        return _align_of(unit, unit._target(die), depth + 1)
    if die.tag not in _CAST or unit.is_system(die):
        size = _size_of(die) or 1
        return min(size & -size, 16 if die.tag == "DW_TAG_base_type" else 8)
    align, whole = 1, _size_of(die) or 0
    for each in die.iter_children():
        if each.tag not in ("DW_TAG_member", "DW_TAG_inheritance") or "DW_AT_external" in each.attributes:
            continue
        own, at = _align_of(unit, unit._target(each), depth + 1), _place(each)
        if at is not None and "DW_AT_bit_size" not in each.attributes and (at % own or whole % own):
            own = 1
        align = max(align, own)
    while whole % align:
        align //= 2
    return align


def _count(subrange: DIE) -> int | None:
    for name, more in (("DW_AT_count", 0), ("DW_AT_upper_bound", 1)):
        found = subrange.attributes.get(name)
        if found is not None and isinstance(found.value, int) and not found.form.startswith("DW_FORM_ref"):
            return int(found.value) + more
    return None


def _place(member: DIE) -> int | None:
    """The offset of a field in bytes; None where an expression tells it. Bit-fields may tell bits alone."""
    found = member.attributes.get("DW_AT_data_member_location")
    if found is None:
        return 0
    if isinstance(found.value, int):
        return int(found.value)
    value = [int(each) for each in found.value]
    if value[:1] == [0x23]:  # DW_OP_plus_uconst
        return sum((byte & 0x7F) << 7 * i for i, byte in enumerate(value[1:]))
    return None


def _first_bit(member: DIE, size: int) -> int:
    """Of a bit-field, from the place of the field on; little-endian."""
    modern = member.attributes.get("DW_AT_data_bit_offset")
    if modern is not None:
        return int(modern.value)
    old, bits = member.attributes.get("DW_AT_bit_offset"), member.attributes["DW_AT_bit_size"].value
    return size * 8 - int(old.value) - int(bits) if old is not None else 0


def _enumerators(body: DIE) -> list[Member]:
    return [
        Member(_bounded(_name(die)), "", int(die.attributes["DW_AT_const_value"].value), 0)
        for die in body.iter_children()
        if die.tag == "DW_TAG_enumerator"
    ]


_BOOL, _FLOAT, _SIGNED, _SIGNED_CHAR, _UNSIGNED, _UNSIGNED_CHAR = 2, 4, 5, 6, 7, 8


def _number(die: DIE) -> tuple[str, str]:
    """A base type's name, and which number it is whatever its name; empty for others."""
    name, size = _name(die), _size_of(die) or 0
    told = die.attributes.get("DW_AT_encoding")
    encoding = told.value if told else 0
    if encoding == _BOOL:
        return name, "bool" if size == 1 else ""
    if encoding == _FLOAT:
        return name, {4: "f32", 8: "f64"}.get(size, "")
    if name == "char" and size == 1:
        return name, "char"
    if encoding in (_SIGNED, _SIGNED_CHAR):
        return name, f"i{size * 8}" if size in (1, 2, 4, 8) else ""
    if encoding in (_UNSIGNED, _UNSIGNED_CHAR):
        return name, f"u{size * 8}" if size in (1, 2, 4, 8) else ""
    return f"{name}{size * 8}", ""  # characters of Unicode
