"""The words and numbers that reporters share: how a count, a span, a moment, a module or a record reads."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from functools import lru_cache

from hotreload.model import Change, ChangeKind, EventKind, Host, Module, Record, Residents, Times

STEPS = (
    *("notice", "build", "deliver"),  # from the save to the host, of what dev has built
    *("settle", "stage", "preflight", "layout", "same", "open", "check", "on_load", "commit"),
)
_UNITS = "kMGTPE"

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_]|[ -/][0-~])")
# Controls would move the cursor, bidirectional marks reorder the screen, joiners and selectors make widths a guess,
# and surrogates cannot be written at all.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
_SURROGATE = re.compile("[\ud800-\udfff]")

_PAST = {
    EventKind.ATTACH: "",  # the kind and the host say all
    EventKind.DETACH: "detached",
    EventKind.CANDIDATE: "new build output",
    EventKind.SAME: "rebuilt with identical content, not swapped",
    EventKind.REJECT: "rejected",
    EventKind.SWAP: "swapped",
    EventKind.ROLLBACK: "rolled back",
    EventKind.RETIRE: "backs no slot any more",
    EventKind.UNLOAD: "unloaded",
    EventKind.CRASH: "crashed",
    EventKind.CALLED: "called for the first time",
    EventKind.BLOCKED: "a grace period does not end",
    EventKind.BUDGET: "resident modules take more than their budget",
    EventKind.LAYOUT: "runs, but has other types than its host",
    EventKind.BUILD: "build",
    EventKind.NOTE: "",
}

LOUD = frozenset({EventKind.REJECT, EventKind.CRASH, EventKind.LAYOUT})
"""What somebody has to do something about."""


def clean(text: str) -> str:
    """One line of text that is safe to print: no escape sequences, no controls, tabs as four spaces."""
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPES.sub("", text).replace("\t", "    ").replace("\n", " ")
    return _SURROGATE.sub("?", _UNSAFE.sub("", text))


def count(number: float) -> str:
    """A count or rate in at most five characters: ``0.4``, ``37``, ``999``, ``1.20k``, ``131k``, ``8.04M``."""
    if number < 10 and number != int(number):
        return f"{number:.1f}" if number >= 0.05 else "<0.1"
    if number < 999.5:
        return f"{number:.0f}"
    power = 0
    while number >= 999.5 and power < len(_UNITS):
        number /= 1000
        power += 1
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{digits}f}{_UNITS[power - 1]}"


def span(seconds: float) -> str:
    """How long, for people: ``8 s``, ``2 min 05 s``, ``3 h 07 min``, ``4 d 03 h``."""
    whole = max(0, int(seconds))
    for size, unit, part, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part:02d} {smaller}"
    return f"{whole} s"


def uptime(seconds: float) -> str:
    """A running time as a clock shows it: ``00:12:04``, ``3d 04:05:06``."""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86400)
    clock_text = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}d {clock_text}" if days else clock_text


def clock(when: float) -> str:
    """The local time of day of a moment in seconds since the epoch."""
    return _clock(int(when))


@lru_cache(maxsize=2048)
def _clock(when: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(when))


def residents(them: Residents) -> str:
    """What modules that back no slot cost: ``3 modules that back no slot keep 96 KiB in memory and 15 mappings``."""
    if them.modules == 0:
        return ""
    many = (
        "1 module that backs no slot keeps" if them.modules == 1 else f"{them.modules} modules that back no slot keep"
    )
    over = f", over the budget of {them.budget / 1024:.0f} KiB" if them.budget < them.bytes else ""
    return f"{many} {them.bytes / 1024:.0f} KiB in memory and {them.mappings} mappings{over}"


def milliseconds(us: float) -> str:
    """Microseconds as milliseconds with two significant digits or so: ``0.03 ms``, ``1.93 ms``, ``41 ms``."""
    ms = us / 1000
    return f"{ms:.2f} ms" if ms < 9.995 else f"{ms:.0f} ms" if ms < 9999.5 else f"{ms / 1000:.1f} s"


def nanoseconds(ns: float) -> str:
    """A call's time with two significant digits or so: ``8 ns``, ``1.2 µs``, ``34 ms``."""
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if ns >= size * 0.9995:
            return f"{ns / size:.1f} {unit}" if ns < 9.95 * size else f"{ns / size:.0f} {unit}"
    return f"{ns:.0f} ns"


def call_times(times: Times, before: Times) -> str:
    """A version's sampled call times beside those of the version before: ``p50 1.2 µs, p99 3.4 µs (v6: 1.0, ...)``."""
    if not times.samples:
        return ""
    text = f"p50 {nanoseconds(times.p50_ns)}, p99 {nanoseconds(times.p99_ns)}"
    if before.samples:
        ratio = times.p50_ns / max(1, before.p50_ns)
        text += f"; v{before.version}: {nanoseconds(before.p50_ns)}, {nanoseconds(before.p99_ns)} (x{ratio:.2f})"
    return text


def module_title(module: Module) -> str:
    """A module by name, its manifest's version and its content: ``synth v8 a1f3c09e``."""
    if not module.name:
        return clean(module.path.rpartition("/")[2])
    if not module.build_id and not module.content:  # known by name only, as one that is to be rolled back
        return clean(module.name)
    return f"{clean(module.name)} v{module.version} {module.short_id}"


def host_title(host: Host) -> str:
    return f"{clean(host.name)} pid {host.pid}"


def change(item: Change) -> str:
    """What happened to one slot: ``synth.tick v6→v7``."""
    symbol = clean(item.symbol)
    if item.kind is ChangeKind.KEPT:
        return f"{symbol} keeps v{item.after}"
    if item.before == item.after:
        return f"{symbol} v{item.after}"
    note = " (no host slot declares it)" if item.kind is ChangeKind.UNDECLARED else ""
    return f"{symbol} v{item.before}→v{item.after}{note}"


def changes(items: Sequence[Change], most: int = 4) -> str:
    """The slots of a commit; from the fifth on only their number, as a module may have thousands."""
    text = ", ".join(change(item) for item in items[:most])
    return f"{text} and {len(items) - most} more" if len(items) > most else text


def what(record: Record) -> str:
    """A record's sentence, without its time, kind, code, slots and numbers."""
    parts = list(filter(None, [module_title(record.module)])) if record.module else []
    if record.kind in (EventKind.ATTACH, EventKind.DETACH) and record.host:
        parts = [host_title(record.host)]
    if record.reason:
        parts.append(clean(record.reason))
    elif record.kind in (EventKind.SWAP, EventKind.ROLLBACK) and record.changes:
        pass  # the slots follow, and say it better
    elif _PAST[record.kind]:
        parts.append(_PAST[record.kind])
    return "  ".join(parts)


def failure_code(record: Record) -> str:
    """The stable code of a failure (``E-...``); empty for what went well, and for the phases of a build."""
    return record.code if record.code.startswith("E-") else ""


def took(record: Record) -> str:
    """The whole time of a load, from the save where that is known; empty when it was not measured, and for a build,
    whose text says it."""
    if record.kind is EventKind.BUILD:
        return ""
    spent = record.us.get("loop") or record.us.get("total") or sum(record.us.values())
    return milliseconds(spent) if spent else ""


def step_times(record: Record) -> str:
    """The steps of a load in milliseconds, in their order; those that would read 0.00 are left out."""
    us = record.us
    steps = (*STEPS, *(step for step in us if step not in STEPS and step not in ("total", "loop")))
    return " ".join(f"{step.replace('_', ' ')} {us[step] / 1000:.2f}" for step in steps if us.get(step, 0) >= 5)


def outcome(record: Record) -> str:
    """What a refusal means for the running host."""
    if record.kind is EventKind.LAYOUT:
        return "it runs already"
    return "rolled back" if record.kind is EventKind.CRASH else "nothing was swapped"


def one_line(record: Record) -> str:
    """Everything a record says, on one line, without its time."""
    kind = record.kind.value.upper() if record.kind in LOUD else record.kind.value
    parts = [what(record)]
    if record.host and record.kind not in (EventKind.ATTACH, EventKind.DETACH):
        parts.append(f"in {host_title(record.host)}")
    if record.changes:
        parts.append(changes(record.changes))
    parts += [f"{name}: {clean(text)}" for name, text in _details(record) if text]
    if record.kind in LOUD:
        parts.append(outcome(record))
    if spent := took(record):
        named = step_times(record)
        parts.append(f"{spent} ({named})" if named else spent)
    code = failure_code(record)
    return f"{kind:<9} " + "; ".join(part for part in ([code] if code else []) + parts if part)


def _details(record: Record) -> tuple[tuple[str, str], ...]:
    return (
        ("expected", record.expected),
        ("found", record.found),
        ("fix", record.fix),
        ("warning", ", ".join(record.warnings)),
    )


def plural(number: int, noun: str) -> str:
    """``"1 slot"``, ``"2 slots"``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
