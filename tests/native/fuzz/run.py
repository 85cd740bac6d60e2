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
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import cbuild
import corpus

HERE = Path(__file__).resolve().parent
SANITIZERS = "-fsanitize=fuzzer,address,undefined"
TARGETS = ("preflight", "wire", "box")
LONGEST_INPUT = 65536


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
    make = corpus.modules if target == "preflight" else corpus.requests
    return make(scratch / "modules")


def fuzz(target: str, seconds: int, keep: Path) -> bool:
    """Runs one target; False when it found something."""
    found = keep / target
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hr-fuzz-") as name:
        scratch = Path(name)
        corpus.write(scratch / "seeds", seeds(target, scratch))
        program = build(target, scratch / target)
        for directory in ("run", "state"):
            (scratch / directory).mkdir(mode=0o700)
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(scratch / "run"), "XDG_STATE_HOME": str(scratch / "state")}
        # The leak check runs at the end only; a host keeps its modules, so memory grows with every one that is loaded.
        options = [f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", "-rss_limit_mb=8192", "-timeout=30"]
        command = [str(program), *options, f"-artifact_prefix={found}/found-", "-print_final_stats=1"]
        done = subprocess.run(
            [*command, str(found), str(scratch / "seeds")], env=environment, capture_output=True, text=True, check=False
        )
    executed = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    covered = re.findall(r"cov: (\d+)", done.stderr)
    print(
        f"{target:10} {seconds} s  {int(executed[1]) if executed else 0:>10,} inputs  "
        f"{covered[-1] if covered else 0} edges  {'nothing found' if done.returncode == 0 else 'FOUND, see below'}",
        flush=True,
    )
    if done.returncode != 0:
        print(done.stderr[-8000:], flush=True)
    return done.returncode == 0


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
