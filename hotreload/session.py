"""The watch session as a pure function: ``step(state, event) -> (state, actions)``. No I/O, no clock, no threads.

The runner turns the outside world into events, calls ``step`` and performs the actions; reporters show the state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType

from hotreload.model import Directory, Host, Record

RECORDS_KEPT = 500
OUTPUT_LINES_KEPT = 400


class BuildPhase(Enum):
    IDLE = "idle"
    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Build:
    """The last or running build. ``started`` in seconds since the epoch; ``lines`` the newest lines of its output."""

    command: str
    phase: BuildPhase = BuildPhase.IDLE
    started: float = 0.0
    seconds: float = 0.0
    exit_code: int = 0
    lines: tuple[str, ...] = ()
    wanted_again: bool = False


@dataclass(frozen=True, slots=True)
class Child:
    """The host that watch itself started. ``exit_code`` is None while it runs; ``lines`` the newest of its output."""

    command: tuple[str, ...]
    pid: int = 0
    log: Path | None = None
    exit_code: int | None = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostState:
    """One host as the session knows it. ``since``: attached or gone since, in seconds since the epoch."""

    host: Host
    attached: bool
    since: float
    gone: str = ""
    """Why it is gone, for people; empty while attached."""


@dataclass(frozen=True, slots=True)
class State:
    """All that the session knows."""

    directories: tuple[Directory, ...] = ()
    hosts: Mapping[int, HostState] = field(default_factory=lambda: MappingProxyType({}))
    build: Build | None = None
    child: Child | None = None
    paused: bool = False
    held: int = 0
    """Candidates that wait for the end of a pause."""
    settling: tuple[Path, ...] = ()
    """Outputs that a writer has not finished."""
    rejection: Record | None = None
    """The newest refusal that nothing accepted has replaced: pinned on screen until then or until dismissed."""
    records: tuple[Record, ...] = ()
    """What happened, oldest first, the last RECORDS_KEPT."""
    swaps: int = 0
    rejections: int = 0
    rollbacks: int = 0


# ---- what the user asks for (the dashboard's keys send these) ----


@dataclass(frozen=True, slots=True)
class RollBack:
    """Take back a module; the newest commit of the host where no name is given."""

    pid: int
    module: str | None = None


@dataclass(frozen=True, slots=True)
class TogglePause:
    """Hold new modules, or go on."""


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Run the build command now."""


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Hide the pinned rejection."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Forget the records shown."""


@dataclass(frozen=True, slots=True)
class Quit:
    """End the session; hosts go on running."""


Command = RollBack | TogglePause | Rebuild | Dismiss | Clear | Quit
