"""The public headers compile as C11 and C++17 without a warning, and HOTRELOAD_OFF leaves nothing but direct calls."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "shim" / "include"
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", str(INCLUDE))
COMPILERS = (("gcc", "c11"), ("clang", "c11"), ("g++", "c++17"), ("clang++", "c++17"))

# slot.h and off.h are parts of hotreload.h and say so.
PARTS = {"slot.h", "off.h"}
HEADERS = sorted(path.name for path in (INCLUDE / "hotreload").glob("*.h") if path.name not in PARTS)

# Uses everything inline, so that a warning inside a body is seen as well.
HOST = """
#include <hotreload/hotreload.h>
int32_t fallback(void *state, const void *input, void *output);
static hr_slot slot = HR_SLOT("counter.add", fallback);
int32_t run(void *state, int input) {
    hr_frame frame = hr_frame_begin();
    int32_t sum = hr_frame_call(&frame, &slot, state, &input, 0);
    hr_frame_end(&frame);
    hr_safepoint();
    return sum + hr_call(&slot, state, &input, 0);
}
int start(void *state) {
    hr_set_context(0, state);
    return hr_configure(0) == HR_OK && hr_declare(0, &slot) == HR_OK && hr_serve(0, "host", 0, 0) == HR_OK;
}
int wait(void) { return hr_poll(0); }
void end(void) { hr_stop(); }
"""

MODULE = """
#include <hotreload/patch.h>
static int32_t add(void *state, const void *input, void *output) {
    (void)state; (void)input; (void)output;
    return 7;
}
HR_MODULE("counter", 2, HR_PATCH("counter.add", add))
"""

# At -O0 too: what a debug build of a host calls must be there.
PROGRAM = """
#include <hotreload/hotreload.h>
static int32_t add(void *state, const void *input, void *output) {
    (void)output;
    return *(int *)state += *(const int *)input;
}
static hr_slot slot = HR_SLOT("counter.add", add);
static hr_slot empty = HR_SLOT("counter.none", 0);
int main(void) {
    int state = 40, input = 1;
    if (hr_declare(0, &slot) != HR_OK || hr_serve(0, "host", 0, 0) != HR_OK) return 1;
    hr_frame frame = hr_frame_begin();
    hr_frame_call(&frame, &slot, &state, &input, 0);
    hr_frame_end(&frame);
    hr_safepoint();
    if (hr_call(&empty, 0, 0, 0) != HR_UNRESOLVED) return 2;
    hr_call(&slot, &state, &input, 0);
    hr_stop();
    return state == 42 && hr_poll(0) == 0 ? 0 : 3;
}
"""

RequireTool = Callable[..., Path]
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Returns ``run(*command)``: the standard output of a command that must succeed, run in ``tmp_path``."""

    def command(*words: str | Path) -> str:
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}"
        return done.stdout

    return command


def write(directory: Path, text: str, standard: str) -> Path:
    source = directory / ("source.cpp" if standard.startswith("c++") else "source.c")
    source.write_text(text, encoding="utf-8")
    return source


@pytest.mark.parametrize("defines", [(), ("-DHOTRELOAD_OFF",), ("-DHR_FENCED",)], ids=["on", "off", "fenced"])
@pytest.mark.parametrize(("compiler", "standard"), COMPILERS)
@pytest.mark.parametrize("header", HEADERS)
def test_header_alone(
    header: str,
    compiler: str,
    standard: str,
    defines: tuple[str, ...],
    tmp_path: Path,
    require_tool: RequireTool,
    run: Run,
) -> None:
    source = write(tmp_path, f"#include <hotreload/{header}>\n#include <hotreload/{header}>\n", standard)
    run(require_tool(compiler), f"-std={standard}", *STRICT, *defines, "-fsyntax-only", source)


@pytest.mark.parametrize("defines", [(), ("-DHOTRELOAD_OFF",), ("-DHR_FENCED",)], ids=["on", "off", "fenced"])
@pytest.mark.parametrize("level", ["-O0", "-O2"])
@pytest.mark.parametrize(("compiler", "standard"), COMPILERS)
@pytest.mark.parametrize("text", [HOST, MODULE], ids=["host", "module"])
def test_use_of_everything_inline(
    text: str,
    compiler: str,
    standard: str,
    level: str,
    defines: tuple[str, ...],
    tmp_path: Path,
    require_tool: RequireTool,
    run: Run,
) -> None:
    source = write(tmp_path, text, standard)
    run(require_tool(compiler), f"-std={standard}", *STRICT, level, *defines, "-c", source, "-o", "source.o")


@pytest.mark.parametrize(("compiler", "standard"), COMPILERS)
def test_off_is_a_direct_call(
    compiler: str, standard: str, tmp_path: Path, require_tool: RequireTool, run: Run
) -> None:
    disassembly = compiled(HOST, ("-DHOTRELOAD_OFF",), compiler, standard, tmp_path, require_tool, run)
    assert re.search(r"R_\S+\s+\S*fallback", disassembly), "the fallback is named by the call itself"
    assert not re.search(r"\b(call|jmp)q?\s+\*", disassembly), disassembly
    assert "hr_" not in references(disassembly)


def test_on_is_not_a_direct_call(tmp_path: Path, require_tool: RequireTool, run: Run) -> None:
    """The test above would find an indirect call and the shim's names if there were any."""
    disassembly = compiled(HOST, (), "gcc", "c11", tmp_path, require_tool, run)
    assert re.search(r"\b(call|jmp)q?\s+\*", disassembly)
    assert "hr_" in references(disassembly)


def compiled(
    text: str,
    defines: tuple[str, ...],
    compiler: str,
    standard: str,
    directory: Path,
    require_tool: RequireTool,
    run: Run,
) -> str:
    source = write(directory, text, standard)
    output = directory / "source.o"
    flags = (f"-std={standard}", *STRICT, "-O2", "-fno-asynchronous-unwind-tables", "-fcf-protection=none")
    run(require_tool(compiler), *flags, *defines, "-c", source, "-o", output)
    return run(require_tool("objdump"), "--disassemble", "--reloc", "--section=.text", output)


def references(disassembly: str) -> str:
    """The relocations: every name that the code refers to."""
    return "\n".join(line for line in disassembly.splitlines() if re.search(r"\bR_\w+", line))


@pytest.mark.parametrize("level", ["-O0", "-O2"])
@pytest.mark.parametrize(("compiler", "standard"), COMPILERS)
def test_off_needs_nothing_linked(
    compiler: str, standard: str, level: str, tmp_path: Path, require_tool: RequireTool, run: Run
) -> None:
    source = write(tmp_path, PROGRAM, standard)
    program = tmp_path / "program"
    flags = (f"-std={standard}", *STRICT, level, "-DHOTRELOAD_OFF")
    run(require_tool(compiler), *flags, source, "-o", program)
    run(program)


def test_prototypes_have_c_linkage(tmp_path: Path, require_tool: RequireTool, run: Run) -> None:
    """A C++ host links with the shim: no name that it refers to is mangled."""
    text = "".join((INCLUDE / "hotreload" / name).read_text(encoding="utf-8") for name in HEADERS)
    names = sorted(set(re.findall(r"^(?!typedef|static)\w[\w *]*\b(hr_\w+)\(", text, flags=re.MULTILINE)))
    assert {"hr_status_code", "hr_preflight", "hr_load", "hr_box_open"} <= set(names)
    includes = "".join(f"#include <hotreload/{name}>\n" for name in HEADERS)
    uses = ", ".join(f"reinterpret_cast<void *>({name})" for name in names)
    source = write(tmp_path, f"{includes}void *all[] = {{{uses}}};\n", "c++17")
    output = tmp_path / "source.o"
    run(require_tool("g++"), "-std=c++17", *STRICT, "-c", source, "-o", output)
    undefined = {line.split()[-1] for line in run(require_tool("nm"), "--undefined-only", output).splitlines()}
    assert set(names) <= undefined


def test_parts_refuse_to_be_included_alone(tmp_path: Path, require_tool: RequireTool) -> None:
    source = write(tmp_path, "#include <hotreload/slot.h>\n", "c11")
    done = subprocess.run(
        [require_tool("gcc"), *STRICT, "-fsyntax-only", source], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "include <hotreload/hotreload.h>" in done.stderr
