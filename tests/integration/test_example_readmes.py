"""What the READMEs of the C examples tell a reader to type, and what they say happens then. (That of counter-rust is
followed in test_rust.py.)"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import ROOT, RequireTool
from documents import reader_environment
from integration.harness import Output

EXAMPLES = ROOT / "examples"


class Terminal:
    """A command that runs on, as in a terminal of its own."""

    def __init__(self, command: str, environment: dict[str, str], directory: Path) -> None:
        self._process = subprocess.Popen(
            ["sh", "-c", f"exec {command}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env=environment, cwd=directory, start_new_session=True,
        )  # fmt: skip
        self.output = Output(self._process.stdout)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """What Ctrl-C does: it reaches make and what make has started."""
        for number in (signal.SIGINT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
                break
        self.output.end()


class Reader:
    """Follows an example's README in a copy of the example: ``make`` is run to its end, the rest in terminals."""

    def __init__(self, name: str, scratch: Path, environment: dict[str, str]) -> None:
        self.readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
        self.directory = scratch / name
        self.environment = environment
        self.terminals: list[Terminal] = []
        shutil.copytree(EXAMPLES / name, self.directory, ignore=shutil.ignore_patterns("build"))

    def commands(self) -> list[tuple[str, str]]:
        """The lines of the indented block: command and comment."""
        lines = re.findall(r"^    ([^#\n]+?)(?:  +# (.*))?$", self.readme, re.MULTILINE)
        assert lines, "the README shows commands in an indented block"
        return lines

    def follow(self) -> None:
        for command, comment in self.commands():
            if comment.startswith("terminal "):
                self.terminals.append(Terminal(command, self.environment, self.directory))
            else:
                self.run(command)

    def run(self, command: str) -> None:
        done = subprocess.run(
            ["sh", "-ec", command], cwd=self.directory, env=self.environment, capture_output=True, text=True,
            check=False, umask=0o022,
        )  # fmt: skip
        assert done.returncode == 0 and "warning" not in done.stderr, done.stdout + done.stderr

    def edit(self, old: str, new: str) -> None:
        source = self.directory / "patch.c"
        text = source.read_text(encoding="utf-8")
        assert len(re.findall(old, text, re.MULTILINE)) == 1, old
        source.write_text(re.sub(old, new, text, flags=re.MULTILINE), encoding="utf-8")

    def end(self) -> None:
        for each in reversed(self.terminals):
            each.close()


@pytest.fixture
def reader(tmp_path: Path, require_tool: RequireTool) -> Iterator[Callable[[str], Reader]]:
    require_tool("make")
    readers: list[Reader] = []
    with tempfile.TemporaryDirectory(prefix="hr-") as runtime:

        def start(name: str) -> Reader:
            readers.append(Reader(name, tmp_path, {**reader_environment(tmp_path, Path(runtime)), "LC_ALL": "C.UTF-8"}))
            return readers[-1]

        yield start
        for each in readers:
            each.end()


def test_counter_c(reader: Callable[[str], Reader]) -> None:
    me = reader("counter-c")
    me.follow()
    host, watch = me.terminals
    host.output.find(lambda line: line.endswith(" step=+10"))
    me.edit(r"^(#define STEP) \d+", r"\1 25")
    me.run("make")
    at = host.output.find(lambda line: line.endswith(" step=+25"))
    counts = [int(found[1]) for line in host.output.lines[: at + 1] if (found := re.match(r"count=(\d+) ", line))]
    steps = {after - before for before, after in pairwise(counts)}
    assert steps <= {1, 10, 25}, "the number that the counter had reached goes on"
    # "Try to break it", point by point.
    me.run(next(found for found in re.findall(r"`([^`]+)`", me.readme) if found.startswith("head -c")))
    watch.output.find(lambda line: "E-TRUNCATED" in line)
    me.run("rm build/half.so")
    me.edit(r"^HR_MODULE\((.*?)\"counter\.add\"", r'HR_MODULE(\1"counter.ad"')
    me.run("make")
    watch.output.find(lambda line: "counter.ad " in line and "no host" in line)
    assert host.alive


def test_flame(reader: Callable[[str], Reader]) -> None:
    me = reader("flame")
    me.follow()
    host, watch = me.terminals
    watch.output.find(lambda line: "swap" in line and "flame." in line)
    host.output.find(lambda line: re.search(r"sparks=[1-9]", line) is not None)  # the fallbacks make embers only
    knobs = [found for found in re.findall(r"`([A-Z_]+) ([\w.-]+)`", me.readme) if found[0].isupper()]
    assert len(knobs) >= 7, "the README names knobs to turn"
    for name, value in knobs:
        me.edit(rf"^(#define {name} +)\S+", rf"\g<1>{value}")
    before = len(watch.output.lines)  # taken before the build: the swap is often there before make has ended
    me.run("make")
    watch.output.find(lambda line: "swap" in line and "flame." in line, before)
    assert host.alive
