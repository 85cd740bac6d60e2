"""Counts the instructions of the call path, of preflight and of a commit: the same whatever else the machine does.

    python tests/bench/instructions/measure.py [--update]

``valgrind --tool=callgrind`` runs the functions of counted.c, built with fixed flags. Counted are the instructions of
our own code, and its calls into other libraries; what those do inside depends on the processor (libc has a memcpy for
each) and is left out. Hardware counters (perf) would be quicker, but virtual machines often have none. Compilers differ
too: a baseline holds for the one that it names.

``--update`` (``make bench-baseline``) writes baseline.json, which test_instructions.py compares with: do it in the
commit that changes a count on purpose, and say there why.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHIM = HERE.parents[2] / "shim"
BASELINE = HERE / "baseline.json"

ALLOWED = 1.10
"""Times the baseline's count."""

# Distributions differ in what their compilers add by default (stack protection, endbr64, position independence).
CODE_FLAGS = ("-std=c11", "-O2", "-mtune=generic", "-fcf-protection=none", "-fno-stack-protector", "-U_FORTIFY_SOURCE")
PROGRAM_FLAGS = (*CODE_FLAGS, "-fno-pie", "-no-pie", "-Wl,-z,now", "-Wl,-z,norelro")
MODULE_FLAGS = ("-shared", "-fPIC", *CODE_FLAGS, "-fvisibility=hidden", "-Wl,-Bsymbolic", "-Wl,--build-id=sha1")
CALLS = 1000
SLOTS = 4096
COMMIT = "commit of 2 slots"
LARGE_COMMIT = f"commit of {SLOTS} slots"
LARGE_PREFLIGHT = f"preflight of {SLOTS} slots"
COUNTED = ("plain", "call", "frame", "outline", "preflight", LARGE_PREFLIGHT, COMMIT, LARGE_COMMIT)


@dataclass(frozen=True)
class Count:
    """What one call, preflight or commit takes: instructions of our code, and its calls of other libraries' code."""

    instructions: float
    calls_outside: float

    def share(self, times: int) -> Count:
        """Of one of ``times`` calls."""
        return Count(self.instructions / times, self.calls_outside / times)


def complaint(what: str, counted: Count, baseline: Count) -> str:
    """Why this count is a regression; empty when it is none."""
    units = (
        ("instructions", counted.instructions, baseline.instructions),
        ("calls into other libraries", counted.calls_outside, baseline.calls_outside),
    )
    for unit, ours, theirs in units:
        if ours > theirs * ALLOWED:
            return (f"{what}: {ours:,.1f} {unit}, {ours / theirs - 1 if theirs else float('inf'):+.0%} against the "
                    f"baseline's {theirs:,.1f}; if that is meant, run 'make bench-baseline'")  # fmt: skip
    return ""


def parse(text: str, program: str) -> Count:
    """The counts of a callgrind output file for what lies in ``program``.

    Lines are "key=value" or "position cost"; names are given once, as "(number) name", and "(number)" from then on. The
    line after "calls=" holds the cost of what was called, which is counted where it is spent.
    """
    names: dict[str, str] = {}
    inside, target_inside, skip = False, None, False
    instructions = calls = 0

    def ours(value: str) -> bool:
        number, _, name = value.partition(" ")
        return Path(names.setdefault(number, name)).name == program

    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if key == "ob":
            inside = ours(value)
        elif key == "cob":
            target_inside = ours(value)
        elif key == "calls":
            if inside and target_inside is False:
                calls += int(value.split()[0])
            target_inside, skip = None, True
        elif line[:1] in "+-*0123456789" and line and not equals:
            if inside and not skip:
                instructions += int(line.split()[-1])
            skip = False
    return Count(instructions, calls)


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
    """What the counts depend on beside our sources: another compiler makes other code of them."""
    defined = (line.split(None, 2) for line in run([cc(), "-dM", "-E", "-xc", os.devnull]).splitlines())
    macros = {words[1]: words[2] for words in defined if len(words) == 3}
    family = "clang" if "__clang__" in macros else "gcc"
    major = macros["__clang_major__"] if family == "clang" else macros["__GNUC__"]
    return {"compiler": f"{family} {major}", "machine": platform.machine()}


def difference(baseline: dict[str, str]) -> str:
    """In what this machine differs from the baseline's; empty when counts can be compared."""
    here = environment()
    differing = [
        f"{key} {here.get(key)} instead of {value}" for key, value in baseline.items() if here.get(key) != value
    ]
    return f"the baseline was made with another compiler: {', '.join(differing)}" if differing else ""


def read_baseline() -> tuple[dict[str, str], dict[str, Count]]:
    """The environment in which the baseline was made, and its counts."""
    stored = json.loads(BASELINE.read_text())
    return stored["environment"], {what: Count(**count) for what, count in stored["counts"].items()}


class Counter:
    """The built program and modules in ``directory``.

    Raises:
        RuntimeError: A build or a counted run failed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.program = directory / "counted"
        self._counts: dict[str, Count] = {}
        sources = sorted((SHIM / "src").glob("*.c"))
        libraries = ("-lpthread", "-ldl")
        run(
            [cc(), *PROGRAM_FLAGS, "-I", SHIM / "include", "-o", self.program, HERE / "counted.c", *sources, *libraries]
        )
        self.small = [self.module(version, 2) for version in (1, 2)]
        self.large = [self.module(version, SLOTS) for version in (1, 2)]

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

    def measured(self, function: str, *arguments: object) -> Count:
        """What the last call of ``counted_<function>``, and all that it called, took in one run of the program."""
        for old in self.directory.glob("callgrind.out*"):
            old.unlink()
        counted = f"counted_{function}"
        # Collected from the call to its return only; counters start from zero at each call and are written after it.
        command: list[str | Path] = [
            "valgrind", "--tool=callgrind", f"--callgrind-out-file={self.directory / 'callgrind.out'}",
            f"--toggle-collect={counted}", f"--zero-before={counted}", f"--dump-after={counted}",
            self.program, *map(str, arguments),
        ]  # fmt: skip
        said = run(command, XDG_STATE_HOME=str(self.directory))
        dumps = sorted(self.directory.glob("callgrind.out.*"), key=lambda path: int(path.suffix[1:]))
        count = parse(dumps[-1].read_text(), self.program.name) if dumps else Count(0, 0)
        if not count.instructions:
            raise RuntimeError(f"callgrind counted nothing in {counted}:\n{said}")
        return count

    def count(self, what: str) -> Count:
        """One of `COUNTED`, for one call, one preflight, one commit."""
        if what not in self._counts:
            self._counts[what] = self._count(what)
        return self._counts[what]

    def _count(self, what: str) -> Count:
        if what in (COMMIT, LARGE_COMMIT):  # the third: the first creates the slots
            return self.measured("commit", "commit", 3, *(self.small if what == COMMIT else self.large))
        if what in ("preflight", LARGE_PREFLIGHT):
            return self.measured("preflight", "preflight", 1, (self.small if what == "preflight" else self.large)[0])
        return self.measured(what, what, CALLS).share(CALLS)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--update", action="store_true", help="write baseline.json")
    chosen = options.parse_args()
    made, before = read_baseline() if BASELINE.exists() else ({}, {})
    try:
        if differs := difference(made):
            print(f"{differs}; changes are shown all the same", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="hr-instructions-") as name:
            counter = Counter(Path(name))
            counts = {what: counter.count(what) for what in COUNTED}
    except FileNotFoundError as error:
        print(f"{error.filename} is not here (Debian, Ubuntu: apt-get install gcc valgrind)", file=sys.stderr)
        return 1
    print(f"{'':24} {'instructions':>14} {'':>7} {'calls outside':>14}")
    for what, count in counts.items():
        known = before.get(what)
        change = f"{count.instructions / known.instructions - 1:+.1%}" if known else ""
        print(f"{what:24} {count.instructions:14,.1f} {change:>7} {count.calls_outside:14,.1f}")
    if chosen.update:
        stored = {"environment": environment(), "counts": {what: asdict(count) for what, count in counts.items()}}
        BASELINE.write_text(json.dumps(stored, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
