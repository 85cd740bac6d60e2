"""What a swap costs in the host, beside plain dlopen and dlsym of the same file.

    python tests/bench/bench_swap.py [--rounds N]

Each round renames a new build into place and loads it; median and 95th percentile of microseconds from the start of
``hr_load`` to the first call of the new code, of its steps, and of the floor. The longest call that another thread saw,
during swaps and at rest, is the scheduler's doing as much as the shim's: compare the two.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "native"))

import cbuild

MODULES = 8


def quantiles(row: list[float]) -> tuple[float, float]:
    """The median and the 95th percentile."""
    ordered = sorted(row)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]


def build(directory: Path) -> tuple[Path, list[Path]]:
    """Returns the program and modules that differ in what they return."""
    program = cbuild.build_shim(directory / "shim").host(Path(__file__).resolve().parent / "swap.c", directory / "swap")
    modules = [
        cbuild.build_module(
            directory / f"bench-{version}.so",
            cbuild.module_source("bench", version, {"bench.step": f"*(int64_t *)output = {version}; return 0;"}),
        )
        for version in range(1, MODULES + 1)
    ]
    return program, modules


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--rounds", type=int, default=200)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="hr-bench-") as name:
        program, modules = build(Path(name))
        os.environ["XDG_STATE_HOME"] = name
        printed = cbuild.run([program, name, str(chosen.rounds), *modules])
    rows = {key: [float(number) for number in numbers] for key, *numbers in map(str.split, printed.splitlines())}
    floor, _ = quantiles(rows["dlopen"])
    print(f"{chosen.rounds} swaps, a caller in another thread; microseconds: median, 95th percentile")
    for key, label in (("dlopen", "plain dlopen and dlsym"), ("load", "hr_load to the first new call")):
        median, high = quantiles(rows[key])
        print(f"  {label:32} {median:9.1f} {high:9.1f} {median / floor:7.2f} x")
    for key, row in rows.items():
        if key.startswith("step:"):
            median, high = quantiles(row)
            print(f"    {key.removeprefix('step:'):30} {median:9.1f} {high:9.1f}")
    print(f"  longest call: {rows['worst:swapping'][0]:.1f} during swaps, {rows['worst:rest'][0]:.1f} at rest")
    return 0


if __name__ == "__main__":
    sys.exit(main())
