"""What a session knows, as one immutable value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType

from hotreload.model import Busy, Candidate, Directory, Host, Manifest, Problem, Record


class BuildPhase(Enum):
    """What the build is doing."""

    IDLE = "idle"
    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Build:
    """The last or running build. Moments are in seconds since the epoch; ``lines`` the newest of its output."""

    command: str
    phase: BuildPhase = BuildPhase.IDLE
    started: float = 0.0
    seconds: float = 0.0
    exit_code: int = 0
    lines: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    """What the compilers objected to, errors first."""
    saved: float = 0.0
    """When the edit that it is for was saved; 0 for none."""
    ended: float = 0.0
    wanted_again: bool = False
    saved_since: float = 0.0
    """When the edit that the next build is for was saved."""
    swapped: frozenset[Path] = frozenset()
    """Outputs of it that a host has taken: how long that took is told once."""


@dataclass(frozen=True, slots=True)
class Child:
    """The host that watch itself started. ``exit_code`` is None while it runs; ``lines`` the newest of its output."""

    command: tuple[str, ...]
    pid: int = 0
    log: Path | None = None
    exit_code: int | None = None
    lines: tuple[str, ...] = ()
    restarting: bool = False
    """It is being ended, to be started again."""


@dataclass(frozen=True, slots=True)
class HostState:
    """One host as the session knows it. ``since``: attached or gone since, in seconds since the epoch."""

    host: Host
    attached: bool
    since: float
    gone: str = ""
    """Why it is gone, for people; empty while attached."""
    symbols: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()
    """Names of the modules that it has run."""
    handled: Mapping[Path, frozenset[int]] = field(default_factory=lambda: MappingProxyType({}))
    """Contents that were offered to it, of each output's newest offer."""
    supplied: frozenset[Path] = frozenset()
    """Outputs of which it has run some version."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A content that a host swapped in, and the copy of it that outlives both the build output and that host."""

    content: int
    copy: Path | None = None
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """One watched build output."""

    path: Path
    candidate: Candidate
    accepted: tuple[Accepted, ...] = ()
    """Oldest first, the last ACCEPTED_KEPT."""
    refused: tuple[int, ...] = ()
    """Contents that a host rejected or that were rolled back, oldest first, the last REFUSED_KEPT."""
    retries: int = 0
    unreadable: bool = False
    """Its file could not be read when it was last offered: kept copies serve until it settles again."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to load for an output: the output itself, or the kept copy of its newest accepted content."""

    output: Path
    load: Path
    content: int
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True)
class Transaction:
    """An offer under way: for each host the modules that it is to swap."""

    number: int
    offers: Mapping[int, tuple[Wanted, ...]]

    @property
    def outputs(self) -> frozenset[Path]:
        return frozenset(wanted.output for offer in self.offers.values() for wanted in offer)


@dataclass(frozen=True, slots=True)
class State:
    """All that the session knows."""

    directories: tuple[Directory, ...] = ()
    hosts: Mapping[int, HostState] = field(default_factory=lambda: MappingProxyType({}))
    build: Build | None = None
    child: Child | None = None
    busy: Busy = Busy.QUEUE
    restart: bool = False
    """Start our host again when its own code has changed, or when it has ended and a build succeeds."""
    paused: bool = False
    settling: tuple[Path, ...] = ()
    """Outputs that a writer has not finished."""
    rejection: Record | None = None
    """The newest refusal that nothing accepted has replaced: pinned on screen until then or until dismissed."""
    records: tuple[Record, ...] = ()
    """What happened, oldest first, the last RECORDS_KEPT."""
    cleared: tuple[Record, ...] = ()
    """What the user has cleared away, oldest first, the last RECORDS_KEPT: still the history of the slots."""
    swaps: int = 0
    rejections: int = 0
    rollbacks: int = 0
    outputs: Mapping[Path, Output] = field(default_factory=lambda: MappingProxyType({}))
    groups: tuple[frozenset[Path], ...] = ()
    """What waits to be offered, oldest first; no output is in two of them, so that a long pause costs nothing."""
    withheld: frozenset[Path] = frozenset()
    """Good outputs whose group had a bad one, whose build runs or failed, or that wait for another try: they go with
    the next group, and until then a host that comes is given what was accepted before."""
    repeating: frozenset[Path] = frozenset()
    """What of these waits for another try."""
    flushing: bool = False
    """A build has ended and its last outputs are still awaited."""
    spoiled: bool = False
    """An output of the running or last build was refused before any host saw it."""
    transaction: Transaction | None = None
    transactions: int = 0

    @property
    def held(self) -> int:
        """Outputs that wait for the end of a pause."""
        return len(frozenset().union(*self.groups)) if self.paused else 0
