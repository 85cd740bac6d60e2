"""Types compared by debug info: what compilers really write, against the verdicts that descriptions get for the same
edits; and everything that keeps debug info from telling."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import cbuild
import pytest
import test_layout_matrix as matrix
from cbuild import INCLUDE
from test_layout_matrix import CASES, REFUSED, Case, Header
from test_layouts import tool

from hotreload import dwarf, native
from hotreload.debug_types import Answer, compare
from hotreload.examiner import question
from hotreload.model import LayoutRow, LayoutType, Manifest
from hotreload.type_cache import TypeCache

MODULE = """\
#include <hotreload/patch.h>
#include <stdbool.h>
typedef struct Taps { float a, b, c, d; } Taps;
#include "voice.h"
static int32_t tick(void *state, const void *input, void *output) {
    Voice *voice = (Voice *)state;
    (void)output;
    return voice && (const Note *)input;
}
HR_MODULE("synth", 1, HR_PATCH("synth.tick", tick))
"""
HOST = """\
#include <hotreload/patch.h>
#include <stdbool.h>
typedef struct Taps { float a, b, c, d; } Taps;
#include "voice.h"
Voice voice;
Note note;
int main(void) { return sizeof voice > sizeof note; }
"""
DESCRIBED = MODULE.replace('"voice.h"', '"voice.h"\n#define TYPES HR_TYPE(Voice) HR_TYPE(Note) HR_TYPE(Envelope) '
    'HR_TYPE(Number) HR_TYPE(Wave)') + (
    'HR_MODULE_LAYOUT(TYPES, HR_TAKES("other", void, void, void))\n'
)  # fmt: skip

ABOUT_SLOTS = {
    case.name for case in CASES if case.module.takes != case.host.takes or case.module.types != case.host.types
}
"""Debug info does not tell what a slot takes."""


@dataclass
class Workshop:
    """Compiles, each version of a header once for each set of flags."""

    directory: Path
    made: dict[object, Path] = field(default_factory=dict)

    def make(self, source: str, header: Header | str, *command: str) -> Path:
        key = (source, header, command)
        if key not in self.made:
            place = self.directory / str(len(self.made))
            place.mkdir(exist_ok=True)
            text = header if isinstance(header, str) else header.text()
            (place / "voice.h").write_text(f"#pragma once\n{text}\n", encoding="utf-8")
            (place / "main.c").write_text(source, encoding="utf-8")
            output = place / "output.so"
            language = ["-x", "c++", "-std=c++17"] if "++" in command[0] else ["-x", "c"]
            cbuild.run([*command, "-I", INCLUDE, *language, place / "main.c", "-o", output], place)
            output.chmod(0o755)
            self.made[key] = output
        return self.made[key]

    def module(self, header: Header | str, *flags: str, cc: str = "", source: str = MODULE) -> Path:
        return self.make(source, header, cc or cbuild.cc(), *cbuild.MODULE_FLAGS, "-Wl,--build-id", *(flags or ("-g",)))

    def host(self, header: Header | str, *flags: str, cc: str = "", source: str = HOST) -> Path:
        return self.make(source, header, cc or cbuild.cc(), "-Wl,--build-id", *(flags or ("-g",)))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    if cbuild.compiler() is None:
        pytest.skip("needs a C compiler")
    return Workshop(tmp_path_factory.mktemp("types"))


def manifest_of(module: Path) -> Manifest:
    found = native.inspect(module)
    assert isinstance(found, Manifest), found
    return found


def answer(host: Path, module: Path, *, described: bytes = b"", cache: TypeCache | None = None) -> Answer:
    cache = cache or TypeCache(None)
    found = compare(question(host, described, module, manifest_of(module)), cache)
    cache.save()
    return found


def changes(found: Answer) -> set[str]:
    """``Voice.gain moved`` and the like."""
    rows: Sequence[LayoutRow] = found.comparison.rows if found.comparison else ()
    return {f"{row.type}{'.' * bool(row.field)}{row.field} {' '.join(row.changes)}" for row in rows if row.changes}


def verdict(found: Answer) -> str:
    assert found.comparison is not None, found.missing
    assert (found.failure is not None) == found.comparison.refused
    return found.failure.code if found.failure else "ok"


# ---- the same verdicts as from descriptions ----

COMPARED = [case for case in CASES if case.name not in ABOUT_SLOTS]
IDS = [case.name for case in COMPARED]


@pytest.mark.parametrize("case", COMPARED, ids=IDS)
def test_debug_info_gives_the_verdict_of_a_description(case: Case, workshop: Workshop) -> None:
    found = answer(workshop.host(case.host), workshop.module(case.module))
    assert verdict(found) == case.verdict, found
    assert set(case.rows) <= changes(found)


@pytest.mark.parametrize("case", COMPARED, ids=IDS)
def test_a_described_host_and_a_module_with_debug_info(case: Case, workshop: Workshop) -> None:
    described = manifest_of(workshop.module(case.host, "-g0", source=DESCRIBED)).layout
    found = answer(workshop.host(case.host, "-g0"), workshop.module(case.module), described=described)
    assert verdict(found) == case.verdict, found
    assert set(case.rows) <= changes(found)


@pytest.mark.parametrize("case", COMPARED, ids=IDS)
def test_a_host_with_debug_info_and_a_described_module(case: Case, workshop: Workshop) -> None:
    found = answer(workshop.host(case.host), workshop.module(case.module, "-g0", source=DESCRIBED))
    assert verdict(found) == case.verdict, found
    assert set(case.rows) <= changes(found)


# ---- other compilers and forms ----

FORMS = {
    "DWARF 4": ("", ("-g", "-gdwarf-4")),
    "compressed": ("", ("-g", "-gz")),
    "unoptimised": ("", ("-g", "-O0")),
    "link-time optimisation": ("", ("-g", "-flto")),
    "clang": ("clang", ("-g",)),
    "clang, DWARF 4": ("clang", ("-g", "-gdwarf-4")),
    "g++": ("g++", ("-g",)),
    "clang++": ("clang++", ("-g",)),
    "types in units of their own": ("", ("-g", "-fdebug-types-section")),
    "the same, DWARF 4": ("", ("-g", "-gdwarf-4", "-fdebug-types-section")),
    "the same, clang": ("clang", ("-g", "-fdebug-types-section")),
    "the same, g++": ("g++", ("-g", "-fdebug-types-section")),
    "split off": ("", ("-g", "-gsplit-dwarf")),
    "split off, DWARF 4": ("", ("-g", "-gdwarf-4", "-gsplit-dwarf")),
    "split off, clang": ("clang", ("-g", "-gsplit-dwarf")),
    "split off, clang, DWARF 4": ("clang", ("-g", "-gdwarf-4", "-gsplit-dwarf")),
    "split off, types in units of their own": ("", ("-g", "-gsplit-dwarf", "-fdebug-types-section")),
    "split off, clang++": ("clang++", ("-g", "-gsplit-dwarf", "-fdebug-types-section")),
}
SOME = [case for case in COMPARED if case.name in (
    "no edit", "float into the reserve", "field in front", "field renamed", "float to int32_t", "array longer",
    "pointer to another type", "enumerator in the middle", "union member larger", "nested fields swapped",
)]  # fmt: skip


FEW = SOME[::3]
"""Enough where only the places of types differ."""
WITH_FORMS = [(case, form) for form in FORMS for case in (FEW if "own" in form or "split" in form else SOME)]


@pytest.mark.parametrize(("case", "form"), WITH_FORMS, ids=[f"{case.name}-{form}" for case, form in WITH_FORMS])
def test_forms_of_debug_info(case: Case, form: str, workshop: Workshop) -> None:
    name, flags = FORMS[form]
    cc = name and shutil.which(name)
    if cc is None:
        pytest.skip(f"needs {name}")
    found = answer(workshop.host(case.host), workshop.module(case.module, *flags, cc=cc))
    assert verdict(found) == case.verdict, found
    found = answer(workshop.host(case.host, *flags, cc=cc), workshop.module(case.module))
    assert verdict(found) == case.verdict, found


def header(voice: str, more: str = "") -> str:
    structs = f"typedef struct Voice {{ {voice} }} Voice;\ntypedef struct Note {{ int pitch; }} Note;"
    return f"#include <stdint.h>\n{more}\n{structs}"


FIELDS = "float gain; int mode;"
C_EDITS = {
    "bit-fields alike": ("unsigned a : 3, b : 5; int c;", "unsigned a : 3, b : 5; int c;", set()),
    "bit-field wider": ("unsigned a : 3, b : 5;", "unsigned a : 4, b : 4;", {"Voice.a retyped", "Voice.b retyped"}),
    "bit-fields swapped": ("unsigned a : 3, b : 3;", "unsigned b : 3, a : 3;", {"Voice.a retyped", "Voice.b retyped"}),
    "nameless member edited": ("union { float f; int i; }; int c;", "union { double f; int i; }; int c;",
                               {"Voice resized realigned", "Voice.f resized retyped", "Voice.c moved"}),
    "nameless struct edited": ("struct { int x, y; } at; int c;", "struct { int y, x; } at; int c;",
                               {"Voice.at.x moved", "Voice.at.y moved"}),
    "function pointer alike": ("int (*call)(void *, float); int c;", "int (*call)(void *, float); int c;", set()),
    "function pointer takes another": ("int (*call)(void *, float);", "int (*call)(void *, double);",
                                       {"Voice.call retyped"}),
    "function pointer by a typedef": ("int (*call)(int);", "typedef_call call;", set()),
    "array of arrays": ("float m[2][3];", "float m[3][2];", {"Voice.m retyped"}),
    "flexible array": ("int n; float m[];", "int n; double m[];", {"Voice resized realigned", "Voice.m moved retyped"}),
    "what a pointer shows": ("struct Taps *taps;", "struct Taps *taps;", set()),
    "long double": ("long double d;", "double d;", {"Voice resized realigned", "Voice.d resized retyped"}),
    "volatile and const": ("int a; const int *b;", "volatile int a; int *b;", set()),
    "aligned field": ("int a; int b;", "int a; _Alignas(16) int b;", {"Voice resized realigned", "Voice.b moved"}),
}  # fmt: skip


@pytest.mark.parametrize("name", C_EDITS)
def test_edits_that_descriptions_cannot_express(name: str, workshop: Workshop) -> None:
    before, after, expected = C_EDITS[name]
    typedef = "typedef int (*typedef_call)(int);"
    found = answer(workshop.host(header(before, typedef)), workshop.module(header(after, typedef)))
    told = {each for each in changes(found) if not each.endswith(" ")}
    assert expected <= told and (verdict(found) == REFUSED) == bool(expected), (told, found.missing)


CPP_MODULE = """\
#include <hotreload/hotreload.hpp>
#include <string>
#include <vector>
#include "voice.h"
static int tick(game::Voice &voice, const int &by) { return voice.mode += by; }
HOTRELOAD_MODULE("synth", 1, hotreload::patch<tick>("synth.tick"))
"""
CPP_HOST = (
    '#include <string>\n#include <vector>\n#include "voice.h"\ngame::Voice voice;\nint main() { return voice.mode; }\n'
)
CPP_EDITS = {
    "no edit": ("struct Voice : Base { int mode; std::vector<float> taps; Pair<int> pair; };", set()),
    "a base gets a field": ("struct Voice : Wide { int mode; std::vector<float> taps; Pair<int> pair; };",
                            {"Voice.base Base removed", "Voice.base Wide added"}),
    "a vector of another type": ("struct Voice : Base { int mode; std::vector<int> taps; Pair<int> pair; };",
                                 {"Voice.taps retyped"}),
    "a template of another type": ("struct Voice : Base { int mode; std::vector<float> taps; Pair<float> pair; };",
                                   {"Voice.pair retyped"}),
    "a function": ("struct Voice : Base { int mode; std::vector<float> taps; Pair<int> pair; int f() { return mode; }"
                   " static int count; };", set()),
    "a reference instead of a pointer": ("struct Voice : Base { int mode; std::vector<float> taps; Pair<int> pair;"
                                         " private: int hidden; };", {"Voice.hidden added"}),
}  # fmt: skip


def cpp(voice: str) -> str:
    return (
        "namespace game {\nstruct Base { int id; };\nstruct Wide { int id; double more; };\n"
        f"template <class T> struct Pair {{ T a, b; }};\n{voice}\n}}"
    )


@pytest.mark.parametrize("name", CPP_EDITS)
def test_edits_of_cpp(name: str, workshop: Workshop) -> None:
    cxx = shutil.which("g++")
    if cxx is None:
        pytest.skip("needs g++")
    host = workshop.host(cpp(CPP_EDITS["no edit"][0]), "-g", cc=cxx, source=CPP_HOST)
    voice, expected = CPP_EDITS[name]
    found = answer(host, workshop.module(cpp(voice), "-g", cc=cxx, source=CPP_MODULE))
    assert expected <= changes(found) and (verdict(found) == REFUSED) == bool(expected), (changes(found), found.missing)
    assert found.comparison and found.comparison.types >= 2


def test_a_class_that_another_unit_tells_of_is_said_to_be_missing(workshop: Workshop) -> None:
    """Compilers tell of a class with virtual functions where its table is made: in the host."""
    cxx = shutil.which("g++")
    if cxx is None:
        pytest.skip("needs g++")
    voice = cpp("struct Voice : Base { int mode; virtual void f() {} };")
    host, module = (
        workshop.host(voice, "-g", cc=cxx, source=CPP_HOST),
        workshop.module(voice, "-g", cc=cxx, source=CPP_MODULE),
    )
    assert answer(host, module).missing == (("Voice", "the module's debug info only declares it"),)


RUST = """\
#![allow(dead_code)]
use std::ffi::c_void;
pub mod shared {{
    #[repr(C)] pub struct Voice {{ {fields} }}
    pub struct Point {{ pub x: f32, pub y: f32 }}
    pub enum Mode {{ {modes} }}
}}
"""
RUST_MODULE = (
    RUST
    + """\
#[no_mangle] pub unsafe extern "C" fn tick(state: *mut c_void, _: *const c_void, _: *mut c_void) -> i32 {{
    let voice = &mut *(state as *mut shared::Voice);
    let private = &Private {{ a: 1 }};
    voice.mode += private.a;
    voice.mode
}}
struct Private {{ a: i32 }}
"""
)
RUST_HOST = (
    RUST
    + """\
mod other {{ pub struct Private {{ pub b: f64, pub c: f64 }} }}
fn main() {{
    let voice = std::hint::black_box(std::mem::size_of::<shared::Voice>());
    let none: Option<&shared::Voice> = std::hint::black_box(None);
    let private: Option<&other::Private> = std::hint::black_box(None);
    println!("{{}} {{}} {{}}", voice, none.map_or(0, |each| each.mode), private.map_or(0.0, |each| each.b + each.c));
}}
"""
)
RUST_FIELDS = "pub mode: i32, pub gain: f32, pub at: Point, pub kind: Mode, pub next: *mut Voice"
RUST_MODES = "Idle, Run(u32), Slow { by: f64 }"
RUST_EDITS = {
    "no edit": (RUST_FIELDS, RUST_MODES, set()),
    "field in front": ("pub id: u64, " + RUST_FIELDS, RUST_MODES, {"Voice.id added", "Voice.mode moved"}),
    "f32 to u32": (RUST_FIELDS.replace("gain: f32", "gain: u32"), RUST_MODES, {"Voice.gain retyped"}),
    "pointer to another type": (RUST_FIELDS.replace("*mut Voice", "*mut Point"), RUST_MODES, {"Voice.next retyped"}),
    "array": (RUST_FIELDS.replace("gain: f32", "gain: [f32; 2]"), RUST_MODES, {"Voice.gain resized retyped"}),
    "variants reordered": (RUST_FIELDS, "Run(u32), Idle, Slow { by: f64 }", {"Mode.Idle = 1 added"}),
    "a variant's field": (RUST_FIELDS, RUST_MODES.replace("f64", "i64"), {"Mode.Slow = 2 retyped"}),
    "a variant added": (RUST_FIELDS, RUST_MODES + ", Fast", {"Mode.Fast = 3 added"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def rust(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    if shutil.which("rustc") is None:
        pytest.skip("needs rustc")
    directory = tmp_path_factory.mktemp("rust")

    def build(kind: str, source: str, fields: str, modes: str, *linked: str) -> Path:
        place = directory / str(len(list(directory.iterdir())))
        place.mkdir()
        (place / "main.rs").write_text(source.format(fields=fields, modes=modes), encoding="utf-8")
        name = "voice_host" if kind == "bin" else "voice_patch"
        flags = ["--edition", "2021", "-g", "--crate-name", name, "--crate-type", kind]
        cbuild.run(["rustc", *flags, *linked, place / "main.rs", "-o", place / "output"])
        (place / "output").chmod(0o755)
        return place / "output"

    return build


@pytest.fixture(scope="module")
def rust_host(rust: Callable[..., Path]) -> Path:
    return rust("bin", RUST_HOST, RUST_FIELDS, RUST_MODES)


def answer_at(host: Path, module: Path, function: str) -> Answer:
    """For a module without a manifest: what its function takes."""
    symbols = cbuild.run(["nm", "-D", module]).splitlines()
    address = next(int(line.split()[0], 16) for line in symbols if line.split()[-1] == function)
    from hotreload.debug_types import Question

    return compare(Question(host, b"", module, "", (address,), (function,), b""), TypeCache(None))


@pytest.mark.parametrize("name", RUST_EDITS)
def test_edits_of_rust(name: str, rust: Callable[..., Path], rust_host: Path) -> None:
    fields, modes, expected = RUST_EDITS[name]
    found = answer_at(rust_host, rust("cdylib", RUST_MODULE, fields, modes), "tick")
    assert expected <= changes(found) and (verdict(found) == REFUSED) == bool(expected), (changes(found), found.missing)
    assert not any("Private" in each for each in changes(found)), "types of that name in other modules are not shared"


RUST_TYPED = (
    RUST
    + """\
fn tick(voice: &mut shared::Voice, by: &shared::Point, _: &mut ()) -> i32 {{
    voice.mode += by.x as i32;
    voice.mode
}}
hotreload::patch_module!("synth", 1, [("synth.tick", tick)]);
"""
)
RUST_TYPED_HOST = (
    RUST
    + """\
fn main() {{
    let none: Option<(&shared::Voice, &shared::Point)> = std::hint::black_box(None);
    println!("{{}}", none.map_or(0.0, |each| each.0.mode as f32 + each.1.x));
}}
"""
)


@pytest.fixture(scope="module")
def crate(pytestconfig: pytest.Config, require_tool: Callable[..., Path]) -> Path:
    """The directory of the crate as modules link it."""
    require_tool("cargo")
    assert pytestconfig.cache is not None
    target = pytestconfig.cache.mkdir("rust-debug-types")
    manifest = cbuild.ROOT / "shim" / "rust" / "Cargo.toml"
    words = ["cargo", "build", "-q", "--lib", "--no-default-features", "--manifest-path", manifest]
    cbuild.run([*words, "--target-dir", target])
    return Path(target / "debug")


@pytest.mark.parametrize("name", RUST_EDITS)
def test_edits_of_rust_in_typed_functions(name: str, rust: Callable[..., Path], crate: Path) -> None:
    """What `patch_module!` makes of a function with types of its own takes pointers to anything."""
    fields, modes, expected = RUST_EDITS[name]
    linked = ("--extern", f"hotreload={crate / 'libhotreload.rlib'}", "-L", f"dependency={crate / 'deps'}")
    host = rust("bin", RUST_TYPED_HOST, RUST_FIELDS, RUST_MODES)
    found = answer(host, rust("cdylib", RUST_TYPED, fields, modes, *linked))
    assert expected <= changes(found) and (verdict(found) == REFUSED) == bool(expected), (changes(found), found.missing)


# ---- what is not shared ----


def test_types_of_one_name_in_two_files_are_not_compared(workshop: Workshop) -> None:
    own = header(FIELDS)
    private = MODULE.replace("static int32_t tick", "typedef struct Scratch { int a; } Scratch;\nstatic int32_t tick")
    host = HOST.replace("Voice voice;", "struct Scratch { double d; } scratch;\nVoice voice;")
    module = private.replace("(void)output;", "Scratch *scratch = output;\n    scratch->a++;")
    module = module.replace('#include "voice.h"\n', '#include "voice.h"\n#line 1 "module.c"\n')
    found = answer(workshop.host(own, source=host), workshop.module(own, source=module))
    assert verdict(found) == "ok"
    assert found.missing == (
        ("Scratch", "declared in module.c here and in main.c there; one header for both would tell"),
    )


def test_what_the_host_has_twice_in_two_ways_is_not_compared(workshop: Workshop, tmp_path: Path) -> None:
    for number, fields in enumerate((FIELDS, "int mode; float gain; double more;")):
        place = tmp_path / str(number)
        place.mkdir()
        (place / "voice.h").write_text(header(fields), encoding="utf-8")
        body = "int main(void) { return 0; }" if number == 0 else ""
        (place / "main.c").write_text(f'#include "voice.h"\nVoice voice{number}; Note note{number};\n{body}\n')
        cbuild.run([cbuild.cc(), "-g", "-c", place / "main.c", "-o", place / "main.o"])
    cbuild.run([cbuild.cc(), tmp_path / "0/main.o", tmp_path / "1/main.o", "-o", tmp_path / "host"])
    found = answer(tmp_path / "host", workshop.module(header("int edited;")))
    assert found.missing == (("Voice", "the host has 2 different types of that name"),)
    assert verdict(answer(tmp_path / "host", workshop.module(header(FIELDS)))) == "ok", "one of them is the module's"


def test_what_both_describe_is_left_to_the_shim(workshop: Workshop) -> None:
    described = manifest_of(workshop.module(matrix.BASE, source=DESCRIBED)).layout
    edited = workshop.module(matrix.voice(first=("x", "double")), source=DESCRIBED)
    found = answer(workshop.host(matrix.BASE), edited, described=described)
    assert not changes(found)


# ---- what keeps debug info from telling ----


def test_no_debug_info(workshop: Workshop) -> None:
    own = header(FIELDS)
    plain = "no debug info: compile with -g, and do not strip"
    assert answer(workshop.host(own), workshop.module(own, "-g0")).missing == (("", f"the module: {plain}"),)
    assert answer(workshop.host(own, "-g0"), workshop.module(own)).missing == (("", f"the host: {plain}"),)
    assert dwarf.carries(workshop.host(own)) and not dwarf.carries(workshop.host(own, "-g0"))
    assert not dwarf.carries(Path("/dev/null")) and not dwarf.carries(Path("/nowhere"))


@pytest.mark.parametrize("table", [1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_file_whose_sections_lie_nowhere_carries_none(tmp_path: Path, table: int) -> None:
    """The thread that runs the session looks at it: a file that is written anew at that moment must not end that."""
    path = tmp_path / "m.so"
    path.write_bytes(b"\x7fELF\x02\x01".ljust(0x28, b"\0") + table.to_bytes(8, "little") + b"\xff" * 16)
    assert not dwarf.carries(path)


SPLIT = ("-g", "-gsplit-dwarf")


def split_file(made: Path) -> Path:
    """The file that was split off from a build."""
    (found,) = made.parent.glob("*.dwo")
    return found


@pytest.mark.parametrize("version", ["-gdwarf-4", "-gdwarf-5"])
def test_files_that_were_split_off_and_are_gone_or_of_another_build(version: str, tmp_path: Path) -> None:
    here = Workshop(tmp_path)
    host, module = here.host(header(FIELDS), *SPLIT, version), here.module(header("int edited;"), *SPLIT, version)
    assert verdict(answer(host, module)) == REFUSED
    for made, side in ((module, "the module"), (host, "the host")):
        split, name = split_file(made), split_file(made).name
        kept = split.read_bytes()
        split.write_bytes(split_file(host if made is module else module).read_bytes())
        (_, reason), *rest = answer(host, module).missing
        assert not rest and reason.startswith(f"{side}: its debug info is split off into ")
        assert reason.endswith(f"{name}, which is of another build by now")
        split.write_bytes(b"\x7fELF")
        assert "it is no ELF file" in answer(host, module).missing[0][1]
        split.unlink()
        assert answer(host, module).missing[0][1].endswith(f"{name}, which is not there")
        (made.parent / "output.dwp").write_bytes(kept)
        assert "output.dwp is a package of such files, which is not read" in answer(host, module).missing[0][1]
        (made.parent / "output.dwp").unlink()
        code, text = tool("inspect", module, "--against", host)
        assert code == 0 and "equal" not in text and f"debug info: not compared, {side}: its debug info" in text
        split.write_bytes(kept)
    assert verdict(answer(host, module)) == REFUSED


def test_a_host_of_which_one_unit_was_split_off_and_is_gone(tmp_path: Path) -> None:
    """What the rest tells is compared; what it does not have is not said to be the module's alone."""
    for name, flags, body in (
        ("voice", SPLIT, '#include "voice.h"\nVoice voice;'),
        ("note", ("-g",), '#include "voice.h"\nNote note;\nint main(void) { return note.pitch; }'),
    ):
        (tmp_path / "voice.h").write_text(header(FIELDS))
        (tmp_path / f"{name}.c").write_text(f"{body}\n")
        cbuild.run([cbuild.cc(), *flags, "-c", f"{name}.c"], tmp_path)
    cbuild.run([cbuild.cc(), "voice.o", "note.o", "-o", "host"], tmp_path)
    module = Workshop(tmp_path / "module")
    module.directory.mkdir()
    edited = module.module(header("int edited;"))
    assert verdict(answer(tmp_path / "host", edited)) == REFUSED
    (tmp_path / "voice.dwo").unlink()
    found = answer(tmp_path / "host", edited)
    gone = "the host: its debug info is split off into voice.dwo, which is not there"
    assert found.missing == (("Voice", f"not found in what the host tells; {gone}"),)
    assert verdict(found) == "ok" and found.comparison and found.comparison.types == 1, "Note"


# ---- a host's code in its libraries ----


def library_host(directory: Path, *flags: str, voice: str = FIELDS, link: Sequence[str] = ()) -> Path:
    """A host whose program knows none of the shared types; its library ``libvoices.so`` has them."""
    directory.mkdir(exist_ok=True)
    (directory / "voice.h").write_text(header(voice))
    body = '#include "voice.h"\nVoice voice; Note note;\nint voices(void) { return sizeof voice > sizeof note; }\n'
    (directory / "voices.c").write_text(body)
    wait = "int voices(void);\nint pause(void);\nint main(void) { voices(); return pause(); }\n"
    (directory / "main.c").write_text(wait)
    cbuild.run([cbuild.cc(), *flags, "-shared", "-fPIC", "voices.c", "-o", "libvoices.so"], directory)
    link = link or ["-Wl,-rpath,$ORIGIN"]
    cbuild.run([cbuild.cc(), "main.c", "libvoices.so", *link, "-o", "host"], directory)
    return directory / "host"


def test_types_of_a_hosts_libraries(workshop: Workshop, tmp_path: Path) -> None:
    host = library_host(tmp_path, "-g")
    equal, edited = workshop.module(header(FIELDS)), workshop.module(header("int edited;"))
    code, text = tool("inspect", equal, "--against", host)
    assert code == 0 and f"debug info: equal to those of {host} (2 types that both have)" in text
    code, text = tool("inspect", edited, "--against", host)
    assert code == 3 and f"debug info: E-LAYOUT: differ from those of {host}" in text


def test_libraries_that_cannot_be_looked_at_are_told(workshop: Workshop, tmp_path: Path) -> None:
    edited = workshop.module(header("int edited;"))
    silent = library_host(tmp_path / "silent")
    code, text = tool("inspect", edited, "--against", silent)
    assert code == 0 and "libvoices.so of the host has no debug info" in text and "equal" not in text
    lost = library_host(tmp_path / "lost", "-g", link=("-L.",))
    code, text = tool("inspect", edited, "--against", lost)
    assert code == 0 and "libvoices.so of the host: it was not found" in text and "equal" not in text


def test_libraries_of_a_process(workshop: Workshop, tmp_path: Path) -> None:
    """Those that it has mapped, whatever is in their place by now; a patch module among them is no part of the host."""
    host = library_host(tmp_path, "-g", link=("-L.",))
    equal, edited = workshop.module(header(FIELDS)), workshop.module(header("int edited;"))
    environment = {"LD_LIBRARY_PATH": str(tmp_path), "LD_PRELOAD": str(edited)}
    with subprocess.Popen([host], env=environment) as process:
        try:
            program = Path(f"/proc/{process.pid}/exe")
            deadline = time.monotonic() + 60
            while "libvoices" not in program.with_name("maps").read_text():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert verdict(answer(program, edited)) == REFUSED and verdict(answer(program, equal)) == "ok"
            library_host(tmp_path / "new", "-g", voice="int edited;")
            (tmp_path / "new" / "libvoices.so").replace(tmp_path / "libvoices.so")
            reasons = [reason for _, reason in answer(program, edited).missing]
            assert "libvoices.so of the host: it was replaced since the host has loaded it" in reasons
        finally:
            process.kill()


def test_stripped_and_separate_debug_info(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = workshop.host(header(FIELDS))
    module, whole = tmp_path / "module.so", workshop.module(header("int edited;"))
    cbuild.run(["strip", whole, "-o", module])
    assert "the module: no debug info" in answer(host, module).missing[0][1]
    debug = tmp_path / "module.debug"
    cbuild.run(["objcopy", "--only-keep-debug", whole, debug])
    cbuild.run(["objcopy", f"--add-gnu-debuglink={debug}", module])
    assert dwarf.carries(module) and verdict(answer(host, module)) == REFUSED
    cbuild.run(["objcopy", "--remove-section=.gnu_debuglink", module])
    build_id = manifest_of(module).module.build_id
    place = tmp_path / "system" / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
    place.parent.mkdir(parents=True)
    debug.rename(place)
    assert not dwarf.carries(module)
    monkeypatch.setattr(dwarf, "SYSTEM", tmp_path / "system")
    assert dwarf.carries(module) and verdict(answer(host, module)) == REFUSED


def test_damaged_debug_info_never_raises(workshop: Workshop, tmp_path: Path) -> None:
    host, module = workshop.host(header(FIELDS)), workshop.module(header("int edited;"))
    data = bytearray(module.read_bytes())
    asked = replace(question(host, b"", module, manifest_of(module)), module=tmp_path / "damaged.so", build_id="")
    for number in range(300):
        damaged = bytearray(data)
        for step in range(8):
            damaged[(number * 7919 + step * 104729) % len(damaged)] ^= 1 << (number + step) % 8
        asked.module.write_bytes(damaged[: len(damaged) - (number % 5) * 1000])
        compare(asked, TypeCache(None))


def test_limits(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    host, module = workshop.host(header(FIELDS)), workshop.module(header(FIELDS))
    for name, value, words in (
        ("dwarf.TYPES_MOST", 1, "reach more than 1 types"),
        ("elf.BYTES_MOST", 100, "larger than 0 MiB"),
        ("dwarf.SECONDS_MOST", 0.0, "more than 0 s to read"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(f"hotreload.{name}", value)
            assert words in answer(host, module).missing[0][1]


# ---- the cache ----


def test_a_build_id_is_read_once(workshop: Workshop, tmp_path: Path) -> None:
    host, module = workshop.host(header(FIELDS)), workshop.module(header("int edited;"))
    first = TypeCache(tmp_path / "cache")
    told = answer(host, module, cache=first)
    assert first.reads == 2 and answer(host, module, cache=first) == told and first.reads == 2
    copy = tmp_path / "copy.so"
    shutil.copyfile(module, copy)
    later = TypeCache(tmp_path / "cache")
    assert answer(host, copy, cache=later) == told and later.reads == 0, "another process, another path"
    nameless = workshop.module(header("int edited;"), "-g", "-Wl,--build-id=none")
    assert answer(host, nameless, cache=later) == told and later.reads == 1
    assert len(list((tmp_path / "cache").iterdir())) == 2, "what has no build id is kept in memory alone"


def test_damaged_files_of_the_cache_are_read_anew(workshop: Workshop, tmp_path: Path) -> None:
    host, module = workshop.host(header(FIELDS)), workshop.module(header("int edited;"))
    told = answer(host, module, cache=TypeCache(tmp_path))
    files = sorted(tmp_path.iterdir())
    whole = {path: path.read_bytes() for path in files}
    for damage in (
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b"Voice", b"Vowel"),
        lambda data: b"hotreload types 0 " + data.split(b" ", 3)[3],
        lambda data: b"\xff" * 100,
    ):
        for path in files:
            path.write_bytes(damage(whole[path]))
        cache = TypeCache(tmp_path)
        assert answer(host, module, cache=cache) == told and cache.reads == 2
        assert {path: path.read_bytes() for path in files} == whole, "and replaced"
    for path in files:
        path.unlink()
        path.mkdir()
    assert answer(host, module, cache=TypeCache(tmp_path)) == told, "a cache that cannot be written is none"


def test_the_cache_is_bounded(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotreload.type_cache.FILES_MOST", 4)
    host = workshop.host(header(FIELDS))
    cache = TypeCache(tmp_path)
    for number in range(8):
        answer(host, workshop.module(header(f"int edited{number};")), cache=cache)
        assert len(list(tmp_path.iterdir())) <= 4


# ---- inspect ----


def test_inspect_tells_the_source(workshop: Workshop) -> None:
    run = partial(tool, "inspect")
    host = workshop.host(header(FIELDS))
    code, text = run(workshop.module(header(FIELDS)), "--against", host)
    assert code == 0 and f"debug info: equal to those of {host} (2 types that both have)" in text
    code, text = run(workshop.module(header("int id; " + FIELDS)), "--against", host)
    assert code == 3 and f"debug info: E-LAYOUT: differ from those of {host}" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["+", "id", "(absent)", "int", "@", "0,", "4", "added"] in lines
    assert ["~", "gain", "float", "@", "0,", "4", "float", "@", "4,", "4", "moved"] in lines
    code, text = run(workshop.module(header(FIELDS), "-g0"), "--against", host)
    assert code == 0 and "layouts: not compared, the module describes none" in text
    assert "debug info: not compared, the module: no debug info: compile with -g" in text
    code, text = run("--json", workshop.module(header("int id; " + FIELDS)), "--against", host)
    told = json.loads(text)["against"]
    assert (code, told["verdict"], told["sources"], told["types"]) == (3, "E-LAYOUT", ["debug info"], 2)
    assert next(row for row in told["rows"] if row["field"] == "id")["changes"] == ["added"]
    code, text = run("--json", workshop.module(header(FIELDS)), "--against", workshop.host(header(FIELDS), "-g0"))
    told = json.loads(text)["against"]
    assert (code, told["verdict"], told["sources"]) == (0, "not described", [])
    assert told["not_compared"] == [
        {"type": "", "reason": "the host: no debug info: compile with -g, and do not strip"}
    ]


def test_inspect_against_what_is_no_program(workshop: Workshop, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no program")
    done = subprocess.run(
        [sys.executable, "-m", "hotreload", "inspect", workshop.module(header(FIELDS)), "--against", text],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3 and "E-NOT-ELF" in done.stderr


def test_types_of_descriptions_survive_being_packed(workshop: Workshop) -> None:
    types = native.layouts(manifest_of(workshop.module(matrix.BASE, source=DESCRIBED)).layout).types
    again = native.layouts(native.packed(types)).types
    assert again == types and isinstance(again[0], LayoutType)
    assert any(each.number == "f64" for each in again[3].fields)


def test_whether_a_file_carries_debug_info_is_seen_without_elftools(workshop: Workshop) -> None:
    """It is asked in the watching process, on the way of a swap: of a stripped module with a build id, too."""
    bare = workshop.module(header(FIELDS), "-g0", "-Wl,--build-id")
    program = (
        "import sys\nfrom pathlib import Path\nfrom hotreload import dwarf\ndwarf.SYSTEM = Path('/usr')\n"
        "told = dwarf.carries(Path(sys.argv[1]))\nprint(told, 'elftools' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, bare], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
