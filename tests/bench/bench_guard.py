"""What a guarded call costs beside a plain function pointer and beside a slot without options, in one run.

    python tests/bench/bench_guard.py [--calls N] [--repetitions N] [--check]

Medians of the difference to the plain pointer of the same repetition, in nanoseconds of processor time, and of the
ratio to it. Budget: a call on probation takes less than 15 ns more than a plain one; ``--check`` makes missing it an
error. ``copied`` also copies 256 bytes of state that the host declared as the call's own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "native"))

import cbuild

BUDGET_NS = 15.0
LABELS = {
    "plain": "plain function pointer",
    "off": "hr_call, no option on",
    "guarded": "hr_call, on probation",
    "copied": "hr_call, on probation, 256 bytes of state",
}
BODY = "*(int64_t *)output = *(const int64_t *)input * 3; return 0;"


def measure(repetitions: int, calls: int) -> dict[str, list[float]]:
    """Each way's nanoseconds per call, one a repetition."""
    with tempfile.TemporaryDirectory(prefix="hr-") as name:
        directory = Path(name)
        source = Path(__file__).resolve().parent / "guard.c"
        program = cbuild.build_shim(directory / "shim").host(source, directory / "guard")
        modules = [
            cbuild.build_module(directory / f"{slot}.so", cbuild.module_source(slot, 1, {f"{slot}.step": BODY}))
            for slot in ("off", "on")
        ]
        printed = cbuild.run([program, *modules, str(repetitions), str(calls)])
    return {way: [float(number) for number in numbers] for way, *numbers in map(str.split, printed.splitlines())}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--calls", type=int, default=2_000_000, help="calls in one repetition")
    options.add_argument("--repetitions", type=int, default=11)
    options.add_argument("--check", action="store_true", help="fail when the budget is missed")
    given = options.parse_args()
    times = measure(given.repetitions, given.calls)
    plain = times["plain"]
    print(f"{'way':<44} {'ns':>7} {'more, ns':>9} {'ratio':>7}")
    more = {}
    for way, row in times.items():
        more[way] = statistics.median(each - base for each, base in zip(row, plain, strict=True))
        ratio = statistics.median(each / base for each, base in zip(row, plain, strict=True))
        print(f"{LABELS[way]:<44} {statistics.median(row):7.2f} {more[way]:9.2f} {ratio:7.2f}")
    verdict = "kept" if more["guarded"] < BUDGET_NS else "MISSED"
    print(f"budget of a guarded call: {BUDGET_NS:.0f} ns more than a plain one: {verdict}")
    return 1 if given.check and verdict != "kept" else 0


if __name__ == "__main__":
    sys.exit(main())
