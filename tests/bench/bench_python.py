"""What a slot call from Python costs, beside plain cffi and ctypes calls of the same C function.

    python tests/bench/bench_python.py [ROUNDS]

The rounds go through all kinds of call in turn, so that a busy machine slows all of them down alike; medians are
compared. A slot call counts, may be swapped at any time, and holds its buffers for as long as it lasts; "with buffers"
says that pointers are made for each call, which is what both plain ways need as well to be as safe.

The typed calls (`@hotreload.slot`) take a numpy array and a number. Their plain counterparts get the array's address
and length for each call as people write it, and check nothing of its type.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cffi
import numpy as np

import hotreload
from hotreload import Runtime

ROUNDS = 15
CALLS = 20_000
PLAIN = "cffi, pointers made before"
TYPED = "cffi, array and number"
SOURCE = """#include <stdint.h>
int32_t add(void *state, const void *given, void *result) {
    *(int64_t *)result = *(int64_t *)state += *(const int64_t *)given;
    return 0;
}
double first(double *x, int64_t x_len, double dt) { return x_len ? x[0] += dt : dt; }
"""
SIGNATURE = "int32_t add(void *, const void *, void *); double first(double *, int64_t, double);"


def compile_library(directory: Path) -> Path:
    compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
    (directory / "add.c").write_text(SOURCE)
    library = directory / "add.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", directory / "add.c", "-o", library], check=True)
    return library


def kinds(library: Path, runtime: Runtime) -> dict[str, Callable[[], object]]:
    """One call of each kind."""
    ffi = cffi.FFI()
    ffi.cdef(SIGNATURE)
    plain = ffi.dlopen(str(library)).add
    native = ctypes.CDLL(str(library)).add
    native.argtypes = [ctypes.c_void_p] * 3
    slot = runtime.register_fallback("bench.add", ffi.addressof(ffi.dlopen(str(library)), "add"))

    state, given, result = bytearray(8), bytes([1]) + bytes(7), bytearray(8)
    pointers = [ffi.new("int64_t *") for _ in range(3)]
    numbers = [ctypes.c_int64(1) for _ in range(3)]
    references = [ctypes.addressof(number) for number in numbers]
    a, b, c = pointers
    x, y, z = references
    buffer, char = ffi.from_buffer, ctypes.c_char * 8
    return {
        PLAIN: lambda: plain(a, b, c),
        "ctypes, addresses made before": lambda: native(x, y, z),
        "slot, pointers made before": lambda: slot(a, b, c),
        "cffi, with buffers": lambda: plain(buffer(state), buffer(given), buffer(result)),
        "ctypes, with buffers": lambda: native(char.from_buffer(state), given, char.from_buffer(result)),
        "slot, with buffers": lambda: slot(state, given, result),
    }


def typed_kinds(library: Path, runtime: Runtime) -> dict[str, Callable[[], object]]:
    """One call of each kind with an array and a number."""
    ffi = cffi.FFI()
    ffi.cdef(SIGNATURE)
    opened = ffi.dlopen(str(library))
    plain, pointer = opened.first, ffi.typeof("double[]")
    native = ctypes.CDLL(str(library)).first
    native.restype, native.argtypes = ctypes.c_double, [ctypes.c_void_p, ctypes.c_int64, ctypes.c_double]

    def first(x: object, dt: float) -> float:
        return dt

    slot = hotreload.slot("bench.first", signature="double first(double x[], double dt)", runtime=runtime)(first)
    slot.implement(ffi.addressof(opened, "first"))
    fallback = hotreload.slot("bench.python", signature="double first(double x[], double dt)", runtime=runtime)(first)
    x, buffer = np.zeros(8), ffi.from_buffer
    return {
        TYPED: lambda: plain(buffer(pointer, x), len(x), 1.0),
        "ctypes, array and number": lambda: native(x.ctypes.data, len(x), 1.0),
        "typed slot, native": lambda: slot(x, 1.0),
        "typed slot, Python function": lambda: fallback(x, 1.0),
        "the Python function itself": lambda: first(x, 1.0),
    }


def nanoseconds(call: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    for _ in range(CALLS):
        call()
    return (time.perf_counter_ns() - began) / CALLS


def report(title: str, measured: dict[str, Callable[[], object]], base: str, rounds: int) -> None:
    """Measures all kinds in turn and prints their medians beside that of ``base``."""
    times: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(rounds):
        for name, call in measured.items():
            times[name].append(nanoseconds(call))
    print(f"{title}, median of {rounds} rounds of {CALLS} calls")
    for name, taken in times.items():
        print(f"  {name:32} {median(taken):7.0f} ns  {median(taken) / median(times[base]):5.2f} x")


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as directory, Runtime(default=False) as runtime:
        library = compile_library(Path(directory))
        report("a call of a C function from Python", kinds(library, runtime), PLAIN, rounds)
        report("the same with a numpy array and a number", typed_kinds(library, runtime), TYPED, rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
