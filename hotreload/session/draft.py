"""The step of a session: what an event changes, and what is to be done about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hotreload.model import (
    OK,
    SAME,
    UNTRIED,
    Busy,
    Candidate,
    ChangeKind,
    DirectoryChanged,
    EventKind,
    Failure,
    Host,
    Manifest,
    Module,
    Problem,
    Record,
    Report,
    Settled,
    Settling,
)
from hotreload.session.actions import (
    Action,
    After,
    Finish,
    Forget,
    Offer,
    RunBuild,
    Show,
    StartHost,
    StopBuild,
    TakeBack,
)
from hotreload.session.events import (
    BuildEnded,
    BuildLine,
    ChildAbsent,
    ChildEnded,
    ChildOutput,
    ChildStarted,
    Clear,
    Configured,
    Differs,
    Dismiss,
    Event,
    Flush,
    HostChanged,
    HostFound,
    HostLost,
    HostOutdated,
    Misconfigured,
    Note,
    Offered,
    Outcome,
    Quit,
    Rebuild,
    RestartHost,
    Retry,
    RollBack,
    RolledBack,
    Seen,
    SourcesChanged,
    TogglePause,
)
from hotreload.session.state import Accepted, Build, BuildPhase, Child, HostState, Output, State, Transaction, Wanted

RECORDS_KEPT = 500
OUTPUT_LINES_KEPT = 400
RETRY_SECONDS = 0.1
RETRIES = 50
"""How often an output that changed under the host's copy is offered again, before that is reported."""
ACCEPTED_KEPT = 8
REFUSED_KEPT = 256
"""Refused contents that are remembered of each output."""
GONE_KEPT = 8
"""Hosts that are shown after they have gone, at most."""

_GONE = Failure("E-HOST-GONE", "the host has exited", fix="start the host again")
INTERNAL = "E-INTERNAL"
"""A fault of ours ended a transaction."""
_UNREADABLE = frozenset({"E-TRUNCATED", "E-IO"})
"""The host could not read the output: it is being written, or has been deleted since it settled."""
_RETRIED = _UNREADABLE | {"E-SAFE-POINT"}
_CIRCUMSTANCES = _RETRIED | {"E-DENIED", "E-LIMIT", "E-MEMORY", "E-UNKNOWN"}
"""Refusals that say nothing about the content: another host may be offered it."""
_MAY_PASS = _CIRCUMSTANCES | {"E-ON-LOAD"}
"""Refusals whose cause may be gone when the same content is built once more."""


def step(state: State, event: Event, now: float) -> tuple[State, tuple[Action, ...]]:
    """Applies one event. ``now`` is in seconds since the epoch and only stamps what is recorded."""
    draft = Draft(state, now)
    _HANDLERS[type(event)](draft, event)
    draft.offer_next()
    return draft.state, tuple(draft.actions)


def _copied(state: State) -> State:
    copy: State = object.__new__(State)
    for name in State.__slots__:
        object.__setattr__(copy, name, getattr(state, name))
    return copy


class Draft:
    """A step under way: the state so far, and the actions."""

    def __init__(self, state: State, now: float) -> None:
        self.state = state
        self.now = now
        self.actions: list[Action] = []
        self._own = False
        self._answered = 0.0

    # ---- small tools ----

    def put(self, **changes: object) -> None:
        """Changes the state. The first change makes a copy; the further ones go into it, while nobody else has it: a
        copy for each, with ``dataclasses.replace``, took longer than all the rest of a step.
        """
        if not self._own:
            self.state, self._own = _copied(self.state), True
        for name, value in changes.items():
            object.__setattr__(self.state, name, value)

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
        """What is in two groups joins them: its newest content has to go with the companions of the one before."""
        waiting = list(self.state.groups)
        for group in filter(None, groups):
            touched = [each for each in waiting if each & group]
            at = waiting.index(touched[0]) if touched else len(waiting)
            rest = [each for each in waiting if each not in touched]
            waiting = [*rest[:at], group.union(*touched), *rest[at:]]
        self.put(groups=tuple(waiting), withheld=self.state.withheld.difference(*groups))

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
            layout=failure.layout,
            us=us,
        )
        self.show(record)
        pinned = self.state.rejection
        if failure.code != "E-ABORTED" or pinned is None:
            self.put(rejection=record)
        self.put(rejections=self.state.rejections + 1)

    def unpin(self, path: str, name: str = "") -> None:
        """A module was accepted: a refusal of the same one, or one that only waited for others, is history."""
        pinned = self.state.rejection
        about = pinned.module if pinned else None
        same = about is None or about.path == path or (about.name != "" and about.name == name)
        if pinned and pinned.code != "E-CONFIG" and (same or pinned.code == "E-ABORTED"):
            self.put(rejection=None)

    # ---- outputs ----

    def settled(self, event: Settled) -> None:
        fresh = any(not candidate.existing for candidate in event.candidates)
        paths = frozenset(candidate.path for candidate in event.candidates)
        good = frozenset(candidate.path for candidate in event.candidates if candidate.manifest)
        for candidate in event.candidates:
            self._candidate(candidate)
        bad = frozenset(candidate.path for candidate in event.candidates if self._is_bad_module(candidate))
        settling = tuple(path for path in self.state.settling if path not in paths)
        self.put(settling=settling, withheld=self.state.withheld - bad, repeating=self.state.repeating - paths)
        if not fresh:
            self.queue(good)
        elif self._building():
            withheld = self.state.withheld | good | self._companions(paths)
            self.put(withheld=withheld, spoiled=self.state.spoiled or bool(bad))
        elif bad:
            self._withhold(good | self._companions(paths))
        else:
            self.queue(good | self.state.withheld)
        self._catch_up(*self.attached())
        self._say_who_waits(event.candidates)

    def _is_bad_module(self, candidate: Candidate) -> bool:
        """Libraries that never were patch modules lie beside them in many build directories and hold back nobody."""
        failure = candidate.failure
        if failure is None:
            return False
        output = self.state.outputs[candidate.path]
        return failure.code != "E-NO-MANIFEST" or bool(output.accepted or output.refused)

    def _companions(self, paths: frozenset[Path]) -> frozenset[Path]:
        """Takes the groups that cannot go as they are out of the queue; returns what else was in them."""
        touched = [group for group in self.state.groups if group & paths]
        self.put(groups=tuple(group for group in self.state.groups if group not in touched))
        return frozenset().union(*touched) - paths

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
        known = known or Output(candidate.path, candidate)
        self.set_output(replace(known, candidate=candidate, retries=0, unreadable=False))
        if candidate.manifest:
            manifest = candidate.manifest
            if not candidate.existing:
                self._ask_again(candidate.path, manifest.module.content)
            self.show(Record(EventKind.CANDIDATE, self.now, None, manifest.module, warnings=manifest.warnings))
        elif candidate.failure:
            self.reject(candidate.failure, None, Module("", 0, "", str(candidate.path)), {})

    def _ask_again(self, path: Path, content: int) -> None:
        """Whoever builds a refused content once more gets an answer once more, from hosts that had it before too."""
        output = self.state.outputs[path]
        self.set_output(replace(output, refused=tuple(each for each in output.refused if each != content)))
        for pid, host in self.state.hosts.items():
            if content in host.handled.get(path, frozenset()):
                self.set_host(pid, handled=MappingProxyType({**host.handled, path: frozenset()}))

    def _say_who_waits(self, candidates: Iterable[Candidate]) -> None:
        for candidate in candidates:
            manifest = candidate.manifest
            if manifest is None or any(_concerns(host, manifest) for host in self.attached().values()):
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
        others = {p: each for p, each in self.state.hosts.items() if each.attached or each.host.name != event.host.name}
        gone = sorted((p for p in others if not others[p].attached), key=lambda p: others[p].since)
        shown = {p: each for p, each in others.items() if p not in gone[:-GONE_KEPT]}
        new = HostState(event.host, attached=True, since=self.now, symbols=event.symbols, modules=event.running)
        self.put(hosts=MappingProxyType({**shown, pid: new}))
        self.show(Record(EventKind.ATTACH, self.now, event.host))
        self._catch_up(pid)

    def _catch_up(self, *pids: int) -> None:
        """Brings hosts to what is wanted, each output for itself: an old bad file must not hold back the others.

        What is under way is left alone; the end of the transaction looks at it again.
        """
        hosts = [self.state.hosts[pid] for pid in pids]
        busy = self.state.transaction.outputs if self.state.transaction else frozenset()
        due = [
            frozenset({path})
            for path, output in self.state.outputs.items()
            if path not in busy and any(self._due(host, output) for host in hosts)
        ]
        waiting = frozenset().union(*self.state.groups)
        # Not by queue(): what is withheld stays so, these hosts are given its older version.
        self.put(groups=(*self.state.groups, *(group for group in due if not group & waiting)))

    def _wanted(self, host: HostState, output: Output) -> Wanted | None:
        """What the host is to run: the newest content; where that will not do, the newest accepted before."""
        manifest = output.candidate.manifest
        if manifest and output.path not in self.state.withheld and not output.unreadable:
            content = manifest.module.content
            if content not in output.refused:
                return Wanted(output.path, output.path, content, manifest)
        if output.path in host.supplied:
            return None
        kept = next((each for each in reversed(output.accepted) if each.copy), None)
        return Wanted(output.path, kept.copy, kept.content, kept.manifest) if kept and kept.copy else None

    def _due(self, host: HostState, output: Output) -> Wanted | None:
        wanted = self._wanted(host, output)
        if wanted is None or wanted.content in host.handled.get(output.path, frozenset()):
            return None
        return wanted if wanted.manifest and _concerns(host, wanted.manifest) else None

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
            module = record.module
            if record.code and record.kind is EventKind.REJECT:
                self.put(rejection=record, rejections=self.state.rejections + 1)
            elif record.kind is EventKind.SWAP:
                self.put(swaps=self.state.swaps + 1)
                if module:
                    self.unpin(module.path, module.name)
            elif record.kind in (EventKind.ROLLBACK, EventKind.CRASH):
                self.put(rollbacks=self.state.rollbacks + 1)
                if module:
                    self._take_back(module.content)
                if record.kind is EventKind.CRASH:
                    self.put(rejection=record)
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
            pid: tuple(wanted for output in outputs if (wanted := self._due(host, output)))
            for pid, host in self.attached().items()
        }
        return {pid: wanted for pid, wanted in offers.items() if wanted}

    def offered(self, event: Offered) -> None:
        transaction = self.state.transaction
        if transaction is None or transaction.number != event.number:
            return
        self.put(transaction=None)
        self._answered = event.answered
        outcomes = {pid: self._outcome(event, pid) for pid in transaction.offers}
        again = self._to_repeat(transaction, outcomes)
        before = self.state.withheld
        for pid, wanted in transaction.offers.items():
            self._take_in(pid, wanted, outcomes[pid], again)
        if again & before:  # settled anew meanwhile, and withheld: the others wait for the same
            self.put(withheld=self.state.withheld | again)
        elif again:
            self._repeat(again)
        else:
            self._join_correction(transaction, self.state.withheld - before)
        self._catch_up(*self.attached())

    def _repeat(self, outputs: frozenset[Path]) -> None:
        for path in outputs:
            output = self.state.outputs[path]
            self.set_output(replace(output, retries=output.retries + 1))
        self.put(withheld=self.state.withheld | outputs, repeating=self.state.repeating | outputs)
        self.actions.append(After(RETRY_SECONDS, Retry(outputs)))

    def _outcome(self, event: Offered, pid: int) -> Outcome:
        """A host that gave no answer, or whose successor has already taken its place, has gone."""
        return event.outcomes.get(pid, Outcome(failure=_GONE)) if pid in self.state.hosts else Outcome(failure=_GONE)

    def _to_repeat(self, transaction: Transaction, outcomes: Mapping[int, Outcome]) -> frozenset[Path]:
        """The whole transaction, when a host vanished meanwhile or could not read an output yet; nothing when a host
        refused one for good: its companions then wait for the correction."""
        repeat = False
        for pid, wanted in transaction.offers.items():
            outcome = outcomes[pid]
            if not outcome.reports and outcome.failure:
                if outcome.failure.code != _GONE.code:
                    return frozenset()
                repeat = True
            for each, report in zip(wanted, outcome.reports, strict=False):
                if self._is_early(each, report):
                    repeat = True
                elif report.code not in (OK, SAME, "E-ABORTED"):
                    return frozenset()
        return transaction.outputs if repeat else frozenset()

    def _is_early(self, wanted: Wanted, report: Report) -> bool:
        if report.code not in _RETRIED or self.state.outputs[wanted.output].retries >= RETRIES:
            return False
        return report.code not in _UNREADABLE or wanted.load == wanted.output

    def _take_in(self, pid: int, wanted: tuple[Wanted, ...], outcome: Outcome, again: frozenset[Path]) -> None:
        """One host's answer."""
        if outcome.failure and not outcome.reports and outcome.failure.code != _GONE.code:
            for each in wanted:
                self._mark(pid, each, None)
                if outcome.failure.code == INTERNAL:  # we hung up: this host comes again, and the fault with it
                    self._remember_refused(self.state.outputs[each.output], each.content)
                self.reject(outcome.failure, self.state.hosts[pid].host, _module_of(each), {})
        copies = outcome.copies or (None,) * len(outcome.reports)
        for each, report, copy in zip(wanted, outcome.reports, copies, strict=False):
            if report.code == OK:
                self._swapped(pid, each, report, copy)
            elif report.code == SAME:
                self._same(pid, each, report)
            elif self._is_early(each, report):
                self._early(pid, each, report, again)
            elif report.code == "E-ABORTED":
                self._aborted(pid, each, report, again)
            elif report.failure:
                self._refused(pid, each, report, report.failure)

    def _join_correction(self, transaction: Transaction, aborted: frozenset[Path]) -> None:
        """The correction of what was refused may wait already: those that were aborted with it go with it now."""
        corrected = transaction.outputs & frozenset().union(*self.state.groups)
        if aborted and corrected:
            self.queue(aborted | corrected)

    def _early(self, pid: int, wanted: Wanted, report: Report, again: frozenset[Path]) -> None:
        output = self.state.outputs[wanted.output]
        if not again:  # it waits with its companions
            self.put(withheld=self.state.withheld | {wanted.output})
        elif report.code not in _UNREADABLE and output.retries == 0 and report.failure:
            failure = report.failure
            cure = f"; {failure.fix}" if failure.fix else ""
            self.note(f"{_module_of(wanted).name} waits: {failure.reason}{cure}", self.state.hosts[pid].host)

    def _aborted(self, pid: int, wanted: Wanted, report: Report, again: frozenset[Path]) -> None:
        if again:
            return
        self.put(withheld=self.state.withheld | {wanted.output})
        if report.failure:
            self.reject(report.failure, self.state.hosts[pid].host, _reported(wanted, report), report.us)

    def _refused(self, pid: int, wanted: Wanted, report: Report, failure: Failure) -> None:
        output = self.state.outputs[wanted.output]
        if report.code in _UNREADABLE and wanted.load == wanted.output:
            self.set_output(replace(output, unreadable=True))
        else:
            self._mark(pid, wanted, report)
        if report.code not in _CIRCUMSTANCES:
            self._remember_refused(output, report.module.content or wanted.content)
        if report.code in _MAY_PASS:
            self.actions.append(Forget(wanted.output))
        self.reject(failure, self.state.hosts[pid].host, _reported(wanted, report), report.us)

    def _remember_refused(self, output: Output, content: int) -> None:
        others = tuple(each for each in output.refused if each != content)
        self.set_output(replace(output, refused=(*others, content)[-REFUSED_KEPT:]))

    def _mark(self, pid: int, wanted: Wanted, report: Report | None) -> None:
        contents = {wanted.content, report.module.content} if report else {wanted.content}
        host = self.state.hosts[pid]
        handled = MappingProxyType({**host.handled, wanted.output: frozenset(contents)})
        supplied = host.supplied | {wanted.output} if report and report.code in (OK, SAME) else host.supplied
        self.set_host(pid, handled=handled, supplied=supplied)

    def _same(self, pid: int, wanted: Wanted, report: Report) -> None:
        self._mark(pid, wanted, report)
        module = _reported(wanted, report)
        self.show(Record(EventKind.SAME, self.now, self.state.hosts[pid].host, module, us=report.us))
        self._accept(wanted, report, _copy_of(self.state.outputs[wanted.output], report.module.content))

    def _swapped(self, pid: int, wanted: Wanted, report: Report, copy: Path | None) -> None:
        self._mark(pid, wanted, report)
        known = self.state.hosts[pid]
        host, module, changes = known.host, _reported(wanted, report), report.changes
        us = {**self._loop_times(wanted.output, report, self._answered or self.now), **report.us}
        record = Record(EventKind.SWAP, self.now, host, module, changes, us=us, warnings=report.warnings)
        self.show(replace(record, staged=report.staged))
        for change in changes:
            if change.kind is ChangeKind.UNDECLARED:
                self.note(f"{change.symbol} is declared by no host code: a typo?", host)
        if UNTRIED in report.warnings:
            tried = f"not all slots of {module.name} v{module.version} were tried"
            self.note(f"{tried}: they were not called in time, or are too many", host)
        self._accept(wanted, report, copy)
        self.put(swaps=self.state.swaps + 1)
        self.set_host(
            pid, modules=known.modules | {module.name}, symbols=known.symbols | {change.symbol for change in changes}
        )

    def _loop_times(self, output: Path, report: Report, live: float) -> dict[str, int]:
        """Microseconds from the save to the new code live, and of the phases before the host's own; of the first host
        that takes an output of the last build."""
        build = self.state.build
        fresh = build is not None and not self.state.outputs[output].candidate.existing
        if build is None or not fresh or not build.ended or output in build.swapped:
            return {}
        self.set_build(swapped=build.swapped | {output})
        began = min(build.saved, build.started) if build.saved else build.started
        seconds = {
            "notice": build.started - began,
            "build": build.seconds,
            "deliver": live - build.ended - report.us.get("total", 0) / 1e6,
            "loop": live - began,
        }
        return {name: max(0, round(each * 1e6)) for name, each in seconds.items()}

    def _accept(self, wanted: Wanted, report: Report, copy: Path | None) -> None:
        output, content = self.state.outputs[wanted.output], report.module.content
        others = tuple(each for each in output.accepted if each.content != content)
        accepted = (*others, Accepted(content, copy, wanted.manifest))[-ACCEPTED_KEPT:]
        refused = tuple(each for each in output.refused if each != content)
        self.set_output(replace(output, accepted=accepted, refused=refused, retries=0))
        if wanted.load == wanted.output:  # an older version that a host was given corrects nothing
            self.unpin(str(wanted.output))

    def rolled_back(self, event: RolledBack) -> None:
        known = self.state.hosts.get(event.pid)  # none when its successor has already taken its place
        host = known.host if known else None
        failure = event.outcome.failure
        if failure:
            self.note(f"roll back: {failure.reason}", host)
            return
        for report in event.outcome.reports:
            self.show(Record(EventKind.ROLLBACK, self.now, host, report.module, report.changes, us=report.us))
            self._take_back(report.module.content)
        self.put(rollbacks=self.state.rollbacks + 1, rejection=None)

    def differs(self, event: Differs) -> None:
        """Nothing to tell where it does not run any more, or something newer does."""
        known, output = self.state.hosts.get(event.pid), self.state.outputs.get(event.output)
        newest = output.accepted[-1] if output and output.accepted else None
        if known is None or not known.attached or newest is None or newest.content != event.content:
            return
        manifest, failure = newest.manifest, event.failure
        module = replace(manifest.module, path=str(event.output)) if manifest else Module("", 0, "", str(event.output))
        record = Record(
            EventKind.LAYOUT,
            self.now,
            known.host,
            module,
            code=failure.code,
            reason=failure.reason,
            fix=f"hotreload rollback {module.name} --host {event.pid}",
            found=failure.found,
            expected=failure.expected,
            layout=failure.layout,
        )
        self.show(record)
        self.put(rejection=record)

    def _take_back(self, content: int) -> None:
        for output in self.state.outputs.values():
            manifest = output.candidate.manifest
            accepted = tuple(each for each in output.accepted if each.content != content)
            if accepted == output.accepted and (manifest is None or manifest.module.content != content):
                continue
            self._remember_refused(replace(output, accepted=accepted), content)

    def retry(self, event: Retry) -> None:
        """What has settled since goes its own way; where a build did that, the rest waits for its outcome too."""
        waits = event.outputs <= self.state.repeating
        self.put(repeating=self.state.repeating - event.outputs)
        if waits and not self._building():
            self.queue(event.outputs & self.state.withheld)
            self._catch_up(*self.attached())

    # ---- builds ----

    def sources_changed(self, event: SourcesChanged) -> None:
        build = self.state.build
        if build is None or (build.phase is BuildPhase.RUNNING and self.state.busy is Busy.IGNORE):
            return
        if build.phase is BuildPhase.RUNNING:
            self.set_build(saved_since=build.saved_since or event.saved)
            if self.state.busy is Busy.RESTART and not build.wanted_again:
                self.actions.append(StopBuild())
        self._rebuild(event.saved)

    def rebuild(self, _: Rebuild) -> None:
        self._rebuild(0.0)

    def _rebuild(self, saved: float) -> None:
        build = self.state.build
        if build is None:
            return
        if build.phase is BuildPhase.RUNNING:
            self.set_build(wanted_again=True)
            return
        fresh = Build(build.command, BuildPhase.RUNNING, self.now, saved=saved)
        self.put(build=fresh, spoiled=False)
        self.show(Record(EventKind.BUILD, self.now, reason=f"started: {build.command}"))
        self.actions.append(RunBuild())

    def build_line(self, event: BuildLine) -> None:
        if self.state.build:
            self.set_build(lines=(*self.state.build.lines, event.line)[-OUTPUT_LINES_KEPT:])

    def build_ended(self, event: BuildEnded) -> None:
        build = self.state.build
        if build is None:
            return
        good = event.exit_code == 0 and not event.stopped
        ended = event.ended or self.now
        self.set_build(
            phase=BuildPhase.OK if good else BuildPhase.IDLE if event.stopped else BuildPhase.FAILED,
            exit_code=event.exit_code, seconds=event.seconds, ended=ended, problems=event.problems,
        )  # fmt: skip
        self._tell_end(event, good=good)
        # Outputs of a failed build may settle late as well, and must not pass for a group of their own.
        self.put(flushing=True)
        if good:
            self._renew(event.outdated)
        if build.wanted_again:
            self._rebuild(build.saved_since)

    def _tell_end(self, event: BuildEnded, *, good: bool) -> None:
        us = {"total": round(event.seconds * 1e6)}
        if event.stopped:
            reason = "stopped: sources have changed again"
            self.show(Record(EventKind.BUILD, self.now, reason=reason, us=us))
            return
        reason = f"ok in {event.seconds:.2f} s" if good else f"failed with exit code {event.exit_code}"
        warnings = sum(1 for each in event.problems if each.severity == "warning")
        if good and warnings:
            reason += f", {warnings} warning{'s' * (warnings > 1)}"
        first = "" if good else self._first_error(event.problems)
        self.show(
            Record(
                EventKind.BUILD,
                self.now,
                code="" if good else "E-BUILD",
                reason=reason + (f": {first}" if first else ""),
                fix="" if good else "everything goes on running; correct the error and save",
                us=us,
                problems=event.problems,
            )
        )

    def _first_error(self, problems: tuple[Problem, ...]) -> str:
        """Its place and message; where no compiler's message was recognised, the first line that speaks of an error."""
        worst = next((each for each in problems if each.severity == "error"), None)
        if worst:
            place = f"{worst.path}:{worst.line}:{worst.column}" if worst.column else f"{worst.path}:{worst.line}"
            return f"{place}: {worst.message}"
        lines = self.state.build.lines if self.state.build else ()
        return next((line for line in lines if "error" in line.lower()), "").strip()

    def flush(self, _: Flush) -> None:
        self.put(flushing=False)
        build = self.state.build
        if self._building() or build is None or build.phase is not BuildPhase.OK:
            return
        if self.state.spoiled:
            self._withhold(self.state.withheld)
        else:
            self.queue(self.state.withheld)

    # ---- the host that we started ----

    def child_started(self, event: ChildStarted) -> None:
        if self.state.child:
            self.put(child=replace(self.state.child, pid=event.pid, log=event.log, exit_code=None, restarting=False))
            self.note(f"started pid {event.pid}: {' '.join(self.state.child.command)} (output in {event.log})")

    def child_output(self, event: ChildOutput) -> None:
        child = self.state.child
        if child:
            self.put(child=replace(child, lines=(*child.lines, *event.lines)[-OUTPUT_LINES_KEPT:]))

    def child_ended(self, event: ChildEnded) -> None:
        child = self.state.child
        if child is None or child.restarting or (event.pid and event.pid != child.pid):
            return
        self.put(child=replace(child, exit_code=event.exit_code))
        code = event.exit_code
        how = f"was ended by signal {-code}" if code < 0 else f"exited with code {code}"
        again = "; it is started again after the next good build" if self.state.restart and self.state.build else ""
        self.note(f"the host that was started here {how}{again}")

    def child_absent(self, event: ChildAbsent) -> None:
        child, build = self.state.child, self.state.build
        if child is None:
            return
        self.put(child=replace(child, restarting=False))
        # Without a good build there is nothing to start yet, which its errors explain.
        if child.restarting or build is None or build.phase is not BuildPhase.FAILED:
            self.note(event.reason + ("; it is tried again after the next good build" if build else ""))

    def host_outdated(self, event: HostOutdated) -> None:
        """Not while a build of ours runs or after one that failed: its end decides, or that of its correction."""
        build = self.state.build
        if build is None or (build.phase is not BuildPhase.FAILED and not self._building()):
            self._renew(event.pids)

    def _renew(self, outdated: frozenset[int]) -> None:
        """After a good build: a host whose own code has changed, or that has ended, is started again."""
        child = self.state.child
        if child is None or not self.state.restart or child.restarting:
            return
        if outdated:
            self._restart(child, "its own code has changed", outdated)
        elif child.exit_code is not None:
            self._restart(child, "there is a new build", frozenset())

    def restart_host(self, _: RestartHost) -> None:
        child = self.state.child
        if child and not child.restarting:
            self._restart(child, "as you asked", frozenset(self.attached()))

    def _restart(self, child: Child, why: str, pids: frozenset[int]) -> None:
        """From now on nothing is offered to what is being ended; its successor is brought to the newest modules."""
        self.put(child=replace(child, restarting=True))
        self.note(f"the host is started again: {why}")
        for pid in sorted(pids & self.attached().keys()):
            self.host_lost(HostLost(pid, "it is started again"))
        self.actions.append(StartHost())

    # ---- the configuration ----

    def configured(self, event: Configured) -> None:
        self._unpin_configuration()
        self.put(busy=event.busy, restart=event.restart)
        if event.watched is not None:
            self._watch_only(event.watched)
        self.note("the configuration was read again")
        known, child = self.state.build, self.state.child
        if event.build != (known.command if known else None):
            self.put(build=replace(known, command=event.build) if known and event.build else None)
            if event.build:
                self.put(build=self.state.build or Build(event.build))
                self._rebuild(0.0)
        if event.command != (child.command if child else ()):
            self.put(child=replace(child or Child(()), command=event.command) if event.command or child else None)
            if event.command and self.state.child:
                self._restart(self.state.child, "it is another command now", frozenset(self.attached()))

    def _watch_only(self, watched: tuple[Path, ...]) -> None:
        places = {path.absolute() for path in watched}
        busy = self.state.transaction.outputs if self.state.transaction else frozenset()
        kept = {
            path: each
            for path, each in self.state.outputs.items()
            if {path.absolute(), path.parent.absolute()} & places or path in busy
        }
        self.put(
            directories=(),
            outputs=MappingProxyType(kept),
            groups=tuple(filter(None, (group & kept.keys() for group in self.state.groups))),
            withheld=self.state.withheld & kept.keys(),
            repeating=self.state.repeating & kept.keys(),
            settling=tuple(path for path in self.state.settling if path in kept),
        )

    def misconfigured(self, event: Misconfigured) -> None:
        self.reject(event.failure, None, None, {})

    def _unpin_configuration(self) -> None:
        if self.state.rejection and self.state.rejection.code == "E-CONFIG":
            self.put(rejection=None)

    # ---- the user ----

    def roll_back(self, event: RollBack) -> None:
        if event.pid in self.attached():
            self.actions.append(TakeBack(event.pid, event.module))

    def toggle_pause(self, _: TogglePause) -> None:
        self.put(paused=not self.state.paused)
        self._catch_up(*self.attached())
        self.note("paused: new modules are held" if self.state.paused else "resumed: what was held goes on now")

    def dismiss(self, _: Dismiss) -> None:
        self.put(rejection=None)

    def clear(self, _: Clear) -> None:
        self.put(records=(), cleared=(*self.state.cleared, *self.state.records)[-RECORDS_KEPT:])

    def quit(self, _: Quit) -> None:
        self.actions.append(Finish())

    def tell(self, event: Note) -> None:
        self.note(event.text)


def _concerns(host: HostState, manifest: Manifest) -> bool:
    """A host is offered the modules that implement one of its slots, and new versions of those that it has run."""
    return manifest.module.name in host.modules or not host.symbols.isdisjoint(manifest.symbols)


def _module_of(wanted: Wanted) -> Module:
    return wanted.manifest.module if wanted.manifest else Module("", 0, "", str(wanted.output))


def _reported(wanted: Wanted, report: Report) -> Module:
    """The module as the host read it, under its output's path; as we read it where the host did not get as far."""
    return replace(report.module if report.module.name else _module_of(wanted), path=str(wanted.output))


def _copy_of(output: Output, content: int) -> Path | None:
    return next((each.copy for each in output.accepted if each.content == content), None)


_HANDLERS: dict[type, Callable[[Draft, Any], None]] = {
    Settled: Draft.settled,
    Settling: Draft.settling,
    DirectoryChanged: Draft.directory,
    HostFound: Draft.host_found,
    HostChanged: Draft.host_changed,
    HostLost: Draft.host_lost,
    Offered: Draft.offered,
    RolledBack: Draft.rolled_back,
    Differs: Draft.differs,
    Seen: Draft.seen,
    Retry: Draft.retry,
    Flush: Draft.flush,
    SourcesChanged: Draft.sources_changed,
    BuildLine: Draft.build_line,
    BuildEnded: Draft.build_ended,
    ChildStarted: Draft.child_started,
    ChildOutput: Draft.child_output,
    ChildEnded: Draft.child_ended,
    ChildAbsent: Draft.child_absent,
    HostOutdated: Draft.host_outdated,
    Configured: Draft.configured,
    Misconfigured: Draft.misconfigured,
    RestartHost: Draft.restart_host,
    RollBack: Draft.roll_back,
    TogglePause: Draft.toggle_pause,
    Rebuild: Draft.rebuild,
    Dismiss: Draft.dismiss,
    Clear: Draft.clear,
    Quit: Draft.quit,
    Note: Draft.tell,
}
