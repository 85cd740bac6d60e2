"""Makes RESULTS.md and the plots from what peers/run.py has measured.

    python tests/bench/report.py [FILE] [--output DIRECTORY]

FILE is ``tests/bench/raw/peers.json`` by default; the output goes beside this script then, and its overview between
the marks in README.md. For another file (a quick or partial run) it goes beside that file. Plots need matplotlib;
without it the text is written alone.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RAW = HERE / "raw" / "peers.json"
README = HERE.parents[1] / "README.md"
MARKS = ("<!-- peers: written by tests/bench/report.py -->", "<!-- /peers -->")

Data = dict[str, Any]

US = "hotreload"
WATCH = "hotreload-watch"
COPYING = "dlopen-copy"
"""The floor of a swap: whoever watches has to copy the file before it opens it."""
OURS = (US, WATCH, "hotreload-rust", "hotreload-compatible", "hotreload-unload")
SURVIVED = ("refused", "rolled back", "loaded", "survived")
"""How a verdict begins after which the host still works; a stale host runs, on code that is not what the file holds."""


# ---- numbers ----


def quantile(numbers: Sequence[float], share: float) -> float:
    """The nearest-rank quantile of a list that is not empty."""
    ordered = sorted(numbers)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(len(ordered) * share) - 1))]


def present(numbers: Sequence[float | None]) -> list[float]:
    return [number for number in numbers if number is not None]


@dataclass(frozen=True)
class Call:
    """What one peer's call costs on some threads: medians over the repetitions that other work did not disturb.

    Attributes:
        ratio: To the plain pointer call of the same process and repetition, by the threads' processor time.
        cpu_ns: By the threads' processor time (CLOCK_THREAD_CPUTIME_ID).
        wall_ns: By the wall clock (CLOCK_MONOTONIC).
        used: How many repetitions that are.
        made: Of how many.
    """

    ratio: float
    cpu_ns: float
    wall_ns: float
    used: int
    made: int


DISTURBED = 1.1
"""A thread that waited for a core longer than this many times its share was disturbed by other work."""


def call(row: Data, threads: int, cores: int) -> Call | None:
    """None where nothing was measured. With fewer than three undisturbed repetitions all of them count."""
    made = len(row.get("cpu_ns", []))
    if not made:
        return None
    patience = DISTURBED * max(1.0, threads / cores)

    def disturbed(at: int) -> bool:
        return any(row[f"{way}wall_ns"][at] > patience * row[f"{way}cpu_ns"][at] for way in ("", "plain_"))

    calm = [at for at in range(made) if not disturbed(at)]
    used = calm if len(calm) >= 3 else list(range(made))
    return Call(
        statistics.median(row["cpu_ns"][at] / row["plain_cpu_ns"][at] for at in used),
        statistics.median(row["cpu_ns"][at] for at in used),
        statistics.median(row["wall_ns"][at] for at in used),
        len(calm),
        made,
    )


def time_text(us: float) -> str:
    if us < 1000:
        return f"{us:.1f} us" if us < 10 else f"{us:.0f} us"
    return f"{us / 1000:.2f} ms" if us < 1e5 else f"{us / 1e6:.2f} s"


def threads_text(count: str) -> str:
    return "1 thread" if count == "1" else f"{count} threads"


def affine(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float, float]:
    """a, b and R² of costs = a + b * size, by least squares."""
    mean_size, mean_cost = statistics.fmean(sizes), statistics.fmean(costs)
    spread = sum((size - mean_size) ** 2 for size in sizes)
    pairs = list(zip(sizes, costs, strict=True))
    slope = sum((size - mean_size) * (cost - mean_cost) for size, cost in pairs) / spread
    start = mean_cost - slope * mean_size
    total = sum((cost - mean_cost) ** 2 for cost in costs)
    rest = sum((cost - start - slope * size) ** 2 for size, cost in pairs)
    return start, slope, 1 - rest / total if total else 1.0


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """k of costs ~ size^k, from the logarithms: 0 for a constant, 1 for a line through zero."""
    return affine([math.log(size) for size in sizes], [math.log(cost) for cost in costs])[1]


def law(sizes: Sequence[float], costs: Sequence[float], unit: str, what: str) -> str:
    """The line that fits; said to be constant where size explains less than a fifth over the whole range."""
    start, slope, fit = affine(sizes, costs)
    change = slope * (max(sizes) - min(sizes))
    if abs(change) < 0.2 * statistics.fmean(costs):
        return f"constant: {statistics.fmean(costs):.3g} {unit}"
    return f"{start:.3g} {unit} + {slope:.3g} {unit} a {what} (R² {fit:.2f}; ~ n^{exponent(sizes, costs):.2f})"


# ---- tables ----


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)] + [""]


@dataclass(frozen=True)
class Claim:
    """One claim of the project's plan, beside what this run has measured."""

    what: str
    target: str
    measured: str
    met: bool


class Report:
    """The sections of RESULTS.md, each from the part of the data that it is about; absent parts are left out."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.results: Data = data["results"]
        self.labels: dict[str, str] = data["peers"]
        cores = data["machine"]["cores"]
        self.called: dict[str, dict[str, Call]] = {
            name: {threads: found for threads, each in row.items() if (found := call(each, int(threads), cores))}
            for name, row in self.results.get("calls", {}).items()
        }

    def rows(self, part: str, cells: Callable[[Data], list[str]]) -> list[list[str]]:
        found = []
        for name, label in self.labels.items():
            row = self.results[part].get(name)
            if row is None:
                continue
            found.append([label, *([f"*{row['failed']}*"] if "failed" in row else cells(row))])
        width = max(map(len, found), default=0)
        for line in found:
            line += [""] * (width - len(line))
        return found

    def text(self) -> str:
        sections = [
            self.header(), self.summary(), self.verdicts(), self.calls(), self.swaps(), self.longest(), self.pairs(),
            self.survival(), self.memory(), self.held(), self.cpu(), self.growth(), self.floors(),
        ]  # fmt: skip
        return "\n".join(line for section in sections for line in section).rstrip() + "\n"

    def header(self) -> list[str]:
        machine, versions = self.data["machine"], self.data["versions"]
        warning = ["**A quick run: it tries the scripts out, its numbers mean nothing.**", ""]
        quick = warning if self.data["quick"] else []
        if self.data["load_before"][0] > machine["cores"] / 2:
            quick += [
                "**The machine had other work when this run began.** Times are longer than on an idle one, and threads "
                "that shared a core contended less: where a lock is the cost, 2 and 4 threads flatter it.", "",
            ]  # fmt: skip
        return [
            "# Measured against its peers", "",
            "Made by `tests/bench/report.py` from one run of `make bench-peers`; do not edit.", "", *quick,
            f"- {self.data['date']}; {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
            f"{machine['system']}",
            "- " + ", ".join(f"{name} {version}" for name, version in versions.items()),
            f"- load average {self.data['load_before'][0]:.2f} before, {self.data['load_after'][0]:.2f} after "
            "(the run itself makes some of it)",
            "- asked for: " + ", ".join(f"{key} {value}" for key, value in self.data["effort"].items()),
            "- Same work everywhere: `step(state, in, out)` sets `out = in + VERSION`, in two functions; modules built "
            "beforehand. Peers from crates.io, pinned. Times belong to this machine; compare the columns of one run.",
            "- Not here: `frust-hotpatch` and `dynpatch` (no working program was made), `hotpatch` 0.3 and "
            "`dexterous_developer` (they need nightly features or engines that are gone), Live++ (no Linux agent), "
            "subsecond's whole loop (it needs the Dioxus CLI and its linker; calls and `apply_patch` are here, in a "
            "release build whose subsecond crate has debug assertions: without them it does nothing). The stat poller "
            "is our own program after cr.h's method.", "",
        ]  # fmt: skip

    # -- overview --

    def summary(self) -> list[str]:
        return [*self.overview(), "![calls](plots/calls.svg) ![swaps](plots/swaps.svg)", ""]

    def readme(self) -> list[str]:
        """The part of the README between its marks."""
        machine, date = self.data["machine"], self.data["date"].partition("T")[0]
        missed = [each.what for each in self.claims() if not each.met]
        return [
            *self.overview(), "![a swap](tests/bench/plots/swaps.svg)", "",
            f"Measured on {date} ({machine['processor']}, {machine['cores']} cores, {machine['system']}). "
            + (f"Goals missed in this run: {'; '.join(missed)}." if missed else "All goals were met in this run."),
        ]  # fmt: skip

    def overview(self) -> list[str]:
        head = ["", "call, 1 thread", "2 threads", "swap p50", "p95", "mixed pairs", "survived", "swap during a call"]
        rows = []
        for name, label in self.labels.items():
            if name not in self.results.get("swaps", {}):
                continue
            rows.append([f"**{label}**" if name in OURS else label, *self.call_cells(name), *self.swap_cells(name),
                         self.mixed_cell(name), self.survived_cell(name), self.held_cell(name)])  # fmt: skip
        return [
            "Calls in times of a plain pointer call; swaps from the rename of the finished file to the first call of "
            "the new code, for peers that watch with their watching, for the others from being told.", "",
            *table(head, rows),
        ]  # fmt: skip

    def call_cells(self, name: str) -> list[str]:
        row = self.called.get(name, {})
        return [f"{row[threads].ratio:.2f} x" if threads in row else "" for threads in ("1", "2")]

    def swap_cells(self, name: str) -> list[str]:
        us = present(self.results.get("swaps", {}).get(name, {}).get("us", []))
        return [time_text(quantile(us, share)) for share in (0.5, 0.95)] if us else ["", ""]

    def mixed_cell(self, name: str) -> str:
        row = self.results.get("pairs", {}).get(name, {})
        return f"{row['mixed']} in {row['swaps']} swaps" if "mixed" in row else row.get("failed", "")

    def survived_cell(self, name: str) -> str:
        if name not in self.results.get("survive", {}):
            return ""
        good, asked = self.survived_cases(name)
        return f"{good} of {asked}"

    def survived_cases(self, name: str) -> tuple[int, int]:
        """How many of the cases that could be tried its host survived, and how many those are."""
        row = self.results["survive"][name]
        asked = [each["verdict"] for each in row.values() if each["verdict"] != "n/a"]
        return sum(verdict.startswith(SURVIVED) for verdict in asked), len(asked)

    def held_cell(self, name: str) -> str:
        row = self.results.get("held", {}).get(name, {})
        if "failed" in row:
            return "cannot"
        if not row:
            return ""
        return "waits for the call" if waited(row) else time_text(row["swap_us"])

    # -- what it must show --

    def verdicts(self) -> list[str]:
        rows = [[each.what, each.target, each.measured, "met" if each.met else "**missed**"] for each in self.claims()]
        better = self.better()
        return [
            "## What it must show", "", *table(["", "target", "measured", ""], rows),
            "## What peers do better", "", *(f"- {each}" for each in better), "" if better else "- nothing found", "",
        ]  # fmt: skip

    def claims(self) -> list[Claim]:
        """Each claim of the project's plan that this run can decide."""
        return [*self.call_claims(), *self.swap_claims(), *self.longest_claims(), *self.other_claims()]

    def call_claims(self) -> list[Claim]:
        ours, theirs = self.called.get(US, {}), self.called.get("hotpatch-rs", {})
        found = [
            Claim(f"a call against a plain pointer, {threads_text(threads)}", "at most 1.15 x", f"{each.ratio:.2f} x",
                  each.ratio <= 1.15)
            for threads, each in ours.items()
        ]  # fmt: skip
        for threads, least in (("1", 5), ("2", 20)):
            if threads in ours and threads in theirs:
                times = theirs[threads].cpu_ns / ours[threads].cpu_ns
                wall = theirs[threads].wall_ns / ours[threads].wall_ns
                found.append(Claim(
                    f"calls faster than hotpatch-rs's, {threads_text(threads)}", f"at least {least} times",
                    f"{times:.1f} times ({wall:.1f} by the wall clock); a plain pointer is "
                    f"{theirs[threads].ratio:.1f} times as fast as it", times >= least,
                ))  # fmt: skip
        return found

    def swap_claims(self) -> list[Claim]:
        found = []
        times = {name: present(row.get("us", [])) for name, row in self.results.get("swaps", {}).items()}
        if times.get(US) and times.get(COPYING):
            against = statistics.median(times[US]) / statistics.median(times[COPYING])
            found.append(Claim("swap p50 against copying the file, dlopen and dlsym", "at most 2 times",
                               f"{against:.2f} times", against <= 2))  # fmt: skip
        if times.get(WATCH):
            p95 = quantile(times[WATCH], 0.95)
            found.append(Claim("final write to live, p95", "under 5 ms", time_text(p95), p95 < 5000))
            if times.get("hot-lib-reloader"):
                against = statistics.median(times["hot-lib-reloader"]) / statistics.median(times[WATCH])
                found.append(Claim("final write to live, p50, faster than hot-lib-reloader as shipped",
                                   "at least 50 times", f"{against:.0f} times", against >= 50))  # fmt: skip
        return found

    def longest_claims(self) -> list[Claim]:
        row = self.results.get("longest", {}).get(US, {})
        if "swapping_us" not in row:
            return []
        swapping, resting = (self.tenths(present(row[key])) for key in ("swapping_us", "resting_us"))
        typical = statistics.median(swapping)
        return [Claim(
            f"callers never wait: the longest call during {len(row['swapping_us']):,} swaps, by tenths of them",
            "a typical tenth's is no longer than that of as many windows at rest at times is",
            f"{time_text(typical)} (of all: {time_text(max(swapping))}); at rest {time_text(min(resting))} to "
            f"{time_text(max(resting))}", typical <= max(resting),
        )]  # fmt: skip

    @staticmethod
    def tenths(numbers: Sequence[float]) -> list[float]:
        """The largest of each tenth of the numbers: how much the longest of so many varies by chance."""
        size = max(1, len(numbers) // 10)
        return [max(numbers[at : at + size]) for at in range(0, size * (len(numbers) // size), size)]

    def other_claims(self) -> list[Claim]:
        found = []
        growth, idle = self.results.get("growth", {}), self.results.get("cpu", {}).get(WATCH)
        if growth.get("slots"):
            most = growth["slots"][-1]
            found.append(Claim(f"a commit of {most['slots']:,} slots", "under 100 us", time_text(most["commit_us"]),
                               most["commit_us"] < 100))  # fmt: skip
        if growth.get("hosts"):
            p95 = quantile(growth["hosts"][-1]["ms"], 0.95)
            found.append(Claim(f"{growth['hosts'][-1]['hosts']} hosts in one transaction, p95", "under 50 ms",
                               f"{p95:.1f} ms", p95 < 50))  # fmt: skip
        if idle:
            share = idle["idle"]["share"]
            found.append(Claim("the watcher's share of a core, idle", "under 0.5 %", f"{share:.2%}", share < 0.005))
        survived = {name: self.survived_cases(name) for name in (US, WATCH) if name in self.results.get("survive", {})}
        for name, (good, asked) in survived.items():
            found.append(Claim(f"cases of the corpus survived by {self.labels[name]}", f"all {asked}", str(good),
                               good == asked))  # fmt: skip
        return found

    def better(self) -> list[str]:
        """Where a peer's number beats ours, said plainly; from the data alone."""
        found = []
        for threads in self.called.get(US, {}):
            found += self.beaten(
                f"call, {threads_text(threads)}",
                {name: row[threads].ratio for name, row in self.called.items() if threads in row},
                US,
                lambda value: f"{value:.2f} x",
            )
        swaps = self.results.get("swaps", {})
        medians = {name: statistics.median(us) for name, row in swaps.items() if (us := present(row.get("us", [])))}
        watching = {name: value for name, value in medians.items() if name in self.watchers()}
        told = {name: value for name, value in medians.items() if name not in watching}
        found += self.beaten("swap when told, p50", told, US, time_text)
        found += self.beaten("swap when watching, p50", watching, WATCH, time_text)
        found += self.beaten(
            "memory a swap",
            {
                name: per_swap(row, "resident_kib")
                for name, row in self.results.get("memory", {}).items()
                if "resident_kib" in row
            },
            US,
            lambda value: f"{value:.1f} KiB",
        )
        for kind in ("idle", "storm"):
            found += self.beaten(
                f"processor, {kind}",
                {name: row[kind]["share"] for name, row in self.results.get("cpu", {}).items()},
                WATCH,
                lambda value: f"{value:.2%} of a core",
            )
        return found

    def watchers(self) -> set[str]:
        return set(self.results.get("cpu", {})) or {
            WATCH,
            "hot-lib-reloader",
            "hot-lib-reloader-1ms",
            "libhotpatch",
            "stat-poll",
            "inotify",
        }

    def beaten(self, what: str, values: dict[str, float], ours: str, show: Callable[[float], str]) -> list[str]:
        if ours not in values:
            return []
        names = [name for name, value in values.items() if name not in OURS and value < values[ours] * 0.98]
        if not names:
            return []
        names.sort(key=values.__getitem__)
        listed = ", ".join(f"{self.labels[name]} {show(values[name])}" for name in names)
        return [f"{what}: {listed}; ours {show(values[ours])}."]

    # -- (a) to (i) --

    def calls(self) -> list[str]:
        if not self.called:
            return []
        threads = sorted({each for row in self.called.values() for each in row}, key=int)
        rows = []
        for name, row in self.called.items():
            cells = [self.labels[name]]
            for each in threads:
                one = row.get(each)
                failed = self.results["calls"][name].get(each, {}).get("failed", "")
                cells += [f"{one.cpu_ns:.1f} ns, {one.ratio:.2f} x", f"{one.wall_ns:.1f} ns"] if one else [failed, ""]
            used = ", ".join(f"{row[each].used}/{row[each].made}" for each in threads if each in row)
            rows.append([*cells, used])
        head = [text for each in threads for text in (threads_text(each), "wall clock")]
        return [
            "## (a) A call", "",
            "Medians of nanoseconds a call by CLOCK_THREAD_CPUTIME_ID (the calling threads' own processor time), and "
            "of the ratio to a call through a plain pointer in the same process, measured by turns; beside it by the "
            "wall clock (CLOCK_MONOTONIC), which with more threads than cores measures the scheduler. The last column "
            "says in how many repetitions the threads had cores of their own (the clocks agree): those count; where "
            "there are fewer than three, all. Peers whose call path is the same code are not measured twice.", "",
            *table(["", *head, "undisturbed"], rows),
        ]  # fmt: skip

    def swaps(self) -> list[str]:
        if "swaps" not in self.results:
            return []

        def cells(row: Data) -> list[str]:
            us = present(row["us"])
            missed = len(row["us"]) - len(us)
            times = [time_text(quantile(us, share)) for share in (0.5, 0.95, 0.99, 1)] if us else [""] * 4
            against = f"{statistics.median(us) / floor:.2f} x" if us and floor else ""
            return [str(len(row["us"])), *times, against, str(missed)]

        copying = present(self.results["swaps"].get(COPYING, {}).get("us", []))
        floor = statistics.median(copying) if copying else 0.0

        return [
            "## (b) From the final write to the first new output", "",
            "From just before the rename of the finished file to the first call with the new result. `hotreload "
            "watch`, hot-lib-reloader, libhotpatch and the stat poller find the file themselves; the others are told "
            "at once, under a name never used before (making such a copy is then the program's job, and not timed). "
            "The host asks every 20 us, the stat poller's host ticks 60 times a second. The ratio is that of the p50 "
            "to `copy and dlopen`. Missed: not within 4 s.", "",
            *table(["", "swaps", "p50", "p95", "p99", "worst", "ratio", "missed"], self.rows("swaps", cells)),
        ]  # fmt: skip

    def longest(self) -> list[str]:
        if "longest" not in self.results:
            return []

        def cells(row: Data) -> list[str]:
            found = []
            for key in ("swapping_us", "resting_us"):
                us = present(row[key])
                found += [time_text(quantile(us, share)) for share in (0.5, 0.95, 1)] if us else [""] * 3
            return [str(len(row["swapping_us"])), *found, str(row["missed"])]

        head = ["", "windows", "swap: median", "p95", "worst", "rest: median", "p95", "worst", "missed"]
        return [
            "## (c) The longest call during a swap", "",
            "Another thread calls without a pause. Each window holds one swap, or no swap for as long; the number is "
            "the longest call in it. The worst ones at rest are the scheduler's.", "",
            *table(head, self.rows("longest", cells)),
        ]  # fmt: skip

    def pairs(self) -> list[str]:
        if "pairs" not in self.results:
            return []

        def cells(row: Data) -> list[str]:
            return [str(row["swaps"]), f"{row['pairs']:,}", str(row["mixed"]), str(row["missed"])]

        return [
            "## (d) Calls that see two versions", "",
            "Two threads call a, then b, while swaps run (one thread for the stat poller). hotreload's rows use a "
            "frame, which the others do not have; without one its calls mix like theirs: see `hotreload as "
            "hotpatch-rs`.", "",
            *table(["", "swaps", "pairs", "mixed", "missed swaps"], self.rows("pairs", cells)),
        ]  # fmt: skip

    def survival(self) -> list[str]:
        part = self.results.get("survive")
        if not part:
            return []
        cases = list(next(iter(part.values())))

        def cells(row: Data) -> list[str]:
            return [self.verdict(row[case]["verdict"]) for case in cases]

        return [
            "## (e) What becomes of the host", "",
            "Each cell is a host of its own. *truncated*: 60 % of the file. *foreign*: a library without what the peer "
            "looks for. *wrong-struct*: built for another struct, it writes over the host's field. *overwrite* and "
            "*strip* change the file that runs, in place. refused: still on the old version. rolled back: on the old "
            "version again, and the host goes on. loaded: the peer has no such check, and this time nothing happened. "
            "broken: alive, with nothing left to call until the next good module. stale: alive, but the new content "
            "never runs.", "",
            "The modules of hotpatch-rs, libloading and dlopen are the same C files as ours. `hotreload, C`, "
            "`hotreload watch` and `hotreload, Rust` are hosts that use what hotreload offers for development: they "
            "declare the layout of their struct and have the guard on; `hotreload as hotpatch-rs` does neither, as its "
            "API has neither. Rust's own modules are linked with `-z now`: a missing symbol in one is an error of "
            "`dlopen` there too, not a death at the call. What hot-lib-reloader does with an overwritten file depends "
            "on the moment at which it looks.", "",
            *table(["", *cases], self.rows("survive", cells)),
        ]  # fmt: skip

    @staticmethod
    def verdict(text: str) -> str:
        return text if text.startswith((*SURVIVED, "stale", "n/a")) else f"**{text}**"

    def memory(self) -> list[str]:
        if "memory" not in self.results:
            return []

        def cells(row: Data) -> list[str]:
            swaps = int(row["swaps"][-1])
            kib, mappings = per_swap(row, "resident_kib"), per_swap(row, "mappings")
            return [str(swaps), f"{kib:.1f} KiB", f"{mappings:.2f}", f"{row['resident_kib'][-1] / 1024:.1f} MiB",
                    f"{row['mappings'][-1]:.0f}", str(row["missed"])]  # fmt: skip

        head = ["", "swaps", "memory a swap", "mappings a swap", "memory after", "mappings after", "missed"]
        return ["## (f) What swaps leave behind", "",
                "A process may have 65,530 mappings. Unloading is off by default; its row pauses up to 20 ms after "
                "each swap, as its scans want time.", "",
                *table(head, self.rows("memory", cells))]  # fmt: skip

    def held(self) -> list[str]:
        part = self.results.get("held")
        if not part:
            return []

        def cells(row: Data) -> list[str]:
            live = time_text(row["swap_us"]) if row["swap_us"] >= 0 else "never"
            return [live, "no" if waited(row) else "yes", time_text(row["longest_other_call_us"])]

        held_ms = next((row["held_ms"] for row in part.values() if "held_ms" in row), 0)
        head = ["", "new code after", "before the call ended", "longest call of a third thread"]
        return ["## (g) A swap while a thread is inside a call", "",
                f"A thread is inside b for {held_ms / 1000:.0f} s; the swap comes 0.3 s later.", "",
                *table(head, self.rows("held", cells))]  # fmt: skip

    def cpu(self) -> list[str]:
        if not self.results.get("cpu"):
            return []

        def cells(row: Data) -> list[str]:
            return [f"{row['idle']['share']:.2%}", f"{row['storm']['share']:.2%}",
                    f"{row['storm']['events_per_second']:.0f}"]  # fmt: skip

        head = ["", "idle", "event storm", "files written a second"]
        return ["## (h) The processor's time of what watches", "",
                "Share of one core: of the process `hotreload watch`, or of the host, which is called or ticked 60 "
                "times a second where it polls there and does nothing otherwise. libhotpatch and the stat poller have "
                "no thread that watches: they cost their host's calls instead.", "",
                *table(head, self.rows("cpu", cells))]  # fmt: skip

    def growth(self) -> list[str]:
        part = self.results.get("growth")
        if not part:
            return []
        lines = ["## (i) How our costs grow", "", "![growth](plots/growth.svg)", ""]
        laws = []
        slots, modules = part.get("slots", []), part.get("modules", [])
        reloads, hosts = part.get("reloads", []), part.get("hosts", [])
        for key, what, unit in (("commit_us", "commit", "us"), ("prepare_us", "all before the commit", "us"),
                                ("call_ns", "a call", "ns")):  # fmt: skip
            laws += self.laws(what, [(row["slots"], row[key]) for row in slots], unit, "slot")
        laws += self.laws("load", list(enumerate(modules, 1)), "us", "live module")
        for key, what, unit in (("load_us", "load", "us"), ("open_us", "of it dlopen", "us"),
                                ("resident_kib", "memory", "KiB"), ("mappings", "mappings", "")):  # fmt: skip
            laws += self.laws(what, [(row["reloads"], row[key]) for row in reloads if key in row], unit, "reload")
            plain = [(row["reloads"], row[key]) for row in part.get("dlopens", []) if key != "open_us"]
            laws += self.laws(f"{what}, copy and dlopen", plain, unit, "reload")
        laws += self.laws(
            "one transaction", [(row["hosts"], statistics.median(row["ms"])) for row in hosts], "ms", "host"
        )
        rows = [[str(row["slots"]), time_text(row["commit_us"]), time_text(row["prepare_us"]),
                 f"{row['call_ns']:.2f} ns"] for row in slots]  # fmt: skip
        kinds = [(kind, share) for kind in ("ms", "without_pause_ms") for share in (0.5, 0.95)]
        host_rows = [
            [str(row["hosts"]), *(f"{quantile(row[kind], share):.2f} ms" for kind, share in kinds)] for row in hosts
        ]
        loader = (
            "What grows with reloads is the loader: it compares the new name with those of all libraries that are "
            "loaded, and ours are longer than a bare copy's (state directory, module, build id)."
        )
        return [*lines, *table(["cost against size", "law that fits"], laws), *([loader, ""] if reloads else []),
                *table(["slots of one module", "commit", "all before", "call"], rows),
                "Transactions come 0.2 s apart, as builds at their fastest do; without a pause the files that hosts "
                "make ahead for the next copy are made in the way of the next transaction.", "",
                *table(["hosts of one transaction", "p50", "p95", "no pause: p50", "p95"], host_rows)]  # fmt: skip

    def floors(self) -> list[str]:
        part = self.results.get("floors")
        if not part:
            return []
        return [
            "## Floors, and what remains above them", "",
            *table(["", "ours", "floor", "ratio", "what the rest is"], [row for row in self.floor_rows(part) if row]),
        ]  # fmt: skip

    def floor_rows(self, part: Data) -> list[list[str]]:
        load, watch, start, shown = part["load"], part["watch"], part["start"], part["dashboard"]
        swaps = {name: statistics.median(us) for name, row in self.results.get("swaps", {}).items()
                 if (us := present(row.get("us", [])))}  # fmt: skip
        step = load["steps_us"]
        rows = [
            against("a load: dlopen and dlsym of the same file", load["load_us"], load["dlopen_us"], time_text,
                    ", ".join(f"{name} {us:.0f} us" for name, us in step.items() if us >= 0.5)
                    + " (open is dlopen itself: the copy is a file whose pages nobody has touched)"),
            against("a load: with the copy of the file", load["load_us"], load["copy_dlopen_us"], time_text,
                    "stage makes, fills, names and locks a private file after checking owner, directories and writers; "
                    "it stays on disk for debuggers and backtraces"),
        ]  # fmt: skip
        if WATCH in swaps and "inotify" in swaps:
            candidate, look = (statistics.median(watch[key]) for key in ("candidate_us", "look_us"))
            rows.append(against(
                "watching: an inotify loop that copies and opens", swaps[WATCH], swaps["inotify"], time_text,
                f"{time_text(candidate)} to the candidate, of which {time_text(look)} look for writers and preflight, "
                f"the rest is threads of the watching library; {time_text(load['load_us'])} in the host; what is left "
                "are the session's threads and the socket",
            ))  # fmt: skip
        bare, version = statistics.median(start["bare_ms"]), statistics.median(start["version_ms"])
        rows.append(against("`hotreload --version`: `python -c pass`", version * 1e3, bare * 1e3, time_text,
                            "importing click and the package"))  # fmt: skip
        frames = f"{shown['frames_per_second']:.1f} frames a second, {shown['bytes_per_frame'] / 1024:.1f} KiB each"
        what = "dashboard, 1,000 slots that change before every frame: an idle terminal"
        rows.append([what, f"{shown['share']:.2%} of a core", "0", "", frames])
        return rows

    @staticmethod
    def laws(what: str, points: Sequence[tuple[float, float]], unit: str, thing: str) -> list[list[str]]:
        if len(points) < 2:
            return []
        sizes, costs = [size for size, _ in points], [cost for _, cost in points]
        return [[f"{what}, {sizes[0]} to {sizes[-1]} {thing}s", law(sizes, costs, unit, thing)]]


def against(what: str, ours: float, floor: float, show: Callable[[float], str], rest: str) -> list[str]:
    return [what, show(ours), show(floor), f"{ours / floor:.2f} x", rest]


def waited(row: Data) -> bool:
    """Whether the swap came when the call of section (g) was over; the two may end within microseconds."""
    return not row["before_the_call_ended"] or bool(row["swap_us"] > 0.9e3 * (row["held_ms"] - 300))


def per_swap(row: Data, key: str) -> float:
    numbers = row[key]
    return float((numbers[-1] - numbers[0]) / row["swaps"][-1])


# ---- plots ----


def plot_calls(report: Report, axes: Any) -> None:
    part = {name: row for name, row in report.called.items() if row}
    threads = sorted({each for row in part.values() for each in row}, key=int)
    for at, each in enumerate(threads):
        values = [row[each].ratio if each in row else float("nan") for row in part.values()]
        places = [place + (at - 1) * 0.27 for place in range(len(part))]
        axes.barh(places, values, 0.25, label=threads_text(each))
    axes.set_yticks(range(len(part)), [report.labels[name] for name in part])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("times a plain pointer call")
    axes.set_title("A call")
    axes.legend()


def plot_swaps(report: Report, axes: Any) -> None:
    part = {name: present(row.get("us", [])) for name, row in report.results["swaps"].items()}
    part = {name: us for name, us in part.items() if us}
    axes.boxplot([[each / 1000 for each in us] for us in part.values()], orientation="horizontal", whis=(5, 95),
                 sym="", widths=0.6)  # fmt: skip
    axes.set_yticks(range(1, len(part) + 1), [report.labels[name] for name in part])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("ms from the rename to the first new result (whiskers: p5, p95)")
    axes.set_title("A swap")


def plot_growth(report: Report, figure: Any) -> None:
    part = report.results["growth"]
    panels = figure.subplots(2, 2)
    slots, modules = part.get("slots", []), part.get("modules", [])
    reloads, hosts = part.get("reloads", []), part.get("hosts", [])
    curves = (
        ("commit, us", "slots", [row["slots"] for row in slots], [row["commit_us"] for row in slots]),
        ("load, us", "live modules", range(1, len(modules) + 1), modules),
        ("load, us", "reloads", [row["reloads"] for row in reloads], [row["load_us"] for row in reloads]),
        ("transaction, ms", "hosts", [row["hosts"] for row in hosts], [statistics.median(row["ms"]) for row in hosts]),
    )
    floor = part.get("dlopens", [])
    for axes, (cost, size, sizes, costs) in zip(panels.flat, curves, strict=True):
        axes.plot(sizes, costs, "." if len(sizes) > 20 else "o-", markersize=4, label="hotreload")
        if size == "reloads" and floor:
            axes.plot([row["reloads"] for row in floor], [row["load_us"] for row in floor], "o-", markersize=4,
                      label="copy and dlopen")  # fmt: skip
            axes.legend()
        axes.set_xlabel(size)
        axes.set_ylabel(cost)
        if costs:
            axes.set_ylim(bottom=0, top=quantile(list(costs), 0.99) * 1.3)


def plots(report: Report, directory: Path) -> str:
    """Draws what the run has data for; returns what to tell the user."""
    try:
        import matplotlib
    except ImportError:
        return "no plots: matplotlib is not installed"
    matplotlib.use("svg")
    # The same input gives the same bytes, so that a new run changes what has changed.
    matplotlib.rcParams["svg.hashsalt"] = "hotreload"
    from matplotlib import pyplot

    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, draw in (("calls", plot_calls), ("swaps", plot_swaps), ("growth", plot_growth)):
        if not report.results.get(name):
            continue
        figure = pyplot.figure(figsize=(9, 6) if name == "growth" else (8, 5), layout="constrained")
        draw(report, figure if name == "growth" else figure.add_subplot())
        figure.savefig(directory / f"{name}.svg", metadata={"Date": None})
        pyplot.close(figure)
        drawn.append(name)
    return f"plots: {', '.join(drawn)}"


def between_marks(text: str, lines: Sequence[str]) -> str:
    """The text with these lines between its marks.

    Raises:
        ValueError: It has no marks.
    """
    before, begin, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (begin and end):
        raise ValueError(f"no {MARKS[0]} ... {MARKS[1]}")
    return before + begin + "\n" + "\n".join(lines).strip() + "\n" + end + after


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("file", nargs="?", type=Path, default=RAW)
    options.add_argument("--output", type=Path, help="the directory for RESULTS.md and plots/")
    chosen = options.parse_args()
    directory = chosen.output or (HERE if chosen.file.resolve() == RAW else chosen.file.resolve().parent)
    report = Report(json.loads(chosen.file.read_text()))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "RESULTS.md").write_text(report.text())
    if directory == HERE:
        README.write_text(between_marks(README.read_text(), report.readme()))
    print(f"{directory / 'RESULTS.md'}; {plots(report, directory / 'plots')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
