"""Builds what the native tests and the benchmarks run: the shim, C programs linked with it, and patch modules.

Everything is compiled by the machine's own compiler from the sources in this checkout, so that a test never runs
against an installed copy of the shim.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from objects import INCLUDE, SOURCES, compiled

ROOT = SOURCES.parents[1]
LAYOUTS = tuple(SOURCES / name for name in ("layout.c", "compare.c", "status.c"))
"""What compares layouts, alone."""
PREFLIGHT = (*LAYOUTS, *sorted(SOURCES.glob("image*.c")), SOURCES / "manifest.c", SOURCES / "descriptions.c")
"""What preflight.c needs beside itself."""
HOSTS = Path(__file__).resolve().parent / "hosts"

WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
MODULE_FLAGS = ("-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-Wl,-Bsymbolic")
LIBRARIES = ("-lpthread", "-ldl")


def compiler() -> str | None:
    """The C compiler to use: ``$CC`` or ``cc``; None where there is none."""
    return shutil.which(os.environ.get("CC", "cc"))


def run(command: Sequence[str | Path], directory: Path | None = None) -> str:
    """Runs a build command and returns its standard output; its messages are the exception's text when it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=directory)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(str(part) for part in command)}\n{done.stdout}{done.stderr}")
    return done.stdout


@dataclass(frozen=True)
class Shim:
    """A built shim: its archive, its shared form, and the flags that a host must be compiled with too."""

    archive: Path
    shared: Path
    flags: tuple[str, ...]

    def host(self, source: Path, output: Path, *flags: str, shared: bool = False) -> Path:
        """Compiles and links a C host; ``shared`` links it with the shared shim, found by a run path."""
        archive: list[str | Path] = [self.archive]
        library: list[str | Path] = [self.shared, f"-Wl,-rpath,{self.shared.parent}"]
        command: list[str | Path] = [cc(), "-O2", "-g", *WARNINGS, *self.flags, *flags, "-I", INCLUDE, "-I", HOSTS]
        run([*command, "-o", output, source, *(library if shared else archive), *LIBRARIES])
        return output


def cc() -> str:
    """The C compiler. Raises RuntimeError where there is none; tests ask `compiler` first."""
    found = compiler()
    if found is None:
        raise RuntimeError("no C compiler: install gcc or clang, or set CC")
    return found


def build_shim(directory: Path, *flags: str) -> Shim:
    """Builds ``libhotreload.a`` and ``libhotreload.so`` in ``directory``; ``flags`` such as ``-fsanitize=thread``."""
    directory.mkdir(parents=True, exist_ok=True)
    objects = compiled(cc(), ["-O2", "-g", "-fPIC", *WARNINGS, *flags, "-I", str(INCLUDE)], run)
    archive, shared = directory / "libhotreload.a", directory / "libhotreload.so"
    archive.unlink(missing_ok=True)
    run(["ar", "rcs", archive, *objects])
    run([cc(), "-shared", *flags, "-o", shared, *objects, *LIBRARIES])
    return Shim(archive, shared, tuple(flags))


def module_source(
    name: str, version: int, entries: Mapping[str, str], *, on_load: str = "", on_unload: str = "", extra: str = ""
) -> str:
    """C source of a patch module.

    Args:
        name: The module's name.
        version: The module's version.
        entries: For each slot's symbol the body of its function, which sees ``state`` (a ``host_state *``), ``input``
            and ``output``; ``return 7;`` for example.
        on_load: The body of ``on_load``; empty for none.
        on_unload: The body of ``on_unload``; empty for none.
        extra: Further definitions, placed before all functions.
    """
    parts = ["#include <hotreload/patch.h>", '#include "shared.h"', extra]
    for number, body in enumerate(entries.values()):
        parts.append(
            f"static int32_t entry_{number}(void *opaque, const void *input, void *output) {{\n"
            f"    host_state *state = opaque;\n    (void)state, (void)input, (void)output;\n    {body}\n}}"
        )
    for hook, body in (("load", on_load), ("unload", on_unload)):
        if body:
            parts.append(
                f"static int32_t hook_{hook}(void *opaque) {{\n"
                f"    host_state *state = opaque;\n    (void)state;\n    {body}\n}}"
            )
    patches = ", ".join(f'HR_PATCH("{symbol}", entry_{number})' for number, symbol in enumerate(entries))
    hooks = f"{'hook_load' if on_load else 0}, {'hook_unload' if on_unload else 0}"
    parts.append(f'HR_MODULE_WITH_HOOKS("{name}", {version}, {hooks}, {patches})')
    return "\n".join(parts) + "\n"


def build_module(output: Path, source: str, *flags: str, base: Sequence[str] = MODULE_FLAGS) -> Path:
    """Compiles a patch module from C source; the source is kept beside the output, with the suffix ``.c``."""
    text = output.with_suffix(".c")
    text.write_text(source)
    run([cc(), *base, *flags, "-I", INCLUDE, "-I", HOSTS, "-o", output, text])
    output.chmod(0o755)  # not left to the umask: what others may write to is refused
    return output
