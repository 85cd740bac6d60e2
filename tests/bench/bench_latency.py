"""From the final write or link of a build to its code live in a running host: 100 rebuilds a writer.

    python tests/bench/bench_latency.py [--rounds N]

A real host, a real ``hotreload watch``; the build itself is not counted. The clock starts before the last system call
of a rename, a hard link (cargo's way) or a closing write, and for real compilers when the output was last changed (its
ctime). It ends when the host sees the new value. The floor is plain dlopen, dlsym and a call of the same files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "shim" / "include"
SOURCE = """\
#include <hotreload/patch.h>
#include <stdint.h>
static int32_t value(void *state, const void *in, void *out) {{ *(int64_t *)out = {number}; return 0; }}
HR_MODULE("latency", {number}, HR_PATCH("latency.value", value))
"""
FLAGS = ["-shared", "-fPIC", "-O1", "-fvisibility=hidden", "-Wl,-Bsymbolic", "-Wl,--build-id"]
RUST = """\
fn value(_: &mut (), _: &(), out: &mut i64) -> i32 {{ *out = {number}; 0 }}
hotreload::patch_module!("latency", {number}, [("latency.value", value)]);
"""

Write = Callable[[int], int]
"""Brings module ``number`` to the watched directory; returns the ns at which its last change began."""


class Stage:
    """A scratch directory with a host and a watcher running in it.

    Args:
        directory: It.
        source: Of a module, with ``{number}`` in it.
        flags: For the host and the modules.
        options: For the watcher.
    """

    def __init__(
        self, directory: Path, *, source: str = SOURCE, flags: Sequence[str] = (), options: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        self.source = source
        self.flags = flags
        self.out = directory / "out"
        self.program = directory / "latency"
        self.number = 0
        (directory / "run").mkdir(mode=0o700)
        self.out.mkdir(mode=0o755)
        homes = {"RUNTIME_DIR": "run", "STATE_HOME": "state", "CACHE_HOME": "cache"}
        environment = {f"XDG_{name}": str(directory / place) for name, place in homes.items()}
        self.environment = {**os.environ, **environment}
        sources = sorted(map(str, (ROOT / "shim" / "src").glob("*.c")))
        self.compile([str(ROOT / "tests/bench/latency.c"), *sources, "-lpthread", "-ldl"], self.program)
        self.host = subprocess.Popen([self.program, "host"], env=self.environment, stdout=subprocess.PIPE, text=True)
        self.watch = subprocess.Popen(
            [sys.executable, "-m", "hotreload", "watch", self.out, "--json", *options],
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.wait_for("attach")

    def compile(self, arguments: list[str], output: Path) -> None:
        subprocess.run(["cc", "-O2", f"-I{INCLUDE}", *self.flags, *arguments, "-o", output], check=True)

    def wait_for(self, event: str) -> None:
        assert self.watch.stdout
        while f'"event": "{event}"' not in self.watch.stdout.readline():
            pass

    def live(self, number: int) -> int:
        """When the host first ran the number's code, in ns."""
        assert self.host.stdout
        value, when = map(int, self.host.stdout.readline().split())
        assert value == number, f"swapped {value}, written {number}"
        return when

    def end(self) -> None:
        self.watch.terminate()
        self.watch.communicate()
        self.host.kill()
        self.host.communicate()

    def module(self, number: int) -> Path:
        """A module made before the clock starts."""
        source = self.directory / f"{number}.c"
        source.write_text(self.source.format(number=number), encoding="utf-8")
        made = self.directory / f"{number}.so"
        self.compile([*FLAGS, str(source)], made)
        made.chmod(0o755)
        return made

    # ---- writers ----

    def rename(self, number: int) -> int:
        made = self.module(number)
        began = time.monotonic_ns()
        made.rename(self.out / "rename.so")
        return began

    def link(self, number: int) -> int:
        made, output = self.module(number), self.out / "link.so"
        output.unlink(missing_ok=True)
        began = time.monotonic_ns()
        output.hardlink_to(made)
        return began

    def close(self, number: int) -> int:
        data = self.module(number).read_bytes()
        file = os.open(self.out / "close.so", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o755)
        os.write(file, data)
        began = time.monotonic_ns()
        os.close(file)
        return began

    def gcc(self, number: int) -> int:
        source = self.directory / "gcc.c"
        source.write_text(SOURCE.format(number=number), encoding="utf-8")
        self.compile([*FLAGS, str(source)], self.out / "gcc.so")
        return changed(self.out / "gcc.so")

    def cargo(self, number: int) -> int:
        crate = self.directory / "crate"
        if not crate.exists():
            (crate / "src").mkdir(parents=True)
            dependency = f'hotreload = {{ path = "{ROOT / "shim/rust"}", default-features = false }}'
            manifest = '[package]\nname = "latency"\nversion = "0.1.0"\nedition = "2021"\n[workspace]\n'
            manifest += f'[lib]\ncrate-type = ["cdylib"]\n[dependencies]\n{dependency}\n'
            (crate / "Cargo.toml").write_text(manifest, encoding="utf-8")
        (crate / "src/lib.rs").write_text(RUST.format(number=number), encoding="utf-8")
        target = {**os.environ, "CARGO_TARGET_DIR": str(self.directory / "target")}
        # The watched directory is cargo's own: a link to it, made by the first build.
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=crate, env=target, check=True)
        began = time.monotonic_ns()
        output = self.out / "cargo.so"
        output.unlink(missing_ok=True)
        output.hardlink_to(self.directory / "target/release/liblatency.so")
        return began


def changed(path: Path) -> int:
    """The file's last change on the monotonic clock. The kernel stamps it up to one tick (4 ms) early."""
    return path.stat().st_ctime_ns - time.time_ns() + time.monotonic_ns()


def measure(stage: Stage, write: Write, rounds: int) -> list[float]:
    """Milliseconds from the last change to the first call of the new code."""
    row = []
    for _ in range(rounds):
        stage.number += 1
        began = write(stage.number)
        row.append((stage.live(stage.number) - began) / 1e6)
        stage.wait_for("swap")
    return row


def floor(stage: Stage, rounds: int) -> list[float]:
    """Milliseconds of plain dlopen, dlsym and first call, of files of the same make."""
    modules = [str(stage.module(100000 + number)) for number in range(rounds)]
    output = subprocess.run([stage.program, "floor", *modules], check=True, capture_output=True, text=True).stdout
    return [int(line.split()[1]) / 1e6 for line in output.splitlines()]


def show(name: str, row: list[float], base: float) -> None:
    ordered = sorted(row)
    median, p95 = statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]
    print(f"{name:28} {median:8.2f} {p95:8.2f} {ordered[-1]:8.2f} {median / base:9.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    # Short, for the socket's path; not group-writable, or every module would be refused.
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="hr-") as name:
        stage = Stage(Path(name))
        try:
            measure(stage, stage.rename, 3)
            base = floor(stage, rounds)
            median = statistics.median(base)
            print(f"{'ms, ' + str(rounds) + ' rebuilds':28} {'median':>8} {'p95':>8} {'max':>8} {'x floor':>9}")
            show("floor: dlopen, dlsym, call", base, median)
            show("rename", measure(stage, stage.rename, rounds), median)
            show("hard link", measure(stage, stage.link, rounds), median)
            show("closing write", measure(stage, stage.close, rounds), median)
            show("gcc, from ctime", measure(stage, stage.gcc, rounds), median)
            if shutil.which("cargo"):
                show("cargo's cdylib, hard link", measure(stage, stage.cargo, max(5, rounds // 5)), median)
        finally:
            stage.end()


if __name__ == "__main__":
    main()
