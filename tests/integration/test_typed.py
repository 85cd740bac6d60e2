"""Typed slots of a Python host: Python functions, C modules, Numba's and Cython's functions behind one signature."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import subprocess
import sys
import sysconfig
import threading
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cffi
import numpy as np
import pytest
from conftest import require_module

import hotreload
from hotreload import CallFailed, HotreloadError, Rejected, Runtime, TypedSlot
from hotreload.signature import parse

STEP = "double step(double x[], const double v[], double dt)"
BODY = """#include "slot.h"
static double step(double *x, int64_t x_len, const double *v, int64_t v_len, double dt) {
    double sum = 0;
    for (int64_t i = 0; i < x_len && i < v_len; i++) sum += x[i] += FACTOR * dt * v[i];
    return sum;
}
KERNEL_STEP(step)
"""
PARTICLE = np.dtype([("position", "f8", (3,)), ("mass", "f4"), ("alive", "?")], align=True)


class Stats(ctypes.Structure):
    _fields_ = (("count", ctypes.c_int64), ("mean", ctypes.c_double))


BuildModule = Callable[..., Path]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This user's directories, with a short name: a socket's path holds 107 bytes at most."""
    home = tmp_path_factory.mktemp("h")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    return home


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with Runtime(default=False) as made:
        yield made


def python_step(x: Any, v: Any, dt: float = 0.5) -> float:
    """Moves."""
    for i, speed in enumerate(v):
        x[i] += dt * speed
    return sum(x)


@pytest.fixture
def step(runtime: Runtime) -> TypedSlot:
    return hotreload.slot("kernel.step", signature=STEP, runtime=runtime)(python_step)


@pytest.fixture
def build(build_module: BuildModule, tmp_path: Path) -> Callable[..., Path]:
    """Builds a module against a slot's header, warning-free."""

    def build(slot: TypedSlot, version: int, body: str, *flags: str) -> Path:
        header = tmp_path / f"headers-{version}"
        header.mkdir(exist_ok=True)
        slot.write_header(header / "slot.h")
        name = f"{slot.signature.name}_entry"
        strict = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", str(header), *flags)
        return build_module("kernel", version, body, {slot.symbol: name}, flags=strict)

    return build


# ---- Python functions ----


def test_it_is_the_function(step: TypedSlot) -> None:
    x = np.zeros(3)
    assert step(x, np.ones(3)) == 1.5 and step(x, v=np.ones(3), dt=1.0) == 4.5
    assert (step.__name__, step.__doc__, step.symbol) == ("python_step", "Moves.", "kernel.step")
    assert step.fallback is python_step and STEP in repr(step)


def test_the_function_gets_the_very_objects(runtime: Runtime) -> None:
    seen: list[Any] = []

    @hotreload.slot("a", signature="int32_t f(double x[], int32_t n)", runtime=runtime)
    def f(x: Any, n: int) -> int:
        seen.append((x, n))
        return n + 1

    x = np.zeros(3)
    assert f(x, 4) == 5
    assert seen[0][0] is x and seen[0][1] == 4


def test_exceptions_come_through(runtime: Runtime) -> None:
    class Odd(BaseException):
        pass

    @hotreload.slot("a", signature="void f(int32_t n)", runtime=runtime)
    def f(n: int) -> None:
        if n:
            raise Odd(n)

    assert f(0) is None
    with pytest.raises(Odd) as raised:
        f(7)
    assert raised.value.args == (7,) and raised.traceback[-1].name == "f"
    assert f(0) is None


def test_results_are_what_c_would_give(runtime: Runtime) -> None:
    made = hotreload.slot("a", signature="uint8_t f(double x)", runtime=runtime)
    f = made(lambda x: np.uint8(x))
    assert type(f(3.7)) is int and f(3.7) == 3
    f = made(lambda x: int(x))
    with pytest.raises(OverflowError):
        f(300.0)
    f = made(lambda x: "text")
    with pytest.raises(TypeError):
        f(1.0)
    truth = hotreload.slot("b", signature="bool f(double x)", runtime=runtime)(lambda x: x > 1)
    assert truth(2.0) is True and truth(0.0) is False


def test_calls_nest(runtime: Runtime) -> None:
    @hotreload.slot("fib", signature="int64_t fib(int64_t n)", runtime=runtime)
    def fib(n: int) -> int:
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(12) == 144


def test_a_raw_call_cannot_take_somebody_elses_arguments(
    runtime: Runtime, step: TypedSlot, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: seen.append(str(told.exc_value)))
    assert runtime.slot("kernel.step")(None, bytes(40), bytearray(8)) == -1
    assert seen == ["E-USAGE: kernel.step is typed"]


def test_the_cell_of_a_notebook_runs_twice(runtime: Runtime, build: Callable[..., Path]) -> None:
    made = hotreload.slot("kernel.step", signature=STEP, runtime=runtime)
    first = made(python_step)
    runtime.load_module(build(first, 1, BODY, "-DFACTOR=10"))

    def again(x: Any, v: Any, dt: float) -> float:
        return -1.0

    second = hotreload.slot("kernel.step", signature=f" {STEP};", runtime=runtime)(again)
    assert second is first and first.__name__ == "again"
    assert first(np.zeros(2), np.ones(2), 1.0) == 20.0, "what runs, runs on"
    runtime.rollback()
    assert first(np.zeros(2), np.ones(2), 1.0) == -1.0
    with pytest.raises(HotreloadError, match="another signature") as raised:
        hotreload.slot("kernel.step", signature=STEP.replace("double dt", "float dt"), runtime=runtime)(again)
    assert "float dt" in raised.value.found and "double dt" in raised.value.expected and raised.value.fix


def test_the_parameters_are_the_functions(runtime: Runtime) -> None:
    with pytest.raises(HotreloadError, match="not those of <lambda>") as raised:
        hotreload.slot("a", signature=STEP, runtime=runtime)(lambda x, dt, v: 0)
    assert (raised.value.found, raised.value.expected) == ("x, v, dt", "x, dt, v")
    with pytest.raises(HotreloadError, match="not those of <lambda>") as raised:
        hotreload.slot("a", signature=STEP, runtime=runtime)(lambda x, v, *, dt: 0)
    assert raised.value.expected == "x, v, *dt"
    assert runtime.list_symbols() == []


def test_a_slot_that_somebody_else_declared(runtime: Runtime) -> None:
    runtime.register_fallback("kernel.step", 0)
    with pytest.raises(HotreloadError, match="E-DUPLICATE"):
        hotreload.slot("kernel.step", signature=STEP, runtime=runtime)(python_step)


def test_a_closed_runtime(runtime: Runtime, step: TypedSlot) -> None:
    runtime.close()
    with pytest.raises(HotreloadError, match="closed"):
        step(np.zeros(1), np.zeros(1), 1.0)


# ---- arguments ----


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (([1.0], np.ones(1), 1.0), "double x[]: the argument is list"),
        ((np.ones(1, "f4"), np.ones(1), 1.0), "of type float32"),
        ((array("f", [1.0]), np.ones(1), 1.0), "of type 'f'"),
        ((np.ones(1, ">f8"), np.ones(1), 1.0), "of type >f8"),
        ((np.ones(1, complex), np.ones(1), 1.0), "of type complex128"),
        ((np.ones(4)[::2], np.ones(1), 1.0), "not contiguous"),
        ((np.ones((2, 2)), np.ones(1), 1.0), "of shape (2, 2)"),
        ((np.ones(()), np.ones(1), 1.0), "of shape ()"),
        ((np.ones(1), np.ones((1, 1)), 1.0), "const double v[]: the argument is of shape (1, 1)"),
        ((np.broadcast_to(1.0, (3,)), np.ones(1), 1.0), "not contiguous"),
        ((bytes(8), np.ones(1), 1.0), "of type 'B'"),
        ((None, np.ones(1), 1.0), "NoneType"),
        ((np.ones(1), np.ones(1), "1"), STEP),
        ((np.ones(1), np.ones(1), None), STEP),
        ((np.ones(1),), "missing a required argument"),
        ((np.ones(1), np.ones(1), 1.0, 2.0), "too many positional"),
    ],
)
def test_arguments_that_are_refused(
    step: TypedSlot, runtime: Runtime, build: Callable[..., Path], arguments: tuple[Any, ...], about: str
) -> None:
    """The same for both implementations: what Python takes C must be able to take."""
    for _ in range(2):
        with pytest.raises(TypeError) as raised:
            step(*arguments)
        assert about in str(raised.value)
        runtime.load_module(build(step, 1, BODY, "-DFACTOR=10"))


def test_a_read_only_array(step: TypedSlot) -> None:
    fixed = np.ones(2)
    fixed.flags.writeable = False
    assert step(np.zeros(2), fixed, 1.0) == 2.0
    with pytest.raises(TypeError, match="read-only"):
        step(fixed, np.ones(2), 1.0)


def test_whatever_has_the_buffer_protocol(step: TypedSlot, runtime: Runtime, build: Callable[..., Path]) -> None:
    runtime.load_module(build(step, 1, BODY, "-DFACTOR=10"))
    x = array("d", [0.0, 1.0])
    assert step(x, (ctypes.c_double * 2)(1.0, 2.0), np.float32(0.5)) == 16.0 and x.tolist() == [5.0, 11.0]
    assert step(memoryview(x), np.ones((2, 2))[1], 1) == 36.0
    assert step(array("d"), array("d"), 1.0) == 0.0, "no element at all"


def test_numbers_of_every_type_cross(runtime: Runtime, build: Callable[..., Path]) -> None:
    signature = (
        "double f(bool a, int8_t b, int16_t c, int32_t d, int64_t e, uint8_t g, uint16_t h, uint32_t i, uint64_t j,"
        " float k, double l, const float m[][], int8_t *n)"
    )

    @hotreload.slot("all", signature=signature, runtime=runtime)
    def f(a, b, c, d, e, g, h, i, j, k, l, m, n):  # type: ignore[no-untyped-def]  # noqa: E741
        return 0.0

    body = """#include "slot.h"
        static double f(bool a, int8_t b, int16_t c, int32_t d, int64_t e, uint8_t g, uint16_t h, uint32_t i,
                        uint64_t j, float k, double l, const float *m, int64_t m_len0, int64_t m_len1, int8_t *n) {
            *n = (int8_t)(m_len0 * 10 + m_len1);
            return a && b == -128 && c == -32768 && d == -2147483648LL && e == -9223372036854775807LL - 1 && g == 255
                && h == 65535 && i == 4294967295u && j == 18446744073709551615u && k == 0.5f ? l + m[m_len1] : -1;
        }
        ALL(f)
    """
    runtime.load_module(build(f, 1, body))
    count = np.zeros(1, "i1")
    grid = np.arange(6, dtype="f4").reshape(2, 3)
    limits = (True, -(2**7), -(2**15), -(2**31), -(2**63), 2**8 - 1, 2**16 - 1, 2**32 - 1, 2**64 - 1)
    assert f(*limits, 0.5, 0.25, grid, count) == 3.25 and count[0] == 23
    with pytest.raises(TypeError, match="double f"):
        f(*limits[:-1], 2**64, 0.5, 0.25, grid, count)
    with pytest.raises(TypeError, match=r"int8_t \*n: the argument is of shape"):
        f(*limits, 0.5, 0.25, grid, np.zeros(2, "i1"))


def test_structs(runtime: Runtime, build: Callable[..., Path]) -> None:
    structs = {"particle": PARTICLE, "stats": Stats}

    @hotreload.slot(
        "stats", signature="stats f(particle *state, const particle all[], stats *last)", structs=structs,
        runtime=runtime,
    )  # fmt: skip
    def f(state, all, last):  # type: ignore[no-untyped-def]
        state["mass"] = -1
        last.count += 1
        return Stats(len(all), 0.5)

    body = """#include "slot.h"
        static stats f(particle *state, const particle *all, int64_t all_len, stats *last) {
            stats found = {0, 0.0};
            for (int64_t i = 0; i < all_len; i++) if (all[i].alive) found.count++, found.mean += all[i].position[2];
            state->mass = 2.5f;
            last->count += 10;
            return found;
        }
        STATS(f)
    """
    state, last = np.zeros((), PARTICLE), Stats(1, 0.0)
    many = np.zeros(3, PARTICLE)
    many["alive"], many["position"] = [True, False, True], [1, 2, 3]
    found = f(state, many, last)
    assert (found.count, found.mean, state["mass"], last.count) == (3, 0.5, -1, 2)
    runtime.load_module(build(f, 1, body))
    found = f(state, many, last)
    assert (found.count, found.mean, state["mass"], last.count) == (2, 6.0, 2.5, 12)
    for wrong, about in (
        ((np.zeros((), "f8"), many, last), r"particle \*state: the argument is of type float64"),
        ((many, many, last), "of shape"),
        ((state, many, np.zeros((), PARTICLE)), r"stats \*last"),
        ((state, (Stats * 2)(), last), "of type Stats_Array_2"),
        ((None, many, last), "NoneType"),
    ):
        with pytest.raises(TypeError, match=about):
            f(*wrong)


def test_a_numpy_struct_as_the_result(runtime: Runtime, build: Callable[..., Path]) -> None:
    made = hotreload.slot("p", signature="struct particle f(double z)", structs={"particle": PARTICLE}, runtime=runtime)
    f = made(lambda z: np.array(([0, 0, z], 1, True), PARTICLE))
    assert f(2.0)["position"].tolist() == [0, 0, 2]
    body = """#include "slot.h"
        static particle f(double z) { particle made = {{z, z, z}, 4, true}; return made; }
        P(f)
    """
    runtime.load_module(build(f, 1, body))
    assert f(3.0)["position"].tolist() == [3, 3, 3] and f(3.0)["mass"] == 4
    runtime.rollback()
    f = made(lambda z: 1.0)
    with pytest.raises(TypeError, match="the result is a particle"):
        f(2.0)


# ---- modules ----


def test_fifty_swaps_leave_numpys_state_alone(runtime: Runtime, step: TypedSlot, build: Callable[..., Path]) -> None:
    x, v = np.zeros(1000), np.ones(1000)
    address, expected = x.ctypes.data, 0.0
    modules = [build(step, version, BODY, f"-DFACTOR={version}", "-O0") for version in (1, 2)]
    for swap in range(50):
        runtime.load_module(modules[swap % 2])
        expected += 1 + swap % 2
        assert step(x, v, 1.0) == expected * 1000
    assert runtime.generation == 50 and x.ctypes.data == address and (x == 75.0).all()


def test_a_status_is_an_exception(runtime: Runtime, step: TypedSlot, build: Callable[..., Path]) -> None:
    body = """#include "slot.h"
        static int32_t step_entry(void *state, const void *input, void *output) {
            const kernel_step_input *in = input;
            (void)state, (void)output;
            return in->x_len == in->v_len ? 0 : -22;
        }
    """
    runtime.load_module(build(step, 1, body))
    assert step(np.ones(1), np.ones(1), 1.0) == 0.0
    with pytest.raises(CallFailed, match=r"E-STATUS: kernel\.step returned status -22") as raised:
        step(np.ones(1), np.ones(2), 1.0)
    assert (raised.value.status, raised.value.symbol) == (-22, "kernel.step")


def test_the_arrays_live_as_long_as_the_call(runtime: Runtime, build: Callable[..., Path]) -> None:
    """A numpy array cannot be resized, nor a bytearray, while C is inside with its address."""
    body = """#include "slot.h"
        #include <unistd.h>
        static double f(double *x, int64_t x_len, int32_t to, int32_t from) {
            char byte = 1;
            if (write(to, &byte, 1) != 1 || read(from, &byte, 1) != 1) return -1;
            return x[x_len - 1];
        }
        F(f)
    """
    f = hotreload.slot("f", signature="double f(double x[], int32_t to, int32_t from_)", runtime=runtime)(
        lambda x, to, from_: 0.0
    )
    runtime.load_module(build(f, 1, body))
    here, there = os.pipe(), os.pipe()
    x = array("d", [1.0, 2.0])
    results: list[float] = []
    thread = threading.Thread(target=lambda: results.append(f(x, here[1], there[0])))
    thread.start()
    os.read(here[0], 1)
    gc.collect()
    with pytest.raises(BufferError):
        x.append(3.0)
    os.write(there[1], b"!")
    thread.join(30)
    for end in (*here, *there):
        os.close(end)
    x.append(3.0)
    assert results == [2.0]


def test_threads(runtime: Runtime, step: TypedSlot, build: Callable[..., Path]) -> None:
    """Python fallback and C module take turns under callers in four threads: each sees its own arguments."""
    module = build(step, 1, BODY, "-DFACTOR=1")
    wrong: list[float] = []
    stop = threading.Event()

    def call(number: int) -> None:
        v = np.full(number, 1.0)
        while not stop.is_set():
            found = step(np.zeros(number), v, 2.0)
            if found != 2.0 * number:
                wrong.append(found)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    runtime.load_module(module)
    for version in range(2, 10):
        runtime.load_module(build(step, version, BODY, "-DFACTOR=1"))
    for _ in range(9):
        runtime.rollback()
    stop.set()
    for thread in threads:
        thread.join(30)
    assert wrong == []


@pytest.mark.parametrize(
    ("signature", "structs", "about"),
    [
        ("double f(particle *state, const stats *s, float dt)", {}, "f_input.dt retyped"),
        ("double f(particle *state, const stats *s, double dt, bool more)", {}, "f_input.more"),
        ("double f(particle *state, const stats *s, double time)", {}, "f_input"),
        ("float f(particle *state, const stats *s, double dt)", {}, "output of f"),
        ("double f(stats *state, const stats *s, double dt)", {}, "state of f"),
        ("double f(particle *state, const stats *s, double dt)", {"particle": Stats}, "particle"),
        ("double f(particle *state, const stats *s, double dt)", {"stats": PARTICLE}, "stats"),
        ("double f(particle *state, const stats s[], double dt)", {}, "f_input"),
    ],
)
def test_a_module_for_another_signature_is_refused(
    runtime: Runtime, build: Callable[..., Path], signature: str, structs: dict[str, Any], about: str
) -> None:
    """An output that is older than the edit of the signature never gets wrong bytes to read."""
    known = {"particle": PARTICLE, "stats": Stats}

    def function(text: str) -> Any:
        names = ", ".join(each.name for each in parse(text, known | structs).parameters)
        return eval(f"lambda {names}: 1.0")

    text = "double f(particle *state, const stats *s, double dt)"
    body = """#include "slot.h"
        static double f(particle *state, const stats *s, double dt) { return state->mass + s->mean + dt; }
        F(f)
        HR_MODULE_LAYOUT(F_TYPES, F_TAKES)
    """
    with Runtime(default=False) as other:
        old = hotreload.slot("f", signature=text, structs=known, runtime=other)(function(text))
        module = build(old, 1, body)
        assert other.load_module(module).code == "ok"
        assert old(np.ones((), PARTICLE), Stats(1, 2.0), 3.0) == 6.0
    new = hotreload.slot("f", signature=signature, structs=known | structs, runtime=runtime)(function(signature))
    with pytest.raises(Rejected, match="E-LAYOUT") as raised:
        runtime.load_module(module)
    told = f"{raised.value.reason} {raised.value.found} {raised.value.expected}"
    assert about in told and raised.value.fix
    assert new.symbol == "f" and runtime.generation == 0


def test_two_structs_of_one_name(runtime: Runtime) -> None:
    hotreload.slot("a", signature="void f(particle *p)", structs={"particle": PARTICLE}, runtime=runtime)(
        lambda p: None
    )
    made = hotreload.slot("b", signature="void f(particle *p)", structs={"particle": Stats}, runtime=runtime)
    with pytest.raises(HotreloadError, match=r"E-USAGE.*particle"):
        made(lambda p: None)
    assert runtime.list_symbols() == ["a"]


def test_headers(step: TypedSlot, tmp_path: Path) -> None:
    assert hotreload.signature_header(step) == step.header
    path = tmp_path / "kernel_step.h"
    step.write_header(path)
    assert path.read_text() == step.header
    before = path.stat().st_mtime_ns
    step.write_header(path)
    assert path.stat().st_mtime_ns == before, "an unchanged file causes no rebuild"
    path.write_text("old")
    step.write_header(path)
    assert path.read_text() == step.header
    with pytest.raises(HotreloadError, match="E-NO-SLOT"):
        hotreload.signature_header("kernel.nothing")


# ---- native functions of this process ----


def doubled(x: int, x_len: int, v: int, v_len: int, dt: float) -> float:
    return 2 * dt + x_len


def test_numba(step: TypedSlot, runtime: Runtime) -> None:
    numba = require_module("numba")

    @numba.cfunc(step.numba)
    def kernel(x, x_len, v, v_len, dt):  # type: ignore[no-untyped-def]
        xs, vs = numba.carray(x, x_len), numba.carray(v, v_len)
        for i in range(x_len):
            xs[i] += 10 * dt * vs[i]
        return xs.sum()

    x = np.zeros(4)
    assert step(x, np.ones(4), 1.0) == 4.0
    report = step.implement(kernel)
    assert (report.module.name, report.module.version) == ("numba:kernel", 1)
    assert [(each.symbol, each.before, each.after) for each in report.changes] == [("kernel.step", 0, 1)]
    assert step(x, np.ones(4), 1.0) == 44.0 and x.tolist() == [11.0] * 4

    @numba.cfunc(step.numba)
    def kernel(x, x_len, v, v_len, dt):  # type: ignore[no-untyped-def]
        return 5.0

    assert step.implement(kernel).module.version == 2 and step(x, np.ones(4), 1.0) == 5.0
    runtime.rollback()
    assert step(x, np.ones(4), 1.0) == 84.0
    with pytest.raises(HotreloadError, match="another type") as raised:
        step.implement(numba.cfunc("float64(float64)")(lambda dt: dt))
    assert raised.value.found == "double(double)" and "int64_t x_len" in raised.value.expected


CYTHON = """
from libc.stdint cimport int64_t

cdef api double step(double *x, int64_t x_len, const double *v, long long v_len, double dt) noexcept nogil:
    cdef double total = 0
    cdef long long i
    for i in range(x_len):
        x[i] += 100 * dt * v[i]
        total += x[i]
    return total

cdef api int other(int n) noexcept nogil:
    return n
"""


def test_cython(step: TypedSlot, cc: str, tmp_path: Path) -> None:
    require_module("Cython")
    (tmp_path / "fast.pyx").write_text(CYTHON)
    translate = [sys.executable, "-m", "cython", "-3", "fast.pyx"]
    subprocess.run(translate, cwd=tmp_path, check=True, capture_output=True)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    flags = ["-shared", "-fPIC", "-O0", "-w", "-I", sysconfig.get_path("include")]
    subprocess.run([cc, *flags, "fast.c", "-o", f"fast{suffix}"], cwd=tmp_path, check=True)
    spec = importlib.util.spec_from_file_location("fast", tmp_path / f"fast{suffix}")
    assert spec and spec.loader
    fast = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fast)
    report = step.implement(fast.__pyx_capi__["step"], "step")
    assert (report.code, report.module.name) == ("ok", "cython:step")
    x = np.zeros(2)
    assert step(x, np.ones(2), 1.0) == 200.0 and x.tolist() == [100.0, 100.0]
    with pytest.raises(HotreloadError, match="another type") as raised:
        step.implement(fast.__pyx_capi__["other"])
    assert raised.value.found == "int32_t(int32_t)"


def test_ctypes_and_cffi(
    step: TypedSlot, build: Callable[..., Path], runtime: Runtime, tmp_path: Path, cc: str
) -> None:
    (tmp_path / "lib.c").write_text(
        "#include <stdint.h>\ndouble half(double *x, int64_t n, const double *v, int64_t m, double dt)"
        " { (void)x, (void)v; return dt / 2 + n + m; }"
    )
    subprocess.run([cc, "-shared", "-fPIC", "lib.c", "-o", "lib.so"], cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "lib.so"))
    with pytest.raises(HotreloadError, match="nothing about its types") as raised:
        step.implement(library.half)
    assert raised.value.fix == "set argtypes"
    pointer = ctypes.POINTER(ctypes.c_double)
    library.half.argtypes = [ctypes.c_void_p, ctypes.c_int64, pointer, ctypes.c_int64, ctypes.c_double]
    with pytest.raises(HotreloadError, match="another type") as raised:
        step.implement(library.half)
    assert raised.value.found.startswith("int32_t(pointer, int64_t")
    library.half.restype = ctypes.c_double
    assert step.implement(library.half).module.name == "ctypes:half"
    x, v = np.zeros(2), np.ones(3)
    assert step(x, v, 1.0) == 5.5
    ffi = cffi.FFI()
    ffi.cdef("double half(double *, int64_t, const double *, int64_t, double); extern int number;")
    found = ffi.addressof(ffi.dlopen(str(tmp_path / "lib.so")), "half")
    assert step.implement(found).module.name == "cffi:function" and step(x, v, 1.0) == 5.5
    runtime.rollback()
    runtime.rollback()
    assert step(np.zeros(3), v, 1.0) == 3.0, "the Python function again"
    for nothing in (None, 7, len, ffi.new("int *"), np.zeros(1)):
        with pytest.raises(HotreloadError, match="no native function"):
            step.implement(nothing)


def test_no_compiler(step: TypedSlot, monkeypatch: pytest.MonkeyPatch) -> None:
    types = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_double)
    function = ctypes.CFUNCTYPE(ctypes.c_double, *types)(doubled)
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(HotreloadError, match="E-BUILD: no C compiler") as raised:
        step.implement(function)
    assert raised.value.fix
    monkeypatch.setenv("CC", "false")
    with pytest.raises(HotreloadError, match="does not compile"):
        step.implement(function)
    monkeypatch.delenv("CC")
    step.implement(function)
    assert step(np.zeros(7), np.zeros(0), 1.5) == 10.0


def test_what_is_rolled_back_is_not_taken_again(step: TypedSlot, runtime: Runtime, build: Callable[..., Path]) -> None:
    module = build(step, 1, BODY, "-DFACTOR=10")
    runtime.load_module(module)
    runtime.rollback()
    with pytest.raises(Rejected, match="E-QUARANTINED"):
        runtime.load_module(module)
