"""How much later a module is live because its types are compared by debug info.

    python tests/bench/bench_debug_info.py [--rounds N] [--check]

From the rename of a new build to its first call in a real host under ``hotreload watch``, in one run, the ways taking
turns: with ``--no-debug-info``, with debug info compared, and with descriptions in host and module, which the shim
compares and for which no debug info is read. All are compiled with ``-g``. Small modules have the host's struct alone;
large ones 1,500 more, whose debug info takes longer to read than a swap may wait: what such a comparison finds is told
after the swap. Every build is a new one, so that nothing is known from an earlier round but the host.

Bound: the comparison delays no swap by more than 20 ms; ``--check`` fails where the median or the 95th percentile is
later by more than that. On a busy machine every process waits for its turn, with ``--no-debug-info`` as well.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_latency import Stage

BOUND_MS = 20.0
MANY = 1500
WARM_ROUNDS = 3
"""The first comparison starts the reader and reads the host."""
STRUCTS = "".join(f"struct s{i} {{{{ int a; float b; struct s{i} *next; }}}} *used{i};\n" for i in range(MANY))
SOURCE = """\
#include <hotreload/patch.h>
#include "latency.h"
MORE
static int32_t value(void *state, const void *in, void *out) {{
    latency_state *own = state;
    (void)in;
    own->count++;
    *(int64_t *)out = {number};
    return 0;
}}
HR_MODULE("latency", {number}, HR_PATCH("latency.value", value))
#ifdef DESCRIBED
HR_MODULE_LAYOUT(HR_TYPE(latency_state), LATENCY_TAKES)
#endif
"""


@dataclass(frozen=True)
class Way:
    """How modules of one kind are built and watched; ``base`` is the way that it is compared with."""

    label: str
    base: str
    flags: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    large: bool = False


OFF = ("--no-debug-info",)
WAYS: Mapping[str, Way] = {
    "off": Way("small, --no-debug-info", "off", options=OFF),
    "on": Way("small, debug info compared", "off"),
    "described": Way("small, described", "off", flags=("-DDESCRIBED",)),
    "large-off": Way("large, --no-debug-info", "large-off", options=OFF, large=True),
    "large-on": Way("large, debug info compared", "large-off", large=True),
    "large-described": Way("large, described", "large-off", flags=("-DDESCRIBED",), large=True),
}


def start(way: Way, directory: Path) -> Stage:
    """A host and a watcher for one way."""
    directory.mkdir()
    source = SOURCE.replace("MORE", STRUCTS if way.large else "")
    flags = ("-g", "-I", str(Path(__file__).resolve().parent), *way.flags)
    return Stage(directory, source=source, flags=flags, options=way.options)


def swap(stage: Stage) -> float:
    """Milliseconds from the rename of a new module to its first call."""
    stage.number += 1
    began = stage.rename(stage.number)
    taken = (stage.live(stage.number) - began) / 1e6
    stage.wait_for("swap")
    return taken


def measure(rounds: int) -> dict[str, list[float]]:
    """The milliseconds of each way, one a round."""
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    stages: dict[str, Stage] = {}
    with tempfile.TemporaryDirectory(prefix="hr-") as name:
        try:
            for way, how in WAYS.items():
                stages[way] = start(how, Path(name) / way)
            for number in range(WARM_ROUNDS + rounds):
                for way, stage in stages.items():
                    each = swap(stage)
                    if number >= WARM_ROUNDS:
                        taken[way].append(each)
        finally:
            for stage in stages.values():
                stage.end()
    return taken


def p95(row: list[float]) -> float:
    """The 95th percentile."""
    return sorted(row)[min(len(row) - 1, len(row) * 95 // 100)]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--rounds", type=int, default=40)
    options.add_argument("--check", action="store_true", help="fail when the bound is missed")
    given = options.parse_args()
    os.umask(0o022)  # a module that others may write to is refused
    taken = measure(given.rounds)
    print(f"{given.rounds} rebuilds, ms from the rename to the first call; beside them the ratios to --no-debug-info")
    print(f"{'':32} {'median':>8} {'p95':>8} {'ratio':>7} {'of p95':>7}   {'later, median':>13} {'p95':>8}")
    worst = 0.0
    for name, row in taken.items():
        base = taken[WAYS[name].base]
        now, before = (statistics.median(row), p95(row)), (statistics.median(base), p95(base))
        ratios = f"{now[0] / before[0]:7.2f} {now[1] / before[1]:7.2f}"
        later = f"{now[0] - before[0]:13.2f} {now[1] - before[1]:8.2f}"
        print(f"{WAYS[name].label:32} {now[0]:8.2f} {now[1]:8.2f} {ratios}   {later}")
        worst = max(worst, now[0] - before[0], now[1] - before[1])
    verdict = "kept" if worst <= BOUND_MS else "MISSED"
    print(f"bound: {BOUND_MS:.0f} ms later at most, of medians and of 95th percentiles: {verdict}")
    return 1 if given.check and verdict != "kept" else 0


if __name__ == "__main__":
    sys.exit(main())
