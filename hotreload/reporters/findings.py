"""What `hotreload autopsy` prints."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from hotreload.core_file import CoreFile
from hotreload.model import Module, Remains
from hotreload.postmortem import Finding, Inside
from hotreload.reporters.jsonl import as_object, rfc3339
from hotreload.reporters.wording import clean, clock, host_title, module_title, one_line


def print_finding(finding: Finding, kept: Sequence[Remains], console: Console | None) -> None:
    """The finding, for people or as one JSON object."""
    if console is None:
        sys.stdout.write(json.dumps(as_json(finding, kept)) + "\n")
        return

    def line(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    line(
        f"{host_title(finding.host)}, started {rfc3339(finding.host.started)}, generation {finding.generation}", "bold"
    )
    line(f"  {clean(finding.program)}")
    line(f"died     {_death(finding)}")
    suspect = _inside(finding.suspect) if finding.suspect else _title(finding.suspected_module) or "nobody"
    line(f"suspect  {suspect}: {finding.why}", "bold red" if finding.suspected_module else "yellow")
    line("in slots when it died:" if finding.inside else "no thread was in a slot")
    for each in finding.inside:
        line(f"  thread {each.thread}  {_inside(each)}")
    if finding.in_frames:
        line(f"in a frame: threads {', '.join(map(str, finding.in_frames))}")
    line(f"{finding.outside} other threads had called slots")
    line("last events:" if finding.events else "no event is known")
    for record in finding.events:
        line(f"  {clock(record.time)}  {one_line(record)}")
    others = [str(each.pid) for each in kept if each.pid != finding.host.pid]
    if others:
        line(f"also kept: {', '.join(others)}", "dim")


def _title(module: Module | None) -> str:
    return module_title(module) if module else ""


def _inside(each: Inside) -> str:
    version = (
        f"v{each.version}" if each.certain else f"v{each.version}, or v{each.version - 1} where the swap came later"
    )
    return f"{clean(each.symbol)} {version}  {_title(each.module) or 'fallback'}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _death(finding: Finding) -> str:
    core = finding.core
    if core is None:
        return f"of an unknown cause: {finding.no_core}"
    at = f" at {core.address:#x}" if core.address else ""
    place = f" in {clean(finding.place)}" if finding.place else ""
    return f"of {_signal(core.signal)}{at} in thread {core.thread}{place}  ({core.path})"


def as_json(finding: Finding, kept: Sequence[Remains]) -> dict[str, Any]:
    """The finding as ``--json`` prints it."""
    suspect = finding.suspect
    return {
        "host": {"pid": finding.host.pid, "name": finding.host.name},
        "started": finding.host.started,
        "program": finding.program,
        "generation": finding.generation,
        "threads": [_inside_object(each) for each in finding.inside],
        "in_frames": list(finding.in_frames),
        "outside": finding.outside,
        "core": _core_object(finding.core, finding.place) if finding.core else None,
        "no_core": finding.no_core,
        "suspect": {
            "slot": suspect.symbol if suspect else None,
            "version": suspect.version if suspect else None,
            "thread": suspect.thread if suspect else None,
            "module": _module(finding.suspected_module),
            "why": finding.why,
        },
        "events": [as_object(record) for record in finding.events],
        "kept": [each.pid for each in kept],
    }


def _module(module: Module | None) -> dict[str, Any] | None:
    if module is None:
        return None
    return {"name": module.name, "version": module.version, "build_id": module.build_id, "path": module.path}


def _inside_object(each: Inside) -> dict[str, Any]:
    return {
        "thread": each.thread,
        "slot": each.symbol,
        "version": each.version,
        "certain": each.certain,
        "module": _module(each.module),
    }


def _core_object(core: CoreFile, place: str) -> dict[str, Any]:
    return {
        "path": str(core.path),
        "signal": core.signal,
        "thread": core.thread,
        "address": core.address,
        "program_counter": core.program_counter,
        "place": place,
    }
