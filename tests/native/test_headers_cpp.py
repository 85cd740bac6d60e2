"""hotreload.hpp: what compiles without a warning, what does not compile and why, and what a program gets of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import cbuild
import pytest

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "shim" / "include"
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror", "-I", str(INCLUDE))
COMPILERS = ("g++", "clang++")
DEFINES = {"on": (), "off": ("-DHOTRELOAD_OFF",), "fenced": ("-DHR_FENCED",), "no-exceptions": ("-fno-exceptions",)}
CASES = [*((defines, "c++17") for defines in DEFINES.values()), ((), "c++20")]

# Everything that needs no exceptions, so that a warning inside a body is seen as well.
EVERYTHING = """
#include <hotreload/hotreload.hpp>
#define COUNTER_FIELDS(F) F(Counter, total, int64_t) F(Counter, calls, int32_t)
HR_STRUCT(Counter, COUNTER_FIELDS)
HOTRELOAD_LAYOUT(Counter, COUNTER_FIELDS)
static int64_t add(Counter &counter, int amount) { return counter.total += amount; }
static double half(const double &x) noexcept { return x / 2; }
static void reset(Counter &counter) { counter = Counter{}; }
static int answer() { return 42; }
static hotreload::status refuse(const Counter &) { return hotreload::status::threw; }
static hotreload::slot<int64_t(Counter &, const int &)> s_add("c.add", hotreload::function<add>);
static hotreload::slot<double(double)> s_half("c.half", hotreload::function<half>);
static hotreload::slot<void(Counter &)> s_reset("c.reset", hotreload::function<reset>);
static hotreload::slot<int()> s_answer("c.answer", hotreload::function<answer>);
static hotreload::slot<hotreload::status(Counter)> s_refuse("c.refuse", hotreload::function<refuse>);
static hotreload::slot<int(int)> s_none("c.none");
int64_t calls(Counter &counter) {
    int64_t total = 0;
    double x = 0;
    int result = 0;
    hotreload::frame tick;
    const bool fine = s_add.try_declare() == HR_OK && s_add.call(&total, counter, 3) == hotreload::status::ok &&
        s_half.call(&x, 2) == hotreload::status::ok && s_reset.call(nullptr, counter) == hotreload::status::ok &&
        s_answer.call(&result) == hotreload::status::ok &&
        s_refuse.call(nullptr, counter) == hotreload::status::threw &&
        s_none.call(&result, 1) == hotreload::status::unresolved &&
        tick.call(s_add, &total, counter, short{1}) == hotreload::status::ok;
    return fine && s_add.raw() && s_add.symbol() ? total : 0;
}
HOTRELOAD_MODULE("counter", 2, hotreload::patch<add>("c.add"), hotreload::patch<answer>("c.answer"))
"""

PROGRAM = """
#include <hotreload/hotreload.hpp>
#include <vector>
struct State { std::vector<int> all; };
static int add(State &state, const int &amount) { state.all.push_back(amount); return (int)state.all.size(); }
static int fragile(int x) { if (x < 0) throw std::runtime_error("below zero"); if (x == 0) throw x; return x; }
static hotreload::status third(int x) { return static_cast<hotreload::status>(x); }
static hotreload::slot<int(State &, int)> s_add("s.add", hotreload::function<add>);
static hotreload::slot<int(int)> s_fragile("s.fragile", hotreload::function<fragile>);
static hotreload::slot<int(int)> s_none("s.none");
static hotreload::slot<hotreload::status(int)> s_third("s.third", hotreload::function<third>);
template <class Slot> static hotreload::status status_of(Slot &slot, int x) {
    try { slot(x); } catch (const hotreload::call_failed &error) {
        if (std::string(error.what()).find(slot.symbol()) == std::string::npos) return hotreload::status::ok;
        return error.status();
    }
    return hotreload::status::ok;
}
int main() {
    State state;
    s_add.declare();
    const int two = 2;
    if (s_add(state, 1) != 1 || s_add(state, two) != 2 || state.all.back() != 2) return 1;
    if (s_fragile(3) != 3 || status_of(s_fragile, -1) != hotreload::status::threw) return 2;
    if (status_of(s_fragile, 0) != hotreload::status::threw) return 3;
    if (status_of(s_none, 1) != hotreload::status::unresolved) return 4;
    if (s_third(5) != static_cast<hotreload::status>(5)) return 5;
    hotreload::frame tick;
    if (tick(s_add, state, 3) != 3 || tick(s_third, 0) != hotreload::status::ok) return 6;
    try { tick(s_fragile, 0); return 7; } catch (const hotreload::call_failed &) {}
    if (tick(s_fragile, 1) != 1) return 8;
    REST
    return 0;
}
"""
REST = """
    try { hotreload::slot<int()> other("s.add"); other.declare(); return 9; } catch (const hotreload::error &error) {
        if (error.code() != "E-DUPLICATE" || error.fix().empty()) return 10;
    }
    try { hotreload::serve(""); return 11; } catch (const hotreload::error &error) {
        if (error.code() != "E-USAGE") return 12;
    }
"""

# What a mistake's first message has to say. Each is completed by RIGHT, which compiles.
RIGHT = """
#include <hotreload/hotreload.hpp>
#include <string>
static int add(long &state, const int &x) { return (int)(state += x); }
static hotreload::slot<int(long &, int)> slot_add("add", hotreload::function<add>);
void use(long &state, const long &fixed) { (void)state, (void)fixed; HERE; }
"""
WRONG = {
    "slot_add(fixed, 1)": "the state is of another type, or const",
    "int other = 0; slot_add(other, 1)": "the state is of another type, or const",
    "slot_add(state)": "another number of arguments",
    "slot_add(state, 1, 2)": "another number of arguments",
    'slot_add(state, "text")': "(invalid|cannot|not allowed)",
    'static hotreload::slot<int(int)> bad("a", hotreload::function<add>)': "the fallback has another type",
    'static hotreload::slot<std::string(int)> bad("a"); bad(1)': "trivially copyable",
    'static hotreload::slot<int(int, int, int)> bad("a"); bad(1, 2, 3)': "put several inputs into a struct",
    'static hotreload::slot<int(int, long &)> bad("a"); bad(1, state)': r"State & comes first",
    "auto copy = slot_add": "(deleted|delete)",
    "hotreload::frame one; hotreload::frame two = one": "(deleted|delete)",
    "auto *made = new hotreload::frame": "(deleted|delete)",
    "hotreload::frame{}": "nodiscard",
    "int out; slot_add.call(&out, state, 1)": "nodiscard",
}

RequireTool = Callable[..., Path]


def compile_(
    compiler: Path, directory: Path, text: str, *flags: str, libraries: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    source = directory / "source.cpp"
    source.write_text(text, encoding="utf-8")
    command = [compiler, *STRICT, *flags, source, *libraries]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("defines", "standard"), CASES)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_everything_compiles(
    compiler: str, standard: str, defines: tuple[str, ...], tmp_path: Path, require_tool: RequireTool
) -> None:
    text = "#include <hotreload/hotreload.hpp>\n" + EVERYTHING
    done = compile_(require_tool(compiler), tmp_path, text, f"-std={standard}", "-O2", *defines, "-c")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("off", [True, False], ids=["off", "on"])
def test_a_program(compiler: str, off: bool, tmp_path: Path, require_tool: RequireTool) -> None:
    """With HOTRELOAD_OFF nothing is linked; else it is the shim."""
    flags = ["-std=c++17", "-o", "program"]
    libraries: list[str] = []
    if off:
        flags.append("-DHOTRELOAD_OFF")
    else:
        libraries = [str(cbuild.build_shim(tmp_path / "shim").archive), *cbuild.LIBRARIES]
    text = PROGRAM.replace("REST", "" if off else REST)
    done = compile_(require_tool(compiler), tmp_path, text, *flags, libraries=libraries)
    assert done.returncode == 0, done.stderr
    ran = subprocess.run([tmp_path / "program"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{ran.returncode}\n{ran.stderr}"
    assert ran.stderr.count("threw: below zero") == 1, "what an exception said is not lost"


@pytest.mark.parametrize("compiler", COMPILERS)
def test_off_is_a_direct_call(compiler: str, tmp_path: Path, require_tool: RequireTool) -> None:
    text = """#include <hotreload/hotreload.hpp>
        int fallback(int);
        static hotreload::slot<int(int)> slot("s", hotreload::function<fallback>);
        int run(int x) {
            hotreload::frame tick;
            int out = 0;
            (void)slot.call(&out, x), (void)tick.call(slot, &out, out);
            return out;
        }
    """
    for flags, direct in ((("-DHOTRELOAD_OFF",), True), ((), False)):
        flags = (*flags, "-std=c++17", "-O2", "-fno-exceptions", "-c", "-o", "source.o")
        done = compile_(require_tool(compiler), tmp_path, text, *flags)
        assert done.returncode == 0, done.stderr
        command = [require_tool("objdump"), "--disassemble", "--reloc", tmp_path / "source.o"]
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert bool(re.search(r"R_\S+\s+\S*fallback", code))
        assert bool(re.search(r"\b(call|jmp)q?\s+\*", code)) is not direct
        assert bool(re.search(r"R_\w+\s+hr_", code)) is not direct


def test_mistakes_say_what_is_wrong(tmp_path: Path, require_tool: RequireTool) -> None:
    found = require_tool("g++")
    flags = ("-std=c++17", "-fsyntax-only")
    right = compile_(found, tmp_path, RIGHT.replace("HERE", "slot_add(state, 1)"), *flags)
    assert right.returncode == 0, right.stderr
    for wrong, about in WRONG.items():
        done = compile_(found, tmp_path, RIGHT.replace("HERE", wrong), *flags)
        assert done.returncode != 0, wrong
        assert re.search(about, done.stderr), f"{wrong}\n{done.stderr}"


def test_it_refuses_older_standards(tmp_path: Path, require_tool: RequireTool) -> None:
    done = compile_(require_tool("g++"), tmp_path, "#include <hotreload/hotreload.hpp>", "-std=c++14", "-fsyntax-only")
    assert done.returncode != 0 and "needs C++17" in done.stderr
