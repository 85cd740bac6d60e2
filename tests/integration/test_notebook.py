"""``%load_ext hotreload`` in a real Jupyter kernel, driven as a notebook is, and in a plain IPython shell."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import INCLUDE, MODULE_FLAGS, require_module
from documents import reader_environment
from integration.terminal import Terminal

require_module("nbclient")

PROGRAM = Path(__file__).with_name("notebook_program.py")
SWAPS = 50

BEGIN = """
%load_ext hotreload
import hotreload
import numpy as np
"""

DECLARE = """
@hotreload.slot("kernel.step", signature="double step(double x[], double dt)")
def step(x, dt):
    x += dt
    return x.sum()

x = np.zeros(1000)
address = x.ctypes.data
step(x, 1.0)
"""

SOURCE = """
#include "kernel_step.h"
static double step(double *x, int64_t x_len, double dt) {
    double sum = 0;
    for (int64_t i = 0; i < x_len; i++) sum += x[i] += FACTOR * dt;
    return sum;
}
KERNEL_STEP(step)
HR_MODULE("kernel", FACTOR, HR_PATCH("kernel.step", step_entry))
"""

BUILD = """
import os, subprocess

def build(factor, source="kernel.c", output="build/kernel.so"):
    os.umask(0o022)
    subprocess.run([*COMPILE, f"-DFACTOR={factor}", source, "-o", output], check=True)
"""


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A reader's, whose IPython and Jupyter leave the home directory alone."""
    with tempfile.TemporaryDirectory(prefix="hr-") as runtime:
        own = {"IPYTHONDIR": "ipython", "JUPYTER_RUNTIME_DIR": "jupyter", "JUPYTER_CONFIG_DIR": "config"}
        yield reader_environment(tmp_path, Path(runtime)) | {key: str(tmp_path / name) for key, name in own.items()}


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path, cc: str) -> Callable[[list[str]], list[str]]:
    """Runs cells in a fresh kernel, in a directory with a `build` directory and `kernel.c`; what each cell said."""
    (tmp_path / "build").mkdir()
    (tmp_path / "kernel.c").write_text(SOURCE)
    compile_ = [cc, *MODULE_FLAGS, "-O0", "-I", str(INCLUDE)]

    def run(cells: list[str]) -> list[str]:
        told = [f"COMPILE = {compile_!r}\n{BUILD}", *cells]
        command = [sys.executable, PROGRAM, tmp_path]
        done = subprocess.run(
            command, input=json.dumps(told), env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        outputs: list[str] = json.loads(done.stdout)
        assert outputs[0] == ""
        return outputs[1:]

    return run


def without_later(cell: str) -> str:
    """What a cell has told, but for the events that follow a swap when they do, perhaps a cell later: the first call of
    the new version, and the retirement of the old one when its last caller has left."""
    return "\n".join(line for line in cell.splitlines() if " called " not in line and " retire " not in line)


def test_fifty_swaps_in_a_kernel(run: Callable[[list[str]], list[str]]) -> None:
    """Every cell begins with the newest build; numpy's array is the same object at the same address all the time."""
    cells = [BEGIN, DECLARE, "%hotreload header kernel.step kernel_step.h\n%hotreload watch build"]
    for factor in range(1, SWAPS + 1):
        cells += [f"build({factor})", "step(x, 1.0)"]
    cells += ["x.ctypes.data == address, x.min(), x.max()", "%hotreload status"]
    begin, declared, watched, *rest, state, status = run(cells)
    assert (begin, declared) == ("", "1000.0") and "attach" in watched
    expected = 1
    for factor, built, stepped in zip(range(1, SWAPS + 1), rest[::2], rest[1::2], strict=True):
        expected += factor
        assert without_later(built) == ""
        assert f"kernel.step v{factor - 1}→v{factor}" in stepped and stepped.endswith(f"\n{expected * 1000}.0")
    assert state == f"(True, np.float64({expected}.0), np.float64({expected}.0))"
    assert f"generation {SWAPS}" in status and f"v{SWAPS}" in status and f"kernel v{SWAPS}" in status


def test_what_people_do_in_a_notebook(run: Callable[[list[str]], list[str]]) -> None:
    """Watch before the slot exists, a bad build, roll back, load, errors, the cell that declares run again."""
    told = run(
        [
            BEGIN,
            "%hotreload watch build",
            DECLARE,
            "%hotreload header kernel.step kernel_step.h",
            "build(10)",
            DECLARE,
            "open('build/kernel.so', 'w').write('no module')",
            "step(x, 1.0)",
            "%hotreload rollback",
            "step(x, 1.0)",
            "%hotreload rollback kernel",
            "build(7)\nos.rename('build/kernel.so', 'other.so')\n%hotreload load other.so\nstep(x, 1.0)",
            "%hotreload stop",
            "build(8)",
            "step(x, 0.0)",
            "%hotreload\n%hotreload nonsense",
            "%hotreload watch --nonsense",
            "%hotreload header kernel.nothing",
            "step([1], 1.0)",
            "import threading\nsorted(each.name for each in threading.enumerate() if 'hotreload' in each.name)",
            "%unload_ext hotreload",
        ]
    )
    _, watched, declared, header, built, again, _, after_bad, undone, stepped, nothing, loaded, *rest = told
    assert "attach" in watched and declared == "1000.0" and (header, built) == ("", "")
    assert "kernel.step v0→v1" in again and again.endswith("10000.0"), "the module runs on in the redefined slot"
    assert "REJECT" in after_bad and "E-NOT-ELF" in after_bad and "fix:" in after_bad and after_bad.endswith("20000.0")
    assert undone.startswith("rollback") and stepped.endswith("21000.0")
    assert nothing.startswith("UsageError: E-NO-PREVIOUS")
    assert "swap" in loaded and loaded.endswith("28000.0")
    stopped, built, stepped, usage, watch, unknown, refused, threads, unloaded = rest
    assert "rollback" not in stopped, "what a magic has told is not told again by the session"
    assert (built, stepped) == ("", "28000.0")
    assert usage.count("%hotreload watch PATH...") == 1 and "no such command 'nonsense'" in usage
    assert watch.startswith("UsageError: E-USAGE") and unknown.startswith("UsageError: E-NO-SLOT")
    assert refused == "TypeError: double x[]: the argument is list, which has no buffer"
    assert (threads, unloaded) == ("[]", "")


def test_what_a_cell_has_told_is_told_once(run: Callable[[list[str]], list[str]]) -> None:
    """Load, refusal and roll back by magics while a session watches: no later cell repeats them."""
    later = "import time\ntime.sleep(0.6)  # the session looks at its host four times a second"
    begun, *_, loaded, after_load, refused, after_refusal, undone, after_undo, own = run(
        [
            BEGIN,
            DECLARE,
            "%hotreload header kernel.step kernel_step.h\n%hotreload watch build",
            "build(3, output='other.so')\nopen('bad.so', 'w').write('no module')",
            "%hotreload load other.so",
            later,
            "%hotreload load bad.so",
            later,
            "%hotreload rollback",
            later,
            "build(4)\nget_ipython().events.trigger('pre_run_cell', None)",
        ]
    )
    assert begun == "" and "swap      kernel v3" in loaded and "rollback  kernel v3" in undone
    assert "UsageError: E-NOT-ELF" in refused
    for later_cell in (after_load, after_refusal, after_undo):
        quiet = without_later(later_cell)
        assert "kernel v3" not in quiet and "E-NOT-ELF" not in quiet
    assert "swap      kernel v4" in own, "what the session does itself is told"


def test_watch_builds(run: Callable[[list[str]], list[str]], tmp_path: Path) -> None:
    """``--build``: an edit of the source is all that is needed, and a compile error is shown."""
    make = (
        "cc -shared -fPIC -fvisibility=hidden -Wl,-Bsymbolic kernel.c -o build/kernel.so $(hotreload config --cflags)"
    )
    (tmp_path / "build.sh").write_text(f"umask 022\n{make}\n")
    wait = """
import time
def until(wanted):
    for _ in range(600):
        get_ipython().events.trigger("pre_run_cell", None)
        if step(np.zeros(1), 1.0) == wanted: return wanted
        time.sleep(0.05)
"""
    told = run(
        [
            BEGIN,
            DECLARE,
            "%hotreload header kernel.step kernel_step.h\n"
            "text = open('kernel.c').read()\nopen('kernel.c', 'w').write(text.replace('FACTOR', '3'))",
            wait,
            "%hotreload watch build --build 'sh build.sh'",
            "until(3.0)",
            "open('kernel.c', 'w').write(text.replace('FACTOR', '4'))\nuntil(4.0)",
            "open('kernel.c', 'w').write('#error no such luck')",
            "import io, contextlib, time\nsaid = io.StringIO()\nwith contextlib.redirect_stdout(said):\n"
            "    for _ in range(600):\n"
            "        get_ipython().events.trigger('pre_run_cell', None)\n"
            "        if 'no such luck' in said.getvalue(): break\n"
            "        time.sleep(0.05)\nprint('no such luck' in said.getvalue(), step(np.zeros(1), 1.0))",
        ]
    )
    assert told[5].endswith("3.0") and told[6].endswith("4.0")
    assert told[8].endswith("True 4.0\n")


def test_ipython_without_jupyter(environment: dict[str, str], tmp_path: Path) -> None:
    lines = "%load_ext hotreload\n%hotreload status\n%hotreload load nothing.so\nprint('on')\n"
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--colors=NoColor", "--simple-prompt", "--quick"],
        input=lines, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "ipython  pid" in done.stdout and "on" in done.stdout
    assert "E-IO" in done.stdout + done.stderr


def test_ipython_on_a_terminal(environment: dict[str, str], tmp_path: Path) -> None:
    """Tables keep to its width; what is mistyped is told, with the nearest."""
    declare = DECLARE.partition("x = ")[0]
    (tmp_path / "begin.py").write_text(f"import hotreload\nimport numpy as np\n{declare}")
    command = [sys.executable, "-m", "IPython", "--colors=NoColor", "--simple-prompt", "--quick", "-i", "begin.py"]
    terminal = Terminal(command, 80, 24, environment, cwd=tmp_path)
    try:
        terminal.shows("In [1]:")
        terminal.press("%load_ext hotreload\n")
        terminal.shows("In [2]:")
        terminal.press("%hotreload status\n")
        terminal.shows("In [3]:")
        at = next(number for number, line in enumerate(terminal.lines) if line.startswith("SLOT "))
        assert terminal.lines[at + 1].startswith("kernel.step  v0"), terminal.text
        terminal.press("%hotreload wacth build\n")
        terminal.shows("no such command 'wacth'")
        terminal.shows("write %hotreload watch")
    finally:
        terminal.close()


def test_a_terminal_sees_the_notebook(run: Callable[[list[str]], list[str]]) -> None:
    """`hotreload watch`, `ps` and `slots` find the kernel without anything being asked of it."""
    _, _, listed = run([BEGIN, DECLARE, "!hotreload slots --json"])
    (host,) = json.loads(listed)
    assert host["host"]["name"] == "jupyter"
    assert [(slot["symbol"], slot["calls"]) for slot in host["slots"]] == [("kernel.step", 1)]
