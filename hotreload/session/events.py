"""What happens to a session: what the user asks for, and what the runner tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hotreload.model import Busy, DirectoryChanged, Failure, Host, Problem, Record, Report, Settled, Settling

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
class RestartHost:
    """Start our host again now."""


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Hide the pinned rejection."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Show only what happens from now on."""


@dataclass(frozen=True, slots=True)
class Quit:
    """End the session; hosts go on running."""


Command = RollBack | TogglePause | Rebuild | RestartHost | Dismiss | Clear | Quit


# ---- what the runner tells ----


@dataclass(frozen=True, slots=True)
class HostFound:
    """A host was attached. ``running`` are the names of the modules that it has loaded before."""

    host: Host
    symbols: frozenset[str]
    running: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class HostChanged:
    """A host's slots or modules are others than before."""

    pid: int
    symbols: frozenset[str]
    running: frozenset[str]


@dataclass(frozen=True, slots=True)
class HostLost:
    """The connection to a host ended."""

    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One host's answer to a transaction: reports in the order of the offer, or why there are none."""

    reports: tuple[Report, ...] = ()
    failure: Failure | None = None
    copies: tuple[Path | None, ...] = ()
    """For each report: the kept copy of what was swapped in."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A transaction has ended."""

    number: int
    outcomes: Mapping[int, Outcome]
    answered: float = 0.0
    """When the last host's answer had come (``time.time()``): the new code was live. 0 where nobody has noted it."""


@dataclass(frozen=True, slots=True)
class Differs:
    """A module that was swapped in turns out to have other types than its host."""

    pid: int
    output: Path
    content: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A roll back has ended."""

    pid: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Seen:
    """Things that happened in a host without our doing."""

    pid: int
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """The time has come to offer outputs again."""

    outputs: frozenset[Path]


@dataclass(frozen=True, slots=True)
class Flush:
    """The watcher has delivered all outputs of the build that has ended."""


@dataclass(frozen=True, slots=True)
class SourcesChanged:
    """Sources were edited."""

    first: str
    """One of them, for people."""
    saved: float = 0.0
    """When the newest of them was saved."""


@dataclass(frozen=True, slots=True)
class BuildLine:
    """A line of the build's output."""

    line: str


@dataclass(frozen=True, slots=True)
class BuildEnded:
    """The build command exited."""

    exit_code: int
    seconds: float
    ended: float = 0.0
    problems: tuple[Problem, ...] = ()
    stopped: bool = False
    """We ended it, as we were asked to by StopBuild."""
    outdated: frozenset[int] = frozenset()
    """Our hosts whose own code it has changed."""


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """The host that we were asked to start runs."""

    pid: int
    log: Path


@dataclass(frozen=True, slots=True)
class ChildOutput:
    """The newest lines of its output; of a torrent not all."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """It exited; minus the signal's number when it was killed."""

    exit_code: int
    pid: int = 0


@dataclass(frozen=True, slots=True)
class ChildAbsent:
    """It could not be started."""

    reason: str


@dataclass(frozen=True, slots=True)
class HostOutdated:
    """Hosts of ours whose own code somebody else's build has changed."""

    pids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Configured:
    """The configuration has changed. None and empty: no build, no host of ours."""

    build: str | None
    command: tuple[str, ...]
    busy: Busy
    restart: bool
    watched: tuple[Path, ...] | None = None
    """Where outputs are from now on; None where that is as before."""


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """The configuration was changed to something wrong; what was read before stays in force."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Note:
    """Something to tell the user (the demo narrates with it)."""

    text: str


Event = (
    Settled
    | Settling
    | DirectoryChanged
    | HostFound
    | HostChanged
    | HostLost
    | Offered
    | RolledBack
    | Differs
    | Seen
    | Retry
    | Flush
    | SourcesChanged
    | BuildLine
    | BuildEnded
    | ChildStarted
    | ChildOutput
    | ChildEnded
    | ChildAbsent
    | HostOutdated
    | Configured
    | Misconfigured
    | Note
    | Command
)
