"""The watch session as a pure function: ``step(state, event, now) -> (state, actions)``. No I/O, no clock, no threads.

The runner turns the outside world into events, calls ``step`` and performs the actions; reporters show the state.

What is swapped together: outputs that settled together (with ``--build``: all outputs of one successful build) form a
group, and a group goes to all hosts concerned as one transaction. A host that attaches is brought to what is wanted,
one output after the other. One transaction is under way at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hotreload.model import (
    OK,
    SAME,
    Candidate,
    ChangeKind,
    Directory,
    DirectoryChanged,
    EventKind,
    Failure,
    Host,
    Module,
    Record,
    Report,
    Settled,
    Settling,
)

RECORDS_KEPT = 500
OUTPUT_LINES_KEPT = 400
RETRY_SECONDS = 0.1
RETRIES = 50
"""How often an output that changed under the host's copy is offered again, before that is reported."""
FLUSH_SECONDS = 0.01
"""After a build's end, until the last of its outputs has settled."""


class BuildPhase(Enum):
    """What the build is doing."""

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
    symbols: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()
    """Names of the modules that it has run."""
    handled: Mapping[Path, frozenset[int]] = field(default_factory=lambda: MappingProxyType({}))
    """Contents that were offered to it, of each output's newest offer."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A content that a host swapped in, and the copy of it that outlives both the build output and that host."""

    content: int
    copy: Path | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """One watched build output."""

    path: Path
    candidate: Candidate
    accepted: tuple[Accepted, ...] = ()
    """Oldest first."""
    refused: frozenset[int] = frozenset()
    """Contents that a host rejected or that were rolled back."""
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to load for an output: the output itself, or the kept copy of its newest accepted content."""

    output: Path
    load: Path
    content: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """An offer under way: for each host the modules that it is to swap."""

    number: int
    offers: Mapping[int, tuple[Wanted, ...]]


@dataclass(frozen=True, slots=True)
class State:
    """All that the session knows."""

    directories: tuple[Directory, ...] = ()
    hosts: Mapping[int, HostState] = field(default_factory=lambda: MappingProxyType({}))
    build: Build | None = None
    child: Child | None = None
    paused: bool = False
    settling: tuple[Path, ...] = ()
    """Outputs that a writer has not finished."""
    rejection: Record | None = None
    """The newest refusal that nothing accepted has replaced: pinned on screen until then or until dismissed."""
    records: tuple[Record, ...] = ()
    """What happened, oldest first, the last RECORDS_KEPT."""
    swaps: int = 0
    rejections: int = 0
    rollbacks: int = 0
    outputs: Mapping[Path, Output] = field(default_factory=lambda: MappingProxyType({}))
    groups: tuple[frozenset[Path], ...] = ()
    """What waits to be offered, oldest first."""
    withheld: frozenset[Path] = frozenset()
    """Good outputs whose group had a bad one, or whose build failed: they go with the next group."""
    flushing: bool = False
    """A build has ended and its last outputs are still awaited."""
    transaction: Transaction | None = None
    transactions: int = 0

    @property
    def held(self) -> int:
        """Outputs that wait for the end of a pause."""
        return len(frozenset().union(*self.groups)) if self.paused else 0


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
    """A build's outputs have had their time to settle."""


@dataclass(frozen=True, slots=True)
class SourcesChanged:
    """Sources were edited."""

    first: str
    """One of them, for people."""


@dataclass(frozen=True, slots=True)
class BuildLine:
    """A line of the build's output."""

    line: str


@dataclass(frozen=True, slots=True)
class BuildEnded:
    """The build command exited."""

    exit_code: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """The host that we were asked to start runs."""

    pid: int
    log: Path


@dataclass(frozen=True, slots=True)
class ChildLine:
    """A line of its output."""

    line: str


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """It exited; minus the signal's number when it was killed."""

    exit_code: int


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
    | Seen
    | Retry
    | Flush
    | SourcesChanged
    | BuildLine
    | BuildEnded
    | ChildStarted
    | ChildLine
    | ChildEnded
    | Note
    | Command
)


# ---- what the runner is to do ----


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
class After:
    """Send an event later."""

    seconds: float
    event: Retry | Flush


@dataclass(frozen=True, slots=True)
class Show:
    """Give a record to the reporters."""

    record: Record


@dataclass(frozen=True, slots=True)
class Finish:
    """End the session."""


Action = Offer | TakeBack | RunBuild | After | Show | Finish


def step(state: State, event: Event, now: float) -> tuple[State, tuple[Action, ...]]:
    """Applies one event. ``now`` is in seconds since the epoch and only stamps what is recorded."""
    draft = _Draft(state, now)
    _HANDLERS[type(event)](draft, event)
    draft.offer_next()
    return draft.state, tuple(draft.actions)


class _Draft:
    """A step under way: the state so far, and the actions."""

    def __init__(self, state: State, now: float) -> None:
        self.state = state
        self.now = now
        self.actions: list[Action] = []

    # ---- small tools ----

    def put(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]

    def show(self, record: Record) -> None:
        self.put(records=(*self.state.records, record)[-RECORDS_KEPT:])
        self.actions.append(Show(record))

    def note(self, text: str, host: Host | None = None) -> None:
        self.show(Record(EventKind.NOTE, self.now, host, reason=text))

    def set_host(self, pid: int, **changes: object) -> None:
        hosts = dict(self.state.hosts)
        hosts[pid] = replace(hosts[pid], **changes)  # type: ignore[arg-type]
        self.put(hosts=MappingProxyType(hosts))

    def set_output(self, output: Output) -> None:
        self.put(outputs=MappingProxyType({**self.state.outputs, output.path: output}))

    def set_build(self, **changes: object) -> None:
        if self.state.build:
            self.put(build=replace(self.state.build, **changes))  # type: ignore[arg-type]

    def queue(self, *groups: frozenset[Path]) -> None:
        new = [group for group in groups if group]
        self.put(groups=(*self.state.groups, *new))

    def attached(self) -> dict[int, HostState]:
        return {pid: each for pid, each in self.state.hosts.items() if each.attached}

    def reject(self, failure: Failure, host: Host | None, module: Module | None, us: Mapping[str, int]) -> None:
        record = Record(
            EventKind.REJECT,
            self.now,
            host,
            module,
            code=failure.code,
            reason=failure.reason,
            fix=failure.fix,
            found=failure.found,
            expected=failure.expected,
            us=us,
        )
        self.show(record)
        pinned = self.state.rejection
        if failure.code != "E-ABORTED" or pinned is None:
            self.put(rejection=record)
        self.put(rejections=self.state.rejections + 1)

    # ---- outputs ----

    def settled(self, event: Settled) -> None:
        fresh = frozenset(c.path for c in event.candidates if not c.existing)
        self.put(settling=tuple(p for p in self.state.settling if p not in {c.path for c in event.candidates}))
        for candidate in event.candidates:
            self._candidate(candidate)
        good = frozenset(c.path for c in event.candidates if c.manifest)
        if fresh and any(self._is_bad_module(c) for c in event.candidates):
            self._withhold(good)
            return
        if self._building() and fresh:
            self.put(withheld=self.state.withheld | good)
        elif fresh:
            self.queue(good | self.state.withheld)
            self.put(withheld=frozenset())
        else:
            self.queue(good)
        self._say_who_waits(event.candidates)

    def _is_bad_module(self, candidate: Candidate) -> bool:
        """Libraries that never were patch modules lie beside them in many build directories and hold back nobody."""
        failure = candidate.failure
        if failure is None:
            return False
        output = self.state.outputs[candidate.path]
        return failure.code != "E-NO-MANIFEST" or bool(output.accepted or output.refused)

    def _building(self) -> bool:
        build = self.state.build
        return self.state.flushing or (build is not None and build.phase is BuildPhase.RUNNING)

    def _withhold(self, good: frozenset[Path]) -> None:
        """All or none: the good outputs of a group with a bad one wait for the next."""
        self.put(withheld=self.state.withheld | good)
        for path in sorted(good):
            manifest = self.state.outputs[path].candidate.manifest
            reason = "not offered: another module of the same build was refused"
            fix = "correct that one; this one goes with it"
            self.reject(Failure("E-ABORTED", reason, fix=fix), None, manifest.module if manifest else None, {})

    def _candidate(self, candidate: Candidate) -> None:
        known = self.state.outputs.get(candidate.path)
        output = replace(known, candidate=candidate, retries=0) if known else Output(candidate.path, candidate)
        self.set_output(output)
        if candidate.manifest:
            manifest = candidate.manifest
            self.show(Record(EventKind.CANDIDATE, self.now, None, manifest.module, warnings=manifest.warnings))
        elif candidate.failure:
            self.reject(candidate.failure, None, Module("", 0, "", str(candidate.path)), {})

    def _say_who_waits(self, candidates: Iterable[Candidate]) -> None:
        for candidate in candidates:
            manifest = candidate.manifest
            if manifest is None or any(_concerns(host, candidate) for host in self.attached().values()):
                continue
            names = ", ".join(manifest.symbols[:3]) or "no slot"
            self.note(f"{manifest.module.name} v{manifest.module.version} waits for a host that declares {names}")

    def settling(self, event: Settling) -> None:
        rest = tuple(path for path in self.state.settling if path != event.path)
        self.put(settling=(*rest, event.path) if event.seconds else rest)
        if event.seconds:
            self.note(f"{event.path.name} is unfinished after {event.seconds:.0f} s: {event.reason}")

    def directory(self, event: DirectoryChanged) -> None:
        new = event.directory
        known = {each.path: each for each in self.state.directories}
        self.put(directories=tuple({**known, new.path: new}.values()))

    # ---- hosts ----

    def host_found(self, event: HostFound) -> None:
        pid = event.host.pid
        gone = {p: each for p, each in self.state.hosts.items() if each.attached or each.host.name != event.host.name}
        new = HostState(event.host, attached=True, since=self.now, symbols=event.symbols, modules=event.running)
        self.put(hosts=MappingProxyType({**gone, pid: new}))
        self.show(Record(EventKind.ATTACH, self.now, event.host))
        self._catch_up(pid)

    def _catch_up(self, pid: int) -> None:
        """Brings a host to what is wanted, each output for itself: an old bad file must not hold back the others."""
        self.queue(*(frozenset({path}) for path in self._wanted_by(pid)))

    def _wanted_by(self, pid: int) -> list[Path]:
        host = self.state.hosts[pid]
        outputs = self.state.outputs.items()
        return [path for path, output in outputs if path not in self.state.withheld and _due(host, output)]

    def host_changed(self, event: HostChanged) -> None:
        if event.pid not in self.state.hosts:
            return
        self.set_host(event.pid, symbols=event.symbols, modules=event.running)
        self._catch_up(event.pid)

    def host_lost(self, event: HostLost) -> None:
        host = self.state.hosts.get(event.pid)
        if host is None or not host.attached:
            return
        self.set_host(event.pid, attached=False, since=self.now, gone=event.reason)
        self.show(Record(EventKind.DETACH, self.now, host.host, reason=event.reason))

    def seen(self, event: Seen) -> None:
        for record in event.records:
            if record.code and record.kind is EventKind.REJECT:
                self.put(rejection=record, rejections=self.state.rejections + 1)
            elif record.kind is EventKind.SWAP:
                self.put(rejection=None, swaps=self.state.swaps + 1)
            elif record.kind is EventKind.ROLLBACK:
                self.put(rollbacks=self.state.rollbacks + 1)
            self.show(record)

    # ---- transactions ----

    def offer_next(self) -> None:
        """Starts the next transaction when none is under way: the oldest group that concerns anybody."""
        while self.state.transaction is None and self.state.groups and not self.state.paused:
            group, *rest = self.state.groups
            self.put(groups=tuple(rest))
            offers = self._offers(group)
            if not offers:
                continue
            number = self.state.transactions + 1
            transaction = Transaction(number, MappingProxyType(offers))
            self.put(transaction=transaction, transactions=number)
            self.actions.append(Offer(transaction))

    def _offers(self, group: frozenset[Path]) -> dict[int, tuple[Wanted, ...]]:
        outputs = [self.state.outputs[path] for path in sorted(group) if path in self.state.outputs]
        offers = {
            pid: tuple(wanted for output in outputs if _due(host, output) and (wanted := _wanted(host, output)))
            for pid, host in self.attached().items()
        }
        return {pid: wanted for pid, wanted in offers.items() if wanted}

    def offered(self, event: Offered) -> None:
        transaction = self.state.transaction
        if transaction is None or transaction.number != event.number:
            return
        self.put(transaction=None)
        again: set[Path] = set()
        for pid, wanted in transaction.offers.items():
            outcome = event.outcomes.get(pid, Outcome())
            if outcome.failure and not outcome.reports:
                again |= self._unanswered(pid, wanted, outcome.failure)
            copies = outcome.copies or (None,) * len(outcome.reports)
            for each, report, copy in zip(wanted, outcome.reports, copies, strict=False):
                if self._reported(pid, each, report, copy):
                    again.add(each.output)
        if again:
            self.actions.append(After(RETRY_SECONDS, Retry(frozenset(again))))

    def _unanswered(self, pid: int, wanted: tuple[Wanted, ...], failure: Failure) -> set[Path]:
        """A host that vanished meanwhile takes nothing from the others: what they did not swap is offered again."""
        if failure.code == "E-HOST-GONE":
            return {each.output for each in wanted}
        for each in wanted:
            self._mark(pid, each, None)
            self.reject(failure, self.state.hosts[pid].host, self._module_of(each), {})
        return set()

    def _module_of(self, wanted: Wanted) -> Module:
        manifest = self.state.outputs[wanted.output].candidate.manifest
        return manifest.module if manifest else Module("", 0, "", str(wanted.output))

    def _reported(self, pid: int, wanted: Wanted, report: Report, copy: Path | None) -> bool:
        """Takes one report in; true when the output is to be offered again soon."""
        output = self.state.outputs[wanted.output]
        module = replace(report.module, path=str(wanted.output))
        host = self.state.hosts[pid].host
        if report.code == OK:
            self._mark(pid, wanted, report)
            self._swapped(host, output, module, report, copy)
        elif report.code == SAME:
            self._mark(pid, wanted, report)
            self.show(Record(EventKind.SAME, self.now, host, module, us=report.us))
            self._accept(output, Accepted(report.module.content, _copy_of(output, report.module.content)))
        elif report.code == "E-ABORTED":
            self._aborted(host, wanted, module, report)
        elif report.code in ("E-TRUNCATED", "E-IO") and output.retries < RETRIES and wanted.load == wanted.output:
            self.set_output(replace(output, retries=output.retries + 1))
            return True
        elif report.failure:
            self._mark(pid, wanted, report)
            self.set_output(replace(output, refused=output.refused | {wanted.content}))
            self.reject(report.failure, host, module if module.name else self._module_of(wanted), report.us)
        return False

    def _aborted(self, host: Host, wanted: Wanted, module: Module, report: Report) -> None:
        self.put(withheld=self.state.withheld | {wanted.output})
        if report.failure:
            self.reject(report.failure, host, module, report.us)

    def _mark(self, pid: int, wanted: Wanted, report: Report | None) -> None:
        contents = {wanted.content, report.module.content} if report else {wanted.content}
        handled = {**self.state.hosts[pid].handled, wanted.output: frozenset(contents)}
        self.set_host(pid, handled=MappingProxyType(handled))

    def _swapped(self, host: Host, output: Output, module: Module, report: Report, copy: Path | None) -> None:
        changes, warnings = report.changes, report.warnings
        self.show(Record(EventKind.SWAP, self.now, host, module, changes, us=report.us, warnings=warnings))
        for change in changes:
            if change.kind is ChangeKind.UNDECLARED:
                self.note(f"{change.symbol} is declared by no host code: a typo?", host)
        self._accept(output, Accepted(report.module.content, copy))
        self.put(swaps=self.state.swaps + 1, rejection=None)
        known = self.state.hosts[host.pid]
        self.set_host(
            host.pid,
            modules=known.modules | {module.name},
            symbols=known.symbols | {change.symbol for change in changes},
        )

    def _accept(self, output: Output, accepted: Accepted) -> None:
        others = tuple(each for each in output.accepted if each.content != accepted.content)
        refused = output.refused - {accepted.content}
        self.set_output(replace(output, accepted=(*others, accepted)[-8:], refused=refused, retries=0))

    def rolled_back(self, event: RolledBack) -> None:
        host = self.state.hosts[event.pid].host
        failure = event.outcome.failure
        if failure:
            self.note(f"roll back: {failure.reason}", host)
            return
        for report in event.outcome.reports:
            self.show(Record(EventKind.ROLLBACK, self.now, host, report.module, report.changes, us=report.us))
            self._take_back(report.module.content)
        self.put(rollbacks=self.state.rollbacks + 1, rejection=None)

    def _take_back(self, content: int) -> None:
        for output in self.state.outputs.values():
            if content not in {each.content for each in output.accepted}:
                continue
            accepted = tuple(each for each in output.accepted if each.content != content)
            self.set_output(replace(output, accepted=accepted, refused=output.refused | {content}))

    def retry(self, event: Retry) -> None:
        self.queue(event.outputs)

    # ---- builds ----

    def sources_changed(self, event: SourcesChanged) -> None:
        self.rebuild(Rebuild())

    def rebuild(self, _: Rebuild) -> None:
        build = self.state.build
        if build is None:
            return
        if build.phase is BuildPhase.RUNNING:
            self.set_build(wanted_again=True)
            return
        self.set_build(phase=BuildPhase.RUNNING, started=self.now, lines=(), wanted_again=False)
        self.show(Record(EventKind.BUILD, self.now, reason=f"started: {build.command}"))
        self.actions.append(RunBuild())

    def build_line(self, event: BuildLine) -> None:
        if self.state.build:
            self.set_build(lines=(*self.state.build.lines, event.line)[-OUTPUT_LINES_KEPT:])

    def build_ended(self, event: BuildEnded) -> None:
        build = self.state.build
        if build is None:
            return
        good = event.exit_code == 0
        phase = BuildPhase.OK if good else BuildPhase.FAILED
        self.set_build(phase=phase, exit_code=event.exit_code, seconds=event.seconds)
        first = "" if good else next((line for line in build.lines if "error" in line.lower()), "")
        reason = f"ok in {event.seconds:.2f} s" if good else f"failed with exit code {event.exit_code}: {first.strip()}"
        fix = "" if good else "everything goes on running; correct the error and save"
        us = {"total": round(event.seconds * 1e6)}
        code = "" if good else "E-BUILD"
        self.show(Record(EventKind.BUILD, self.now, code=code, reason=reason.rstrip(": "), fix=fix, us=us))
        if good:
            self.put(flushing=True)
            self.actions.append(After(FLUSH_SECONDS, Flush()))
        if build.wanted_again:
            self.rebuild(Rebuild())

    def flush(self, _: Flush) -> None:
        self.put(flushing=False)
        if not self._building():
            self.queue(self.state.withheld)
            self.put(withheld=frozenset())

    # ---- the host that we started ----

    def child_started(self, event: ChildStarted) -> None:
        if self.state.child:
            self.put(child=replace(self.state.child, pid=event.pid, log=event.log))
            self.note(f"started pid {event.pid}: {' '.join(self.state.child.command)} (output in {event.log})")

    def child_line(self, event: ChildLine) -> None:
        child = self.state.child
        if child:
            self.put(child=replace(child, lines=(*child.lines, event.line)[-OUTPUT_LINES_KEPT:]))

    def child_ended(self, event: ChildEnded) -> None:
        if self.state.child:
            self.put(child=replace(self.state.child, exit_code=event.exit_code))
            code = event.exit_code
            how = f"was ended by signal {-code}" if code < 0 else f"exited with code {code}"
            self.note(f"the host that was started here {how}")

    # ---- the user ----

    def roll_back(self, event: RollBack) -> None:
        if event.pid in self.attached():
            self.actions.append(TakeBack(event.pid, event.module))

    def toggle_pause(self, _: TogglePause) -> None:
        self.put(paused=not self.state.paused)
        self.note("paused: new modules are held" if self.state.paused else "going on")

    def dismiss(self, _: Dismiss) -> None:
        self.put(rejection=None)

    def clear(self, _: Clear) -> None:
        self.put(records=())

    def quit(self, _: Quit) -> None:
        self.actions.append(Finish())

    def tell(self, event: Note) -> None:
        self.note(event.text)


def _concerns(host: HostState, candidate: Candidate) -> bool:
    """A host is offered the modules that implement one of its slots, and new versions of those that it has run."""
    manifest = candidate.manifest
    if manifest is None:
        return False
    return manifest.module.name in host.modules or not host.symbols.isdisjoint(manifest.symbols)


def _wanted(host: HostState, output: Output) -> Wanted | None:
    """What the host is to run: the newest content, or, when that was refused before, the newest accepted one."""
    manifest = output.candidate.manifest
    if manifest and manifest.module.content not in output.refused:
        return Wanted(output.path, output.path, manifest.module.content)
    if host.handled.get(output.path):
        if manifest is None:
            return None
        return Wanted(output.path, output.path, manifest.module.content)
    kept = next((each for each in reversed(output.accepted) if each.copy), None)
    return Wanted(output.path, kept.copy, kept.content) if kept and kept.copy else None


def _due(host: HostState, output: Output) -> bool:
    wanted = _wanted(host, output)
    if wanted is None or wanted.content in host.handled.get(output.path, frozenset()):
        return False
    return _concerns(host, output.candidate) or output.candidate.manifest is None


def _copy_of(output: Output, content: int) -> Path | None:
    return next((each.copy for each in output.accepted if each.content == content), None)


_HANDLERS: dict[type, Callable[[_Draft, Any], None]] = {
    Settled: _Draft.settled,
    Settling: _Draft.settling,
    DirectoryChanged: _Draft.directory,
    HostFound: _Draft.host_found,
    HostChanged: _Draft.host_changed,
    HostLost: _Draft.host_lost,
    Offered: _Draft.offered,
    RolledBack: _Draft.rolled_back,
    Seen: _Draft.seen,
    Retry: _Draft.retry,
    Flush: _Draft.flush,
    SourcesChanged: _Draft.sources_changed,
    BuildLine: _Draft.build_line,
    BuildEnded: _Draft.build_ended,
    ChildStarted: _Draft.child_started,
    ChildLine: _Draft.child_line,
    ChildEnded: _Draft.child_ended,
    RollBack: _Draft.roll_back,
    TogglePause: _Draft.toggle_pause,
    Rebuild: _Draft.rebuild,
    Dismiss: _Draft.dismiss,
    Clear: _Draft.clear,
    Quit: _Draft.quit,
    Note: _Draft.tell,
}
