"""`hotreload autopsy` of hosts that really died: by a crash in a patch, by SIGKILL within a call, in order."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cbuild
import pytest
from driver import WAIT_S, Json, Program

from hotreload import native
from hotreload.core_file import PATTERN, candidates, read_one

BLOCKED_WITHOUT_CORES = PATTERN.read_text().startswith("|")
CRASH = 4


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory, cc: str) -> Path:
    directory = tmp_path_factory.mktemp("autopsy")
    shim = cbuild.build_shim(directory / "lib")
    for version in (1, 2):
        command = [cbuild.cc(), *cbuild.MODULE_FLAGS, "-g", f"-DVERSION={version}", "-I", cbuild.INCLUDE]
        output = directory / f"give-{version}.so"
        cbuild.run([*command, "-I", cbuild.HOSTS, "-o", output, cbuild.HOSTS / "give.c"])
        output.chmod(0o755)
    return shim.host(cbuild.HOSTS / "keeper.c", directory / "keeper")


class World:
    """A user's directories, in memory as a run-time directory is."""

    def __init__(self, keeper: Path, home: Path) -> None:
        self.keeper = keeper
        self.home = home
        self.boxes = home / "hotreload"
        self.environment = {"XDG_RUNTIME_DIR": str(home), "XDG_STATE_HOME": str(home), "NO_COLOR": "1"}

    def host(self, *versions: int) -> Program:
        script = f"ulimit -c unlimited; cd {self.home} && exec {self.keeper}"
        host = Program(["sh", "-c", script], self.environment)
        for version in versions:
            assert host.ask(f"load {self.keeper.parent}/give-{version}.so")["result"] == 0
        host.ask("call")
        return host

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hotreload", "autopsy", *arguments]
        return subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=WAIT_S * 2
        )

    def autopsy(self, *arguments: str) -> Json:
        done = self.run("--json", *arguments)
        assert done.returncode == 0, done.stderr
        found: Json = json.loads(done.stdout)
        return found

    def left(self) -> list[Path]:
        return sorted(self.boxes.glob("*.box"))


@pytest.fixture
def world(keeper: Path) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="hr-", dir="/dev/shm") as home:
        yield World(keeper, Path(home))


def test_a_crash_in_a_patch_is_told_with_its_place(world: World) -> None:
    with world.host(1, 2) as host:
        host.send(f"call {CRASH}")
        assert host.process.wait(WAIT_S) == -signal.SIGSEGV
    found = world.autopsy(str(host.pid))
    assert found["host"] == {"pid": host.pid, "name": "keeper"}
    assert Path(found["program"]) == world.keeper
    (inside,) = found["threads"]
    assert (inside["thread"], inside["slot"], inside["version"], inside["certain"]) == (
        host.pid,
        "keeper.give",
        2,
        True,
    )
    assert inside["module"]["version"] == 2
    suspect = found["suspect"]
    assert (suspect["slot"], suspect["version"], suspect["module"]["name"]) == ("keeper.give", 2, "keeper")
    assert [event["event"] for event in found["events"]].count("swap") == 2
    text = world.run(str(host.pid)).stdout
    assert f"keeper pid {host.pid}" in text and "suspect  keeper.give v2" in text
    if BLOCKED_WITHOUT_CORES:
        assert found["core"] is None and "--core" in found["no_core"]
        return
    core = found["core"]
    assert (core["signal"], core["thread"], core["address"]) == (signal.SIGSEGV, host.pid, 0)
    assert re.fullmatch(r"keeper: give\+0x\w+ \(give\.c:\d+ in give\)", core["place"]), core
    assert "died in code of the module" in suspect["why"]
    assert "died     of SIGSEGV in thread" in text and "keeper: give+0x" in text
    # The same file named by the user; and one that is none.
    assert world.autopsy(str(host.pid), "--core", core["path"])["core"] == core
    moved = world.home / "moved.core"
    Path(core["path"]).rename(moved)
    # Its successor removes what was staged. The build output is as good, unless something else has been built there.
    with world.host() as successor:
        assert successor.end() == 0
    output, other = (world.keeper.parent / f"give-{version}.so" for version in (2, 1))
    place = world.autopsy(str(host.pid), "--core", str(moved))["core"]["place"]
    assert place == core["place"]
    kept = output.read_bytes()
    try:
        shutil.copy(other, output)
        told = world.autopsy(str(host.pid), "--core", str(moved))["core"]["place"]
    finally:
        output.write_bytes(kept)
    assert re.fullmatch(r"keeper: \+0x\w+, of a build that is gone", told), told
    assert "is no core file" in world.autopsy(str(host.pid), "--core", str(world.keeper))["no_core"]


def test_a_killed_host_tells_who_was_inside(world: World) -> None:
    with world.host(1) as host:
        host.ask("occupy")
        assert host.ask(f"load {world.keeper.parent}/give-2.so")["result"] == 0
        host.kill()
    found = world.autopsy()
    (inside,) = found["threads"]
    assert inside["thread"] != host.pid
    # The call began before the second swap: what it ran is the first version, and only the core file could prove it.
    assert (inside["slot"], inside["version"], inside["certain"]) == ("keeper.give", 2, False)
    assert found["outside"] == 1
    assert found["core"] is None and found["no_core"]
    assert found["suspect"]["why"] == "of the slots that were being called, it was swapped last"
    assert "v2, or v1 where the swap came later" in world.run().stdout


def test_no_slot_is_suspected_when_none_was_called(world: World) -> None:
    with world.host() as host:
        host.kill()
    found = world.autopsy()
    assert found["threads"] == [] and found["suspect"]["slot"] is None
    assert found["suspect"]["why"] == "no slot was being called"


def test_an_orderly_end_leaves_nothing(world: World) -> None:
    with world.host(1) as host:
        assert len(world.left()) == 1
        assert host.end() == 0
    assert world.left() == []
    done = world.run()
    assert done.returncode == 4 and "no black box is kept" in done.stderr


def test_the_last_five_are_kept(world: World) -> None:
    pids = []
    for _ in range(7):
        with world.host() as host:
            pids.append(host.pid)
            host.kill()
    with world.host() as living:
        assert len(world.left()) == 6  # a host that serves has removed the oldest ones
        assert world.autopsy()["kept"] == pids[:1:-1]
        assert world.autopsy(str(pids[3]))["host"]["pid"] == pids[3]
        done = world.run(str(pids[0]))
        assert done.returncode == 4 and str(pids[6]) in done.stderr
        assert world.run(str(living.pid)).returncode == 4
        assert living.end() == 0


def test_hosts_of_other_directories_are_not_ours(keeper: Path, tmp_path: Path) -> None:
    """Run-time directories on a disk: their hosts' boxes lie in one place in memory all the same."""
    first, second = (World(keeper, tmp_path / name) for name in ("first", "second"))
    pids = []
    for world in (first, second, second):
        world.home.mkdir(mode=0o700, exist_ok=True)
        with world.host(1) as host:
            pids.append(host.pid)
            host.kill()
    assert [world.autopsy()["kept"] for world in (first, second)] == [pids[:1], pids[:0:-1]]
    assert first.autopsy()["host"]["pid"] == pids[0]
    done = first.run(str(pids[1]))
    assert done.returncode == 4 and str(pids[0]) in done.stderr and str(pids[2]) not in done.stderr
    alias = World(keeper, tmp_path / "alias")
    alias.home.symlink_to(second.home)
    assert alias.autopsy()["kept"] == pids[:0:-1], "another name of the same directory"


def test_a_box_that_shrinks_kills_no_reader(world: World, tmp_path: Path) -> None:
    with world.host(1, 2) as host:
        host.kill()
    (remains,) = world.left()
    copy = tmp_path / "copy.box"
    copy.write_bytes(remains.read_bytes())
    copy.chmod(0o600)
    with copy.open("rb") as stream:
        box = native.Box(stream.fileno(), native.Host(1, ""))
        assert len(box.snapshot(time.monotonic()).slots) == 1
        for size in (5000, 4096, 100, 0):
            os.truncate(copy, size)
            box.snapshot(time.monotonic())
            box.events(0)
            box.threads()
    open_to_all = tmp_path / "open.box"
    open_to_all.write_bytes(remains.read_bytes())
    open_to_all.chmod(0o666)
    with open_to_all.open("rb") as stream, pytest.raises(native.HotreloadError, match="neither sealed nor"):
        native.Box(stream.fileno(), native.Host(1, ""))


def test_core_patterns(tmp_path: Path) -> None:
    names = ("core", "core.77", "core.game.77.11", "core.other.78.11", "x%77")
    for name in names:
        (tmp_path / name).write_bytes(b"\x7fELF")
    here = str(tmp_path)

    def found(pattern: str) -> set[str]:
        return {path.name for path in candidates(pattern, 77, "/opt/game", here)}

    assert found("core") == {"core", "core.77"}
    assert found("core.%e.%p.%s") == {"core.game.77.11"}
    assert found(f"{here}/core.%p") == {"core.77"}
    assert found("x%%%p") == {"x%77"}
    assert read_one(tmp_path / "core") is None
