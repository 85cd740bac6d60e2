"""What a dead host's black box and core file say together: who was where, and who is to be suspected.

`examine` is pure: it gets what was read and returns a finding, which reporters show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hotreload.core_file import CoreFile
from hotreload.model import Host, Module, ModuleRecord, Record, SlotRecord, Snapshot, ThreadRecord

EVENTS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Inside:
    """A thread that was in a slot when its host died."""

    thread: int
    symbol: str
    version: int
    certain: bool
    """False: its call began before the slot's last swap, and may have run the version before."""
    module: Module | None
    """Whose code the version is; None for the fallback."""
    swapped_at: float


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of an examination. ``suspect`` is None where nothing points at a slot; ``why`` says so."""

    host: Host
    generation: int
    program: str
    inside: tuple[Inside, ...]
    in_frames: tuple[int, ...]
    """Threads in a frame, between its slot calls."""
    outside: int
    """Threads that have called slots and were in none."""
    events: tuple[Record, ...]
    core: CoreFile | None
    no_core: str
    suspect: Inside | None
    suspected_module: Module | None
    why: str
    place: str
    """What lies where the thread died: ``module: function+0x10 (file.c:12 in function)``, as much as is known; empty
    without a core file."""


def examine(
    snapshot: Snapshot,
    threads: Sequence[ThreadRecord],
    events: Sequence[Record],
    program: str,
    core: CoreFile | None,
    no_core: str,
    name_at: Callable[[Path, int], str],
    image_of: Callable[[ModuleRecord], Path | None],
) -> Finding:
    """Puts together what was read.

    Args:
        name_at: Names what lies at an address of a file's image.
        image_of: A file with the very bytes of a module, if there still is one.
    """
    by_index = {slot.index: slot for slot in snapshot.slots}
    inside = tuple(_inside(each, by_index[each.slot]) for each in threads if each.slot in by_index)
    crashed = _crashed_in(core, snapshot.modules)
    suspect, why = _suspect(inside, core, crashed)
    module = suspect.module if suspect else crashed.module if crashed else None
    return Finding(
        host=snapshot.host,
        generation=snapshot.generation,
        program=program,
        inside=inside,
        in_frames=tuple(each.thread for each in threads if each.inside and each.slot not in by_index),
        outside=sum(not each.inside for each in threads),
        events=tuple(events[-EVENTS_SHOWN:]),
        core=core,
        no_core=no_core,
        suspect=suspect,
        suspected_module=module,
        why=why,
        place=_place(core, crashed, name_at, image_of),
    )


def _inside(thread: ThreadRecord, slot: SlotRecord) -> Inside:
    behind = (thread.epoch - slot.epoch) & 0xFFFFFFFF
    certain = slot.version == 0 or behind < 0x80000000
    return Inside(thread.thread, slot.symbol, slot.version, certain, slot.module, slot.swapped_at)


def _crashed_in(core: CoreFile | None, modules: Sequence[ModuleRecord]) -> ModuleRecord | None:
    """The module in whose staged copy the dead thread's program counter lies."""
    where = core.where() if core else None
    return next((each for each in modules if where and each.staged == where[0]), None)


def _suspect(
    inside: Sequence[Inside], core: CoreFile | None, crashed: ModuleRecord | None
) -> tuple[Inside | None, str]:
    if core is not None:
        found = next((each for each in inside if each.thread == core.thread), None)
        if found is not None and crashed is not None:
            return found, f"thread {core.thread} died in code of the module, called through this slot"
        if found is not None:
            return found, f"thread {core.thread} died in a call of this slot, in code that the slot called"
        if crashed is not None:
            return None, f"thread {core.thread} died in code of {crashed.module.name}, but in no slot call"
        return None, f"thread {core.thread} died outside all slots and modules"
    patched = [each for each in inside if each.version > 0]
    if patched:
        newest = max(patched, key=lambda each: each.swapped_at)
        return newest, "of the slots that were being called, it was swapped last"
    if inside:
        return None, "only fallbacks were being called"
    return None, "no slot was being called"


def _place(
    core: CoreFile | None,
    crashed: ModuleRecord | None,
    name_at: Callable[[Path, int], str],
    image_of: Callable[[ModuleRecord], Path | None],
) -> str:
    where = core.where() if core else None
    if where is None:
        return ""
    path, address = where
    if crashed is None:
        return f"{Path(path).name}: {name_at(Path(path), address)}"
    image = image_of(crashed)
    # Whatever else is at its path now would name another function, and the wrong one.
    return f"{crashed.module.name}: {name_at(image, address) if image else f'+{address:#x}, of a build that is gone'}"
