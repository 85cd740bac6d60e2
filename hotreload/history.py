"""The journal of what was swapped and rolled back, across the lives of hosts, with copies of the newest modules.

    <state directory>/history/journal.jsonl         one entry a line, the newest last, JOURNAL_BYTES at most
    <state directory>/history/modules/<content>.so  copies, RETAINED_COUNT and RETAINED_BYTES at most

Several tools may see one swap (the one that asked for it, and those that watch the host): a host's slots count their
versions, so the same slot reaching the same version in the same life of a host is the same swap, entered once.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotreload import hosts, native
from hotreload.errors import ConfigError, HotreloadError
from hotreload.model import Change, ChangeKind, EventKind, Host, Module, Record

JOURNAL_BYTES = 2 << 20
KEPT_OF_FULL = 0.5
"""The newest part of a full journal that stays."""
RETAINED_COUNT = 64
RETAINED_BYTES = 256 << 20
RECENT_BYTES = 128 << 10
"""How far back a swap is looked for before it is entered: reading a full journal at every swap would take too long."""
ID_DIGITS = 4
"""Of a content at least, to be recognised as one."""
KINDS = (EventKind.SWAP, EventKind.ROLLBACK, EventKind.CRASH)
_MARKS = ("hotreload.toml", ".git", ".hg")


@dataclass(frozen=True, slots=True)
class Entry:
    """One swap, roll back or crash. ``time`` in seconds since the epoch; ``project`` the directory it belongs to."""

    number: int
    kind: EventKind
    time: float
    host: Host
    module: Module
    changes: tuple[Change, ...]
    project: str
    retained: Path | None = None
    """The copy of the module, where one is kept."""

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for what several tools tell of one event."""
        first = self.changes[0] if self.changes else None
        what = (first.symbol, first.after) if first else (self.module.content, int(self.time))
        return (self.kind, self.host.pid, self.host.started, *what)


class History:
    """The journal and its copies.

    Args:
        directory: Where they are; made when something is entered.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or hosts.state_directory() / "history"
        self._journal = self.directory / "journal.jsonl"
        self._modules = self.directory / "modules"

    def entries(self) -> list[Entry]:
        """All entries, oldest first. A damaged line is passed over."""
        return self._read(JOURNAL_BYTES * 2)

    def add(self, record: Record, project: Path, staged: str = "") -> None:
        """Enters what happened; keeps a copy of a module that was swapped in.

        Args:
            record: A record of one of KINDS, with host and module.
            project: The directory that it belongs to.
            staged: The host's own copy of the module; without it the build output serves, if it still is the same.

        Raises:
            OSError: The state directory cannot be written.
        """
        host, module = record.host, record.module
        if record.kind not in KINDS or host is None or module is None:
            return
        with self._locked():
            before = self._read(RECENT_BYTES) or self.entries()
            number = before[-1].number + 1 if before else 1
            entry = Entry(number, record.kind, record.time, host, module, record.changes, str(project))
            if entry.identity not in {known.identity for known in before}:
                self._append(entry)
            if record.kind is EventKind.SWAP:
                self._retain(module, [path for path in (staged, module.path) if path])

    def retained(self, content: int) -> Path | None:
        """The copy of a content."""
        path = self._modules / f"{content:016x}.so"
        return path if path.is_file() else None

    # ---- the journal ----

    @contextmanager
    def _locked(self) -> Iterator[None]:
        for each in (self.directory.parent, self.directory, self._modules):
            each.parent.mkdir(parents=True, exist_ok=True)
            each.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(self.directory / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _read(self, most: int) -> list[Entry]:
        """The entries in the last ``most`` bytes."""
        try:
            with self._journal.open("rb") as journal:
                skipped = max(0, journal.seek(0, os.SEEK_END) - most)
                journal.seek(skipped)
                lines = journal.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []
        whole = lines[1:] if skipped else lines
        return [entry for line in whole if (entry := self._parse(line)) is not None]

    def _append(self, entry: Entry) -> None:
        line = json.dumps(_as_json(entry)) + "\n"
        with suppress(FileNotFoundError):
            if self._journal.stat().st_size + len(line) > JOURNAL_BYTES:
                self._shorten()
        with self._journal.open("a", encoding="ascii") as journal:
            journal.write(line)

    def _shorten(self) -> None:
        lines = self._journal.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        room, kept = JOURNAL_BYTES * KEPT_OF_FULL, len(lines)
        while kept and room > len(lines[kept - 1]):
            kept -= 1
            room -= len(lines[kept])
        shorter = self._journal.with_suffix(".new")
        shorter.write_text("".join(lines[kept:]), encoding="utf-8")
        shorter.replace(self._journal)

    def _parse(self, line: str) -> Entry | None:
        try:
            return _from_json(json.loads(line), self)
        except (ValueError, KeyError, TypeError):
            return None

    # ---- copies ----

    def _retain(self, module: Module, sources: Sequence[str]) -> None:
        known = self.retained(module.content)
        if known:
            os.utime(known)
            return
        for source in sources:
            if self._copy(Path(source), module.content):
                break
        self._forget_oldest()

    def _copy(self, source: Path, content: int) -> bool:
        """True when the copy is made: an output may be another by now, and a staged file is gone with its host."""
        scratch = self._modules / f".{os.getpid()}.new"
        try:
            shutil.copyfile(source, scratch)
            scratch.chmod(0o500)
            if content_of(scratch) == content:
                scratch.replace(self._modules / f"{content:016x}.so")
                return True
        except OSError:
            pass
        scratch.unlink(missing_ok=True)
        return False

    def _forget_oldest(self) -> None:
        copies = [(path.stat(), path) for path in self._modules.glob("*.so")]
        room = RETAINED_BYTES
        for number, (info, path) in enumerate(sorted(copies, key=lambda each: -each[0].st_mtime_ns)):
            room -= info.st_size
            if number >= RETAINED_COUNT or (room < 0 and number > 0):
                path.unlink(missing_ok=True)


def content_of(path: Path) -> int | None:
    """The content of a module; None when it is none."""
    found = native.inspect(path)
    return getattr(getattr(found, "module", None), "content", None)


def project_of(directory: Path) -> Path:
    """The project that a directory belongs to: the nearest ancestor with a configuration or a repository, else it."""
    found = directory.resolve()
    return next((each for each in (found, *found.parents) if any((each / mark).exists() for mark in _MARKS)), found)


def of_project(entries: Sequence[Entry], project: Path) -> list[Entry]:
    """The entries made in a project, and those of modules that lie in it."""
    return [
        entry for entry in entries if Path(entry.project) == project or Path(entry.module.path).is_relative_to(project)
    ]


def choose(entries: Sequence[Entry], module: str | None, asked: str) -> Entry:
    """The newest entry of the version that somebody means.

    Args:
        entries: Where to look.
        module: Its module's name; None for any.
        asked: ``#12``: that entry; ``3`` or ``v3``: that version of the manifest; ``a1f3``: the beginning of a build id
            or content. Where no manifest has that version: ``12``: that entry (shells take ``#12`` for a comment);
            ``v3``: what brought a slot to its version 3, as screens show it, in the last life that did.

    Raises:
        ConfigError: ``asked`` means several contents.
        HotreloadError: ``E-NO-PREVIOUS``: it means none, or none that is retained.
    """
    swaps = [each for each in entries if each.kind is EventKind.SWAP and module in (None, each.module.name)]
    found = _meant(swaps, asked)
    what = f"{module} {asked}" if module else asked
    fix = "`hotreload history` lists them, with --all also those of other projects"
    if not found:
        raise HotreloadError("E-NO-PREVIOUS", f"history knows no version {what}", fix=fix)
    kept = [each for each in found if each.retained]
    if not kept:
        raise HotreloadError("E-NO-PREVIOUS", f"{what} is in the history, but no copy of it is kept any more", fix=fix)
    newest = {(each.module.name, each.module.content): each for each in kept}
    if len(newest) > 1:
        ids = ", ".join(f"{each.module.name} {each.module.short_id}" for each in newest.values())
        raise ConfigError(
            "E-USAGE", f"{what} has been {len(newest)} different modules", found=ids, fix="name one by its id"
        )
    return next(iter(newest.values()))


def _meant(swaps: Sequence[Entry], asked: str) -> list[Entry]:
    if asked.startswith("#"):
        return [each for each in swaps if str(each.number) == asked[1:]]
    version = asked.removeprefix("v")
    number = int(version) if version.isdecimal() else None
    found = [each for each in swaps if each.module.version == number]
    if found:
        return found
    wanted = asked.lower()
    if len(asked) >= ID_DIGITS and (found := [each for each in swaps if _is_content(each, wanted)]):
        return found
    if version == asked:
        return [each for each in swaps if each.number == number]
    return [each for each in swaps if any(change.after == number for change in each.changes)][-1:]


def _is_content(entry: Entry, digits: str) -> bool:
    return entry.module.build_id.startswith(digits) or f"{entry.module.content:016x}".startswith(digits)


def _as_json(entry: Entry) -> dict[str, Any]:
    host, module = entry.host, entry.module
    return {
        "number": entry.number,
        "event": entry.kind.value,
        "time": entry.time,
        "host": {"pid": host.pid, "name": host.name, "started": host.started},
        "module": {
            "name": module.name,
            "version": module.version,
            "build_id": module.build_id,
            "path": module.path,
            "content": f"{module.content:016x}",
        },
        "slots": [[each.symbol, each.before, each.after, each.kind.value] for each in entry.changes],
        "project": entry.project,
    }


def _from_json(told: Any, history: History) -> Entry:
    host, module = told["host"], told["module"]
    content = int(module["content"], 16)
    return Entry(
        number=int(told["number"]),
        kind=EventKind(told["event"]),
        time=float(told["time"]),
        host=Host(int(host["pid"]), str(host["name"]), float(host["started"])),
        module=Module(
            str(module["name"]), int(module["version"]), str(module["build_id"]), str(module["path"]), content
        ),
        changes=tuple(
            Change(str(s), int(before), int(after), ChangeKind(kind)) for s, before, after, kind in told["slots"]
        ),
        project=str(told["project"]),
        retained=history.retained(content),
    )
