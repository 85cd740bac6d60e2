"""The shared libraries that hold a host's own code, beside its program: as they are mapped where it runs, else as the
loader would find them. The system's are left out, and so are patch modules, which are no part of the host."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from hotreload.dwarf import carries
from hotreload.elf import BadElf, Elf, identity, names_of_symbols

LIBRARIES_MOST = 256
SILENT = "it has no debug info"
SYSTEM = ("/usr/lib/", "/lib/", "/usr/lib64/", "/lib64/", "/nix/store/", "/gnu/store/")
"""Where distributions keep theirs."""
_LOADER = ("/usr/local/lib", "/usr/lib", "/lib", "/usr/lib64", "/lib64", "/usr/lib/x86_64-linux-gnu",
           "/lib/x86_64-linux-gnu")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Library:
    """A library of a host."""

    path: Path
    reason: str = ""
    """Why it cannot be looked at, for people; empty: it can."""


def libraries_of(program: Path) -> tuple[Library, ...]:
    """Of a program, or of ``/proc/PID/exe``. Never raises."""
    running = program.name == "exe" and program.is_relative_to("/proc")
    found = (_judged(each) for each in (_mapped(program) if running else _needed(program)))
    return tuple(islice((each for each in found if each), LIBRARIES_MOST))


def _judged(each: Library) -> Library | None:
    if each.reason:
        return each
    reason = _reason(each.path, identity(each.path))
    return None if reason is None else Library(each.path, reason)


@lru_cache(maxsize=1024)
def _reason(path: Path, _: tuple[int, ...]) -> str | None:
    """Of a library as it is now; None: it is left out. Kept, as a host is asked about with every build."""
    try:
        with path.open("rb") as file:
            if b"\0HOTPATCH_MODULE_V1\0" in names_of_symbols(file):
                return None
    except (OSError, OverflowError, ValueError, struct.error):
        return None  # a file of another kind that is mapped as code
    return "" if carries(path) else SILENT


def _mapped(program: Path) -> Iterator[Library]:
    """What a process has mapped as code."""
    try:
        own, text = program.stat(), program.with_name("maps").read_text("utf-8", "replace")
    except OSError:  # it has just ended, or is somebody else's
        return
    seen: set[str] = set()
    for line in text.splitlines():
        place = line.split(maxsplit=5)
        if len(place) < 6 or "x" not in place[1] or not place[5].startswith("/"):
            continue
        name, inode = place[5], int(place[4])
        if name in seen or name.startswith(SYSTEM) or inode == own.st_ino:
            continue
        seen.add(name)
        path = Path(name.removesuffix(" (deleted)"))
        try:
            same = path.stat().st_ino == inode
        except OSError:
            same = False
        yield Library(path) if same else Library(path, "it was replaced since the host has loaded it")


def _needed(program: Path) -> Iterator[Library]:
    """What the loader would load for a program, and for what it loads."""
    waiting, seen = [program], set[str]()
    while waiting:
        path = waiting.pop(0)
        try:
            with path.open("rb") as file:
                names, places = Elf(file).needed()
        except (BadElf, OSError):
            continue
        home = str(path.resolve().parent)
        directories = [Path(each.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", home)) for each in places]
        for name in names:
            if name in seen:
                continue
            seen.add(name)
            found = next((each / name for each in (*directories, *map(Path, _LOADER)) if (each / name).is_file()), None)
            if found is None:
                yield Library(Path(name), "it was not found: its program tells no directory for it")
            elif not str(found.resolve()).startswith(SYSTEM):
                waiting.append(found)
                yield Library(found)
