"""What the debug info (DWARF 4 and 5) of an ELF file tells of the types that the functions of slots use.

An implementation takes ``void *``, so its types are found by what its code does with them:

    C, C++   every complete struct, union, class that the function's source file has a pointer or a reference to, and
             those that nothing refers to: casts leave no other trace
    Rust     the types of parameters, of type parameters, and what local variables point to; of what was inlined, too

and from there by value and by pointer. Types of the system, of compilers' libraries and of hotreload are left out:
as a field they count by name and size.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

from hotreload.elf import BadElf, Elf, build_id_of, names_of_sections
from hotreload.entries import Entry, Unit, Units

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
    """Whether a file has a section of debug info, or names a file that has it; some 20 us. Never raises."""
    try:
        with path.open("rb") as file:
            names = names_of_sections(file)
            if any(name in names for name in (b".debug_info\0", b".zdebug_info\0", b".gnu_debuglink\0")):
                return True
            if b".note.gnu.build-id\0" not in names or not SYSTEM.is_dir():
                return False
            place = _system_file(build_id_of(file))
            return place is not None and place.is_file()
    except (OSError, OverflowError, ValueError, struct.error):  # places that no file has
        return False


def _system_file(build_id: str) -> Path | None:
    return SYSTEM / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug" if len(build_id) > 2 else None


def _has_dwarf(elf: Elf) -> bool:
    return elf.has(".debug_info") or elf.has(".zdebug_info")


def _linked(elf: Elf, path: Path) -> Path | None:
    """The separate file that ``.gnu_debuglink`` names, if it is the right one."""
    data = elf.data(".gnu_debuglink")
    if not data:
        return None
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
        self._path = path
        self._ends = 0.0
        self.unread: tuple[str, ...] = ()
        """Why parts of it could not be looked at when it was asked last, for people; empty: all was."""
        try:
            elf = self._open(path)
            self.build_id = elf.build_id
            if build_id and self.build_id != build_id:
                raise NoDebugInfo("the file has changed meanwhile")
            self._elf = self._with_debug_info(elf)
        except BadElf as error:
            self.close()
            raise NoDebugInfo(f"it cannot be read: {error}") from error
        except BaseException:
            self.close()
            raise
        self._all_units: Units | None = None
        self._units: dict[Unit, _Unit] = {}
        self._split: dict[Unit, Unit | str] = {}

    def _open(self, path: Path) -> Elf:
        try:
            self._files.append(path.open("rb"))
        except OSError as error:
            raise NoDebugInfo(f"it cannot be read: {error.strerror}") from error
        return Elf(self._files[-1])

    def _with_debug_info(self, elf: Elf) -> Elf:
        if _has_dwarf(elf):
            return elf
        for place in (_system_file(self.build_id), _linked(elf, self._path)):
            if place is None or not place.is_file():
                continue
            other = self._open(place)
            if other.build_id in (self.build_id, "") and _has_dwarf(other):
                return other
        raise NoDebugInfo("no debug info: compile with -g, and do not strip")

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
        self.unread = ()
        try:
            return ask()
        except NoDebugInfo:
            raise
        except BadElf as error:
            raise NoDebugInfo(f"it cannot be read: {error}") from error
        except Exception as error:  # what is nonsense ends in whatever Python does with it
            raise NoDebugInfo(f"its debug info makes no sense ({type(error).__name__}: {error})") from error

    def check_time(self) -> None:
        """Raises NoDebugInfo when the question has taken too long."""
        if time.monotonic() > self._ends:
            raise NoDebugInfo(f"its debug info takes more than {SECONDS_MOST:.0f} s to read")

    # ---- units ----

    @property
    def _info(self) -> Units:
        if self._all_units is None:
            self._all_units = Units(self._elf.debug_info(), self.check_time)
        return self._all_units

    def unit_of(self, die: Entry) -> _Unit:
        """The unit that holds an entry."""
        return self._unit(die.unit)

    def _unit(self, unit: Unit) -> _Unit:
        known = self._units.get(unit)
        if known is None:
            known = self._units[unit] = _Unit(self, unit)
        return known

    def _whole(self, unit: Unit) -> Unit | str:
        """A unit, or what was split off from it, in its own file; or why that cannot be read."""
        if not unit.split:
            return unit
        if unit not in self._split:
            self._split[unit] = self._split_off(unit)
        return self._split[unit]

    def _split_off(self, unit: Unit) -> Unit | str:
        name, home = unit.split, unit.top.text("comp_dir")
        beside = self._path.resolve().parent
        places = [Path(home) / name, beside / name, beside / Path(name).name]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            package = next((each for each in (beside.glob("*.dwp")) if each.is_file()), None)
            more = f"; {package.name} is a package of such files, which is not read" if package else ""
            return f"its debug info is split off into {name}, which is not there{more}"
        try:
            info = self._open(found).debug_info(".dwo", addresses=unit.file.info.debug_addr_sec)
            for each in Units(info, self.check_time, skeleton=unit):
                if not each.is_type and each.identity == unit.identity:
                    return each
        except (BadElf, NoDebugInfo) as error:
            return f"its debug info is split off into {name}: {error}"
        return f"its debug info is split off into {name}, which is of another build by now"

    # ---- questions ----

    def _of_functions(self, addresses: frozenset[int]) -> tuple[Definition, ...]:
        held = {unit for address in addresses if (unit := self._info.running_at(address))}
        if not held:
            raise NoDebugInfo("its slots' functions have no debug info: compile them with -g")
        units: dict[_Unit, None] = {}
        for unit in held:
            whole = self._whole(unit)
            if isinstance(whole, str):
                raise NoDebugInfo(whole)
            units[self._unit(whole)] = None
            # Which types with units of their own belong to which function is not told.
            units.update((self._unit(each), None) for each in whole.file if each.is_type)
        for each in list(units):  # link-time optimisation keeps the types in units of their own
            units.update(dict.fromkeys(each.origins(addresses)))
        return self._reached(_roots(units, addresses))

    def _reached(self, waiting: list[Entry]) -> tuple[Definition, ...]:
        found: dict[str, Definition] = {}
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
        needles: dict[Units, tuple[bytes, ...] | None] = {}
        for unit in self._all():
            self.check_time()
            if unit.file not in needles:
                needles[unit.file] = self._needles(unit.file, outer)
            looked_for = needles[unit.file]
            if looked_for is not None and not unit.mentions(looked_for):
                continue
            for die in self._unit(unit).named(outer):
                for definition, _ in self.unit_of(die).definitions(die):
                    known = found.get(definition.name)
                    if known is not None and definition not in known:
                        known.append(definition)
        return {name: tuple(each) for name, each in found.items()}

    def _all(self) -> Iterator[Unit]:
        """Every unit, also of the files that were split off; what those could not tell is noted."""
        unread: dict[str, None] = {}
        for unit in self._info:
            whole = self._whole(unit)
            if isinstance(whole, str):
                unread[whole] = None
            elif whole is unit:
                yield unit
            else:
                yield from whole.file
        self.unread = tuple(unread)

    def _needles(self, file: Units, names: frozenset[str]) -> tuple[bytes, ...] | None:
        """What the bytes of a unit hold that has one of the names: the text or its place; None when nothing tells.

        Looking for bytes is a thousand times faster than reading the entries of a unit."""
        needles: list[bytes] = []
        data = file.section("str")
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


# ---- one unit ----

_TYPES = {
    "structure_type": "struct",
    "class_type": "struct",
    "union_type": "union",
    "enumeration_type": "enum",
}
_POINTERS = frozenset({"pointer_type", "reference_type", "rvalue_reference_type"})
_CAST = _TYPES.keys() - {"enumeration_type"}
_SILENT = frozenset(f"{name}_type" for name in ("const", "volatile", "restrict", "atomic", "immutable", "packed"))
_SCOPES = frozenset({"namespace", "module"})
_BODIES = frozenset({"lexical_block", "inlined_subroutine", "try_block", "catch_block"})
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

    def __init__(self, whole: DebugInfo, unit: Unit) -> None:
        self._whole = whole
        self._unit = unit
        top = unit.top
        self._rust = top.number("language") in _LANGUAGES_RUST
        self._files: list[tuple[str, bool]] | None = None
        self._entries: list[tuple[Entry, tuple[str, ...]]] | None = None
        self._paths: dict[int, tuple[str, ...]] = {}

    def entries(self) -> list[tuple[Entry, tuple[str, ...]]]:
        """Everything outside of functions, with the scopes around it."""
        if self._entries is None:
            self._entries = list(self._walk(self._unit.top, ()))
            self._paths = {die.offset: path for die, path in self._entries}
        return self._entries

    def _walk(self, parent: Entry, path: tuple[str, ...]) -> Iterator[tuple[Entry, tuple[str, ...]]]:
        for die in parent.children():
            self._whole.check_time()
            yield die, path
            if die.tag in _SCOPES and die.name in _SYSTEM_SCOPES and not self._rust:
                continue
            if die.has_children and (die.tag in _SCOPES or (die.tag in _TYPES and die.tag != "enumeration_type")):
                yield from self._walk(die, (*path, die.name))

    def named(self, names: frozenset[str]) -> Iterator[Entry]:
        """Complete types of these names; those of typedefs of nameless ones are the typedefs."""
        for die, _ in self.entries():
            if die.tag in _TYPES:
                if _plain(die.name) in names and _complete(die) and not self.is_system(die):
                    yield die
            elif die.tag == "typedef" and die.name in names:
                target = self._target(die)
                if target is not None and target.tag in _TYPES and not target.name:
                    yield die

    # ---- where functions begin ----

    def origins(self, addresses: frozenset[int]) -> Iterator[_Unit]:
        """Units that the functions at these addresses were written in, where that is not this one."""
        for die in self._functions(addresses):
            origin = die.target("abstract_origin")
            if origin is not None and self._whole.unit_of(origin) is not self:
                yield self._whole.unit_of(origin)

    def _functions(self, addresses: frozenset[int]) -> Iterator[Entry]:
        for die, _ in self.entries():
            if die.tag == "subprogram" and die.address("low_pc") in addresses:
                yield die

    def roots(self, addresses: frozenset[int], referred: Set[int]) -> list[Entry]:
        """The types, or typedefs of nameless ones, that the functions at these addresses work with; ``referred`` are
        the places of types that something refers to."""
        found: dict[int, Entry] = {}
        if not self._rust:
            for die, _ in self.entries():
                if die.tag in _POINTERS:
                    self._add(found, self._target(die))
                elif die.offset not in referred and (die.tag in _CAST or die.tag == "typedef"):
                    self._add(found, die)
        for die in self._functions(addresses) if self._rust else ():
            self._body(die, found, set())
        return list(found.values())

    def refer(self, found: set[int], names: dict[int, int]) -> None:
        """Notes the places of types that something here refers to; those that typedefs refer to apart, by the
        typedef's own."""
        if self._rust:
            return
        for die, _ in self.entries():
            target = die.place("type")
            if target is None:
                continue
            if die.tag == "typedef":
                names[die.offset] = target
            else:
                found.add(target)
        for die, _ in self.entries():
            if die.tag == "subprogram" and die.has_children and not self.is_system(die):
                found.update(self._referred_in(die))

    def _referred_in(self, die: Entry) -> Iterator[int]:
        for child in die.children():
            self._whole.check_time()
            target = child.place("type")
            if target is not None:
                yield target
            if child.has_children:
                yield from self._referred_in(child)

    def _add(self, found: dict[int, Entry], die: Entry | None) -> None:
        """Notes a type behind qualifiers and typedefs, if it counts."""
        die = _told(die)
        spelled = self._spell(die)
        held = spelled.held
        if held is not None and not spelled.stars and held.name:
            found.setdefault(held.offset, held)
        while die is not None and (die.tag in _SILENT or die.tag == "typedef"):
            die = self._target(die)
        if die is not None and die.tag in _CAST and not _complete(die) and die.name and not self.is_system(die):
            found.setdefault(die.offset, die)

    def _body(self, die: Entry, found: dict[int, Entry], seen: set[int]) -> None:
        """What a Rust function's parameters, variables and type parameters are, and those of what is inlined in it."""
        if die.offset in seen:
            return
        seen.add(die.offset)
        self._whole.check_time()
        for name in ("abstract_origin", "specification"):
            origin = die.target(name) if die.tag != "variable" else None
            if origin is not None:
                self._whole.unit_of(origin)._body(origin, found, seen)
        for child in die.children():
            if child.tag == "template_type_param":
                target = self._target(child)
                if target is not None and _size_of(target):  # functions themselves are types of no size
                    self._add(found, target)
            elif child.tag in ("formal_parameter", "variable"):
                target = self._target(child)
                if target is not None and target.tag in _POINTERS:
                    self._add(found, self._target(target))
            elif child.tag in _BODIES:
                self._body(child, found, seen)

    # ---- which types count ----

    def _file(self, die: Entry) -> tuple[str, bool]:
        """The name of the file that declares a type, and whether that is the system's or hotreload's."""
        number = die.number("decl_file")
        if number is None:
            return "", False
        if self._files is None:
            self._files = [_judged(*each) for each in self._unit.files()]
        return self._files[number] if number < len(self._files) else ("", False)

    def is_system(self, die: Entry) -> bool:
        """The type is the system's, a compiler's library's, or hotreload's."""
        name, system = self._file(die)
        if system:
            return True
        if self._rust:
            self.entries()
            path = self._paths.get(die.offset)
            own = die.name
            return path is None or not path or path[0] in _SYSTEM_CRATES or own[:1] in "&(*[" or "<dyn " in own
        return name == "<built-in>" or die.name.startswith("__va_list")

    # ---- types in words ----

    def _target(self, die: Entry) -> Entry | None:
        """What an entry says that its type is; None: void."""
        return _told(die.target("type"))

    def _spell(self, die: Entry | None, depth: int = 0) -> _Spelled:
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
        if tag == "typedef":
            return self._spell_typedef(die, depth)
        if tag in _POINTERS:
            return self._spell_pointer(die, depth)
        if tag == "array_type":
            return self._spell_array(die, depth)
        if tag == "subroutine_type":
            result = self._spell(self._target(die), depth + 1).text
            kinds = [each for each in die.children() if each.tag == "formal_parameter"]
            takes = ", ".join(self._spell(self._target(each), depth + 1).text for each in kinds)
            return _Spelled(f"{result} ({takes})")
        if tag in _TYPES:
            held = die if _complete(die) and not self.is_system(die) else None
            return _Spelled(_plain(die.name) if held else die.name or "?", held=held)
        if tag == "base_type":
            name, number = _number(die)
            return _Spelled(name, number=number)
        return _Spelled(die.name or tag)

    def _spell_typedef(self, die: Entry, depth: int) -> _Spelled:
        name = die.name
        target = self._target(die)
        while target is not None and target.tag in _SILENT:
            target = self._target(target)
        if target is not None and target.tag in _TYPES and not target.name and _complete(target):
            system = self.is_system(die)
            return _Spelled(name, held=None if system else die)
        spelled = self._spell(target, depth + 1)
        if name == "hr_reserve":
            return replace(spelled, base=name)
        return replace(spelled, also=(*spelled.also, name))

    def _spell_pointer(self, die: Entry, depth: int) -> _Spelled:
        target = self._spell(self._target(die), depth + 1)
        also = tuple(f"{name} *" for name in target.also)
        base = target.text if target.stars or target.bounds else target.base
        return _Spelled(base.rstrip("* "), "*" * (base.count("*", len(base.rstrip("* "))) + 1), also=also,
                        pointed=target.held or target.pointed)  # fmt: skip

    def _spell_array(self, die: Entry, depth: int) -> _Spelled:
        element = self._spell(self._target(die), depth + 1)
        counts = [_count(each) for each in die.children() if each.tag == "subrange_type"]
        bounds = "".join(f"[{count}]" if count is not None else "[]" for count in counts or [None])
        also = tuple(f"{name}{bounds}" for name in element.also)
        return replace(element, bounds=bounds + element.bounds, also=also)

    # ---- definitions ----

    def definitions(self, die: Entry) -> list[tuple[Definition, list[Entry]]]:
        """A type, or typedef of a nameless one, and the nameless types in it; each with the types that it reaches."""
        name = _plain(die.name)
        if die.tag in _CAST and not _complete(die):
            return [
                (Definition(_bounded(name), DECLARED, size=0, align=1, fixed=False, file="", scope="", members=()), [])
            ]
        body = die
        if die.tag == "typedef":
            target = self._target(die)
            while target is not None and target.tag in _SILENT:
                target = self._target(target)
            assert target is not None
            body = target
        found: list[tuple[Definition, list[Entry]]] = []
        self._define(_bounded(name), body, self._file(die)[0], found, 0)
        return found

    def _define(
        self, name: str, body: Entry, file: str, found: list[tuple[Definition, list[Entry]]], depth: int
    ) -> None:
        kind = _TYPES[body.tag]
        size, told = _size_of(body) or 0, body.number("alignment")
        reaches: dict[str, Entry] = {}
        if kind == "enum":
            members = _enumerators(body)
        else:
            members = []
            for member, held in self._members(name, body, 0, file, found, depth):
                members.append(member)
                for each in held:
                    if each is not None:
                        reaches.setdefault(_plain(each.name), each)
        align = told or _align_of(self, body, 0)
        fixed, scope = told is not None, "::".join(self._paths.get(body.offset, ())) if self._rust else ""
        definition = Definition(name, kind, size, align, fixed, file, scope, tuple(members), tuple(sorted(reaches)))
        found.insert(0, (definition, list(reaches.values())))

    def _members(
        self, owner: str, body: Entry, start: int, file: str, found: list[tuple[Definition, list[Entry]]], depth: int
    ) -> Iterator[tuple[Member, tuple[Entry | None, Entry | None]]]:
        if depth > _DEPTH_MOST:
            raise NoDebugInfo("its debug info makes no sense")
        for die in body.children():
            if die.tag == "variant_part":
                yield from self._variants(die, start)
                continue
            if die.tag not in ("member", "inheritance") or die.has("external"):
                continue
            at = _place(die)
            if at is None:  # a virtual base is where its object says
                continue
            target, name = self._target(die), die.name
            bare = target
            while bare is not None and bare.tag in _SILENT:
                bare = self._target(bare)
            nameless = bare is not None and bare.tag in _TYPES and not bare.name
            if die.tag == "inheritance":
                name = f"base {_plain(target.name) if target is not None else ''}"
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

    def _member(self, die: Entry, name: str, at: int, spelled: _Spelled, target: Entry | None) -> Member:
        bits = die.number("bit_size")
        size = (_size_of(target) if target is not None else None) or 0
        text, number = spelled.text, spelled.number if not spelled.stars else ""
        if bits is None:
            return Member(_bounded(name), text, at, size, number, tuple(map(_bounded, spelled.also)))
        first = _first_bit(die, size)
        at, first = at + first // 8, first % 8
        return Member(_bounded(name), f"{text}:{bits} bit {first}", at, (first + bits + 7) // 8)

    def _variants(self, part: Entry, start: int) -> Iterator[tuple[Member, tuple[Entry | None, Entry | None]]]:
        """A Rust enum with data: its tag, and one field for each variant, named with the tag's value."""
        for die in part.children():
            if die.tag == "member":
                spelled, target = self._spell(self._target(die)), self._target(die)
                yield self._member(die, "(tag)", start + (_place(die) or 0), spelled, target), (None, None)
            elif die.tag == "variant":
                value = die.number("discr_value")
                for each in die.children():
                    if each.tag != "member":
                        continue
                    target = self._target(each)
                    name = each.name + (f" = {value}" if value is not None else "")
                    text = ", ".join(self._fields_in_words(target)) if target is not None else ""
                    at, size = start + (_place(each) or 0), (_size_of(target) or 0) if target is not None else 0
                    yield Member(_bounded(name), _bounded(f"{{{text}}}"), at, size), (None, None)

    def _fields_in_words(self, body: Entry) -> Iterator[str]:
        for die in body.children():
            if die.tag == "member":
                yield f"{die.name} {self._spell(self._target(die)).text} at {_place(die)}"


def _judged(directory: str, name: str) -> tuple[str, bool]:
    """A file's name alone, and whether it is the system's, a compiler's library's, or hotreload's."""
    whole = name if name.startswith("/") else f"{directory}/{name}"
    home, _, own = whole.rpartition("/")
    system = any(part in whole for part in _SYSTEM_PARTS) or whole.startswith("/rustc/")
    return own, bool(name) and (system or (own in _OURS and home.rpartition("/")[2] == "hotreload"))


def _roots(units: Iterable[_Unit], addresses: frozenset[int]) -> list[Entry]:
    """The types that the functions at these addresses work with; they may be in any of the units."""
    referred: set[int] = set()
    names: dict[int, int] = {}
    for unit in units:
        unit.refer(referred, names)
    referred.update(names[at] for at in referred & names.keys())
    return [die for unit in units for die in unit.roots(addresses, referred)]


def _told(die: Entry | None) -> Entry | None:
    """An entry, or the one in a unit of its own for which it stands."""
    return (die.target("signature") or die) if die is not None and die.has("signature") else die


def _plain(name: str) -> str:
    """Without what a namespace puts in front; templates' arguments stay."""
    if "<" in name or "(" in name:
        return name
    return name.rpartition("::")[2] or name


def _complete(die: Entry) -> bool:
    return not die.has("declaration") and not die.has("signature")


def _size_of(die: Entry, depth: int = 0) -> int | None:
    """In bytes; None where it is not told."""
    told = die.number("byte_size")
    if told is not None:
        return told
    if die.tag in _POINTERS:
        return die.unit.address_size
    target = _told(die.target("type"))
    if target is None or depth > _DEPTH_MOST:
        return None
    if die.tag == "array_type":
        size = _size_of(target, depth + 1)
        for each in die.children():
            if each.tag == "subrange_type" and size is not None:
                size *= _count(each) or 0
        return size
    if die.tag in _SILENT or die.tag in ("typedef", "enumeration_type"):
        return _size_of(target, depth + 1)
    return None


def _align_of(unit: _Unit, die: Entry | None, depth: int) -> int:
    """As the fields want it; less where one of them lies as none of its type would (a packed struct)."""
    if die is None or depth > _DEPTH_MOST:
        return 1
    told = die.number("alignment")
    if told is not None:
        return told
    if die.tag in _SILENT or die.tag in ("typedef", "array_type"):
        return _align_of(unit, unit._target(die), depth + 1)
    if die.tag not in _CAST or unit.is_system(die):
        size = _size_of(die) or 1
        return min(size & -size, 16 if die.tag == "base_type" else 8)
    align, whole = 1, _size_of(die) or 0
    for each in die.children():
        if each.tag not in ("member", "inheritance") or each.has("external"):
            continue
        own, at = _align_of(unit, unit._target(each), depth + 1), _place(each)
        if at is not None and not each.has("bit_size") and (at % own or whole % own):
            own = 1
        align = max(align, own)
    while whole % align:
        align //= 2
    return align


def _count(subrange: Entry) -> int | None:
    for name, more in (("count", 0), ("upper_bound", 1)):
        found = subrange.constant(name)
        if found is not None:
            return found + more
    return None


def _place(member: Entry) -> int | None:
    """The offset of a field in bytes; None where an expression tells it. Bit-fields may tell bits alone."""
    found = member.get("data_member_location")
    if found is None:
        return 0
    if isinstance(found, int):
        return int(found)
    if found[:1] == b"\x23":  # DW_OP_plus_uconst
        return sum((byte & 0x7F) << 7 * i for i, byte in enumerate(found[1:]))
    return None


def _first_bit(member: Entry, size: int) -> int:
    """Of a bit-field, from the place of the field on; little-endian."""
    modern = member.number("data_bit_offset")
    if modern is not None:
        return modern
    old, bits = member.number("bit_offset"), member.number("bit_size") or 0
    return size * 8 - old - bits if old is not None else 0


def _enumerators(body: Entry) -> list[Member]:
    return [
        Member(_bounded(die.name), "", die.number("const_value") or 0, 0)
        for die in body.children()
        if die.tag == "enumerator"
    ]


_BOOL, _FLOAT, _SIGNED, _SIGNED_CHAR, _UNSIGNED, _UNSIGNED_CHAR = 2, 4, 5, 6, 7, 8


def _number(die: Entry) -> tuple[str, str]:
    """A base type's name, and which number it is whatever its name; empty for others."""
    name, size = die.name, _size_of(die) or 0
    encoding = die.number("encoding") or 0
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
