"""Hooks, bell and notifications of a real `hotreload watch`."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from pathlib import Path

from integration.harness import PATIENCE_SECONDS, Bench


def lines(path: Path, count: int) -> list[str]:
    """Waits until a file has this many lines."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = path.read_text().splitlines() if path.exists() else []
        if len(found) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{path} has not {count} lines")


def test_hooks(bench: Bench) -> None:
    swaps, refusals = bench.work / "swaps", bench.work / "refusals"
    host = bench.host("game")
    watch = bench.watch(
        "--on-swap", f"cat >> {swaps}", "--on-reject", f'echo "$HR_CODE $HR_MODULE $HR_HOST" >> {refusals}'
    )
    watch.event("attach")
    bench.put(bench.module(1))
    (swap,) = map(json.loads, lines(swaps, 1))
    assert swap == watch.event("swap", version=1), "the hook receives the very event"
    bench.put(bench.module(2, on_load="return 7;"))
    assert lines(refusals, 1) == ["E-ON-LOAD m game"]
    bench.put(bench.module(3))
    assert [json.loads(line)["module"]["version"] for line in lines(swaps, 2)] == [1, 3]
    host.check_state()


def test_a_hook_that_hangs_holds_up_no_swap(bench: Bench) -> None:
    host = bench.host()
    watch = bench.watch("--plain", "--on-swap", f"echo $$ > {bench.work}/pid; exec sleep 1000")
    watch.says("attach")
    for version in (1, 2, 3):
        bench.put(bench.module(version))
        host.runs(a=version)
    began = time.monotonic()
    assert watch.interrupt() == 130
    assert time.monotonic() - began < PATIENCE_SECONDS
    (pid,) = lines(bench.work / "pid", 1)
    command = Path(f"/proc/{pid}/cmdline")
    assert not command.exists() or "sleep" not in command.read_text(), "nothing that a hook started is left"


def test_a_failing_hook_is_told_of(bench: Bench) -> None:
    bench.host()
    watch = bench.watch("--plain", "--on-swap", "echo no such luck; exit 9")
    bench.put(bench.module(1))
    watch.says("on_swap | no such luck")
    watch.says("on_swap failed with exit code 9")


def test_a_failing_hook_is_told_of_beside_json(bench: Bench) -> None:
    """On standard error: standard output is for events alone."""
    bench.host()
    watch = bench.watch("--json", "--on-swap", "echo no such luck; exit 9")
    bench.put(bench.module(1))
    watch.errors.find(lambda line: line == "on_swap | no such luck")
    watch.errors.find(lambda line: line == "on_swap failed with exit code 9")
    assert watch.event("swap")


def test_the_bell_and_the_terminals_notification(bench: Bench) -> None:
    """On a terminal as standard error alone: what goes to standard output stays JSON."""
    bench.host()
    reader, writer = pty.openpty()
    environment = {
        name: value
        for name, value in bench.environment().items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS")
    }
    command = bench.command("watch", "--json", "--bell", "--notify", bench.out)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writer, env=environment, text=True) as watch:
        os.close(writer)
        bench.put(bench.module(1))
        seen = b""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (b"\a" in seen and b"\x1b]9;m v1 " in seen) and time.monotonic() < deadline:
            if select.select([reader], [], [], 0.1)[0]:
                seen += os.read(reader, 4096)
        watch.terminate()
        assert watch.stdout is not None
        told = [json.loads(line) for line in watch.stdout.read().splitlines()]
    os.close(reader)
    assert b"\a" in seen and b" swapped: a v0" in seen, seen
    assert "swap" in [each["event"] for each in told]
