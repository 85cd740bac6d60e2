"""From the writer's last system call to the candidate: median, 95th percentile and maximum of 100 rounds a writer.

    python tests/bench/bench_watcher.py [ROUNDS]

The floor is the work that no watcher can leave out, on the same file: two looks for writers, reading and preflight.
The last line is the processor time of a watcher that has nothing to do.
"""

from __future__ import annotations

import os
import queue
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hotreload import native
from hotreload.model import Candidate, Manifest, Settled
from hotreload.watcher import Watcher, WatcherEvent

ROUNDS = 100
IDLE_SECONDS = 5.0
INCLUDE = Path(__file__).resolve().parents[2] / "shim" / "include"
SOURCE = """\
#include <hotreload/patch.h>
static int32_t step(void *state, const void *in, void *out) {{ return {version}; }}
HR_MODULE("bench", {version}, HR_PATCH("bench.step", step))
"""

Write = Callable[[Path, Path], float]
"""Writes a module to a name; returns when its last system call began, by ``time.monotonic()``."""


def copy(module: Path, output: Path) -> float:
    data = module.read_bytes()
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o755)
    os.write(file, data)
    began = time.monotonic()
    os.close(file)
    return began


def link(module: Path, output: Path) -> float:
    """As cargo does it."""
    output.unlink(missing_ok=True)
    began = time.monotonic()
    os.link(module, output)
    return began


def rename(module: Path, output: Path) -> float:
    """As mold, lld and rsync do it."""
    scratch = output.with_name("scratch")
    copy(module, scratch)
    began = time.monotonic()
    scratch.rename(output)
    return began


def build(directory: Path, rounds: int) -> list[Path]:
    """One module a round, so that none has the content of another."""
    modules = []
    for version in range(1, rounds + 1):
        source = directory / f"{version}.c"
        source.write_text(SOURCE.format(version=version))
        modules.append(directory / f"{version}.so")
        command = ["gcc", "-shared", "-fPIC", "-O2", "-I", INCLUDE, "-o", modules[-1], source]
        subprocess.run(command, check=True)
    return modules


def measure(write: Write, modules: list[Path], output: Path) -> list[float]:
    """Milliseconds from each write to its candidate."""
    events: queue.SimpleQueue[WatcherEvent] = queue.SimpleQueue()
    watcher = Watcher([output.parent], events.put, existing=False)
    watcher.start()
    times = []
    for version, module in enumerate(modules, 1):
        began = write(module, output)
        candidate = next_candidate(events)
        if candidate.manifest is None or candidate.manifest.module.version != version:
            sys.exit(f"round {version}: {candidate}")
        times.append((candidate.settled - began) * 1e3)
        time.sleep(0.005)  # rebuilds do not follow each other without a pause
    watcher.stop()
    output.unlink()
    return times


def next_candidate(events: queue.SimpleQueue[WatcherEvent]) -> Candidate:
    while not isinstance(event := events.get(timeout=10.0), Settled):
        pass
    return event.candidates[0]


def floor(modules: list[Path]) -> list[float]:
    times = []
    for module in modules:
        began = time.monotonic()
        for step in (native.settled, native.inspect, native.settled):
            answer = step(module)
            if answer is not None and not isinstance(answer, Manifest):
                sys.exit(f"{module.name}: {answer}")
        times.append((time.monotonic() - began) * 1e3)
    return times


def idle(directory: Path) -> float:
    """Percent of one processor."""
    watcher = Watcher([directory, directory / "later" / "release"], lambda event: None)
    watcher.start()
    time.sleep(1.0)
    used, began = time.process_time(), time.monotonic()
    time.sleep(IDLE_SECONDS)
    percent = (time.process_time() - used) / (time.monotonic() - began) * 100
    watcher.stop()
    return percent


def row(name: str, times: list[float], base: float) -> str:
    ordered = sorted(times)
    median = statistics.median(ordered)
    p95 = ordered[int(len(ordered) * 0.95) - 1]
    return f"{name:<22} {median:7.2f} ms {p95:7.2f} ms {ordered[-1]:7.2f} ms {median / base:7.1f}"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as name:
        modules = build(Path(name), rounds)
        output = Path(name) / "out" / "bench.so"
        output.parent.mkdir()
        least = floor(modules)
        print(f"{'last call to candidate':<22} {'median':>10} {'p95':>10} {'max':>10} {'/ floor':>7}")
        print(row("(floor)", least, statistics.median(least)))
        for write in (copy, link, rename):
            print(row(write.__name__, measure(write, modules, output), statistics.median(least)))
        print(f"idle: {idle(output.parent):.3f} % of one processor")


if __name__ == "__main__":
    main()
