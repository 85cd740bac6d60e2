"""describe.h: its macros say what the compiler laid out, in C and C++, and a list that lies does not compile."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", str(ROOT / "shim" / "include"))
COMPILERS = (("gcc", "c11"), ("clang", "c11"), ("g++", "c++17"), ("clang++", "c++17"))

RequireTool = Callable[..., Path]

# Every kind of field; TAPS shows that bounds may be macros.
SHARED = """
#define TAPS 16
typedef enum Wave { WAVE_SINE, WAVE_SAW = 4, WAVE_LOW = -1 } Wave;
#define WAVE_VALUES(V) V(WAVE_SINE) V(WAVE_SAW) V(WAVE_LOW)
HR_LAYOUT_ENUM(Wave, WAVE_VALUES)

typedef union Number { float f; uint32_t u; double d; } Number;
#define NUMBER_FIELDS(F) F(Number, f, float) F(Number, u, uint32_t) F(Number, d, double)
HR_LAYOUT_UNION(Number, NUMBER_FIELDS)

#define ENVELOPE_FIELDS(F) F(Envelope, level, float) F(Envelope, stage, uint8_t)
HR_STRUCT(Envelope, ENVELOPE_FIELDS)
HR_LAYOUT(Envelope, ENVELOPE_FIELDS)

typedef void (*Callback)(int);
#define VOICE_FIELDS(F)                       \\
    F(Voice, phase, double)                   \\
    F(Voice, on, bool)                        \\
    F(Voice, wave, Wave)                      \\
    F(Voice, number, Number)                  \\
    F(Voice, envelope, Envelope, [2])         \\
    F(Voice, taps, float, [TAPS])             \\
    F(Voice, grid, short, [2][3])             \\
    F(Voice, next, struct Voice *)            \\
    F(Voice, done, Callback)                  \\
    F(Voice, spare, hr_reserve, [24])
HR_STRUCT(Voice, VOICE_FIELDS)
HR_LAYOUT(Voice, VOICE_FIELDS)
"""

PROGRAM = """
#include <stdbool.h>
#include <stdio.h>
#include <hotreload/hotreload.h>
#include <hotreload/patch.h>
%s
static int32_t run(void *state, const void *in, void *out) { (void)state; (void)in; (void)out; return 0; }
static int32_t grow(void *host, const void *from, void *to) { (void)host; (void)from; (void)to; return 0; }
HR_MODULE("synth", 1, HR_PATCH("synth.tick", run))
HR_MODULE_LAYOUT(HR_TYPE(Envelope) HR_TYPE(Number) HR_TYPE(Wave), HR_TAKES("synth.tick", Voice, hr_unchecked, void),
                 HR_TAKES("synth.gain", Voice, float, bool))
HR_HOST_LAYOUT(old, HR_TYPE(Voice), HR_TAKES("", Voice, void, void))
HR_MODULE_MIGRATIONS(HR_MIGRATION("Voice", &old, 0, grow))

static void show(const hr_layout_type_v1 *type) {
    printf("{\\"name\\":\\"%%s\\",\\"size\\":%%zu,\\"align\\":%%u,\\"kind\\":%%u,\\"fields\\":[", type->name,
           (size_t)type->size, type->align, type->kind);
    for (uint32_t i = 0; i < type->field_count; i++)
        printf("%%s[\\"%%s\\",\\"%%s\\",%%lld,%%zu]", i ? "," : "", type->fields[i].name, type->fields[i].type,
               (long long)type->fields[i].offset, (size_t)type->fields[i].size);
    printf("]}");
}

int main(void) {
    const hr_layout_v1 *all = &HOTPATCH_LAYOUT_V1;
    if (all->magic != HR_LAYOUT_MAGIC_V1 || all->struct_size != HR_LAYOUT_STRUCT_SIZE_V1) return 1;
    if (sizeof *all != HR_LAYOUT_STRUCT_SIZE_V1 || sizeof(hr_layout_field_v1) != 48) return 2;
    if (sizeof(hr_layout_type_v1) != 40 || sizeof(hr_layout_entry_v1) != 32) return 3;
    if (HOTPATCH_MIGRATE_V1.struct_size != HR_MIGRATE_STRUCT_SIZE_V1 || sizeof(hr_migration_v1) != 32) return 4;
    if (all->entry_count != 2 || all->entries[0].input->kind != HR_TYPE_UNCHECKED) return 5;
    if (all->entries[0].output->kind != HR_TYPE_VOID || all->entries[1].output->size != 1) return 6;
    if (HOTPATCH_MIGRATE_V1.migration_count != 1 || old.type_count != 1) return 7;
    printf("[");
    for (uint32_t i = 0; i < all->type_count; i++) {
        show(all->types[i]);
        printf(",");
    }
    show(all->entries[0].state);
    printf("]\\n");
    return 0;
}
"""


def build(text: str, compiler: str, standard: str, directory: Path, *more: str) -> subprocess.CompletedProcess[str]:
    source = directory / ("source.cpp" if standard.startswith("c++") else "source.c")
    source.write_text(text, encoding="utf-8")
    command = [compiler, f"-std={standard}", *FLAGS, *more, str(source), "-o", str(directory / "program")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("compiler", "standard"), COMPILERS)
def test_descriptions(compiler: str, standard: str, tmp_path: Path, require_tool: RequireTool) -> None:
    compiler = str(require_tool(compiler))
    built = build(PROGRAM % SHARED, compiler, standard, tmp_path, "-DHOTRELOAD_OFF")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    found: dict[str, Any] = {each["name"]: each for each in json.loads(done.stdout)}
    assert list(found) == ["Envelope", "Number", "Wave", "Voice"]
    assert found["Wave"]["kind"] == 3
    assert found["Wave"]["fields"] == [
        ["WAVE_SINE", "", 0, 0],
        ["WAVE_SAW", "", 4, 0],
        ["WAVE_LOW", "", -1, 0],
    ]
    assert found["Number"]["kind"] == 2 and found["Number"]["size"] == 8
    assert [field[2] for field in found["Number"]["fields"]] == [0, 0, 0]
    assert found["Envelope"]["fields"] == [["level", "float", 0, 4], ["stage", "uint8_t", 4, 1]]
    voice = found["Voice"]
    assert (voice["size"], voice["align"], voice["kind"]) == (160, 8, 1)
    boolean = "bool" if standard.startswith("c++") else "_Bool"
    assert voice["fields"] == [
        ["phase", "double", 0, 8],
        ["on", boolean, 8, 1],
        ["wave", "Wave", 12, 4],
        ["number", "Number", 16, 8],
        ["envelope", "Envelope[2]", 24, 16],
        ["taps", "float[16]", 40, 64],
        ["grid", "short[2][3]", 104, 12],
        ["next", "struct Voice *", 120, 8],
        ["done", "Callback", 128, 8],
        ["spare", "hr_reserve[24]", 136, 24],
    ]


# (struct, list, what the compiler says, or None where it is right)
LISTS = {
    "right": ("float a; int b;", "F(S, a, float) F(S, b, int)", None),
    "wrong type of the same size": ("float a; int b;", "F(S, a, float) F(S, b, float)", "S.b is no float"),
    "signedness": ("float a; int b;", "F(S, a, float) F(S, b, unsigned)", "S.b is no unsigned"),
    "bounds": ("float a[4]; int b;", "F(S, a, float, [3]) F(S, b, int)", "S.a is no float"),
    "pointer": ("char *a; int b;", "F(S, a, int *) F(S, b, int)", "S.a is no int *"),
    "left out at the end": ("float a; int b;", "F(S, a, float)", "its list leaves some fields out"),
    "left out in the middle": (
        "float a; int c; int b;",
        "F(S, a, float) F(S, b, int)",
        "its list leaves some fields out",
    ),
    "another order": ("float a; int b;", "F(S, b, int) F(S, a, float)", "is elsewhere in the struct"),
    "no such field": ("float a;", "F(S, b, float)", ""),
}


@pytest.mark.parametrize("case", LISTS)
@pytest.mark.parametrize(("compiler", "standard"), [("gcc", "c11"), ("g++", "c++17")])
def test_a_list_that_lies_does_not_compile(
    case: str, compiler: str, standard: str, tmp_path: Path, require_tool: RequireTool
) -> None:
    body, fields, error = LISTS[case]
    text = f"""#include <hotreload/describe.h>
typedef struct S {{ {body} }} S;
#define FIELDS(F) {fields}
HR_LAYOUT(S, FIELDS)
"""
    built = build(text, str(require_tool(compiler)), standard, tmp_path, "-fsyntax-only")
    assert (built.returncode == 0) == (error is None), built.stderr
    assert (error or "") in built.stderr


def test_a_class_without_standard_layout_does_not_compile(tmp_path: Path, require_tool: RequireTool) -> None:
    text = """#include <hotreload/describe.h>
struct S { virtual ~S(); float a; };
#define FIELDS(F) F(S, a, float)
HR_LAYOUT_PARTIAL(S, FIELDS)
"""
    built = build(text, str(require_tool("g++")), "c++17", tmp_path, "-fsyntax-only")
    assert built.returncode != 0
    assert "only standard-layout types" in built.stderr


@pytest.mark.parametrize(("compiler", "standard"), COMPILERS)
def test_partial_lists(compiler: str, standard: str, tmp_path: Path, require_tool: RequireTool) -> None:
    """Packed structs and bit-fields: what has an address is listed, and checked field by field."""
    text = """#include <hotreload/describe.h>
typedef struct __attribute__((packed)) S { char a; unsigned bits : 3; double b; } S;
#define FIELDS(F) F(S, a, char) F(S, b, double)
HR_LAYOUT_PARTIAL(S, FIELDS)
HR_STATIC_ASSERT(HR_OFFSET_OF(S, b) == 2, "packed");
"""
    built = build(text, str(require_tool(compiler)), standard, tmp_path, "-fsyntax-only")
    assert built.returncode == 0, built.stderr
