"""The matrix of edits (test_layout_matrix.py) with Rust on either side, or on both: real hosts, real modules.

For every case the host is built with one version of the shared types and the module with another. The hosts hold all
versions and declare the one that they are asked for; each version has a module of its own in C and in Rust.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cbuild
import pytest
from test_layout_matrix import BASE, CASES, REFUSED, Case, Field, Header, changed

CRATE = cbuild.ROOT / "shim" / "rust"
VERSIONS = list(dict.fromkeys(header for case in CASES for header in (case.host, case.module)))
HOSTS = list(dict.fromkeys(case.host for case in CASES))

# ---- the header in Rust ----

NAMES = {
    "float": "f32",
    "double": "f64",
    "int": "core::ffi::c_int",
    "unsigned": "core::ffi::c_uint",
    "unsigned int": "core::ffi::c_uint",
    "unsigned char": "core::ffi::c_uchar",
    "char": "core::ffi::c_char",
    "void": "core::ffi::c_void",
    **{f"{sign}int{bits}_t": f"{sign or 'i'}{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
ARGUMENTS = {"void": "()", "hr_unchecked": "String"}


def rust_type(spelled: str, bounds: str = "") -> str:
    """A field's type in Rust."""
    lengths = re.findall(r"\[([^]]*)\]", bounds)
    if spelled == "hr_reserve":
        return f"hotreload::Reserve<{lengths[0]}>"
    if "*" in spelled:
        pointee = spelled.replace("*", "").replace("struct ", "").strip()
        constant = pointee.startswith("const ")
        pointee = pointee.removeprefix("const ")
        stars = spelled.count("*")
        made = f"{'*const' if constant else '*mut'} " * stars + NAMES.get(pointee, pointee)
    else:
        made = NAMES.get(spelled, spelled)
    for length in reversed(lengths):
        made = f"[{made}; {length}]"
    return made


def rust_struct(name: str, fields: Iterable[Field], kind: str = "struct", attribute: str = "") -> str:
    attributes = {"__attribute__((packed))": "#[repr(packed)] ", "__attribute__((aligned(16)))": "#[repr(align(16))] "}
    body = ", ".join(f"pub {each[0]}: {rust_type(each[1], ''.join(each[2:]))}" for each in fields)
    return f"{attributes.get(attribute, '')}pub {kind} {name} {{ {body} }}"


def rust_types(header: Header) -> str:
    """All types of a version, made and described by `layout!`."""
    channel = re.fullmatch(r"typedef (\w+) Channel;", header.channel)
    assert channel is not None
    return "\n".join(
        [
            f"pub type Channel = {rust_type(channel[1])};",
            "hotreload::layout! {",
            "#[derive(Clone, Copy)] pub struct Taps { pub a: f32, pub b: f32, pub c: f32, pub d: f32 }",
            f"{'#[repr(u8)] ' if 'packed' in header.wave_as else ''}pub enum Wave {{ {', '.join(header.wave)} }}",
            rust_struct("Envelope", header.envelope),
            rust_struct("Number", header.number, header.number_as),
            rust_struct("Voice", header.voice, attribute=header.voice_with),
            rust_struct("Note", header.note, attribute=header.note_with),
            "pub struct Chord { pub pitches: [f32; 2], pub channel: i32 }",
            "}",
        ]
    )


def rust_functions(header: Header, attribute: str) -> str:
    lines = []
    for number, (symbol, *types) in enumerate(header.takes):
        state, given, output = (ARGUMENTS.get(each, rust_type(each)) for each in types)
        lines.append(f'#[hotreload::{attribute}("{symbol}")]')
        lines.append(f"pub fn f{number}(_: &mut {state}, _: &{given}, _: &mut {output}) -> i32 {{ 0 }}")
    return "\n".join(lines)


def rust_module(header: Header) -> str:
    return (
        f'#![allow(dead_code)]\n{rust_types(header)}\n#[hotreload::module("synth", 1)]\nmod patches {{\nuse super::*;\n'
        f"{rust_functions(header, 'patch')}\n}}"
    )


def rust_host() -> str:
    """A program that declares the version of its first argument, and loads the module that is its second."""
    parts = []
    for number, header in enumerate(HOSTS):
        declared = " ".join(f"f{each}::declare().unwrap();" for each in range(len(header.takes)))
        body = f"{rust_types(header)}\n{rust_functions(header, 'slot')}\npub fn declare() {{ {declared} }}"
        parts.append(f"mod v{number} {{\n{body}\n}}")
    arms = " ".join(f'"{number}" => v{number}::declare(),' for number in range(len(HOSTS)))
    parts.append(
        f"""
        fn main() {{
            let arguments: Vec<String> = std::env::args().collect();
            match arguments[1].as_str() {{ {arms} _ => unreachable!() }}
            // SAFETY: nothing of the module is called.
            match unsafe {{ hotreload::load(&arguments[2]) }} {{
                Ok(_) => println!("ok"),
                Err(error) => println!("{{}}\\n{{}}", error.code, error.reason),
            }}
        }}"""
    )
    return "#![allow(dead_code)]\n" + "\n".join(parts)


# ---- the header in C ----

C_START = "#include <stdbool.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <hotreload/%s.h>\n"
TAPS = "typedef struct Taps { float a, b, c, d; } Taps;\n"


def c_module(header: Header) -> str:
    text = header.text().replace("HR_HOST_LAYOUT(layout, ", "HR_MODULE_LAYOUT(")
    patches = ", ".join(f'HR_PATCH("{symbol}", nothing)' for symbol, *_ in header.takes)
    nothing = "static int32_t nothing(void *s, const void *i, void *o) { (void)s, (void)i, (void)o; return 0; }\n"
    return f'{C_START % "patch"}{TAPS}{text}\n{nothing}HR_MODULE("synth", 1, {patches})\n'


def c_host() -> str:
    functions = []
    for number, header in enumerate(HOSTS):
        slots = ", ".join(f'HR_SLOT("{symbol}", nothing)' for symbol, *_ in header.takes)
        functions.append(
            f"static const hr_layout_v1 *declare_{number}(void) {{\n{header.text()}\n"
            f"static hr_slot slots[] = {{{slots}}};\n"
            f"for (size_t i = 0; i < {len(header.takes)}; i++) if (hr_declare(NULL, &slots[i]) != HR_OK) abort();\n"
            "return &layout;\n}"
        )
    table = ", ".join(f"declare_{number}" for number in range(len(HOSTS)))
    nothing = "static int32_t nothing(void *s, const void *i, void *o) { (void)s, (void)i, (void)o; return 0; }\n"
    return (
        f"{C_START % 'hotreload'}{TAPS}{nothing}"
        + "\n".join(functions)
        + f"""
        static const hr_layout_v1 *(*const declare[])(void) = {{{table}}};
        int main(int argc, char **argv) {{
            hr_report *report;
            hr_failure failure;
            if (argc != 3 || hr_declare_layout(NULL, declare[atoi(argv[1])](), &failure) != HR_OK) return 2;
            if (hr_load(NULL, argv[2], &report) == HR_OK) puts("ok");
            else printf("%s\\n%s\\n", hr_status_code(report->status), report->failure.reason);
            hr_report_free(report);
            return 0;
        }}"""
    )


# ---- the builds ----


def cargo(*words: str | Path, target: Path) -> None:
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    done = subprocess.run(
        ["cargo", *map(str, words)], env=environment, text=True, capture_output=True, umask=0o022, check=False
    )
    assert done.returncode == 0, done.stderr


def in_parallel(jobs: Iterable[Callable[[], Path]]) -> list[Path]:
    with ThreadPoolExecutor(2) as pool:
        return [made.result() for made in [pool.submit(job) for job in jobs]]


Rustc = Callable[[str, Path], Path]


@pytest.fixture(scope="module")
def rustc(pytestconfig: pytest.Config, require_tool: Callable[..., Path]) -> Rustc:
    """Builds a module from source, against the crate as modules see it."""
    require_tool("cargo")
    assert pytestconfig.cache is not None
    target = pytestconfig.cache.mkdir("rust-layouts") / "module"
    cargo(
        "build", "--lib", "--no-default-features", "--features", "macros", "--manifest-path", CRATE / "Cargo.toml",
        target=target,
    )  # fmt: skip

    def build(source: str, output: Path) -> Path:
        text = output.with_suffix(".rs")
        text.write_text(source)
        cbuild.run(
            [
                *("rustc", "--crate-type", "cdylib", "--edition", "2021", "--crate-name", "synth", "-C", "debuginfo=0"),
                *("--extern", f"hotreload={target / 'debug/libhotreload.rlib'}"),
                *("-L", f"dependency={target / 'debug/deps'}", "-o", output, text),
            ]
        )
        output.chmod(0o755)
        return output

    return build


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, rustc: Rustc, pytestconfig: pytest.Config) -> dict[str, list[Path]]:
    """The two hosts, and a module of each version in each language."""
    place = tmp_path_factory.mktemp("layouts")
    place.chmod(0o755)
    package = place / "host"
    (package / "src").mkdir(parents=True)
    (package / "src/main.rs").write_text(rust_host())
    (package / "Cargo.toml").write_text(
        '[package]\nname = "layouts-host"\nversion = "0.1.0"\nedition = "2021"\n[workspace]\n'
        f'[dependencies]\nhotreload = {{ path = "{CRATE}", features = ["macros"] }}\n'
    )
    assert pytestconfig.cache is not None
    target = pytestconfig.cache.mkdir("rust-layouts") / "host"
    cargo("build", "--manifest-path", package / "Cargo.toml", target=target)
    (place / "host.c").write_text(c_host())
    shim = cbuild.build_shim(place / "shim")
    hosts = [shim.host(place / "host.c", place / "c-host", "-Wno-unused-local-typedefs"), target / "debug/layouts-host"]
    numbered = list(enumerate(VERSIONS))
    return {
        "hosts": hosts,
        "c": in_parallel(
            [lambda n=n, h=h: cbuild.build_module(place / f"c{n}.so", c_module(h)) for n, h in numbered]  # type: ignore[misc]
        ),
        "rust": in_parallel(
            [lambda n=n, h=h: rustc(rust_module(h), place / f"rust{n}.so") for n, h in numbered]  # type: ignore[misc]
        ),
    }


# ---- the verdicts ----


def wrong(case: Case, host: Path, module: Path) -> str | None:
    """What is wrong with the verdict of a case; None: nothing."""
    done = subprocess.run([host, str(HOSTS.index(case.host)), module], capture_output=True, text=True, check=False)
    code, *reason = done.stdout.splitlines() or [f"status {done.returncode}: {done.stderr}"]
    if code != case.verdict:
        return f"{case.name}: {code} {reason}"
    # A further enumerator is accepted, and no part of the reason; neither are rows about what slots take.
    told = [row.split()[0] for row in case.rows if "(" not in row and not row.startswith("Wave.NOISE added")]
    missing = [field for field in told if case.verdict == REFUSED and f"{field} " not in reason[0]]
    return f"{case.name}: {missing} are not in {reason}" if missing else None


@pytest.mark.slow
@pytest.mark.parametrize(("host", "language"), [("rust", "rust"), ("c", "rust"), ("rust", "c")])
def test_every_edit_gets_its_verdict(host: str, language: str, built: dict[str, list[Path]]) -> None:
    program = built["hosts"][host == "rust"]
    found = [wrong(case, program, built[language][VERSIONS.index(case.module)]) for case in CASES]
    assert [each for each in found if each] == []
    assert len(found) >= 40


# ---- byte for byte ----

DUMP = """
#include <hotreload/hotreload.h>
#include <hotreload/wire.h>
#include <stdio.h>
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        hr_failure failure;
        hr_manifest *manifest;
        void *bytes;
        uint64_t size;
        if (hr_inspect(argv[i], &failure, &manifest) != HR_OK || manifest->layout == NULL) return 1;
        if (hr_layout_pack(manifest->layout, &bytes, &size) != HR_OK) return 2;
        for (uint64_t k = 0; k < size; k++) printf("%02x", ((unsigned char *)bytes)[k]);
        puts("");
        hr_layout_bytes_free(bytes);
        hr_manifest_free(manifest);
    }
    return 0;
}
"""

EXACT = {
    "base": BASE,
    "grown": replace(BASE, voice=changed(BASE.voice, after={"low": ("x", "float")}, spare=20)),
    "array": replace(BASE, voice=changed(BASE.voice, as_={"taps": ("taps", "double", "[2][2]")})),
    "char": replace(BASE, voice=changed(BASE.voice, as_={"on": ("on", "char")})),
    "pointer": replace(BASE, voice=changed(BASE.voice, as_={"next": ("next", "const uint8_t *")})),
    "enum": replace(BASE, wave=("SINE", "SAW = 7", "SQUARE = -2")),
    "struct": replace(BASE, number_as="struct"),
    "aligned": replace(BASE, number=(*BASE.number, ("d", "double"))),
    "input": replace(BASE, takes=(("synth.tick", "Voice", "Chord", "int32_t"),)),
}


def test_c_and_rust_describe_the_same_struct_in_the_same_bytes(rustc: Rustc, tmp_path: Path) -> None:
    """Of a C header that calls pointers as one would without `struct`."""
    (tmp_path / "dump.c").write_text(DUMP)
    dump = cbuild.build_shim(tmp_path / "shim").host(tmp_path / "dump.c", tmp_path / "dump")
    for name, header in EXACT.items():
        c = c_module(header).replace("struct Voice *", "Voice *")
        c = c.replace(TAPS, "typedef struct Voice Voice;\n")
        modules = [cbuild.build_module(tmp_path / f"{name}-c.so", c)]
        modules.append(rustc(rust_module(header), tmp_path / f"{name}-rust.so"))
        first, second = cbuild.run([dump, *modules]).splitlines()
        assert first == second, (name, bytes.fromhex(first), bytes.fromhex(second))
