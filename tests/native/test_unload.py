"""Unloading from outside: what is unmapped, what stays and why, and that nobody notices otherwise.

The host keeps pointers into its modules in every way that the scan is to find. What it says is read from its black box
and from the command line's JSON, as a user's program would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cbuild
import pytest
from driver import WAIT_S, Json, Program

from hotreload.link import Link

GIVE = cbuild.HOSTS / "give.c"
VTABLE, LITERAL, CALLBACK = 1, 2, 3
SHOWN = ("state", "reason", "bytes", "resident", "mappings")


@dataclass(frozen=True)
class Built:
    """The host, and modules by name."""

    host: Path
    directory: Path

    def module(self, version: int, *flags: str) -> Path:
        """The module of that version, compiled once."""
        words = "".join(c if c.isalnum() else "_" for c in "".join(flags))
        output = self.directory / f"give-{version}{words}.so"
        if not output.exists():
            command = [cbuild.cc(), *cbuild.MODULE_FLAGS, "-Wl,--build-id", f"-DVERSION={version}", *flags]
            cbuild.run([*command, "-I", cbuild.INCLUDE, "-I", cbuild.HOSTS, "-o", output, GIVE])
            output.chmod(0o755)
        return output


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, cc: str) -> Built:
    directory = tmp_path_factory.mktemp("unload")
    shim = cbuild.build_shim(directory / "lib")
    return Built(shim.host(cbuild.HOSTS / "keeper.c", directory / "keeper"), directory)


class World:
    """One user's directories, and the one host in them."""

    def __init__(self, built: Built, directory: Path, *arguments: str) -> None:
        self.built = built
        self.environment = {"XDG_RUNTIME_DIR": str(directory), "XDG_STATE_HOME": str(directory), "NO_COLOR": "1"}
        self.host = Program([built.host, *arguments], self.environment)
        self.socket = directory / "hotreload" / f"{self.host.pid}.sock"

    def load(self, *versions: int) -> None:
        for version in versions:
            self.load_file(self.built.module(version))

    def load_file(self, module: Path) -> None:
        assert self.host.ask(f"load {module}")["result"] == 0
        self.host.ask("call")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hotreload", *arguments]
        return subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=WAIT_S * 2
        )

    def modules(self) -> dict[int, Json]:
        """What the black box says about each version."""
        with Link(self.socket) as link:
            records = link.snapshot(time.monotonic()).modules
        return {
            each.module.version: {"build_id": each.module.build_id, **{name: getattr(each, name) for name in SHOWN}}
            for each in records
        }

    def events(self, kind: str) -> list[Json]:
        lines = self.run("events", "--json").stdout.splitlines()
        return [event for line in lines if (event := json.loads(line))["event"] == kind]

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not done():
            assert time.monotonic() < deadline, f"never came: {self.modules()}"
            time.sleep(0.02)

    def until_unloaded(self, version: int) -> None:
        self.until(lambda: self.modules()[version]["state"] == "unloaded")

    def until_resident(self, version: int, why: str) -> str:
        """Waits until the version is kept for that reason; the whole of it."""
        self.until(lambda: why in self.modules()[version]["reason"])
        reason: str = self.modules()[version]["reason"]
        assert reason.startswith("resident: ")
        assert self.modules()[version]["state"] == "retired"
        return reason

    def mapped(self, version: int) -> bool:
        """Whether the kernel still maps that version."""
        return any(self.modules()[version]["build_id"] in path for path in self.staged())

    def staged(self) -> set[str]:
        """The staged modules that the kernel maps for the host."""
        maps = Path(f"/proc/{self.host.pid}/maps").read_text()
        return {line.split()[-1] for line in maps.splitlines() if "/keeper-" in line}


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hr-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def world(built: Built, directory: Path) -> Iterator[World]:
    made = World(built, directory)
    with made.host:
        yield made


def test_unloads_what_nothing_points_into(world: World) -> None:
    world.host.ask("unload on")
    world.load(1, 2)
    assert world.mapped(1)
    world.load(3)
    world.until_unloaded(1)
    assert not world.mapped(1)
    assert world.modules()[1]["reason"] == "nothing pointed into it any more"
    (event,) = world.events("unload")
    assert (event["module"]["version"], event["us"]["total"] > 0) == (1, True)
    # What a roll back would bring back stays, and does come back; what is older does not.
    assert world.modules()[2]["state"] == "retired"
    world.until_resident(2, "a roll back would bring it back")
    assert world.host.ask("rollback")["result"] == 0
    assert world.host.ask("call")["result"] == 2
    world.until_unloaded(3)
    assert world.host.ask("rollback")["result"] == 0
    assert world.host.ask("call")["result"] == 0  # the fallback
    world.until_unloaded(2)
    assert world.host.end() == 0


KERNEL = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])


@pytest.mark.skipif(KERNEL < (5, 14), reason="pages cannot be asked for (MADV_POPULATE_WRITE)")
def test_records_of_what_goes_take_no_further_memory(world: World) -> None:
    def shared() -> int:
        status = Path(f"/proc/{world.host.pid}/status").read_text()
        return int(status.partition("RssShmem:")[2].split()[0])

    world.host.ask("unload on")
    world.load(1, 2, 3)
    world.until_unloaded(1)
    before = shared()
    paths = f"{world.built.module(4)} {world.built.module(5)}"
    world.host.ask(f"reload 60 {paths}")
    world.until(lambda: sum(each["state"] == "retired" for each in world.modules().values()) <= 1)
    assert shared() == before, "a record of an event or a module took a page that was not there"


def test_staged_files_go_with_their_modules(world: World, directory: Path) -> None:
    world.host.ask("unload on")
    world.load(1, 2, 3, 4, 5)
    world.until_unloaded(3)
    world.until(lambda: len(list(directory.glob(f"hotreload/{world.host.pid}/keeper-*.so"))) == 2)


def test_nothing_is_unloaded_unless_asked(world: World) -> None:
    world.load(1, 2, 3)
    world.until(lambda: len(world.events("retire")) == 2)
    assert all(world.mapped(version) for version in (1, 2, 3))
    assert world.modules()[1]["reason"] == "resident: replaced"
    # Asked for later, it is for all that came before as well; and by a tool.
    assert world.run("load", "--unload", str(world.built.module(3))).returncode == 0
    world.until_unloaded(1)


@pytest.mark.parametrize(
    ("kind", "how", "where", "what"),
    [
        (VTABLE, "heap", "[heap]", "shape_table"),
        (LITERAL, "heap", "[heap]", 'the text "a literal of the module"'),
        (CALLBACK, "heap", "[heap]", "callback"),
        (CALLBACK, "mangled", "[heap]", "callback"),
        (CALLBACK, "shared", ": shared anonymous memory points to", "callback"),
        (CALLBACK, "behind", ": anonymous memory points to", "callback"),
        (CALLBACK, "register", "a register of thread ", "callback"),
        (LITERAL, "register", "a register of thread ", "a literal of the module"),
        (CALLBACK, "signal", "the handler of signal 12", "callback"),
        (CALLBACK, "key", "libc", "callback"),
    ],
)
def test_finds_pointers(world: World, kind: int, how: str, where: str, what: str) -> None:
    world.host.ask("unload on")
    world.load(1)
    if world.host.ask(f"keep {kind} {how}")["result"] == 77:
        pytest.skip("written for x86-64")
    world.load(2, 3)
    reason = world.until_resident(1, what)
    assert where in reason
    told = [event for event in world.events("retire") if event.get("reason")]
    assert told[0]["module"]["version"] == 1
    assert "points" in told[0]["found"] and "0x" in told[0]["found"]
    assert ("encrypted" in told[0]["found"]) == (how == "mangled")
    assert world.mapped(1)
    # The others leave the value where it was: in a stack or a table.
    if how in ("heap", "mangled", "signal", "shared", "behind"):
        world.host.ask("drop")
        world.until_unloaded(1)
        assert not world.mapped(1)
    else:
        world.host.ask("drop")
    assert world.host.ask("call")["result"] == 3
    assert world.host.end() == 0


def test_a_module_decides_for_itself(world: World) -> None:
    world.load_file(world.built.module(1, "-DSAYS=HR_UNLOAD_QUIESCENT"))
    world.load(2, 3)
    world.until_unloaded(1)
    world.host.ask("unload on")
    world.load_file(world.built.module(4, "-DSAYS=HR_UNLOAD_NEVER"))
    world.load(5, 6)
    world.until_unloaded(3)
    world.until_resident(4, "it asks to stay (HR_UNLOAD_NEVER)")
    assert world.mapped(4)


@pytest.mark.parametrize(
    ("flags", "says"),
    [(("-DSAYS=HR_UNLOAD_QUIESCENT",), "quiescent"), (("-DSAYS=HR_UNLOAD_NEVER",), "never"), ((), None)],
)
def test_inspect_tells_what_a_module_says_about_it(world: World, flags: tuple[str, ...], says: str | None) -> None:
    module = str(world.built.module(1, *flags))
    manifest = json.loads(world.run("inspect", "--json", module).stdout)
    exports = ["HOTPATCH_UNLOAD_V1"] if says else []
    assert (manifest["unload"], manifest["exports"]) == (says, exports)
    shown = f"optional exports: HOTPATCH_UNLOAD_V1 ({says})"
    assert (shown in world.run("inspect", module).stdout) == (says is not None)


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        ("-Wl,-z,nodelete", "nodelete"),
        ("-DUNIQUE", "unique symbols"),
        ("-DHELD", "dlclose did nothing"),
        ("-DTHREAD_EXIT", "destroy"),  # the thread's list of destructors has it, encrypted
    ],
)
def test_says_why_dlclose_would_do_nothing(world: World, flag: str, why: str) -> None:
    world.host.ask("unload on")
    world.load_file(world.built.module(1, flag))
    world.load(2, 3, 4)
    world.until_resident(1, why)
    world.until_unloaded(2)
    assert world.mapped(1)
    assert world.host.end() == 0


def test_exit_handlers_of_a_module_run_when_it_goes(world: World) -> None:
    world.host.ask("unload on")
    world.load_file(world.built.module(1, "-DATEXIT"))
    world.load(2, 3)
    world.until_unloaded(1)
    assert world.host.end() == 0
    assert world.host.process.stderr is not None
    assert world.host.process.stderr.read().split() == ["end", "bye"]


def test_a_thread_that_blocks_all_signals_keeps_modules(world: World) -> None:
    world.host.ask("unload on")
    world.host.ask("silent")
    world.load(1, 2, 3)
    world.until_resident(1, "did not answer: it blocks all signals")
    world.host.ask("drop")
    world.until_unloaded(1)


def test_names_who_holds_a_grace_period_back(world: World) -> None:
    world.host.ask("unload on")
    world.load(1)
    world.host.ask("occupy")
    world.load(2, 3)
    world.until(lambda: bool(world.events("blocked")))
    assert "in slot keeper.give" in world.events("blocked")[0]["reason"]
    (host,) = json.loads(world.run("ps", "--json").stdout)
    assert "in keeper.give has held back a grace period for" in host["blocked"]
    assert "keeper.give" in world.run("ps").stdout
    assert world.modules()[1]["state"] == "retired" and world.mapped(1)
    world.host.ask("drop")
    world.until_unloaded(1)
    assert len(world.events("blocked")) == 1


def test_tells_what_residents_cost(world: World) -> None:
    world.load(1, 2, 3)
    world.until(lambda: len(world.events("retire")) == 2)
    (host,) = json.loads(world.run("ps", "--json").stdout)
    resident = host["resident"]
    assert (resident["modules"], resident["warning"], resident["budget"]) == (2, False, 64 << 20)
    modules = world.modules()
    assert resident["bytes"] == modules[1]["resident"] + modules[2]["resident"] > 0
    assert resident["mappings"] == modules[1]["mappings"] + modules[2]["mappings"] >= 6
    assert modules[1]["bytes"] >= modules[1]["resident"] >= 4096
    assert world.events("budget") == []
    assert "over the budget" not in world.run("ps").stdout
    assert "2 modules that back no slot keep" in world.run("slots").stdout
    # A tool sets the budget; the next retirement looks at it.
    assert world.run("load", "--budget", "0.01", str(world.built.module(4))).returncode == 0
    world.until(lambda: bool(world.events("budget")))
    assert "3 modules that back no slot keep" in world.events("budget")[0]["reason"]
    assert "over the budget of 10 KiB" in world.run("ps").stdout
    assert json.loads(world.run("ps", "--json").stdout)[0]["resident"]["warning"] is True
    # Unloading brings it back below.
    world.host.ask("unload on")
    world.until_unloaded(2)
    assert json.loads(world.run("ps", "--json").stdout)[0]["resident"]["modules"] == 1
    gone = world.modules()[2]
    assert gone["bytes"] > 0 and (gone["resident"], gone["mappings"]) == (0, 0)


@pytest.mark.parametrize("kind", ["poll", "alone"])
def test_a_host_that_polls_scans_where_it_polls(built: Built, directory: Path, kind: str) -> None:
    world = World(built, directory, kind)
    with world.host:
        world.host.ask("unload on")
        for version in (1, 2, 3):
            assert world.host.ask(f"load {built.module(version)}")["result"] == 0
            world.host.ask("call")
        deadline = time.monotonic() + WAIT_S
        while len(world.staged()) > 2:
            assert time.monotonic() < deadline
            world.host.ask("poll")
        assert world.host.ask("call")["result"] == 3
