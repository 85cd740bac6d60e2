"""All the ways in which a build output comes to be: never a partial candidate, never a missed build, one a build.

Real linkers, file tools and cargo write real modules; the real lease and preflight judge them. The hazards H4 and H5 of
DESIGN.md section 6 are shown twice: handled, and with their handling taken away.
"""

from __future__ import annotations

import functools
import os
import queue
import shutil
import subprocess
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from integration.writers import (
    BUILDS,
    WRITERS,
    link_as_cargo_does,
    move_inside,
    rewrite_in_place,
    run,
    truncate_and_rewrite,
)

from hotreload import native
from hotreload.model import Candidate, Failure, Manifest, Settled, Settling
from hotreload.watcher import CLOSED, MOVED_HERE, Watcher, WatcherEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = 60.0
"""Seconds after which a test gives up."""
FILLER_BYTES = 3_000_000
"""Makes a module large enough for its writers to be seen at work."""
MODULE = """\
#include <hotreload/patch.h>
__asm__(".section .data.filler, \\"aw\\"\\n.fill {size}, 1, {version}\\n.previous");
static int32_t step(void *state, const void *in, void *out) {{ return {version}; }}
HR_MODULE("written", {version}, HR_PATCH("written.step", step))
"""
FLAGS = ("-shared", "-fPIC", "-O1", "-Wl,--build-id")


@dataclass
class Modules:
    """Complete modules, one a version, and what preflight says about their bytes."""

    directory: Path
    contents: dict[int, int] = field(default_factory=dict)

    def __getitem__(self, version: int) -> Path:
        return self.directory / f"{version}.so"


def write_source(path: Path, version: int) -> Path:
    path.write_text(MODULE.format(version=version, size=FILLER_BYTES))
    return path


def link(source: Path, target: Path, include: Path, *flags: str) -> None:
    subprocess.run(["gcc", *FLAGS, "-I", include, *flags, "-o", target, source], check=True)


@pytest.fixture(scope="module", autouse=True)
def umask() -> Iterator[None]:
    """Outputs that their group may write to are refused, and some systems create them so."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def include(root: Path) -> Path:
    return root / "shim" / "include"


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory, include: Path, require_tool: Callable[..., Path]) -> Modules:
    """Versions 1 to BUILDS, made once: by patching the first, since a compiler takes its time for each."""
    require_tool("gcc")
    found = Modules(tmp_path_factory.mktemp("modules"))
    for version in range(1, BUILDS + 1):
        link(write_source(found.directory / f"{version}.c", version), found[version], include)
        found.contents[version] = content(found[version])
    return found


def content(path: Path) -> int:
    manifest = native.inspect(path)
    assert isinstance(manifest, Manifest), manifest
    return manifest.module.content


class Session:
    """A running watcher and what came from it."""

    def __init__(self, directory: Path, kind: type[Watcher] = Watcher, **options: Any) -> None:
        self.events: queue.SimpleQueue[WatcherEvent] = queue.SimpleQueue()
        self.candidates: deque[Candidate] = deque()
        self.watcher = kind([directory], self.events.put, **options)
        self.watcher.start()

    def candidate(self) -> Candidate:
        """The next candidate. Nothing here takes long enough to be reported as unfinished."""
        while not self.candidates:
            event = self.events.get(timeout=LONG)
            assert not isinstance(event, Settling), event
            if isinstance(event, Settled):
                self.candidates.extend(event.candidates)
        return self.candidates.popleft()

    def module(self) -> Manifest:
        candidate = self.candidate()
        assert candidate.manifest is not None, candidate.failure
        return candidate.manifest

    def nothing_more(self, path: Path, module: Path) -> None:
        """Asserts that nothing comes before another module, which is written last and sorts last."""
        self.watcher.rescan()
        last = path.with_name("z.so")
        shutil.copyfile(module, scratch := path.with_name("z.tmp"))
        scratch.replace(last)
        candidate = self.candidate()
        assert candidate.path == last, candidate


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Callable[..., Session]]:
    running: list[Session] = []

    def start(directory: Path, kind: type[Watcher] = Watcher, **options: Any) -> Session:
        running.append(Session(directory, kind, **options))
        return running[-1]

    yield start
    for one in running:
        one.watcher.stop()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The watched name, in a directory of its own."""
    directory = tmp_path / "out"
    directory.mkdir()
    return directory / "written.so"


# ---- linkers ----


@pytest.mark.parametrize("linker", ["bfd", "gold", "lld", "mold"])
def test_linkers(
    linker: str,
    modules: Modules,
    output: Path,
    include: Path,
    session: Callable[..., Session],
    require_tool: Callable[..., Path],
) -> None:
    require_tool("mold" if linker == "mold" else f"ld.{linker}")
    running = session(output.parent)
    for version in range(1, BUILDS + 1):
        link(modules.directory / f"{version}.c", output, include, f"-fuse-ld={linker}")
        manifest = running.module()
        assert manifest.module.version == version
        assert manifest.module.content == content(output)
    running.nothing_more(output, modules[1])


# ---- tools that copy, move and link ----


@pytest.mark.parametrize("name", WRITERS)
def test_tools(
    name: str,
    modules: Modules,
    output: Path,
    session: Callable[..., Session],
    require_tool: Callable[..., Path],
) -> None:
    tool, write, builds = WRITERS[name]
    require_tool(tool)
    running = session(output.parent)
    for version in range(1, builds + 1):
        write(modules[version], output)
        manifest = running.module()
        assert manifest.module.version == version
        assert manifest.module.content == modules.contents[version]
    running.nothing_more(output, modules[1])


@pytest.mark.parametrize("name", ["cp", "rsync", "unlink and link", "append and close", "rewrite in place"])
def test_tools_while_polling(name: str, modules: Modules, output: Path, session: Callable[..., Session]) -> None:
    running = session(output.parent, poll=True)
    for version in range(1, 4):
        WRITERS[name][1](modules[version], output)
        assert running.module().module.version == version
    running.nothing_more(output, modules[1])


def test_strip_after_the_link_is_no_second_build(
    modules: Modules, output: Path, session: Callable[..., Session], require_tool: Callable[..., Path]
) -> None:
    strip = require_tool("strip")
    running = session(output.parent)
    for version in range(1, BUILDS + 1):
        run("cp", modules[version], output)
        assert running.module().module.version == version
        size = output.stat().st_size
        run(strip, output)
        assert output.stat().st_size < size
    running.nothing_more(output, modules[1])


def test_builds_that_follow_each_other_without_a_pause(
    modules: Modules, output: Path, session: Callable[..., Session]
) -> None:
    """Not every one can be seen, but each one seen is complete, and the last one is."""
    running = session(output.parent)
    writers = (truncate_and_rewrite, rewrite_in_place, link_as_cargo_does, move_inside)
    order = [*(list(range(1, BUILDS)) * 6), BUILDS]
    for number, version in enumerate(order):
        # The hard links are to copies of their own: writing in place must not change the originals.
        shutil.copyfile(modules[version], copy := output.parent.parent / f"{number}.so")
        writers[number % len(writers)](copy, output)
    module = None
    while module is None or module.version != BUILDS:
        module = running.module().module
        assert module.content == modules.contents[module.version]
    running.nothing_more(output, modules[1])


def test_a_file_that_others_may_write_to_is_refused_once(
    modules: Modules, output: Path, session: Callable[..., Session]
) -> None:
    running = session(output.parent)
    shutil.copyfile(modules[1], output)
    output.chmod(0o666)
    candidate = running.candidate()
    while candidate.failure is None:  # accepted before the chmod, on a quick machine
        candidate = running.candidate()
    assert candidate.failure.code == "E-DENIED"
    running.nothing_more(output, modules[1])


# ---- cargo ----

CRATE = """\
#[repr(C)]
pub struct Entry(*const u8, extern "C" fn(*mut u8, *const u8, *mut u8) -> i32, u32, u32);
#[repr(C)]
pub struct Module(u32, u16, u16, u64, *const u8, u32, u32, *const Entry, usize, usize);
unsafe impl Sync for Entry {}
unsafe impl Sync for Module {}

const VERSION: i32 = 1;

extern "C" fn step(_: *mut u8, _: *const u8, _: *mut u8) -> i32 {
    VERSION
}

static ENTRIES: [Entry; 1] = [Entry(c"written.step".as_ptr().cast(), step, 0, 0)];
#[no_mangle]
pub static HOTPATCH_MODULE_V1: Module =
    Module(0x4850_5431, 1, 56, VERSION as u64, c"written".as_ptr().cast(), 1, 0, ENTRIES.as_ptr(), 0, 0);
"""


def test_cargo(tmp_path: Path, modules: Modules, session: Callable[..., Session], require_tool: Any) -> None:
    cargo = require_tool("cargo")
    crate = tmp_path / "crate"
    (crate / "src").mkdir(parents=True)
    (crate / "Cargo.toml").write_text(
        '[package]\nname = "written"\nversion = "0.1.0"\nedition = "2021"\n'
        '[lib]\ncrate-type = ["cdylib"]\n[workspace]\n'
    )
    source = crate / "src" / "lib.rs"
    release = crate / "target" / "release"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CARGO_BUILD")}
    environment["CARGO_TARGET_DIR"] = str(crate / "target")
    build = functools.partial(
        subprocess.run, [cargo, "build", "--release", "--offline", "--quiet"], cwd=crate, env=environment, check=True
    )
    running = session(release)  # which does not exist yet
    for version in range(1, 6):
        source.write_text(CRATE.replace("VERSION: i32 = 1", f"VERSION: i32 = {version}"))
        build()
        assert running.module().module.version == version
    build()  # nothing to do
    source.write_text(source.read_text() + "// a comment: linked again, to the same bytes\n")
    build()
    running.nothing_more(release / "libwritten.so", modules[1])
    shutil.rmtree(crate / "target")
    source.write_text(CRATE.replace("VERSION: i32 = 1", "VERSION: i32 = 7"))
    build()
    assert running.module().module.version == 7


# ---- hazards, with and without their handling ----


class Counting:
    """The real probe, which tells how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.changed = threading.Condition()

    def settled(self, path: Path) -> Failure | None:
        answer = self.no_writer(path)
        with self.changed:
            self.asked += 1
            self.changed.notify_all()
        return answer

    def no_writer(self, path: Path) -> Failure | None:
        return native.settled(path)

    def inspect(self, path: Path) -> Manifest | Failure:
        return native.inspect(path)

    def wait(self, times: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.asked >= times, timeout=LONG)


class WithoutLease(Counting):
    """H4 unhandled: what is complete and valid counts as finished."""

    def no_writer(self, path: Path) -> Failure | None:
        return None


@pytest.mark.parametrize(("probe", "too_early"), [(Counting, False), (WithoutLease, True)])
def test_h4_a_complete_looking_file_that_is_still_written(
    probe: type[Counting], too_early: bool, modules: Modules, output: Path, session: Callable[..., Session]
) -> None:
    """As bfd and gold do: all extents are there, what preflight reads is valid, and the content is yet to come."""
    asks = probe()
    running = session(output.parent, probe=asks)
    with output.open("wb", buffering=0) as file:
        file.write(modules[1].read_bytes())
        if too_early:
            assert running.module().module.version == 1
        else:
            asks.wait(asks.asked + 2)
        file.seek(0)
        file.write(modules[2].read_bytes())
    assert running.module().module.version == 2
    running.nothing_more(output, modules[1])


class WithoutCreated(Watcher):
    """H5 unhandled: waits for a writer to close the file. The sweep, which would repair it, is off."""

    triggers = CLOSED | MOVED_HERE
    sweep_seconds: ClassVar[float] = 3600.0


class WithoutSweep(Watcher):
    sweep_seconds: ClassVar[float] = 3600.0


@pytest.mark.parametrize(("kind", "found"), [(WithoutSweep, ["written.so", "z.so"]), (WithoutCreated, ["z.so"])])
def test_h5_a_hard_link_is_only_ever_created(
    kind: type[Watcher], found: list[str], modules: Modules, output: Path, session: Callable[..., Session]
) -> None:
    running = session(output.parent, kind)
    link_as_cargo_does(modules[1], output)
    run("cp", modules[2], output.with_name("z.so"))
    assert [running.candidate().path.name for _ in found] == found
