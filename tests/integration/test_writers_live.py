"""Every way of writing a build output, through a whole ``hotreload watch`` into one running host.

What `test_writers` shows of the watcher is shown here of all that follows it: each build is live, each by one swap, and
not one file is refused for being read too early. One host and one watch serve all writers, as they would a user.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from integration.harness import Bench, HostProgram, Json, Watch, bench_in
from integration.writers import WRITERS, run

BUILDS = 3
FILLER_BYTES = 1_000_000
"""Makes a module large enough for its writers to be seen at work."""
MARK = 0x5EED1E55
EXTRA = (
    f"static const volatile int32_t number[] = {{{MARK:#x}, 0}};\n"
    f'__asm__(".section .data.filler, \\"aw\\"\\n.fill {FILLER_BYTES}, 1, 1\\n.previous");'
)


@dataclass
class Live:
    """A host with the slot ``a``, a watch, and modules whose ``a`` returns a number never used before."""

    bench: Bench
    host: HostProgram
    watch: Watch
    template: bytes
    built: int = 0

    @property
    def output(self) -> Path:
        return self.bench.out / "m.so"

    def module(self) -> Path:
        """The next one, made by patching the first: a compiler takes its time for each."""
        self.built += 1
        at = self.template.index(struct.pack("<i", MARK)) + 4
        path = self.bench.work / f"{self.built}.so"
        path.write_bytes(self.template[:at] + struct.pack("<i", self.built) + self.template[at + 4 :])
        path.chmod(0o755)
        return path

    def verdicts(self) -> list[Json]:
        """What became of the builds, apart from content that runs already."""
        return [event for event in self.watch.events() if event["event"] in ("swap", "reject", "rollback")]

    def check(self) -> None:
        """The newest build runs, and there was one swap for each so far."""
        self.host.runs(a=self.built)
        self.watch.event("swap", self.built)
        assert [event["event"] for event in self.verdicts()] == ["swap"] * self.built, self.verdicts()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, cc: str, host_program: Path) -> Iterator[Live]:
    work = tmp_path_factory.mktemp("live")
    before = os.umask(0o022)  # some systems' outputs would be group-writable, and refused
    try:
        with bench_in(Path(tempfile.mkdtemp(prefix="hr-")), work, cc, host_program) as bench:
            template = bench.module(1, extra=EXTRA, slots={"a": "number[1]"}).read_bytes()
            live = Live(bench, bench.host(), bench.watch(), template)
            live.watch.event("attach", pid=live.host.pid)
            yield live
    finally:
        os.umask(before)


@pytest.fixture(autouse=True)
def _another_file(live: Live) -> Iterator[None]:
    """Each writer begins with no output: some make it a link to the very file that the next one would write to."""
    yield
    live.output.unlink()
    live.host.check_state()


@pytest.mark.parametrize("name", WRITERS)
def test_tools(name: str, live: Live, require_tool: Callable[..., Path]) -> None:
    tool, write, builds = WRITERS[name]
    require_tool(tool)
    for _ in range(min(builds, BUILDS)):
        write(live.module(), live.output)
        live.check()


@pytest.mark.parametrize("linker", ["bfd", "gold", "lld", "mold"])
def test_linkers(linker: str, live: Live, require_tool: Callable[..., Path]) -> None:
    require_tool("mold" if linker == "mold" else f"ld.{linker}")
    for _ in range(BUILDS):
        live.built += 1
        source = live.bench.source(live.built, extra=EXTRA)
        run(*live.bench.compile_command(source, live.output), f"-fuse-ld={linker}")
        live.check()


def test_strip_after_the_link_is_no_second_swap(live: Live, require_tool: Callable[..., Path]) -> None:
    strip = require_tool("strip")
    for _ in range(BUILDS):
        run("cp", live.module(), live.output)
        run(strip, live.output)
        live.check()


def test_nothing_came_late(live: Live) -> None:
    """The last of this file: a second swap of an earlier build would have come by now."""
    run("cp", live.module(), live.output)
    live.check()
    assert live.host.history("a") == list(range(live.built + 1))
