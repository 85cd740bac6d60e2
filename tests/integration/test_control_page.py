"""Every snippet of the page about control from outside, beside a real host."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable

from documents import blocks, reader_environment
from integration.harness import PATIENCE_SECONDS, Bench

from hotreload import codes
from hotreload.commands.metrics import DEFAULT

PAGE = (codes.PAGES / "control.md").read_text(encoding="utf-8")
SNIPPETS = {block.label: block.text for block in blocks(PAGE)}


def run(bench: Bench, label: str) -> str:
    """A snippet's output."""
    environment = {**reader_environment(bench.home, bench.run), "XDG_STATE_HOME": str(bench.state)}
    done = subprocess.run(
        ["bash", "-euc", SNIPPETS[label]],
        cwd=bench.work, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done
    return done.stdout


def test_all_snippets_are_run() -> None:
    assert set(SNIPPETS) == {"run: events", "run: hooks", "run: metrics", "run: history"}


def test_events_and_metrics(bench: Bench) -> None:
    bench.host("game")
    assert bench.call("load", bench.module(1)).code == 0
    assert bench.call("load", bench.module(2, on_load="return 1;")).code == 3
    told = [line for line in run(bench, "run: events").splitlines() if not line.startswith("called ")]
    assert told == ["swap m 1 ok", "reject m 2 E-ON-LOAD"]
    metrics = run(bench, "run: metrics")
    assert re.search(r'^hotreload_slot_version\{host="game",pid="\d+",slot="a"\} 1\.0$', metrics, re.MULTILINE)
    assert 'code="E-ON-LOAD"' in metrics and DEFAULT in PAGE
    scraped = bench.call("metrics", "--once").out
    named = set(re.findall(r"`(hotreload_\w+)`", PAGE))
    assert named == {f"hotreload_{name}" for name in re.findall(r"^hotreload_(\w+)(?=\{| )", scraped, re.MULTILINE)
                     if not name.endswith("_created")} | {"hotreload_crashes_total"}  # fmt: skip


def test_hooks(bench: Bench) -> None:
    (bench.work / "build").mkdir()
    bench.host("game")
    environment = {**reader_environment(bench.home, bench.run), "XDG_STATE_HOME": str(bench.state)}
    with subprocess.Popen(
        ["bash", "-c", f"exec {SNIPPETS['run: hooks']}"], cwd=bench.work, env=environment, stdout=subprocess.DEVNULL
    ) as watch:
        swaps, refusals = bench.work / "swaps.log", bench.work / "refusals.jsonl"
        bench.put(bench.module(1), directory=bench.work / "build")
        wait(lambda: swaps.exists() and swaps.read_text() == "m v1 runs in game\n")
        bench.put(bench.module(2, on_load="return 1;"), directory=bench.work / "build")
        wait(lambda: refusals.exists() and refusals.read_text().endswith("\n"))
        watch.terminate()
    assert json.loads(refusals.read_text())["code"] == "E-ON-LOAD"


def wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        assert time.monotonic() < deadline, "never"
        time.sleep(0.05)


def test_history(bench: Bench) -> None:
    build = bench.work / "build"
    build.mkdir()
    host = bench.host("game")
    for version, name in ((1, "first.so"), (2, "second.so")):
        bench.put(bench.module(version), name, build)
    told = run(bench, "run: history")
    host.runs(a=1)
    assert "v2" in told and host.history("a")[:3] == [0, 1, 2]
