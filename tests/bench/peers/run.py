"""Measures hotreload beside its published peers, in one run, and writes the raw numbers as JSON.

    python tests/bench/peers/run.py [--quick] [--only NAME...] [--output FILE]

NAME is a peer or a measure (calls, swaps, longest, pairs, survive, memory, held, cpu, growth, floors). The peers come
from crates.io, pinned by rust/Cargo.toml and Cargo.lock; without cargo only the C ones run. ``report.py`` makes tables
and plots from the file. A full run takes about eight minutes and wants a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

import measures  # noqa: E402

import build  # noqa: E402

RAW = HERE.parent / "raw"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--quick", action="store_true", help="a tiny run that tries the scripts out")
    options.add_argument("--only", nargs="+", default=[], metavar="NAME", help="peers and measures; all by default")
    options.add_argument("--output", type=Path, help="by default tests/bench/raw/peers.json, or build/quick.json")
    chosen = options.parse_args()
    known = {peer.name for peer in build.PEERS} | set(measures.MEASURES)
    if unknown := set(chosen.only) - known:
        options.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
    peers = [peer for peer in build.PEERS if peer.name in chosen.only] or list(build.PEERS)
    wanted = [name for name in measures.MEASURES if name in chosen.only] or list(measures.MEASURES)
    # A part of a run must not pass for the whole one.
    partial = chosen.quick or chosen.only
    output = chosen.output or (build.BUILD / "quick.json" if partial else RAW / "peers.json")

    print("building", flush=True)
    able = build.build(peers)
    for peer in peers:
        if peer not in able:
            print(f"  left out, no cargo: {peer.name}")
    effort = measures.QUICK if chosen.quick else measures.Effort()
    result = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "quick": chosen.quick, "machine": machine(), "versions": versions(), "effort": asdict(effort),
        "load_before": os.getloadavg(), "peers": {peer.name: peer.label for peer in able} | measures.LABELS,
        "results": {}, "seconds": {},
    }  # fmt: skip
    for name in wanted:
        began = time.monotonic()
        print(name, end=" ", flush=True)
        result["results"][name] = measures.MEASURES[name](able, effort)
        result["seconds"][name] = round(time.monotonic() - began, 1)
        result["load_after"] = os.getloadavg()
        print(f"{result['seconds'][name]} s", flush=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(compact(result))  # after each measure: a run that is stopped leaves what it has
    print(f"written: {output}\n  python tests/bench/report.py {output}")
    return 0


def compact(result: dict[str, Any]) -> str:
    """JSON with lists of numbers on one line: a thousand lines of numbers are no better to read."""
    marks: dict[str, str] = {}

    def replace(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: replace(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            if any(isinstance(each, (dict, list)) for each in value):
                return [replace(each) for each in value]
            mark = f"@{len(marks)}@"
            marks[f'"{mark}"'] = json.dumps(value)
            return mark
        return value

    text = json.dumps(replace(result), indent=1)
    for mark, line in marks.items():
        text = text.replace(mark, line, 1)
    return text + "\n"


def machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo").read_text().splitlines()
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "processor": next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), "?"),
        "cores": os.cpu_count(), "memory_gib": round(int(memory) / 2**20, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }  # fmt: skip


def versions() -> dict[str, str]:
    tools = {"cc": [build.cc(), "--version"], "rustc": ["rustc", "--version"], "libc": ["getconf", "GNU_LIBC_VERSION"]}
    found = {"python": platform.python_version(), "hotreload": revision()}
    for name, words in tools.items():
        try:
            found[name] = subprocess.run(words, capture_output=True, text=True).stdout.splitlines()[0]
        except (OSError, IndexError):
            found[name] = "not here"
    return found


def revision() -> str:
    words = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    done = subprocess.run(words, capture_output=True, text=True)
    return done.stdout.strip() or "not a checkout"


if __name__ == "__main__":
    sys.exit(main())
