"""Sessions to look at: states and snapshots for the tests of views and reporters, and for the dashboard's benchmark."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hotreload.meter import HostView, Meter
from hotreload.model import (
    Change,
    Directory,
    EventKind,
    Host,
    Module,
    ModuleRecord,
    Record,
    SlotRecord,
    SlotState,
    Snapshot,
    WatchMode,
)
from hotreload.reporters import wording
from hotreload.session import Build, BuildPhase, Child, HostState, State

NOW = 1_767_276_271.0  # 2026-01-01 14:04:31 UTC
HOST = Host(48213, "synth", NOW - 724, "0.1.0")

OLD = Module("synth", 6, "0be2aa0177c1", "/home/ada/synth/target/release/libsynth.so")
SYNTH = Module("synth", 7, "a1f3c09e5b20", "/home/ada/synth/target/release/libsynth.so")
NEXT = Module("synth", 8, "e81012f47a3d", "/home/ada/synth/target/release/libsynth.so")
EFFECTS = Module("fx", 3, "77be0d12c4c4", "/home/ada/synth/target/release/libfx.so")

Speed = Callable[[float], float]
"""Calls per second at a second of the half minute."""


def slot(
    symbol: str,
    index: int = 0,
    version: int = 0,
    module: Module | None = None,
    state: SlotState | None = None,
    since: float = 0.0,
    at_swap: int = 0,
    called: bool = True,
) -> SlotRecord:
    """A slot in one line; live when it has a module. ``called``: soon after its swap."""
    found = state or (SlotState.LIVE if module else SlotState.FALLBACK)
    first = since + 0.002 if called and since else 0.0
    return SlotRecord(symbol, index, version, found, module, version, version, since, 0, at_swap, first)


def view(slots: Sequence[SlotRecord], speeds: Sequence[Speed], *, host: Host = HOST, alive: bool = True) -> HostView:
    """A host that has been watched for 31 seconds; ``speeds[i]`` is the speed of ``slots[i]``."""
    meter = Meter()
    calls = [4 * record.calls_at_swap // 3 for record in slots]
    modules = tuple(ModuleRecord(item, "live", "", 7, NOW - 140, 403 << 10) for item in distinct(slots))
    for second in range(32):
        calls = [total + int(speed(second)) for total, speed in zip(calls, speeds, strict=True)]
        flying = [1 if index == 1 else 0 for index in range(len(slots))]
        snapshot = Snapshot(1000.0 + second, host, 9, alive, tuple(slots), modules, tuple(calls), flying)
        meter.observe(snapshot)
    return HostView(snapshot, meter)


def distinct(slots: Sequence[SlotRecord]) -> list[Module]:
    return list({record.module.name: record.module for record in slots if record.module}.values())


def synth(host: Host = HOST, *, alive: bool = True) -> HostView:
    """Six slots of a synthesiser: busy, growing, idle and original ones."""
    slots = [
        slot("synth.render_block", 0, 7, SYNTH, since=NOW - 140, at_swap=202_000),
        slot("synth.voice_tick", 1, 7, SYNTH, since=NOW - 140, at_swap=6_100_000),
        slot("fx.reverb", 2, 3, EFFECTS, since=NOW - 1500, at_swap=40_000),
        slot("fx.limiter", 3),
        slot("seq.next_step", 4, 5, Module("seq", 5, "c90a4471e0e0", "libseq.so"), since=NOW - 600, at_swap=4_000),
        slot("ui.on_key", 5, 2, Module("ui", 2, "5d11e8f0aa10", "libui.so"), since=NOW - 5000, at_swap=28),
    ]
    speeds: list[Speed] = [
        lambda second: 344 + 40 * math.sin(second / 2),
        lambda second: 7000 + 4000 * math.sin(second / 3.1) + 120 * second,
        lambda second: 344 if second > 9 else 40 + 20 * second,
        lambda second: 344,
        lambda second: 8 if second % 7 < 3 else 1,
        lambda second: 0,
    ]
    return view(slots, speeds, host=host, alive=alive)


def many(count: int = 1000, tick: int = 0) -> HostView:
    """``count`` slots of one module, each with a speed of its own."""
    slots = [slot(f"module{i % 13:02d}.kernel_{i:05d}", i, 1, SYNTH, since=NOW - 60) for i in range(count)]
    return view(slots, [lambda second, i=i: (i * 37 + second * 11 + tick) % 977 for i in range(count)])


STEPS = {"stage": 310, "preflight": 240, "open": 1180, "on_load": 20, "commit": 6, "total": 1930}

SWAPPED = Record(
    EventKind.SWAP,
    NOW - 140,
    HOST,
    SYNTH,
    (Change("synth.render_block", 6, 7), Change("synth.voice_tick", 6, 7)),
    "ok",
    us=STEPS,
)
REJECTED = Record(
    EventKind.REJECT,
    NOW - 12,
    HOST,
    NEXT,
    code="E-ABI",
    reason="the module's ABI version is not the host's",
    found="abi_version 0x0002, struct_size 0x0040",
    expected="abi_version 0x0001, struct_size 0x0038",
    fix="rebuild the module against this shim's headers: hotreload config --cflags",
    us={"stage": 290, "preflight": 210, "total": 520},
)


def records() -> tuple[Record, ...]:
    """A session of a quarter of an hour."""
    return (
        Record(EventKind.ATTACH, NOW - 720, HOST, reason="6 slots, shim 0.1.0"),
        Record(
            EventKind.SWAP,
            NOW - 600,
            HOST,
            Module("seq", 5, "c90a4471e0e0", "libseq.so"),
            (Change("seq.next_step", 4, 5),),
            "ok",
            us=STEPS,
        ),
        Record(
            EventKind.SWAP,
            NOW - 512,
            HOST,
            OLD,
            (Change("synth.render_block", 5, 6), Change("synth.voice_tick", 5, 6)),
            "ok",
            us={**STEPS, "total": 2210},
        ),
        Record(
            EventKind.BUILD,
            NOW - 260,
            code="E-BUILD",
            reason="failed with exit code 101: error[E0308]: mismatched types",
        ),
        Record(EventKind.BUILD, NOW - 231, reason="ok in 1.91 s"),
        Record(EventKind.SAME, NOW - 231, HOST, OLD, code="same"),
        Record(EventKind.BUILD, NOW - 140, reason="ok in 1.84 s"),
        SWAPPED,
    )


def directory(mode: WatchMode = WatchMode.INOTIFY) -> Directory:
    return Directory(Path("target/release"), mode)


def attached(*hosts: Host) -> Mapping[int, HostState]:
    return {host.pid: HostState(host, attached=True, since=NOW - 720) for host in hosts}


def session(**changes: object) -> State:
    """The quarter of an hour, with anything about it changed."""
    build = Build("cargo build --release", BuildPhase.OK, NOW - 142, 1.84)
    state = State((directory(),), attached(HOST), build, None, records=records(), swaps=7, rollbacks=0)
    return replace(state, **changes)  # type: ignore[arg-type]


def rejected(**changes: object) -> State:
    """The same after one more build, which was refused."""
    everything = {
        "rejection": REJECTED,
        "records": (*records(), Record(EventKind.BUILD, NOW - 12, reason="ok in 1.88 s"), REJECTED),
        "rejections": 1,
    }
    return session(**{**everything, **changes})


def failed_build() -> Build:
    lines = (
        "   Compiling synth v0.3.0 (/home/ada/synth)",
        "\x1b[33mwarning\x1b[0m: unused variable: `gain`",
        "\x1b[1;31merror[E0308]\x1b[0m: mismatched types",
        "  --> src/voice.rs:88:17",
        "   |",
        "88 |     self.env = level;",
        "   |                ^^^^^ expected `f32`, found `f64`",
        "error: could not compile `synth` (lib) due to 1 previous error",
    )
    return Build("cargo build --release", BuildPhase.FAILED, NOW - 3, 1.2, 101, lines)


def child() -> Child:
    lines = tuple(f"bar {index}: 120 bpm, 16 voices" for index in range(40))
    return Child(("./target/release/synth", "--loop"), HOST.pid, Path("/tmp/synth.log"), None, lines)


@contextmanager
def utc() -> Iterator[None]:
    """Local times read as UTC, wherever the test runs."""
    before = os.environ.get("TZ")
    _set_zone("UTC")
    try:
        yield
    finally:
        _set_zone(before)


def _set_zone(name: str | None) -> None:
    if name is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = name
    time.tzset()
    wording._clock.cache_clear()
