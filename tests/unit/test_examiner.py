"""What is looked at before an offer goes, what is refused in time, and what is told later."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import MappingProxyType

import pytest

from hotreload import examiner
from hotreload.comparer import FAILED
from hotreload.debug_types import Answer, Question
from hotreload.errors import HotreloadError
from hotreload.examiner import Examiner
from hotreload.model import OK, Entry, Failure, Manifest, Module, Report
from hotreload.session import Differs, Note, Outcome, Transaction, Wanted

UNLIKE = Answer(failure=Failure("E-LAYOUT", "they differ"))


class Link:
    """A host's answers."""

    def __init__(self, error: HotreloadError | None = None) -> None:
        self.error = error

    def layouts(self) -> bytes:
        if self.error:
            raise self.error
        return b""


class Reader:
    """Answers by the module's name, or never."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.asked: list[Question] = []
        self.futures: dict[str, Future[Answer]] = {}

    def ask(self, question: Question) -> Future[Answer]:
        self.asked.append(question)
        name = question.module.stem
        future = self.futures[name] = Future[Answer]()
        if name in self.answers:
            future.set_result(self.answers[name])
        return future

    def close(self) -> None:
        """Nothing to end."""


def wanted(name: str, content: int = 1) -> Wanted:
    path = Path(f"/out/{name}.so")
    found = Manifest(Module(name, 1, "abc", str(path), content), (Entry(f"{name}.run", 16),), 0, 0, 0, ())
    return Wanted(path, path, content, found)


def offer(*names: str) -> Transaction:
    return Transaction(1, MappingProxyType({7: tuple(map(wanted, names))}))


@pytest.fixture
def told() -> list[Differs | Note]:
    return []


def made(
    monkeypatch: pytest.MonkeyPatch, told: list[Differs | Note], answers: dict[str, Answer]
) -> tuple[Examiner, Reader]:
    monkeypatch.setattr(examiner, "carries", lambda path: True)
    found, reader = Examiner(told.append), Reader(answers)
    monkeypatch.setattr(found, "_comparer", reader)
    return found, reader


def swapped(*names: str, code: str = OK) -> dict[int, Outcome]:
    reports = tuple(Report(code, Module(name, 1, "abc", "", 1), 1) for name in names)
    return {7: Outcome(reports)}


def codes(outcomes: dict[int, Outcome]) -> Sequence[str]:
    return [report.code for report in outcomes[7].reports]


def test_what_differs_in_time_is_refused_and_its_companions_wait(
    monkeypatch: pytest.MonkeyPatch, told: list[Differs | Note]
) -> None:
    found, reader = made(monkeypatch, told, {"a": Answer(), "b": UNLIKE})
    assert found.concerns(offer("a", "b"), {7: Link()})
    outcomes, late = found.examine(offer("a", "b"), {7: Link()}, {})
    assert codes(outcomes) == ["E-ABORTED", "E-LAYOUT"] and late == []
    assert outcomes[7].reports[1].failure == UNLIKE.failure
    assert [str(each.host) for each in reader.asked] == ["/proc/7/exe", "/proc/7/exe"]
    assert reader.asked[0].functions == (16,) and reader.asked[0].build_id == "abc"


def test_what_is_alike_goes_on(monkeypatch: pytest.MonkeyPatch, told: list[Differs | Note]) -> None:
    found, _ = made(monkeypatch, told, {"a": Answer()})
    assert found.examine(offer("a"), {7: Link()}, {}) == ({}, [])


def test_late_answers_are_told_of_what_was_swapped(monkeypatch: pytest.MonkeyPatch, told: list[Differs | Note]) -> None:
    found, reader = made(monkeypatch, told, {})
    outcomes, late = found.examine(offer("a", "b", "c"), {7: Link()}, {})
    assert outcomes == {} and len(late) == 3
    found.follow(late[:2], swapped("a", "b"))
    found.follow(late[2:], swapped("c", code="E-ON-LOAD"))
    assert told == []
    reader.futures["a"].set_result(UNLIKE)
    reader.futures["b"].set_result(Answer())
    reader.futures["c"].set_result(UNLIKE)
    assert UNLIKE.failure and told == [Differs(7, Path("/out/a.so"), 1, UNLIKE.failure)]


def test_what_was_late_twice_is_not_awaited_until_it_is_in_time(
    monkeypatch: pytest.MonkeyPatch, told: list[Differs | Note]
) -> None:
    found, reader = made(monkeypatch, told, {})
    waits: list[int] = []
    monkeypatch.setattr(examiner, "wait", lambda futures, _: waits.append(len(futures)))

    def one(seconds: float) -> int:
        """Offers it, answers after so long; how many answers were awaited."""
        monkeypatch.setattr(examiner.time, "monotonic", lambda: 100.0)
        _, late = found.examine(offer("a"), {7: Link()}, {})
        assert len(late) == 1
        monkeypatch.setattr(examiner.time, "monotonic", lambda: 100.0 + seconds)
        reader.futures["a"].set_result(Answer())
        return waits[-1]

    late, in_time = examiner.WAIT_SECONDS * 2, examiner.WAIT_SECONDS / 2
    assert [one(late), one(late), one(late), one(in_time), one(late), one(late), one(late)] == [1, 1, 0, 0, 1, 1, 0]
    monkeypatch.undo()


def test_answers_between_the_wait_and_the_swap_are_not_lost(
    monkeypatch: pytest.MonkeyPatch, told: list[Differs | Note]
) -> None:
    found, reader = made(monkeypatch, told, {})
    _, late = found.examine(offer("a"), {7: Link()}, {})
    reader.futures["a"].set_result(UNLIKE)
    found.follow(late, swapped("a"))
    assert len(told) == 1


def test_the_wait_is_shorter_than_the_delay_that_is_promised(
    monkeypatch: pytest.MonkeyPatch, told: list[Differs | Note]
) -> None:
    found, _ = made(monkeypatch, told, {})
    waits: list[float] = []
    monkeypatch.setattr(examiner, "wait", lambda futures, seconds: waits.append(seconds) or (set(), set()))
    found.examine(offer("a", "b"), {7: Link()}, {})
    assert len(waits) == 1 and 0 <= waits[0] <= examiner.WAIT_SECONDS < examiner.DELAY_SECONDS == 0.02


def test_nothing_is_asked_without_debug_info_or_of_a_host_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, told: list[Differs | Note]
) -> None:
    found, reader = made(monkeypatch, told, {"a": UNLIKE})
    gone = HotreloadError("E-HOST-GONE", "the host has exited")
    assert found.examine(offer("a"), {7: Link(gone)}, {7: frozenset({"other"})}) == ({}, [])
    assert not found.concerns(offer("a"), {})
    monkeypatch.setattr(examiner, "carries", lambda path: str(path) == "/out/a.so")
    assert not found.concerns(offer("a"), {7: Link()}), "the host has none"
    assert found.examine(offer("a"), {7: Link()}, {}) == ({}, []) and reader.asked == []
    monkeypatch.setattr(examiner, "carries", lambda path: str(path) != "/out/a.so")
    assert not found.concerns(offer("a"), {7: Link()}), "the module has none"


def test_a_host_whose_description_makes_no_sense_is_not_compared(
    monkeypatch: pytest.MonkeyPatch, told: list[Differs | Note]
) -> None:
    found, reader = made(monkeypatch, told, {"a": UNLIKE})
    link = Link()
    monkeypatch.setattr(link, "layouts", lambda: b"nonsense")
    assert found.examine(offer("a"), {7: link}, {7: frozenset({"other"})}) == ({}, []) and reader.asked == []


def test_that_nothing_is_compared_any_more_is_told_once(
    monkeypatch: pytest.MonkeyPatch, told: list[Differs | Note]
) -> None:
    failed = Answer(missing=(FAILED,))
    found, _ = made(monkeypatch, told, {"a": failed, "b": failed})
    for _ in range(2):
        assert found.examine(offer("a", "b"), {7: Link()}, {}) == ({}, [])
    (note,) = told
    assert isinstance(note, Note) and FAILED[1] in note.text and "not compared" in note.text


def test_a_host_that_describes_nothing_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, told: list[Differs | Note]
) -> None:
    found, reader = made(monkeypatch, told, {"a": UNLIKE})
    silent = Link(HotreloadError("E-HOST-GONE", "the host was asked"))
    outcomes, _ = found.examine(offer("a"), {7: silent}, {7: frozenset()})
    assert codes(outcomes) == ["E-LAYOUT"] and reader.asked[0].host_layout == b""
