"""Preflight: what a module says, why one is refused, and that no damage gets past it that would kill the loader.

The modules are real ones, built here by every compiler and linker at hand, and damaged at chosen places or at random
(`mutations.c`). Damage to machine code is the one thing that nobody can see by reading a file; the mutation run puts
damaged code back before it opens what preflight accepted, so that every other kind of damage is judged on its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cbuild
import pytest
from conftest import RequireTool
from preflight_lib import (
    EXECSTACK,
    INTERPOSABLE,
    NO_BUILD_ID,
    NODELETE,
    PT_DYNAMIC,
    PT_GNU_RELRO,
    PT_LOAD,
    PT_NOTE,
    TLS_DESTRUCTOR,
    UNIQUE,
    Elf,
    Preflight,
    Verdict,
)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="the modules built here are for Linux on x86-64"
)

MUTANTS = int(os.environ.get("MUTANTS", "20000"))
"""More for `make fuzz`."""
LINKERS = ("bfd", "gold", "lld", "mold")

C_MODULE = """
#include <hotreload/patch.h>
#include <stdio.h>
#include <string.h>

static int counter = 7;
static __thread int calls = 3;
static const char *const names[] = {"one", "two", "three"};

__attribute__((constructor)) static void start(void) { counter += 1; }
__attribute__((destructor)) static void stop(void) { counter -= 1; }

static int32_t add(void *state, const void *in, void *out) {
    (void)in;
    memcpy(out, &counter, sizeof counter);
    *(int *)state += calls++;
    return 0;
}
static int32_t show(void *state, const void *in, void *out) {
    (void)state, (void)out;
    return puts(names[*(const int *)in % 3]);
}
static int32_t load(void *state) { return state == 0; }
static int32_t unload(void *state) { return state != 0; }
HR_MODULE_WITH_HOOKS("counter", 2, load, unload, HR_PATCH("counter.add", add), HR_PATCH("counter.show", show))
"""

LAYOUT_MODULE = """
#include <hotreload/patch.h>

#define POINT_FIELDS(F) F(Point, x, float) F(Point, y, float)
HR_STRUCT(Point, POINT_FIELDS)
HR_LAYOUT(Point, POINT_FIELDS)
#define SHAPE_FIELDS(F) F(Shape, at, Point, [2]) F(Shape, next, struct Shape *) F(Shape, spare, hr_reserve, [24])
HR_STRUCT(Shape, SHAPE_FIELDS)
HR_LAYOUT(Shape, SHAPE_FIELDS)
#define OLD_FIELDS(F) F(OldShape, at, Point, [2])
HR_STRUCT(OldShape, OLD_FIELDS)
HR_LAYOUT_AS(OldShape, "Shape", OLD_FIELDS)
HR_HOST_LAYOUT(old_shape, HR_TYPE(OldShape) HR_TYPE(Point), HR_TAKES("shape.tick", OldShape, void, void))

static int32_t tick(void *state, const void *in, void *out) {
    (void)in, (void)out;
    return ((Shape *)state)->at[0].x > 0;
}
static int32_t enlarge(void *host, const void *from, void *to) {
    (void)host;
    ((Shape *)to)->at[0] = ((const OldShape *)from)->at[0];
    return 0;
}
HR_MODULE("shape", 3, HR_PATCH("shape.tick", tick))
HR_MODULE_LAYOUT(HR_TYPE(Point), HR_TAKES("shape.tick", Shape, int, void))
HR_MODULE_MIGRATIONS(HR_MIGRATION("Shape", &old_shape, 0, enlarge))
"""

CXX_MODULE = """
#include <hotreload/patch.h>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>

static std::map<std::string, int> table{{"a", 1}, {"b", 2}};
struct shape { virtual ~shape() = default; virtual int sides() const = 0; };
struct square : shape { int sides() const override { return 4; } };

static int32_t add(void *, const void *, void *) {
    try { table.at("c")++; } catch (const std::out_of_range &error) { std::cout << error.what(); }
    return 0;
}
static int32_t show(void *, const void *, void *) {
    shape *s = new square;
    int sides = s->sides();
    delete s;
    return sides;
}
HR_MODULE("shapes", 3, HR_PATCH("shape.add", add), HR_PATCH("shape.show", show))
"""

RUST_MODULE = r"""
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_char, c_void};

type PatchFn = unsafe extern "C" fn(*mut c_void, *const c_void, *mut c_void) -> i32;
type LifecycleFn = unsafe extern "C" fn(*mut c_void) -> i32;

#[repr(C)]
pub struct Entry { name: *const c_char, func: PatchFn, flags: u32, reserved: u32 }
#[repr(C)]
pub struct Module {
    magic: u32, version: u16, size: u16, module_version: u64, name: *const c_char, count: u32, reserved: u32,
    entries: *const Entry, on_load: Option<LifecycleFn>, on_unload: Option<LifecycleFn>,
}
unsafe impl Sync for Entry {}
unsafe impl Sync for Module {}

thread_local! { static COUNTS: RefCell<HashMap<String, u64>> = RefCell::new(HashMap::new()); }

unsafe extern "C" fn add(_: *mut c_void, _: *const c_void, _: *mut c_void) -> i32 {
    COUNTS.with(|counts| *counts.borrow_mut().entry("add".to_string()).or_insert(0) += 1);
    0
}
static ENTRIES: [Entry; 1] = [Entry { name: c"rust.add".as_ptr(), func: add, flags: 0, reserved: 0 }];
#[no_mangle]
pub static HOTPATCH_MODULE_V1: Module = Module {
    magic: 0x48505431, version: 1, size: 56, module_version: 4, name: c"rusty".as_ptr(), count: 1, reserved: 0,
    entries: ENTRIES.as_ptr(), on_load: None, on_unload: None,
};
"""

PLAIN = "static int32_t one(void *s, const void *i, void *o) { (void)s; (void)i; (void)o; return 1; }\n"
HEAD = "#include <hotreload/patch.h>\n"

Build = Callable[..., Path]


@pytest.fixture(scope="module")
def preflight(tmp_path_factory: pytest.TempPathFactory) -> Preflight:
    return Preflight(tmp_path_factory.mktemp("preflight"))


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Returns ``build(source, *flags, compiler=, base=)``: the module built from C or C++ source."""
    directory = tmp_path_factory.mktemp("modules")
    numbers = iter(range(10_000))

    def make(
        source: str, *flags: str, compiler: str | None = None, base: tuple[str, ...] = cbuild.MODULE_FLAGS
    ) -> Path:
        chosen = compiler or cbuild.cc()
        output = directory / f"module-{next(numbers):04}.so"  # names of one length: the build id covers it
        text = output.with_suffix(".cc" if "++" in chosen else ".c")
        text.write_text(source, encoding="utf-8")
        cbuild.run([chosen, *base, *flags, "-I", cbuild.INCLUDE, "-o", output, text])
        return output

    return make


@pytest.fixture(scope="module")
def module(build: Build) -> Path:
    return build(C_MODULE, "-fuse-ld=bfd", "-Wl,--build-id")


def rust_module(require_tool: RequireTool, directory: Path, *flags: str) -> Path:
    source, output = directory / "rusty.rs", directory / "librusty.so"
    source.write_text(RUST_MODULE, encoding="utf-8")
    cbuild.run([require_tool("rustc"), "--edition", "2021", "--crate-type", "cdylib", *flags, "-o", output, source])
    return output


def stripped(module: Path, *flags: str) -> Path:
    output = module.with_suffix(f".stripped{len(flags)}.so")
    cbuild.run(["strip", *flags, "-o", output, module])
    return output


def addresses(module: Path) -> dict[str, int]:
    """What nm says about the module's functions: an opinion from outside."""
    lines = (line.split() for line in cbuild.run(["nm", module]).splitlines())
    return {fields[2]: int(fields[0], 16) for fields in lines if len(fields) == 3}


def refused(verdict: Verdict, code: str, *words: str) -> None:
    """Asserts the code, that the words are in its texts, and that it says what to do."""
    assert verdict.code == code, verdict
    texts = " | ".join((verdict.reason, verdict.found, verdict.expected, verdict.fix))
    assert all(word in texts for word in words), texts
    assert verdict.reason and verdict.fix


# ---- what is accepted ----


@pytest.mark.parametrize("linker", LINKERS)
def test_manifest_of_every_linker(preflight: Preflight, build: Build, require_tool: RequireTool, linker: str) -> None:
    require_tool(f"ld.{linker}")
    path = build(C_MODULE, f"-fuse-ld={linker}", "-Wl,--build-id=sha1")
    verdict, symbols = preflight(path), addresses(path)
    assert (verdict.code, verdict.name, verdict.version) == ("ok", "counter", 2), verdict
    assert verdict.entries == (("counter.add", symbols["add"]), ("counter.show", symbols["show"]))
    assert (verdict.on_load, verdict.on_unload) == (symbols["load"], symbols["unload"])
    assert verdict.address == symbols["HOTPATCH_MODULE_V1"]
    assert verdict.warnings == 0
    assert f"Build ID: {verdict.build_id}\n" in cbuild.run(["readelf", "-n", path])
    assert len(verdict.build_id) == 40


@pytest.mark.parametrize(
    ("linker", "flag"),
    [("bfd", "-z,pack-relative-relocs"), ("lld", "--pack-dyn-relocs=relr"), ("mold", "-z,pack-relative-relocs")],
)
def test_packed_relocations(
    preflight: Preflight, build: Build, require_tool: RequireTool, linker: str, flag: str
) -> None:
    require_tool(f"ld.{linker}")
    path = build(C_MODULE, f"-fuse-ld={linker}", f"-Wl,{flag}")
    if "RELR" not in cbuild.run(["readelf", "-dW", path]):
        pytest.skip(f"this {linker} does not know {flag}")
    symbols = addresses(path)
    assert preflight(path).entries == (("counter.add", symbols["add"]), ("counter.show", symbols["show"]))


@pytest.mark.parametrize(
    "flags",
    [
        ("-Wl,--hash-style=sysv",),
        ("-Wl,--hash-style=gnu",),
        ("-Wl,--hash-style=both",),
        ("-Wl,-z,now",),
        ("-Wl,-z,lazy",),
        ("-Wl,-z,norelro",),
        ("-Wl,-z,noseparate-code",),
        ("-Wl,-z,max-page-size=65536",),
        ("-O0", "-g"),
        ("-Os", "-fno-asynchronous-unwind-tables", "-Wl,-s"),
        ("-fvisibility=default", "-Wl,-z,nodynamic-undefined-weak"),
        ("-mtls-dialect=gnu2",),
        ("-flto", "-Wl,--gc-sections", "-ffunction-sections"),
    ],
    ids=" ".join,
)
def test_ways_to_build(preflight: Preflight, build: Build, flags: tuple[str, ...]) -> None:
    verdict = preflight(build(C_MODULE, *flags))
    assert (verdict.code, verdict.name, len(verdict.entries)) == ("ok", "counter", 2), verdict


def test_without_libc(preflight: Preflight, build: Build) -> None:
    path = build(HEAD + PLAIN + 'HR_MODULE("plain", 1, HR_PATCH("plain.one", one))', "-nostdlib")
    assert preflight(path).entries == (("plain.one", addresses(path)["one"]),)


def test_exported_functions_by_name(preflight: Preflight, build: Build) -> None:
    """Without -Bsymbolic the manifest's pointers are symbolic relocations, which another library may answer."""
    source = HEAD + PLAIN.replace("static ", "") + 'HR_MODULE("open", 1, HR_PATCH("open.one", one))'
    path = build(source, "-fvisibility=default", "-Wl,--build-id", base=("-shared", "-fPIC", "-O2"))
    verdict = preflight(path)
    assert verdict.entries == (("open.one", addresses(path)["one"]),)
    assert verdict.warnings == INTERPOSABLE
    symbolic = preflight(build(source, "-fvisibility=default", "-Wl,--build-id"))
    assert (symbolic.code, symbolic.warnings) == ("ok", 0)


def test_a_module_without_entries(preflight: Preflight, build: Build) -> None:
    """hotpatch-rs loads these."""
    source = HEAD + "HR_MODULE_EXPORT const hr_patch_module_v1 HOTPATCH_MODULE_V1 ="
    verdict = preflight(build(source + '{HR_ABI_MAGIC_V1, 1, 56, 5, "empty", 0, 0, 0, 0, 0};'))
    assert (verdict.code, verdict.name, verdict.entries) == ("ok", "empty", ())


def test_names_of_127_bytes_and_of_all_planes(preflight: Preflight, build: Build) -> None:
    names = ("x" * 127, "größe", "日本", "\U0001f600")
    entries = ", ".join(f'HR_PATCH("{name}", one)' for name in names)
    verdict = preflight(build(HEAD + PLAIN + f'HR_MODULE("ä", 1, {entries})'))
    assert verdict.name == "ä"
    assert tuple(name for name, _ in verdict.entries) == names


def test_thousands_of_entries(preflight: Preflight, build: Build) -> None:
    entries = ", ".join(f'HR_PATCH("slot.{number}", one)' for number in range(20_000))
    verdict = preflight(build(HEAD + PLAIN + f'HR_MODULE("many", 1, {entries})'))
    assert [name for name, _ in verdict.entries] == [f"slot.{number}" for number in range(20_000)]


def test_c_plus_plus(preflight: Preflight, build: Build, cxx: str) -> None:
    verdict = preflight(build(CXX_MODULE, compiler=cxx))
    assert (verdict.code, verdict.name, len(verdict.entries)) == ("ok", "shapes", 2), verdict


@pytest.mark.parametrize("flags", [(), ("-O", "-Cstrip=symbols"), ("-g",)], ids=["debug", "release", "with-symbols"])
def test_rust(preflight: Preflight, require_tool: RequireTool, tmp_path: Path, flags: tuple[str, ...]) -> None:
    verdict = preflight(rust_module(require_tool, tmp_path, *flags))
    assert (verdict.code, verdict.name, verdict.version) == ("ok", "rusty", 4), verdict
    assert [name for name, _ in verdict.entries] == ["rust.add"]
    assert verdict.warnings & TLS_DESTRUCTOR


def test_stripped_and_without_section_headers(preflight: Preflight, module: Path) -> None:
    whole = preflight(module)
    assert preflight(stripped(module)).entries == whole.entries
    elf = Elf(stripped(module))
    for at in (40, 58, 60, 62):  # offset, size, count and names of the section headers
        elf.put("Q" if at == 40 else "H", at, 0)
    assert preflight(bytes(elf)).entries == whole.entries


def test_this_machines_libraries_are_whole(preflight: Preflight) -> None:
    """None is taken for a damaged file: what refuses a valid library would refuse valid modules too."""
    directory = Path("/usr/lib/x86_64-linux-gnu")
    libraries = [path for path in sorted(directory.glob("lib*.so.*")) if not path.is_symlink()]
    if not libraries:
        pytest.skip(f"no libraries in {directory}")
    verdicts = {path.name: preflight.whole(path.read_bytes()) for path in libraries}
    fine = ("ok", "E-STATIC-TLS", "E-NO-MANIFEST")
    assert {name: verdict for name, verdict in verdicts.items() if not verdict.startswith(fine)} == {}
    assert "ok" in verdicts.values()


# ---- warnings ----


@pytest.mark.parametrize(
    ("flags", "warning"),
    [
        (("-Wl,-z,nodelete",), NODELETE),
        (("-Wl,-z,execstack",), EXECSTACK),
        (("-Wl,--build-id=none",), NO_BUILD_ID),
    ],
    ids=["nodelete", "execstack", "no-build-id"],
)
def test_warnings_of_the_linker(preflight: Preflight, build: Build, flags: tuple[str, ...], warning: int) -> None:
    assert preflight(build(C_MODULE, "-Wl,--build-id")).warnings == 0
    assert preflight(build(C_MODULE, "-Wl,--build-id", *flags)).warnings == warning


@pytest.mark.parametrize(
    ("body", "warning"),
    [
        (
            "template <class T> struct once { static int value; }; template <class T> int once<T>::value = 3;"
            '__attribute__((visibility("default"))) inline int &unique() { static int value; return value; }'
            "static int use() { return unique()++; }",
            UNIQUE,
        ),
        (
            "#include <string>\nstatic thread_local std::string last; static int use() { last += 'x'; return 1; }",
            TLS_DESTRUCTOR,
        ),
    ],
    ids=["unique", "tls-destructor"],
)
def test_warnings_of_c_plus_plus(preflight: Preflight, build: Build, cxx: str, body: str, warning: int) -> None:
    patch = "static int32_t one(void *, const void *, void *) { return use(); }\n"
    source = f'{HEAD}{body}\n{patch}HR_MODULE("m", 1, HR_PATCH("m.one", one))'
    verdict = preflight(build(source, "-Wl,--build-id", compiler=cxx))
    assert (verdict.code, verdict.warnings) == ("ok", warning)


# ---- refusals: files that compilers make ----


@pytest.mark.parametrize("data", [b"#!/bin/sh\n", b"INPUT(libx.so)\n" * 9, b"\x00" * 4096, b"\x7fELG" + b"\x00" * 100])
def test_not_elf(preflight: Preflight, data: bytes) -> None:
    refused(preflight(data), "E-NOT-ELF", "not an ELF file", "7f 45 4c 46")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("-c",), "an object file"),
        (("-no-pie", "-Dmain_=main"), "an executable"),
        (("-pie", "-fPIE", "-rdynamic"), "an executable"),
    ],
    ids=["object", "executable", "pie"],
)
def test_no_shared_library(preflight: Preflight, build: Build, flags: tuple[str, ...], words: str) -> None:
    path = build(C_MODULE + "int main(void) { return 0; }", *flags, base=())
    refused(preflight(path), "E-NOT-ELF", words, "-shared")


def test_text_relocations(preflight: Preflight, build: Build) -> None:
    source = HEAD + "int value; int *where(void) { return &value; }" + PLAIN + 'HR_MODULE("m", 1, HR_PATCH("m", one))'
    flags = ("-shared", "-fno-pic", "-mcmodel=large", "-Wl,-z,notext")
    refused(preflight(build(source, base=flags)), "E-NOT-ELF", "-fPIC")


@pytest.mark.parametrize(
    ("at", "kind", "value", "words"),
    [
        (18, "H", 183, ("aarch64 (machine 183)", "x86-64 (machine 62)")),
        (18, "H", 40, ("32-bit arm",)),
        (18, "H", 4242, ("an unknown machine (machine 4242)",)),
        (4, "B", 1, ("32-bit",)),
        (5, "B", 2, ("byte order",)),
        (7, "B", 9, ("another operating system", "OS ABI 9")),
    ],
)
def test_another_machine(
    preflight: Preflight, module: Path, at: int, kind: str, value: int, words: tuple[str, ...]
) -> None:
    elf = Elf(module)
    elf.put(kind, at, value)
    refused(preflight(bytes(elf)), "E-ARCH", *words)


def test_every_cut_is_truncated(preflight: Preflight, module: Path, tmp_path: Path, require_tool: RequireTool) -> None:
    """What the watcher asks (H3): no prefix of a module is complete, whatever is missing."""
    for path in (module, stripped(module), rust_module(require_tool, tmp_path, "-O")):
        whole = path.read_bytes()
        for size in {len(whole) * part // 100 for part in range(100)} | {1, 3, 4, 63, 64, len(whole) - 1}:
            refused(preflight(whole[:size]), "E-TRUNCATED", f"the file has {size} bytes")
        assert preflight(whole).code == "ok"


def test_truncated_names_the_segment(preflight: Preflight, module: Path) -> None:
    elf = Elf(module)
    size = elf.segments(PT_LOAD)[2]["offset"] + 5
    verdict = preflight(bytes(elf)[:size])
    end = elf.segments(PT_LOAD)[2]["offset"] + elf.segments(PT_LOAD)[2]["filesz"]
    assert verdict.reason == f"segment 2 ends at byte {end}, the file has {size} bytes"
    assert verdict.expected == f"at least {end} bytes"


def test_without_a_manifest(preflight: Preflight, build: Build) -> None:
    words = ("HOTPATCH_MODULE_V1", "HR_MODULE", "default visibility", "is it a patch module at all?")
    refused(preflight(build("int value = 3;")), "E-NO-MANIFEST", *words)
    refused(preflight(build('__attribute__((visibility("default"))) int v = 3;')), "E-NO-MANIFEST", *words)
    hidden = '#undef HR_MODULE_EXPORT\n#define HR_MODULE_EXPORT __attribute__((visibility("hidden"), used))\n'
    source = HEAD + hidden + PLAIN + 'HR_MODULE("m", 1, HR_PATCH("m", one))'
    refused(preflight(build(source)), "E-NO-MANIFEST", *words)
    exported = '__attribute__((visibility("default"))) int '
    refused(preflight(build(exported + "HOTPATCH_MODULE_V1(void) { return 1; }")), "E-NO-MANIFEST", "no exported data")
    refused(preflight(build(exported + "HOTPATCH_MODULE_V2 = 1;")), "E-NO-MANIFEST", *words)


def manifest(fields: str, entries: str = '{"m.one", one, 0, 0}', body: str = PLAIN) -> str:
    return (
        f"{HEAD}{body}\nstatic const hr_patch_entry_v1 entries[] = {{ {entries} }};\n"
        f"HR_MODULE_EXPORT const hr_patch_module_v1 HOTPATCH_MODULE_V1 = {{ {fields} }};\n"
    )


@pytest.mark.parametrize(
    ("head", "what", "found"),
    [
        ("0x48505432, 1, 56", "magic", "0x48505432"),
        ("HR_ABI_MAGIC_V1, 2, 56", "version", "version 0x2"),
        ("HR_ABI_MAGIC_V1, 1, 64", "struct size", "struct size 0x40"),
        ("HR_ABI_MAGIC_V1, 1, 48", "struct size", "struct size 0x30"),
    ],
)
def test_another_abi(preflight: Preflight, build: Build, head: str, what: str, found: str) -> None:
    verdict = preflight(build(manifest(f'{head}, 1, "m", 1, 0, entries, 0, 0')))
    refused(verdict, "E-ABI", f"the {what} of HOTPATCH_MODULE_V1 differs")
    assert found in verdict.found
    assert verdict.expected == "magic 0x48505431, version 0x1, struct size 0x38"


OK = 'HR_ABI_MAGIC_V1, 1, 56, 1, "m", 1, 0, entries, 0, 0'


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (manifest(OK, '{"", one, 0, 0}'), ("the name of entry 0",)),
        (manifest(OK, '{"' + "x" * 128 + '", one, 0, 0}'), ("the name of entry 0", "shorten")),
        (manifest(OK, r'{"a\tb", one, 0, 0}'), ("the name of entry 0", "control")),
        (manifest(OK, r'{"a\x7f", one, 0, 0}'), ("the name of entry 0", "control")),
        (manifest(OK, r'{"a\xc2\x85", one, 0, 0}'), ("the name of entry 0", "control")),
        (manifest(OK, r'{"\xff", one, 0, 0}'), ("the name of entry 0", "UTF-8")),
        (manifest(OK, r'{"\xc0\xaf", one, 0, 0}'), ("the name of entry 0", "UTF-8")),
        (manifest(OK, r'{"\xed\xa0\x80", one, 0, 0}'), ("the name of entry 0", "UTF-8")),
        (manifest(OK, r'{"\xf4\x90\x80\x80", one, 0, 0}'), ("the name of entry 0", "UTF-8")),
        (manifest(OK, r'{"\xe2\x82", one, 0, 0}'), ("the name of entry 0", "UTF-8")),
        (manifest(OK, "{0, one, 0, 0}"), ("the name of entry 0", "no pointer")),
        (manifest(OK, "{(const char *)16, one, 0, 0}"), ("the name of entry 0", "not relocated")),
        (manifest(OK, '{"m.one", 0, 0, 0}'), ('the function of "m.one"', "no function")),
        (
            manifest(OK, '{"m.one", (hr_patch_fn)names, 0, 0}', PLAIN + 'static const char names[] = "x";'),
            ('the function of "m.one"', "not executable"),
        ),
        (
            manifest(OK, '{"m.one", absent, 0, 0}', "extern int32_t absent(void *, const void *, void *);"),
            ('the function of "m.one"', "does not define"),
        ),
        (
            manifest(OK.replace("1, 0, entries", "2, 0, entries"), '{"twice", one, 0, 0}, {"twice", one, 0, 0}'),
            ("listed twice", 'entries 0 and 1 are both "twice"'),
        ),
        (manifest(OK.replace('"m"', '""')), ("the module's name",)),
        (manifest(OK.replace('"m"', "0")), ("the module's name", "no pointer")),
        (manifest(OK.replace("1, 0, entries", "1, 0, 0")), ("entries is not relocated",)),
        (manifest(OK.replace("1, 0, entries", "60000, 0, entries")), ("outside the module", "60000 entries")),
        (manifest(OK.replace("1, 0, entries", "0xffffffff, 0, entries")), ("impossible number of entries",)),
        (
            manifest(OK.replace("entries, 0, 0", "zeros, 0, 0"), body=PLAIN + "static hr_patch_entry_v1 zeros[9];"),
            ("outside the module",),
        ),
        (
            manifest(
                OK.replace("entries, 0, 0", "entries, (hr_lifecycle_fn)&value, 0"), body=PLAIN + "static int value;"
            ),
            ("on_load is not executable",),
        ),
        (manifest(OK.replace("entries, 0, 0", "entries, 0, (hr_lifecycle_fn)64")), ("on_unload", "not relocated")),
    ],
)
def test_invalid_manifest(preflight: Preflight, build: Build, source: str, words: tuple[str, ...]) -> None:
    refused(preflight(build(source, "-Wno-pedantic")), "E-MANIFEST", *words)


@pytest.mark.parametrize("flags", [(), ("-Wl,-z,pack-relative-relocs",), ("-fuse-ld=lld",), ("-nostdlib",)])
def test_layouts_and_migrations(preflight: Preflight, build: Build, flags: tuple[str, ...]) -> None:
    path = build(LAYOUT_MODULE, *flags)
    verdict, where = preflight(path), addresses(path)
    assert verdict.code == "ok", verdict
    assert verdict.layout_address == where["HOTPATCH_LAYOUT_V1"]
    assert (verdict.migrate_address, verdict.migration_count) == (where["HOTPATCH_MIGRATE_V1"], 1)
    assert verdict.layout == (
        "Point 8/4 x:float@0 y:float@4",
        "Shape 48/8 at:Point[2]@0 next:struct Shape *@16 spare:hr_reserve[24]@24",
        "int 4/4",
        "void 0/1",
        "shape.tick(Shape, int, void)",
    )


def test_a_module_that_describes_nothing(preflight: Preflight, module: Path) -> None:
    verdict = preflight(module)
    assert (verdict.layout_address, verdict.migrate_address, verdict.layout) == (0, 0, ())


def layouts(head: str, rest: str = "") -> str:
    """A sound manifest beside a description written by hand."""
    return manifest(OK) + rest + f"HR_MODULE_EXPORT const hr_layout_v1 HOTPATCH_LAYOUT_V1 = {{ {head} }};\n"


LAYOUT_OK = "HR_LAYOUT_MAGIC_V1, 1, 32, 1, 0, list, 0"


def layout_type(type_: str, field: str = '"x", "float", 0, 0, 4, 0, 0') -> str:
    return (
        f"static const hr_layout_field_v1 fields[] = {{ {{ {field} }} }};\n"
        f"static const hr_layout_type_v1 type = {{ {type_} }};\n"
        "static const hr_layout_type_v1 *const list[] = { &type };\n"
    )


TYPE_OK = '"T", 8, 4, HR_TYPE_STRUCT, 0, 1, fields'


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("0x48504c32, 1, 32, 1, 0, list, 0", "magic 0x48504c32"),
        ("HR_LAYOUT_MAGIC_V1, 2, 32, 1, 0, list, 0", "version 0x2"),
        ("HR_LAYOUT_MAGIC_V1, 1, 40, 1, 0, list, 0", "struct size 0x28"),
    ],
)
def test_layouts_of_another_abi(preflight: Preflight, build: Build, head: str, words: str) -> None:
    refused(preflight(build(layouts(head, layout_type(TYPE_OK)))), "E-ABI", words)


@pytest.mark.parametrize(
    ("head", "rest", "words"),
    [
        ("HR_LAYOUT_MAGIC_V1, 1, 32, 5000, 0, list, 0", layout_type(TYPE_OK), "impossible counts"),
        ("HR_LAYOUT_MAGIC_V1, 1, 32, 0, 70000, 0, 0", "", "impossible counts"),
        ("HR_LAYOUT_MAGIC_V1, 1, 32, 1, 0, 0, 0", "", "impossible counts"),
        ("HR_LAYOUT_MAGIC_V1, 1, 32, 4000, 0, list, 0", layout_type(TYPE_OK), "list of types"),
        (LAYOUT_OK, "static const hr_layout_type_v1 *const list[] = {(void *)64};\n", "list of types"),
        (LAYOUT_OK, layout_type(TYPE_OK.replace("8, 4, HR_TYPE_STRUCT", "8, 3, HR_TYPE_STRUCT")), "alignment"),
        (LAYOUT_OK, layout_type(TYPE_OK.replace("8, 4, HR_TYPE_STRUCT", "8, 0, HR_TYPE_STRUCT")), "alignment"),
        (LAYOUT_OK, layout_type(TYPE_OK.replace("HR_TYPE_STRUCT", "77")), "unknown kind"),
        (LAYOUT_OK, layout_type(TYPE_OK.replace("HR_TYPE_STRUCT", "HR_TYPE_SCALAR")), "impossible fields"),
        (LAYOUT_OK, layout_type(TYPE_OK.replace("1, fields", "1, 0")), "impossible fields"),
        (LAYOUT_OK, layout_type(TYPE_OK.replace("1, fields", "100000, fields")), "too many fields"),
        (LAYOUT_OK, layout_type(TYPE_OK.replace("1, fields", "60000, fields")), "a field"),
        (LAYOUT_OK, layout_type(TYPE_OK.replace('"T"', '""')), "a name"),
        (LAYOUT_OK, layout_type(TYPE_OK.replace('"T"', '"' + "x" * 256 + '"')), "a name"),
        (LAYOUT_OK, layout_type(TYPE_OK.replace('"T"', r'"\xff"')), "a name"),
        (LAYOUT_OK, layout_type(TYPE_OK.replace('"T"', "(const char *)16")), "a type"),
        (LAYOUT_OK, layout_type(TYPE_OK, '0, "float", 0, 0, 4, 0, 0'), "a name"),
        (LAYOUT_OK, layout_type(TYPE_OK, '"x", "float", 0, 6, 4, 0, 0'), "a field lies outside it"),
        (LAYOUT_OK, layout_type(TYPE_OK, '"x", "float", 0, -1ull, 4, 0, 0'), "a field lies outside it"),
        (LAYOUT_OK, layout_type(TYPE_OK, '"x", "float", 0, (uint64_t)&one, 4, 0, 0'), "a field"),
        (LAYOUT_OK, layout_type(TYPE_OK, '"x", "float", (void *)8, 0, 4, 0, 0'), "a field"),
        (
            LAYOUT_OK.replace("1, 0, list", "2, 0, two"),
            layout_type(TYPE_OK)
            + 'static const hr_layout_type_v1 other = {"T", 8, 8, HR_TYPE_STRUCT, 0, 1, fields};\n'
            + "static const hr_layout_type_v1 *const two[] = {&type, &other};\n",
            "T is described twice",
        ),
    ],
)
def test_invalid_layouts(preflight: Preflight, build: Build, head: str, rest: str, words: str) -> None:
    refused(preflight(build(layouts(head, rest), "-Wno-pedantic")), "E-MANIFEST", words)


def test_a_type_called_like_a_keyword(preflight: Preflight, build: Build) -> None:
    """Found by the fuzzer: without its keyword it had no name left, and could not be told to a tool."""
    verdict = preflight(build(layouts(LAYOUT_OK, layout_type(TYPE_OK.replace('"T"', '"enum "')))))
    assert verdict.layout == ("enum  8/4 x:float@0",)


def test_types_may_refer_to_each_other_in_circles(preflight: Preflight, build: Build) -> None:
    rest = (
        "static const hr_layout_type_v1 type;\n"
        'static const hr_layout_field_v1 fields[] = {{"next", "T *", &type, 0, 8, 0, 0}};\n'
        'static const hr_layout_type_v1 type = {"T", 8, 8, HR_TYPE_STRUCT, 0, 1, fields};\n'
        "static const hr_layout_type_v1 *const list[] = {&type, &type};\n"
    )
    verdict = preflight(build(layouts(LAYOUT_OK.replace("1, 0, list", "2, 0, list"), rest)))
    assert verdict.layout == ("T 8/8 next:T *@0",)


@pytest.mark.parametrize(
    ("export", "code", "words"),
    [
        ("HR_MIGRATE_MAGIC_V1 + 1, 1, 24, 1, 0, all", "E-ABI", "magic"),
        ("HR_MIGRATE_MAGIC_V1, 1, 24, 257, 0, all", "E-MANIFEST", "257 migrations"),
        ("HR_MIGRATE_MAGIC_V1, 1, 24, 1, 0, 0", "E-MANIFEST", "impossible number"),
        ("HR_MIGRATE_MAGIC_V1, 1, 24, 200, 0, all", "E-MANIFEST", "not valid"),
        ("HR_MIGRATE_MAGIC_V1, 1, 24, 1, 0, all", "E-MANIFEST", "HOTPATCH_LAYOUT_V1 beside it"),
        ("HR_MIGRATE_MAGIC_V1, 1, 24, 1, 0, data", "E-MANIFEST", "not valid"),
        ("HR_MIGRATE_MAGIC_V1, 1, 24, 1, 0, nameless", "E-MANIFEST", "not valid"),
    ],
)
def test_invalid_migrations(preflight: Preflight, build: Build, export: str, code: str, words: str) -> None:
    rest = (
        "static int32_t grow(void *host, const void *from, void *to) { return host || from || to; }\n"
        "static int value;\n"
        'static const hr_migration_v1 all[] = {{"T", 0, 0, grow}};\n'
        'static const hr_migration_v1 data[] = {{"T", 0, 0, (hr_migrate_fn)&value}};\n'
        "static const hr_migration_v1 nameless[] = {{0, 0, 0, grow}};\n"
        "HR_QUIET static const void *const used[] = {all, data, nameless};\n"
    )
    source = manifest(OK) + rest + f"HR_MODULE_EXPORT const hr_migrate_v1 HOTPATCH_MIGRATE_V1 = {{ {export} }};\n"
    refused(preflight(build(source, "-Wno-pedantic")), code, words)


def test_function_in_the_middle_of_another(preflight: Preflight, module: Path) -> None:
    elf, function = Elf(module), dict(preflight(module).entries)["counter.add"]
    table = elf.section(".rela.dyn")
    rows = range(table["offset"], table["offset"] + table["size"], 24)
    elf.put("Q", next(row for row in rows if elf.get("Q", row + 16) == function) + 16, function + 2)
    refused(preflight(bytes(elf)), "E-MANIFEST", 'the function of "counter.add"', "middle of a function")


@pytest.mark.parametrize("model", ["initial-exec", "local-exec"])
def test_static_tls(preflight: Preflight, build: Build, model: str) -> None:
    if model == "local-exec":  # no linker makes a library of it; a flag of the file says the same
        elf = Elf(build(C_MODULE, "-Wl,-z,now"))
        at, _, value = next(entry for entry in elf.dynamic() if entry[1] == 30)
        elf.put("Q", at + 8, value | 16)
        verdict = preflight(bytes(elf))
    else:
        verdict = preflight(build(C_MODULE, f"-ftls-model={model}"))
    refused(verdict, "E-STATIC-TLS", "-ftls-model=global-dynamic")


# ---- refusals: damage at chosen places ----


def hash_table(elf: Elf) -> tuple[int, int, int]:
    """Offsets of the buckets and of the chain of .gnu.hash, and the number of buckets."""
    at = elf.section(".gnu.hash")["offset"]
    buckets = at + 16 + 8 * elf.get("I", at + 8)
    return buckets, buckets + 4 * elf.get("I", at), elf.get("I", at)


def chain_without_end(elf: Elf) -> None:
    _, chain, _ = hash_table(elf)
    table = elf.section(".gnu.hash")
    end = table["offset"] + table["size"]
    for at in range(chain, end, 4):
        elf.put("I", at, elf.get("I", at) & ~1)
    elf.put("I", table["offset"] + 4, 1 << 30)


def bucket_too_early(elf: Elf) -> None:
    buckets, _, count = hash_table(elf)
    for number in range(count):
        elf.put("I", buckets + 4 * number, 1)


def filter_of_no_power(elf: Elf) -> None:
    elf.put("I", elf.section(".gnu.hash")["offset"] + 8, 3)


def name_not_hashed(elf: Elf) -> None:
    at = elf.symbol("HOTPATCH_MODULE_V1")
    elf.put("I", at, elf.get("I", at) + 1)


def name_outside(elf: Elf) -> None:
    elf.put("I", elf.section(".dynsym")["offset"] + 24, 1 << 31)


def end_of_another_name(elf: Elf) -> None:
    at = elf.section(".dynsym")["offset"] + 24
    elf.put("I", at, elf.get("I", at) + 2)


def undefined_with_address(elf: Elf) -> None:
    elf.put("Q", elf.section(".dynsym")["offset"] + 24 + 8, 0x1000)


def needed_outside(elf: Elf) -> None:
    elf.set_dynamic(1, 1 << 40)


def dynamic_without_end(elf: Elf) -> None:
    segment = elf.segments(PT_DYNAMIC)[0]
    for at in range(segment["offset"], segment["offset"] + segment["filesz"], 16):
        if elf.get("Q", at) == 0:
            elf.put("Q", at, 0x6FFFFEF0)


def set_tag(tag: int, value: int) -> Callable[[Elf], None]:
    return lambda elf: elf.set_dynamic(tag, value)


def rename_tag(tag: int, other: int) -> Callable[[Elf], None]:
    def damage(elf: Elf) -> None:
        at = next(at for at, found, _ in elf.dynamic() if found == tag)
        elf.put("Q", at, other)

    return damage


def initialiser(offset: int) -> Callable[[Elf], None]:
    """Moves the last function of .init_array (the module's constructor) by some bytes."""

    def damage(elf: Elf) -> None:
        array = elf.section(".init_array")
        at = elf.relocation(array["addr"] + array["size"] - 8) + 16
        elf.put("Q", at, elf.get("Q", at) + offset)

    return damage


def initialiser_not_relocated(elf: Elf) -> None:
    array = elf.section(".init_array")
    at = elf.relocation(array["addr"])
    for byte in range(at, at + 24, 8):
        elf.put("Q", byte, 0)


def relocation_field(field: int, kind: str, value: int) -> Callable[[Elf], None]:
    """Changes the first symbolic relocation of .rela.dyn: 0 target, 8 type, 12 symbol, 16 addend."""

    def damage(elf: Elf) -> None:
        table = elf.section(".rela.dyn")
        rows = range(table["offset"], table["offset"] + table["size"], 24)
        at = next(row for row in rows if elf.get("I", row + 8) == 6)
        elf.put(kind, at + field, value)

    return damage


def relocation_of_dynamic(elf: Elf) -> None:
    relocation_field(0, "Q", elf.segments(PT_DYNAMIC)[0]["vaddr"] + 8)(elf)


def relocation_twice(elf: Elf) -> None:
    table = elf.section(".rela.dyn")
    elf.put("Q", table["offset"] + 24, elf.get("Q", table["offset"]))


def too_many_relative(elf: Elf) -> None:
    elf.set_dynamic(0x6FFFFFF9, 5000)


def version_outside(elf: Elf) -> None:
    elf.put("H", elf.section(".gnu.version")["offset"] + 2, 0x7000)


def version_of_stranger(elf: Elf) -> None:
    at = elf.section(".gnu.version_r")["offset"]
    elf.put("I", at + 4, elf.get("I", at + 4) + 1)


def version_chain(elf: Elf) -> None:
    elf.put("I", elf.section(".gnu.version_r")["offset"] + 12, 0xFFFFFF0)


def load(index: int, field: str, value: int) -> Callable[[Elf], None]:
    """Changes a field of a loaded segment: 0 headers, 1 code, 2 constants, 3 data."""
    return lambda elf: elf.set_segment(elf.segments(PT_LOAD)[index], field, value)


def shift_load(index: int, field: str, by: int) -> Callable[[Elf], None]:
    return lambda elf: load(index, field, elf.segments(PT_LOAD)[index][field] + by)(elf)


def relro_over_data(elf: Elf) -> None:
    for relro in elf.segments(PT_GNU_RELRO):
        elf.set_segment(relro, "memsz", relro["memsz"] + 4096)


def relro_over_code(elf: Elf) -> None:
    for relro in elf.segments(PT_GNU_RELRO):
        elf.set_segment(relro, "vaddr", elf.segments(PT_LOAD)[1]["vaddr"])
        elf.set_segment(relro, "memsz", 64)


def note_too_long(elf: Elf) -> None:
    elf.put("I", elf.segments(PT_NOTE)[-1]["offset"] + 4, 0x7FFFFFFF)


def many_program_headers(elf: Elf) -> None:
    start, count = elf.get("Q", 32), elf.get("H", 56)
    table = bytes(elf.data[start : start + 56 * count])
    elf.put("Q", 32, len(elf.data))
    elf.put("H", 56, 200)
    elf.data += table + bytes(56 * (200 - count))


DAMAGE: dict[str, Callable[[Elf], None]] = {
    "hash chain without end": chain_without_end,
    "hash bucket too early": bucket_too_early,
    "hash filter": filter_of_no_power,
    "no hash buckets": lambda elf: elf.put("I", elf.section(".gnu.hash")["offset"], 0xFFFFFFF),
    "symbol not found by its name": name_not_hashed,
    "symbol name outside": name_outside,
    "name that is the end of another": end_of_another_name,
    "undefined symbol with an address": undefined_with_address,
    "needed library outside": needed_outside,
    "dynamic section without end": dynamic_without_end,
    "string table outside": set_tag(5, 1 << 40),
    "string table too long": set_tag(10, 1 << 20),
    "symbol table outside": set_tag(6, 1 << 40),
    "symbol size": set_tag(11, 16),
    "relocation size": set_tag(9, 8),
    "relocations not whole": set_tag(8, 25),
    "relocations unused": rename_tag(7, 0x6000000F),
    "relocations of calls are REL": set_tag(20, 17),
    "relocations of calls without address": rename_tag(23, 0x6000000F),
    "hash table without address": set_tag(0x6FFFFEF5, 0),
    "versions of symbols without address": set_tag(0x6FFFFFF0, 0),
    "needed versions unused": rename_tag(0x6FFFFFFE, 0x6000000F),
    "DT_INIT outside": set_tag(12, 0x10),
    "DT_INIT in filling": lambda elf: elf.set_dynamic(12, elf.section(".init")["addr"] + 1),
    "initialisers outside": set_tag(25, 1 << 40),
    "initialisers without size": rename_tag(27, 0x6000000F),
    "initialiser in the middle of a function": initialiser(2),
    "initialiser between functions": initialiser(-1),
    "initialiser in data": initialiser(0x3000),
    "initialiser not relocated": initialiser_not_relocated,
    "relocation of no type": relocation_field(8, "I", 0),
    "relocation of unknown type": relocation_field(8, "I", 99),
    "relocation of a symbol that does not exist": relocation_field(12, "I", 0x7FFFFF),
    "relocation of code": relocation_field(0, "Q", 0x1000),
    "relocation outside": relocation_field(0, "Q", 1 << 40),
    "relocation not aligned": relocation_field(0, "B", 1),
    "relocation of the dynamic section": relocation_of_dynamic,
    "relocation twice": relocation_twice,
    "more relative relocations than relocations": too_many_relative,
    "one relative relocation too many": lambda elf: elf.set_dynamic(
        0x6FFFFFF9, next(value for _, tag, value in elf.dynamic() if tag == 0x6FFFFFF9) + 1
    ),
    "version that does not exist": version_outside,
    "version of a library that is not needed": version_of_stranger,
    "version chain": version_chain,
    "segments overlap": load(0, "memsz", 0x8000),
    "segments out of order": load(0, "vaddr", 0x100000),
    "segment not congruent": shift_load(3, "vaddr", 8),
    "segment elsewhere in the file": shift_load(3, "offset", -4096),
    "segment larger in the file": load(3, "memsz", 8),
    "segment of 2^60 bytes": load(3, "memsz", 1 << 60),
    "segment alignment": load(3, "align", 4095),
    "code not executable": load(1, "flags", 4),
    "data not writable": load(3, "flags", 4),
    "code not readable": load(1, "flags", 1),
    "read-only pages over code": relro_over_code,
    "read-only pages over .data": relro_over_data,
    "note too long": note_too_long,
    "no dynamic section": lambda elf: elf.set_segment(elf.segments(PT_DYNAMIC)[0], "type", 0),
    "program headers of another size": lambda elf: elf.put("H", 54, 32),
    "200 program headers": many_program_headers,
    "section headers of another size": lambda elf: elf.put("H", 58, 32),
    "ELF version": lambda elf: elf.put("I", 20, 2),
    "padding": lambda elf: elf.put("B", 12, 1),
    "nodlopen": set_tag(0x6FFFFFFB, 0x40),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage(preflight: Preflight, damaged_base: Path, damage: Callable[[Elf], None]) -> None:
    elf = Elf(damaged_base)
    assert preflight(bytes(elf)).code == "ok"
    damage(elf)
    refused(preflight(bytes(elf)), "E-NOT-ELF")


@pytest.fixture(scope="module")
def damaged_base(build: Build) -> Path:
    """Linked lazily, with its PLT relocations in a table of their own, and every check's table present."""
    return build(C_MODULE, "-fuse-ld=bfd", "-Wl,--build-id", "-Wl,-z,lazy", "-Wl,-z,relro", "-Wl,-z,nodump")


# ---- identity ----


def test_content_survives_strip(preflight: Preflight, module: Path) -> None:
    whole = preflight(module).content
    assert preflight(stripped(module)).content == whole
    assert preflight(stripped(module, "-g")).content == whole


def test_content_is_the_same_for_the_same_build(preflight: Preflight, build: Build, module: Path) -> None:
    again = preflight(build(C_MODULE, "-fuse-ld=bfd", "-Wl,--build-id"))
    assert (again.content, again.build_id) == (preflight(module).content, preflight(module).build_id)
    other = preflight(build(C_MODULE.replace("counter = 7", "counter = 8"), "-fuse-ld=bfd", "-Wl,--build-id"))
    assert other.content != again.content


def test_any_loaded_byte_changes_the_content(preflight: Preflight, module: Path) -> None:
    """One byte of code, constants and data each; and not those of section headers, names and debug information."""
    seen = {preflight(module).content}
    for name in (".text", ".rodata", ".data", ".eh_frame"):
        section = Elf(module).section(name)
        for at in range(section["offset"], section["offset"] + section["size"]):
            elf = Elf(module)
            elf.data[at] ^= 0x10
            verdict = preflight(bytes(elf))
            if verdict.code == "ok":
                assert verdict.content not in seen, (name, at)
                seen.add(verdict.content)
    assert len(seen) > 100
    elf = Elf(module)
    elf.data[elf.section(".comment")["offset"]] ^= 1
    elf.put("I", elf.section(".comment")["offset"] + 4, 0)
    assert preflight(bytes(elf)).content == preflight(module).content


def test_content_depends_on_permissions_and_on_memory_size(preflight: Preflight, module: Path) -> None:
    contents = {preflight(module).content}
    for index, field, change in ((2, "flags", 1), (3, "memsz", 64)):
        elf = Elf(module)
        load = elf.segments(PT_LOAD)[index]
        elf.set_segment(load, field, load[field] + change)
        contents.add(preflight(bytes(elf)).content)
    assert len(contents) == 3


# ---- what it needs ----


def test_undefined_symbols(preflight: Preflight, build: Build) -> None:
    source = "extern int first(void), second(void); __attribute__((weak)) int third(void);\n"
    body = "static int32_t one(void *s, const void *i, void *o) {\n"
    body += "(void)s; (void)i; (void)o; return first() + second() + (third ? third() : 0); }\n"
    data = build(HEAD + source + body + 'HR_MODULE("m", 1, HR_PATCH("m.one", one))').read_bytes()
    assert preflight(data).code == "ok"
    count, names = preflight.undefined(data, lambda name: not name.endswith((b"irst", b"econd")))
    assert (count, sorted(names.split(", "))) == (2, ["first", "second"])
    assert preflight.undefined(data, lambda name: name != b"first") == (1, "first")
    assert preflight.undefined(data, lambda name: True) == (0, "")
    count, names = preflight.undefined(data, lambda name: name not in (b"first", b"second"), size=8)
    assert (count, len(names)) == (2, 7)
    assert preflight.undefined(data[:100]) == (0, "")


# ---- random damage ----


@pytest.fixture(scope="module")
def victims(build: Build, cxx: str, require_tool: RequireTool, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A module of C, of C++ and of Rust each, from several linkers, whole and stripped."""
    found = [build(C_MODULE), build(CXX_MODULE, compiler=cxx), stripped(build(C_MODULE, "-Wl,--hash-style=sysv"))]
    found += [build(LAYOUT_MODULE), stripped(build(LAYOUT_MODULE, "-Wl,-z,pack-relative-relocs", "-nostdlib"))]
    for linker in ("lld", "mold"):
        require_tool(f"ld.{linker}")
        found.append(build(C_MODULE, f"-fuse-ld={linker}"))
    found.append(rust_module(require_tool, tmp_path_factory.mktemp("rust"), "-O", "-Cstrip=symbols"))
    return found


def mutations(directory: Path, *flags: str) -> Path:
    program = directory / "mutations"
    sources = [Path(__file__).with_name("mutations.c"), cbuild.SOURCES / "preflight.c", *cbuild.PREFLIGHT]
    cbuild.run([cbuild.cc(), *cbuild.WARNINGS, *flags, "-I", cbuild.INCLUDE, "-o", program, *sources, "-ldl"])
    return program


def run_mutations(program: Path, mode: str, victims: list[Path], scratch: Path) -> dict[str, int]:
    """Runs all mutants in two processes and adds up their counts."""
    total: dict[str, int] = {}
    half = MUTANTS // 2
    shares = [
        subprocess.Popen(
            [program, mode, "20250", str(first), str(half), scratch, *victims],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for first in (0, half)
    ]
    ends = [(*share.communicate(), share.returncode) for share in shares]
    for output, errors, status in ends:
        assert status == 0, f"{output}{errors[-4000:]}"
        words = output.split()
        for name, count in zip(words[::2], words[1::2], strict=True):
            total[name] = total.get(name, 0) + int(count)
    return total


def report(capsys: pytest.CaptureFixture[str], counts: dict[str, int]) -> None:
    with capsys.disabled():
        sys.stdout.write("\n" + ", ".join(f"{name} {count}" for name, count in counts.items()) + "\n")


@pytest.mark.slow
def test_random_damage_never_kills_the_loader(
    victims: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 20,000 mutants each that preflight accepts is opened in a child, which loads it or gets a message.

    Mutants with damaged machine code are counted as "repaired" (their code is put back first) or, when nothing else is
    damaged, as "code-only"; no other mutant is exempt.
    """
    counts = run_mutations(mutations(tmp_path, "-O2"), "open", victims, tmp_path)
    report(capsys, counts)
    assert (counts["mutants"], counts["failed"]) == (MUTANTS, 0)
    assert counts["loaded"] > MUTANTS * 0.15  # a preflight that refuses everything would pass otherwise
    assert min(counts[code] for code in ("E-NOT-ELF", "E-ARCH", "E-TRUNCATED", "E-ABI", "E-MANIFEST")) > MUTANTS / 2000


@pytest.mark.slow
def test_random_damage_under_sanitizers(victims: list[Path], tmp_path: Path) -> None:
    """The same mutants, in buffers of exactly their size: no byte outside is read, no behaviour is undefined."""
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    counts = run_mutations(mutations(tmp_path, *flags), "check", victims, tmp_path)
    assert counts["mutants"] == MUTANTS
