"""Every snippet and command of the README, as a reader would use them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import RequireTool, plain_checkout, require_module

import hotreload.commands
from hotreload import native

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:<!-- (?P<label>[^>]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)```", re.DOTALL)
PATIENCE = 60


def blocks() -> list[tuple[str, str, str]]:
    """Label, language and text of every fenced block."""
    return [(each["label"] or "", each["language"], each["text"]) for each in BLOCK.finditer(README)]


def labelled(label: str) -> str:
    return next(text for name, _, text in blocks() if name == label)


@pytest.fixture
def environment(tmp_path: Path, runtime_home: Path) -> dict[str, str]:
    """The reader's: `hotreload` on the path, nobody else's hosts in sight."""
    scripts = sysconfig.get_path("scripts")
    return {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "XDG_RUNTIME_DIR": str(runtime_home),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[[list[str]], Path]]:
    """Starts a command in the background and returns the file that its output goes to."""
    running: list[subprocess.Popen[bytes]] = []

    def start(command: list[str]) -> Path:
        log = tmp_path / f"log-{len(running)}"
        with log.open("wb") as out:
            running.append(
                subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=subprocess.STDOUT)
            )
        return log

    yield start
    for process in reversed(running):
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)


def wait_for(log: Path, wanted: Callable[[str], bool]) -> str:
    for _ in range(PATIENCE * 20):
        text = log.read_text(encoding="utf-8", errors="replace")
        if wanted(text):
            return text
        time.sleep(0.05)
    raise AssertionError(f"not seen in:\n{text}")


def steps(text: str) -> list[int]:
    """The differences between the numbers that the host prints."""
    numbers = [int(each) for each in re.findall(r"^(?:host \| )?(-?\d+)\r?$", text, re.MULTILINE)]
    return [after - before for before, after in pairwise(numbers)]


def test_all_blocks_are_tested() -> None:
    """A new snippet needs a label that a test here uses, or must be one of the two commands."""
    known = {
        "file: host.c",
        "file: patch.c",
        "run: c",
        "file: host.cpp",
        "file: patch.cpp",
        "file: voice.h",
        "file: host/src/main.rs",
        "file: patch/src/lib.rs",
        "file: kernel.py",
        "file: kernel.c",
        "run: python",
        "run: notebook",
        "run: newcomer",  # by test_newcomer.py
    }
    unlabelled = [text for label, _, text in blocks() if not label]
    assert {label for label, _, _ in blocks() if label} == known
    assert unlabelled == ["make demo\nmake test\n"]


@pytest.mark.parametrize("label", [label for label, _, _ in blocks() if label.startswith("file: ")])
def test_hosts_and_modules_are_short(label: str) -> None:
    code = [line for line in labelled(label).splitlines() if line.strip()]
    assert len(code) <= 20


def test_the_two_commands_are_targets() -> None:
    for target in ("demo", "test"):
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


@plain_checkout
@pytest.mark.parametrize(("compiler", "suffix"), [("cc", "c"), ("c++", "cpp")])
def test_c(
    compiler: str, suffix: str, environment: dict[str, str], tmp_path: Path, start: Callable[[list[str]], Path]
) -> None:
    for name in (f"host.{suffix}", f"patch.{suffix}"):
        (tmp_path / name).write_text(labelled(f"file: {name}"), encoding="utf-8")
    commands = labelled("run: c").replace("cc ", f"{compiler} ").replace(".c ", f".{suffix} ")
    *build, watch = commands.strip().splitlines()
    subprocess.run(["sh", "-euc", "\n".join(build)], cwd=tmp_path, env=environment, check=True)
    log = start(watch.split())
    wait_for(log, lambda text: 10 in steps(text))
    source = tmp_path / f"patch.{suffix}"
    source.write_text(source.read_text(encoding="utf-8").replace("10 *", "100 *"), encoding="utf-8")
    subprocess.run(["sh", "-euc", build[-1]], cwd=tmp_path, env=environment, check=True)
    text = wait_for(log, lambda text: 100 in steps(text))
    assert set(steps(text)) <= {1, 10, 100}, "the state survived every swap"


@pytest.mark.parametrize(("compiler", "suffix"), [("cc", "c"), ("c++", "cpp")])
def test_a_described_struct(compiler: str, suffix: str, environment: dict[str, str], tmp_path: Path) -> None:
    """The header, used in a module as the text says, is what `inspect` then prints."""
    takes = 'HR_TAKES("synth.tick", Voice, void, void)'
    assert f"HR_HOST_LAYOUT(layout, HR_TYPE(Voice), {takes})" in README
    (tmp_path / "voice.h").write_text(labelled("file: voice.h"), encoding="utf-8")
    (tmp_path / f"patch.{suffix}").write_text(
        f"""#include <hotreload/hotreload.h>
#include <hotreload/patch.h>
#include "voice.h"
static int32_t tick(void *, const void *, void *);
static int32_t tick(void *state, const void *in, void *out) {{ return state == in && in == out; }}
HR_HOST_LAYOUT(layout, HR_TYPE(Voice), {takes})
HR_MODULE("synth", 1, HR_PATCH("synth.tick", tick))
HR_MODULE_LAYOUT(HR_TYPE(Voice), {takes})
""",
        encoding="utf-8",
    )
    build = f"{compiler} -shared -fPIC patch.{suffix} -o patch.so $(hotreload config --cflags)"
    subprocess.run(["sh", "-euc", build], cwd=tmp_path, env=environment, check=True)
    command = ["hotreload", "inspect", "--json", "patch.so"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    (voice, _) = json.loads(done.stdout)["layouts"]
    assert (voice["name"], voice["size"]) == ("Voice", 128)
    assert [field["offset"] for field in voice["fields"]] == [0, 4, 68]


def test_rust(
    environment: dict[str, str], tmp_path: Path, start: Callable[[list[str]], Path], require_tool: RequireTool
) -> None:
    require_tool("cargo")
    done = subprocess.run(
        ["hotreload", "config", "--rust-dir"], env=environment, check=True, capture_output=True, text=True
    )
    (crate,) = shlex.split(done.stdout)
    for name, extra, features in (
        ("host", "", ""),
        ("patch", '[lib]\ncrate-type = ["cdylib"]\n', ", default-features = false"),
    ):
        manifest = f'[package]\nname = "readme-{name}"\nversion = "0.1.0"\nedition = "2021"\n{extra}'
        manifest += f'[dependencies]\nhotreload = {{ path = "{crate}"{features} }}\n[workspace]\n'
        (tmp_path / name / "src").mkdir(parents=True)
        (tmp_path / name / "Cargo.toml").write_text(manifest, encoding="utf-8")
    for name in ("host/src/main.rs", "patch/src/lib.rs"):
        (tmp_path / name).write_text(labelled(f"file: {name}"), encoding="utf-8")
    for name in ("host", "patch"):
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=tmp_path / name, env=environment, check=True)
    log = start(["hotreload", "watch", "patch/target/release", "--", "host/target/release/readme-host"])
    text = wait_for(log, lambda text: 10 in steps(text))
    assert set(steps(text)) <= {1, 10}


@plain_checkout
def test_python(environment: dict[str, str], tmp_path: Path, start: Callable[[list[str]], Path]) -> None:
    for name in ("kernel.py", "kernel.c"):
        (tmp_path / name).write_text(labelled(f"file: {name}"), encoding="utf-8")
    watch, comment, *build = labelled("run: python").strip().splitlines()
    assert comment.startswith("# ")
    log = start(watch.split())
    wait_for(log, lambda text: 1 in steps(text))
    for factor in (10, 100):
        subprocess.run(["sh", "-euc", "\n".join(build)], cwd=tmp_path, env=environment, check=True)
        text = wait_for(log, lambda text, factor=factor: factor in steps(text))  # type: ignore[misc]
        source = tmp_path / "kernel.c"
        source.write_text(source.read_text(encoding="utf-8").replace("10 *", "100 *"), encoding="utf-8")
    assert set(steps(text)) <= {1, 10, 100}, "the state survived every swap"


def test_notebook(environment: dict[str, str], tmp_path: Path) -> None:
    require_module("nbclient")
    declare, _ = labelled("file: kernel.py").split("step.write_header")
    cells = [declare, *labelled("run: notebook").strip().splitlines()]
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "integration" / "notebook_program.py", tmp_path],
        input=json.dumps(cells), env=environment, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    _, loaded, watched, header, status = json.loads(done.stdout)
    assert (loaded, header) == ("", "") and "attach" in watched and "kernel.step  v0" in status
    assert "KERNEL_STEP" in (tmp_path / "kernel_step.h").read_text(encoding="utf-8")


def test_every_command_of_the_table_exists() -> None:
    table = README.split("## Commands")[1].split("\n## ")[0]
    named = set(re.findall(r"`hotreload (\w+)", table))
    assert named == set(hotreload.commands.COMMANDS)


def test_every_code_of_the_table_is_real() -> None:
    table = README.split("## What happens to a build")[1].split("\n## ")[0]
    named = set(re.findall(r"`(E-[A-Z-]+)`", table))
    real = {native.code_text(number) for number in range(64)} | {"E-BUILD"}
    assert named == real - {"ok", "same", "E-UNKNOWN"}


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    assert shutil.which("make")
