"""Types in Zig, read off at compile time by a project's own layout.zig: what is refused, and what is the same in C."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import INCLUDE, MODULE_FLAGS, ROOT, RequireTool, compile_to
from integration.harness import Bench, Process

from hotreload import native
from hotreload.model import LayoutRow, Manifest

ZIG = (sys.executable, "-m", "ziglang") if find_spec("ziglang") else ("zig",)
COMMON = ROOT / "templates" / "zig" / "common" / "src"

TYPES = """\
pub const Wave = enum(c_int) { sine, saw = 5 };
pub const Point = extern struct { x: f32, y: f32 };
pub const Number = extern union { whole: i64, real: f64 };
pub const Voice = extern struct {
    gain: f32,
    on: bool,
    letter: c_char,
    taps: [2][3]u16,
    at: [2]Point,
    wave: Wave,
    number: Number,
    next: ?*Voice,
    name: [*:0]const u8,
};
"""
SAME_IN_C = """\
#include <stdbool.h>
#include <hotreload/patch.h>
typedef enum Wave { sine, saw = 5 } Wave;
#define WAVE(V) V(sine) V(saw)
HR_LAYOUT_ENUM(Wave, WAVE)
#define POINT(F) F(Point, x, float) F(Point, y, float)
HR_STRUCT(Point, POINT)
HR_LAYOUT(Point, POINT)
typedef union Number { int64_t whole; double real; } Number;
#define NUMBER(F) F(Number, whole, int64_t) F(Number, real, double)
HR_LAYOUT_UNION(Number, NUMBER)
#define VOICE(F) F(Voice, gain, float) F(Voice, on, bool) F(Voice, letter, char) F(Voice, taps, uint16_t, [2][3]) \\
    F(Voice, at, Point, [2]) F(Voice, wave, Wave) F(Voice, number, Number) F(Voice, next, Voice *) \\
    F(Voice, name, const char *)
HR_STRUCT(Voice, VOICE)
HR_LAYOUT(Voice, VOICE)
static int32_t tick(void *state, const void *in, void *out) { (void)in, (void)out; return state == 0; }
HR_MODULE("synth", 1, HR_PATCH("synth.tick", tick))
HR_MODULE_LAYOUT(HR_TYPE(Point) HR_TYPE(Number) HR_TYPE(Wave), HR_TAKES("synth.tick", Voice, void, float))
"""
MODULE = """\
const hotreload = @import("hotreload.zig");
const t = @import("types.zig");
pub const panic = hotreload.panic;
fn tick(voice: *t.Voice, _: *const void, out: *f32) i32 {
    out.* = voice.gain;
    return 0;
}
const patches = [_]hotreload.Patch{hotreload.patch("synth.tick", tick)};
export const HOTPATCH_MODULE_V1 = hotreload.module("synth", 1, &patches);
export const HOTPATCH_LAYOUT_V1 = hotreload.layout(&patches);
"""
EDITS = {
    "field in front": ("    gain: f32", "    id: u32,\n    gain: f32", {"Voice.id added", "Voice.gain moved"}),
    "another number": ("{ x: f32,", "{ x: i32,", {"Point.x retyped"}),
    "array of other bounds": ("[2][3]u16", "[3][2]u16", {"Voice.taps retyped"}),
    "in a struct inside": ("x: f32, y: f32", "y: f32, x: f32", {"Point.x moved", "Point.y moved"}),
    "pointer to another type": ("?*Voice", "?*Point", {"Voice.next retyped"}),
    "value of an enum": ("saw = 5", "saw = 6", {"Wave.saw moved"}),
    "member of a union": ("real: f64", "real: u64", {"Number.real retyped"}),
    "bits of a packed struct": ("on: bool", "on: Bits", {"Voice.on retyped"}),
}
BITS = "pub const Bits = packed struct(u8) { low: u3, high: u5 };\n"


@pytest.fixture(autouse=True)
def zig(require_tool: RequireTool) -> None:
    if ZIG == ("zig",):  # which may have come as a Python package
        require_tool("zig")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Builds a module with these types, as the template's files describe them."""
    place = tmp_path_factory.mktemp("zig")
    place.chmod(0o755)
    for name in ("hotreload.zig", "layout.zig"):
        (place / name).write_text((COMMON / name).read_text())
    (place / "patch.zig").write_text(MODULE)
    known: dict[str, Path] = {}

    def build(types: str) -> Path:
        if types not in known:
            (place / "types.zig").write_text(types)
            output = place / f"{len(known)}.so"
            words = ["build-lib", "-dynamic", "--cache-dir", place / "cache", f"-femit-bin={output}", "patch.zig"]
            run([*ZIG, *words], place)
            output.chmod(0o755)
            known[types] = output
        return known[types]

    return build


def run(words: list[str | Path], place: Path) -> None:
    done = subprocess.run([str(word) for word in words], cwd=place, capture_output=True, text=True, umask=0o022)
    assert done.returncode == 0, done.stderr


def layout_of(path: Path) -> bytes:
    found = native.inspect(path)
    assert isinstance(found, Manifest) and found.layout, found
    return found.layout


def changed(one: Path, other: Path) -> set[str]:
    rows: tuple[LayoutRow, ...] = tuple(native.compare(layout_of(one), layout_of(other)).rows)
    return {f"{row.type}.{row.field} {' '.join(row.changes)}" for row in rows if row.changes and row.refused}


def test_types_are_those_of_the_same_in_c(built: Callable[[str], Path], tmp_path: Path, cc: str) -> None:
    source = tmp_path / "same.c"
    source.write_text(SAME_IN_C)
    same = compile_to(tmp_path / "same.so", [cc, *MODULE_FLAGS, "-I", INCLUDE, source])
    found = native.compare(layout_of(same), layout_of(built(TYPES)))
    assert not found.refused and found.types == 5 and found.slots == 1, found.rows
    assert not any(row.changes for row in found.rows)


@pytest.mark.parametrize("edit", EDITS)
def test_edits_are_told_field_by_field(edit: str, built: Callable[[str], Path]) -> None:
    old, new, expected = EDITS[edit]
    assert TYPES.count(old) == 1
    assert expected <= changed(built(TYPES), built(TYPES.replace(old, new) + BITS))


def test_bits_of_a_packed_struct_are_told(built: Callable[[str], Path]) -> None:
    types = TYPES.replace("on: bool", "on: Bits") + BITS
    turned = types.replace("low: u3, high: u5", "high: u5, low: u3")
    assert changed(built(types), built(turned)) == {"Bits.low retyped", "Bits.high retyped"}


def test_what_has_no_fixed_layout_does_not_compile(built: Callable[[str], Path]) -> None:
    with pytest.raises(AssertionError, match="Voice has no fixed layout: make it extern"):
        built(TYPES.replace("Voice = extern struct", "Voice = struct"))


@pytest.fixture
def project(bench: Bench) -> Path:
    assert bench.call("new", "first", "--lang", "zig").code == 0
    return bench.work / "first"


def test_a_module_of_another_struct_is_refused_by_its_host(project: Path, bench: Bench) -> None:
    """The host's debug info is not needed, and nothing of the module runs."""
    run([*ZIG, "build"], project)
    host = Process([project / "zig-out/bin/first-host"], bench.environment(), bench.work)
    bench.started.append(host)
    host.output.find(lambda line: "step=+1 " in line)
    kept = project / "first.so"
    os.link(project / "zig-out/lib/libfirst.so", kept)
    state = project / "src/state.zig"
    state.write_text(state.read_text().replace("count: i64 = 0", "id: u32 = 0,\n    count: i64 = 0"))
    run([*ZIG, "build"], project)
    edited = project / "zig-out/lib/libfirst.so"
    done = bench.call("load", edited)
    assert done.code == 3 and "E-LAYOUT" in done.out and "State.id added, State.count moved" in done.out
    done = bench.call("inspect", edited, "--against", "first")
    assert done.code == 3 and "id" in done.out and "debug info" not in done.out
    assert bench.call("load", kept).code == 0
    host.output.find(lambda line: "step=+10 " in line)
