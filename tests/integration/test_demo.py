"""The demo: its script as a pure machine, and the whole of it as a user starts it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, RequireTool

from hotreload import demo
from hotreload.demo import BRISK, EXAMPLES, SCENE_SECONDS, SHOW_SECONDS, Narrate, Phase, Play, Scene
from hotreload.director import Follower
from hotreload.errors import HotreloadError
from hotreload.model import Change, EventKind, Record
from hotreload.workshop import Workshop

COUNTER = EXAMPLES["counter-c"]
TITLES = [scene.title for scene in demo.scenes(COUNTER)]


# ---- the script ----


class Stage:
    """Plays the world's part: a host that counts, and records as a session would give them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.count = 0
        self.acts: list[demo.Act] = []
        self.play, acts = demo.begin(COUNTER, BRISK, self.now)
        self.acts += acts

    def see(self, seen: Record | str | None, seconds: float = 0.01) -> None:
        self.now += seconds
        self.play, acts = demo.advance(self.play, seen, self.now)
        self.acts += acts

    def record(self, kind: EventKind, code: str = "", **more: object) -> None:
        changes = (Change("counter.add", 1, 2),) if kind in (EventKind.SWAP, EventKind.ROLLBACK) else ()
        self.see(replace(Record(kind, 0.0, code=code, changes=changes), **more))  # type: ignore[arg-type]

    def line(self, step: int) -> None:
        self.count += 1
        self.see(f"count={self.count} step=+{step}")

    def expected(self, scene: Scene) -> None:
        """The record that the scene waits for."""
        self.record(scene.kind, "E-BUILD" if scene.code == "!" else scene.code)

    def reach(self, title: str) -> Scene:
        """Plays everything before the scene, and begins it."""
        for scene in self.play.scenes:
            self.see(None)
            if scene.title == title:
                assert self.play.phase is Phase.WAITING
                return scene
            self.show(scene)
        raise AssertionError(title)

    def show(self, scene: Scene) -> None:
        self.expected(scene)
        self.line(10 if "10" in scene.shows else 500)
        self.see(None, BRISK.after + 0.01)

    def failure(self) -> str:
        """Why the play failed; it must have asked for its end."""
        assert self.play.phase is Phase.OVER
        assert not self.play.passed
        assert self.acts[-1] == demo.End()
        return self.play.outcomes[-1].seen


def test_everything_shown() -> None:
    stage = Stage()
    for scene in stage.play.scenes:
        stage.see(None)
        stage.show(scene)
    assert stage.play.phase is Phase.OVER
    assert stage.play.passed
    assert [outcome.title for outcome in stage.play.outcomes] == TITLES
    assert [type(act) for act in stage.acts if not isinstance(act, Narrate)] == [
        demo.Write,
        demo.Write,
        demo.Cut,
        demo.Write,
        demo.Write,
        demo.TakeBack,
        demo.End,
    ]


def test_every_scene_is_narrated_before_and_after() -> None:
    stage = Stage()
    stage.reach(TITLES[1])
    told = [act.text for act in stage.acts if isinstance(act, Narrate)]
    first, second = stage.play.scenes[:2]
    assert told == [first.says, first.then, second.says]
    assert "STEP 10 -> 500" in second.says


@pytest.mark.parametrize("title", TITLES)
def test_nothing_seen_fails(title: str) -> None:
    stage = Stage()
    stage.reach(title)
    stage.line(500)
    stage.see(None, SCENE_SECONDS)
    assert "not seen within" in stage.failure()


@pytest.mark.parametrize("title", TITLES)
def test_record_without_proof_by_the_host_fails(title: str) -> None:
    stage = Stage()
    stage.expected(stage.reach(title))
    stage.line(7)
    stage.see(None, SCENE_SECONDS)
    assert "a line of the host like" in stage.failure()


def test_proof_before_the_record_does_not_count() -> None:
    stage = Stage()
    scene = stage.reach("an edit goes live")
    stage.line(500)
    stage.expected(scene)
    assert stage.play.phase is Phase.PROVING


@pytest.mark.parametrize("title", ["another ABI is refused", "a truncated file is refused"])
def test_another_code_is_not_the_expected_one(title: str) -> None:
    stage = Stage()
    stage.reach(title)
    stage.record(EventKind.REJECT, "E-SYMBOLS")
    assert stage.play.phase is Phase.WAITING


@pytest.mark.parametrize("title", ["another ABI is refused", "a compile error changes nothing"])
@pytest.mark.parametrize("kind", [EventKind.SWAP, EventKind.ROLLBACK, EventKind.CRASH, EventKind.DETACH])
def test_what_must_not_happen_ends_the_show(title: str, kind: EventKind) -> None:
    stage = Stage()
    stage.reach(title)
    stage.record(kind)
    assert stage.failure().startswith(f"unexpected {kind.value}")


def test_a_second_swap_while_leaving_time_to_look_ends_the_show() -> None:
    stage = Stage()
    scene = stage.reach("an edit goes live")
    stage.expected(scene)
    stage.line(500)
    assert stage.play.phase is Phase.HOLDING
    stage.record(EventKind.SWAP)
    assert "unexpected swap" in stage.failure()


def test_a_swap_of_other_slots_is_not_the_expected_one() -> None:
    stage = Stage()
    stage.reach("an edit goes live")
    stage.record(EventKind.SWAP, changes=(Change("counter.format", 1, 2),))
    assert "unexpected swap" in stage.failure()


@pytest.mark.parametrize(("kind", "code"), [(EventKind.BUILD, "E-BUILD"), (EventKind.REJECT, "E-DENIED")])
def test_bad_news_instead_of_good_does_not_wait_for_the_clock(kind: EventKind, code: str) -> None:
    stage = Stage()
    stage.reach("an edit goes live")
    stage.record(kind, code)
    assert stage.failure() == f"instead of swap: {kind.value} {code}"


@pytest.mark.parametrize("title", TITLES)
def test_a_counter_that_goes_back_fails(title: str) -> None:
    stage = Stage()
    stage.line(1)
    stage.line(1)
    stage.reach(title)
    stage.see("count=1 step=+500")
    assert "the host went back from" in stage.failure()


def test_the_show_has_an_end() -> None:
    stage = Stage()
    for scene in stage.play.scenes[:3]:
        stage.see(None)
        stage.show(scene)
        stage.now += SHOW_SECONDS / 3
    stage.see(None)
    assert "took longer" in stage.failure()


def test_an_act_that_cannot_be_performed_ends_the_show() -> None:
    stage = Stage()
    stage.play, acts = demo.give_up(stage.play, "no space")
    stage.acts += acts
    assert stage.failure() == "no space"


def test_nothing_follows_the_end() -> None:
    stage = Stage()
    stage.play, _ = demo.give_up(stage.play, "no space")
    over: Play = stage.play
    stage.record(EventKind.SWAP)
    stage.see(None, 1000.0)
    assert stage.play == over


# ---- the examples and the script ----


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_edits_fit_the_examples(example: demo.Example) -> None:
    source = (ROOT / "examples" / example.name / example.source).read_text(encoding="utf-8")
    for edits in (example.good, (*example.good, example.abi), (*example.good, example.broken)):
        assert demo.edited(source, edits) != source


def test_an_edit_that_does_not_fit_is_an_error() -> None:
    for source in ("", "#define STEP 10\n#define STEP 10\n"):
        with pytest.raises(HotreloadError, match="must occur once"):
            demo.edited(source, COUNTER.good)


def test_first_and_edited_lines_differ() -> None:
    lines = {"counter-c": ("count=5 step=+10", "count=5 step=+500")}
    lines["counter-rust"] = ("step 1: value 5 (implementation 3)", "step 1: value 5 (implementation 4)")
    lines["flame"] = ("frames=9 fps=30 heat=11% sparks=14 |", "frames=9 fps=30 heat=11% sparks=215 |")
    for name, example in EXAMPLES.items():
        first, edited = lines[name]
        assert re.search(example.first, first)
        assert re.search(example.edited, edited)
        assert not re.search(example.first, edited)
        assert not re.search(example.edited, first)
        assert re.search(example.progress, first)


def test_follower_reads_what_is_new_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    follower = Follower(lambda: path)
    assert follower.lines() == []
    path.write_bytes(b"one\r\ntwo\nthr")
    assert follower.lines() == ["one", "two"]
    with path.open("ab") as file:
        file.write(b"ee\n")
    assert follower.lines() == ["three"]
    assert follower.lines() == []


def test_workshop_refuses_group_writers_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        workshop = Workshop(COUNTER, ROOT / "examples", ROOT / "shim" / "rust", tmp_path / "copy")
    finally:
        os.umask(before)
    assert all(path.stat().st_mode & 0o022 == 0 for path in [workshop.directory, *workshop.directory.rglob("*")])


# ---- the whole of it ----


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where the demo makes its scratch directory."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    return directory


@pytest.fixture
def env(runtime_home: Path, scratch: Path) -> dict[str, str]:
    return {**os.environ, "XDG_RUNTIME_DIR": str(runtime_home), "TMPDIR": str(scratch), "NO_COLOR": "1"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hotreload", "demo", *arguments]


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_demo(name: str, env: dict[str, str], scratch: Path, runtime_home: Path, require_tool: RequireTool) -> None:
    require_tool(EXAMPLES[name].build[0])
    began = time.monotonic()
    done = subprocess.run(
        command("--example", name), env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    passed = re.findall(r"^ok +(.*?): ", done.stdout, re.MULTILINE)
    assert passed == [scene.title for scene in demo.scenes(EXAMPLES[name])]
    assert not re.search(r" 0(\.0+)? ms;", done.stdout), "a time of nothing"
    if EXAMPLES[name].build[0] == "make":  # cargo may have to compile what it has never seen
        assert time.monotonic() - began < 60
    assert list(scratch.iterdir()) == []
    # A host that a signal ended leaves its socket to its successor's cleaning; the host itself must be gone.
    assert not any(Path("/proc", socket.stem).exists() for socket in runtime_home.rglob("*.sock"))


@pytest.fixture
def manual(env: dict[str, str], scratch: Path, require_tool: RequireTool) -> Iterator[subprocess.Popen[str]]:
    require_tool("make")
    with subprocess.Popen(
        command("--manual", "--keep"), env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def read_until(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """The first line that matches."""
    assert process.stdout
    for line in process.stdout:
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"not printed: {pattern}")


@pytest.mark.slow
def test_manual_builds_every_save_and_keeps_the_directory(manual: subprocess.Popen[str], scratch: Path) -> None:
    source = Path(read_until(manual, r"edit (\S+patch\.c)")[1])
    read_until(manual, r"count=\d+ step=\+10$")
    source.write_text(source.read_text().replace("#define STEP 10", "#define STEP -3"))
    read_until(manual, r"count=-?\d+ step=-3$")
    manual.send_signal(signal.SIGINT)
    assert read_until(manual, r"kept: (.*)")[1] == str(source.parent)
    assert manual.wait(60) == 130
    assert source.is_relative_to(scratch)


def test_a_missing_build_tool_is_named(env: dict[str, str], scratch: Path, tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    done = subprocess.run(command(), env={**env, "PATH": str(empty)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "make is not installed" in done.stderr
    assert list(scratch.iterdir()) == []


def test_a_build_that_fails_shows_what_it_said(
    env: dict[str, str], scratch: Path, tmp_path: Path, require_tool: RequireTool
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "make").symlink_to(shutil.which(str(require_tool("make"))) or "")
    (tools / "sh").symlink_to("/bin/sh")
    done = subprocess.run(command(), env={**env, "PATH": str(tools)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "counter-c does not build: make -s" in done.stderr
    assert "mkdir" in done.stderr
    assert list(scratch.iterdir()) == []
