"""Edits of a header that host and module share, each with the verdict that it must get: none wrong in either direction.

Every case is a host compiled with one version of the header and a module compiled with another. All of them go into one
program (a scope for each version), so that the matrix costs one compiler call for C and one for C++.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cbuild
import pytest

REFUSED = "E-LAYOUT"
Field = tuple[str, ...]
"""Name, type, and an array's bounds."""


@dataclass(frozen=True)
class Header:
    """One version of the shared header."""

    wave: tuple[str, ...] = ("SINE", "SAW", "SQUARE")
    wave_as: str = "enum Wave"
    envelope: tuple[Field, ...] = (("level", "float"), ("rate", "float"), ("spare", "hr_reserve", "[8]"))
    number: tuple[Field, ...] = (("f", "float"), ("u", "uint32_t"))
    number_as: str = "union"
    voice: tuple[Field, ...] = (
        ("phase", "double"),
        ("envelope", "Envelope"),
        ("wave", "Wave"),
        ("taps", "float", "[4]"),
        ("next", "struct Voice *"),
        ("gain", "float"),
        ("mode", "uint32_t"),
        ("number", "Number"),
        ("on", "uint8_t"),
        ("low", "uint8_t"),
        ("spare", "hr_reserve", "[26]"),
    )
    voice_with: str = ""
    note: tuple[Field, ...] = (("pitch", "float"), ("velocity", "float"), ("channel", "Channel"))
    note_with: str = ""
    channel: str = "typedef int32_t Channel;"
    types: tuple[str, ...] = ("Envelope", "Number", "Wave")
    takes: tuple[Field, ...] = (("synth.tick", "Voice", "Note", "void"), ("synth.gain", "Voice", "float", "uint32_t"))

    def text(self) -> str:
        """The header, and the description `layout` of it."""
        values = " ".join(f"V({value.split()[0]})" for value in self.wave)
        takes = ", ".join(f'HR_TAKES("{symbol}", {", ".join(types)})' for symbol, *types in self.takes)
        typedef = "typedef struct Chord { float pitches[2]; int32_t channel; } Chord;"
        chord = "#define FIELDS(F) F(Chord, pitches, float, [2]) F(Chord, channel, int32_t)\nHR_LAYOUT(Chord, FIELDS)\n"
        return "\n".join(
            [
                f"typedef {self.wave_as} {{ {', '.join(self.wave)} }} Wave;",
                f"#define FIELDS(V) {values}",
                "HR_LAYOUT_ENUM(Wave, FIELDS)",
                "#undef FIELDS",
                self.channel,
                described("Envelope", self.envelope),
                described("Number", self.number, self.number_as),
                described("Voice", self.voice, attribute=self.voice_with),
                described("Note", self.note, attribute=self.note_with),
                f"{typedef}\n{chord}#undef FIELDS",
                f"HR_HOST_LAYOUT(layout, {' '.join(f'HR_TYPE({name})' for name in self.types)}, {takes})",
            ]
        )


def described(name: str, fields: tuple[Field, ...], kind: str = "struct", attribute: str = "") -> str:
    """A struct or union, and its description by the macros."""
    body = " ".join(f"{each[1]} {each[0]}{''.join(each[2:])};" for each in fields)
    listed = " ".join(f"F({name}, {', '.join(each)})" for each in fields)
    macro = "HR_LAYOUT_PARTIAL" if attribute else "HR_LAYOUT_UNION" if kind == "union" else "HR_LAYOUT"
    return (
        f"typedef {kind} {attribute} {name} {{ {body} }} {name};\n#define FIELDS(F) {listed}\n"
        f"{macro}({name}, FIELDS)\n#undef FIELDS"
    )


BASE = Header()


def voice(**edits: Any) -> Header:
    return replace(BASE, voice=changed(BASE.voice, **edits))


def changed(
    fields: tuple[Field, ...],
    *,
    after: dict[str, Field] | None = None,
    first: Field | None = None,
    without: str = "",
    as_: dict[str, Field] | None = None,
    spare: int | None = None,
    swap: tuple[str, str] | None = None,
) -> tuple[Field, ...]:
    """The fields with one edit. ``spare``: the size that the reserve has then; 0 removes it."""
    result: list[Field] = [first] if first else []
    for each in fields:
        if each[0] == without or (each[0] == "spare" and spare == 0):
            continue
        now = (as_ or {}).get(each[0], each)
        if each[0] == "spare" and spare:
            now = (each[0], each[1], f"[{spare}]")
        result.append(now)
        if after and each[0] in after:
            result.append(after[each[0]])
    if swap:
        a, b = (next(i for i, each in enumerate(result) if each[0] == name) for name in swap)
        result[a], result[b] = result[b], result[a]
    return tuple(result)


@dataclass(frozen=True)
class Case:
    name: str
    module: Header
    verdict: str
    rows: tuple[str, ...] = ()
    host: Header = field(default_factory=Header)


def same(fields: str, name: str, spelling: str, *bounds: str) -> Header:
    """The base with another spelling of one field's type."""
    return replace(BASE, **{fields: changed(getattr(BASE, fields), as_={name: (name, spelling, *bounds)})})


PLAIN = replace(BASE, voice=changed(BASE.voice, spare=0))

CASES = [
    Case("no edit", BASE, "ok"),
    # fields of a struct with a reserve
    Case("float into the reserve", voice(after={"low": ("x", "uint16_t")}, spare=24), "ok", ("Voice.x added",)),
    Case("double that fills the reserve", voice(after={"low": ("x", "uint8_t", "[26]")}, spare=0), "ok"),
    Case("aligned field into the reserve", voice(after={"low": ("x", "float")}, spare=20), "ok", ("Voice.x added",)),
    Case("nested struct into the reserve", voice(after={"low": ("x", "Envelope")}, spare=8), "ok"),
    Case("array into the reserve", voice(after={"low": ("x", "float", "[3]")}, spare=12), "ok"),
    Case("field larger than the reserve", voice(after={"low": ("x", "uint8_t", "[27]")}, spare=0), REFUSED),
    Case("field and the whole reserve too", voice(after={"low": ("x", "float")}), REFUSED, ("Voice resized",)),
    Case("field behind the reserve", voice(after={"spare": ("x", "double")}), REFUSED),
    Case("field in front", voice(first=("x", "double")), REFUSED, ("Voice.phase moved", "Voice.x added")),
    Case("field in the middle", voice(after={"wave": ("x", "float")}), REFUSED, ("Voice.taps moved",)),
    Case("field in front, reserve shrunk", voice(first=("x", "double"), spare=18), REFUSED),
    Case("field goes into the reserve", voice(without="low", spare=27), "ok", ("Voice.low removed",)),
    Case("the host has grown", BASE, "ok", ("Voice.x removed",), voice(after={"low": ("x", "float")}, spare=20)),
    Case("two growths differ", voice(after={"low": ("y", "float")}, spare=20), REFUSED, ("Voice.y added",),
         voice(after={"low": ("x", "float")}, spare=20)),
    Case("growths of different length", voice(after={"low": ("x", "float")}, spare=20), "ok", (),
         replace(BASE, voice=changed(voice(after={"low": ("x", "float")}, spare=16).voice,
                                     after={"x": ("y", "float")}))),
    Case("reserve given up", voice(spare=0), REFUSED, ("Voice resized",)),
    Case("reserve added", BASE, REFUSED, ("Voice resized",), PLAIN),
    # fields
    Case("field without a reserve", replace(BASE, note=changed(BASE.note, after={"channel": ("x", "float")})), REFUSED,
         ("Note resized", "Note.x added")),
    Case("last field removed", replace(BASE, note=changed(BASE.note, without="channel")), REFUSED,
         ("Note.channel removed",)),
    Case("middle field removed", voice(without="gain"), REFUSED, ("Voice.gain removed",)),
    Case("fields of one type swapped", replace(BASE, note=changed(BASE.note, swap=("pitch", "velocity"))), REFUSED,
         ("Note.pitch moved", "Note.velocity moved")),
    Case("fields of two types swapped", voice(swap=("gain", "mode")), REFUSED, ("Voice.gain moved",)),
    Case("field renamed", voice(as_={"gain": ("volume", "float")}), REFUSED,
         ("Voice.gain removed", "Voice.volume added")),
    Case("field into padding", voice(after={"taps": ("x", "float")}), REFUSED, ("Voice.x added",)),
    # types
    Case("float to double", same("voice", "gain", "double"), REFUSED, ("Voice.gain resized retyped",)),
    Case("float to int32_t", same("voice", "gain", "int32_t"), REFUSED, ("Voice.gain retyped",)),
    Case("unsigned to signed", same("voice", "mode", "int32_t"), REFUSED, ("Voice.mode retyped",)),
    Case("uint32_t to unsigned int", same("voice", "mode", "unsigned int"), "ok"),
    Case("uint32_t to unsigned", same("voice", "mode", "unsigned"), "ok"),
    Case("uint32_t to float", same("voice", "mode", "float"), REFUSED, ("Voice.mode retyped",)),
    Case("uint8_t to bool", same("voice", "on", "bool"), REFUSED, ("Voice.on retyped",)),
    Case("uint8_t to char", same("voice", "on", "char"), REFUSED, ("Voice.on retyped",)),
    Case("uint8_t to unsigned char", same("voice", "on", "unsigned char"), "ok"),
    Case("typedef means another type", replace(BASE, channel="typedef float Channel;"), REFUSED,
         ("Note.channel retyped",)),
    Case("typedef means the same", replace(BASE, channel="typedef int Channel;"), "ok"),
    Case("typedef replaced by what it means", same("note", "channel", "int32_t"), "ok"),
    Case("enum to a number", same("voice", "wave", "int32_t"), REFUSED, ("Voice.wave retyped",)),
    Case("array longer", same("voice", "taps", "float", "[5]"), REFUSED, ("Voice.taps resized",)),
    Case("array shorter", same("voice", "taps", "float", "[3]"), REFUSED, ("Voice.taps resized",)),
    Case("array of another type", same("voice", "taps", "int32_t", "[4]"), REFUSED, ("Voice.taps retyped",)),
    Case("array of another shape", same("voice", "taps", "float", "[2][2]"), REFUSED, ("Voice.taps retyped",)),
    Case("array bounds spelled as a sum", same("voice", "taps", "float", "[2 + 2]"), "ok"),
    Case("array to single fields", same("voice", "taps", "Taps"), REFUSED, ("Voice.taps retyped",)),
    Case("pointer to another type", same("voice", "next", "Envelope *"), REFUSED, ("Voice.next retyped",)),
    Case("pointer to const", same("voice", "next", "const struct Voice *"), "ok"),
    Case("pointer to void", same("voice", "next", "void *"), REFUSED, ("Voice.next retyped",)),
    Case("pointer to a number", same("voice", "next", "uint64_t"), REFUSED, ("Voice.next retyped",)),
    Case("pointer to a pointer", same("voice", "next", "struct Voice * *"), REFUSED, ("Voice.next retyped",)),
    # alignment
    Case("packed", replace(BASE, voice_with="__attribute__((packed))"), REFUSED, ("Voice resized realigned",)),
    Case("aligned", replace(BASE, note_with="__attribute__((aligned(16)))"), REFUSED, ("Note resized realigned",)),
    # enums
    Case("enumerator appended", replace(BASE, wave=("SINE", "SAW", "SQUARE", "NOISE")), "ok", ("Wave.NOISE added",)),
    Case("enumerator in the middle", replace(BASE, wave=("SINE", "NOISE", "SAW", "SQUARE")), REFUSED,
         ("Wave.NOISE added", "Wave.SAW moved", "Wave.SQUARE moved")),
    Case("enumerators reordered", replace(BASE, wave=("SAW", "SINE", "SQUARE")), REFUSED, ("Wave.SAW moved",)),
    Case("enumerator removed", replace(BASE, wave=("SINE", "SAW")), REFUSED, ("Wave.SQUARE removed",)),
    Case("enumerator renamed", replace(BASE, wave=("SINE", "SAW", "PULSE")), REFUSED, ("Wave.SQUARE removed",)),
    Case("enumerator given its own value", replace(BASE, wave=("SINE", "SAW = 1", "SQUARE")), "ok"),
    Case("enumerator given another value", replace(BASE, wave=("SINE", "SAW = 7", "SQUARE = 2")), REFUSED),
    Case("enum of one byte", replace(BASE, wave_as="enum __attribute__((packed)) Wave"), REFUSED,
         ("Wave resized realigned",)),
    # nested types and unions
    Case("nested grows into its reserve", replace(BASE, envelope=changed(
        BASE.envelope, after={"rate": ("x", "float")}, spare=4)), "ok", ("Envelope.x added",)),
    Case("nested grows beyond it", replace(BASE, envelope=changed(BASE.envelope, after={"rate": ("x", "float")})),
         REFUSED, ("Envelope resized", "Voice.envelope resized")),
    Case("nested fields swapped", replace(BASE, envelope=changed(BASE.envelope, swap=("level", "rate"))), REFUSED,
         ("Envelope.level moved", "Envelope.rate moved")),
    Case("union member added", replace(BASE, number=(*BASE.number, ("i", "int32_t"))), "ok", ("Number.i added",)),
    Case("union member larger", replace(BASE, number=(*BASE.number, ("d", "double"))), REFUSED,
         ("Number resized realigned",)),
    Case("union member removed", replace(BASE, number=(("f", "float"),)), REFUSED, ("Number.u removed",)),
    Case("union becomes a struct", replace(BASE, number_as="struct"), REFUSED, ("Number resized retyped",)),
    # what slots take
    Case("slot takes another input", replace(BASE, takes=(("synth.tick", "Voice", "Chord", "void"),)), REFUSED,
         ("synth.tick(input) retyped",)),
    Case("slot takes no input", replace(BASE, takes=(("synth.tick", "Voice", "void", "void"),)), REFUSED,
         ("synth.tick(input) retyped",)),
    Case("slot has an output now", replace(BASE, takes=(("synth.tick", "Voice", "Note", "float"),)), REFUSED,
         ("synth.tick(output) retyped",)),
    Case("slot's output spelled otherwise", replace(BASE, takes=(("synth.gain", "Voice", "float", "uint32_t"),)), "ok"),
    Case("slot takes another number", replace(BASE, takes=(("synth.gain", "Voice", "float", "int32_t"),)), REFUSED,
         ("synth.gain(output) retyped",)),
    Case("slot's input is not told", replace(BASE, takes=(("synth.tick", "Voice", "hr_unchecked", "void"),)), "ok"),
    Case("a slot that the host does not describe", replace(BASE, takes=(*BASE.takes, ("new", "Chord", "void", "void"))),
         "ok"),
    Case("only some types described", replace(BASE, types=("Wave",)), "ok"),
]  # fmt: skip

PROGRAM = """
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <hotreload/hotreload.h>
typedef struct Taps { float a, b, c, d; } Taps;
%s
typedef const hr_layout_v1 *(*maker)(void);
static const maker makers[][2] = {%s};

static void words(uint32_t change) {
    static const char *const names[] = {"added", "removed", "moved", "resized", "retyped", "realigned"};
    for (int i = 0; i < 6; i++) if (change >> i & 1) printf(" %%s", names[i]);
}

/* The module's side goes through a message on its way, as a host's does to a tool. */
static hr_layout_v1 *carried(hr_layout_v1 *layout) {
    void *bytes;
    uint64_t size;
    hr_layout_v1 *again = NULL;
    hr_failure failure;
    if (hr_layout_pack(layout, &bytes, &size) != HR_OK) abort();
    if (hr_layout_unpack(bytes, size, &failure, &again) != HR_OK) {
        fprintf(stderr, "%%s\\n", failure.reason);
        abort();
    }
    hr_layout_bytes_free(bytes);
    hr_layout_free(layout);
    return again;
}

int main(void) {
    for (size_t i = 0; i < sizeof makers / sizeof makers[0]; i++) {
        hr_layout_v1 *host, *module;
        hr_layout_comparison *comparison;
        hr_failure failure;
        if (hr_layout_copy(makers[i][0](), &failure, &host) != HR_OK ||
            hr_layout_copy(makers[i][1](), &failure, &module) != HR_OK) {
            fprintf(stderr, "%%zu: %%s\\n", i, failure.reason);
            return 1;
        }
        module = carried(module);
        hr_status status = hr_layout_compare(host, module, &comparison);
        printf("{\\"verdict\\":\\"%%s\\",\\"rows\\":[", hr_status_code(status));
        const char *comma = "";
        for (uint32_t k = 0; k < comparison->row_count; k++) {
            const hr_layout_row *row = &comparison->rows[k];
            if (!row->change) continue;
            printf(row->argument ? "%%s\\"%%s(%%s)" : *row->field ? "%%s\\"%%s.%%s" : "%%s\\"%%s%%s", comma, row->type,
                   row->field);
            words(row->change);
            printf("\\"");
            comma = ",";
        }
        failure.reason[0] = 0;
        if (status == HR_E_LAYOUT) hr_layout_explain(comparison, host, &failure);
        printf("],\\"reason\\":\\"%%s\\"}\\n", failure.reason);
        hr_comparison_free(comparison);
        hr_layout_free(host);
        hr_layout_free(module);
    }
    return 0;
}
"""


SCOPES = {
    "c": "static const hr_layout_v1 *version_%(number)d(void) {\n%(header)s\nreturn &layout;\n}",
    "cpp": "namespace v%(number)d {\n%(header)s\n}\n"
    "static const hr_layout_v1 *version_%(number)d(void) { return &v%(number)d::layout; }",
}


def program(scope: str) -> str:
    """The source, with a function that returns the layouts of every version of the header."""
    versions: list[Header] = []
    pairs = []
    for case in CASES:
        for header in (case.host, case.module):
            if header not in versions:
                versions.append(header)
        pairs.append(f"{{version_{versions.index(case.host)}, version_{versions.index(case.module)}}}")
    functions = [scope % {"number": number, "header": header.text()} for number, header in enumerate(versions)]
    return PROGRAM % ("\n".join(functions), ", ".join(pairs))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Objects of the comparison alone: pure code, which needs no more of the shim."""
    directory = tmp_path_factory.mktemp("objects")
    objects = [directory / f"{source.stem}.o" for source in cbuild.LAYOUTS]
    for source, output in zip(cbuild.LAYOUTS, objects, strict=True):
        cbuild.run([cbuild.cc(), "-c", "-O1", *cbuild.WARNINGS, "-I", cbuild.INCLUDE, "-o", output, source])
    return objects


@pytest.mark.parametrize(("compiler", "standard", "suffix"), [("gcc", "c11", "c"), ("g++", "c++17", "cpp")])
def test_every_edit_gets_its_verdict(
    compiler: str, standard: str, suffix: str, compared: list[Path], tmp_path: Path, require_tool: Any
) -> None:
    source, output = tmp_path / f"matrix.{suffix}", tmp_path / "matrix"
    source.write_text(program(SCOPES[suffix]), encoding="utf-8")
    flags = [
        f"-std={standard}",
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
        "-Wno-unused-local-typedefs",
        "-I",
        cbuild.INCLUDE,
    ]
    cbuild.run([require_tool(compiler), *flags, "-o", output, source, *compared])
    done = subprocess.run([output], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(CASES) >= 40
    for case, answer in zip(CASES, answers, strict=True):
        assert answer["verdict"] == case.verdict, (case.name, answer)
        assert set(case.rows) <= set(answer["rows"]), (case.name, answer)
        assert bool(answer["reason"]) == (case.verdict == REFUSED)


def test_the_matrix_says_something() -> None:
    """The matrix above holds both verdicts, and names are unique: a case that says nothing would show."""
    assert len({case.name for case in CASES}) == len(CASES)
    assert {case.verdict for case in CASES} == {"ok", REFUSED}
