"""A small program that shows a session on its terminal, or as plain lines in a pipe, and obeys the dashboard's keys.

    python dashboard_program.py SCENE LOG

It appends each command that a key gave to LOG, changes its state as a session would, and ends on Quit. With FORGET in
its environment it does not close the dashboard, with IGNORE_HANGUP it outlives its terminal.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from rich.console import Console  # noqa: E402
from scenes import HOST, child, failed_build, many, rejected, session, synth  # noqa: E402

from hotreload.meter import HostView  # noqa: E402
from hotreload.model import EventKind, Record  # noqa: E402
from hotreload.reporters import Reporter  # noqa: E402
from hotreload.reporters.dashboard import Dashboard  # noqa: E402
from hotreload.reporters.plain import PlainReporter  # noqa: E402
from hotreload.session import Clear, Command, Dismiss, Quit, RollBack, State, TogglePause  # noqa: E402

SCENES = {
    "normal": lambda: (session(), synth()),
    "rejected": lambda: (rejected(), synth()),
    "many": lambda: (session(), many()),
    "busy": lambda: (rejected(build=failed_build(), child=child()), synth()),
}


def main() -> None:
    if "IGNORE_HANGUP" in os.environ:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    state, view = SCENES[sys.argv[1]]()
    log = Path(sys.argv[2])
    commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
    console = Console()
    reporter: Reporter
    on_terminal = console.is_terminal  # asked once: a terminal that has vanished is none any more
    if on_terminal:
        reporter = Dashboard(console, sys.stdin.fileno(), commands.put)
    else:
        reporter = PlainReporter(console)
    reporter.start()
    for record in state.records:
        reporter.record(record)
    try:
        while on_terminal:
            view = advance(view)
            reporter.update(state, {HOST.pid: view})
            try:
                command = commands.get(timeout=0.1)
            except queue.Empty:
                continue
            with log.open("a", encoding="utf-8") as file:
                print(command, file=file)
            if isinstance(command, Quit):
                break
            state = obey(state, command)
    finally:
        if "FORGET" not in os.environ:
            reporter.close()
    print("the program has ended")


def advance(view: HostView) -> HostView:
    """A tenth of a second later; every slot but the last was called."""
    last = view.snapshot
    calls = [count + (row * 7 + 3) * (row < len(last.calls) - 1) for row, count in enumerate(last.calls)]
    snapshot = replace(last, time=last.time + 0.1, calls=calls)
    view.meter.observe(snapshot)
    return HostView(snapshot, view.meter)


def obey(state: State, command: Command) -> State:
    """What a session would do."""
    if isinstance(command, TogglePause):
        return replace(state, paused=not state.paused)
    if isinstance(command, Dismiss):
        return replace(state, rejection=None)
    if isinstance(command, Clear):
        return replace(state, records=())
    if isinstance(command, RollBack):
        record = Record(EventKind.ROLLBACK, time.time(), HOST, reason="the previous code is back")
        return replace(state, records=(*state.records, record), rollbacks=state.rollbacks + 1)
    return state


if __name__ == "__main__":
    main()
