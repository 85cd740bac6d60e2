"""What the layout check costs a load: two descriptions of structs compared, against a bare loop over the same names.

    python tests/bench/bench_layout.py [--structs 100] [--rounds N]

Twelve fields a struct. "differing": a tenth of the structs has another field in front. The budget of the check is 100
microseconds for 100 structs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "native"))

import cbuild

BUDGET_US = 100.0


def build(directory: Path) -> Path:
    """The program, with the comparison alone: pure code, which needs no more of the shim."""
    program = directory / "layout"
    source = Path(__file__).resolve().parent / "layout.c"
    cbuild.run([cbuild.cc(), "-O2", *cbuild.WARNINGS, "-I", cbuild.INCLUDE, "-o", program, source, *cbuild.LAYOUTS])
    return program


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--structs", type=int, default=100)
    options.add_argument("--rounds", type=int, default=2000)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="hr-bench-") as name:
        printed = cbuild.run([build(Path(name)), str(chosen.structs), str(chosen.rounds)])
    rows: dict[str, list[float]] = {}
    for line in printed.splitlines():
        what, nanoseconds = line.split()
        rows.setdefault(what, []).append(int(nanoseconds) / 1000)
    floor = statistics.median(rows["floor"])
    print(f"{chosen.structs} structs of 12 fields, {chosen.rounds} rounds; microseconds: median, 95th percentile")
    for what, label in (("floor", "a loop over names and numbers"), ("equal", "equal"), ("differing", "differing")):
        ordered = sorted(rows[what])
        median, high = statistics.median(ordered), ordered[len(ordered) * 95 // 100]
        print(f"  {label:32} {median:8.1f} {high:8.1f} {median / floor:7.2f} x")
    median = statistics.median(rows["equal"])
    print(f"  budget for 100 structs: {BUDGET_US:.0f} us, {'kept' if median < BUDGET_US else 'MISSED'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
