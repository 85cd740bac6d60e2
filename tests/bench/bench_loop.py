"""The loop that people live in, per language: from the save of a source to the new code live, and our share of it.

    python tests/bench/bench_loop.py [--rounds N] [--lang LANGUAGE]...

For each language a project of `hotreload new` with a real `hotreload dev`. "save to live" is from the file's rename to
the host's answer that the new code is published, as the swap event tells it; "build" is the build command in it, and
"ours" all the rest but the module's own dlopen: noticing the save and starting the build, finding its outputs and
bringing them to the host (deliver), the private copy (stage), preflight and the other checks, on_load and commit.
Beside them what nobody could save: the dlopen, and a plain copy of such a file to the same file system. "bare build" is
the same command after the same edits in the same directory with nobody watching: what a save costs without us.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LANGUAGES = {
    "c": ("make", "patch.c", "STEP 10", "STEP {}"),
    "cpp": ("make", "patch.cpp", "STEP = 10;", "STEP = {};"),
    "rust": ("cargo", "crates/patch/src/lib.rs", "i64 = 10;", "i64 = {};"),
    "python": ("make", "patch.c", "STEP 10", "STEP {}"),
    "zig": ("zig", "src/patch.zig", "step = 10;", "step = {};"),
}
PATIENCE_SECONDS = 600.0
PARTS = {
    "notice": ("notice",),
    "deliver": ("deliver",),
    "stage": ("stage",),
    "checks": ("preflight", "layout", "same", "check"),
    "commit": ("on_load", "commit"),
}


class Loop:
    """A new project with its `dev` running."""

    def __init__(self, scratch: Path, language: str) -> None:
        _, source, self.old, self.new = LANGUAGES[language]
        self.tool = [sys.executable, "-m", "hotreload"]
        (scratch / "run").mkdir(mode=0o700)
        self.environment = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(scratch / "run"),
            "XDG_STATE_HOME": str(scratch / "state"),
            "XDG_CONFIG_HOME": str(scratch),
            "HOTRELOAD": " ".join(self.tool),
        }
        subprocess.run([*self.tool, "new", "loop", "--lang", language], cwd=scratch, check=True, capture_output=True)
        self.project = scratch / "loop"
        self.source = self.project / source
        self.text = self.source.read_text(encoding="utf-8")
        settings = (self.project / "hotreload.toml").read_text(encoding="utf-8")
        self.build = settings.split('build = "')[1].split('"')[0]
        self.step = 10
        self.output = Path()
        """The module that was swapped in last."""
        self.dev: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.dev = subprocess.Popen(
            [*self.tool, "dev", "--json"], cwd=self.project, env=self.environment, stdout=subprocess.PIPE, text=True
        )
        self.swap()

    def swap(self) -> dict[str, Any]:
        """Waits for the next swap."""
        assert self.dev and self.dev.stdout
        for line in self.dev.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "swap":
                self.output = Path(event["module"]["path"])
                return event
            assert event["event"] != "reject" and "code" not in event, line
        raise AssertionError("dev has ended")

    def save(self) -> None:
        self.step += 1
        draft = self.source.with_name("draft")
        draft.write_text(self.text.replace(self.old, self.new.format(self.step)), encoding="utf-8")
        draft.replace(self.source)

    def bare(self) -> float:
        """Seconds of the build command alone after the same edit, with nobody watching."""
        self.save()
        began = time.monotonic()
        subprocess.run(self.build, shell=True, cwd=self.project, env=self.environment, check=True, capture_output=True)
        return time.monotonic() - began

    def stop(self) -> None:
        if self.dev:
            self.dev.terminate()
            self.dev.communicate(timeout=PATIENCE_SECONDS)


def plain_copy(output: Path, copy: Path, rounds: int) -> tuple[int, float]:
    """Bytes of a module, and the median of milliseconds that copying them to a new file takes here: the least that a
    private copy costs."""
    times = []
    for _ in range(rounds):
        copy.unlink(missing_ok=True)
        began = time.monotonic()
        shutil.copyfile(output, copy)
        times.append(time.monotonic() - began)
    return output.stat().st_size, statistics.median(times) * 1000


def measure(language: str, rounds: int) -> str:
    with tempfile.TemporaryDirectory(prefix="hrl-") as scratch:
        loop = Loop(Path(scratch), language)
        began = time.monotonic()
        loop.start()
        first = time.monotonic() - began
        told = []
        try:
            for _ in range(rounds):
                loop.save()
                told.append(loop.swap()["us"])
        finally:
            loop.stop()
        bare = statistics.median(loop.bare() for _ in range(rounds))
        size, copied = plain_copy(loop.output, Path(scratch) / "copy", rounds)
    live = statistics.median(us["loop"] for us in told) / 1000
    build = statistics.median(us["build"] for us in told) / 1000
    ours = sorted((us["loop"] - us["build"] - us["open"]) / 1000 for us in told)
    p95 = ours[min(len(ours) - 1, round(0.95 * len(ours)))]
    parts = {name: statistics.median(sum(us[each] for each in of) for us in told) / 1000 for name, of in PARTS.items()}
    floor = statistics.median(us["open"] for us in told) / 1000
    return (
        f"{language:6} {live:9.1f} {build:9.1f} {statistics.median(ours):7.1f} {p95:7.1f} {bare * 1000:9.1f}"
        f" {first:8.1f} s   {' + '.join(f'{name} {value:.1f}' for name, value in parts.items())};"
        f" dlopen {floor:.2f}, a plain copy {copied:.1f} of {size / 1e6:.1f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--lang", action="append", choices=LANGUAGES)
    asked = parser.parse_args()
    print(f"{'':6} {'save to':>9} {'':>9} {'ours':>7} {'ours':>7} {'bare':>9} {'first':>10}")
    print(f"{'ms':6} {'live':>9} {'build':>9} {'median':>7} {'p95':>7} {'build':>9} {'swap':>10}   ours, in parts")
    for language in asked.lang or LANGUAGES:
        tool = LANGUAGES[language][0]
        if shutil.which(tool) is None and not (tool == "zig" and importlib.util.find_spec("ziglang")):
            print(f"{language:6} {tool} is not installed")
            continue
        print(measure(language, asked.rounds), flush=True)


if __name__ == "__main__":
    main()
