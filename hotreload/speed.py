"""What would make a project's builds faster, measured here: every lever that is installed, in a copy of the project."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hotreload.edits import SKIPPED, SOURCE_SUFFIXES
from hotreload.errors import ConfigError

ROUNDS = 3
BUILD_SECONDS = 900.0
_CODE = SOURCE_SUFFIXES - {".toml", ".zon", ".inc", ".s"}


@dataclass(frozen=True, slots=True)
class Lever:
    """One thing to try. ``needs`` is a program, any of these files says that it applies."""

    name: str
    needs: tuple[str, ...]
    files: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""
    """To be appended to the build command."""
    caveat: str = ""

    def advice(self, build: str) -> str:
        """What to write into hotreload.toml."""
        if self.suffix:
            return f'build = "{build}{self.suffix}"'
        return ", ".join(f'env.{name} = "{value}"' for name, value in self.env.items())


@dataclass(frozen=True, slots=True)
class Gain:
    """What a lever brought. ``seconds`` is the median of a rebuild with it; None where it did not build."""

    name: str
    seconds: float | None
    ratio: float
    """How many times faster than without; 0 where it did not build."""
    advice: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The project as it is: a first build, and a rebuild after an edit."""

    source: str
    cold: float
    warm: float


_RUST, _MAKE = ("Cargo.toml",), ("Makefile", "makefile", "GNUmakefile")
_CONFIGURED = ("CMakeLists.txt", "meson.build")
"""Build tools that read flags once, when a build directory is new, and keep them in it."""
_NATIVE = _MAKE + _CONFIGURED
_KEPT = "remove the build directory once: it keeps the flags that it was made with"
_MARKS = ("CMakeCache.txt", "meson-private", "CACHEDIR.TAG")
"""What a directory of a build tool holds, whatever its name is. In a copy it would point back to the project, or be no
first build."""
LEVERS = (
    Lever("mold", ("mold",), _RUST, {"RUSTFLAGS": "-C link-arg=-fuse-ld=mold"}),
    Lever("lld", ("ld.lld",), _RUST, {"RUSTFLAGS": "-C link-arg=-fuse-ld=lld"}),
    Lever(
        "prefer-dynamic", ("cargo",), _RUST, {"RUSTFLAGS": "-C prefer-dynamic"},
        caveat="host and modules then need rustc's libstd at run time (LD_LIBRARY_PATH)",
    ),
    Lever("split debug info", ("cargo",), _RUST, {"CARGO_PROFILE_DEV_SPLIT_DEBUGINFO": "unpacked"}),
    Lever("line tables only", ("cargo",), _RUST, {"CARGO_PROFILE_DEV_DEBUG": "line-tables-only"},
          caveat="debuggers then show no variables"),
    Lever("mold", ("mold",), _NATIVE, {"LDFLAGS": "-fuse-ld=mold"}),
    Lever("lld", ("ld.lld",), _NATIVE, {"LDFLAGS": "-fuse-ld=lld"}),
    Lever("split debug info", ("cc",), _NATIVE, dict.fromkeys(("CFLAGS", "CXXFLAGS"), "-O1 -g -gsplit-dwarf")),
    Lever("no debug info", ("cc",), _NATIVE, dict.fromkeys(("CFLAGS", "CXXFLAGS"), "-O1"),
          caveat="debuggers then show no lines"),
    Lever("tcc for the module", ("tcc",), _MAKE, {"MODULE_CC": "tcc", "BUILD_ID": ""},
          caveat="a C compiler that does not optimise"),
    Lever("zig incremental", (), ("build.zig",), suffix=" -fincremental"),
)  # fmt: skip


def suggest(
    directory: Path, prepare: str, build: str, environment: Mapping[str, str], tell: Callable[[str], None]
) -> tuple[Baseline, list[Gain]]:
    """Measures.

    Args:
        directory: The project's; nothing in it is changed.
        prepare: The command before the first build, or empty.
        build: The build command.
        environment: Of the builds.
        tell: Receives what is being done, for people.

    Raises:
        ConfigError: There is no source to edit, or the project does not build in a copy.
    """
    source = _source(directory)
    tell(f"building a copy of {directory.name}; each rebuild follows an edit of {source}")
    cold, warm = _measure(directory, source, prepare, build, environment)
    base = Baseline(str(source), cold, warm)
    gains = [Gain("warm build directory", warm, cold / warm, "keep it; dev builds once at its start")]
    for lever in LEVERS:
        if not any((directory / name).is_file() for name in lever.files):
            continue
        missing = [each for each in lever.needs if shutil.which(each) is None]
        if missing:
            gains.append(Gain(lever.name, None, 0.0, "", f"{missing[0]} is not installed"))
            continue
        tell(f"measuring {lever.name}")
        try:
            _, seconds = _measure(directory, source, prepare, build + lever.suffix, {**environment, **lever.env})
            kept = _KEPT if any((directory / name).is_file() for name in _CONFIGURED) and lever.files != _RUST else ""
            note = "; ".join(filter(None, (lever.caveat, kept)))
            gains.append(Gain(lever.name, seconds, warm / seconds, lever.advice(build), note))
        except ConfigError as error:
            last = error.found.strip().splitlines()[-1:] or [error.reason]
            gains.append(Gain(lever.name, None, 0.0, "", f"does not build here: {last[0].strip()}"))
    return base, gains


def _source(directory: Path) -> Path:
    """The file that is edited most likely: a patch's, else the one edited last."""
    paths = [path.relative_to(directory) for path in _sources(directory)]
    found = [path for path in paths if path.suffix in _CODE and path.name != "build.zig"]
    if not found:
        raise ConfigError("E-CONFIG", f"{directory} has no sources to measure with")
    return max(found, key=lambda path: ("patch" in str(path), (directory / path).stat().st_mtime_ns))


def _sources(directory: Path) -> Iterator[Path]:
    for entry in sorted(directory.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            if entry.name not in SKIPPED and not entry.name.startswith(".") and not _is_built(entry):
                yield from _sources(entry)
        elif entry.is_file():
            yield entry


def _is_built(directory: Path) -> bool:
    return any((directory / mark).exists() for mark in _MARKS)


def _measure(
    directory: Path, source: Path, prepare: str, build: str, environment: Mapping[str, str]
) -> tuple[float, float]:
    """Seconds of the first build, and the median of rebuilds."""
    with _copy(directory) as copy:
        if prepare:
            _run(prepare, copy, environment)
        cold = _run(build, copy, environment)
        times = []
        for number in range(ROUNDS):
            with (copy / source).open("a", encoding="utf-8") as file:
                file.write(f"\n// {number}\n")
            times.append(_run(build, copy, environment))
        return cold, statistics.median(times)


def _run(command: str, directory: Path, environment: Mapping[str, str]) -> float:
    began = time.monotonic()
    done = subprocess.run(
        command, shell=True, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", timeout=BUILD_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if "error" in line.lower()] or done.stdout.splitlines()
        raise ConfigError("E-CONFIG", f"{command} fails in a copy of the project", found="\n".join(lines[:3]))
    return time.monotonic() - began


@contextmanager
def _copy(directory: Path) -> Iterator[Path]:
    def unwanted(place: str, names: Sequence[str]) -> set[str]:
        hidden = {name for name in names if name.startswith(".") and name != ".cargo"}
        return hidden | {name for name in names if name in SKIPPED or _is_built(Path(place) / name)}

    with tempfile.TemporaryDirectory(prefix="hotreload-speed-") as scratch:
        copy = Path(scratch) / directory.name
        shutil.copytree(directory, copy, ignore=unwanted, symlinks=True)
        yield copy


def environment_for_builds(extra: Mapping[str, str]) -> dict[str, str]:
    """The process's, with what the configuration adds; no target directory that copies would share."""
    return {**{name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"}, **extra}
