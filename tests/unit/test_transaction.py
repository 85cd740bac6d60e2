"""Transactions over fakes of hosts: all swap or none does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hotreload.model import OK, SAME, Failure, Host, Report
from hotreload.native import Reply
from hotreload.session import Outcome, Transaction, Wanted
from hotreload.testing import FakeLink
from hotreload.transaction import transact

A, B = Path("/out/a.so"), Path("/out/b.so")
BAD = Failure("E-ABI", "it is bad")


def offer(**outputs: Sequence[Path]) -> Transaction:
    """A transaction; ``p1=[A]`` offers A to pid 1."""
    return Transaction(
        7, {int(pid[1:]): tuple(Wanted(path, path, 1) for path in each) for pid, each in outputs.items()}
    )


def codes(outcome: Outcome) -> list[str]:
    return [report.code for report in outcome.reports]


def test_all_swap() -> None:
    links = {1: FakeLink(Host(1, "one")), 2: FakeLink(Host(2, "two"))}
    outcomes = transact(offer(p1=[A, B], p2=[B]), links)
    assert {pid: codes(each) for pid, each in outcomes.items()} == {1: [OK, OK], 2: [OK]}
    assert links[1].running == [str(A), str(B)] and links[2].running == [str(B)]
    assert links[1].asked == ["prepare", "commit"]


def test_one_refuses_for_all() -> None:
    links = {1: FakeLink(Host(1, "one"), {str(A): BAD}), 2: FakeLink(Host(2, "two"))}
    outcomes = transact(offer(p1=[A, B], p2=[B]), links)
    assert codes(outcomes[1]) == ["E-ABI", "E-ABORTED"] and codes(outcomes[2]) == ["E-ABORTED"]
    assert outcomes[2].failure and outcomes[2].failure.code == "E-ABORTED"
    assert links[2].asked == ["prepare", "abort"] and links[2].prepared == ()
    assert links[1].running == links[2].running == []


def test_what_is_the_same_is_not_called_aborted() -> None:
    class Same(FakeLink):
        def finish(self) -> Reply:
            reply = super().finish()
            return Reply(reply.code, reply.failure, tuple(Report(SAME, each.module, 1) for each in reply.reports))

    links = {1: Same(Host(1, "one")), 2: FakeLink(Host(2, "two"), {str(A): BAD})}
    assert codes(transact(offer(p1=[B], p2=[A]), links)[1]) == [SAME]


def test_a_host_that_dies_while_it_prepares_stops_all() -> None:
    links = {1: FakeLink(Host(1, "one"), dies_at="prepare"), 2: FakeLink(Host(2, "two"))}
    outcomes = transact(offer(p1=[A], p2=[A]), links)
    assert outcomes[1].failure and outcomes[1].failure.code == "E-HOST-GONE" and not outcomes[1].reports
    assert codes(outcomes[2]) == ["E-ABORTED"] and links[2].running == []


def test_a_host_that_dies_after_all_have_prepared_stops_nobody() -> None:
    links = {1: FakeLink(Host(1, "one"), dies_at="commit"), 2: FakeLink(Host(2, "two"))}
    outcomes = transact(offer(p1=[A], p2=[A]), links)
    assert outcomes[1].failure and outcomes[1].failure.code == "E-HOST-GONE"
    assert codes(outcomes[2]) == [OK] and links[2].running == [str(A)]


def test_a_host_without_a_link_stops_all() -> None:
    link = FakeLink(Host(2, "two"))
    outcomes = transact(offer(p1=[A], p2=[A]), {2: link})
    assert codes(outcomes[2]) == ["E-ABORTED"] and 1 not in outcomes and link.running == []
