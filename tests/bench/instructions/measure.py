"""Counts the instructions of the call path, of preflight and of a commit: the same whatever else the machine does.

    python tests/bench/instructions/measure.py [--update]

``valgrind --tool=callgrind`` counts only inside the functions of counted.c, built with fixed flags. Hardware counters
(perf) would be quicker, but virtual machines often have none. ``--update`` writes baseline.json, which
test_instructions.py compares with: do it in the commit that changes a count on purpose, and say there why.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHIM = HERE.parents[2] / "shim"
BASELINE = HERE / "baseline.json"

FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
MODULE_FLAGS = ("-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-Wl,-Bsymbolic", "-Wl,--build-id=sha1")
CALLS = 1000
SLOTS = 4096
COMMIT = f"commit of {SLOTS} slots"
LARGE = f"preflight of {SLOTS} slots"
COUNTED = ("plain", "call", "frame", "outline", "preflight", LARGE, COMMIT)


def missing() -> str:
    """Why nothing can be counted here; empty when it can."""
    for program in (os.environ.get("CC", "cc"), "valgrind"):
        if shutil.which(program) is None:
            return f"{program} is not here"
    return ""


def cc() -> str:
    return os.environ.get("CC", "cc")


def run(command: Sequence[str | Path], **settings: str) -> str:
    """Standard output and error of a command that succeeds; RuntimeError with them otherwise."""
    environment = {**os.environ, **settings}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def environment() -> dict[str, str]:
    """What the counts depend on beside our sources. The processor decides which memcpy libc takes."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return {
        "compiler": run([cc(), "--version"]).splitlines()[0],
        "libc": " ".join(platform.libc_ver()),
        "machine": platform.machine(),
        "avx2": str("avx2" in flags),
        "valgrind": run(["valgrind", "--version"]).strip(),
    }


class Counter:
    """The built program and modules in ``directory``.

    Raises:
        RuntimeError: A build or a counted run failed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.program = directory / "counted"
        sources = sorted((SHIM / "src").glob("*.c"))
        libraries = ("-lpthread", "-ldl")
        run([cc(), *FLAGS, "-I", SHIM / "include", "-o", self.program, HERE / "counted.c", *sources, *libraries])
        self.small = self.module(1, 2)
        self.modules = [self.module(version, SLOTS) for version in (1, 2)]

    def module(self, version: int, slots: int) -> Path:
        entries = ", ".join(f'HR_PATCH("counted{number}", step)' for number in range(slots))
        source = self.directory / f"slots-{slots}-{version}.c"
        source.write_text(
            "#include <hotreload/patch.h>\n"
            "static int32_t step(void *state, const void *input, void *output) {\n"
            f"    (void)state;\n    *(int64_t *)output = *(const int64_t *)input + {version};\n    return 0;\n}}\n"
            f'HR_MODULE("counted", {version}, {entries})\n'
        )
        output = source.with_suffix(".so")
        run([cc(), *MODULE_FLAGS, "-I", SHIM / "include", "-o", output, source])
        output.chmod(0o755)
        return output

    def instructions(self, function: str, *arguments: object) -> int:
        """All that ``counted_<function>`` and what it called took in one run of the program."""
        command: list[str | Path] = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
                   f"--toggle-collect=counted_{function}", self.program, *map(str, arguments)]  # fmt: skip
        printed = run(command, XDG_STATE_HOME=str(self.directory))
        found = re.search(r"Collected\s*:\s*(\d+)", printed)
        if found is None:
            raise RuntimeError(f"valgrind says nothing of what it collected:\n{printed}")
        return int(found[1])

    def count(self, what: str) -> float:
        """One of `COUNTED`: instructions of one call, one preflight, one commit. A difference of two runs, so that what
        is done once does not count."""
        if what == COMMIT:
            return (self.instructions("commit", "commit", 4, *self.modules)
                    - self.instructions("commit", "commit", 2, *self.modules)) / 2  # fmt: skip
        if what in ("preflight", LARGE):
            return self.instructions(
                "preflight", "preflight", 1, self.small if what == "preflight" else self.modules[0]
            )
        return (self.instructions(what, what, 2 * CALLS) - self.instructions(what, what, CALLS)) / CALLS


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--update", action="store_true", help="write baseline.json")
    chosen = options.parse_args()
    if why := missing():
        print(why, file=sys.stderr)
        return 1
    before = json.loads(BASELINE.read_text())["instructions"] if BASELINE.exists() else {}
    with tempfile.TemporaryDirectory(prefix="hr-instructions-") as name:
        counter = Counter(Path(name))
        counts = {what: counter.count(what) for what in COUNTED}
    for what, number in counts.items():
        change = f"{number / before[what] - 1:+.1%}" if what in before else ""
        print(f"{what:24} {number:14,.1f} {change}")
    if chosen.update:
        BASELINE.write_text(json.dumps({"environment": environment(), "instructions": counts}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
