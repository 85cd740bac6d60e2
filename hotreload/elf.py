"""The sections of an ELF file (64 bit, little-endian), as far as debug info needs them: nothing is loaded or run.

The shim checks what is to be run (preflight.c); this is for files whose content is only told of. Nothing in such a file
is relied on: what does not fit raises `BadElf`.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

BYTES_MOST = 256 * 1024 * 1024
"""Of one section, uncompressed."""

_SECTION = struct.Struct("<IIQQQQIIQQ")
_COMPRESSED = 0x800
_ZLIB = 1
_EMPTY = 8
"""SHT_NOBITS: it has a size, but no bytes in the file."""
_NEEDED, _RPATH, _RUNPATH = 1, 15, 29
_BUILD_ID = 3


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
        self._number = file.fileno()
        head = os.pread(self._number, 64, 0)
        if head[:6] != b"\x7fELF\x02\x01" or len(head) < 64:
            raise BadElf("it is no ELF file of 64 bits, little-endian")
        (table,) = struct.unpack_from("<Q", head, 0x28)
        size, count, names = struct.unpack_from("<HHH", head, 0x3A)
        if count and size != _SECTION.size:
            raise BadElf("its table of sections makes no sense")
        try:
            self._read_table(table, count, names)
        except (OSError, OverflowError, IndexError, ValueError, struct.error) as error:  # places that no file has
            raise BadElf(f"its table of sections makes no sense ({error})") from error

    def _read_table(self, table: int, count: int, names: int) -> None:
        raw = os.pread(self._number, count * _SECTION.size, table)
        headers = list(_SECTION.iter_unpack(raw[: len(raw) // _SECTION.size * _SECTION.size]))
        _, _, _, _, offset, length, *_ = headers[names] if headers else (0,) * 10
        texts = os.pread(self._number, min(length, 1 << 20), offset)
        self._sections: dict[str, list[tuple[int, int, int]]] = {}
        """For each name the place, length and flags of those that have bytes: objects may have several."""
        for name, kind, flags, _, offset, length, *_ in headers:
            text = texts[name : texts.find(b"\0", name)].decode("utf-8", "replace")
            if length and kind != _EMPTY:
                self._sections.setdefault(text, []).append((offset, length, flags))

    def has(self, name: str) -> bool:
        """Whether a section of that name has bytes in the file."""
        return name in self._sections

    def data(self, name: str) -> bytes:
        """A section's bytes, uncompressed; none where there is no such section. Several are put together.

        Raises:
            BadElf: They are too many, compressed in another way than by zlib, or not all there.
        """
        found = [self._data(name, *each) for each in self._sections.get(name, ())]
        return found[0] if len(found) == 1 else b"".join(found)

    def _data(self, name: str, offset: int, length: int, flags: int) -> bytes:
        if length > BYTES_MOST:
            raise BadElf(f"its section {name} is larger than {BYTES_MOST >> 20} MiB")
        raw = self._pread(length, offset)
        if len(raw) < length:
            raise BadElf(f"its section {name} is cut")
        if flags & _COMPRESSED:
            kind, _, size, _ = struct.unpack_from("<IIQQ", raw.ljust(24, b"\0"))
            if kind != _ZLIB:
                raise BadElf(f"its section {name} is not compressed by zlib: build with -gz=zlib")
            return _inflated(name, raw[24:], size)
        if name.startswith(".zdebug_") and raw[:4] == b"ZLIB":
            return _inflated(name, raw[12:], int.from_bytes(raw[4:12], "big"))
        return raw

    def _pread(self, length: int, offset: int) -> bytes:
        try:
            return os.pread(self._number, length, offset)
        except (OSError, OverflowError) as error:
            raise BadElf(f"it cannot be read: {error}") from error

    @property
    def build_id(self) -> str:
        """In hex; empty where there is none."""
        notes = self.data(".note.gnu.build-id")
        at = 0
        while at + 12 <= len(notes):
            name, length, kind = struct.unpack_from("<III", notes, at)
            start = at + 12 + (name + 3) // 4 * 4
            if kind == _BUILD_ID and notes[at + 12 : at + 12 + name] == b"GNU\0":
                return notes[start : start + length].hex()
            at = start + (length + 3) // 4 * 4
        return ""

    def needed(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of the shared libraries that it asks the loader for, and the directories that it tells for them,
        which may begin with ``$ORIGIN``."""
        texts, entries = self.data(".dynstr"), self.data(".dynamic")
        names: list[str] = []
        places: list[str] = []
        for tag, value in struct.iter_unpack("<QQ", entries[: len(entries) // 16 * 16]):
            text = texts[value : max(texts.find(b"\0", value), value)].decode("utf-8", "replace")
            if tag == _NEEDED:
                names.append(text)
            elif tag in (_RPATH, _RUNPATH):
                places += [each for each in text.split(":") if each]
        return tuple(names), tuple(places)


def identity(path: Path) -> tuple[int, ...]:
    """What tells a file from others, and from what it was before: device, inode, size in bytes, time of change in ns;
    of one that is not there zeros."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0, 0)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _inflated(name: str, raw: bytes, size: int) -> bytes:
    if size > BYTES_MOST:
        raise BadElf(f"its section {name} is larger than {BYTES_MOST >> 20} MiB")
    try:
        data = zlib.decompressobj().decompress(raw, size or 1)
    except zlib.error as error:
        raise BadElf(f"its section {name} makes no sense ({error})") from error
    if len(data) != size:
        raise BadElf(f"its section {name} is cut")
    return data
