"""Carries out a transaction: prepares on all hosts at once, then commits on all or aborts on all.

Requests go to all hosts before the first answer is waited for, so that many hosts take as long as the slowest one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from hotreload import native
from hotreload.errors import HotreloadError
from hotreload.model import SAME, Failure, Report
from hotreload.session import Outcome, Transaction, Wanted


class Peer(Protocol):
    """What a transaction needs of a link."""

    def begin_load(self, paths: Sequence[str]) -> None: ...
    def begin_prepare(self, paths: Sequence[str]) -> None: ...
    def begin_commit(self) -> None: ...
    def begin_abort(self) -> None: ...
    def finish(self) -> native.Reply: ...


def transact(transaction: Transaction, links: Mapping[int, Peer]) -> dict[int, Outcome]:
    """Prepares on all hosts at once, then commits on all or aborts on all. Never raises for a host's failure.

    A host that vanishes while it prepares stops the transaction; one that vanishes after all have prepared cannot.
    """
    return conclude(transaction, links, begin(transaction, links))


@dataclass(frozen=True, slots=True)
class Begun:
    """A transaction whose first requests are sent: the hosts that have one, and what became of the others."""

    asked: Mapping[int, Peer]
    outcomes: dict[int, Outcome]
    whole: bool
    """One host alone was asked for all of it: one round trip instead of two."""


def begin(transaction: Transaction, links: Mapping[int, Peer]) -> Begun:
    """Sends a transaction's first requests, and waits for nothing."""
    outcomes: dict[int, Outcome] = {}
    offers = {pid: _paths(wanted) for pid, wanted in transaction.offers.items()}
    whole = len(links) == len(offers) == 1
    if whole:
        asked = _begin(links, lambda link, pid: link.begin_load(offers[pid]), outcomes)
    else:
        asked = _begin(links, lambda link, pid: link.begin_prepare(offers[pid]), outcomes)
    return Begun(asked, outcomes, whole)


def conclude(transaction: Transaction, links: Mapping[int, Peer], begun: Begun) -> dict[int, Outcome]:
    """Waits for the answers of what has begun, and commits or aborts. Never raises for a host's failure."""
    outcomes = begun.outcomes
    prepared = _finish(begun.asked, outcomes)
    if begun.whole:
        return outcomes
    good = len(prepared) == len(transaction.offers) and not any(outcomes[pid].failure for pid in prepared)
    ready = {pid: links[pid] for pid in prepared if outcomes[pid].failure is None}
    if good:
        _finish(_begin(ready, lambda link, _: link.begin_commit(), outcomes), outcomes)
        return outcomes
    undone: dict[int, Outcome] = {}
    _finish(_begin(ready, lambda link, _: link.begin_abort(), undone), undone)
    for pid in ready:
        outcomes[pid] = _aborted(outcomes[pid], transaction.offers[pid])
    return outcomes


def _paths(wanted: Sequence[Wanted]) -> list[str]:
    return [str(each.load.absolute()) for each in wanted]


def _begin(
    links: Mapping[int, Peer], begin: Callable[[Peer, int], None], outcomes: dict[int, Outcome]
) -> dict[int, Peer]:
    begun = {}
    for pid, link in links.items():
        try:
            begin(link, pid)
            begun[pid] = link
        except HotreloadError as error:
            outcomes[pid] = Outcome(failure=Failure.of(error))
    return begun


def _finish(links: Mapping[int, Peer], outcomes: dict[int, Outcome]) -> list[int]:
    answered = []
    for pid, link in links.items():
        try:
            reply = link.finish()
            outcomes[pid] = Outcome(reply.reports, reply.failure)
            answered.append(pid)
        except HotreloadError as error:
            outcomes[pid] = Outcome(failure=Failure.of(error))
    return answered


def _aborted(outcome: Outcome, wanted: Sequence[Wanted]) -> Outcome:
    failure = Failure(
        "E-ABORTED",
        "not swapped: another host of the same transaction refused or went away",
        fix="correct what it refused; this module is offered again with it",
    )

    def undone(report: Report) -> Report:
        return report if report.code == SAME else replace(report, code=failure.code, failure=failure, changes=())

    return Outcome(tuple(undone(report) for report in outcome.reports), failure)
