"""A host in C++ (hotreload.hpp) and modules in C++ under ``hotreload watch``: swaps, frames, exceptions, its state."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cbuild
import pytest
from conftest import INCLUDE, MODULE_FLAGS, RequireTool
from documents import reader_environment

HERE = Path(__file__).resolve().parent
FLAGS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", str(INCLUDE), "-I", str(HERE))

MODULE = """
#include "counter.hpp"
#include <vector>
static int64_t add(Counter &counter, Step step) { return counter.total += FACTOR * step.amount; }
static int64_t check(const int64_t &sum) {
    std::vector<int64_t> seen{sum};
    if (FACTOR == 100) throw std::out_of_range("a hundred is too much");
    return seen.at(0);
}
HOTRELOAD_MODULE("counter", FACTOR, hotreload::patch<add>("counter.add"), hotreload::patch<check>("counter.check"))
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cbuild.build_shim(tmp_path_factory.mktemp("shim")).archive


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, shim: Path, cxx: str) -> Path:
    program = tmp_path_factory.mktemp("host") / "host"
    command = [cxx, *FLAGS, HERE / "host.cpp", shim, "-o", program, "-lpthread", "-ldl"]
    subprocess.run(command, check=True)
    return program


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="hr-") as runtime:
        yield reader_environment(tmp_path, Path(runtime))


class Ticks:
    """The host's lines, read as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.sums: list[int] = []
        self.names: set[str] = set()

    def until(self, step: int, said: str) -> None:
        """Reads on until the sum grew by ``step`` in a tick whose check said that."""
        assert self._process.stdout
        for _ in range(3000):
            number, word, name = self._process.stdout.readline().split()
            self.sums.append(int(number))
            self.names.add(name)
            if len(self.sums) > 1 and self.sums[-1] - self.sums[-2] == step and word == said:
                return
        pytest.fail(f"never by {step} and {said}: {self.sums[-9:]}")


def build(cxx: str, factor: int, directory: Path, *flags: str) -> None:
    source = directory / "module.cpp"
    source.write_text(MODULE)
    output = directory / "out" / "counter.so"
    output.parent.mkdir(exist_ok=True)
    draft = directory / "counter.so"
    subprocess.run([cxx, *FLAGS, *MODULE_FLAGS, f"-DFACTOR={factor}", *flags, source, "-o", draft], check=True)
    draft.chmod(0o755)
    draft.rename(output)


def test_a_host_in_cpp(
    host: Path, cxx: str, environment: dict[str, str], tmp_path: Path, require_tool: RequireTool
) -> None:
    (tmp_path / "out").mkdir()
    with subprocess.Popen(
        [host], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        ticks = Ticks(running)
        ticks.until(1, "unresolved")
        command = [sys.executable, "-m", "hotreload", "watch", str(tmp_path / "out"), "--json"]
        watch = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            build(cxx, 10, tmp_path)
            ticks.until(10, "good")
            build(cxx, 100, tmp_path)
            ticks.until(100, "threw")
            build(cxx, 500, tmp_path, "-DAMOUNT=int32_t")
            ticks.until(100, "threw")
            build(cxx, 1000, tmp_path)
            ticks.until(1000, "good")
        finally:
            watch.terminate()
            told = [json.loads(line) for line in watch.communicate()[0].splitlines()]
            running.kill()
            errors = running.communicate()[1]
    swaps = [each for each in told if each["event"] == "swap"]
    assert [each["module"]["version"] for each in swaps] == [10, 100, 1000]
    assert {slot["symbol"] for slot in swaps[0]["slots"]} == {"counter.add", "counter.check"}
    (refused,) = [each for each in told if each["event"] == "reject"]
    assert refused["code"] == "E-LAYOUT" and "Step.amount" in refused["reason"] and refused["module"]["version"] == 500
    steps = {after - before for before, after in zip(ticks.sums, ticks.sums[1:], strict=False)}
    assert steps == {1, 10, 100, 1000} and len(ticks.names) == 1, "its state, a std::string too, was never lost"
    assert "threw: a hundred is too much" in errors


GUARDED = """
#include <hotreload/hotreload.hpp>
#include <cstdio>
struct Counter { int64_t total; uint32_t calls; };
static int64_t add(Counter &counter, int64_t amount) {
    counter.calls++;
    return counter.total += amount;
}
static hotreload::slot<int64_t(Counter &, int64_t)> counter_add("counter.add", hotreload::function<add>);
int main(int, char **arguments) {
    try {
        counter_add.guard_state();
    } catch (const hotreload::error &error) {
        std::printf("%s\\n", error.code().c_str());
    }
    counter_add.declare();
    counter_add.guard_state();
    hr_options options{};
    options.flags = HR_OPTION_GUARD;
    Counter counter{};
    if (hr_set_options(&options) != HR_OK || counter_add(counter, 5) != 5) return 1;
    if (hr_load(nullptr, arguments[1], nullptr) != HR_OK) return 2;
    const int64_t total = counter_add(counter, 2);
    std::printf("%d %d %u\\n", int(total), int(counter.total), counter.calls);
}
"""
CRASHING = """
#include <hotreload/hotreload.hpp>
struct Counter { int64_t total; uint32_t calls; };
static int64_t add(Counter &counter, int64_t amount) {
    counter = {-amount, 99};
    volatile int *volatile nowhere = nullptr;
    *nowhere = 1;
    return -1;
}
HOTRELOAD_MODULE("counter", 1, hotreload::patch<add>("counter.add"))
"""


def test_a_crash_leaves_the_calls_own_state_as_it_was(
    cxx: str, shim: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """The guard's copy, told of by the typed slot: the fallback answers the very same call, on the state of before."""
    tmp_path.chmod(0o755)
    for name, source in (("host", GUARDED), ("module", CRASHING)):
        (tmp_path / f"{name}.cpp").write_text(source)
    program, module = tmp_path / "host", tmp_path / "module.so"
    subprocess.run([cxx, *FLAGS, tmp_path / "host.cpp", shim, "-o", program, "-lpthread", "-ldl"], check=True)
    subprocess.run([cxx, *FLAGS, *MODULE_FLAGS, tmp_path / "module.cpp", "-o", module], check=True)
    module.chmod(0o755)
    done = subprocess.run([program, module], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["E-NO-SLOT", "7 7 2"]
