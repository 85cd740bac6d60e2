"""What the one-shot commands print: reports, hosts, slots, an inspection; as JSON where no console is given."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from hotreload.history import Entry
from hotreload.model import (
    OK,
    SAME,
    Against,
    Comparison,
    EventKind,
    Failure,
    Host,
    Layouts,
    LayoutType,
    Manifest,
    ModuleRecord,
    Record,
    Report,
    SlotRecord,
    Snapshot,
)
from hotreload.reporters.jsonl import as_object, layout_row, rfc3339
from hotreload.reporters.layouts import comparison_lines
from hotreload.reporters.wording import (
    call_times,
    changes,
    clean,
    count,
    milliseconds,
    module_title,
    one_line,
    residents,
    uptime,
)
from hotreload.speed import Baseline, Gain

_TIMES = "TOOK"


def _dump(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")


# ---- load and rollback ----


def print_reports(
    answers: Sequence[tuple[Host, Report]], console: Console | None, done: EventKind = EventKind.SWAP
) -> None:
    """One line, or one JSON object of the kind that ``watch --json`` prints, for each report."""
    for host, report in answers:
        record = _record(host, report, done)
        if console is None:
            _dump(as_object(record))
        else:
            style = {EventKind.REJECT: "bold red", EventKind.SAME: "dim"}.get(record.kind, "green")
            console.print(Text(one_line(record), style=style), soft_wrap=True)


def _record(host: Host, report: Report, done: EventKind) -> Record:
    kind = done if report.code == OK else EventKind.SAME if report.code == SAME else EventKind.REJECT
    record = Record(kind, time.time(), host, report.module, report.changes, us=report.us, warnings=report.warnings)
    failure = report.failure
    if failure is None:
        return record
    return replace(
        record,
        code=failure.code,
        reason=failure.reason,
        fix=failure.fix,
        found=failure.found,
        expected=failure.expected,
        layout=failure.layout,
    )


# ---- history ----


def print_history(entries: Sequence[Entry], console: Console | None) -> None:
    """The entries, oldest first."""
    if console is None:
        _dump([_entry_object(each) for each in entries])
    elif not entries:
        console.print("nothing has been swapped here yet; --all shows other projects")
    else:
        table = _table("#", "TIME", "EVENT", "HOST", "MODULE", "VERSION", "ID", "KEPT", "SLOT")
        for each in entries:
            table.add_row(
                str(each.number), time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.time)), each.kind.value,
                f"{clean(each.host.name)} {each.host.pid}", clean(each.module.name), f"v{each.module.version}",
                each.module.short_id, "yes" if each.retained else "-", changes(each.changes, 2),
            )  # fmt: skip
        _print(table, console, "KEPT", "HOST", "TIME", "VERSION", "EVENT")


def _entry_object(entry: Entry) -> dict[str, Any]:
    """An event with more keys."""
    event = as_object(Record(entry.kind, entry.time, entry.host, entry.module, entry.changes))
    kept = str(entry.retained) if entry.retained else None
    content = f"{entry.module.content:016x}"
    return {**event, "number": entry.number, "project": entry.project, "content": content, "retained": kept}


# ---- ps ----


def print_hosts(snapshots: Sequence[Snapshot], console: Console | None, *, now: float) -> None:
    """The hosts, with what keeping old modules costs them."""
    if console is None:
        _dump([_host_object(each) for each in snapshots])
    elif not snapshots:
        console.print("no host is running: start a program that calls hr_serve (or Runtime.serve)")
    else:
        table = _table("PID", "HOST", "UP", "GENERATION", "SLOTS", "MODULES", "RESIDENT", "MAPPINGS", "CALLS")
        for each in snapshots:
            table.add_row(
                str(each.host.pid), clean(each.host.name), uptime(now - each.host.started), str(each.generation),
                str(len(each.slots)), str(len(each.modules)), f"{each.residents.bytes / 1024:.0f} KiB",
                str(each.residents.mappings), count(sum(each.calls)),
            )  # fmt: skip
        _print(table, console, "MAPPINGS", "GENERATION", "MODULES", "UP", "RESIDENT", "SLOTS")
        for each in snapshots:
            _warn(each, console, f"{clean(each.host.name)} pid {each.host.pid}: ")


def _warn(snapshot: Snapshot, console: Console, whose: str = "") -> None:
    """What needs the user: a grace period that does not end, resident modules beyond their budget."""
    if snapshot.blocked:
        console.print(Text(f"{whose}{snapshot.blocked}", style="yellow"), soft_wrap=True)
    if snapshot.residents.too_many:
        fix = "unload them (--unload), raise --budget, or restart the host"
        console.print(Text(f"{whose}{residents(snapshot.residents)}: {fix}", style="yellow"), soft_wrap=True)


def _host_object(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "host": {"pid": snapshot.host.pid, "name": snapshot.host.name},
        "version": snapshot.host.version,
        "started": snapshot.host.started,
        "generation": snapshot.generation,
        "slots": len(snapshot.slots),
        "modules": len(snapshot.modules),
        "resident_bytes": snapshot.residents.bytes,
        "resident": _residents_object(snapshot),
        "blocked": snapshot.blocked,
        "calls": sum(snapshot.calls),
    }


def _residents_object(snapshot: Snapshot) -> dict[str, Any]:
    found = snapshot.residents
    return {
        "modules": found.modules,
        "bytes": found.bytes,
        "mappings": found.mappings,
        "budget": found.budget,
        "warning": found.too_many,
    }


# ---- slots ----

REASONS_SHOWN = 8
AMPLE = 1000
"""Columns that no table needs."""


_DESCRIBED = {
    "": "not described",
    "host": "not in the module",
    "module": "not in the host",
    "checked": "checked",
}


def print_slots(snapshots: Sequence[Snapshot], console: Console | None) -> None:
    """What runs in each slot of each host."""
    if console is None:
        _dump([_slots_object(each) for each in snapshots])
        return
    for each in snapshots:
        console.print(f"{clean(each.host.name)}  pid {each.host.pid}  generation {each.generation}")
        timed = [_TIMES] if each.times else []
        table = _table(
            "SLOT", "VERSION", "STATE", "MODULE", "LAYOUT", "CALLS", "ON VERSION", "IN FLIGHT", "FIRST CALL", *timed
        )
        for row, slot in enumerate(each.slots):
            table.add_row(
                clean(slot.symbol), f"v{slot.version}", slot.state.value,
                module_title(slot.module) if slot.module else "-", _DESCRIBED[slot.described],
                str(each.calls[row]),
                str(each.calls_on_version(row)), str(each.in_flight[row]), _first_call(slot),
                *([call_times(*each.times[row])] if timed else []),
            )  # fmt: skip
        _print(table, console, "IN FLIGHT", "LAYOUT", "FIRST CALL", "ON VERSION", "STATE", "CALLS")
        _print_residents(each, console)
        _warn(each, console)


def _print_residents(snapshot: Snapshot, console: Console) -> None:
    if snapshot.residents.modules and not snapshot.residents.too_many:
        console.print(residents(snapshot.residents))
    kept = [record for record in snapshot.modules if record.state == "retired" and record.reason]
    for record in kept[-REASONS_SHOWN:]:
        console.print(Text(f"  {module_title(record.module)}  {clean(record.reason)}", style="dim"), soft_wrap=True)


def _first_call(slot: SlotRecord) -> str:
    if slot.unproven:
        return "not called since the swap"
    return f"{milliseconds((slot.first_called - slot.swapped_at) * 1e6)} after it" if slot.swaps else "-"


def _slots_object(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "host": {"pid": snapshot.host.pid, "name": snapshot.host.name},
        "generation": snapshot.generation,
        "blocked": snapshot.blocked,
        "resident": _residents_object(snapshot),
        "slots": [_slot_object(snapshot, row) for row in range(len(snapshot.slots))],
        "modules": [_module_object(record) for record in snapshot.modules],
    }


def _slot_object(snapshot: Snapshot, row: int) -> dict[str, Any]:
    slot = snapshot.slots[row]
    return {
        "symbol": slot.symbol,
        "version": slot.version,
        "module": slot.module.name if slot.module else None,
        "module_version": slot.module.version if slot.module else None,
        "build_id": slot.module.build_id if slot.module else None,
        "calls": snapshot.calls[row],
        "calls_on_version": snapshot.calls_on_version(row),
        "in_flight": snapshot.in_flight[row],
        "state": slot.state.value,
        "layout": slot.described or "none",
        "swapped_at": _moment(slot.swapped_at),
        "first_called": _moment(slot.first_called),
        **_times_object(snapshot, row),
    }


def _moment(when: float) -> str | None:
    return rfc3339(when) if when else None


def _times_object(snapshot: Snapshot, row: int) -> dict[str, Any]:
    """Sampled call times: of the version, and of the one before; nothing while the host does not sample."""
    if not snapshot.times:
        return {}
    names = ("times", "previous_times")
    return {
        name: asdict(times) if times.samples else None for name, times in zip(names, snapshot.times[row], strict=True)
    }


def _module_object(record: ModuleRecord) -> dict[str, Any]:
    module = record.module
    return {
        "name": module.name,
        "version": module.version,
        "build_id": module.build_id,
        "path": module.path,
        "state": record.state,
        "reason": record.reason,
        "bytes": record.bytes,
        "resident": record.resident,
        "mappings": record.mappings,
    }


# ---- inspect ----


def print_inspection(
    path: Path,
    found: Manifest | Failure,
    layouts: Layouts | None,
    console: Console | None,
    against: Against | None = None,
) -> None:
    """A module's manifest and layouts, or why it would be rejected; with ``against``, what of the layouts differs."""
    if console is None:
        _dump(_inspection_object(path, found, layouts, against))
    elif isinstance(found, Failure):
        console.print(Text(f"{found.code}: {clean(found.reason)}", style="bold red"), soft_wrap=True)
        for name in ("found", "expected", "fix"):
            text = getattr(found, name)
            if text:
                console.print(Text(f"  {name + ':':9} {clean(text)}"), soft_wrap=True)
    else:
        module = found.module
        console.print(f"{clean(module.name)} v{module.version}  build id {module.build_id or '-'}")
        table = _table("SLOT", "FUNCTION")
        for entry in found.entries:
            table.add_row(clean(entry.symbol), f"{entry.function:#x}")
        console.print(table)
        hooks = [name for name in ("on_load", "on_unload") if getattr(found, name)]
        console.print(f"hooks: {', '.join(hooks) or 'none'}; warnings: {', '.join(found.warnings) or 'none'}")
        if found.exports:
            told = [f"{name} ({found.unload})" if "UNLOAD" in name else name for name in found.exports]
            console.print(f"optional exports: {', '.join(told)}")
        if against is not None:
            _print_against(against, console)
        else:
            _print_layouts(layouts, found.migrations, console)


def _print_layouts(layouts: Layouts | None, migrations: Sequence[str], console: Console) -> None:
    if layouts is None:
        console.print("layouts: not described")
        return
    console.print()
    table = _table("TYPE", "OFFSET", "SIZE", "")
    for each in layouts.types:
        if each.kind == "void":
            continue
        table.add_row(f"{clean(each.name)} ({each.kind})", "", str(each.size), f"align {each.align}")
        for field in each.fields:
            place = f"= {field.offset}" if each.kind == "enum" else str(field.offset)
            size = "" if each.kind == "enum" else str(field.size)
            table.add_row(f"  {clean(field.name)}", place, size, clean(field.type))
    console.print(table)
    for symbol, *takes in layouts.takes:
        words = ", ".join(f"{name} {clean(text) or 'not told'}" for name, text in zip(_ARGUMENTS, takes, strict=True))
        console.print(f"{clean(symbol)} takes {words}")
    if migrations:
        console.print(f"migrates: {', '.join(clean(each) for each in migrations)}")


_ARGUMENTS = ("state", "input", "output")


def _print_against(against: Against, console: Console) -> None:
    if against.described:
        compared = against.described
        both = f"{compared.types} types and {compared.slots} slots that both describe"
        _print_comparison("layouts", against, compared, both, console)
    elif against.debug_info is None:
        who = "the module" if against.silent == "module" else clean(against.name)
        console.print(f"layouts: not compared, {who} describes none")
    if against.debug_info:
        compared = against.debug_info
        both = f"{compared.types} type{'s' * (compared.types != 1)} that both have"
        _print_comparison("debug info", against, compared, both, console)
    for name, reason in against.missing:
        about = f"{clean(name)}: " if name else ""
        console.print(f"debug info: not compared, {about}{clean(reason)}", soft_wrap=True)


def _print_comparison(source: str, against: Against, compared: Comparison, both: str, console: Console) -> None:
    if not compared.rows:
        console.print(f"{source}: equal to those of {clean(against.name)} ({both})", style="green")
        return
    verdict, style = ("E-LAYOUT: differ from", "bold red") if compared.refused else ("compatible with", "green")
    console.print(f"{source}: {verdict} those of {clean(against.name)} ({both})", style=style)
    table = _table("", "NAME", "HOST", "MODULE", "")
    for line in comparison_lines(compared.rows):
        tone = "red" if line.refused else "green" if line.change else ""
        table.add_row(line.mark, line.name, line.host, line.module, line.change, style=tone)
    console.print(table)


def _inspection_object(
    path: Path, found: Manifest | Failure, layouts: Layouts | None, against: Against | None
) -> dict[str, Any]:
    if isinstance(found, Failure):
        texts = {"found": found.found, "expected": found.expected}
        return {"path": str(path), "code": found.code, "reason": found.reason, "fix": found.fix, **texts}
    module = found.module
    return {
        "path": str(path),
        "manifest": {
            "name": module.name,
            "version": module.version,
            "build_id": module.build_id,
            "content": f"{module.content:016x}",
            "entries": [{"symbol": entry.symbol, "function": entry.function} for entry in found.entries],
            "on_load": bool(found.on_load),
            "on_unload": bool(found.on_unload),
        },
        "layouts": [_type_object(each) for each in layouts.types] if layouts else [],
        "takes": [
            {"symbol": symbol, "state": state, "input": given, "output": result}
            for symbol, state, given, result in (layouts.takes if layouts else ())
        ],
        "migrates": list(found.migrations),
        "unload": found.unload or None,
        "exports": list(found.exports),
        "warnings": list(found.warnings),
        **({} if against is None else {"against": _against_object(against)}),
    }


def _type_object(each: LayoutType) -> dict[str, Any]:
    fields = [
        {"name": field.name, "value": field.offset}
        if each.kind == "enum"
        else {"name": field.name, "type": field.type, "offset": field.offset, "size": field.size}
        for field in each.fields
    ]
    return {"name": each.name, "kind": each.kind, "size": each.size, "align": each.align, "fields": fields}


def _against_object(against: Against) -> dict[str, Any]:
    """``verdict``: ``equal``, ``compatible``, ``E-LAYOUT``, or ``not described`` where nothing could be compared;
    ``sources`` says by what, ``not_compared`` what was not, and why."""
    compared = against.compared
    rows = [row for each in compared for row in each.rows]
    verdict = "E-LAYOUT" if against.refused else "compatible" if rows else "equal"
    named = (("descriptions", against.described), ("debug info", against.debug_info))
    return {
        "name": against.name,
        "verdict": verdict if compared else "not described",
        "sources": [name for name, each in named if each],
        "types": sum(each.types for each in compared),
        "slots": sum(each.slots for each in compared),
        "rows": [layout_row(row) for row in rows],
        "not_compared": [{"type": name, "reason": reason} for name, reason in against.missing],
    }


# ---- what makes builds faster ----


WORTH_TELLING = 1.1
"""How many times faster a rebuild must be to be advised: less is not told from what else the machine does."""


def print_gains(base: Baseline, gains: Sequence[Gain], console: Console | None) -> None:
    """What each lever brought, the best first; ``gains`` begins with the warm build directory."""
    ordered = sorted(gains, key=lambda gain: -gain.ratio)
    if console is None:
        _dump({**asdict(base), "gains": [asdict(gain) for gain in ordered]})
        return
    console.print(f"a rebuild after an edit of {base.source}: {base.warm:.2f} s; a first build: {base.cold:.2f} s")
    table = _table("LEVER", "REBUILD", "FASTER", "HOTRELOAD.TOML")
    for gain in ordered:
        seconds = "-" if gain.seconds is None else f"{gain.seconds:.2f} s"
        helps = gain.ratio >= WORTH_TELLING
        ratio = "-" if gain.seconds is None else f"{gain.ratio:.2f} x" if helps else "no"
        text = "; ".join(filter(None, (gain.advice, gain.note))) if helps or gain.seconds is None else ""
        table.add_row(gain.name, seconds, ratio, Text(clean(text)))
    console.print(table)
    if not any(gain.ratio >= WORTH_TELLING for gain in gains[1:]):
        console.print("nothing that is installed here makes these builds faster by a tenth")


_RIGHT = frozenset(
    ["OFFSET", "SIZE", "PID", "GENERATION", "SLOTS", "MODULES", "RESIDENT", "MAPPINGS", "CALLS", "UP", "REBUILD"]
    + ["FASTER"]
    + ["ON VERSION", "IN FLIGHT"]
)
_WRAPPED = frozenset({"LAYOUT", "SLOT", "MODULE", "HOST", "HOTRELOAD.TOML"})
"""Long names wrap where the terminal is narrow; numbers never lose a digit."""


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        justify: JustifyMethod = "right" if name in _RIGHT else "left"
        table.add_column(name, justify=justify, no_wrap=name not in _WRAPPED, overflow="fold")
    return table


def _print(table: Table, console: Console, *expendable: str) -> None:
    """Prints a table; where the terminal is too narrow for it, without these columns, as many of them as need be. Names
    in three lines of two letters each help nobody."""
    ample = console.options.update(max_width=AMPLE)
    left_out = []
    for name in expendable:
        if Measurement.get(console, ample, table).maximum <= console.width:
            break
        table = _without(table, name)
        left_out.append(name)
    console.print(table)
    if left_out:
        text = f"no room for {', '.join(left_out)}: see --json, or a wider terminal"
        console.print(Text(text, style="dim"), soft_wrap=True)


def _without(table: Table, name: str) -> Table:
    # Not by taking the column out: rich remembers places of columns, for their padding.
    kept = [column for column in table.columns if column.header != name]
    found = _table(*(str(column.header) for column in kept))
    for cells in zip(*(column.cells for column in kept), strict=True):
        found.add_row(*cells)
    return found
