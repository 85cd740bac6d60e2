"""Looks at the debug info of host and module before a module is offered: what differs in time is refused, what is seen
to differ later is told, with the way back.

Whoever describes its types, or has no debug info, is let through at once: a look at the names of a file's sections.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hotreload import native
from hotreload.comparer import FAILED, Comparer
from hotreload.debug_types import Answer, Question, all_described
from hotreload.dwarf import carries
from hotreload.errors import HotreloadError
from hotreload.host_files import libraries_of
from hotreload.model import OK, Failure, Layouts, Manifest, Report, Snapshot
from hotreload.session import Differs, Note, Outcome, Transaction, Wanted

DELAY_SECONDS = 0.02
"""A swap is never later by more than this."""
WAIT_SECONDS = 0.015
"""Of these, how long answers are awaited; the rest is for asking, and for waking up on a busy machine."""

LATE_MOST = 2
"""An output whose answers came too late so often in a row is not awaited, until one comes in time again: large debug
info would cost every swap the whole of the wait, for nothing. Not once: a reader that has just begun is late too."""


class Describer(Protocol):
    """What is needed of a link."""

    def layouts(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A question under way."""

    pid: int
    wanted: Wanted
    future: Future[Answer]


class Examiner:
    """Examines what is offered; on the thread that offers.

    Args:
        tell: Takes what is seen after a swap, and that nothing can be seen any more; from any thread.
    """

    def __init__(self, tell: Callable[[Differs | Note], None]) -> None:
        self._tell = tell
        self._told_failure = False
        self._comparer = Comparer()
        self._hosts: dict[int, tuple[Describer, bool]] = {}
        """For each pid its link, and whether it has debug info."""
        self._late_in_a_row: dict[Path, int] = {}
        """For each output, how many answers in a row came too late; counted on the comparer's thread."""

    def close(self) -> None:
        """Ends what still reads."""
        self._comparer.close()

    def concerns(self, transaction: Transaction, links: Mapping[int, Describer]) -> bool:
        """Whether there is anything to look at: a host and a module for it of which one tells types that the other
        may have."""
        return any(
            _examinable(each)
            for pid, wanted in transaction.offers.items()
            if pid in links and self._has_debug_info(pid, links[pid])
            for each in wanted
        )

    def examine(
        self, transaction: Transaction, links: Mapping[int, Describer], told: Mapping[int, frozenset[str]]
    ) -> tuple[dict[int, Outcome], list[Asked]]:
        """The outcomes of a transaction that must not be; empty: it may go on. And the questions not answered yet.

        ``told`` are the slots that each host describes."""
        until = time.monotonic() + WAIT_SECONDS
        asked = [
            each
            for pid, wanted in transaction.offers.items()
            if pid in links and self._has_debug_info(pid, links[pid])
            for each in self._ask(pid, wanted, links[pid], told.get(pid, frozenset()))
        ]
        if not asked:
            return {}, []
        awaited = [each.future for each in asked if self._late_in_a_row.get(each.wanted.output, 0) < LATE_MOST]
        wait(awaited, max(0.0, until - time.monotonic()))
        done = {each.future for each in asked if each.future.done()}
        refused = {
            (each.pid, each.wanted.output): failure
            for each in asked
            if each.future in done and (failure := each.future.result().failure)
        }
        late = [each for each in asked if each.future not in done]
        return (_refusals(transaction, refused) if refused else {}), late

    def follow(self, late: Sequence[Asked], outcomes: Mapping[int, Outcome]) -> None:
        """Tells of those that were swapped in meanwhile, as soon as they are seen to differ."""
        for each in late:
            outcome = outcomes.get(each.pid)
            swapped = {report.module.content for report in outcome.reports if report.code == OK} if outcome else set()
            if each.wanted.content in swapped:
                each.future.add_done_callback(lambda future, each=each: self._late(each, future.result()))  # type: ignore[misc]

    def _hear(self, answer: Answer) -> None:
        """On the comparer's thread: modules are swapped without the comparison, which somebody may rely on."""
        if FAILED in answer.missing and not self._told_failure:
            self._told_failure = True
            self._tell(Note(f"types were not compared: {FAILED[1]}; --no-debug-info does without it"))

    def _late(self, each: Asked, answer: Answer) -> None:
        if answer.failure:
            self._tell(Differs(each.pid, each.wanted.output, each.wanted.content, answer.failure))

    def _has_debug_info(self, pid: int, link: Describer) -> bool:
        known = self._hosts.get(pid)
        if known is None or known[0] is not link:
            known = self._hosts[pid] = link, _tells(program_of(pid))
        return known[1]

    def _ask(self, pid: int, offer: Sequence[Wanted], link: Describer, told: frozenset[str]) -> list[Asked]:
        examined = [(each, each.manifest) for each in offer if each.manifest and _examinable(each)]
        if all(manifest.layout and told.issuperset(manifest.symbols) for _, manifest in examined):
            return []
        try:
            # Only where there is something to hear: a host that looks at its socket now and then keeps us waiting.
            described = link.layouts() if told else b""
            host = native.layouts(described) if described else Layouts((), ())
        except HotreloadError:  # of a host that has just died the offer itself tells; older shims have no layouts
            return []
        asked = [
            Asked(pid, each, self._comparer.ask(question(program_of(pid), described, each.load, manifest)))
            for each, manifest in examined
            if not (manifest.layout and all_described(host, native.layouts(manifest.layout), manifest.symbols))
        ]
        since = time.monotonic()
        for each in asked:
            each.future.add_done_callback(lambda future: self._hear(future.result()))
            each.future.add_done_callback(lambda _, output=each.wanted.output: self._clock(output, since))  # type: ignore[misc]
        return asked

    def _clock(self, output: Path, since: float) -> None:
        in_time = time.monotonic() - since <= WAIT_SECONDS
        self._late_in_a_row[output] = 0 if in_time else self._late_in_a_row.get(output, 0) + 1


def _tells(program: Path) -> bool:
    """Whether a host's program or a library of its own has debug info."""
    return carries(program) or any(not each.reason and carries(each.path) for each in libraries_of(program))


def _examinable(wanted: Wanted) -> bool:
    return wanted.manifest is not None and (bool(wanted.manifest.layout) or carries(wanted.load))


def described_by(snapshot: Snapshot) -> frozenset[str]:
    """The slots of which a host tells what they take."""
    return frozenset(slot.symbol for slot in snapshot.slots if slot.described in ("host", "checked"))


def question(host: Path, described: bytes, module: Path, manifest: Manifest) -> Question:
    """What is to be asked about a module, for a host's program and what that describes."""
    functions = tuple(entry.function for entry in manifest.entries)
    return Question(
        host, described, module, manifest.module.build_id, functions, manifest.symbols, manifest.layout,
        manifest.migrations,
    )  # fmt: skip


def program_of(pid: int) -> Path:
    """The program of a process, also when its file was replaced or deleted."""
    return Path(f"/proc/{pid}/exe")


def _refusals(transaction: Transaction, refused: Mapping[tuple[int, Path], Failure]) -> dict[int, Outcome]:
    """All or none: the others of the transaction wait."""
    aborted = Failure(
        "E-ABORTED",
        "not swapped: another module of the same transaction was refused",
        fix="correct that one; this one goes with it",
    )

    def report(pid: int, wanted: Wanted) -> Report:
        assert wanted.manifest
        failure = refused.get((pid, wanted.output), aborted)
        return Report(failure.code, wanted.manifest.module, 0, failure=failure)

    return {pid: Outcome(tuple(report(pid, wanted) for wanted in offer)) for pid, offer in transaction.offers.items()}
