"""What was read from debug info, kept by build id: in memory, and in the user's cache directory.

Nothing in a file of the cache is relied on: one that is cut, changed or of another version is read anew and replaced.
Files without a build id are kept in memory alone.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from hotreload.dwarf import DebugInfo, Definition, Member
from hotreload.elf import identity

VERSION = 1
"""Of what is kept; another version is read anew."""
FILES_MOST = 64
BYTES_MOST = 16 * 1024 * 1024
"""Of all files of the cache together."""
KEPT_MOST = 64
"""Files that are remembered in memory."""

_Kept = dict[str, Any]


def user_directory(environment: Mapping[str, str]) -> Path:
    """Where the cache is: below ``$XDG_CACHE_HOME``, else ``~/.cache``."""
    base = environment.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "hotreload" / "types"


class TypeCache:
    """Answers as `DebugInfo` does, from what was read before where it was.

    Args:
        directory: Where files are kept; None for in memory alone.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._build_ids: dict[tuple[int, ...], str] = {}
        self._unsaved: dict[str, _Kept] = {}
        self.reads = 0
        """Files whose debug info was opened."""

    def of_functions(self, path: Path, build_id: str, addresses: Iterable[int]) -> tuple[Definition, ...]:
        """See `DebugInfo.of_functions`; ``build_id`` is the expected one, empty where there is none.

        Raises:
            NoDebugInfo: As that does.
        """
        ordered = sorted(set(addresses))
        about = "functions " + " ".join(f"{each:x}" for each in ordered)
        key, kept = self._find(path, build_id)
        if about not in kept:
            with self._open(path, build_id) as info:
                kept[about] = info.of_functions(ordered)
            self._unsaved[key] = kept
        found: tuple[Definition, ...] = kept[about]
        return found

    def named(self, path: Path, names: Iterable[str]) -> tuple[dict[str, tuple[Definition, ...]], tuple[str, ...]]:
        """See `DebugInfo.named`; and why parts of the file could not be looked at, where a name was not found.

        Raises:
            NoDebugInfo: As that does.
        """
        wanted = frozenset(names)
        key, kept = self._find(path, self._build_id(path))
        unread: tuple[str, ...] = ()
        found: dict[str, tuple[Definition, ...]] = {}
        if unknown := [name for name in wanted if f"type {name}" not in kept]:
            with self._open(path, "") as info:
                self._build_ids[identity(path)] = info.build_id
                found, unread = info.named(unknown), info.unread
                key, kept = self._find(path, info.build_id)
            kept.update({f"type {name}": each for name, each in found.items() if each or not unread})
            self._unsaved[key] = kept
        return {name: kept.get(f"type {name}", ()) for name in wanted}, unread

    def save(self) -> None:
        """Writes what was read since the last time. Apart, so that nobody waits for it with an answer."""
        unsaved, self._unsaved = self._unsaved, {}
        for key, kept in unsaved.items():
            self._save(key, kept)

    def _open(self, path: Path, build_id: str) -> DebugInfo:
        self.reads += 1
        return DebugInfo(path, build_id)

    def _build_id(self, path: Path) -> str:
        """Of a file seen before; empty where it is not known."""
        file = identity(path)
        if file not in self._build_ids:
            with suppress(Exception), DebugInfo(path) as info:  # whatever is wrong with it is told when it is read
                self._build_ids[file] = info.build_id
        return self._build_ids.get(file, "")

    # ---- in memory ----

    def _find(self, path: Path, build_id: str) -> tuple[str, _Kept]:
        """With the size: stripping a file leaves its build id."""
        file = identity(path)
        key = f"{build_id}-{file[2]}" if build_id else ""
        known = key or " ".join(map(str, file))
        if known not in self._kept:
            self._kept[known] = self._load(key) if key else {}
        self._kept.move_to_end(known)
        while len(self._kept) > KEPT_MOST:
            self._kept.popitem(last=False)
        return key, self._kept[known]

    # ---- on disk ----

    def _load(self, key: str) -> _Kept:
        if self._directory is None:
            return {}
        path = self._directory / f"{key}.json"
        try:
            head, _, body = path.read_bytes().partition(b"\n")
            if head != _head(body):
                return {}
            os.utime(path)
            whole = json.loads(body)
            return {about: tuple(map(_definition, each)) for about, each in whole.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return {}

    def _save(self, key: str, kept: _Kept) -> None:
        """A cache that cannot be written is none."""
        if self._directory is None or not key:
            return
        body = json.dumps({about: list(map(_plain, each)) for about, each in kept.items()}).encode()
        if len(body) > BYTES_MOST // 4:
            return
        with suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=self._directory, prefix=".new-", delete=False) as file:
                file.write(_head(body) + b"\n" + body)
            Path(file.name).replace(self._directory / f"{key}.json")
            self._prune()

    def _prune(self) -> None:
        assert self._directory
        found = []
        for path in self._directory.iterdir():
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        total = 0
        for number, (_, size, path) in enumerate(sorted(found, reverse=True)):
            total += size
            if number >= FILES_MOST or total > BYTES_MOST:
                path.unlink(missing_ok=True)


def _head(body: bytes) -> bytes:
    return f"hotreload types {VERSION} {sha256(body).hexdigest()}".encode()


def _plain(each: Definition) -> list[Any]:
    members = [[one.name, one.type, one.offset, one.size, one.number, one.also] for one in each.members]
    return [each.name, each.kind, each.size, each.align, each.fixed, each.file, each.scope, members, each.reaches]


def _definition(plain: Any) -> Definition:
    called, kind, whole, align, fixed, file, scope, members, reaches = plain
    found = (Member(name, of, offset, size, number, tuple(also)) for name, of, offset, size, number, also in members)
    return Definition(called, kind, whole, align, fixed, file, scope, tuple(found), tuple(reaches))
