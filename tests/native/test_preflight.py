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

MUTANTS = 20_000
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
        output = directory / f"module-{next(numbers)}.so"
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
def test_manifest_of_every_linker(
    preflight: Preflight, build: Build, require_tool: RequireTool, linker: str
) -> None:
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
        ("template <class T> struct once { static int value; }; template <class T> int once<T>::value = 3;"
         "__attribute__((visibility(\"default\"))) inline int &unique() { static int value; return value; }"
         "static int use() { return unique()++; }", UNIQUE),
        ("#include <string>\nstatic thread_local std::string last; static int use() { last += 'x'; return 1; }",
         TLS_DESTRUCTOR),
    ],
    ids=["unique", "tls-destructor"],
)
def test_warnings_of_c_plus_plus(preflight: Preflight, build: Build, cxx: str, body: str, warning: int) -> None:
    patch = "static int32_t one(void *, const void *, void *) { return use(); }\n"
    source = f'{HEAD}{body}\n{patch}HR_MODULE("m", 1, HR_PATCH("m.one", one))'
    verdict = preflight(build(source, "-Wl,--build-id", compiler=cxx))
    assert (verdict.code, verdict.warnings) == ("ok", warning)
