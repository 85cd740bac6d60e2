"""`session.step` as a pure function: events in, state and actions out; random walks at the end are its adversary."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from hotreload import session
from hotreload.model import (
    OK,
    SAME,
    Candidate,
    Change,
    ChangeKind,
    Directory,
    DirectoryChanged,
    Entry,
    EventKind,
    Failure,
    Host,
    Manifest,
    Module,
    Record,
    Report,
    Settled,
    Settling,
    WatchMode,
)
from hotreload.session import (
    After,
    BuildEnded,
    BuildLine,
    BuildPhase,
    ChildEnded,
    ChildOutput,
    ChildStarted,
    Clear,
    Differs,
    Dismiss,
    Finish,
    Flush,
    HostChanged,
    HostFound,
    HostLost,
    Note,
    Offer,
    Offered,
    Outcome,
    Quit,
    Rebuild,
    Retry,
    RollBack,
    RolledBack,
    RunBuild,
    Seen,
    Show,
    SourcesChanged,
    State,
    TakeBack,
    TogglePause,
    Transaction,
    Wanted,
)
from hotreload.session.draft import Draft
from hotreload.testing import FakeClock

A, B, C = Path("/out/liba.so"), Path("/out/libb.so"), Path("/out/libc.so")
ONE, TWO = Host(1, "one"), Host(2, "two")
ALL = frozenset({"a.run", "b.run", "c.run"})
GONE = Failure("E-HOST-GONE", "the host has exited")
ABORTED = "E-ABORTED"


def name(path: Path) -> str:
    return path.stem.removeprefix("lib")


def manifest(path: Path, content: int) -> Manifest:
    symbol = f"{name(path)}.run"
    return Manifest(Module(name(path), content, f"{content:08x}", str(path), content), (Entry(symbol, 1),), 1, 0, 0, ())


def good(path: Path, content: int, *, existing: bool = False) -> Candidate:
    return Candidate(path, 0.0, manifest(path, content), None, existing)


def bad(path: Path, code: str = "E-ABI", *, existing: bool = False) -> Candidate:
    return Candidate(path, 0.0, None, Failure(code, "it is bad"), existing)


def report(wanted: Wanted, code: str = OK, *, content: int | None = None) -> Report:
    """What a host answers for an output; it read ``content`` instead of what was meant."""
    found = manifest(wanted.output, wanted.content if content is None else content).module
    changes = (Change(f"{found.name}.run", 0, 1),) if code == OK else ()
    failure = None if code in (OK, SAME) else Failure(code, f"refused with {code}", "found", "expected", "fix")
    return Report(code, replace(found, path="/state/staged"), 1, changes, failure, {"total": 5}, "/state/staged.so")


class World:
    """A session with what it has asked for so far."""

    def __init__(self, *, build: bool = False, command: tuple[str, ...] = ()) -> None:
        self.clock = FakeClock(1000.0)
        self.state = State(
            build=session.Build("make") if build else None, child=session.Child(command) if command else None
        )
        self.actions: list[session.Action] = []

    def send(self, *events: session.Event) -> list[session.Action]:
        """Applies events; returns the actions of all of them, shown records left out."""
        found: list[session.Action] = []
        for event in events:
            given = {field: getattr(self.state, field) for field in State.__slots__}
            after, actions = session.step(self.state, event, self.clock.now())
            assert given == {field: getattr(self.state, field) for field in State.__slots__}, "step changes no state"
            self.state = after
            self.actions += actions
            found += [action for action in actions if not isinstance(action, Show)]
        return found

    def settle(self, *candidates: Candidate) -> list[session.Action]:
        return self.send(Settled(candidates))

    def attach(self, host: Host = ONE, symbols: Iterable[str] = ALL, running: Iterable[str] = ()) -> Transaction | None:
        self.send(HostFound(host, frozenset(symbols), frozenset(running)))
        return self.state.transaction

    @property
    def under_way(self) -> Transaction:
        assert self.state.transaction is not None, "nothing is offered"
        return self.state.transaction

    @property
    def offers(self) -> dict[int, dict[Path, int]]:
        """Of the transaction under way: output to content, by host."""
        offers = self.state.transaction.offers if self.state.transaction else {}
        return {pid: {each.output: each.content for each in offer} for pid, offer in offers.items()}

    def answer(
        self, codes: Mapping[Path, str] | None = None, *, gone: Iterable[int] = (), kept: Path | None = None
    ) -> list[session.Action]:
        """Ends the transaction as hosts do: the codes given, and then ``E-ABORTED`` for all others."""
        codes = codes or {}
        final = any(code not in (OK, SAME) for code in codes.values()) or bool(set(gone))
        outcomes = {}
        for pid, offer in self.under_way.offers.items():
            if pid in gone:
                outcomes[pid] = Outcome(failure=GONE)
                continue
            reports = tuple(report(each, codes.get(each.output, ABORTED if final else OK)) for each in offer)
            failure = next((each.failure for each in reports if each.failure), None)
            copies = tuple(
                (kept or Path("/kept")) / f"{each.content}.so" if done.code == OK else None
                for each, done in zip(offer, reports, strict=True)
            )
            outcomes[pid] = Outcome(reports, failure, copies)
        return self.send(Offered(self.under_way.number, outcomes))

    def retry(self, actions: Iterable[session.Action]) -> None:
        """Lets the time pass that an action asked for."""
        for action in actions:
            if isinstance(action, After):
                self.send(action.event)

    @property
    def records(self) -> list[tuple[str, str, str]]:
        """Kind, module and code of everything recorded."""
        shown = self.state.records
        return [(each.kind.value, each.module.name if each.module else "", each.code) for each in shown]

    def count(self, kind: EventKind) -> int:
        return sum(isinstance(each, Show) and each.record.kind is kind for each in self.actions)

    @property
    def pinned(self) -> str:
        return self.state.rejection.code if self.state.rejection else ""


def live(*candidates: Candidate) -> World:
    """A world whose host ONE runs these."""
    world = World()
    world.attach()
    world.settle(*candidates)
    world.answer()
    return world


# ---- one output, one host ----


def test_an_output_is_offered_and_swapped() -> None:
    world = World()
    world.attach()
    (action,) = world.settle(good(A, 7))
    assert action == Offer(world.under_way)
    assert world.under_way.offers == {1: (Wanted(A, A, 7, manifest(A, 7)),)}
    assert world.answer() == []
    assert world.state.transaction is None
    assert world.records == [("attach", "", ""), ("candidate", "a", ""), ("swap", "a", "")]
    swap = world.state.records[-1]
    assert swap.module and swap.module.path == str(A)
    assert swap.time == 1000.0
    assert swap.host == ONE and swap.changes[0].symbol == "a.run" and swap.us == {"total": 5}
    assert (world.state.swaps, world.state.rejections) == (1, 0)
    assert "a" in world.state.hosts[1].modules


def test_nothing_is_offered_twice() -> None:
    world = live(good(A, 7))
    assert world.send(HostChanged(1, ALL, frozenset({"a"})), Retry(frozenset({A}))) == []
    assert world.state.transaction is None


def test_an_output_that_concerns_nobody_waits() -> None:
    world = World()
    world.attach(symbols=["b.run"])
    assert world.settle(good(A, 1)) == []
    assert "waits for a host that declares a.run" in world.state.records[-1].reason
    world.attach(TWO, ["a.run"])
    assert world.offers == {2: {A: 1}}


def test_a_new_version_of_a_module_that_was_run_concerns_its_host() -> None:
    world = World()
    world.attach(symbols=["elsewhere"], running=["a"])
    world.settle(good(A, 1))
    assert world.offers == {1: {A: 1}}


def test_a_slot_declared_later_is_supplied() -> None:
    world = World()
    world.attach(symbols=["b.run"])
    world.settle(good(A, 1))
    world.send(HostChanged(1, frozenset({"a.run", "b.run"}), frozenset()))
    assert world.offers == {1: {A: 1}}


def test_what_a_host_has_already_is_the_same() -> None:
    world = World()
    world.settle(good(A, 1, existing=True))
    world.attach()
    world.answer({A: SAME})
    assert world.records[-1] == ("same", "a", "")
    assert (world.state.swaps, world.state.rejections) == (0, 0)
    assert world.state.transaction is None


def test_undeclared_slots_are_told() -> None:
    world = World()
    world.attach()
    world.settle(good(A, 1))
    (wanted,) = world.under_way.offers[1]
    typo = replace(report(wanted), changes=(Change("a.rum", 0, 1, ChangeKind.UNDECLARED),))
    world.send(Offered(1, {1: Outcome((typo,))}))
    assert "a.rum is declared by no host code" in world.state.records[-1].reason
    assert "a.rum" in world.state.hosts[1].symbols


def test_slots_that_a_trial_did_not_reach_are_told() -> None:
    world = World()
    world.attach()
    world.settle(good(A, 1))
    (wanted,) = world.under_way.offers[1]
    world.send(Offered(1, {1: Outcome((replace(report(wanted), warnings=("untried",)),))}))
    assert world.state.records[-1].reason.startswith("not all slots of a v1 were tried")


def test_answers_to_other_transactions_are_ignored() -> None:
    world = World()
    world.attach()
    world.settle(good(A, 1))
    before = world.state
    world.send(Offered(99, {}))
    assert world.state == before
    world.answer()
    after = world.state
    world.send(Offered(1, {}))
    assert world.state == after


# ---- refusals ----


def test_a_refusal_is_pinned_until_its_output_is_accepted() -> None:
    world = World()
    world.attach()
    world.settle(bad(A))
    assert world.pinned == "E-ABI" and world.state.rejections == 1
    world.settle(good(B, 1))
    world.answer()
    assert world.pinned == "E-ABI", "another module's swap does not correct it"
    world.settle(good(A, 2))
    assert world.pinned == "E-ABI"
    world.answer()
    assert world.pinned == ""


def test_a_host_refuses() -> None:
    world = live(good(A, 1))
    world.settle(good(A, 2))
    assert world.answer({A: "E-SYMBOLS"}) == []
    pinned = world.state.rejection
    assert pinned and (pinned.code, pinned.found, pinned.expected, pinned.fix) == (
        "E-SYMBOLS",
        "found",
        "expected",
        "fix",
    )
    assert pinned.host == ONE and pinned.module and pinned.module.path == str(A)
    assert world.state.transaction is None, "what the host runs is not offered in place of it"
    world.settle(good(A, 3))
    world.answer()
    assert world.pinned == ""


@pytest.mark.parametrize(
    "refuse", [lambda w: w.settle(bad(A)), lambda w: (w.settle(good(A, 2)), w.answer({A: "E-ABI"}))]
)
def test_going_back_to_what_runs_ends_a_refusal(refuse: object) -> None:
    world = live(good(A, 1))
    refuse(world)  # type: ignore[operator]
    world.settle(good(A, 1))
    world.answer({A: SAME})
    assert world.pinned == ""


def test_a_refused_content_that_is_built_again_is_answered_again() -> None:
    world = live(good(A, 1))
    world.settle(good(A, 2))
    world.answer({A: "E-ON-LOAD"})
    world.settle(bad(A))
    world.settle(good(A, 2))
    assert world.offers == {1: {A: 2}}


def test_dismissing() -> None:
    world = World()
    world.settle(bad(A))
    world.send(Dismiss())
    assert world.state.rejection is None and world.state.rejections == 1


def test_an_answer_without_reports_refuses_what_was_offered() -> None:
    world = World()
    world.attach()
    world.settle(good(A, 1))
    assert world.send(Offered(1, {1: Outcome(failure=Failure("E-PROTOCOL", "no"))})) == []
    assert world.records[-1] == ("reject", "a", "E-PROTOCOL")
    assert world.state.transaction is None


def test_a_fault_of_ours_is_not_run_into_again_by_itself() -> None:
    """Its hosts were hung up on, and are found again at once."""
    world = World()
    world.attach()
    world.settle(good(A, 1))
    world.send(Offered(1, {1: Outcome(failure=Failure(session.INTERNAL, "KeyError"))}))
    assert world.records[-1] == ("reject", "a", "E-INTERNAL") and world.pinned == "E-INTERNAL"
    world.send(HostLost(1, "the host stopped serving"))
    assert world.attach() is None
    world.settle(good(A, 1))
    assert world.offers == {1: {A: 1}}, "who builds again is answered again"


# ---- all or none ----


def test_outputs_that_settle_together_go_together() -> None:
    world = World()
    world.attach()
    world.settle(good(B, 2), good(A, 1))
    assert [each.output for each in world.under_way.offers[1]] == [A, B]


def test_a_bad_output_withholds_its_companions() -> None:
    world = World()
    world.attach()
    assert world.settle(bad(A), good(B, 1)) == []
    assert world.pinned == "E-ABI", "the cause stays on screen, not the consequence"
    assert world.records[-1] == ("reject", "b", ABORTED)
    world.settle(good(A, 2))
    assert world.offers == {1: {A: 2, B: 1}}


def test_a_library_that_never_was_a_module_holds_nothing_back() -> None:
    world = World()
    world.attach()
    world.settle(bad(A, "E-NO-MANIFEST"), good(B, 1))
    assert world.offers == {1: {B: 1}}


def test_a_module_that_has_lost_its_manifest_does() -> None:
    world = live(good(A, 1))
    assert world.settle(bad(A, "E-NO-MANIFEST"), good(B, 1)) == []


def test_one_module_refused_by_the_host_withholds_the_others() -> None:
    world = World()
    world.attach()
    world.settle(good(A, 1), good(B, 1))
    world.answer({A: "E-ABI"})
    assert world.state.transaction is None and world.state.withheld == {B}
    assert world.send(HostChanged(1, ALL, frozenset())) == [], "not alone, whatever happens"
    world.settle(good(A, 2))
    assert world.offers == {1: {A: 2, B: 1}}
    world.answer()
    assert world.state.withheld == frozenset() and world.pinned == ""


def test_one_host_refuses_for_all_hosts() -> None:
    world = World()
    world.attach()
    world.attach(TWO)
    world.settle(good(A, 1))
    one, two = (world.under_way.offers[pid][0] for pid in (1, 2))
    refused, undone = report(one, "E-ABI"), report(two, ABORTED)
    outcomes = {1: Outcome((refused,), refused.failure), 2: Outcome((undone,), undone.failure)}
    assert world.send(Offered(1, outcomes)) == []
    assert world.pinned == "E-ABI"
    world.settle(good(B, 1))
    assert world.offers == {1: {B: 1}, 2: {B: 1}}, "the refused content goes to nobody"
    world.answer()
    world.settle(good(A, 2))
    assert world.offers == {1: {A: 2}, 2: {A: 2}}


def test_a_group_that_turns_bad_while_it_waits_is_withheld() -> None:
    world = World()
    world.attach()
    world.settle(good(C, 1))
    world.settle(good(A, 1), good(B, 1))
    world.settle(bad(A))
    world.answer()
    assert world.state.transaction is None
    assert world.state.withheld == {B}
    world.settle(good(A, 2))
    assert world.offers == {1: {A: 2, B: 1}}


def test_newer_content_joins_the_group_that_waits() -> None:
    world = World()
    world.attach()
    world.settle(good(C, 1))
    world.settle(good(A, 1), good(B, 1))
    world.settle(good(A, 2))
    assert world.state.groups == (frozenset({A, B}),)
    world.answer()
    assert world.offers == {1: {A: 2, B: 1}}


def test_the_correction_that_waits_already_takes_the_aborted_along() -> None:
    world = World()
    world.attach()
    world.settle(good(A, 1), good(B, 1))
    world.settle(good(A, 2))
    world.answer({A: "E-ABI"})
    assert world.offers == {1: {A: 2, B: 1}}


def test_existing_outputs_do_not_hold_each_other_back() -> None:
    world = World()
    world.attach()
    world.settle(bad(A, existing=True), good(B, 1, existing=True))
    assert world.offers == {1: {B: 1}}


# ---- several hosts, late ones, restarted ones ----


def test_each_host_is_offered_what_concerns_it() -> None:
    world = World()
    world.attach(ONE, ["a.run"])
    world.attach(TWO, ["b.run", "a.run"])
    world.settle(good(A, 1), good(B, 2))
    assert world.offers == {1: {A: 1}, 2: {A: 1, B: 2}}


def test_a_late_host_is_brought_up_to_date_one_output_after_the_other() -> None:
    world = live(good(A, 1), good(B, 1))
    world.attach(TWO)
    assert world.offers == {2: {A: 1}}
    world.answer({A: "E-SYMBOLS"})
    assert world.offers == {2: {B: 1}}, "what it refused holds nothing back"
    world.answer()
    assert world.state.transaction is None


def test_a_host_that_comes_during_a_transaction_gets_it_too() -> None:
    world = World()
    world.attach()
    world.settle(good(A, 1))
    world.attach(TWO)
    assert world.offers == {1: {A: 1}}
    world.answer()
    assert world.offers == {2: {A: 1}}


def test_without_catching_up_a_late_host_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """H16, the counter-proof: what the tests around this one see is the catching up, and nothing else."""
    monkeypatch.setattr(Draft, "_catch_up", lambda *_: None)
    with pytest.raises((AssertionError, LookupError)):
        test_a_late_host_is_brought_up_to_date_one_output_after_the_other()


def test_a_restarted_host_gets_the_newest_accepted_content_when_the_disk_is_bad() -> None:
    world = live(good(A, 1))
    world.settle(good(A, 2))
    world.answer()
    world.settle(bad(A))
    world.send(HostLost(1, "it crashed"))
    assert world.attach(Host(11, "one"))
    assert world.under_way.offers == {11: (Wanted(A, Path("/kept/2.so"), 2, manifest(A, 2)),)}
    world.answer()
    assert world.pinned == "E-ABI", "the file on disk is as bad as before"
    world.settle(good(A, 3))
    assert world.offers == {11: {A: 3}}


def test_a_restarted_host_gets_the_kept_copy_of_what_was_refused_or_taken_back() -> None:
    world = live(good(A, 1))
    world.settle(good(A, 2))
    world.answer({A: "E-ON-LOAD"})
    world.attach(Host(11, "one"))
    assert world.offers == {11: {A: 1}}
    world.answer()
    world.settle(good(A, 3))
    world.answer()
    (wanted,) = (Wanted(A, A, 3),)
    world.send(RolledBack(11, Outcome((report(wanted),))))
    world.attach(Host(12, "one"))
    assert world.offers == {12: {A: 1}}


def test_a_new_host_that_refuses_the_newest_gets_the_newest_accepted() -> None:
    world = live(good(A, 1))
    world.send(HostLost(1, "gone"))
    world.settle(good(A, 2))
    world.attach(Host(11, "one"))
    assert world.offers == {11: {A: 2}}
    world.answer({A: "E-ABI"})
    assert world.offers == {11: {A: 1}}
    world.answer()
    assert world.state.transaction is None and world.pinned == "E-ABI"


def test_a_host_that_comes_while_an_output_is_withheld_gets_the_older_one() -> None:
    world = live(good(A, 1), good(B, 1))
    world.settle(good(A, 2), bad(B))
    world.attach(TWO)
    assert world.offers == {2: {A: 1}}
    world.answer()
    assert world.offers == {2: {B: 1}}
    world.answer()
    world.settle(good(B, 2))
    assert world.offers == {1: {A: 2, B: 2}, 2: {A: 2, B: 2}}


def test_kept_copies_go_to_hosts_concerned_only() -> None:
    world = live(good(A, 1))
    world.settle(bad(A))
    assert world.attach(TWO, ["b.run"]) is None


def test_a_deleted_output_is_served_from_its_copy() -> None:
    world = live(good(A, 1))
    world.attach(TWO)
    assert world.offers == {2: {A: 1}}
    actions = world.answer({A: "E-IO"})
    assert world.under_way.offers == {2: (Wanted(A, Path("/kept/1.so"), 1, manifest(A, 1)),)}
    world.answer()
    world.retry(actions)
    assert world.state.transaction is None and world.state.rejections == 0


# ---- hosts that go away ----


def test_a_host_that_goes_is_offered_nothing() -> None:
    world = World()
    world.attach()
    world.send(HostLost(1, "the host has exited"))
    assert world.records[-1] == ("detach", "", "")
    assert world.settle(good(A, 1)) == []
    assert not world.state.hosts[1].attached and world.state.hosts[1].gone == "the host has exited"
    before = world.state
    world.send(HostLost(1, "again"), HostLost(77, "never seen"), HostChanged(77, ALL, frozenset()))
    assert world.state == before


def test_a_host_that_vanishes_in_a_transaction_takes_nothing_from_the_others() -> None:
    world = World()
    world.attach(ONE, ["a.run"])
    world.attach(TWO, ["b.run"])
    world.settle(good(A, 1), good(B, 1))
    actions = world.answer(gone=[1])
    world.send(HostLost(1, "exited"))
    assert world.count(EventKind.REJECT) == 0, "nobody refused anything"
    assert world.state.transaction is None
    world.retry(actions)
    assert world.offers == {2: {B: 1}}
    world.answer()
    world.attach(Host(11, "one"))
    assert world.offers == {11: {A: 1}}, "nothing that was swapped stays withheld"


@pytest.mark.parametrize("outcomes", [{}, {1: Outcome((report(Wanted(A, A, 1)),))}], ids=["no answer", "an answer"])
def test_a_successor_may_come_before_the_end_of_the_transaction(outcomes: dict[int, Outcome]) -> None:
    world = World()
    world.attach()
    world.settle(good(A, 1))
    world.send(HostLost(1, "exited"))
    world.attach(Host(11, "one"))
    assert 1 not in world.state.hosts
    world.retry(world.send(Offered(1, outcomes)))
    assert world.offers == {11: {A: 1}}


def test_a_roll_back_may_end_after_the_host() -> None:
    world = live(good(A, 1))
    world.send(HostLost(1, "exited"))
    world.attach(Host(11, "one"))
    world.send(RolledBack(1, Outcome(failure=GONE)), RolledBack(1, Outcome((report(Wanted(A, A, 1)),))))
    assert world.records[-1] == ("rollback", "a", "")


def test_gone_hosts_are_forgotten_in_the_end() -> None:
    world = World()
    for pid in range(100):
        world.clock.advance(1.0)
        world.attach(Host(pid, f"host-{pid}"))
        world.send(HostLost(pid, "exited"))
    assert len(world.state.hosts) <= session.GONE_KEPT + 1
    assert 99 in world.state.hosts


# ---- another try ----


@pytest.mark.parametrize("code", ["E-TRUNCATED", "E-IO"])
def test_an_output_that_cannot_be_read_yet_is_offered_again(code: str) -> None:
    world = World()
    world.attach()
    world.settle(good(A, 1), good(B, 1))
    for _ in range(session.RETRIES):
        actions = world.answer({A: code})
        assert actions == [After(session.RETRY_SECONDS, Retry(frozenset({A, B})))]
        assert world.state.transaction is None and world.count(EventKind.REJECT) == 0
        world.retry(actions)
        assert world.offers == {1: {A: 1, B: 1}}, "all of the group, or none"
    assert world.answer({A: code}) == [session.Forget(A)]
    assert world.pinned == code
    world.settle(good(A, 1))
    assert world.offers == {1: {A: 1, B: 1}}, "its next content is offered, even if it is the same"


def test_a_host_that_is_not_at_its_safe_point_is_asked_again_and_the_user_told() -> None:
    world = live(good(A, 1))
    world.settle(good(A, 2))
    world.retry(world.answer({A: "E-SAFE-POINT"}))
    world.retry(world.answer({A: "E-SAFE-POINT"}))
    assert world.offers == {1: {A: 2}}
    assert [each.reason for each in world.state.records if each.kind is EventKind.NOTE] == [
        "a waits: refused with E-SAFE-POINT; fix"
    ]


def test_a_refusal_for_good_ends_the_tries_of_its_companions() -> None:
    world = World()
    world.attach()
    world.settle(good(A, 1), good(B, 1))
    assert world.answer({A: "E-TRUNCATED", B: "E-ABI"}) == []
    assert world.state.transaction is None and world.state.withheld == {A}
    world.settle(good(B, 2))
    assert world.offers == {1: {A: 1, B: 2}}


def test_what_has_turned_bad_is_not_tried_again() -> None:
    world = World()
    world.attach()
    world.settle(good(A, 1))
    actions = world.answer({A: "E-TRUNCATED"})
    world.settle(bad(A))
    world.retry(actions)
    assert world.state.transaction is None


@pytest.mark.parametrize(("code", "forgotten"), [("E-ON-LOAD", True), ("E-SYMBOLS", False)])
def test_a_refusal_whose_cause_may_pass_is_told_again_for_the_same_content(code: str, forgotten: bool) -> None:
    world = World()
    world.attach()
    world.settle(good(A, 1))
    assert (session.Forget(A) in world.answer({A: code})) is forgotten
    world.settle(good(A, 1))
    assert world.offers == {1: {A: 1}}


@pytest.mark.parametrize("code", ["E-DENIED", "E-LIMIT", "E-MEMORY"])
def test_a_refusal_that_says_nothing_about_the_content_is_one_hosts_affair(code: str) -> None:
    world = World()
    world.attach()
    world.settle(good(A, 1))
    world.answer({A: code})
    assert world.pinned == code and world.state.transaction is None
    world.attach(TWO)
    assert world.offers == {2: {A: 1}}


def test_a_host_that_read_newer_bytes_has_them() -> None:
    world = World()
    world.attach()
    world.settle(good(A, 1))
    (wanted,) = world.under_way.offers[1]
    world.send(Offered(1, {1: Outcome((report(wanted, content=2),))}))
    assert world.send(HostChanged(1, ALL, frozenset({"a"}))) == []
    assert [each.content for each in world.state.outputs[A].accepted] == [2]


# ---- rolling back ----


def test_rolling_back() -> None:
    world = live(good(A, 1))
    assert world.send(RollBack(1, "a")) == [TakeBack(1, "a")]
    world.send(RolledBack(1, Outcome((report(Wanted(A, A, 1)),))))
    assert world.records[-1] == ("rollback", "a", "") and world.state.rollbacks == 1
    assert world.send(HostChanged(1, ALL, frozenset({"a"}))) == [], "what was taken back does not return by itself"
    assert world.attach(TWO) is None, "nor does it reach others"


def test_rolling_back_what_cannot_be() -> None:
    world = live(good(A, 1))
    world.send(RolledBack(1, Outcome(failure=Failure("E-NO-PREVIOUS", "nothing to take back"))))
    assert "nothing to take back" in world.state.records[-1].reason and world.state.rollbacks == 0
    world.send(HostLost(1, "exited"))
    assert world.send(RollBack(1), RollBack(99)) == []


# ---- what is seen of the types after a swap ----

UNLIKE = Failure("E-LAYOUT", "debug info: structs of the host differ", "found", "expected", "fix")


def test_a_module_that_differs_is_told_and_pinned_with_the_way_back() -> None:
    world = live(good(A, 1))
    assert world.send(Differs(1, A, 1, UNLIKE)) == []
    record = world.state.records[-1]
    assert record.kind is EventKind.LAYOUT and record.code == "E-LAYOUT" and record is world.state.rejection
    assert record.fix == "hotreload rollback a --host 1" and record.host == ONE
    assert record.module is not None and (record.module.name, record.module.path) == ("a", str(A))
    assert world.state.rejections == 0, "nothing was refused"
    world.send(RolledBack(1, Outcome((report(Wanted(A, A, 1)),))))
    assert world.state.rejection is None


def test_what_does_not_run_any_more_is_not_told() -> None:
    world = live(good(A, 1))
    before = len(world.state.records)
    world.send(Differs(1, A, 2, UNLIKE), Differs(1, B, 1, UNLIKE), Differs(9, A, 1, UNLIKE))
    assert len(world.state.records) == before and world.state.rejection is None
    world.send(RolledBack(1, Outcome((report(Wanted(A, A, 1)),))))
    before = len(world.state.records)
    world.send(Differs(1, A, 1, UNLIKE))
    world.send(HostLost(1, "exited"), Differs(1, A, 1, UNLIKE))
    assert [record.kind for record in world.state.records[before:]] == [EventKind.DETACH]


# ---- what others do to a host ----


def seen(kind: EventKind, path: Path, content: int, code: str = "") -> Seen:
    return Seen(1, (Record(kind, 5.0, ONE, manifest(path, content).module, code=code),))


def test_events_of_others_are_shown_and_counted() -> None:
    world = live(good(A, 1))
    world.send(seen(EventKind.REJECT, A, 9, "E-ARCH"))
    assert world.pinned == "E-ARCH" and world.state.rejections == 1
    world.send(seen(EventKind.SWAP, B, 9))
    assert world.pinned == "E-ARCH"
    world.send(seen(EventKind.SWAP, A, 10))
    assert world.pinned == "" and world.state.swaps == 3
    world.send(seen(EventKind.RETIRE, A, 9))
    assert [kind for kind, _, _ in world.records[-4:]] == ["reject", "swap", "swap", "retire"]


@pytest.mark.parametrize("kind", [EventKind.ROLLBACK, EventKind.CRASH])
def test_what_others_take_back_reaches_nobody_again(kind: EventKind) -> None:
    world = live(good(A, 1))
    world.settle(good(A, 2))
    world.answer()
    world.send(seen(kind, A, 2))
    world.attach(TWO)
    assert world.offers == {2: {A: 1}}


# ---- the user ----


def test_a_pause_holds_modules() -> None:
    world = World()
    world.attach()
    world.send(TogglePause())
    for content in range(1, 500):
        world.settle(good(A, content), good(B, content))
    world.attach(TWO)
    assert world.state.transaction is None and world.state.held == 2
    assert len(world.state.groups) == 1
    world.send(TogglePause())
    assert world.offers == {1: {A: 499, B: 499}, 2: {A: 499, B: 499}}
    assert world.state.held == 0
    assert world.state.records[-1].reason.startswith("resumed")


def test_a_transaction_ends_during_a_pause() -> None:
    world = World()
    world.attach()
    world.settle(good(A, 1))
    world.send(TogglePause())
    world.settle(good(B, 1))
    world.answer()
    assert world.state.swaps == 1 and world.state.transaction is None and world.state.held == 1


def test_what_turns_bad_in_a_pause_leaves_a_late_host_the_older_one() -> None:
    world = live(good(A, 1))
    world.send(TogglePause())
    world.attach(TWO)
    world.settle(bad(A))
    world.send(TogglePause())
    assert world.offers == {2: {A: 1}}


def test_small_commands() -> None:
    world = World()
    world.send(Note("hello"))
    assert world.records == [("note", "", "")]
    world.send(Clear())
    assert world.state.records == () and [each.reason for each in world.state.cleared] == ["hello"]
    assert world.send(Quit()) == [Finish()]
    assert world.send(Rebuild()) == [], "there is no build command"


def test_records_are_bounded() -> None:
    world = World()
    for number in range(session.RECORDS_KEPT + 50):
        world.send(Note(str(number)))
    assert len(world.state.records) == session.RECORDS_KEPT
    assert world.state.records[-1].reason == str(session.RECORDS_KEPT + 49)
    world.send(Clear())
    world.send(Note("one more"))
    world.send(Clear())
    assert len(world.state.cleared) == session.RECORDS_KEPT and world.state.cleared[-1].reason == "one more"


# ---- directories and unfinished outputs ----


def test_directories_and_writers() -> None:
    world = World()
    out = Path("/out")
    world.send(DirectoryChanged(Directory(out, WatchMode.WAITING)), DirectoryChanged(Directory(out, WatchMode.INOTIFY)))
    assert world.state.directories == (Directory(out, WatchMode.INOTIFY),)
    world.send(Settling(A, 5.0, "a writer has it open"), Settling(A, 10.0, "a writer has it open"))
    assert world.state.settling == (A,)
    assert "unfinished after 10 s" in world.state.records[-1].reason
    world.send(Settling(A, 0.0, ""))
    assert world.state.settling == ()
    world.send(Settling(A, 5.0, "bytes are missing"))
    world.settle(bad(A, "E-TRUNCATED"))
    assert world.state.settling == ()


# ---- builds ----


def built(*candidates: Candidate, code: int = 0) -> World:
    """A world with host ONE and a build that has ended after these settled."""
    world = World(build=True)
    world.attach()
    world.send(SourcesChanged("/src/a.c"))
    for candidate in candidates:
        world.settle(candidate)
    world.send(BuildEnded(code, 1.5))
    return world


def test_all_outputs_of_a_build_go_together() -> None:
    world = World(build=True)
    world.attach()
    assert world.send(SourcesChanged("/src/a.c")) == [RunBuild()]
    world.send(BuildLine("cc a.c"))
    world.settle(good(A, 1))
    world.settle(good(B, 1))
    assert world.state.transaction is None
    build = world.state.build
    assert build and build.phase is BuildPhase.RUNNING and build.lines == ("cc a.c",) and build.started == 1000.0
    assert world.send(BuildEnded(0, 1.5)) == []
    world.settle(good(C, 1))
    world.send(Flush())
    assert world.offers == {1: {A: 1, B: 1, C: 1}}
    assert world.state.build and world.state.build.phase is BuildPhase.OK and world.state.build.seconds == 1.5


def test_a_failed_build_leaves_everything_running() -> None:
    world = built(good(A, 1), code=2)
    world.settle(good(B, 1))
    world.send(Flush())
    assert world.state.transaction is None
    record = next(each for each in world.state.records if each.code == "E-BUILD")
    assert "exit code 2" in record.reason and record.fix
    world.send(Rebuild())
    world.settle(good(B, 2))
    world.send(BuildEnded(0, 0.1), Flush())
    assert world.offers == {1: {A: 1, B: 2}}


def test_a_failed_build_names_its_first_error() -> None:
    world = World(build=True)
    world.send(Rebuild(), BuildLine("a.c: warning: w"), BuildLine("a.c:3: error: e"), BuildLine("b.c: error: f"))
    world.send(BuildEnded(1, 0.1))
    assert world.state.records[-1].reason == "failed with exit code 1: a.c:3: error: e"


def test_one_bad_output_spoils_a_build() -> None:
    world = built(bad(A), good(B, 1))
    assert world.send(Flush()) == []
    assert world.records[-1] == ("reject", "b", ABORTED) and world.pinned == "E-ABI"
    world.send(Rebuild())
    world.settle(good(A, 2))
    world.send(BuildEnded(0, 0.1), Flush())
    assert world.offers == {1: {A: 2, B: 1}}


def test_a_change_during_a_build_starts_another() -> None:
    world = World(build=True)
    world.attach()
    world.send(SourcesChanged("/src/a.c"))
    assert world.send(SourcesChanged("/src/a.c"), SourcesChanged("/src/b.c"), Rebuild()) == []
    world.settle(good(A, 1))
    actions = world.send(BuildEnded(0, 1.0))
    assert RunBuild() in actions and world.state.build and not world.state.build.wanted_again
    world.send(Flush())
    assert world.state.transaction is None, "the second build decides"
    world.settle(good(B, 1))
    world.send(BuildEnded(0, 1.0), Flush())
    assert world.offers == {1: {A: 1, B: 1}}


def test_existing_outputs_do_not_wait_for_a_build() -> None:
    world = World(build=True)
    world.attach()
    world.send(Rebuild())
    world.settle(good(A, 1, existing=True))
    assert world.offers == {1: {A: 1}}


def test_another_try_waits_for_the_build() -> None:
    world = World(build=True)
    world.attach()
    world.settle(good(A, 1))
    actions = world.answer({A: "E-TRUNCATED"})
    world.send(Rebuild())
    world.retry(actions)
    assert world.state.transaction is None
    world.settle(good(A, 2))
    world.send(BuildEnded(0, 1.0), Flush())
    assert world.offers == {1: {A: 2}}


def test_another_try_does_not_take_a_failed_builds_outputs_along() -> None:
    world = World(build=True)
    world.attach()
    world.settle(good(A, 1), good(B, 1))
    actions = world.answer({A: "E-TRUNCATED"})
    world.send(Rebuild())
    world.settle(good(A, 2))
    world.send(BuildEnded(1, 1.0), Flush())
    world.retry(actions)
    assert world.state.transaction is None
    world.send(Rebuild())
    world.settle(good(A, 3))
    world.send(BuildEnded(0, 1.0), Flush())
    assert world.offers == {1: {A: 3, B: 1}}


def test_build_output_is_bounded() -> None:
    world = World(build=True)
    world.send(Rebuild(), *(BuildLine(str(number)) for number in range(session.OUTPUT_LINES_KEPT + 9)))
    assert world.state.build and len(world.state.build.lines) == session.OUTPUT_LINES_KEPT
    assert world.state.build.lines[-1] == str(session.OUTPUT_LINES_KEPT + 8)


# ---- the host that watch started ----


@pytest.mark.parametrize(("code", "told"), [(0, "exited with code 0"), (3, "exited with code 3"), (-9, "signal 9")])
def test_the_host_that_was_started_here(code: int, told: str) -> None:
    world = World(command=("./host", "--fast"))
    world.send(ChildStarted(77, Path("/log")))
    child = world.state.child
    assert child and (child.pid, child.log, child.exit_code) == (77, Path("/log"), None)
    assert "./host --fast" in world.state.records[-1].reason
    world.send(*(ChildOutput((str(number),)) for number in range(session.OUTPUT_LINES_KEPT + 9)))
    assert world.state.child and len(world.state.child.lines) == session.OUTPUT_LINES_KEPT
    world.send(ChildEnded(code))
    assert world.state.child.exit_code == code and told in world.state.records[-1].reason


def test_events_of_what_was_not_asked_for_change_nothing() -> None:
    world = World()
    before = world.state
    world.send(ChildOutput(("x",)), ChildStarted(1, Path("/l")), ChildEnded(0), BuildLine("x"), BuildEnded(0, 1.0))
    assert world.state == before


# ---- random walks ----


class Walk:
    """A random life: hosts with verdicts of their own, outputs that settle in any order, answers that come late.

    It knows what is really true (`runs`: what each host has live) and checks every action against that.
    """

    PATHS = (A, B, C)
    HOSTS = (Host(1, "one"), Host(2, "two"), Host(3, "three"))

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World(build=self.random.random() < 0.5)
        self.pid = 10
        self.content = 0
        self.attached: dict[int, Host] = {}
        self.runs: dict[int, dict[Path, int]] = {}
        self.quarantine: dict[int, set[int]] = {}
        self.moody: set[int] = set()
        """Contents that cannot be read at first."""
        self.offer: Transaction | None = None
        self.offered: dict[tuple[int, Path], int] = {}
        """The newest content that a host gave a final answer about, unless something has come between."""
        self.timers: list[session.Event] = []
        self.builds = False
        self.in_build: set[tuple[Path, int]] = set()
        """Outputs that settled in a build that has not succeeded."""

    def send(self, event: session.Event) -> None:
        paused = self.world.state.paused
        actions = self.world.send(event)
        for action in actions:
            if isinstance(action, Offer):
                assert not paused or isinstance(event, TogglePause), "offered during a pause"
                self.check_offer(action.transaction)
                self.offer = action.transaction
            elif isinstance(action, After):
                self.timers.append(action.event)
            elif isinstance(action, RunBuild):
                assert not self.builds, "two builds at once"
                self.builds = True
            elif isinstance(action, TakeBack):
                assert action.pid in self.attached
        assert (self.offer is None) == (self.world.state.transaction is None)
        self.check_size()

    def check_offer(self, offer: Transaction) -> None:
        assert self.offer is None, "two transactions at once"
        assert offer.offers
        for pid, wanted in offer.offers.items():
            assert pid in self.attached, "offered to a host that is gone"
            assert wanted and len({each.output for each in wanted}) == len(wanted)
            for each in wanted:
                self.check_wanted(pid, each)

    def check_wanted(self, pid: int, wanted: Wanted) -> None:
        output = self.world.state.outputs[wanted.output]
        assert self.offered.get((pid, wanted.output)) != wanted.content, "offered twice"
        assert wanted.manifest and wanted.manifest.module.content == wanted.content
        if wanted.load == wanted.output:
            assert (wanted.output, wanted.content) not in self.in_build, "an output of a build that has not succeeded"
            assert output.candidate.manifest == wanted.manifest, "offered what is no longer on disk"
        else:
            assert wanted.output not in self.runs[pid], "an old copy for a host that runs the module"

    def check_size(self) -> None:
        state, most = self.world.state, len(self.PATHS)
        assert len(state.groups) <= most and len(frozenset().union(*state.groups)) == sum(map(len, state.groups))
        assert len(state.withheld) <= most and len(state.outputs) <= most and len(state.settling) <= most
        assert len(state.records) <= session.RECORDS_KEPT
        assert len(state.hosts) <= len(self.attached) + session.GONE_KEPT
        for output in state.outputs.values():
            assert len(output.accepted) <= session.ACCEPTED_KEPT
            assert len(output.refused) <= session.REFUSED_KEPT
        for host in state.hosts.values():
            assert len(host.handled) <= most and all(len(contents) <= 2 for contents in host.handled.values())

    # ---- what happens ----

    def settle(self) -> None:
        candidates = []
        for path in self.random.sample(self.PATHS, self.random.randint(1, 3)):
            forget = [key for key in self.offered if key[1] == path]
            known = self.world.state.outputs.get(path)
            if self.random.random() < 0.2:
                candidates.append(bad(path))
            elif known and known.candidate.manifest and self.random.random() < 0.1:
                candidates.append(known.candidate)
            else:
                # One in five is a content that was there before.
                old = self.content > 5 and self.random.random() < 0.2
                content = self.random.randint(1, self.content) if old else self.content + 1
                self.content = max(self.content, content)
                if self.random.random() < 0.1:
                    self.moody.add(content)
                candidates.append(good(path, content))
            for key in forget:
                del self.offered[key]
        contents = {(each.path, each.manifest.module.content) for each in candidates if each.manifest}
        build = self.world.state.build
        if self.world.state.flushing or (build and build.phase is BuildPhase.RUNNING):
            self.in_build |= contents
        else:
            self.in_build -= contents
            if all(each.manifest for each in candidates):
                self.in_build.clear()  # what was withheld goes with this group
        self.send(Settled(tuple(candidates)))

    def come(self) -> None:
        host = self.random.choice(self.HOSTS)
        if any(each.name == host.name for each in self.attached.values()):
            return
        self.pid += 1
        self.attached[self.pid] = Host(self.pid, host.name)
        self.runs[self.pid], self.quarantine[self.pid] = {}, set()
        symbols = frozenset(f"{name(path)}.run" for path in self.random.sample(self.PATHS, 2))
        self.send(HostFound(self.attached[self.pid], symbols))

    def go(self) -> None:
        if self.attached:
            pid = self.random.choice(list(self.attached))
            del self.attached[pid]
            self.send(HostLost(pid, "exited"))

    def answer(self) -> None:
        """As `transaction.transact` and the hosts do it: prepared everywhere, then committed everywhere or nowhere."""
        offer, self.offer = self.offer, None
        if offer is None:
            return
        outcomes: dict[int, Outcome] = {}
        codes = {pid: [self.verdict(pid, each) for each in wanted] for pid, wanted in offer.offers.items()}
        gone = {pid for pid in offer.offers if pid not in self.attached}
        fine = not gone and all(code in (OK, SAME) for each in codes.values() for code in each)
        for pid, wanted in offer.offers.items():
            if pid in gone:
                if self.random.random() < 0.7:
                    outcomes[pid] = Outcome(failure=GONE)
                continue
            codes[pid] = [ABORTED if code == OK and not fine else code for code in codes[pid]]
            reports = tuple(report(each, code) for each, code in zip(wanted, codes[pid], strict=True))
            failure = next((each.failure for each in reports if each.failure), None)
            copies = tuple(
                Path(f"/kept/{each.content}") if done.code == OK else None
                for each, done in zip(wanted, reports, strict=True)
            )
            outcomes[pid] = Outcome(reports, failure, copies)
            for each, code in zip(wanted, codes[pid], strict=True):
                if code == OK:
                    self.runs[pid][each.output] = each.content
                if code not in (ABORTED, "E-TRUNCATED"):
                    self.offered[(pid, each.output)] = each.content
        self.send(Offered(offer.number, outcomes))

    def verdict(self, pid: int, wanted: Wanted) -> str:
        if self.runs[pid].get(wanted.output) == wanted.content:
            return SAME
        if wanted.content in self.quarantine[pid]:
            return "E-QUARANTINED"
        if wanted.content in self.moody and wanted.load == wanted.output:
            if self.random.random() < 0.3:
                self.moody.discard(wanted.content)
            return "E-TRUNCATED"
        return "E-ABI" if (wanted.content * 7 + pid) % 11 == 0 else OK

    def take_back(self) -> None:
        mine = [(pid, path) for pid in self.attached for path in self.runs[pid]]
        if not mine:
            return
        pid, path = self.random.choice(mine)
        self.send(RollBack(pid, name(path)))
        content = self.runs[pid][path]
        self.runs[pid][path] = -1
        self.quarantine[pid].add(content)
        done = report(Wanted(path, path, content))
        if self.random.random() < 0.5:
            self.send(RolledBack(pid, Outcome((done,))))
        else:
            self.send(Seen(pid, (Record(EventKind.ROLLBACK, 0.0, self.attached[pid], done.module),)))

    def change(self) -> None:
        if self.attached:
            pid = self.random.choice(list(self.attached))
            known = self.world.state.hosts[pid]
            more = {f"{name(self.random.choice(self.PATHS))}.run"}
            self.send(HostChanged(pid, known.symbols | more, known.modules))

    def build(self) -> None:
        if self.builds and self.random.random() < 0.7:
            self.builds = False
            self.send(BuildEnded(self.random.choice((0, 0, 1)), 1.0))
            self.timers.append(Flush())
        else:
            self.send(Rebuild())

    def time_passes(self) -> None:
        if self.timers:
            event = self.timers.pop(self.random.randrange(len(self.timers)))
            build = self.world.state.build
            if isinstance(event, Flush) and build and build.phase is BuildPhase.OK:
                self.in_build.clear()
            self.send(event)

    def other(self) -> None:
        self.send(self.random.choice((TogglePause(), Dismiss(), Clear(), Note("n"), Settling(A, 5.0, "slow"))))

    def go_on(self, steps: int) -> None:
        happenings = (
            (self.settle, 6),
            (self.answer, 8),
            (self.come, 2),
            (self.go, 1),
            (self.change, 2),
            (self.take_back, 1),
            (self.build, 2),
            (self.time_passes, 4),
            (self.other, 1),
        )
        names, weights = zip(*happenings, strict=True)
        for _ in range(steps):
            self.random.choices(names, weights)[0]()

    # ---- the end: everything comes to rest, and everybody has what he should have ----

    def rest(self) -> None:
        if self.world.state.paused:
            self.send(TogglePause())
        for _ in range(2000):
            if self.offer:
                self.answer()
            elif self.builds:
                self.builds = False
                self.send(BuildEnded(0, 1.0))
                self.timers.append(Flush())
            elif self.timers:
                self.time_passes()
            else:
                break
        else:
            pytest.fail("it never comes to rest")
        assert self.world.state.groups == ()

    def check_rest(self) -> None:
        state = self.world.state
        for pid in self.attached:
            host = state.hosts[pid]
            for path, output in state.outputs.items():
                found = output.candidate.manifest
                if found is None or path in state.withheld or found.module.content in output.refused:
                    continue
                concerned = f"{name(path)}.run" in host.symbols or name(path) in host.modules
                answered = self.offered.get((pid, path)) == found.module.content
                assert not concerned or answered or output.unreadable, f"{pid} was never offered {found.module}"

    def correct_all(self) -> None:
        """One good group of everything, which every host must get at once."""
        self.moody.clear()
        fine = next(n for n in range(self.content + 1, self.content + 500) if self.liked_by_all(n, len(self.PATHS)))
        candidates = tuple(good(path, fine + i) for i, path in enumerate(self.PATHS))
        self.offered.clear()
        self.in_build.clear()
        before = self.world.state.transactions
        self.send(Settled(candidates))
        self.rest()
        assert self.world.state.transactions - before <= 1
        assert self.world.state.withheld == frozenset()
        for pid in self.attached:
            for candidate in candidates:
                assert candidate.manifest
                if self.world.state.hosts[pid].symbols & set(candidate.manifest.symbols):
                    assert self.runs[pid][candidate.path] == candidate.manifest.module.content

    def liked_by_all(self, content: int, count: int) -> bool:
        return all(((content + i) * 7 + pid) % 11 for i in range(count) for pid in self.attached)


@pytest.mark.parametrize("seed", range(150))
def test_random_walk(seed: int) -> None:
    walk = Walk(seed)
    walk.go_on(200)
    walk.rest()
    walk.check_rest()
    walk.correct_all()


def test_a_long_life_stays_small() -> None:
    walk = Walk(4711)
    for _ in range(10):
        walk.go_on(600)
    assert walk.content > 1000
    walk.rest()
