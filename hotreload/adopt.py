"""Native functions of this process as implementations of typed slots: Numba's, Cython's, ctypes' and cffi's.

A module is compiled whose entry calls the function's address, and loaded like any other: an adopted function has a
version, a report and a way back. A second way into the dispatch table, without a module, was rejected: it would need
versions, quarantine and roll back of its own.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotreload import native, sources
from hotreload.errors import HotreloadError
from hotreload.header import c_parameters, declaration, header, identifier
from hotreload.model import Report
from hotreload.runtime import Runtime
from hotreload.signature import SCALARS, Form, Parameter, Signature, scalar_of

POINTER = "pointer"
FLAGS = ("-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-Wl,-Bsymbolic", "-Wl,--build-id")
_NUMBERS = {
    "int": "int32_t", "unsigned int": "uint32_t", "short": "int16_t", "unsigned short": "uint16_t",
    "signed char": "int8_t", "unsigned char": "uint8_t", "long": "int64_t", "unsigned long": "uint64_t",
    "long long": "int64_t", "unsigned long long": "uint64_t", "_Bool": "bool", "size_t": "uint64_t",
    "ssize_t": "int64_t", "Py_ssize_t": "int64_t",
    "PY_LONG_LONG": "int64_t", "unsigned PY_LONG_LONG": "uint64_t",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class NativeFunction:
    """A function's address and what is known of its type: result and parameters, each ``pointer``, a scalar's or a
    struct's name, or ``void``."""

    kind: str
    name: str
    address: int
    types: tuple[str, ...]


def adopt(runtime: Runtime, symbol: str, signature: Signature, function: Any, name: str = "") -> Report:
    """Loads a module whose entry for ``symbol`` is the function. The caller keeps the function alive.

    Raises:
        HotreloadError: ``E-USAGE``: it is no native function, or has another type; ``E-BUILD``: the compiler fails.
        Rejected: As `Runtime.load_module`.
    """
    found = native_function(function)
    _check(found, signature)
    name = f"{found.kind}:{name or found.name}"
    version = 1 + max((version for known, version in runtime.loaded_modules() if known == name), default=0)
    with tempfile.TemporaryDirectory(prefix="hotreload-") as directory:
        source = _module_source(symbol, signature, found.address, name, version)
        return runtime.load_module(_compile(source, Path(directory), name))


def expected_types(signature: Signature) -> tuple[str, ...]:
    """The types of the plain C function, as `NativeFunction` names them."""
    result = signature.result.name if signature.result else "void"
    return (result, *(POINTER if kind.endswith("*") else kind.strip() for kind, _ in c_parameters(signature)))


def numba_signature(signature: Signature) -> str:
    """The signature that ``numba.cfunc`` wants: ``float64(CPointer(float64), int64, float64)``."""
    result = _numba(signature.result) if signature.result else "void"
    listed = [part for each in signature.parameters for part in (_numba_parameter(each), *("int64",) * each.dimensions)]
    return f"{result}({', '.join(listed)})"


def _numba_parameter(each: Parameter) -> str:
    return _numba(each.type) if each.form is Form.VALUE else f"CPointer({_numba(each.type)})"


def _numba(kind: Any) -> str:
    if kind.name not in SCALARS:
        raise HotreloadError("E-USAGE", f"Numba's signatures hold no struct: {kind.name}", fix="pass its fields")
    return str(kind.numba)


def _check(found: NativeFunction, signature: Signature) -> None:
    expected = expected_types(signature)
    structs = {each.name for each in signature.structs}
    if found.types != expected or expected[0] in structs:
        fix = "the result is a struct, which only modules can give" if expected[0] in structs else ""
        raise HotreloadError(
            "E-USAGE",
            f"the {found.kind} function {found.name} has another type than the slot",
            found=_shown(found.types),
            expected=f"{_shown(expected)}: {declaration(found.name, signature)}",
            fix=fix or "give it the parameters that the slot's header shows",
        )


def _shown(types: Sequence[str]) -> str:
    return f"{types[0]}({', '.join(types[1:])})"


# ---- what the function is ----


def native_function(function: Any) -> NativeFunction:
    """Raises HotreloadError (``E-USAGE``): it is none, or its types cannot be told."""
    numba = getattr(function, "ctypes", None)
    if numba is not None and hasattr(function, "native_name"):
        return _of_ctypes(numba, "numba", function.__name__)
    if native.ctypes_address(function) is not None:
        return _of_ctypes(function, "ctypes", getattr(function, "__name__", "function"))
    if type(function).__name__ == "PyCapsule":
        return _of_capsule(function, "function")
    typed = native.function_type(function)
    if typed is not None:
        return NativeFunction("cffi", "function", native.address(function), tuple(map(_plain, typed)))
    raise HotreloadError(
        "E-USAGE",
        "this is no native function",
        found=repr(function),
        expected="numba.cfunc, module.__pyx_capi__['name'] of Cython, a ctypes or a cffi function pointer",
    )


def _of_ctypes(function: Any, kind: str, name: str) -> NativeFunction:
    if function.argtypes is None:
        raise HotreloadError("E-USAGE", f"the {kind} function {name} says nothing about its types", fix="set argtypes")
    types = [function.restype, *function.argtypes]
    address = ctypes.cast(function, ctypes.c_void_p).value or 0
    return NativeFunction(kind, name, address, tuple(map(_ctypes_name, types)))


def _ctypes_name(kind: Any) -> str:
    if kind is None:
        return "void"
    code = getattr(kind, "_type_", None)
    if not isinstance(code, str) or code in "PzZ":
        return POINTER if code is not None else getattr(kind, "__name__", "?")
    families = (("bhilq", "i"), ("BHILQ", "u"), ("fd", "f"), ("?", "b"))
    family = next((family for codes, family in families if code in codes), "")
    found = scalar_of(family, ctypes.sizeof(kind))
    return found.name if found else str(getattr(kind, "__name__", "?"))


def _of_capsule(capsule: Any, name: str) -> NativeFunction:
    """What Cython exports with ``cdef api``: the capsule's name is the function's C type."""
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    raw: bytes = api.PyCapsule_GetName(capsule) or b""
    match = re.fullmatch(r"(?P<result>[^()]+)\((?P<parameters>[^()]*)\)", raw.decode().strip())
    if not match:
        raise HotreloadError("E-USAGE", "the capsule holds no Cython function", found=raw.decode() or "no name")
    listed = [part for part in match["parameters"].split(",") if part.strip() not in ("", "void")]
    types = tuple(_plain(part) for part in (match["result"], *listed))
    return NativeFunction("cython", name, api.PyCapsule_GetPointer(capsule, raw) or 0, types)


def _plain(text: str) -> str:
    """A C type's name as `NativeFunction` has it."""
    if "*" in text or "[" in text:
        return POINTER
    words = [word for word in text.split() if word not in ("const", "struct")]
    return _NUMBERS.get(" ".join(words), " ".join(words))


# ---- the module ----


def _module_source(symbol: str, signature: Signature, address: int, name: str, version: int) -> str:
    types = declaration("(*hr_address)", signature)
    cast = types.replace("(*hr_address)", "(*)", 1)
    listed = ", ".join(f"{kind}{parameter}" for kind, parameter in c_parameters(signature))
    given = ", ".join(parameter for _, parameter in c_parameters(signature))
    call = f"(({cast})(uintptr_t){address:#x}u)({given})"
    result = "" if signature.result is None else "return "
    kind = signature.result.name if signature.result else "void"
    macro = identifier(symbol).upper()
    return (
        f"{header(symbol, signature)}\n"
        f"static {kind} hr_adopted({listed or 'void'}) {{ {result}{call}; }}\n"
        f"{macro}(hr_adopted)\n"
        f"HR_MODULE({_quoted(name)}, {version}, HR_PATCH({_quoted(symbol)}, hr_adopted_entry))\n"
        f"HR_MODULE_LAYOUT({macro}_TYPES, {macro}_TAKES)\n"
    )


def _quoted(text: str) -> str:
    """A C string literal."""
    return '"' + "".join(f"\\{byte:03o}" if byte < 32 or byte > 126 or byte in b'"\\?' else chr(byte)
                         for byte in text.encode()) + '"'  # fmt: skip


def _compile(source: str, directory: Path, name: str) -> Path:
    (directory / "adopted.c").write_text(source, encoding="utf-8")
    module = directory / "adopted.so"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    command = [*compiler, *FLAGS, *sources.shim().cflags(), str(directory / "adopted.c"), "-o", str(module)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise HotreloadError(
            "E-BUILD", f"no C compiler: {error}", fix="install gcc or clang, or name one in CC"
        ) from error
    if done.returncode != 0:
        raise HotreloadError("E-BUILD", f"the entry for {name} does not compile", found=done.stderr.strip())
    module.chmod(0o755)  # not left to the umask: what others may write to is refused
    return module
