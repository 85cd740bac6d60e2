"""What `dev` adds to a session, as a pure function: restarts, edits during builds, phases, a changed configuration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from hotreload.model import (
    OK,
    Busy,
    Candidate,
    Entry,
    EventKind,
    Failure,
    Host,
    Manifest,
    Module,
    Problem,
    Report,
    Settled,
)
from hotreload.session import (
    Action,
    Build,
    BuildEnded,
    BuildPhase,
    Child,
    ChildAbsent,
    ChildEnded,
    ChildStarted,
    Configured,
    Event,
    Flush,
    HostFound,
    HostOutdated,
    Misconfigured,
    Offer,
    Offered,
    Outcome,
    Rebuild,
    RestartHost,
    RunBuild,
    SourcesChanged,
    StartHost,
    State,
    StopBuild,
    step,
)

OUT = Path("/out/liba.so")
HOST = Host(7, "game")
LOG = Path("/log")
NOW = 1000.0


class World:
    """A session with a host of ours that has attached, and what it did last."""

    def __init__(self, busy: Busy = Busy.QUEUE, restart: bool = True) -> None:
        self.now = NOW
        self.state = State(build=Build("make"), child=Child(("host",)), busy=busy, restart=restart)
        self.actions: tuple[Action, ...] = ()
        self.tell(ChildStarted(HOST.pid, LOG), HostFound(HOST, frozenset({"a.run"})))

    def tell(self, *events: Event) -> tuple[Action, ...]:
        self.actions = ()
        for event in events:
            self.state, actions = step(self.state, event, self.now)
            self.actions += actions
        return self.actions

    def did(self, kind: type) -> int:
        return sum(isinstance(each, kind) for each in self.actions)

    @property
    def build(self) -> Build:
        assert self.state.build
        return self.state.build

    @property
    def child(self) -> Child:
        assert self.state.child
        return self.state.child


def settled(content: int) -> Settled:
    manifest = Manifest(Module("a", 1, "", str(OUT), content), (Entry("a.run", 1),), 0, 0, 0, ())
    return Settled((Candidate(OUT, 0.0, manifest),))


def offers(actions: Iterable[Action]) -> list[set[int]]:
    return [set(each.transaction.offers) for each in actions if isinstance(each, Offer)]


# ---- edits during a build ----


def test_queue_builds_once_more_for_any_number_of_edits() -> None:
    world = World(Busy.QUEUE)
    world.tell(SourcesChanged("a.c", 999.0), SourcesChanged("a.c", 999.5), SourcesChanged("a.c", 999.6))
    assert world.did(RunBuild) == 1 and world.did(StopBuild) == 0
    world.tell(BuildEnded(0, 1.0))
    assert world.did(RunBuild) == 1 and world.build.saved == 999.5, "since its first save"
    world.tell(BuildEnded(0, 1.0))
    assert world.did(RunBuild) == 0 and world.build.phase is BuildPhase.OK


def test_restart_ends_the_build_once_and_that_is_no_failure() -> None:
    world = World(Busy.RESTART)
    world.tell(SourcesChanged("a.c"), SourcesChanged("a.c"), SourcesChanged("b.c"))
    assert world.did(RunBuild) == 1 and world.did(StopBuild) == 1
    world.tell(BuildEnded(-15, 1.0, stopped=True))
    assert world.did(RunBuild) == 1 and world.build.phase is BuildPhase.RUNNING
    assert not [each for each in world.state.records if each.code == "E-BUILD"]


def test_restart_leaves_a_build_that_was_asked_for_alone() -> None:
    world = World(Busy.RESTART)
    world.tell(Rebuild(), Rebuild())
    assert world.did(RunBuild) == 1 and world.did(StopBuild) == 0


def test_ignore() -> None:
    world = World(Busy.IGNORE)
    world.tell(SourcesChanged("a.c"), SourcesChanged("a.c"), BuildEnded(0, 1.0))
    assert world.did(RunBuild) == 1


def test_what_a_stopped_build_has_left_is_not_swapped() -> None:
    world = World(Busy.RESTART)
    world.tell(SourcesChanged("a.c"), settled(1), SourcesChanged("a.c"), BuildEnded(-15, 1.0, stopped=True), Flush())
    assert offers(world.actions) == []
    world.tell(settled(2), BuildEnded(0, 1.0), Flush())
    assert offers(world.actions) == [{7}]


# ---- the host's own code ----


def test_modules_of_a_new_layout_never_meet_the_old_host() -> None:
    world = World()
    world.tell(SourcesChanged("state.h"), settled(1), BuildEnded(0, 1.0, outdated=frozenset({7})), Flush())
    assert world.did(StartHost) == 1 and offers(world.actions) == []
    world.tell(ChildEnded(-15, 7))
    assert world.child.exit_code is None, "we ended it"
    world.tell(ChildStarted(8, LOG), HostFound(Host(8, "game"), frozenset({"a.run"})))
    assert offers(world.actions) == [{8}] and not world.child.restarting


def test_one_restart_at_a_time() -> None:
    world = World()
    world.tell(RestartHost(), RestartHost(), HostOutdated(frozenset({7})))
    assert world.did(StartHost) == 1


def test_a_failed_build_restarts_nothing() -> None:
    world = World()
    world.tell(Rebuild(), BuildEnded(2, 1.0), HostOutdated(frozenset({7})))
    assert world.did(StartHost) == 0
    world.tell(Rebuild(), HostOutdated(frozenset({7})))
    assert world.did(StartHost) == 0, "its build is still running"


def test_without_restart_nothing_is_started_again() -> None:
    world = World(restart=False)
    world.tell(Rebuild(), BuildEnded(0, 1.0, outdated=frozenset({7})), ChildEnded(1, 7), Rebuild(), BuildEnded(0, 1.0))
    assert world.did(StartHost) == 0


def test_a_host_that_ended_is_started_by_the_next_good_build() -> None:
    world = World()
    world.tell(ChildEnded(-11, 7))
    assert world.child.exit_code == -11
    world.tell(Rebuild(), BuildEnded(1, 1.0))
    assert world.did(StartHost) == 0
    world.tell(Rebuild(), BuildEnded(0, 1.0))
    assert world.did(StartHost) == 1
    world.tell(ChildStarted(9, LOG))
    assert world.child.exit_code is None


def test_the_end_of_a_predecessor_says_nothing_about_its_successor() -> None:
    world = World()
    world.tell(RestartHost(), ChildStarted(8, LOG), ChildEnded(0, 7))
    assert world.child.exit_code is None


def test_a_host_that_cannot_be_started_is_told() -> None:
    world = World()
    world.tell(RestartHost(), ChildAbsent("host cannot be started"))
    assert "host cannot be started" in world.state.records[-1].reason and not world.child.restarting


def test_a_host_that_was_never_built_is_not_missed() -> None:
    """What the build's errors explain is not told again after each; that a good build brings no program is."""
    world = World()
    world.tell(Rebuild(), BuildEnded(1, 1.0), ChildAbsent("host cannot be started"))
    assert "E-BUILD" in [each.code for each in world.state.records]
    assert "cannot be started" not in world.state.records[-1].reason
    world.tell(RestartHost(), ChildAbsent("host cannot be started"))
    assert "cannot be started" in world.state.records[-1].reason, "who asks is answered"
    world = World()
    world.tell(Rebuild(), BuildEnded(0, 1.0), ChildAbsent("host cannot be started"))
    assert "cannot be started" in world.state.records[-1].reason


# ---- phases, problems ----


def swap(world: World, content: int, answered: float = 0.0) -> dict[str, int]:
    """Lets the host take what is offered; the times that the swap tells."""
    (offer,) = [each for each in world.actions if isinstance(each, Offer)]
    report = Report(OK, Module("a", 1, "", str(OUT), content), 1, us={"total": 1000})
    outcomes = {pid: Outcome((report,)) for pid in offer.transaction.offers}
    world.tell(Offered(offer.transaction.number, outcomes, answered))
    (record,) = [each for each in world.state.records if each.kind is EventKind.SWAP][-1:]
    return dict(record.us)


def test_a_swap_tells_the_phases_since_the_save() -> None:
    world = World()
    world.tell(SourcesChanged("a.c", NOW - 0.003))
    world.now = NOW + 0.5
    world.tell(settled(1), BuildEnded(0, 0.4, ended=NOW + 0.41), Flush())
    us = swap(world, 1)
    assert us == {"notice": 3000, "build": 400_000, "deliver": 89_000, "loop": 503_000, "total": 1000}


def test_what_is_done_after_the_answer_is_not_counted() -> None:
    world = World()
    world.tell(SourcesChanged("a.c", NOW))
    world.now = NOW + 0.5
    world.tell(settled(1), BuildEnded(0, 0.4, ended=NOW + 0.41), Flush())
    us = swap(world, 1, answered=NOW + 0.45)
    assert us["loop"] == 450_000 and us["deliver"] == 39_000


def test_what_no_build_made_has_no_phases() -> None:
    world = World()
    world.tell(settled(1))
    assert swap(world, 1) == {"total": 1000}


def test_the_first_error_is_in_the_record() -> None:
    world = World()
    warning = Problem("warning", "unused", "b.c", 1, 1)
    error = Problem("error", "no such thing", "a.c", 12, 0)
    world.tell(Rebuild(), BuildEnded(2, 1.0, problems=(warning, error)))
    record = world.state.records[-1]
    assert record.reason == "failed with exit code 2: a.c:12: no such thing"
    assert record.problems == world.build.problems == (warning, error)
    world.tell(Rebuild(), BuildEnded(0, 1.0, problems=(warning,)))
    assert world.state.records[-1].reason == "ok in 1.00 s, 1 warning"


# ---- the configuration ----


def configured(**changes: object) -> Configured:
    values = {"build": "make", "command": ("host",), "busy": Busy.QUEUE, "restart": True, "watched": None, **changes}
    return Configured(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "runs", "starts"),
    [({"busy": Busy.IGNORE}, 0, 0), ({"build": "make all"}, 1, 0), ({"command": ("host", "x")}, 0, 1)],
)
def test_only_what_changed_is_done_again(changes: dict[str, object], runs: int, starts: int) -> None:
    world = World()
    world.tell(configured(**changes))
    assert (world.did(RunBuild), world.did(StartHost)) == (runs, starts)


def test_a_build_that_is_no_longer_there() -> None:
    world = World()
    world.tell(Rebuild(), configured(build=None), BuildEnded(0, 1.0), SourcesChanged("a.c"))
    assert world.state.build is None and world.did(RunBuild) == 1, "the one before"


def test_outputs_of_directories_that_are_no_longer_watched_are_forgotten() -> None:
    world = World(restart=False)
    world.tell(settled(1))
    swap(world, 1)
    world.tell(configured(watched=(Path("/elsewhere"),)))
    assert not world.state.outputs and not world.state.groups
    world.tell(HostFound(Host(8, "game"), frozenset({"a.run"})))
    assert offers(world.actions) == []


def test_an_offer_under_way_ends_in_order_when_its_directory_is_left() -> None:
    world = World()
    world.tell(settled(1))
    begun = world.actions
    world.tell(configured(watched=(Path("/elsewhere"),)))
    world.actions = begun
    assert swap(world, 1)["total"] == 1000


def test_a_mistake_is_pinned_until_it_is_mended() -> None:
    world = World()
    world.tell(Misconfigured(Failure("E-CONFIG", "unknown key")))
    assert world.state.rejection and world.state.rejection.code == "E-CONFIG"
    world.tell(settled(1))
    swap(world, 1)
    assert world.state.rejection, "a swap has nothing to do with it"
    world.tell(configured())
    assert world.state.rejection is None
