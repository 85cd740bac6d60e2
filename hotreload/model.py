"""The immutable values that flow from the shim, the watcher and the hosts to session and reporters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import ClassVar

from hotreload.errors import HotreloadError

OK = "ok"
SAME = "same"
UNTRIED = "untried"
"""The warning that a trial run could not call all of a module's slots."""


@dataclass(frozen=True, slots=True)
class LayoutSide:
    """A field, or a type as a whole, as one side has it, in bytes. An enumerator's offset is its value."""

    type: str
    offset: int
    size: int
    align: int = 0
    """Of a type; 0 for a field."""


@dataclass(frozen=True, slots=True)
class LayoutRow:
    """A line of a comparison of layouts: about a type as a whole (``field`` is empty), one of its fields, or what a
    slot takes (``argument``; ``type`` is the slot, ``field`` is ``state``, ``input`` or ``output``).

    ``changes`` holds the words ``added``, ``removed``, ``moved``, ``resized``, ``retyped``, ``realigned`` and
    ``migrated``, or nothing for what is equal. What is not ``refused`` is compatible, as growth into a reserve is.
    """

    type: str
    field: str
    host: LayoutSide | None
    module: LayoutSide | None
    changes: tuple[str, ...]
    refused: bool
    argument: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """A module's layouts against a host's: ``types`` and ``slots`` that both describe, and rows for what differs."""

    types: int
    slots: int
    rows: tuple[LayoutRow, ...]

    @property
    def refused(self) -> bool:
        return any(row.refused for row in self.rows)


@dataclass(frozen=True, slots=True)
class Against:
    """A module's types beside those of a host or a file of that name."""

    name: str
    described: Comparison | None
    """Of what both describe; None where one of them describes nothing, and..."""
    silent: str
    """...``"host"`` or ``"module"``: which one that is."""
    debug_info: Comparison | None
    """Of the rest, by debug info; None where that does not tell, and..."""
    missing: tuple[tuple[str, str], ...]
    """...why: types (empty: all), each with the reason."""

    @property
    def compared(self) -> tuple[Comparison, ...]:
        return tuple(each for each in (self.described, self.debug_info) if each)

    @property
    def refused(self) -> bool:
        return any(each.refused for each in self.compared)


@dataclass(frozen=True, slots=True)
class LayoutField:
    """A field of a struct or union; of an enum an enumerator, whose value is ``offset``."""

    name: str
    type: str
    offset: int
    size: int
    number: str = ""
    """What it is whatever it is called, as Rust spells it (``"u32"``); empty for what is no number."""


@dataclass(frozen=True, slots=True)
class LayoutType:
    """A described type. ``kind`` is ``struct``, ``union``, ``enum``, ``scalar`` or ``void``."""

    name: str
    kind: str
    size: int
    align: int
    fields: tuple[LayoutField, ...]
    partial: bool = False
    """Only some of its fields are described."""


@dataclass(frozen=True, slots=True)
class Layouts:
    """A description: its types, and for each slot the names of state, input and output (empty: not told)."""

    types: tuple[LayoutType, ...]
    takes: tuple[tuple[str, str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something was refused. ``code`` is stable (``"E-ABI"``); the texts are for people and may be empty."""

    code: str
    reason: str
    found: str = ""
    expected: str = ""
    fix: str = ""
    layout: tuple[LayoutRow, ...] = field(default=(), kw_only=True)
    """Of ``E-LAYOUT``: all that differs."""

    @classmethod
    def of(cls, error: HotreloadError) -> Failure:
        """The same as an exception tells."""
        return cls(error.code, error.reason, error.found, error.expected, error.fix)


@dataclass(frozen=True, slots=True)
class Module:
    """A patch module: its manifest's name and version, its content, and the build output it came from."""

    name: str
    version: int
    build_id: str
    path: str
    content: int = 0

    @property
    def short_id(self) -> str:
        """The first eight digits of the build id, or of the content's hash."""
        return self.build_id[:8] if self.build_id else f"{self.content:016x}"[:8]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a manifest: the slot's symbol and the function's virtual address in the file."""

    symbol: str
    function: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """What preflight read from a module's bytes. Addresses are virtual, 0 for none; warnings are stable words."""

    module: Module
    entries: tuple[Entry, ...]
    address: int
    on_load: int
    on_unload: int
    warnings: tuple[str, ...]
    layout: bytes = b""
    """The layouts that it describes, as `native.layouts` and `native.compare` read them; empty: none."""
    migrations: tuple[str, ...] = ()
    """The types whose state it migrates."""
    unload: str = ""
    """What it says about its own unloading: ``quiescent`` or ``never``; empty: nothing."""

    @property
    def exports(self) -> tuple[str, ...]:
        """The optional symbols that it exports beside its manifest."""
        there = {"LAYOUT": self.layout, "MIGRATE": self.migrations, "UNLOAD": self.unload}
        return tuple(f"HOTPATCH_{name}_V1" for name, value in there.items() if value)

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(entry.symbol for entry in self.entries)


class ChangeKind(Enum):
    """What a commit did to a slot."""

    SWAPPED = "swapped"
    UNDECLARED = "undeclared"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Change:
    """A slot's version before and after a commit."""

    symbol: str
    before: int
    after: int
    kind: ChangeKind = ChangeKind.SWAPPED


@dataclass(frozen=True, slots=True)
class Report:
    """What one module's load, rejection or rollback did in one host.

    ``code`` is ``"ok"``, ``"same"`` or the failure's code. ``us`` maps the steps ``stage``, ``preflight``, ``layout``,
    ``same``, ``open``, ``check``, ``on_load``, ``commit`` and ``total`` to microseconds.
    """

    code: str
    module: Module
    generation: int
    changes: tuple[Change, ...] = ()
    failure: Failure | None = None
    us: Mapping[str, int] = field(default_factory=dict)
    staged: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """A running host as it introduced itself. ``started`` is in seconds since the epoch."""

    pid: int
    name: str
    started: float = 0.0
    version: str = ""


@dataclass(frozen=True, slots=True)
class Guard:
    """How long a swapped slot is on probation, and what a hang is; 0 stands for the host's default."""

    calls: int = 0
    seconds: float = 0.0
    hang_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What a tool asks hosts for when it attaches; None leaves an option as the host has it."""

    guard: Guard | None = None
    sample_every: int | None = None
    """Time one call in so many; 0 for the host's default."""
    trial_seconds: float | None = None
    """Try modules in a copy of the host, for at most so long; 0 for the host's default."""
    unload: bool | None = None
    """Whether modules that nothing points into any more are unmapped."""
    budget: int | None = None
    """Bytes that resident modules may take before there is a warning."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A settled build output: either its manifest, or why preflight refuses it. ``settled`` is ``time.monotonic()``."""

    path: Path
    settled: float
    manifest: Manifest | None = None
    failure: Failure | None = None
    existing: bool = False
    """True when it was there before the watch began."""
    size: int = 0


class SlotState(Enum):
    """What runs in a slot."""

    FALLBACK = "fallback"
    LIVE = "live"
    UNDECLARED = "undeclared"
    PROBATION = "probation"


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """A slot as the black box describes it; times in seconds since the epoch, 0 for never."""

    symbol: str
    index: int
    version: int
    state: SlotState
    module: Module | None
    generation: int
    swaps: int
    swapped_at: float
    calls_base: int
    calls_at_swap: int
    first_called: float = 0.0
    """When this version was called first."""
    epoch: int = 0
    """A call that began in this one or later runs this version; an earlier one may run what was before."""
    described: str = ""
    """Who tells the layouts that it takes: ``checked`` (both), ``host``, ``module``, or nobody."""

    @property
    def unproven(self) -> bool:
        """The slot was swapped, and nobody has called it since."""
        return self.swaps > 0 and not self.first_called


@dataclass(frozen=True, slots=True)
class ModuleRecord:
    """A module as the black box describes it. ``state`` is ``live``, ``retired`` or ``unloaded``."""

    module: Module
    state: str
    reason: str
    generation: int
    loaded_at: float
    bytes: int
    staged: str = ""
    resident: int = 0
    """Bytes of it in memory, and..."""
    mappings: int = 0
    """...its mappings: measured once it backs no slot, 0 before, and when it is unloaded."""


@dataclass(frozen=True, slots=True)
class ThreadRecord:
    """A thread that calls slots, as the black box describes it."""

    thread: int
    slot: int
    """The index of the innermost slot that it is in; 0 for none."""
    inside: bool
    """In a slot or a frame."""
    epoch: int
    """The epoch in which it entered: see `SlotRecord.epoch`."""


@dataclass(frozen=True, slots=True)
class Remains:
    """The black box that a dead host has left. ``started`` is in seconds since the epoch."""

    path: Path
    pid: int
    started: float


@dataclass(frozen=True, slots=True)
class Residents:
    """What the modules cost that back no slot and are still mapped; ``budget`` in bytes is what may be."""

    modules: int = 0
    bytes: int = 0
    mappings: int = 0
    budget: int = 0

    MAPPINGS_MANY: ClassVar[int] = 32768
    """Half of what Linux gives a process."""

    @property
    def too_many(self) -> bool:
        """They are worth a warning."""
        return 0 < self.budget < self.bytes or self.mappings > self.MAPPINGS_MANY


@dataclass(frozen=True, slots=True)
class Times:
    """How long the sampled calls of one version of a slot took, nanoseconds."""

    version: int
    samples: int
    p50_ns: int
    p99_ns: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One host's black box at one moment.

    ``calls[i]`` and ``in_flight[i]`` belong to ``slots[i]``: exact calls since the host began, and threads inside now.
    ``slots`` and ``modules`` are the very objects of the previous snapshot while nothing was swapped.
    """

    time: float
    """``time.monotonic()`` of the reading, seconds."""
    host: Host
    generation: int
    alive: bool
    slots: tuple[SlotRecord, ...]
    modules: tuple[ModuleRecord, ...]
    calls: Sequence[int]
    in_flight: Sequence[int]
    blocked: str = ""
    """Names the thread and slot that a grace period waits for; empty when none does."""
    times: Sequence[tuple[Times, Times]] = ()
    """Of ``slots[i]``: its version's call times and the previous one's; empty while the host does not sample."""
    residents: Residents = Residents()

    def calls_on_version(self, row: int) -> int:
        """Calls that reached ``slots[row]`` since its last change."""
        return max(0, self.calls[row] - self.slots[row].calls_at_swap)


@dataclass(frozen=True, slots=True)
class Problem:
    """What a compiler objects to. Line and column count from 1, 0 where they were not told."""

    severity: str
    """``error`` or ``warning``."""
    message: str
    path: str
    line: int
    column: int
    code: str = ""
    lines: tuple[str, ...] = ()
    """The compiler's own words, with the excerpt and its colours."""


class Busy(Enum):
    """What an edit does while a build runs."""

    QUEUE = "queue"
    """Build again when the running build has ended."""
    RESTART = "restart"
    """End the running build and begin again."""
    IGNORE = "ignore"


class EventKind(Enum):
    """The fixed event names of DESIGN.md section 9, and ``called``; ``NOTE`` is for people and never in ``--json``."""

    ATTACH = "attach"
    DETACH = "detach"
    CANDIDATE = "candidate"
    SAME = "same"
    REJECT = "reject"
    SWAP = "swap"
    ROLLBACK = "rollback"
    RETIRE = "retire"
    UNLOAD = "unload"
    CRASH = "crash"
    CALLED = "called"
    """The first calls of slots on a new version."""
    BLOCKED = "blocked"
    BUDGET = "budget"
    LAYOUT = "layout"
    """A module that runs already was seen to have other types than its host."""
    BUILD = "build"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Fault:
    """What the guard caught."""

    signal: str
    """``"SIGSEGV"``; empty for a hang."""
    function: str
    """The slot's symbol, or the hook."""
    thread: int
    address: int = 0
    """That the instruction wanted; 0: not known."""
    offset: int = 0
    """The instruction's, or its caller's, in the module's file; 0: not known."""
    restored: int = 0
    """Bytes of state that were restored."""
    staged: str = ""
    """The file that ran."""
    at: str = ""
    """``"counter.c:12 in add"``; empty until it was looked up, and where nothing tells."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened, as every reporter shows it. ``time`` is in seconds since the epoch (UTC)."""

    kind: EventKind
    time: float
    host: Host | None = None
    module: Module | None = None
    changes: tuple[Change, ...] = ()
    code: str = ""
    reason: str = ""
    fix: str = ""
    found: str = ""
    expected: str = ""
    us: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    staged: str = ""
    """The host's own copy of a module that it swapped in, where that is known."""
    problems: tuple[Problem, ...] = ()
    """Of a build."""
    fault: Fault | None = None
    layout: tuple[LayoutRow, ...] = ()


class WatchMode(Enum):
    """How an output directory is being watched."""

    INOTIFY = "inotify"
    POLLING = "polling"
    WAITING = "waiting"
    """The directory does not exist yet; its nearest existing ancestor is watched."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A watched output directory."""

    path: Path
    mode: WatchMode = WatchMode.WAITING


@dataclass(frozen=True, slots=True)
class Settled:
    """The watcher's event: outputs that settled together, to be swapped together."""

    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Settling:
    """The watcher's event: an output has had a writer, or bytes missing, for ``seconds``."""

    path: Path
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class DirectoryChanged:
    """The watcher's event: how a directory is watched has changed."""

    directory: Directory
