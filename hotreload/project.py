"""An existing project, as its own build tool describes it: how it is built, what it runs, where its outputs appear."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotreload.errors import ConfigError

ASK_SECONDS = 300.0
"""How long a build tool may take to describe a project: the first configuration looks for compilers."""
COMPLAINT_LINES = 8
"""How much of a failing tool's words is passed on."""
_NO_HOSTS = re.compile(r"test|bench|example|fuzz|check", re.IGNORECASE)
_BY_PROJECT = ("CMakeLists.txt", "meson.build")
_SKIPPED = frozenset({"node_modules", "venv", "__pycache__", "CMakeFiles"})
_QUERY = "codemodel-v2"


@dataclass(frozen=True, slots=True)
class Project:
    """What a configuration needs. All paths are relative to ``directory``, commands run in it."""

    tool: str
    directory: Path
    build: str
    watch: tuple[str, ...]
    """Where patch modules appear, or will."""
    hosts: tuple[str, ...]
    """Programs that it builds, the likeliest host first."""
    prepare: str = ""
    libraries: tuple[str, ...] = ()
    """Shared libraries that are no patch modules: code of the host."""
    done: tuple[str, ...] = ()
    """What was done to find out, for people."""
    advice: tuple[str, ...] = ()
    """What makes a program of it a host."""

    @property
    def host(self) -> str | None:
        """The program to start, where there is no doubt."""
        likely = [each for each in self.hosts if not _NO_HOSTS.search(Path(each).name)]
        return likely[0] if len(likely) == 1 else self.hosts[0] if len(self.hosts) == 1 else None


def recognise(directory: Path) -> Project:
    """The project in a directory, or above it in the same repository.

    Raises:
        ConfigError: There is none, or its build tool fails.
    """
    directory = directory.resolve()  # build tools tell resolved paths
    for place in _upwards(directory):
        for names, read in _TOOLS:
            if any(_begins(place / name) for name in names):
                return read(place)
    raise ConfigError(
        "E-CONFIG",
        f"no project is recognised in {directory}",
        expected=", ".join(name for names, _ in _TOOLS for name in names[:1]),
        fix="run it where your project begins, or `hotreload new NAME --lang LANGUAGE` for a new one",
    )


def _upwards(directory: Path) -> Sequence[Path]:
    """The directory and those above it up to the repository's; itself alone where there is no repository."""
    places = (directory, *directory.parents)
    top = next((at for at, place in enumerate(places) if (place / ".git").exists()), 0)
    return places[: top + 1]


def _begins(file: Path) -> bool:
    """Whether a project begins with this file: CMake and Meson have such files in the directories below as well."""
    if not file.is_file():
        return False
    text = file.read_text(encoding="utf-8", errors="replace") if file.name in _BY_PROJECT else "project("
    return re.search(r"^\s*project\s*\(", text, re.MULTILINE | re.IGNORECASE) is not None


def settings(project: Project, host: str | None) -> str:
    """The text of a hotreload.toml for it."""
    lines = [
        "# What `hotreload dev` does here; it is read again when it changes.",
        *([f"prepare = {_quoted(project.prepare)}  # run once, before the first build"] if project.prepare else []),
        f"build = {_quoted(project.build)}  # run when a source changes",
        f"watch = {_list(project.watch)}  # where patch modules appear",
    ]
    if host:
        lines.append(f"host = {_quoted(host)}  # the program to start")
    else:
        lines.append('# host = "path/to/program"  # the program to start; without it, hosts that run already are found')
        lines += [f"# host = {_quoted(each)}" for each in project.hosts]
    if project.libraries:
        lines.append(f"restart_on = {_list(project.libraries)}  # code of the host beside its program")
    lines.append('busy = "queue"  # an edit during a build: queue, restart (the build) or ignore')
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _list(texts: Sequence[str]) -> str:
    return "[" + ", ".join(map(_quoted, texts)) + "]"


# ---- Cargo ----


def _cargo(directory: Path) -> Project:
    told = json.loads(_ask(["cargo", "metadata", "--no-deps", "--format-version", "1"], directory))
    root = Path(told["workspace_root"])
    members = set(told["workspace_members"])
    packages = [each for each in told["packages"] if each["id"] in members]
    # One that depends on hotreload is the host that is meant.
    packages.sort(key=lambda each: not _depends(each))
    outputs = Path(told["target_directory"]) / "debug"
    programs = [target["name"] for each in packages for target in each["targets"] if "bin" in target["kind"]]
    modules = [target["name"] for each in packages for target in each["targets"] if "cdylib" in target["kind"]]
    hosts = tuple(_relative(outputs / name, root) for name in programs)
    ours = [
        target["name"] for each in packages if _depends(each) for target in each["targets"] if "bin" in target["kind"]
    ]
    if len(ours) == 1:
        hosts = (_relative(outputs / ours[0], root),)
    return Project(
        "Cargo",
        root,
        "cargo build --workspace --message-format=json-diagnostic-rendered-ansi",
        (_relative(outputs, root),),
        hosts,
        advice=()
        if modules
        else (
            'a patch module: a crate with crate-type = ["cdylib"] that depends on hotreload and uses patch_module!',
            "a host: a program that depends on hotreload, declares slots and serves them",
            'for both: hotreload = { path = "$(hotreload config --rust-dir)" }',
        ),
    )


def _depends(package: Mapping[str, Any]) -> bool:
    return any(each["name"] in ("hotreload", "hotpatch-rs") for each in package["dependencies"])


# ---- CMake ----


def _cmake(directory: Path) -> Project:
    build = _configured(directory, "CMakeCache.txt") or Path("build")
    configure = shlex.join(["cmake", "-S", ".", "-B", str(build), "-DCMAKE_BUILD_TYPE=Debug"])
    query = directory / build / ".cmake" / "api" / "v1" / "query" / "client-hotreload" / _QUERY
    query.parent.mkdir(parents=True, exist_ok=True)
    query.touch()
    known = (directory / build / "CMakeCache.txt").is_file()
    command = ["cmake", str(directory / build)] if known else shlex.split(configure)
    again = f"test -f {shlex.quote(str(build))}/CMakeCache.txt || {configure}"
    _ask(command, directory)
    targets = list(_cmake_targets(directory / build))
    modules = [path for kind, path in targets if kind == "MODULE_LIBRARY"]
    return Project(
        "CMake",
        directory,
        f"cmake --build {shlex.quote(str(build))}",
        _directories(modules, build) or (str(build / "patches"),),
        tuple(str(build / path) for kind, path in targets if kind == "EXECUTABLE"),
        prepare=again if known else configure,
        libraries=tuple(str(build / path) for kind, path in targets if kind == "SHARED_LIBRARY"),
        done=(f"configured {build}/ ({shlex.join(command)})",),
        advice=()
        if modules
        else (
            "a host: find_package(hotreload REQUIRED), target_link_libraries(NAME PRIVATE hotreload::hotreload)",
            f"a patch module: add_library(NAME MODULE patch.c), with its output in {build}/patches",
            "`hotreload dev` tells CMake where hotreload is; by hand: -Dhotreload_DIR=$(hotreload config --cmake-dir)",
        ),
    )


def _cmake_targets(build: Path) -> Iterable[tuple[str, Path]]:
    """Kind and file of every target, by CMake's file API."""
    replies = build / ".cmake" / "api" / "v1" / "reply"
    newest = max(replies.glob("index-*.json"))
    told = json.loads(newest.read_text(encoding="utf-8"))
    model = told["reply"]["client-hotreload"][_QUERY]["jsonFile"]
    for configuration in json.loads((replies / model).read_text(encoding="utf-8"))["configurations"][:1]:
        for reference in configuration["targets"]:
            target = json.loads((replies / reference["jsonFile"]).read_text(encoding="utf-8"))
            if target.get("artifacts"):
                yield target["type"], Path(target["artifacts"][0]["path"])


# ---- Meson ----


def _meson(directory: Path) -> Project:
    build = _configured(directory, "meson-private") or Path("build")
    setup = shlex.join(["meson", "setup", str(build)])
    # A setup that failed leaves a directory as well.
    known = (directory / build / "build.ninja").is_file()
    if not known:
        _ask(shlex.split(setup), directory)
    told = json.loads(_ask(["meson", "introspect", "--targets", str(build)], directory))
    found = [(each["type"], Path(name).relative_to(directory)) for each in told for name in each["filename"][:1]]
    modules = [path.relative_to(build) for kind, path in found if kind == "shared module"]
    return Project(
        "Meson",
        directory,
        f"ninja -C {shlex.quote(str(build))}" if shutil.which("ninja") else f"meson compile -C {build}",
        _directories(modules, build) or (str(build / "patches"),),
        tuple(str(path) for kind, path in found if kind == "executable"),
        prepare=f"test -f {shlex.quote(str(build))}/build.ninja || {setup}",
        libraries=tuple(str(path) for kind, path in found if kind == "shared library"),
        done=() if known else (f"configured {build}/ ({setup})",),
        advice=()
        if modules
        else (
            "a host: dependency('hotreload')",
            "a patch module: shared_module(...), gnu_symbol_visibility: 'hidden', link_args: '-Wl,-Bsymbolic'",
            "`hotreload dev` tells Meson where hotreload is; by hand: "
            "PKG_CONFIG_PATH=$(hotreload config --pkg-config-dir)",
        ),
    )


# ---- Make ----


_LINKS = re.compile(r"(?:.*[-/])?(?:cc|gcc|g\+\+|c\+\+|clang|clang\+\+|tcc|ld|rustc)(?:[-.][\d.]+)?")
"""A word that names a compiler or linker, with a prefix for a target or a version or none."""
_LINKS_NOTHING = frozenset({"-c", "-E", "-S", "-M", "-MM", "-r", "-fsyntax-only"})
_MOVES = re.compile(r"make(?:\[\d+\])?: (?P<how>Entering|Leaving) directory [`'](?P<path>.+)'")


def _make(directory: Path) -> Project:
    """Make is asked for the commands that it would run; what has been built already tells the rest."""
    planned = dict(_planned(directory))
    programs = [path for path, kind in planned.items() if kind == "program"]
    modules = [path for path, kind in planned.items() if kind == "library"]
    for path in _files(directory, depth=3):
        kind, name = _elf_type(path), path.relative_to(directory)
        if kind == "program" and os.access(path, os.X_OK):
            programs.append(name)
        elif kind == "library" and path.suffix == ".so":
            modules.append(name)
    return Project(
        "Make",
        directory,
        "make",
        _directories(modules, Path()) or ("build",),
        tuple(map(str, sorted({*programs}))),
        done=() if programs or modules else ("`make -n` names no program: build once, or name it with --host",),
        advice=()
        if modules
        else (
            "a host: a program built with `hotreload config --cflags --libs`",
            "a patch module: cc -shared -fPIC -fvisibility=hidden -Wl,-Bsymbolic, with `hotreload config --cflags`",
        ),
    )


def _planned(directory: Path) -> Iterable[tuple[Path, str]]:
    """What the commands of ``make -n`` would link inside of the directory: ``program`` or ``library``, by its path."""
    try:
        told = _ask(["make", "-n", "-w"], directory, LC_ALL="C")
    except ConfigError:  # it cannot tell, which is no reason to refuse the project
        return
    places = [directory]
    for line in told.replace("\\\n", " ").splitlines():
        if moved := _MOVES.match(line):
            places = [*places, Path(moved["path"])] if moved["how"] == "Entering" else places[:-1] or [directory]
            continue
        for words in _commands(line):
            path = _linked(words)
            whole = Path(os.path.normpath(places[-1] / path)) if path else directory
            if whole != directory and whole.is_relative_to(directory):
                library = "-shared" in words
                if not library or whole.suffix == ".so":
                    yield whole.relative_to(directory), "library" if library else "program"


def _commands(line: str) -> Iterable[list[str]]:
    """The commands of a line of shell, word by word; none of a line that is only a part of one."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return
    found: list[str] = []
    for word in (*words, ";"):
        if set(word) <= set(";&|"):
            yield found
            found = []
        else:
            found.append(word)


def _linked(words: Sequence[str]) -> str:
    """The output of a command that links; empty for all others. A wrapper (ccache) may come before the compiler."""
    if "-o" not in words[1:-1] or not any(map(_LINKS.fullmatch, words[:3])) or _LINKS_NOTHING.intersection(words):
        return ""
    return words[words.index("-o") + 1]


def _files(directory: Path, depth: int) -> Iterable[Path]:
    for entry in sorted(directory.iterdir()):
        if entry.is_symlink() or entry.name.startswith(".") or entry.name in _SKIPPED:
            continue
        if entry.is_dir() and depth > 1:
            yield from _files(entry, depth - 1)
        elif entry.is_file():
            yield entry


def _elf_type(path: Path) -> str:
    """``program`` or ``library``, and nothing for all other files. Position independent programs name a loader."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:4] != b"\x7fELF" or len(head) < 64:
        return ""
    kind = int.from_bytes(head[16:18], "little")
    return "program" if kind == 2 or (kind == 3 and b"/ld-" in head) else "library" if kind == 3 else ""


# ---- small things ----


_TOOLS: tuple[tuple[tuple[str, ...], Callable[[Path], Project]], ...] = (
    (("Cargo.toml",), _cargo),
    (("CMakeLists.txt",), _cmake),
    (("meson.build",), _meson),
    (("Makefile", "makefile", "GNUmakefile"), _make),
)


def _ask(command: Sequence[str], directory: Path, **environment: str) -> str:
    """The standard output of a build tool. Raises ConfigError with what it says about its failure."""
    try:
        done = subprocess.run(
            command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=ASK_SECONDS, check=False, env={**os.environ, **environment},
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ConfigError("E-CONFIG", f"{command[0]} is not installed", fix=f"install {command[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError("E-CONFIG", f"{command[0]} does not answer", found=shlex.join(command)) from error
    if done.returncode != 0:
        raise ConfigError(
            "E-CONFIG", f"{shlex.join(command)} failed", found=_complaint(done.stderr or done.stdout),
            fix="make it succeed, then run this again",
        )  # fmt: skip
    return done.stdout


def _complaint(text: str) -> str:
    """Where a build tool's words begin to tell of an error; else their end."""
    lines = [line for line in text.splitlines() if line.strip()]
    first = next(
        (at for at, line in enumerate(lines) if re.search(r"\berror\b", line, re.IGNORECASE)), -COMPLAINT_LINES
    )
    return "\n".join(lines[first:][:COMPLAINT_LINES])


def _configured(directory: Path, mark: str) -> Path | None:
    """The build directory that has been configured already, as tools and editors name it."""
    for pattern in ("build*", "cmake-build-*", "out*", "_build*", "out/*", "build/*"):
        for path in sorted(directory.glob(f"{pattern}/{mark}")):
            return path.parent.relative_to(directory)
    return None


def _directories(files: Iterable[Path], base: Path) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(base / path.parent) for path in files))


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
