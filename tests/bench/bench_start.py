"""How long `hotreload --version` and `--help` take, as ratios to the bare interpreter's start.

    python tests/bench/bench_start.py [ROUNDS]

Exits with 1 when one of them takes 2.5 times the bare start or more (the budget). The rounds go through all commands in
turn, so that a busy machine slows all of them down alike; the medians are compared.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

BUDGET = 2.5
ROUNDS = 30
SCRIPT = Path(sys.executable).with_name("hotreload")
BARE = "python -c pass"


def commands() -> dict[str, list[str]]:
    """What is measured; the installed script as well where there is one."""
    module = [sys.executable, "-m", "hotreload"]
    found = {
        BARE: [sys.executable, "-c", "pass"],
        "python -m hotreload --version": [*module, "--version"],
        "python -m hotreload --help": [*module, "--help"],
    }
    if SCRIPT.is_file():
        found["hotreload --version"] = [str(SCRIPT), "--version"]
        found["hotreload --help"] = [str(SCRIPT), "--help"]
    return found


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    measured = commands()
    for command in measured.values():
        seconds(command)  # writes .pyc files, fills the page cache
    times: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(rounds):
        for name, command in measured.items():
            times[name].append(seconds(command))

    bare = median(times[BARE])
    print(f"start-up, median of {rounds}; budget {BUDGET} times the bare interpreter")
    for name, taken in times.items():
        print(f"  {name:32} {median(taken) * 1000:6.1f} ms  {median(taken) / bare:5.2f} x")
    return int(any(median(taken) / bare >= BUDGET for taken in times.values()))


if __name__ == "__main__":
    sys.exit(main())
