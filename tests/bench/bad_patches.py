"""What bad patches do to a host: with the guard, with a trial run in a forked copy, with nothing, and over cr.h.

    python tests/bench/bad_patches.py [--case NAME]... [--way NAME]... [--write]

Every file of tests/native/bad_patches is built and loaded, by the real command, into a host of its own that calls the
slot all the time; printed is what happened to the host, as a Markdown table. For cr.h the same files are plugins of the
same host, written for cr.h (fetched with cargo). A row is only as good as its run: nothing in the table is told that
was not seen. No case may hold the command up: how long the slowest took is printed too. With ``--write`` the whole of
it becomes BAD_PATCHES.md beside this file.
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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "native"))

import cbuild
import peer_headers

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
CR = "cr.h"
HEADINGS = {"guard": "with guard", "trial": "with trial", "neither": "with neither", CR: "cr.h"}
TOOL_SECONDS = 60.0
SETTLE_SECONDS = 4.0
"""How long a host is watched for what a patch may do to it."""
NEEDS = {".c": "cc", ".cpp": "c++", ".rs": "rustc"}
HEAD = """# What bad patches do to their hosts

Every patch below is loaded by the real command into a host of its own that calls the slot all the time: with `--guard`,
with `--trial`, and with neither; and, built as a plugin, into the same host written for cr.h (of the crate cr-sys
0.1.1), which goes back to the version before after SIGSEGV, SIGILL, SIGBUS and SIGABRT, and claims no more. Written by
`make bad-patches`; nothing in it is told that was not seen in that run. All patches return what the host's own function
returns, so that a trial meets the fault itself and not another status. What the guard lets through has done its harm
within the rules: it wrote over memory that was its to write to, or ended the process as it may. What the trial lets
through does harm that its few calls do not show: later, in another thread, or in silence. With neither, a load that
never returns is given up by the command after 30 seconds.

"""
ANSWER = 99
SUCCESSOR = f"""#include "bad.h"
static int32_t step(void *state, const void *input, void *output) {{
    (void)input;
    ((bad_state *)state)->steps++;
    ((bad_state *)state)->check++;
    *(int64_t *)output = {ANSWER};
    return WORKS;
}}
HR_MODULE("bad", 2, HR_PATCH("bad.step", step))
"""
"""A good version that comes after; its output shows that it runs."""
PREDECESSOR = SUCCESSOR.replace(f"= {ANSWER};", "= ((bad_state *)state)->steps;")
"""What a plugin of cr.h is before: the same as the host's own function is for us."""


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
    state: bool
    memory: bool
    output: int


def cases() -> dict[str, Path]:
    """All bad patches by name."""
    return {path.stem: path for path in sorted(CASES.iterdir()) if path.suffix in NEEDS}


def describe(case: Path) -> str:
    """What is wrong with it: the sentence in its first line."""
    return case.read_text(encoding="utf-8").splitlines()[0].removeprefix("/* ").removesuffix(" */")


@dataclass(frozen=True)
class Host:
    """What the runs of one kind of host share: its program, how its modules are built, and the good ones."""

    program: Path
    flags: tuple[str | Path, ...]
    rust: tuple[str, ...]
    directory: Path

    def build(self, case: Path) -> Path | None:
        """The module; None where its compiler is missing."""
        tool = cbuild.compiler() if case.suffix == ".c" else shutil.which(NEEDS[case.suffix])
        if tool is None:
            return None
        output = self.directory / f"{case.stem}.so"
        if case.suffix == ".rs":
            cbuild.run([tool, *self.rust, "--edition=2021", "-g", "-O", "-o", output, case])
        else:
            flags = ("-w", "-O1", "-g", "-fno-builtin", "-fno-stack-clash-protection")
            cbuild.run([tool, *cbuild.MODULE_FLAGS, *flags, *self.flags, "-o", output, case])
        output.chmod(0o755)
        return output

    def good(self, name: str, source: str) -> Path:
        """A module of the same kind that works."""
        text = self.directory / f"{name}.c"
        text.write_text(source)
        built = self.build(text)
        assert built is not None
        return built

    @property
    def successor(self) -> Path:
        """The good version that comes after; built once."""
        known = self.directory / "next.so"
        return known if known.exists() else self.good("next", SUCCESSOR)

    @property
    def predecessor(self) -> Path:
        """The good version before; built once."""
        known = self.directory / "before.so"
        return known if known.exists() else self.good("before", PREDECESSOR)


def build_host(directory: Path) -> Host:
    """Our host."""
    program = cbuild.build_shim(directory / "shim").host(cbuild.HOSTS / "victim.c", directory / "victim")
    return Host(program, ("-I", cbuild.INCLUDE, "-I", CASES), (), directory)


def build_cr_host(directory: Path) -> Host:
    """cr.h's. Raises OSError, RuntimeError: cr.h or a C++ compiler cannot be had."""
    header = peer_headers.cr(directory / "cr")
    program, include = directory / "victim_cr", ("-I", header.parent)
    flags = ("-std=c++17", "-O2", "-w", *include, "-I", cbuild.HOSTS)  # its own warnings are not ours
    cbuild.run(["c++", *flags, "-o", program, cbuild.HOSTS / "victim_cr.cpp", *cbuild.LIBRARIES])
    return Host(program, ("-DCR_GUEST", *include, "-I", CASES), ("--cfg", "cr_guest"), directory)


class Victim:
    """A running host, with directories of its own."""

    def __init__(self, program: Path, argument: str | Path, directory: Path) -> None:
        self.environment = os.environ | {"XDG_RUNTIME_DIR": str(directory), "XDG_STATE_HOME": str(directory)}
        self.runtime = directory / "hotreload"
        self.process = subprocess.Popen(
            [program, argument],
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
        if not words:
            return None
        return Pulse(int(words[0]), int(words[1]), int(words[2]), words[3] == "1", words[4] == "1", int(words[5]))

    def takes(self, seconds: float) -> bool:
        """The successor comes to run within this time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and (pulse := self.pulse()):
            if pulse.output == ANSWER and pulse.last == 1:
                return True
            time.sleep(0.05)
        return False

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


def run(host: Host, module: Path, case: str, way: str) -> Seen:
    """Loads one module into one host in one way."""
    with tempfile.TemporaryDirectory(prefix="hr-") as name:
        if way == CR:
            return run_cr(host, module, case, Path(name))
        victim = Victim(host.program, "victim", Path(name))
        finder = hosts.Finder(victim.runtime)
        links = finder.connect()
        try:
            text, seconds = victim.load(module, way)
            if case.startswith("on_unload"):
                victim.load(host.successor, way)
            records: list[Record] = []
            deadline = time.monotonic() + SETTLE_SECONDS
            while not records and time.monotonic() < deadline and victim.process.poll() is None:
                records += [record for link in links for record in link.foreign_events() if record.code]
                time.sleep(0.05)
            if "THE TOOL HUNG" in text:
                return Seen("**the tool hung**", tool_seconds=seconds)
            seen = judge(victim, records)
            if seen.survived and not case.startswith("on_unload"):
                victim.load(host.successor, way)
                seen = followed(victim, seen)
            return replace(seen, tool_seconds=seconds)
        finally:
            for link in links:
                link.close()
            victim.end()


def run_cr(host: Host, module: Path, case: str, directory: Path) -> Seen:
    """The same over cr.h: a module is loaded by putting it where the plugin is."""
    plugin = directory / "plugin.so"
    now = int(time.time())

    def put(source: Path, serial: int) -> None:
        copy = directory / "copy.so"
        shutil.copy(source, copy)
        os.utime(copy, (now, now + serial))  # cr.h sees whole seconds
        copy.replace(plugin)

    put(host.predecessor, 0)
    victim = Victim(host.program, plugin, directory)
    try:
        while (pulse := victim.pulse()) and pulse.last != 1:
            time.sleep(0.01)
        put(module, 1)
        if case.startswith("on_unload"):
            time.sleep(0.5)
            put(host.successor, 2)
        with suppress(subprocess.TimeoutExpired):
            victim.process.wait(SETTLE_SECONDS)
        seen = judge(victim, [])
        if seen.survived and not case.startswith("on_unload"):
            put(host.successor, 3)
            seen = followed(victim, seen)
        return seen
    finally:
        victim.end()


def followed(victim: Victim, seen: Seen) -> Seen:
    """What was seen, and whether the successor, which has been offered, runs."""
    return seen if victim.takes(SETTLE_SECONDS) else Seen(f"{seen.verdict}, but it takes no further module")


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
        return Seen(f"host alive, its {' and '.join(stuck)} stand still{told}")
    sound = {"memory": after.memory, "state": after.state}
    if broken := [name for name, well in sound.items() if not well]:
        return Seen(f"host runs on with corrupted {' and '.join(broken)}{told}")
    good = "the version after" if after.output == ANSWER else "the implementation before"
    runs = good if after.last == 1 else "the patch"
    return Seen(f"survived{told}; {runs} runs", survived=True)


def report(record: Record) -> str:
    """The guard's words, shortened."""
    fault = record.fault
    if fault is None:
        return f"{record.code}: {record.found}" if record.found else record.code
    what = f"{fault.signal or 'no return'} in {fault.function}"
    return f"{record.code}: {what}" + (f", {fault.at}" if fault.at else "")


def run_all(case: Path, ways: Mapping[str, Host | None]) -> dict[str, Seen | None]:
    """One case in all ways; None: not run, for want of a compiler or of the host."""
    seen: dict[str, Seen | None] = {}
    for way, host in ways.items():
        module = host.build(case) if host else None
        seen[way] = run(host, module, case.stem, way) if host and module else None
    return seen


def build_hosts(ways: Sequence[str], directory: Path) -> dict[str, Host | None]:
    """The host of each way; None for cr.h where it cannot be had."""
    built: dict[str, Host | None] = {}
    for way in ways:
        place = directory / ("cr-host" if way == CR else "host")
        place.mkdir(exist_ok=True)
        try:
            same = next((host for known, host in built.items() if known != CR), None) if way != CR else None
            built[way] = same or (build_cr_host(place) if way == CR else build_host(place))
        except (OSError, RuntimeError) as error:
            if way != CR:
                raise
            print(f"cr.h cannot be had: {error}", file=sys.stderr)
            built[way] = None
    return built


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--case", action="append", choices=sorted(cases()), help="only this one; may be repeated")
    options.add_argument("--way", action="append", choices=sorted(HEADINGS), help="only this one; may be repeated")
    options.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    given = options.parse_args()
    text: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        text.append(line)

    ways = given.way or list(HEADINGS)
    rows: list[dict[str, Seen | None]] = []
    with tempfile.TemporaryDirectory(prefix="hr-") as name:
        built = build_hosts(ways, Path(name))
        say(f"| patch | {' | '.join(HEADINGS[way] for way in ways)} |\n|---|{'---|' * len(ways)}")
        for case, source in cases().items():
            if not given.case or case in given.case:
                rows.append(run_all(source, built))
                verdicts = (seen.verdict if seen else "not run" for seen in rows[-1].values())
                say(f"| {describe(source)} | {' | '.join(verdicts)} |")
    say(f"\n{score(rows, ways)}")
    if given.write:
        TABLE.write_text(HEAD + "\n".join(text) + "\n", encoding="utf-8")
    return 0


def score(rows: Sequence[Mapping[str, Seen | None]], ways: Sequence[str]) -> str:
    """How many hosts survived in each way, of those that were run, and the longest load."""
    parts, seconds = [], 0.0
    for way in ways:
        seen = [row_seen for row in rows if (row_seen := row[way])]
        parts.append(f"{sum(each.survived for each in seen)} of {len(seen)} {HEADINGS[way].replace(CR, 'with cr.h')}")
        seconds = max([seconds, *(each.tool_seconds for each in seen)])
    return f"Survived: {', '.join(parts)}. The slowest `hotreload load` took {seconds:.1f} s."


if __name__ == "__main__":
    sys.exit(main())
