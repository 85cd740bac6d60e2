"""Prototypes of typed slots: what is read from them, what is refused, and that C lays the structs out the same way."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from struct import calcsize
from typing import Any

import numpy as np
import pytest

from hotreload.adopt import expected_types, numba_signature
from hotreload.errors import HotreloadError
from hotreload.header import declaration, header, identifier
from hotreload.signature import SCALARS, Form, parse, scalar_in

STEP = "double step(double x[], const double v[], double dt)"
PARTICLE = np.dtype([("position", "f8", (3,)), ("mass", "f4"), ("charge", "i1")], align=True)
INCLUDE = Path(__file__).resolve().parents[2] / "shim" / "include"


class Range(ctypes.Structure):
    _fields_ = (("low", ctypes.c_int16), ("high", ctypes.c_double), ("grid", ctypes.c_int32 * 3 * 2))


def test_what_a_prototype_says() -> None:
    signature = parse(STEP)
    assert (signature.name, signature.result, signature.state) == ("step", SCALARS["double"], None)
    x, v, dt = signature.parameters
    assert (x.form, x.const, x.dimensions, x.lengths) == (Form.ARRAY, False, 1, ("x_len",))
    assert (v.form, v.const) == (Form.ARRAY, True) and (dt.form, dt.lengths) == (Form.VALUE, ())
    assert [name for _, name, _ in signature.members()] == ["x", "x_len", "v", "v_len", "dt"]
    assert signature.prototype() == STEP
    assert declaration("f", signature) == (
        "double f(double *x, int64_t x_len, const double *v, int64_t v_len, double dt)"
    )


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("void f()", "void f(void)"),
        ("  int  f ( unsigned n,size_t m ) ;", "int32_t f(uint32_t n, uint64_t m)"),
        ("void f(double const grid[ ] [],float*y)", "void f(const double grid[][], float *y)"),
        ("void f(const int8_t n)", "void f(int8_t n)"),
        ("struct range f(struct range*state, const struct range all[])", "range f(range *state, const range all[])"),
    ],
)
def test_one_form_for_one_meaning(text: str, same: str) -> None:
    signature = parse(text, {"range": Range})
    assert signature.prototype() == same
    assert parse(same, {"range": Range}) == signature


def test_more_dimensions() -> None:
    assert parse("void f(float g[][][])").parameters[0].lengths == ("g_len0", "g_len1", "g_len2")


def test_the_state_is_no_member() -> None:
    signature = parse("void f(double dt, particle *state)", {"particle": PARTICLE})
    assert signature.state is signature.parameters[1]
    assert [name for _, name, _ in signature.members()] == ["dt"]


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("", "cannot be read"),
        ("step", "cannot be read"),
        ("double step(double x[]", "cannot be read"),
        ("double step(double)", "cannot be read"),
        ("double step(double *x[])", "cannot be read"),
        ("double step(double **x)", "cannot be read"),
        ("double step(double x[3])", "cannot be read"),
        ("double step(double x,)", "cannot be read"),
        ("double *step(double x)", "not known"),
        ("double step(real x)", "not known"),
        ("double step(void x)", "not known"),
        ("double step(double x, double x)", "taken"),
        ("double step(double x[], double x_len)", "taken"),
        ("double step(double while)", "taken"),
        ("double step(double hr_in)", "taken"),
        ("double step(range r)", "by a pointer"),
        ("double step(double state)", "by a pointer"),
        ("double step(double state[])", "by a pointer"),
        ("double step(const range *state)", "by a pointer"),
    ],
)
def test_what_is_refused(text: str, about: str) -> None:
    with pytest.raises(HotreloadError) as raised:
        parse(text, {"range": Range})
    assert raised.value.code == "E-USAGE" and about in raised.value.reason
    assert raised.value.expected and raised.value.found


@pytest.mark.parametrize(
    ("made", "about"),
    [
        (np.dtype([("a", "i1"), ("b", "f8")]), "not laid out"),
        (np.dtype([("a", ">f8")]), "cannot hold"),
        (np.dtype([("a", "c16")]), "cannot hold"),
        (np.dtype([("a", "S4")]), "cannot hold"),
        (np.dtype([("a b", "f8")]), "no name"),
        (np.dtype("f8"), "not described"),
        (type("Bits", (ctypes.Structure,), {"_fields_": [("a", ctypes.c_int, 3)]}), "cannot hold"),
        (type("Text", (ctypes.Structure,), {"_fields_": [("a", ctypes.c_char_p)]}), "cannot hold"),
        (type("Nested", (ctypes.Structure,), {"_fields_": [("a", Range)]}), "cannot hold"),
        (int, "not described"),
    ],
)
def test_structs_that_are_refused(made: Any, about: str) -> None:
    with pytest.raises(HotreloadError, match="E-USAGE") as raised:
        parse("void f(s *p)", {"s": made})
    assert about in raised.value.reason and raised.value.expected


@pytest.mark.parametrize("name", ["while", "double", "a b", "1"])
def test_names_that_no_struct_has(name: str) -> None:
    with pytest.raises(HotreloadError, match="name cannot be one"):
        parse("void f(void)", {name: Range})


def test_ctypes_arrays_are_row_major() -> None:
    low, high, grid = parse("void f(range *r)", {"range": Range}).structs[0].fields
    assert (low.offset, high.offset, grid.offset, grid.shape) == (0, 8, 16, (2, 3))


@pytest.mark.parametrize(
    ("code", "size", "name"),
    [("d", 8, "double"), ("l", 8, "int64_t"), ("q", 8, "int64_t"), ("<i", 4, "int32_t"), ("@B", 1, "uint8_t"),
     ("?", 1, "bool"), ("e", 2, None), (">d", 8, None), ("T{d:x:}", 8, None), ("", 1, None), ("Zd", 16, None)],
)  # fmt: skip
def test_formats_of_buffers(code: str, size: int, name: str | None) -> None:
    found = scalar_in(code, size)
    assert (found and found.name) == name


def test_every_scalar_has_the_size_of_its_code() -> None:
    for scalar in SCALARS.values():
        assert memoryview(bytes(scalar.size)).cast(scalar.code).itemsize == scalar.size


LAYOUTS = [
    ("void f(void)", {}),
    ("bool f(bool a, double b, int8_t c)", {}),
    ("uint16_t f(uint8_t a, uint16_t b, uint32_t c, uint64_t d, int16_t e, float g, int32_t h)", {}),
    ("void f(const float g[][], int8_t last)", {}),
    ("range f(range *state, const range all[], particle *p, bool x)", {"range": Range, "particle": PARTICLE}),
]


@pytest.mark.parametrize("compiler", ["gcc -std=c11", "g++ -std=c++17"])
@pytest.mark.parametrize(("text", "structs"), LAYOUTS)
def test_headers_compile_and_c_agrees(text: str, structs: dict[str, Any], compiler: str, tmp_path: Path) -> None:
    """Offsets of all members as the compiler puts them, against those that calls pack by."""
    signature = parse(text, structs)
    symbol = 'odd "symbol"/é.step'
    name = identifier(symbol)
    checks = []
    for index, (_, member, code) in enumerate(signature.members()):
        before = "".join(each for _, _, each in signature.members()[:index])
        offset = calcsize(f"@{before}0{code}")
        checks.append(f"static_assert(offsetof({name}_input, {member}) == {offset}, {quoted(member)});")
    for struct in signature.structs:
        for field in struct.fields:
            checks.append(
                f"static_assert(offsetof({struct.name}, {field.name}) == {field.offset}, {quoted(field.name)});"
            )
    result = signature.result
    value = "" if result is None else " return {}; " if "++" in compiler else f" {result.name} r = {{0}}; return r; "
    unused = "".join(f"(void){each.name};" for each in signature.parameters)
    lengths = "".join(f"(void){length};" for each in signature.parameters for length in each.lengths)
    source = (
        f"{header(symbol, signature)}\n{header('second', signature)}\n"
        f"static {declaration('f', signature)} {{ {unused}{lengths}{value}}}\n{name.upper()}(f)\n"
        f'HR_MODULE("m", 1, HR_PATCH("s", f_entry))\n' + "\n".join(checks)
    )
    path = tmp_path / ("a.cpp" if "++" in compiler else "a.c")
    path.write_text(source, encoding="utf-8")
    flags = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I", str(INCLUDE)]
    done = subprocess.run([*compiler.split(), *flags, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{source}"


def quoted(text: str) -> str:
    return f'"{text}"'


def test_a_struct_of_the_same_name_that_differs(tmp_path: Path) -> None:
    """Two headers with two structs of one name cannot be taken for each other."""
    one = header("one", parse("void f(s *p)", {"s": np.dtype([("a", "f8")])}))
    two = header("two", parse("void f(s *p)", {"s": np.dtype([("a", "f8"), ("b", "f8")])}))
    path = tmp_path / "a.c"
    path.write_text(one + two)
    command = ["gcc", "-fsyntax-only", "-I", str(INCLUDE), path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "s differs from the Python host's" in done.stderr


def test_types_for_native_functions() -> None:
    signature = parse("bool f(particle *state, const float g[][], uint8_t n)", {"particle": PARTICLE})
    assert expected_types(signature) == ("bool", "pointer", "pointer", "int64_t", "int64_t", "uint8_t")
    assert numba_signature(parse("void f(const float g[][], uint8_t n, bool *b)")) == (
        "void(CPointer(float32), int64, int64, uint8, CPointer(boolean))"
    )
    with pytest.raises(HotreloadError, match="no struct"):
        numba_signature(signature)
