"""A Python program as a host: slots, buffers, modules, errors, threads, and its life under ``hotreload watch``."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cffi
import pytest
from conftest import require_module

from hotreload import HotreloadError, Rejected, Runtime
from hotreload.native import UNRESOLVED

LONG = 60.0
NUMBER = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)

LIBRARY = r"""
#include <poll.h>
#include <stdint.h>
#include <unistd.h>
int32_t seven(void *state, const void *given, void *result) { (void)state, (void)given, (void)result; return 7; }
int32_t add(void *state, const void *given, void *result) {
    *(int64_t *)state += *(const int64_t *)given;
    *(int64_t *)result = *(int64_t *)state;
    return 0;
}
/* Waits for a byte from the pipe whose descriptor is the input: somebody else's Python code has to write it. */
int32_t wait_for_byte(void *state, const void *given, void *result) {
    struct pollfd pipe = {*(const int32_t *)given, POLLIN, 0};
    char byte;
    (void)state, (void)result;
    return poll(&pipe, 1, 20000) == 1 && read(pipe.fd, &byte, 1) == 1 ? byte : -1;
}
/* Two threads that are here at the same time see each other. */
int32_t meet(void *state, const void *given, void *result) {
    int32_t *inside = state;
    (void)given, (void)result;
    __atomic_add_fetch(inside, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 20000 && __atomic_load_n(inside, __ATOMIC_SEQ_CST) < 2; i++) usleep(1000);
    return __atomic_load_n(inside, __ATOMIC_SEQ_CST);
}
"""

ADD_TWICE = """
static int32_t f(void *state, const void *given, void *result) {
    *(int64_t *)state += 2 * *(const int64_t *)given;
    *(int64_t *)result = *(int64_t *)state;
    return 0;
}"""


def constant(value: int) -> str:
    return f"static int32_t f(void *s, const void *i, void *o) {{ (void)s, (void)i, (void)o; return {value}; }}"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory, cc: str) -> Path:
    directory = tmp_path_factory.mktemp("library")
    (directory / "library.c").write_text(LIBRARY)
    path = directory / "library.so"
    subprocess.run([cc, "-shared", "-fPIC", "-O2", directory / "library.c", "-o", path], check=True)
    return path


@pytest.fixture(scope="session")
def functions(library: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(library))


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


BuildModule = Callable[..., Path]


# ---- fallbacks ----


def test_a_python_fallback(runtime: Runtime) -> None:
    seen: list[tuple[int, int, int]] = []

    def fallback(state: int, given: int, result: int) -> int:
        seen.append((state, given, result))
        return 42

    slot = runtime.register_fallback("a", fallback)
    assert slot() == 42 and slot(1, 2, 3) == 42
    assert seen == [(0, 0, 0), (1, 2, 3)]
    assert slot.symbol == "a" and "'a'" in repr(slot)


def test_none_is_a_status_and_so_is_a_boolean(runtime: Runtime) -> None:
    assert runtime.register_fallback("none", lambda *_: None)() == 0
    assert runtime.register_fallback("true", lambda *_: True)() == 1


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said about exceptions that have no caller to go to; Python prints it on standard error."""
    said: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda each: said.append(repr(each.exc_value)))
    return said


@pytest.mark.parametrize("value", ["text", 1.5, 2**40])
def test_what_is_no_status_becomes_minus_one(runtime: Runtime, value: Any, unraisable: list[str]) -> None:
    assert runtime.register_fallback("a", lambda *_: value)() == -1
    assert len(unraisable) == 1 and "Error" in unraisable[0]


def test_an_exception_is_told_and_becomes_minus_one(runtime: Runtime, unraisable: list[str]) -> None:
    def fallback(state: int, given: int, result: int) -> int:
        raise ValueError("what went wrong")

    slot = runtime.register_fallback("a", fallback)
    assert slot() == -1 and slot() == -1
    assert unraisable == ["ValueError('what went wrong')"] * 2


def test_pointers_as_fallbacks(runtime: Runtime, functions: ctypes.CDLL, library: Path) -> None:
    ffi = cffi.FFI()
    ffi.cdef("int32_t seven(void *, const void *, void *);")
    opened = ffi.dlopen(str(library))
    address = ctypes.cast(functions.seven, ctypes.c_void_p).value
    pointers = {
        "ctypes.function": functions.seven,
        "ctypes.typed": NUMBER(address),
        "cffi": ffi.addressof(opened, "seven"),
        "cffi.void": ffi.cast("void *", address),
        "address": address,
    }
    for name, pointer in pointers.items():
        assert runtime.register_fallback(name, pointer)() == 7, name


def test_callbacks_of_others_are_kept_alive(runtime: Runtime) -> None:
    ffi = cffi.FFI()
    slots = [
        runtime.register_fallback("ctypes", NUMBER(lambda *_: 11)),
        runtime.register_fallback("cffi", ffi.callback("int32_t(void *, const void *, void *)", lambda *_: 12)),
    ]
    for _ in range(3):
        gc.collect()
        _others = [NUMBER(lambda *_: 99) for _ in range(50)]  # these take the memory of what was freed
    assert [slot() for slot in slots] == [11, 12]


@pytest.mark.parametrize("fallback", ["text", b"bytes", 1.5, True, [1]])
def test_what_is_no_function(runtime: Runtime, fallback: Any) -> None:
    with pytest.raises(TypeError, match="fallback"):
        runtime.register_fallback("a", fallback)
    assert runtime.list_symbols() == []


@pytest.mark.parametrize("fallback", [None, 0, NUMBER(0)], ids=["none", "null", "null function"])
def test_a_slot_without_implementation(runtime: Runtime, fallback: Any, build_module: BuildModule) -> None:
    slot = runtime.register_fallback("a", fallback)
    assert slot() == UNRESOLVED
    runtime.load_module(build_module("m", 1, constant(5), {"a": "f"}))
    assert slot() == 5


@pytest.mark.parametrize("symbol", ["", "x" * 128, "a\0b", "\udc80", "a\nb"])
def test_what_is_no_symbol(runtime: Runtime, symbol: str) -> None:
    with pytest.raises(HotreloadError, match="E-USAGE"):
        runtime.register_fallback(symbol, lambda *_: 0)
    assert runtime.list_symbols() == []


def test_a_slot_has_one_fallback(runtime: Runtime) -> None:
    runtime.register_fallback("a", lambda *_: 1)
    with pytest.raises(HotreloadError, match="E-DUPLICATE") as raised:
        runtime.register_fallback("a", lambda *_: 2)
    assert raised.value.code == "E-DUPLICATE" and raised.value.reason and raised.value.fix
    assert runtime.slot("a")() == 1


# ---- buffers ----


def int64s(*values: int) -> bytearray:
    return bytearray(array("q", values).tobytes())


class Pair(ctypes.Structure):
    _fields_ = (("first", ctypes.c_int64), ("second", ctypes.c_int64))


FFI = cffi.FFI()


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (lambda: int64s(40), lambda buffer: int.from_bytes(buffer, "little")),
        (lambda: memoryview(int64s(40)), lambda buffer: buffer.cast("q")[0]),
        (lambda: array("q", [40]), lambda buffer: buffer[0]),
        (lambda: ctypes.c_int64(40), lambda buffer: buffer.value),
        (lambda: Pair(40, 9), lambda buffer: buffer.first if buffer.second == 9 else None),
        (lambda: (ctypes.c_int64 * 2)(40, 9), lambda buffer: buffer[0] if buffer[1] == 9 else None),
        (lambda: FFI.new("int64_t *", 40), lambda buffer: buffer[0]),
        (lambda: FFI.new("int64_t[2]", [40, 9]), lambda buffer: buffer[0]),
        (lambda: FFI.buffer(FFI.new("int64_t *", 40)), lambda buffer: int.from_bytes(buffer, "little")),
    ],
    ids=[
        "bytearray",
        "memoryview",
        "array",
        "c_int64",
        "structure",
        "ctypes array",
        "cffi",
        "cffi array",
        "cffi buffer",
    ],
)
def test_buffers(runtime: Runtime, functions: ctypes.CDLL, make: Callable[[], Any], read: Callable[[Any], int]) -> None:
    slot = runtime.register_fallback("add", functions.add)
    state, result = make(), make()
    assert slot(state, int64s(2), result) == 0
    assert read(state) == read(result) == 42


def test_an_input_may_be_read_only(runtime: Runtime, functions: ctypes.CDLL) -> None:
    slot = runtime.register_fallback("add", functions.add)
    state, result = int64s(0), int64s(0)
    for given in (bytes(int64s(5)), memoryview(bytes(int64s(5))), bytearray(int64s(5))):
        slot(state, given, result)
    assert state == int64s(15)


@pytest.mark.parametrize("which", [0, 2])
@pytest.mark.parametrize("buffer", [bytes(8), memoryview(bytes(8))], ids=["bytes", "memoryview"])
def test_what_is_written_to_must_be_writable(runtime: Runtime, functions: ctypes.CDLL, which: int, buffer: Any) -> None:
    slot = runtime.register_fallback("add", functions.add)
    arguments: list[Any] = [int64s(1), int64s(2), int64s(3)]
    arguments[which] = buffer
    with pytest.raises(TypeError, match="writable"):
        slot(*arguments)
    assert bytes(buffer) == bytes(8)


@pytest.mark.parametrize("buffer", ["text", 1.5, [1], object(), memoryview(bytearray(8))[::2]])
def test_what_is_no_buffer(runtime: Runtime, buffer: Any) -> None:
    slot = runtime.register_fallback("a", lambda *_: 0)
    for arguments in ((buffer, None, None), (None, buffer, None), (None, None, buffer)):
        with pytest.raises(TypeError):
            slot(*arguments)


def test_numpy(runtime: Runtime, functions: ctypes.CDLL) -> None:
    numpy = require_module("numpy")
    slot = runtime.register_fallback("add", functions.add)
    state, given, result = (numpy.array([value], dtype=numpy.int64) for value in (40, 2, 0))
    assert slot(state, given, result) == 0 and state[0] == result[0] == 42
    given.flags.writeable = False
    assert slot(state, given, result) == 0 and result[0] == 44
    matrix = numpy.zeros((4, 4), dtype=numpy.int64)
    assert slot(matrix, given, result) == 0 and matrix[0, 0] == 2, "any shape, as long as it is contiguous"
    with pytest.raises(TypeError, match="writable"):
        slot(given, given, result)
    for strided in (matrix[:, 1], matrix[::2], numpy.asfortranarray(numpy.ones((2, 3)))):
        with pytest.raises(TypeError):
            slot(strided, given, result)
        with pytest.raises(TypeError):
            slot(matrix, strided, result)


def test_a_buffer_cannot_go_away_during_a_call(runtime: Runtime) -> None:
    data = int64s(1)
    errors: list[type[BaseException]] = []

    def fallback(state: int, given: int, result: int) -> int:
        try:
            data.extend(b"x" * 4096)
        except BufferError as error:
            errors.append(type(error))
        return 0

    runtime.register_fallback("a", fallback)(data)
    assert errors == [BufferError]
    data.extend(b"x")


# ---- modules ----


def test_a_module_comes_and_goes(runtime: Runtime, functions: ctypes.CDLL, build_module: BuildModule) -> None:
    slot = runtime.register_fallback("m.add", functions.add)
    state, result = int64s(10), int64s(0)
    assert (runtime.generation, runtime.list_symbols(), runtime.loaded_modules()) == (0, ["m.add"], [])
    report = runtime.load_module(build_module("m", 3, ADD_TWICE, {"m.add": "f"}))
    assert (report.code, report.module.name, report.module.version, report.generation) == ("ok", "m", 3, 1)
    assert [(each.symbol, each.before, each.after, each.kind.value) for each in report.changes] == [
        ("m.add", 0, 1, "swapped")
    ]
    assert report.us["total"] >= report.us["open"] and Path(report.staged).exists()
    slot(state, int64s(5), result)
    assert result == int64s(20)
    (undone,) = runtime.rollback("m")
    assert (undone.code, undone.generation) == ("ok", 2)
    slot(state, int64s(5), result)
    assert result == state == int64s(25), "the state is what it was"
    assert runtime.loaded_modules() == [("m", 3)]


def test_the_same_content(runtime: Runtime, build_module: BuildModule) -> None:
    runtime.register_fallback("a", lambda *_: 0)
    module = build_module("m", 1, constant(1), {"a": "f"})
    assert runtime.load_module(str(module)).code == "ok"
    assert runtime.load_module(module).code == "same" and runtime.generation == 1


def test_an_undeclared_slot_is_created_and_can_be_declared_later(runtime: Runtime, build_module: BuildModule) -> None:
    report = runtime.load_module(build_module("m", 1, constant(5), {"typo": "f"}))
    assert [each.kind.value for each in report.changes] == ["undeclared"]
    found = runtime.slot("typo")
    assert found() == 5 and runtime.slot("typo") is found
    assert runtime.register_fallback("typo", lambda *_: 1) is found
    assert found() == 5
    runtime.rollback()
    assert found() == 1


def test_a_slot_that_does_not_exist(runtime: Runtime) -> None:
    for symbol in ("nothing", "a\0b", ""):
        with pytest.raises(HotreloadError) as raised:
            runtime.slot(symbol)
        assert raised.value.code in {"E-NO-SLOT", "E-USAGE"} and raised.value.reason


def test_a_refusal_carries_code_reason_and_fix(runtime: Runtime, build_module: BuildModule, tmp_path: Path) -> None:
    slot = runtime.register_fallback("a", lambda *_: 1)
    good = build_module("good", 1, constant(2), {"a": "f"})
    writable = build_module("writable", 1, constant(3), {"a": "f"})
    writable.chmod(0o777)
    (tmp_path / "text.so").write_text("no library" * 99)
    (tmp_path / "text.so").chmod(0o755)
    (tmp_path / "cut.so").write_bytes(good.read_bytes()[:3000])
    (tmp_path / "cut.so").chmod(0o755)
    veto = 'static int32_t no(void *s) { (void)s; return 3; }\nHR_MODULE_WITH_HOOKS("veto", 1, no, 0, HR_PATCH("a", f))'
    unresolved = "int32_t nowhere(void); static int32_t f(void *s, const void *i, void *o) { return nowhere(); }"
    refused = {
        tmp_path / "missing.so": "E-IO",
        tmp_path / "text.so": "E-NOT-ELF",
        tmp_path / "cut.so": "E-TRUNCATED",
        writable: "E-DENIED",
        build_module("veto", 1, f"{constant(4)}\n{veto}"): "E-ON-LOAD",
        build_module("unresolved", 1, unresolved, {"a": "f"}, flags=["-w"]): "E-SYMBOLS",
    }
    for path, code in refused.items():
        with pytest.raises(Rejected) as raised:
            runtime.load_module(path)
        error = raised.value
        assert error.code == code and error.reason and error.fix, error
        assert slot() == 1 and runtime.generation == 0
    assert runtime.load_module(good).code == "ok"
    runtime.rollback()
    with pytest.raises(Rejected, match="E-QUARANTINED"):
        runtime.load_module(good)
    with pytest.raises(HotreloadError, match="E-NO-PREVIOUS") as nothing:
        runtime.rollback()
    assert not isinstance(nothing.value, Rejected) and nothing.value.reason


@pytest.mark.parametrize("path", ["/" + "x" * 2000, "a\0b"])
def test_paths_that_c_would_cut(runtime: Runtime, path: str) -> None:
    with pytest.raises(Rejected, match="E-IO"):
        runtime.load_module(path)


def test_several_modules_all_or_none(runtime: Runtime, build_module: BuildModule) -> None:
    a, b = (runtime.register_fallback(symbol, lambda *_: 0) for symbol in "ab")
    good = [build_module(name, 1, constant(5), {name: "f"}) for name in "ab"]
    veto = 'static int32_t no(void *s) { (void)s; return 3; }\nHR_MODULE_WITH_HOOKS("b", 2, no, 0, HR_PATCH("b", f))'
    with pytest.raises(Rejected, match="E-ON-LOAD"):
        runtime.load_modules([good[0], build_module("b", 2, f"{constant(4)}\n{veto}")])
    assert (a(), b(), runtime.generation) == (0, 0, 0)
    reports = runtime.load_modules([str(path) for path in good])
    assert [each.code for each in reports] == ["ok", "ok"]
    assert (a(), b(), runtime.generation) == (5, 5, 1)
    assert runtime.load_modules([]) == ()
    assert len(runtime.rollback()) == 2 and (a(), b()) == (0, 0)


def test_the_context_reaches_the_hooks(runtime: Runtime, build_module: BuildModule) -> None:
    runtime.register_fallback("a", lambda *_: 0)
    context = (ctypes.c_int32 * 1)(0)
    runtime.set_context(context)
    hooks = (
        "static int32_t in(void *s) { *(int32_t *)s += 5; return 0; }\n"
        'HR_MODULE_WITH_HOOKS("m", 1, in, 0, HR_PATCH("a", f))'
    )
    runtime.load_module(build_module("m", 1, f"{constant(1)}\n{hooks}"))
    assert context[0] == 5
    with pytest.raises(TypeError):
        runtime.set_context(b"read only")


# ---- several runtimes, and their end ----


def test_runtimes_have_slots_of_their_own(build_module: BuildModule) -> None:
    module = build_module("m", 1, constant(9), {"a": "f"})
    with Runtime(default=False) as one, Runtime(default=False) as two:
        first, second = one.register_fallback("a", lambda *_: 1), two.register_fallback("a", lambda *_: 2)
        assert (first(), second()) == (1, 2)
        one.load_module(module)
        assert (first(), second(), one.generation, two.generation) == (9, 2, 1, 0)
        assert two.loaded_modules() == []
        two.load_module(module)
        assert second() == 9


def test_a_closed_runtime_is_closed(build_module: BuildModule) -> None:
    """And not, above all, the default one, nor whoever has its place in the table now."""
    closed = Runtime(default=False)
    slot = closed.register_fallback("a", lambda *_: 1)
    assert slot() == 1
    closed.close()
    closed.close()
    with Runtime(default=False) as other:
        others = [other.register_fallback(f"other.{i}", lambda *_: 66) for i in range(8)]
        module = build_module("m", 1, constant(9), {"a": "f"})
        uses: list[Callable[[], object]] = [
            slot,
            closed.list_symbols,
            closed.loaded_modules,
            closed.rollback,
            lambda: closed.generation,
            lambda: closed.load_module(module),
            lambda: closed.register_fallback("b", lambda *_: 0),
            lambda: closed.slot("b"),
            lambda: closed.set_context(bytearray(8)),
            lambda: closed.serve("closed"),
        ]
        for use in uses:
            with pytest.raises(HotreloadError, match="E-USAGE") as raised:
                use()
            assert "closed" in raised.value.reason and raised.value.fix
        assert {each() for each in others} == {66}
    assert slot.symbol == "a"


def test_runtimes_may_come_and_go_for_ever() -> None:
    """More slots than the table holds, if it kept them."""
    for number in range(30):
        with Runtime(default=False) as made:
            slots = [made.register_fallback(f"s{i}", None) for i in range(200)]
            assert slots[number]() == UNRESOLVED and len(made.list_symbols()) == 200


# ---- threads ----


def test_the_gil_is_released(runtime: Runtime, functions: ctypes.CDLL) -> None:
    """A thread waits in C for what only Python code of another thread can do: with the GIL held, it would wait in
    vain and return -1."""
    slot = runtime.register_fallback("wait", functions.wait_for_byte)
    read, write = os.pipe()
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(slot(None, ctypes.c_int32(read))))
    thread.start()
    os.write(write, b"!")
    thread.join(LONG)
    os.close(read)
    os.close(write)
    assert results == [ord("!")]


def test_two_threads_are_in_c_at_once(runtime: Runtime, functions: ctypes.CDLL) -> None:
    slot = runtime.register_fallback("meet", functions.meet)
    inside = ctypes.c_int32(0)
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(slot(inside))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert results == [2, 2]


def test_a_swap_while_a_thread_is_inside(runtime: Runtime, functions: ctypes.CDLL, build_module: BuildModule) -> None:
    slot = runtime.register_fallback("wait", functions.wait_for_byte)
    read, write = os.pipe()
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(slot(None, ctypes.c_int32(read))))
    thread.start()
    runtime.load_module(build_module("m", 1, constant(9), {"wait": "f"}))
    assert slot() == 9, "the new code runs while the old call goes on"
    os.write(write, b"!")
    thread.join(LONG)
    os.close(read)
    os.close(write)
    # It may have come so late that it ran the new code.
    assert results in ([ord("!")], [9])


def test_loads_and_calls_of_many_threads(runtime: Runtime, build_module: BuildModule) -> None:
    """Calls return one of the versions, whatever is loaded and rolled back meanwhile."""
    slot = runtime.register_fallback("a", lambda *_: 0)
    modules = [build_module("m", version, constant(version), {"a": "f"}) for version in range(1, 9)]
    seen: set[int] = set()
    stop = threading.Event()

    def call() -> None:
        mine = set()
        while not stop.is_set():
            mine.add(slot())
        seen.update(mine)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for module in modules:
        runtime.load_module(module)
    for _ in modules[1:]:
        runtime.rollback()
    stop.set()
    for thread in threads:
        thread.join(LONG)
    assert seen <= set(range(9)) and slot() == 1


# ---- whole processes ----


def run(program: str, *arguments: object, code: int = 0) -> str:
    """Runs a program to its end; its standard output."""
    command = [sys.executable, "-X", "faulthandler", "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG * 2, check=False)
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}{done.stderr}"
    assert not done.stderr, done.stderr
    return done.stdout


def leftovers(home: Path) -> list[Path]:
    """Sockets and staged copies."""
    return [path for path in home.rglob("*") if not path.is_dir()]


THREADS = """
import threading
from hotreload import Runtime
from hotreload.link import Link
from hotreload.native import runtime_directory
import os
runtime = Runtime()
slot = runtime.register_fallback("a", 0)
runtime.serve("threads")
link = Link(runtime_directory() / f"{os.getpid()}.sock")
meeting = threading.Barrier(300)
def work():
    slot()
    meeting.wait(60)  # all are alive at once, more than there are shards
    for _ in range(100): slot()
    meeting.wait(60)
for _ in range(2):
    threads = [threading.Thread(target=work) for _ in range(300)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    snapshot = link.snapshot(0.0)
    print(*snapshot.calls, *snapshot.in_flight)
link.close()
"""


def test_more_threads_than_shards() -> None:
    assert run(THREADS).split() == [str(300 * 101), "0", str(2 * 300 * 101), "0"]


DEFAULT = """
import sys
from hotreload import HotreloadError, Runtime
one, two = Runtime(), Runtime()
first = one.register_fallback("a", lambda *_: 1)
assert two.list_symbols() == ["a"] and two.slot("a")() == 1
try:
    two.register_fallback("a", lambda *_: 2)
except HotreloadError as error:
    print(error.code)
two.load_module(sys.argv[1])
assert first() == 9 and one.generation == two.generation == 1
two.close()
assert first() == 9 and one.list_symbols() == ["a"], "the default runtime does not end with an object"
try:
    two.list_symbols()
except HotreloadError as error:
    print(error.code)
three = Runtime()
assert three.slot("a")() == 9
three.rollback()
assert first() == 1
for _ in range(3):
    with Runtime() as each:
        each.serve("again")
one.serve("one")
try:
    three.serve("three")
except HotreloadError as error:
    print(error.code)
three.close()
try:
    three.serve("three")
except HotreloadError as error:
    print(error.code)
try:
    one.serve("one")
except HotreloadError as error:
    print(error.code)
"""


def test_the_default_runtime_is_one(build_module: BuildModule, home: Path) -> None:
    module = build_module("m", 1, constant(9), {"a": "f"})
    assert run(DEFAULT, module).split() == ["E-DUPLICATE", "E-USAGE", "E-DUPLICATE", "E-USAGE", "E-DUPLICATE"]
    assert [path.name for path in leftovers(home)] == []


@pytest.mark.parametrize("name", ["", "x" * 128, "a\0b", "a\nb"])
def test_what_is_no_name_of_a_host(runtime: Runtime, name: str) -> None:
    with pytest.raises(HotreloadError, match="E-USAGE"):
        runtime.serve(name)


EXIT = """
import ctypes, os, sys, threading, time
from hotreload import Runtime
runtime = Runtime()
slot = runtime.register_fallback("a", lambda *_: time.sleep(0.001))
wait = runtime.register_fallback("wait", ctypes.CDLL(sys.argv[1]).wait_for_byte)
runtime.load_module(sys.argv[2])
runtime.serve("exit", poll=sys.argv[3] == "poll", safe_point=sys.argv[3] == "safe_point")
read, write = os.pipe()
started = threading.Barrier(4)
def for_ever(call):
    started.wait()
    while True: call()
threading.Thread(target=for_ever, args=(slot,), daemon=True).start()
threading.Thread(target=for_ever, args=(lambda: runtime.slot("m")(),), daemon=True).start()
threading.Thread(target=for_ever, args=(lambda: wait(None, ctypes.c_int32(read)),), daemon=True).start()
started.wait()
for _ in range(100): slot()
{end}
"""


@pytest.mark.parametrize("mode", ["thread", "poll", "safe_point"])
@pytest.mark.parametrize(("end", "code"), [("", 0), ("runtime.close()", 0), ("sys.exit(3)", 3), ("os._exit(4)", 4)])
def test_an_interpreter_that_exits_while_it_serves(
    mode: str, end: str, code: int, library: Path, build_module: BuildModule, home: Path
) -> None:
    """With threads in Python fallbacks, in a module and in C: no crash, no hang, nothing left behind."""
    module = build_module("m", 1, constant(9), {"m": "f"})
    run(EXIT.replace("{end}", end), library, module, mode, code=code)
    if "_exit" in end:
        run("from hotreload import Runtime\nRuntime().serve('next')")  # the next start clears up
        run(
            f"from hotreload import Runtime\nr = Runtime()\nr.register_fallback('m', 0)\nr.load_module({str(module)!r})"
        )
    assert [path.name for path in leftovers(home)] == []


class Host:
    """A Python host that prints what its slot does to its state, twenty times a second."""

    PROGRAM = """
import ctypes, sys, time
from hotreload import Runtime
runtime = Runtime()
slot = runtime.register_fallback("m.add", ctypes.CDLL(sys.argv[1]).add)
mode = sys.argv[2]
runtime.serve("python", poll=mode == "poll", safe_point=mode == "safe_point")
state, given, result = ctypes.c_int64(0), ctypes.c_int64(1), ctypes.c_int64(0)
while True:
    slot(state, given, result)
    print(state.value, flush=True)
    if mode == "poll":
        runtime.poll(0.01)
    if mode == "safe_point":
        runtime.safepoint()
    time.sleep(0.01)
"""

    def __init__(self, library: Path, mode: str) -> None:
        command = [sys.executable, "-c", self.PROGRAM, str(library), mode]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.values = [self.next()]

    def next(self) -> int:
        assert self.process.stdout
        return int(self.process.stdout.readline())

    def until_step(self, step: int) -> None:
        """Reads on until two values differ by ``step``."""
        for _ in range(3000):
            self.values.append(self.next())
            if self.values[-1] - self.values[-2] == step:
                return
        pytest.fail(f"it never counted by {step}: {self.values[-9:]}")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("mode", ["thread", "poll", "safe_point"])
def test_watch_drives_a_python_host(mode: str, library: Path, build_module: BuildModule, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    module = build_module("m", 1, ADD_TWICE, {"m.add": "f"})
    host = Host(library, mode)
    command = [sys.executable, "-m", "hotreload", "watch", str(out), "--json"]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
            assert watch.stdout
            attached = json.loads(watch.stdout.readline())
            assert (attached["event"], attached["host"]["name"]) == ("attach", "python")
            host.until_step(1)
            (out / "m.so").write_bytes(module.read_bytes())
            (out / "m.so").chmod(0o755)
            host.until_step(2)
            events = [json.loads(watch.stdout.readline()) for _ in range(2)]
            watch.terminate()
        assert [each["event"] for each in events] == ["candidate", "swap"]
        assert events[1]["slots"] == [{"symbol": "m.add", "from": 0, "to": 1}]
        undo = [sys.executable, "-m", "hotreload", "rollback", "m", "--json"]
        assert subprocess.run(undo, capture_output=True, timeout=LONG, check=False).returncode == 0
        host.until_step(1)
        steps = {after - before for before, after in zip(host.values, host.values[1:], strict=False)}
        assert steps == {1, 2}, "its state was never lost"
    finally:
        host.close()


def test_a_stopped_host_keeps_nobody_waiting(library: Path, build_module: BuildModule, tmp_path: Path) -> None:
    """As in a debugger: the others are served meanwhile, and it gets its modules when it goes on."""
    out = tmp_path / "out"
    out.mkdir()
    build_module("m", 1, ADD_TWICE, {"m.add": "f"}, output=out / "m.so")
    stopped, other = Host(library, "thread"), Host(library, "thread")
    stopped.process.send_signal(signal.SIGSTOP)
    command = [sys.executable, "-m", "hotreload", "watch", str(out), "--json"]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
            assert watch.stdout
            other.until_step(2)
            stopped.process.send_signal(signal.SIGCONT)
            stopped.until_step(2)
            watch.terminate()
            events = [json.loads(line) for line in watch.stdout]
        swapped = [each["host"]["pid"] for each in events if each["event"] == "swap"]
        assert swapped == [other.process.pid, stopped.process.pid]
    finally:
        stopped.close()
        other.close()


def test_polling_takes_no_longer_than_it_says(runtime: Runtime) -> None:
    """Below zero C would wait for ever."""
    assert runtime.poll(-1.0) == 0 and runtime.poll() == 0
    runtime.serve("poll", poll=True)
    assert runtime.poll(-1.0) == 0 and runtime.poll(0.01) == 0
    runtime.safepoint()


def test_many_hosts_load_their_first_module_at_once(build_module: BuildModule, tmp_path: Path) -> None:
    """Each makes its own directory while the others remove those of dead hosts."""
    module = build_module(
        "crowd", 1, "static int32_t f(void *s, const void *i, void *o) { return 1; }", {"crowd.f": "f"}
    )
    program = (
        "import sys, hotreload\n"
        "runtime = hotreload.Runtime()\n"
        "sys.stdin.readline()\n"
        f"print(runtime.load_module({str(module)!r}).code)\n"
    )
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(12)
    ]
    for host in hosts:
        assert host.stdin
        host.stdin.write("\n")
        host.stdin.flush()
    assert [host.communicate()[0].strip() for host in hosts] == ["ok"] * len(hosts)
