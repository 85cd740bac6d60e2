"""What unloading saves and costs.

    python tests/bench/bench_unload.py [--reloads 20000] [--kept 1000] [--memory 1024]

- Resident memory of a host after 100 reloads and after all of them, with unloading; the growth per reload without. The
  allocator first gives back what it keeps for later (up to 128 KiB, more or less by chance). The black box is also told
  apart: the first module that goes takes all the memory that its rings of events and modules will ever need.
- The cost of a slot call with so many resident versions, beside that with one, in the same process.
- The time of a scan of so much written memory (MiB), from the host's own events: two passes, in the shim's thread.

The defaults are a short form; ``--reloads 20000`` is the full one and takes about a minute.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "native"))

import cbuild
from driver import Program

from hotreload.link import Link
from hotreload.model import EventKind

FIRST = 100
SETTLE_SECONDS = 30.0
AT_ONCE = 8
SCANS = 5


@dataclass(frozen=True)
class Host:
    """A running keeper and a connection to it."""

    program: Program
    link: Link

    def ask(self, line: str) -> dict[str, float]:
        answer: dict[str, float] = self.program.ask(line)
        assert answer.get("result", 0) in (0, 1, 2), f"{line}: {answer}"  # a call's result is the module's version
        return answer

    def residents(self) -> int:
        return self.link.snapshot(time.monotonic()).residents.modules

    def settle(self, most: int) -> None:
        """Waits until no more modules than these back no slot."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while self.residents() > most and time.monotonic() < deadline:
            time.sleep(0.02)

    def kib(self) -> float:
        return self.ask("trim")["kib"]

    def scanned_seconds(self) -> float:
        """Processor time of the processes that have scanned it, in ticks of 10 ms."""
        fields = Path(f"/proc/{self.program.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def mappings(self) -> int:
        return len(Path(f"/proc/{self.program.pid}/maps").read_text().splitlines())

    def box_kib(self) -> float:
        """Of these the black box."""
        status = Path(f"/proc/{self.program.pid}/status").read_text()
        return float(status.partition("RssShmem:")[2].split()[0])


class Bench:
    """The program and two modules that are swapped in turn."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        shim = cbuild.build_shim(directory / "shim")
        self.keeper = shim.host(cbuild.HOSTS / "keeper.c", directory / "keeper")
        self.modules = [self._module(version) for version in (1, 2)]

    def _module(self, version: int) -> Path:
        output = self.directory / f"give-{version}.so"
        flags = [*cbuild.MODULE_FLAGS, "-Wl,--build-id", f"-DVERSION={version}"]
        source = cbuild.HOSTS / "give.c"
        cbuild.run([cbuild.cc(), *flags, "-I", cbuild.INCLUDE, "-I", cbuild.HOSTS, "-o", output, source])
        output.chmod(0o755)
        return output

    def reload(self, count: int) -> str:
        return f"reload {count} {self.modules[0]} {self.modules[1]}"

    @contextmanager
    def host(self) -> Iterator[Host]:
        with ExitStack() as stack:
            home = stack.enter_context(tempfile.TemporaryDirectory(prefix="hr-"))
            environment = {"XDG_RUNTIME_DIR": home, "XDG_STATE_HOME": home}
            program = stack.enter_context(Program([self.keeper], environment))
            program.ask("call")  # it serves by now
            link = stack.enter_context(Link(Path(home) / "hotreload" / f"{program.pid}.sock"))
            yield Host(program, link)


def run(bench: Bench, host: Host, reloads: int) -> None:
    for done in range(0, reloads, AT_ONCE):  # nobody saves faster than modules go
        host.ask(bench.reload(min(AT_ONCE, reloads - done)))
        host.settle(AT_ONCE)
    host.settle(1)


def memory_with_unloading(bench: Bench, reloads: int) -> None:
    with bench.host() as host:
        host.ask("unload on")
        run(bench, host, FIRST)
        before, box_before, mappings_before = host.kib(), host.box_kib(), host.mappings()
        begun = time.monotonic()
        run(bench, host, reloads - FIRST)
        each = (time.monotonic() - begun) / (reloads - FIRST)
        after, box = host.kib(), host.box_kib()
        own = (after - box) / (before - box_before)
        print(f"unloading on, {reloads} reloads of {each * 1e3:.2f} ms")
        print(f"  in memory after {FIRST}: {before:.0f} KiB; at the end: {after:.0f} KiB, {after / before:.3f} x")
        print(f"  of that the black box: {box_before:.0f} and {box:.0f} KiB; without it {own:.3f} x")
        print(f"  mappings: {mappings_before} and {host.mappings()}")
        print(f"  modules that back no slot at the end: {host.residents()}", flush=True)


def growth_and_calls_without(bench: Bench, kept: int) -> None:
    with bench.host() as host:
        host.ask(bench.reload(2))
        time.sleep(0.2)
        none, before = statistics.median(host.ask("calls")["ns"] for _ in range(5)), host.kib()
        host.ask(bench.reload(kept))
        time.sleep(0.5)
        cost, after = host.link.snapshot(time.monotonic()).residents, host.kib()
        many = statistics.median(host.ask("calls")["ns"] for _ in range(5))
        print(f"unloading off, {kept} reloads")
        print(f"  growth per reload: {(after - before) / kept:.1f} KiB of the process", end="")
        print(
            f"; {cost.bytes / 1024 / cost.modules:.1f} KiB and {cost.mappings / cost.modules:.1f} mappings of modules"
        )
        print(f"  a call: {none:.2f} ns with 1 resident version, {many:.2f} ns with {cost.modules}, ", end="")
        print(f"{many / none:.2f} x", flush=True)


def scan(bench: Bench, mib: int) -> None:
    with bench.host() as host:
        host.ask("unload on")
        if mib:
            host.ask(f"fill {mib}")
        host.ask(f"load {bench.modules[0]}")
        used = host.scanned_seconds()
        for number in range(SCANS):
            host.ask(f"load {bench.modules[(number + 1) % 2]}")
            host.ask("call")
            host.settle(1)
        used = host.scanned_seconds() - used
        host.link.rewind()
        events = [event for event in host.link.foreign_events() if event.kind is EventKind.UNLOAD]
        both = [event.us["total"] / 1000 for event in events]
        print(f"scan of {mib} MiB and the program itself, {len(both)} modules unloaded")
        if both:
            print(f"  one pass: {min(both) / 2:.1f} ms at best, {statistics.median(both) / 2:.1f} ms in the median")
            print(f"  of the processor: {used * 1000 / len(both) / 2:.0f} ms a pass, where no verdict took two looks")
            print(f"  a verdict (a pass upwards, one downwards, registers thrice): {statistics.median(both):.1f} ms")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--reloads", type=int, default=1000)
    options.add_argument("--kept", type=int, default=1000)
    options.add_argument("--memory", type=int, default=1024)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="hr-bench-") as name:
        bench = Bench(Path(name))
        memory_with_unloading(bench, max(chosen.reloads, FIRST + 1))
        growth_and_calls_without(bench, chosen.kept)
        scan(bench, 0)
        scan(bench, chosen.memory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
