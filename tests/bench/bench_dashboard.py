"""What the dashboard costs: its share of one core while 1,000 slots change their counters before every frame.

    python tests/bench/bench_dashboard.py [SECONDS]

It draws 100 x 30 into a pseudo-terminal that is read all the time, four times a second, and counts the processor time
of the dashboard's thread. The producer's own work (which is the runner's) is printed beside it.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
import threading
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from scenes import NOW, many, rejected  # noqa: E402

from hotreload.meter import HostView  # noqa: E402
from hotreload.reporters import dashboard, ui  # noqa: E402

SLOTS = 1000
BUDGET = 0.02
SAMPLE_SECONDS = 0.05
"""More often than frames, so that every frame finds something new."""


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    print(f"dashboard, {SLOTS} slots, 100 x 30, counters changing every {SAMPLE_SECONDS * 1000:.0f} ms")
    for sort in (ui.Sort.NAME, ui.Sort.RATE):
        share, frames, size, producer = measure(seconds / 2, sort)
        verdict = "within" if share < BUDGET else "OVER"
        print(
            f"  sort {sort.value:<8} {share:6.2%} of a core ({verdict} the budget of {BUDGET:.0%}), "
            f"{frames / (seconds / 2):.1f} frames/s, {size / max(1, frames) / 1024:.1f} KiB a frame; "
            f"producer {producer:.2%}"
        )


def measure(seconds: float, sort: ui.Sort) -> tuple[float, int, int, float]:
    """Share of a core, frames, bytes written, and the share of the thread that feeds it."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    size = [0]
    reader = threading.Thread(target=_read, args=(master, size), daemon=True)
    reader.start()
    terminal = os.fdopen(slave, "w", encoding="utf-8")
    shown = Counted(Console(file=terminal, force_terminal=True, color_system="256"), None, lambda command: None)
    shown._ui = ui.Ui(sort=sort)
    view, state = many(SLOTS), rejected()
    shown.update(state, {view.snapshot.host.pid: view})
    shown.start()
    start, used = time.monotonic(), time.thread_time()
    while time.monotonic() - start < seconds:
        time.sleep(SAMPLE_SECONDS)
        last = view.snapshot
        calls = tuple(total + row % 977 for row, total in enumerate(last.calls))
        view.meter.observe(snapshot := replace(last, time=last.time + SAMPLE_SECONDS, calls=calls))
        view = HostView(snapshot, view.meter)
        shown.update(replace(state, swaps=int(snapshot.time - NOW)), {snapshot.host.pid: view})
    elapsed, used = time.monotonic() - start, time.thread_time() - used
    shown.close()
    terminal.close()
    os.close(master)
    return shown.seconds / elapsed, shown.frames, size[0], used / elapsed


class Counted(dashboard.Dashboard):
    """Counts the frames, and the processor time of the whole drawing thread: listening, rendering, writing."""

    frames = 0
    seconds = 0.0

    def _loop(self) -> None:
        super()._loop()
        self.seconds = time.thread_time()

    def _draw(self) -> None:
        super()._draw()
        self.frames += 1


def _read(master: int, size: list[int]) -> None:
    try:
        while data := os.read(master, 65536):
            size[0] += len(data)
    except OSError:
        return


if __name__ == "__main__":
    main()
