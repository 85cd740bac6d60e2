"""What happens beside a session, without one: order, patience, and what a record becomes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hotreload.model import Change, EventKind, Host, Module, Record
from hotreload.reporters import aside
from hotreload.reporters.several import Several
from hotreload.session import State

HOST = Host(4711, "game")
MODULE = Module("art", 3, "a1b2c3d4e5", "/out/art.so")
SWAP = Record(EventKind.SWAP, 1e9, HOST, MODULE, (Change("art.draw", 1, 2),), us={"total": 400})
REJECT = Record(EventKind.REJECT, 1e9, HOST, MODULE, code="E-ABI", reason='it\'s "another" $ABI', fix="build again")


def hooks(tmp_path: Path, command: str, *kinds: EventKind) -> tuple[aside.Hooks, list[str]]:
    told: list[str] = []
    chosen = dict.fromkeys(kinds or (EventKind.SWAP,), ("on_swap", command.replace("OUT", str(tmp_path / "out"))))
    return aside.Hooks(lambda kind: chosen.get(kind, ("", "")), told.append), told


def finish(hook: aside.Hooks) -> None:
    """Waits until every command has run."""
    hook._commands._jobs.put(None)
    assert hook._commands._thread is not None
    hook._commands._thread.join(60)


def test_a_hook_receives_the_event(tmp_path: Path) -> None:
    hook, told = hooks(tmp_path, "cat > OUT; env | grep ^HR_ | sort >> OUT", EventKind.REJECT)
    hook.record(REJECT)
    hook.record(SWAP)  # not its kind
    hook.close()
    first, *rest = (tmp_path / "out").read_text().splitlines()
    assert json.loads(first)["code"] == "E-ABI" and json.loads(first)["module"]["name"] == "art"
    assert rest == [
        "HR_CODE=E-ABI", "HR_EVENT=reject", "HR_FIX=build again", "HR_HOST=game", "HR_MODULE=art",
        "HR_PATH=/out/art.so", "HR_PID=4711", 'HR_REASON=it\'s "another" $ABI', "HR_VERSION=3",
    ]  # fmt: skip
    assert told == []


def test_hooks_run_in_order_and_none_is_lost(tmp_path: Path) -> None:
    hook, told = hooks(tmp_path, "echo $HR_PID >> OUT")
    for pid in range(1, 21):
        hook.record(Record(EventKind.SWAP, 1e9, Host(pid, "game"), MODULE))
    finish(hook)
    assert (tmp_path / "out").read_text().split() == [str(pid) for pid in range(1, 21)] and told == []


def test_what_a_hook_prints_and_how_it_fails_is_told(tmp_path: Path) -> None:
    hook, told = hooks(tmp_path, "echo one; printf '\\033[31mtwo\\n' >&2; exit 7")
    hook.record(SWAP)
    hook.close()
    assert told == ["on_swap | one", "on_swap | two", "on_swap failed with exit code 7"]


def test_a_stuck_hook_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "COMMAND_SECONDS", 0.5)
    hook, told = hooks(tmp_path, "sleep 1000 & echo $! > OUT; wait")
    hook.record(SWAP)
    finish(hook)
    assert told == ["on_swap was ended: it took more than 0 s"] or told == ["on_swap was ended: it took more than 1 s"]
    pid = int((tmp_path / "out").read_text())
    assert gone(pid), "no child of the hook is left"


def gone(pid: int) -> bool:
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_program_left_behind_keeps_nobody_waiting(tmp_path: Path) -> None:
    hook, told = hooks(tmp_path, "sleep 60 & echo $! > OUT; echo done")
    hook.record(SWAP)
    began = time.monotonic()
    finish(hook)
    os.kill(int((tmp_path / "out").read_text()), 9)
    assert told == ["on_swap | done"] and time.monotonic() - began < 30


def test_too_many_hooks_are_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "WAITING", 2)
    hook, told = hooks(tmp_path, "while [ ! -e OUT ]; do sleep 0.02; done")
    for _ in range(10):
        hook.record(SWAP)
    assert any("left out" in line for line in told)
    (tmp_path / "out").touch()
    hook.close()


@pytest.mark.parametrize(
    ("record", "title", "text"),
    [
        (SWAP, "art v3 a1b2c3d4 swapped", "art.draw v1→v2"),
        (REJECT, "art v3 a1b2c3d4 E-ABI", 'art v3 a1b2c3d4  it\'s "another" $ABI'),
        (Record(EventKind.BUILD, 1e9, code="E-BUILD", reason="failed: \x1b]0;x\x07"), "build E-BUILD", "failed:"),
    ],
    ids=["swap", "reject", "build"],
)
def test_notices(record: Record, title: str, text: str) -> None:
    found_title, found_text = aside.notice(record)
    assert (found_title, found_text.strip()) == (title, text)


def test_a_hook_that_is_taken_away_runs_no_more(tmp_path: Path) -> None:
    command, told = f"echo ran >> {tmp_path / 'out'}", []
    hook = aside.Hooks(lambda kind: ("on_swap", command), told.append)
    hook.record(SWAP)
    command = ""
    hook.record(SWAP)
    finish(hook)
    assert (tmp_path / "out").read_text() == "ran\n" and told == []


def test_news() -> None:
    assert aside.is_news(SWAP) and aside.is_news(REJECT)
    assert not aside.is_news(Record(EventKind.BUILD, 1e9, reason="started"))
    assert not aside.is_news(Record(EventKind.SAME, 1e9)) and not aside.is_news(Record(EventKind.ATTACH, 1e9))


def test_notify_send_is_given_the_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "notify-send"
    program.write_text(
        f"#!{sys.executable}\nimport json, sys\nwith open({str(tmp_path / 'out')!r}, 'a') as out:\n"
        "    out.write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("DISPLAY", ":0")
    told: list[str] = []
    notifier = aside.Notifier(told.append, lambda: True)
    notifier.record(SWAP)
    notifier.record(Record(EventKind.SAME, 1e9, HOST, MODULE))
    notifier.record(REJECT)
    notifier.close()
    swap, reject = map(json.loads, (tmp_path / "out").read_text().splitlines())
    assert swap == ["--app-name=hotreload", "--urgency=normal", "--", "art v3 a1b2c3d4 swapped", "art.draw v1→v2"]
    assert reject[1] == "--urgency=critical" and "E-ABI" in reject[3] and told == []


class Remembering:
    """A reporter that writes down what it is told."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log, self.broken = name, log, False

    def start(self) -> None:
        self.log.append(f"{self.name} start")

    def update(self, state: State, hosts: object) -> None:
        self.log.append(f"{self.name} update")

    def record(self, record: Record) -> None:
        self.log.append(f"{self.name} {record.kind.value}")

    def close(self) -> None:
        self.log.append(f"{self.name} close")


def test_several_reporters_are_one() -> None:
    log: list[str] = []
    first, second = Remembering("first", log), Remembering("second", log)
    both = Several(first, second)
    calls: list[Callable[[], None]] = [
        both.start,
        lambda: both.update(State(), {}),
        lambda: both.record(SWAP),
        both.close,
    ]
    for call in calls:
        call()
    assert log == [
        "first start", "second start", "first update", "second update", "first swap", "second swap", "second close",
        "first close",
    ]  # fmt: skip
    second.broken = True
    assert not both.broken
    first.broken = True
    assert both.broken
