"""A newcomer's first minutes, in each language: an empty directory, two commands, one edit, new behaviour on screen."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT, RequireTool
from integration.harness import Bench, Watch

FIRST_BUILD_SECONDS = 240.0
"""A loaded machine may take long to compile a whole standard library."""

GOAL_SECONDS = 120.0
"""From nothing to the first live edit, in any language."""

WARNINGS_ARE_ERRORS = {"CFLAGS": "-O1 -g -Werror", "CXXFLAGS": "-O1 -g -Werror", "RUSTFLAGS": "-D warnings"}
ZIG_IS_A_PACKAGE = find_spec("ziglang") is not None

README = """\
<!-- run: newcomer -->
```sh
hotreload new first --lang c
cd first && hotreload dev
```
"""


@dataclass(frozen=True)
class Language:
    """What a newcomer needs, and the edit."""

    tool: str
    source: str
    old: str
    new: str


LANGUAGES = {
    "c": Language("make", "patch.c", "#define STEP 10", "#define STEP 500"),
    "cpp": Language("make", "patch.cpp", "STEP = 10;", "STEP = 500;"),
    "rust": Language("cargo", "crates/patch/src/lib.rs", "i64 = 10;", "i64 = 500;"),
    "python": Language("make", "patch.c", "#define STEP 10", "#define STEP 500"),
    "zig": Language("zig", "src/patch.zig", "const step = 10;", "const step = 500;"),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_first_edit(
    language: str, bench: Bench, require_tool: RequireTool, record_property: Callable[[str, object], None]
) -> None:
    known = LANGUAGES[language]
    if language != "zig" or not ZIG_IS_A_PACKAGE:
        require_tool(known.tool)
    began = time.monotonic()

    made = bench.call("new", "first", "--lang", language)
    assert made.code == 0, made.err
    assert made.out.splitlines()[-1] == "next: cd first && hotreload dev"
    project = bench.work / "first"
    commands = ["hotreload new", "hotreload dev"]

    dev = bench.dev(project, "--plain", **WARNINGS_ARE_ERRORS)
    dev.output.find(re.compile(r" step=\+10\b").search, patience=FIRST_BUILD_SECONDS)
    source = project / known.source
    text = source.read_text(encoding="utf-8")
    assert text.count(known.old) == 1
    source.write_text(text.replace(known.old, known.new), encoding="utf-8")
    saved = time.monotonic()
    live = dev.output.find(re.compile(r" step=\+500\b").search, patience=FIRST_BUILD_SECONDS)
    now = time.monotonic()

    counts = [int(found[1]) for line in dev.output.lines if (found := re.search(r"count=(\d+) step", line))]
    assert counts == sorted(counts), "the state was lost"
    before, after = (re.search(r"count=(\d+)", dev.output.lines[at]) for at in (last_of(dev, r" step=\+10\b"), live))
    assert before and after and int(after[1]) == int(before[1]) + 500
    assert dev.interrupt() == 130
    environment = bench.environment(HOTRELOAD=f"{sys.executable} -m hotreload", **WARNINGS_ARE_ERRORS)
    dev_of_readme, test_of_readme = readme_commands(project)
    assert dev_of_readme == "hotreload dev"
    tested = subprocess.run(
        shlex.split(test_of_readme), cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert exports(project) <= {"HOTPATCH_MODULE_V1", "HOTPATCH_LAYOUT_V1"}, "what only the module calls is hidden"
    # Printed by conftest.py with the sum of all: each worker of pytest-xdist would only see its own.
    record_property("newcomer", (language, len(commands), now - began, now - saved))
    assert now - began < GOAL_SECONDS


def test_python_sources_that_are_named_are_built_and_start_their_host_again(bench: Bench) -> None:
    """A signature is the host's and the module's: its header is written again, both change, the state begins anew."""
    assert bench.call("new", "first", "--lang", "python").code == 0
    dev = bench.dev(bench.work / "first", "--plain", **WARNINGS_ARE_ERRORS)
    dev.output.find(re.compile(r"count=\d{3,} step=\+10\b").search)
    slots, patch = (bench.work / "first" / name for name in ("slots.py", "patch.c"))
    patch.write_text(
        patch.read_text().replace("int64_t counts_len) {", "int64_t counts_len, int64_t add) {\n(void)add;")
    )
    dev.output.find(re.compile(r"build +E-BUILD").search)
    text = slots.read_text().replace("int64_t counts[])", "int64_t counts[], int64_t add)")
    slots.write_text(text.replace("def tick(counts)", "def tick(counts, add=0)"))
    again = dev.output.find(re.compile(r"the host is started again").search)
    dev.output.find(re.compile(r"count=\d+ step=\+10\b").search, start=again)
    assert dev.interrupt() == 130


def test_what_a_cpp_patch_throws_leaves_its_host(bench: Bench) -> None:
    assert bench.call("new", "first", "--lang", "cpp").code == 0
    dev = bench.dev(bench.work / "first", "--plain", **WARNINGS_ARE_ERRORS)
    dev.output.find(re.compile(r"count=\d+ step=\+10\b").search, patience=FIRST_BUILD_SECONDS)
    patch = bench.work / "first" / "patch.cpp"
    good = patch.read_text(encoding="utf-8")
    patch.write_text(good.replace("    return STEP;", '    throw "an edit";'), encoding="utf-8")
    at = dev.output.find(re.compile(r"first: first\.tick returned status -\d+").search, patience=FIRST_BUILD_SECONDS)
    patch.write_text(good.replace("STEP = 10;", "STEP = 500;"), encoding="utf-8")
    again = dev.output.find(re.compile(r"count=\d+ step=\+500\b").search, at, patience=FIRST_BUILD_SECONDS)
    assert not [line for line in dev.output.lines[at:again] if "exited" in line], "it is the same host"
    assert dev.interrupt() == 130


def readme_commands(project: Path) -> list[str]:
    """What the project's own README says to type."""
    return re.findall(r"^    (.*?)(?: +#.*)?$", (project / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


def exports(project: Path) -> set[str]:
    """The names by which other code could find something in the project's modules."""
    modules = [path for path in project.rglob("*.so") if "deps" not in path.parts and ".zig-cache" not in path.parts]
    assert len(modules) == 1
    told = subprocess.run(["nm", "-D", "--defined-only", modules[0]], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in told.stdout.splitlines()}


def last_of(dev: Watch, text: str) -> int:
    return max(number for number, line in enumerate(dev.output.lines) if re.search(text, line))


def test_it_is_what_the_readme_says() -> None:
    assert README in (ROOT / "README.md").read_text(encoding="utf-8")
