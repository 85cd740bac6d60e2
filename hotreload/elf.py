"""The sections of an ELF file as pyelftools reads them, as far as debug info needs them: nothing is loaded or run.

The shim checks what is to be run (preflight.c); this is for files whose content is only told of. `elftools` is imported
where a file is opened: nothing else that the package does should wait for it.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

BYTES_MOST = 256 * 1024 * 1024
"""Of one section, uncompressed."""
_SECTION = struct.Struct("<IIQQQQIIQQ")
_TEXTS, _LOADED = 3, 2
"""SHT_STRTAB, SHF_ALLOC"""
_TEXTS_MOST = 1 << 24
_BUILD_ID = struct.pack("<I", 3) + b"GNU\0"
"""NT_GNU_BUILD_ID and its owner, in the head of a note, behind two lengths."""


class BadElf(Exception):
    """Its text says what is wrong, for people."""


class Elf:
    """An open file's sections; read from it when they are asked for.

    Args:
        file: Stays the caller's to close.

    Raises:
        BadElf: It is none, of another machine's kind, or its table of sections does not lie in it.
    """

    def __init__(self, file: BinaryIO) -> None:
        from elftools.elf.elffile import ELFFile

        if os.pread(file.fileno(), 6, 0) != b"\x7fELF\x02\x01":
            raise BadElf("it is no ELF file of 64 bits, little-endian")
        try:
            self.build_id = build_id_of(file)
            """In hex; empty where there is none."""
            self._sections: dict[str, list[Any]] = {}
            """Those that have bytes; objects may have several of one name."""
            for section in ELFFile(file).iter_sections():
                if section["sh_type"] != "SHT_NOBITS" and section["sh_size"]:
                    self._sections.setdefault(section.name, []).append(section)
        except Exception as error:  # elftools answers nonsense with whatever Python does
            raise BadElf(f"its table of sections makes no sense ({error})") from error

    def has(self, name: str) -> bool:
        """Whether a section of that name has bytes in the file."""
        return name in self._sections

    def data(self, name: str) -> bytes:
        """A section's bytes, uncompressed; none where there is no such section. Several are put together.

        Raises:
            BadElf: They are too many, compressed in a way that is not known, or not all there.
        """
        return b"".join(self._data(name, each) for each in self._sections.get(name, ()))

    @staticmethod
    def _data(name: str, section: Any) -> bytes:
        try:
            if section.data_size > BYTES_MOST:
                raise BadElf(f"its section {name} is larger than {BYTES_MOST >> 20} MiB")
            data = bytes(section.data())
        except BadElf:
            raise
        except Exception as error:
            raise BadElf(f"its section {name} makes no sense ({error})") from error
        if len(data) < section.data_size:
            raise BadElf(f"its section {name} is cut")
        return data

    def needed(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of the shared libraries that it asks the loader for, and the directories that it tells for them,
        which may begin with ``$ORIGIN``."""
        found: dict[str, list[str]] = {"needed": [], "rpath": [], "runpath": []}
        try:
            for section in self._sections.get(".dynamic", ()):
                for tag in section.iter_tags():
                    for kind, texts in found.items():
                        if hasattr(tag, kind):
                            texts.append(getattr(tag, kind))
        except Exception as error:
            raise BadElf(f"its dynamic section makes no sense ({error})") from error
        places = ":".join((*found["rpath"], *found["runpath"]))
        return tuple(found["needed"]), tuple(each for each in places.split(":") if each)

    def debug_info(self, end: str = "", *, addresses: Any = None) -> Any:
        """A `DWARFInfo` of the sections whose names have this end: ``""``, or ``".dwo"`` for what was split off from a
        program, whose ``addresses`` (a section of its `DWARFInfo`) these then are."""
        from io import BytesIO

        from elftools.dwarf.dwarfinfo import DebugSectionDescriptor, DwarfConfig, DWARFInfo

        def section(name: str) -> Any:
            data = self.data(f".debug_{name}{end}") or self.data(f".zdebug_{name}{end}")
            return DebugSectionDescriptor(BytesIO(data), f".debug_{name}", None, len(data), 0) if data else None

        names = ("info", "aranges", "abbrev", "str", "ranges", "line", "addr", "str_offsets", "line_str", "rnglists",
                 "types", "loclists")  # fmt: skip
        others = ("debug_frame", "eh_frame", "debug_loc", "debug_pubtypes", "debug_pubnames", "debug_sup",
                  "gnu_debugaltlink")  # fmt: skip
        found = {f"debug_{name}_sec": section(name) for name in names} | {f"{name}_sec": None for name in others}
        if addresses is not None:
            found["debug_addr_sec"] = addresses
        return DWARFInfo(DwarfConfig(little_endian=True, machine_arch="x64", default_address_size=8), **found)


def names_of_sections(file: BinaryIO) -> bytes:
    """All of them, each with a zero behind it; some 15 us, where opening a file with elftools takes a millisecond.

    Raises:
        OSError, OverflowError, ValueError, struct.error: The file makes no sense.
    """
    headers, index = _section_headers(file)
    return _read(file, headers[index][4:6]) if index < len(headers) else b""


def build_id_of(file: BinaryIO) -> str:
    """In hex, empty where there is none; as quick, and as `names_of_sections` otherwise."""
    headers, _ = _section_headers(file)
    names = names_of_sections(file)
    for each in headers:
        if names[each[0] :].startswith(b".note.gnu.build-id\0"):
            note = _read(file, each[4:6])
            if note[8:16] == _BUILD_ID:
                return note[16 : 16 + int.from_bytes(note[4:8], "little")].hex()
    return ""


def names_of_symbols(file: BinaryIO) -> bytes:
    """Those that the loader sees, each with a zero behind it; as quick, and as `names_of_sections` otherwise."""
    headers, _ = _section_headers(file)
    return b"".join(_read(file, each[4:6]) for each in headers if each[1] == _TEXTS and each[2] & _LOADED)


def _section_headers(file: BinaryIO) -> tuple[list[tuple[int, ...]], int]:
    """All headers, and the number of the one with their names."""
    file.seek(0)
    head = file.read(64)
    if head[:6] != b"\x7fELF\x02\x01":
        return [], 0
    (table,) = struct.unpack_from("<Q", head, 0x28)
    _, count, index = struct.unpack_from("<HHH", head, 0x3A)
    file.seek(table)
    raw = file.read(count * _SECTION.size)
    return list(_SECTION.iter_unpack(raw[: len(raw) // _SECTION.size * _SECTION.size])), index


def _read(file: BinaryIO, place: tuple[int, ...]) -> bytes:
    offset, length = place
    file.seek(offset)
    return file.read(min(length, _TEXTS_MOST))


def identity(path: Path) -> tuple[int, ...]:
    """What tells a file from others, and from what it was before: device, inode, size in bytes, time of change in ns;
    of one that is not there zeros."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0, 0)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
