"""What the runner is to do for a session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hotreload.model import Record
from hotreload.session.events import Retry
from hotreload.session.state import Transaction


@dataclass(frozen=True, slots=True)
class Offer:
    """Prepare and commit on all hosts, or on none; answer with Offered."""

    transaction: Transaction


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Roll back; answer with RolledBack."""

    pid: int
    module: str | None


@dataclass(frozen=True, slots=True)
class RunBuild:
    """Run the build command; answer with BuildLine and BuildEnded."""


@dataclass(frozen=True, slots=True)
class StopBuild:
    """End the running build; answer with BuildEnded."""


@dataclass(frozen=True, slots=True)
class StartHost:
    """Start our host, after the end of one that still runs; answer with ChildStarted."""


@dataclass(frozen=True, slots=True)
class After:
    """Send an event later."""

    seconds: float
    event: Retry


@dataclass(frozen=True, slots=True)
class Forget:
    """Tell the watcher that the output's content is news when it is written again."""

    path: Path


@dataclass(frozen=True, slots=True)
class Show:
    """Give a record to the reporters."""

    record: Record


@dataclass(frozen=True, slots=True)
class Finish:
    """End the session."""


Action = Offer | TakeBack | RunBuild | StopBuild | StartHost | After | Forget | Show | Finish
