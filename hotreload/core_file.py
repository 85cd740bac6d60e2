"""Core files: where the kernel has put one, and what its notes say. Nothing of its memory is read."""

from __future__ import annotations

import glob
import platform
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

PATTERN = Path("/proc/sys/kernel/core_pattern")
_NOTE, _CORE = 4, 4
_PRSTATUS, _PRPSINFO, _FILES, _SIGINFO = 1, 3, 0x46494C45, 0x53494749
_NOTES_MOST = 64 << 20
_PROGRAM_COUNTER = {"x86_64": 112 + 16 * 8, "aarch64": 112 + 32 * 8}


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A part of a file that the process had mapped."""

    start: int
    end: int
    offset: int
    path: str


@dataclass(frozen=True, slots=True)
class CoreFile:
    """What a core file tells: the thread that died, of which signal, where; and the mapped files."""

    path: Path
    pid: int
    thread: int
    signal: int
    program_counter: int
    address: int
    """What the faulting instruction touched; 0 where the signal tells none."""
    files: tuple[MappedFile, ...]

    def where(self) -> tuple[str, int] | None:
        """The file that the thread's program counter lies in, and the address within the file's image."""
        at = self.program_counter
        inside = next((each for each in self.files if each.start <= at < each.end), None)
        if inside is None:
            return None
        base = min(each.start - each.offset for each in self.files if each.path == inside.path)
        return inside.path, at - base


def find(pid: int, program: str, directory: str) -> tuple[CoreFile | None, str]:
    """The core file of a dead process, or None and why there is none."""
    try:
        pattern = PATTERN.read_text(encoding="utf-8").strip()
    except OSError as error:
        return None, f"{PATTERN} cannot be read: {error.strerror}"
    if pattern.startswith("|"):
        return None, f"the kernel hands core files to {pattern[1:].split()[0]}: name the file with --core"
    for path in candidates(pattern, pid, program, directory):
        core = read_one(path)
        if core is not None and core.pid == pid:
            return core, ""
    return None, "there is no core file of it (ulimit -c, core_pattern)"


def candidates(pattern: str, pid: int, program: str, directory: str) -> list[Path]:
    """The files that a core_pattern may have made for a process, the newest first."""
    name = Path(program).name
    known = {"p": str(pid), "P": str(pid), "e": name[:15], "E": program.replace("/", "!"), "%": "%"}

    def expand(match: re.Match[str]) -> str:
        return glob.escape(known[match[1]]) if match[1] in known else "*"

    expanded = re.sub(r"%(.)", expand, pattern)
    place = expanded if expanded.startswith("/") else f"{glob.escape(directory)}/{expanded}"
    found = {Path(path) for each in (place, f"{place}.{pid}") for path in glob.glob(each)}  # noqa: PTH207
    return sorted((path for path in found if path.is_file()), key=lambda path: path.stat().st_mtime, reverse=True)


def read_one(path: Path) -> CoreFile | None:
    """Reads a core file's notes; None when it is none, or one of another kind of machine."""
    try:
        with path.open("rb") as stream:
            return _parse(path, stream)
    except (OSError, struct.error, ValueError):
        return None


def _parse(path: Path, stream: BinaryIO) -> CoreFile | None:
    header = stream.read(64)
    if header[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", header, 16)[0] != _CORE:
        return None
    (table,) = struct.unpack_from("<Q", header, 32)
    size, count = struct.unpack_from("<HH", header, 54)
    pid = thread = signal = counter = address = 0
    files: tuple[MappedFile, ...] = ()
    for number in range(count):
        stream.seek(table + number * size)
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", stream.read(size))
        if kind != _NOTE:
            continue
        stream.seek(offset)
        for note, body in _notes(stream.read(min(length, _NOTES_MOST))):
            if note == _PRSTATUS and thread == 0:  # the first one is that of the thread that died
                (signal,) = struct.unpack_from("<h", body, 12)
                (thread,) = struct.unpack_from("<i", body, 32)
                place = _PROGRAM_COUNTER.get(platform.machine())
                counter = struct.unpack_from("<Q", body, place)[0] if place else 0
            elif note == _PRPSINFO:
                (pid,) = struct.unpack_from("<i", body, 24)
            elif note == _SIGINFO:
                number_of, _, code = struct.unpack_from("<iii", body)
                # Only the kernel's own faults have an address there; a signal that was sent has its sender.
                address = struct.unpack_from("<Q", body, 16)[0] if number_of in (4, 5, 7, 8, 11) and code > 0 else 0
            elif note == _FILES:
                files = tuple(_files(body))
    return CoreFile(path, pid, thread, signal, counter, address, files) if thread else None


def _notes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 12 <= len(data):
        name, length, kind = struct.unpack_from("<III", data, at)
        at += 12 + (name + 3) // 4 * 4
        yield kind, data[at : at + length]
        at += (length + 3) // 4 * 4


def _files(body: bytes) -> Iterator[MappedFile]:
    count, page = struct.unpack_from("<QQ", body)
    names = body[16 + count * 24 :].split(b"\0")
    for i in range(count):
        start, end, offset = struct.unpack_from("<QQQ", body, 16 + i * 24)
        yield MappedFile(start, end, offset * page, names[i].decode("utf-8", "surrogateescape"))
