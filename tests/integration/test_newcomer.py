"""A newcomer's first minutes, in each language: an empty directory, two commands, one edit, new behaviour on screen."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec

import pytest
from conftest import ROOT, RequireTool
from integration.harness import Bench, Watch

FIRST_BUILD_SECONDS = 240.0
"""A loaded machine may take long to compile a whole standard library."""

WARNINGS_ARE_ERRORS = {"CFLAGS": "-O1 -g -Werror", "CXXFLAGS": "-O1 -g -Werror", "RUSTFLAGS": "-D warnings"}
ZIG = (sys.executable, "-m", "ziglang") if find_spec("ziglang") else ("zig",)

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
    test: tuple[str, ...]
    """What runs the project's own tests."""


LANGUAGES = {
    "c": Language("make", "patch.c", "#define STEP 10", "#define STEP 500", ("make", "test")),
    "cpp": Language("make", "patch.cpp", "STEP = 10;", "STEP = 500;", ("make", "test")),
    "rust": Language("cargo", "crates/patch/src/lib.rs", "i64 = 10;", "i64 = 500;", ("cargo", "test", "--quiet")),
    "zig": Language("zig", "src/patch.zig", "const step = 10;", "const step = 500;", (*ZIG, "build", "test")),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_first_edit(language: str, bench: Bench, require_tool: RequireTool, capsys: pytest.CaptureFixture[str]) -> None:
    known = LANGUAGES[language]
    if language != "zig" or ZIG == ("zig",):  # which may have come as a Python package
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
    tested = subprocess.run(known.test, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    with capsys.disabled():
        print(
            f"\n{language}: {len(commands)} commands, first live edit {now - began:.1f} s after the first,"
            f" {now - saved:.2f} s after the save"
        )


def last_of(dev: Watch, text: str) -> int:
    return max(number for number, line in enumerate(dev.output.lines) if re.search(text, line))


def test_it_is_what_the_readme_says() -> None:
    assert README in (ROOT / "README.md").read_text(encoding="utf-8")
