"""What bad patches do to a host: with the guard, with a trial run in a forked copy, and with nothing.

    python tests/bench/bad_patches.py [--case NAME]... [--way NAME]... [--write]

Every file of tests/native/bad_patches is built and loaded, by the real command, into a host of its own that calls the
slot all the time; printed is what happened to the host, as a Markdown table. A row is only as good as its run: nothing
in the table is told that was not seen. No case may hold the command up: how long the slowest took is printed too. With
``--write`` the whole of it becomes BAD_PATCHES.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "native"))

import cbuild

from hotreload import hosts
from hotreload.model import Record

CASES = Path(cbuild.__file__).resolve().parent / "bad_patches"
TABLE = Path(__file__).resolve().with_name("BAD_PATCHES.md")
HANG_SECONDS = 0.5
WAYS: Mapping[str, tuple[str, ...]] = {
    "guard": ("--guard", "--hang-seconds", str(HANG_SECONDS), "--guard-seconds", "60"),
    "trial": ("--trial", "--trial-seconds", "2"),
    "neither": (),
}
"""The ways to load: what `hotreload load` is told."""
CAUGHT = ("E-CRASH", "E-HANG")
TOOL_SECONDS = 60.0
SETTLE_SECONDS = 4.0
"""How long a host is watched for what a patch may do to it."""
NEEDS = {".c": "cc", ".cpp": "c++", ".rs": "rustc"}
HEAD = """# What bad patches do to their hosts

Every patch below is loaded by the real command into a host of its own that calls the slot all the time: with `--guard`,
with `--trial`, and with neither. Written by `make bad-patches`; nothing in it is told that was not seen in that run. A
patch that the guard lets through has done its harm within the rules: it wrote over memory that was its to write to, or
ended the process as it may. Those rows say so. The patches answer another status than the host's own function does; a
trial refuses that as well, so that E-TRIAL says no more than that the new code's answer was another one, or none. With
neither, a load that never returns is given up by the command after 30 seconds.

"""
NEXT = cbuild.module_source("bad", 2, {"bad.step": "return 2;"})
"""A good version that comes after."""


@dataclass(frozen=True)
class Seen:
    """What one run has shown."""

    verdict: str
    survived: bool = False
    tool_seconds: float = 0.0


@dataclass(frozen=True)
class Pulse:
    """The host's answer at one moment."""

    calls: int
    last: int
    beats: int
    sound: bool


def cases() -> dict[str, Path]:
    """All bad patches by name."""
    return {path.stem: path for path in sorted(CASES.iterdir()) if path.suffix in NEEDS}


def describe(case: Path) -> str:
    """What is wrong with it: the sentence in its first line."""
    return case.read_text(encoding="utf-8").splitlines()[0].removeprefix("/* ").removesuffix(" */")


def build(case: Path, directory: Path) -> Path | None:
    """The module; None where its compiler is missing."""
    tool = cbuild.compiler() if case.suffix == ".c" else shutil.which(NEEDS[case.suffix])
    if tool is None:
        return None
    output = directory / f"{case.stem}.so"
    if case.suffix == ".rs":
        cbuild.run([tool, "--edition=2021", "-g", "-O", "-o", output, case])
    else:
        flags = ("-w", "-O1", "-g", "-fno-builtin", "-fno-stack-clash-protection")
        cbuild.run([tool, *cbuild.MODULE_FLAGS, *flags, "-I", cbuild.INCLUDE, "-o", output, case])
    output.chmod(0o755)
    return output


def build_host(directory: Path) -> Path:
    """The host of all cases."""
    return cbuild.build_shim(directory / "shim").host(cbuild.HOSTS / "victim.c", directory / "victim")


class Victim:
    """A running host, with directories of its own."""

    def __init__(self, program: Path, directory: Path) -> None:
        self.environment = os.environ | {"XDG_RUNTIME_DIR": str(directory), "XDG_STATE_HOME": str(directory)}
        self.runtime = directory / "hotreload"
        self.process = subprocess.Popen(
            [program, "victim"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self.environment,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def pulse(self) -> Pulse | None:
        """None: it has ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write("?\n")
            self.process.stdin.flush()
            words = self.process.stdout.readline().split()
        except BrokenPipeError:
            words = []
        return Pulse(int(words[0]), int(words[1]), int(words[2]), words[3] == "1") if words else None

    def load(self, module: Path, way: str) -> tuple[str, float]:
        """Loads by the real command; what it printed, and how long it took."""
        begun = time.monotonic()
        command = [sys.executable, "-m", "hotreload", "load", str(module), *WAYS[way]]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=self.environment, timeout=TOOL_SECONDS, check=False
            )
            text = done.stdout + done.stderr
        except subprocess.TimeoutExpired:
            text = "THE TOOL HUNG"
        return text, time.monotonic() - begun

    def end(self) -> None:
        """Ends it, whatever state it is in."""
        self.process.kill()
        self.process.communicate()


def run(program: Path, module: Path, case: str, way: str, successor: Path) -> Seen:
    """Loads one module into one host in one way."""
    with tempfile.TemporaryDirectory(prefix="hr-") as name:
        victim = Victim(program, Path(name))
        finder = hosts.Finder(victim.runtime)
        links = finder.connect()
        try:
            text, seconds = victim.load(module, way)
            if case.startswith("on_unload"):
                victim.load(successor, way)
            records: list[Record] = []
            deadline = time.monotonic() + SETTLE_SECONDS
            while time.monotonic() < deadline and victim.process.poll() is None:
                records += [record for link in links for record in link.foreign_events() if record.code]
                if any(record.code in CAUGHT for record in records):
                    break
                time.sleep(0.05)
            if "THE TOOL HUNG" in text:
                return Seen("**the tool hung**", tool_seconds=seconds)
            seen = judge(victim, records)
            if seen.survived and "swap" not in victim.load(successor, way)[0]:
                seen = Seen(f"{seen.verdict}, but it takes no further module")
            return replace(seen, tool_seconds=seconds)
        finally:
            for link in links:
                link.close()
            victim.end()


def judge(victim: Victim, records: list[Record]) -> Seen:
    """What the host shows from outside, and what the guard told."""
    before = victim.pulse()
    time.sleep(0.5)
    after = victim.pulse() if before else None
    if before is None or after is None:
        code = victim.process.wait(TOOL_SECONDS)
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        return Seen(f"host {how}")
    told = f", {report(records[-1])}" if records else ""
    moving = {"calls": after.calls > before.calls, "other threads": after.beats > before.beats}
    stuck = [name for name, moves in moving.items() if not moves]
    if stuck:
        return Seen(f"host alive, its {' and '.join(stuck)} hang{told}")
    if not after.sound:
        return Seen(f"host runs on with corrupted memory{told}")
    runs = "the implementation before" if after.last == 1 else "the patch"
    return Seen(f"survived{told}; {runs} runs", survived=True)


def report(record: Record) -> str:
    """The guard's words, shortened."""
    fault = record.fault
    if fault is None:
        return record.code
    what = f"{fault.signal or 'no return'} in {fault.function}"
    return f"{record.code}: {what}" + (f", {fault.at}" if fault.at else "")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--case", action="append", choices=sorted(cases()), help="only this one; may be repeated")
    options.add_argument("--way", action="append", choices=sorted(WAYS), help="only this one; may be repeated")
    options.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    given = options.parse_args()
    text: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        text.append(line)

    ways = given.way or list(WAYS)
    seconds, survived, count = 0.0, dict.fromkeys(ways, 0), 0
    with tempfile.TemporaryDirectory(prefix="hr-") as name:
        directory = Path(name)
        program = build_host(directory)
        successor = cbuild.build_module(directory / "next.so", NEXT)
        say(f"| patch | {' | '.join(f'with {way}' for way in ways)} |\n|---|{'---|' * len(ways)}")
        for case, source in cases().items():
            if given.case and case not in given.case:
                continue
            module = build(source, directory)
            if module is None:
                say(f"| {describe(source)} |{f' not run: no {NEEDS[source.suffix]} |' * len(ways)}")
                continue
            seen = {way: run(program, module, case, way, successor) for way in ways}
            say(f"| {describe(source)} | {' | '.join(each.verdict for each in seen.values())} |")
            count += 1
            for way, each in seen.items():
                seconds = max(seconds, each.tool_seconds)
                survived[way] += each.survived
    score = ", ".join(f"{survived[way]} of {count} with {way}" for way in ways)
    say(f"\nSurvived: {score}. The slowest `hotreload load` took {seconds:.1f} s.")
    if given.write:
        TABLE.write_text(HEAD + "\n".join(text) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
