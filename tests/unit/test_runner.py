"""The runner's parts that need no screen: sources, the end of a rescan, faults."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import pytest

from hotreload import session
from hotreload.errors import NoHost
from hotreload.hosts import HostProcess
from hotreload.model import OK, Failure, Host, Settled, Snapshot
from hotreload.runner import GARBAGE, SWITCH_SECONDS, Options, Runner
from hotreload.session import Quit, Transaction, Wanted
from hotreload.testing import FakeLink
from hotreload.watcher import Watcher

A, B = Path("/out/a.so"), Path("/out/b.so")
BAD = Failure("E-ABI", "it is bad")
LONG = 60.0


# ---- the end of a rescan ----


@pytest.mark.parametrize("poll", [False, True])
def test_a_rescan_ends_after_all_that_was_there(tmp_path: Path, build_module: Callable[..., Path], poll: bool) -> None:
    """With ``--build``, this is what makes all outputs of a build one group."""
    module = build_module("m", 1, "static int32_t f(void *s, const void *i, void *o) { return 0; }", {"m": "f"})
    outs = [tmp_path / "one", tmp_path / "two"]
    seen: list[str] = []
    done = Event()

    def deliver(event: object) -> None:
        if isinstance(event, Settled):
            seen.extend(str(each.path) for each in event.candidates)

    for out in outs:
        out.mkdir()
    watcher = Watcher(outs, deliver, poll=poll)
    watcher.start()
    try:
        for out in outs:
            (out / "m.so").write_bytes(module.read_bytes())
            (out / "m.so").chmod(0o755)
        Thread(target=lambda: watcher.rescan(lambda: (seen.append("end"), done.set()))).start()  # type: ignore[func-returns-value]
        assert done.wait(LONG)
    finally:
        watcher.stop()
    assert set(seen[: seen.index("end")]) == {str(out / "m.so") for out in outs}


def test_a_rescan_does_not_wait_for_a_writer_for_ever(tmp_path: Path) -> None:
    done = Event()
    watcher = Watcher([tmp_path], lambda event: None)
    watcher.start()
    try:
        with (tmp_path / "m.so").open("wb") as writer:
            writer.write(b"\x7fELF")
            writer.flush()
            watcher.rescan(done.set)
            assert done.wait(LONG)
    finally:
        watcher.stop()


# ---- the host that we start ----


def test_what_a_shell_started_ends_with_it(tmp_path: Path) -> None:
    """``-- sh -c 'host &'``: the shell is gone long before the session ends."""
    seen: list[int | str] = []
    said, ended = Event(), Event()
    process = HostProcess(
        ["sh", "-c", "sleep 1000 & echo $!; exit 3"],
        tmp_path / "log",
        lines=lambda lines: (seen.extend(lines), said.set()),  # type: ignore[func-returns-value]
        ended=lambda code: (seen.append(code), ended.set()),  # type: ignore[func-returns-value]
    )
    assert said.wait(LONG) and ended.wait(LONG)
    assert seen[1] == 3
    child = Path("/proc") / str(seen[0])
    assert child.exists()
    process.stop()
    # Whoever adopts it reaps it; a process that is about to vanish has given up its terminal before.
    deadline = time.monotonic() + LONG
    while child.exists() and " Z " not in (child / "stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -SEGV $$", -11), ("exit 0", 0)])
def test_how_the_host_ended_is_told(tmp_path: Path, script: str, code: int) -> None:
    codes: list[int] = []
    ended = Event()
    process = HostProcess(
        ["sh", "-c", script],
        tmp_path / "log",
        lines=lambda lines: None,
        ended=lambda code: (codes.append(code), ended.set()),  # type: ignore[func-returns-value]
    )
    assert ended.wait(LONG) and codes == [code]
    process.stop()


def test_a_host_that_ignores_the_request_to_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotreload.hosts.TERMINATE_SECONDS", 0.3)
    said, codes = Event(), list[int]()
    process = HostProcess(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"],
        tmp_path / "log",
        lines=lambda lines: said.set(),
        ended=codes.append,
    )
    assert said.wait(LONG)
    process.stop()
    assert not (Path("/proc") / str(process.pid)).exists()


def test_the_log_of_a_host_that_runs_for_weeks_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotreload.hosts.LOG_BYTES", 100_000)
    ended = Event()
    process = HostProcess(
        ["sh", "-c", "seq 1 100000; echo the end"],
        tmp_path / "host.log",
        lines=lambda lines: None,
        ended=lambda code: ended.set(),
    )
    assert ended.wait(LONG)
    process.stop()
    logs = sorted(tmp_path.iterdir())
    assert [path.name for path in logs] == ["host.log", "host.log.old"]
    assert all(path.stat().st_size <= 100_000 for path in logs)
    newest, older = (path.read_text().split() for path in logs)
    assert newest[-2:] == ["the", "end"]
    numbers = [*older, *newest[:-2]]
    assert "".join(numbers).endswith("9999899999100000"), "the newest, without a gap"
    assert int(numbers[-1]) - len(numbers) <= int(numbers[1])


def test_a_host_that_cannot_be_started_leaves_no_log(tmp_path: Path) -> None:
    with pytest.raises(NoHost):
        HostProcess([str(tmp_path / "none")], tmp_path / "log", lines=lambda lines: None, ended=lambda code: None)
    assert not (tmp_path / "log").exists()


def test_a_torrent_of_output_neither_fills_the_memory_nor_holds_up_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without bounds the queue grew by 10 MB a second, and no module and no key came through any more."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    tmp_path.chmod(0o700)
    quiet = Quiet()
    runner = Runner(Options((tmp_path,), command=("yes", "a line of a host that prints without a pause")), quiet)
    ended = Thread(target=runner.run)
    ended.start()
    try:
        deadline = time.monotonic() + LONG
        while not (runner.state.child and runner.state.child.lines):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        waiting = []
        for _ in range(20):
            time.sleep(0.05)
            waiting.append(runner._queue.qsize())
        assert max(waiting) < 20, waiting
    finally:
        runner.send(Quit())
        ended.join(LONG)
    assert not ended.is_alive()
    assert len(runner.state.child.lines) == session.OUTPUT_LINES_KEPT


class Quiet:
    """A reporter that says nothing."""

    broken = False

    def __call__(self, send: object) -> Quiet:
        return self

    def start(self) -> None: ...
    def update(self, state: object, hosts: object) -> None: ...
    def record(self, record: object) -> None: ...
    def close(self) -> None: ...


# ---- faults of our own ----


class Upheld(FakeLink):
    """A link of a host that answers, and notes that it is hung up on."""

    def begin_load(self, paths: Sequence[str]) -> None:
        self.begin_prepare(paths)

    def hang_up(self) -> None:
        self.asked.append("hang up")


@dataclass(frozen=True)
class Attached:
    """As far as an offer looks at it."""

    link: Upheld
    snapshot: Snapshot


@pytest.fixture
def offering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Runner, Upheld]]:
    """A runner of which the swapper alone runs, with one host."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    runner, link = Runner(Options((tmp_path,)), Quiet()), Upheld(Host(1, "one"))
    runner._attached[1] = Attached(
        link, Snapshot(0.0, link.host, 0, alive=True, slots=(), modules=(), calls=(), in_flight=())
    )  # type: ignore[assignment]
    runner._swapper.start()
    yield runner, link
    runner._jobs.put(None)
    runner._swapper.join(LONG)
    runner._copies.close()
    runner._look.close()
    assert not runner._swapper.is_alive()


def one(output: Path) -> Transaction:
    """A transaction that offers one module to the one host."""
    return Transaction(7, {1: (Wanted(output, output, 1),)})


def offered(runner: Runner) -> session.Offered:
    event = runner._queue.get(timeout=LONG)
    assert isinstance(event, session.Offered)
    return event


@pytest.mark.parametrize("place", ["_examiner.concerns", "_examiner.examine", "_copies.keep"])
def test_a_fault_ends_its_transaction_and_no_thread(
    offering: tuple[Runner, Upheld], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    runner, link = offering

    def broken(*_: object) -> None:
        raise KeyError("nobody has thought of this")

    owner, name = place.split(".")
    with monkeypatch.context() as fault:
        fault.setattr(runner._examiner, "concerns", lambda *_: True)
        fault.setattr(getattr(runner, owner), name, broken)
        if name == "keep":
            fault.setattr(runner._examiner, "examine", lambda *_: ({}, []))
        runner._offer(one(A))
        event = offered(runner)
    failure = event.outcomes[1].failure
    assert failure and failure.code == "E-INTERNAL" and "KeyError at test_runner.py:" in failure.reason
    assert "nobody has thought of this" in failure.reason
    assert link.asked[-1] == "hang up", "what it has prepared is taken back"
    runner._offer(one(B))
    assert [each.code for each in offered(runner).outcomes[1].reports] == [OK]


def test_a_fault_ends_its_roll_back(offering: tuple[Runner, Upheld]) -> None:
    runner, _ = offering
    runner._take_back(1, "m")  # this link has no such request
    event = runner._queue.get(timeout=LONG)
    assert isinstance(event, session.RolledBack) and event.outcome.failure
    assert event.outcome.failure.code == "E-INTERNAL" and "rollback" in event.outcome.failure.reason


# ---- finding hosts ----


class Finding(Runner):
    """Notes whom it approaches, and never looks for hosts because time has passed."""

    def watch(self) -> None:
        self.looked = Event()
        self.approached = Event()
        look = self._finder.sockets

        def sockets() -> dict[int, Path]:
            found = look()
            self.looked.set()
            return found

        self._finder.sockets = sockets  # type: ignore[method-assign]

    def _approach(self, pid: int, path: Path) -> None:
        self.approached.set()


def test_a_host_is_found_when_its_socket_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("hotreload.runner.AGAIN_SECONDS", 3600.0)
    monkeypatch.setattr("hotreload.runner.FIND_SECONDS", 3600.0)
    tmp_path.chmod(0o700)
    (tmp_path / "out").mkdir()
    runner = Finding(Options((tmp_path / "out",)), Quiet())
    runner.watch()
    ended = Thread(target=runner.run)
    ended.start()
    try:
        assert runner.looked.wait(LONG)
        (tmp_path / "hotreload" / "1.sock").touch()
        assert runner.approached.wait(LONG)
    finally:
        runner.send(Quit())
        ended.join(LONG)
    assert not ended.is_alive()


# ---- the interpreter ----


def test_what_the_runner_sets_for_its_time_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    before = sys.getswitchinterval(), gc.get_threshold(), gc.get_freeze_count()
    during: list[object] = []

    class Observing(Runner):
        def _begin(self) -> None:
            during.append((sys.getswitchinterval(), gc.get_threshold(), gc.get_freeze_count() > before[2]))

    runner = Observing(Options((tmp_path,)), Quiet())
    runner.send(Quit())
    runner.run()
    assert during == [(SWITCH_SECONDS, (GARBAGE, *before[1][1:]), True)]
    assert (sys.getswitchinterval(), gc.get_threshold(), gc.get_freeze_count()) == before
