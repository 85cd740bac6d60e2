"""hotreload.toml and its relatives: TOML text to Config.

What is said later wins, key by key:

    defaults < the user's file < the project's < $HOTRELOAD_CONFIG < $HOTRELOAD_<KEY> < the command line

The user's file is ``$XDG_CONFIG_HOME/hotreload/config.toml``. The project's is the nearest one upwards, not beyond the
repository: ``hotreload.toml``, or ``[tool.hotreload]`` of a pyproject.toml, or ``[package.metadata.hotreload]`` (also
``[workspace.metadata.hotreload]``) of a Cargo.toml. Its directory is the project: commands run and paths begin there.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli

from hotreload.errors import ConfigError
from hotreload.model import Busy

FILE = "hotreload.toml"
PREFIX = "HOTRELOAD_"
_OTHERS = frozenset({"CONFIG", "CFLAGS", "LIBS", "SHIM_DIR"})
"""What else of this prefix means something: to us, to builds, to the crate."""
QUIESCENT, NEVER = "quiescent", "never"
"""What ``unload`` may say, as HR_MODULE_UNLOAD does in a module's source."""
_NEAR = 0.75
"""So alike, from 0 to 1, are the names of a variable and of the key that is meant by it: BIULD and BUILD."""
_TABLES = {
    FILE: ((),),
    "pyproject.toml": (("tool", "hotreload"),),
    "Cargo.toml": (("package", "metadata", "hotreload"), ("workspace", "metadata", "hotreload")),
}
"""By file name, the tables that may hold the configuration; the whole file for hotreload.toml."""


@dataclass(frozen=True, slots=True)
class Config:
    """What ``hotreload dev`` is to do. Paths are relative to the project's directory unless absolute."""

    prepare: str = ""
    """A shell command to run once, before the first build."""
    build: str = ""
    """The shell command to run when sources change."""
    watch: tuple[str, ...] = ()
    """Build outputs: directories and modules."""
    host: tuple[str, ...] = ()
    """The program to start, and its arguments; empty: hosts that run already."""
    hosts: tuple[str, ...] = ()
    """Only these hosts, by name or pid."""
    sources: tuple[str, ...] = (".",)
    """Directories whose sources are watched, and single files, whatever their names end in."""
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Further environment of build and host."""
    busy: Busy = Busy.QUEUE
    restart: bool = True
    """Start the host again when its own code has changed."""
    restart_on: tuple[str, ...] = ()
    """Files that are the host's own code beside the program itself: a script, a shared library."""
    editor: str = ""
    """Opens a compile error: {file}, {line} and {column} are filled in; $VISUAL or $EDITOR by default."""
    poll: bool = False
    """Look for outputs four times a second instead of asking the kernel."""
    on_swap: str = ""
    """A shell command to run after every swap."""
    on_reject: str = ""
    """A shell command to run after every refusal."""
    bell: bool = False
    """Ring the terminal's bell at swaps and refusals."""
    notify: bool = False
    """Show swaps and refusals on the desktop, or by the terminal."""
    guard: bool = False
    """Roll back a patch that crashes or hangs after its swap."""
    unload: str = ""
    """``quiescent``: unmap old modules when nothing points into them; ``never``: keep them; empty: the host decides."""
    debug_info: bool = True
    """Compare types by debug info where host and module describe none."""


@dataclass(frozen=True, slots=True)
class Found:
    """A configuration with where it came from."""

    config: Config
    directory: Path
    """The project's directory."""
    files: tuple[Path, ...]
    """What was read, the weakest first."""
    awaited: tuple[Path, ...]
    """What would be read if it were there: a change of any of these may change the configuration."""
    origins: Mapping[str, str]
    """For each key that was set, who set it."""


_SWAP = ("guard", "unload")
"""What may also stand in a table ``[swap]``."""

Reader = Callable[[object], Any]


def parse(text: str, source: str, table: Sequence[str] = ()) -> dict[str, Any]:
    """The values that a TOML text sets, checked; those of a table of it where one is named.

    Args:
        text: The whole file.
        source: Its name, for messages.
        table: Names of the table and those around it, outermost first.

    Raises:
        ConfigError: It is no TOML, or a key is unknown or of the wrong type.
    """
    try:
        found: Any = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigError("E-CONFIG", f"{source}: {error}", fix="see https://toml.io for the syntax") from error
    for name in table:
        found = found.get(name, {}) if isinstance(found, dict) else {}
    if not isinstance(found, dict):
        raise ConfigError("E-CONFIG", f"{source}: {'.'.join(table)} is no table")
    swap = found.get("swap")
    if isinstance(swap, dict) and set(swap) <= set(_SWAP):
        found = {**{key: value for key, value in found.items() if key != "swap"}, **swap}
    return {key: _value(key, value, _place(source, text, key)) for key, value in found.items()}


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The values that $HOTRELOAD_BUILD and the like set. Lists are split as a shell does, directories also at colons.

    Raises:
        ConfigError: A value is wrong, or a name is nearly that of a key. Others of this prefix may be somebody
            else's: see `strangers`.
    """
    for name in strangers(environment):
        _check_name(name)
    found: dict[str, Any] = {}
    for key, reader in _READERS.items():
        text = environment.get(PREFIX + key.upper())
        if text is None or key == "env":
            continue
        value: object = text
        if reader is _flag:
            value = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(text, text)
        elif key in ("watch", "sources", "restart_on"):
            value = [part for part in text.split(os.pathsep) if part]
        elif key == "hosts":
            value = shlex.split(text)
        found[key] = _value(key, value, f"${PREFIX}{key.upper()}")
    return found


def strangers(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The variables of our prefix that mean nothing here. To refuse them all would break shells that set one for
    another program of that name."""
    known = _OTHERS | {key.upper() for key in _READERS if key != "env"}
    return tuple(sorted(name for name in environment if name.startswith(PREFIX) and name[len(PREFIX) :] not in known))


def _check_name(name: str) -> None:
    key = name[len(PREFIX) :].lower()
    close = get_close_matches(key, [each for each in _READERS if each != "env"], n=1, cutoff=_NEAR)
    fix = f"write ${PREFIX}{close[0].upper()}, or unset it" if close else "write the table [env] of hotreload.toml"
    if close or key == "env":
        raise ConfigError("E-CONFIG", f"${name}: unknown key {key!r}", found=key, expected=", ".join(_READERS), fix=fix)


def merge(*layers: tuple[str, Mapping[str, Any]]) -> tuple[Config, dict[str, str]]:
    """Layers, the weakest first, each with who said it. Returns the whole and who set each key."""
    config, origins = Config(), dict[str, str]()
    for source, values in layers:
        if "env" in values:
            values = {**values, "env": MappingProxyType({**config.env, **values["env"]})}
        config = replace(config, **values)
        origins.update(dict.fromkeys(values, source))
    return config, origins


# ---- the edges: files and environment ----


def load(
    directory: Path, environment: Mapping[str, str], flags: Mapping[str, Any], *, file: Path | None = None
) -> Found:
    """All layers.

    Args:
        directory: Where to begin to look for the project's file.
        environment: Of the process.
        flags: What the command line sets.
        file: The project's file, where the command line names one.

    Raises:
        ConfigError: A file cannot be read, or is wrong.
    """
    user = _user_file(environment)
    named = environment.get(f"{PREFIX}CONFIG")
    project, table = (file, None) if file else _find(directory)
    root = project.absolute().parent if project else directory.absolute()
    layers: list[tuple[str, Mapping[str, Any]]] = []
    files: list[Path] = []
    for path, own, needed in ((user, (), False), (project, table, True), (Path(named) if named else None, None, True)):
        if path is None or not (needed or path.is_file()):
            continue
        layers.append((str(path), _read(path, own)))
        files.append(path.absolute())
    layers += [("the environment", from_environment(environment)), ("the command line", flags)]
    config, origins = merge(*layers)
    awaited = (*files, user.absolute(), root / FILE)
    return Found(config, root, tuple(files), tuple(dict.fromkeys(awaited)), MappingProxyType(origins))


def _find(directory: Path) -> tuple[Path | None, tuple[str, ...] | None]:
    """The nearest project file upwards, and the table of it that is meant."""
    for place in (directory.absolute(), *directory.absolute().parents):
        for name in _TABLES:
            if (place / name).is_file() and (table := _table_in(place / name)) is not None:
                return place / name, table
        if (place / ".git").exists() or place == Path.home():
            break
    return None, None


def _table_in(path: Path) -> tuple[str, ...] | None:
    """The table of a file that holds configuration; None where it has none. One that is not ours may be wrong TOML."""
    tables = _TABLES.get(path.name, ((),))
    if tables == ((),):
        return ()
    try:
        whole = tomli.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    for table in tables:
        found: Any = whole
        for name in table:
            found = found.get(name) if isinstance(found, dict) else None
        if found is not None:
            return table
    return None


def _read(path: Path, table: tuple[str, ...] | None) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("E-CONFIG", f"{path} cannot be read: {error}", fix="name a file that is there") from error
    return parse(text, str(path), table if table is not None else _table_in(path) or ())


def _user_file(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "hotreload" / "config.toml"


def _place(source: str, text: str, key: str) -> str:
    """The file, with the line that sets the key where that can be seen."""
    found = re.search(rf"^[ \t]*[\"']?{re.escape(key)}[\"']?[ \t]*[=.]", text, flags=re.MULTILINE)
    return f"{source}:{text.count(chr(10), 0, found.start()) + 1}" if found else source


# ---- values ----


def _value(key: str, value: object, place: str) -> Any:
    reader = _READERS.get(key)
    if reader is None:
        close = get_close_matches(key, _READERS, n=1, cutoff=0.5)
        fix = f"write {close[0]}" if close else "remove it"
        raise ConfigError("E-CONFIG", f"{place}: unknown key {key!r}", found=key, expected=", ".join(_READERS), fix=fix)
    try:
        return reader(value)
    except ValueError as error:
        raise ConfigError("E-CONFIG", f"{place}: {key} {error}", found=repr(value)) from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _texts(value: object) -> tuple[str, ...]:
    """A list; a single text counts as a list of one."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
        raise ValueError("must be a list of texts")
    return tuple(value)


def _words(value: object) -> tuple[str, ...]:
    """A command: a list of its words, or a text that is split as a shell does."""
    return tuple(shlex.split(value)) if isinstance(value, str) else _texts(value)


def _variables(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise ValueError("must be a table of texts")
    return MappingProxyType(dict(value))


def _unload(value: object) -> str:
    if value not in (QUIESCENT, NEVER):
        raise ValueError(f"must be one of {QUIESCENT}, {NEVER}")
    return str(value)


def _busy(value: object) -> Busy:
    names = [each.value for each in Busy]
    if value not in names:
        raise ValueError(f"must be one of {', '.join(names)}")
    return Busy(value)


_READERS: dict[str, Reader] = {
    "prepare": _text,
    "build": _text,
    "watch": _texts,
    "host": _words,
    "hosts": _texts,
    "sources": _texts,
    "env": _variables,
    "busy": _busy,
    "restart": _flag,
    "restart_on": _texts,
    "editor": _text,
    "poll": _flag,
    "on_swap": _text,
    "on_reject": _text,
    "bell": _flag,
    "notify": _flag,
    "guard": _flag,
    "unload": _unload,
    "debug_info": _flag,
}
assert set(_READERS) == {each.name for each in fields(Config)}
