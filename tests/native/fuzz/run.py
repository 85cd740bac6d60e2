"""Runs the fuzz targets under libFuzzer with AddressSanitizer and UndefinedBehaviorSanitizer.

    run.py [TARGET...] [--seconds 60] [--keep DIRECTORY]

Each target starts from corpus.py's inputs and from what earlier runs kept in ``--keep`` (build/fuzz by default, where a
finding is written too). Any finding fails. Needs clang with its runtime libraries.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import cbuild
import corpus

HERE = Path(__file__).resolve().parent
SANITIZERS = "-fsanitize=fuzzer,address,undefined"
TARGETS = ("preflight", "layout", "wire", "box")
LONGEST_INPUT = 65536
LIVES = {"wire": 20_000}
"""Inputs after which a target's process ends and another one goes on with what was kept.

A host keeps every module that it has loaded, by design, and a process may have 65,530 mappings, of which each module
takes four or five: after 289,000 inputs of the wire, a life of 15 minutes, AddressSanitizer itself found none left.
Unloading would make room, but its scans read all of the sanitizer's memory after every swap.
"""


def build(target: str, output: Path) -> Path:
    """Compiles a target with the whole shim, instrumented."""
    command: list[str | Path] = ["clang", "-std=c11", "-O1", "-g", SANITIZERS, "-fno-sanitize-recover=all"]
    sources = [HERE / f"{target}.c", HERE / "target.c", *sorted(cbuild.SOURCES.glob("*.c"))]
    cbuild.run([*command, "-I", cbuild.INCLUDE, "-o", output, *sources, *cbuild.LIBRARIES])
    return output


def seeds(target: str, scratch: Path) -> Mapping[str, bytes]:
    """The target's first inputs."""
    if target == "box":
        return corpus.boxes()
    make = {"preflight": corpus.modules, "layout": corpus.layouts, "wire": corpus.requests}[target]
    return make(scratch / "modules")


@dataclass
class Told:
    """What the lives of a target have told."""

    inputs: int = 0
    edges: int = 0
    finding: str = ""

    def add(self, done: subprocess.CompletedProcess[str]) -> None:
        """Adds a life that has ended."""
        executed = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        covered = re.findall(r"cov: (\d+)", done.stderr)
        self.inputs += int(executed[1]) if executed else 0
        self.edges = max(self.edges, int(covered[-1]) if covered else 0)
        if done.returncode != 0:
            self.finding = done.stderr[-8000:]


def fuzz(target: str, seconds: int, keep: Path) -> bool:
    """Runs one target, in as many lives as it needs; False when it found something."""
    found = keep / target
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hr-fuzz-") as name:
        scratch = Path(name)
        corpus.write(scratch / "seeds", seeds(target, scratch))
        program = build(target, scratch / target)
        for directory in ("run", "state"):
            (scratch / directory).mkdir(mode=0o700)
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(scratch / "run"), "XDG_STATE_HOME": str(scratch / "state")}
        told, began = Told(), time.monotonic()
        while not told.finding and (left := seconds - int(time.monotonic() - began)) > 0:
            told.add(live(program, left, LIVES.get(target), (found, scratch / "seeds"), environment))
    verdict = "FOUND, see below" if told.finding else "nothing found"
    print(f"{target:10} {seconds} s  {told.inputs:>10,} inputs  {told.edges} edges  {verdict}", flush=True)
    if told.finding:
        print(told.finding, flush=True)
    return not told.finding


def live(
    program: Path, seconds: int, runs: int | None, corpora: tuple[Path, Path], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """One process of a target: it ends after ``seconds``, or after ``runs`` inputs beside those that were kept."""
    found = corpora[0]
    # Leaks are looked for when the process ends.
    options = [f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", "-rss_limit_mb=8192", "-timeout=30"]
    if runs is not None:
        options.append(f"-runs={runs + sum(len(list(directory.iterdir())) for directory in corpora)}")
    command = [str(program), *options, f"-artifact_prefix={found}/found-", "-print_final_stats=1"]
    return subprocess.run([*command, *map(str, corpora)], env=environment, capture_output=True, text=True, check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="how long each target runs")
    parser.add_argument("--keep", type=Path, default=cbuild.ROOT / "build" / "fuzz", help="where inputs are kept")
    chosen = parser.parse_args()
    if strange := set(chosen.targets) - set(TARGETS):
        parser.error(f"no target is called {', '.join(sorted(strange))}: {', '.join(TARGETS)}")
    if shutil.which("clang") is None:
        print("fuzzing needs clang with its runtime libraries (Debian: clang, libclang-rt-dev)", file=sys.stderr)
        return 2
    os.umask(0o022)  # a module that others may write to is refused
    sound = [fuzz(target, chosen.seconds, chosen.keep) for target in chosen.targets]  # all, whatever the first found
    return 0 if all(sound) else 1


if __name__ == "__main__":
    raise SystemExit(main())
