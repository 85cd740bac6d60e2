"""What a slot call costs beside a plain function pointer, a read lock, and a lock plus hash map.

    python tests/bench/bench_call.py [--calls N] [--repetitions N] [--threads 1,2,4] [--check]

Every way calls the same function of the same loaded module. All ways run interleaved in one process for each number of
threads; printed are medians of nanoseconds per call (of the threads' own processor time) and of the ratios to the plain
pointer of the same repetition. The budget is 1.3 times the plain pointer (DESIGN.md section 4), for programs linked
with the archive and with the shared library, and 1.5 times while calls are sampled. ``--check`` makes missing one an
error.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "native"))

import cbuild

BUDGET = 1.3
BUDGETS = {"slot": BUDGET, "frame": BUDGET, "sampled": 1.5}
LABELS = {
    "plain": "plain function pointer",
    "slot": "hr_call",
    "frame": "hr_frame_call, 16 a frame",
    "outline": "hr_call_slot (not inlined)",
    "sampled": "hr_call, one in 256 timed",
    "lock": "pointer under a read lock",
    "map": "read lock and hash map",
}

# The least that a patch does: with a callee that does more, every way but the locks looks equally good.
LEAF = "*(int64_t *)output = *(const int64_t *)input * 3; return 0;"
# A counter: what the examples do.
COUNTER = "int64_t *total = opaque; *total += *(const int64_t *)input; *(int64_t *)output = *total; return 0;"


@dataclass(frozen=True)
class Result:
    """Medians of one way: nanoseconds per call and the ratio to the plain pointer."""

    nanoseconds: float
    ratio: float


def measure(program: Path, module: Path, threads: int, repetitions: int, calls: int) -> dict[str, Result]:
    """Runs the program once and returns each way's medians."""
    printed = cbuild.run([program, module, str(threads), str(repetitions), str(calls)])
    rows = {name: [float(number) for number in numbers] for name, *numbers in map(str.split, printed.splitlines())}
    return {
        name: Result(
            statistics.median(row),
            statistics.median(way / plain for way, plain in zip(row, rows["plain"], strict=True)),
        )
        for name, row in rows.items()
    }


def build(directory: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Returns the programs by the way that they are linked, and the modules by what their function does."""
    shim = cbuild.build_shim(directory / "shim")
    source = Path(__file__).resolve().parent / "call.c"
    programs = {
        "static": shim.host(source, directory / "call-static"),
        "shared": shim.host(source, directory / "call-shared", shared=True),
    }
    modules = {
        name: cbuild.build_module(directory / f"{name}.so", cbuild.module_source("bench", 1, {"bench.step": body}))
        for name, body in (("leaf", LEAF), ("counter", COUNTER))
    }
    return programs, modules


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--calls", type=int, default=2_000_000, help="calls of one thread in one repetition")
    options.add_argument("--repetitions", type=int, default=11)
    options.add_argument("--threads", default="1,2,4")
    options.add_argument("--check", action="store_true", help="fail when a budget is missed")
    chosen = options.parse_args()
    missed = []
    with tempfile.TemporaryDirectory(prefix="hr-bench-") as name:
        programs, modules = build(Path(name))
        for link, program in programs.items():
            for callee, module in modules.items():
                for threads in map(int, chosen.threads.split(",")):
                    print(f"\n{link} shim, {callee} function, {threads} thread{'s' if threads > 1 else ''}")
                    results = measure(program, module, threads, chosen.repetitions, chosen.calls)
                    for way, result in results.items():
                        budget = BUDGETS.get(way, float("inf"))
                        over = result.ratio > budget
                        mark = f"  over the budget of {budget}" if over else ""
                        print(
                            f"  {LABELS[way]:28} {result.nanoseconds:8.2f} ns {result.ratio:7.2f} x{mark}", flush=True
                        )
                        if over:
                            missed.append(f"{way}, {link}, {callee}, {threads}: {result.ratio:.2f}")
    if missed:
        print("\nover the budget: " + "; ".join(missed))
    return 1 if missed and chosen.check else 0


if __name__ == "__main__":
    sys.exit(main())
