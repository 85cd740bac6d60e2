"""preflight.c through ctypes, and a small ELF editor, for the tests of preflight."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cbuild

NAME = 128
TEXT = 512

CODES = {
    0: "ok",
    12: "E-NOT-ELF",
    13: "E-ARCH",
    14: "E-TRUNCATED",
    15: "E-NO-MANIFEST",
    16: "E-ABI",
    17: "E-MANIFEST",
    20: "E-STATIC-TLS",
}

NODELETE, UNIQUE, TLS_DESTRUCTOR, INTERPOSABLE, EXECSTACK, NO_BUILD_ID, STATIC_TLS = (1 << bit for bit in range(7))

PT_LOAD, PT_DYNAMIC, PT_NOTE, PT_TLS = 1, 2, 4, 7
PT_GNU_STACK, PT_GNU_RELRO = 0x6474E551, 0x6474E552


class _Failure(ctypes.Structure):
    _fields_ = [
        ("status", ctypes.c_int32),
        ("reserved", ctypes.c_uint32),
        ("reason", ctypes.c_char * TEXT),
        ("found", ctypes.c_char * TEXT),
        ("expected", ctypes.c_char * TEXT),
        ("fix", ctypes.c_char * TEXT),
    ]


class _Entry(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char * NAME),
        ("function", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    ]


class _Manifest(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char * NAME),
        ("version", ctypes.c_uint64),
        ("build_id", ctypes.c_char * 65),
        ("reserved", ctypes.c_char * 7),
        ("content", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("on_load", ctypes.c_uint64),
        ("on_unload", ctypes.c_uint64),
        ("layout_address", ctypes.c_uint64),
        ("migrate_address", ctypes.c_uint64),
        ("layout", ctypes.c_void_p),
        ("migrations", ctypes.c_void_p),
        ("migration_count", ctypes.c_uint32),
        ("unload", ctypes.c_uint32),
        ("warnings", ctypes.c_uint32),
        ("entry_count", ctypes.c_uint32),
    ]


class _Field(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_char_p),
        ("nested", ctypes.c_void_p),
        ("offset", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    ]


class _Type(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("size", ctypes.c_uint64),
        ("align", ctypes.c_uint32),
        ("kind", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("field_count", ctypes.c_uint32),
        ("fields", ctypes.POINTER(_Field)),
    ]


class _LayoutEntry(ctypes.Structure):
    _fields_ = [
        ("symbol", ctypes.c_char_p),
        ("state", ctypes.POINTER(_Type)),
        ("input", ctypes.POINTER(_Type)),
        ("output", ctypes.POINTER(_Type)),
    ]


class _Layout(ctypes.Structure):
    _fields_ = [
        ("magic", ctypes.c_uint32),
        ("version", ctypes.c_uint16),
        ("struct_size", ctypes.c_uint16),
        ("type_count", ctypes.c_uint32),
        ("entry_count", ctypes.c_uint32),
        ("types", ctypes.POINTER(ctypes.POINTER(_Type))),
        ("entries", ctypes.POINTER(_LayoutEntry)),
    ]


def _layout_lines(address: int) -> tuple[str, ...]:
    layout = _Layout.from_address(address)
    lines = []
    for at in range(layout.type_count):
        each = layout.types[at].contents
        fields = [each.fields[k] for k in range(each.field_count)]
        words = [f"{field.name.decode()}:{field.type.decode()}@{field.offset}" for field in fields]
        lines.append(" ".join([f"{each.name.decode()} {each.size}/{each.align}", *words]))
    for at in range(layout.entry_count):
        entry = layout.entries[at]
        takes = [part.contents.name.decode() if part else "-" for part in (entry.state, entry.input, entry.output)]
        lines.append(f"{entry.symbol.decode()}({', '.join(takes)})")
    return tuple(lines)


@dataclass(frozen=True)
class Verdict:
    """What preflight says: ``code`` is "ok" or a stable code; the manifest's fields are empty unless it is "ok"."""

    code: str
    reason: str = ""
    found: str = ""
    expected: str = ""
    fix: str = ""
    name: str = ""
    version: int = 0
    build_id: str = ""
    content: int = 0
    address: int = 0
    on_load: int = 0
    on_unload: int = 0
    layout_address: int = 0
    migrate_address: int = 0
    migration_count: int = 0
    layout: tuple[str, ...] = ()
    """A line for each type ("name size/align field:type@offset ..."), then one for each slot."""
    warnings: int = 0
    entries: tuple[tuple[str, int], ...] = ()


_Resolved = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p)


class Preflight:
    """The functions of preflight.h, compiled from this checkout into ``directory``."""

    def __init__(self, directory: Path) -> None:
        library = directory / "libpreflight.so"
        sources = [Path(__file__).with_name("preflight_whole.c"), *cbuild.PREFLIGHT]
        command: list[str | Path] = [cbuild.cc(), "-shared", "-fPIC", "-O2", *cbuild.WARNINGS, "-I", cbuild.INCLUDE]
        cbuild.run([*command, "-o", library, *sources])
        self._library = ctypes.CDLL(str(library))
        self._library.hr_preflight_undefined.restype = ctypes.c_uint32

    def __call__(self, source: Path | bytes) -> Verdict:
        data = source if isinstance(source, bytes) else source.read_bytes()
        failure, pointer = _Failure(), ctypes.POINTER(_Manifest)()
        status = self._library.hr_preflight(
            data, ctypes.c_uint64(len(data)), ctypes.byref(failure), ctypes.byref(pointer)
        )
        if status != 0:
            assert ctypes.cast(pointer, ctypes.c_void_p).value is None
            assert failure.status == status
            texts = (getattr(failure, field).decode() for field in ("reason", "found", "expected", "fix"))
            return Verdict(CODES[status], *texts)
        manifest = pointer.contents
        first = ctypes.addressof(manifest) + ctypes.sizeof(_Manifest)
        entries = (_Entry * manifest.entry_count).from_address(first)
        verdict = Verdict(
            "ok",
            name=manifest.name.decode(),
            version=manifest.version,
            build_id=manifest.build_id.decode(),
            content=manifest.content,
            address=manifest.address,
            on_load=manifest.on_load,
            on_unload=manifest.on_unload,
            layout_address=manifest.layout_address,
            migrate_address=manifest.migrate_address,
            migration_count=manifest.migration_count,
            layout=_layout_lines(manifest.layout) if manifest.layout else (),
            warnings=manifest.warnings,
            entries=tuple((entry.name.decode(), entry.function) for entry in entries),
        )
        self._library.hr_manifest_free(pointer)
        return verdict

    def whole(self, data: bytes) -> str:
        """The code of all checks but those of the manifest, with the reason where there is one."""
        failure = _Failure()
        status = self._library.hr_test_whole(data, ctypes.c_uint64(len(data)), ctypes.byref(failure))
        return f"{CODES[status]} {failure.reason.decode()}".strip()

    def undefined(
        self, data: bytes, resolved: Callable[[bytes], bool] | None = None, size: int = 4096
    ) -> tuple[int, str]:
        """The count and the text of hr_preflight_undefined, with ``size`` bytes of room."""
        names = ctypes.create_string_buffer(size)
        callback = _Resolved(lambda name: int(resolved(name))) if resolved else None
        count = self._library.hr_preflight_undefined(data, ctypes.c_uint64(len(data)), callback, names, size)
        return count, names.value.decode()


@dataclass(frozen=True)
class Header:
    """A program or section header: where it is in the file, and its fields by name."""

    at: int
    fields: dict[str, int]

    def __getitem__(self, field: str) -> int:
        return self.fields[field]


Layout = tuple[tuple[str, str], ...]
_PROGRAM: Layout = (
    *(("type", "I"), ("flags", "I"), ("offset", "Q"), ("vaddr", "Q")),
    *(("paddr", "Q"), ("filesz", "Q"), ("memsz", "Q"), ("align", "Q")),
)
_SECTION: Layout = (
    *(("name", "I"), ("type", "I"), ("flags", "Q"), ("addr", "Q"), ("offset", "Q")),
    *(("size", "Q"), ("link", "I"), ("info", "I"), ("addralign", "Q"), ("entsize", "Q")),
)


class Elf:
    """The bytes of a valid ELF64 file, to be damaged at chosen places."""

    def __init__(self, path: Path) -> None:
        self.data = bytearray(path.read_bytes())

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    def get(self, kind: str, at: int) -> int:
        value: int = struct.unpack_from("<" + kind, self.data, at)[0]
        return value

    def put(self, kind: str, at: int, value: int) -> None:
        bits = 8 * struct.calcsize("<" + kind)
        struct.pack_into("<" + kind, self.data, at, value % (1 << bits))

    def _header(self, layout: Layout, at: int) -> Header:
        values = struct.unpack_from("<" + "".join(kind for _, kind in layout), self.data, at)
        return Header(at, dict(zip((name for name, _ in layout), values, strict=True)))

    def segments(self, kind: int) -> list[Header]:
        start, count = self.get("Q", 32), self.get("H", 56)
        headers = (self._header(_PROGRAM, start + 56 * index) for index in range(count))
        return [header for header in headers if header["type"] == kind]

    def set_segment(self, header: Header, field: str, value: int) -> None:
        offsets = {"type": 0, "flags": 4, "offset": 8, "vaddr": 16, "filesz": 32, "memsz": 40, "align": 48}
        self.put("I" if field in ("type", "flags") else "Q", header.at + offsets[field], value)

    def section(self, name: str) -> Header:
        start, count, names = self.get("Q", 40), self.get("H", 60), self.get("H", 62)
        texts = self._header(_SECTION, start + 64 * names)["offset"]
        for index in range(count):
            header = self._header(_SECTION, start + 64 * index)
            at = texts + header["name"]
            if self.data[at : self.data.index(0, at)].decode() == name:
                return header
        raise KeyError(name)

    def dynamic(self) -> Iterator[tuple[int, int, int]]:
        """Offset, tag and value of each entry of the dynamic section."""
        at = self.segments(PT_DYNAMIC)[0]["offset"]
        while (tag := self.get("Q", at)) != 0:
            yield at, tag, self.get("Q", at + 8)
            at += 16

    def set_dynamic(self, tag: int, value: int) -> None:
        at = next(at for at, found, _ in self.dynamic() if found == tag)
        self.put("Q", at + 8, value)

    def offset_of(self, address: int) -> int:
        """Where a virtual address is in the file."""
        for load in self.segments(PT_LOAD):
            if load["vaddr"] <= address < load["vaddr"] + load["filesz"]:
                return load["offset"] + address - load["vaddr"]
        raise KeyError(hex(address))

    def symbol(self, name: str) -> int:
        """The offset of a symbol's record in the dynamic symbol table."""
        table, strings = self.section(".dynsym"), self.section(".dynstr")
        for at in range(table["offset"], table["offset"] + table["size"], 24):
            text = strings["offset"] + self.get("I", at)
            if self.data[text : self.data.index(0, text)].decode() == name:
                return at
        raise KeyError(name)

    def relocation(self, target: int) -> int:
        """The offset of the relocation that writes to an address."""
        table = self.section(".rela.dyn")
        for at in range(table["offset"], table["offset"] + table["size"], 24):
            if self.get("Q", at) == target:
                return at
        raise KeyError(hex(target))
