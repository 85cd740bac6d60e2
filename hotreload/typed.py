"""Typed slots: a Python function with a C signature whose native replacement arrives by edit and rebuild.

    @hotreload.slot("kernel.step", signature="double step(double x[], double dt)")
    def step(x, dt): ...

A call packs its arguments into the slot's input struct (`hotreload.signature` says how), without copying an array, and
calls the slot. While no module implements it, that leads back to the Python function, which gets the very objects that
the caller passed.
"""

from __future__ import annotations

import functools
import inspect
import os
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hotreload import native
from hotreload.arguments import Arguments, Refusal, is_struct
from hotreload.errors import CallFailed, HotreloadError
from hotreload.header import header, identifier
from hotreload.model import Report
from hotreload.runtime import Runtime, Slot
from hotreload.signature import Scalar, Signature, Struct, parse

Function = Callable[..., Any]
_FAILED = -1
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def slot(
    symbol: str, *, signature: str, structs: Mapping[str, Any] | None = None, runtime: Runtime | None = None
) -> Callable[[Function], TypedSlot]:
    """Makes a Python function a slot's fallback, to be called under its own name.

    Args:
        symbol: The slot's name, 1 to 127 bytes of UTF-8.
        signature: A C prototype with the function's parameters by name; see `hotreload.signature`.
        structs: The structs in it, by name: numpy structured dtypes (``align=True``) or `ctypes.Structure` subclasses.
        runtime: Whose slot it is; the process's default one unless given.

    Returns:
        The decorator. Used again for the same symbol and signature (a notebook's cell runs twice) it replaces the
        Python function and keeps what runs.

    Raises:
        HotreloadError: ``E-USAGE``: the signature cannot be read, or is not the function's, or is not the one that the
            slot has; ``E-DUPLICATE``: somebody else declared the slot.
    """
    parsed = parse(signature, structs)

    def decorate(function: Function) -> TypedSlot:
        owner = runtime or Runtime()
        _check_parameters(function, parsed)
        known = owner.typed.get(symbol)
        if not isinstance(known, TypedSlot):
            known = owner.typed[symbol] = TypedSlot(owner, symbol, parsed)
        known.redefine(function, parsed)
        return known

    return decorate


def signature_header(wanted: TypedSlot | str) -> str:
    """The C header of a typed slot, or of the default runtime's slot of that name.

    Raises:
        HotreloadError: ``E-NO-SLOT``.
    """
    if isinstance(wanted, TypedSlot):
        return wanted.header
    known = Runtime().typed.get(wanted)
    if not isinstance(known, TypedSlot):
        raise HotreloadError("E-NO-SLOT", f"there is no typed slot {wanted!r}", fix="declare it with @hotreload.slot")
    return known.header


def _check_parameters(function: Function, signature: Signature) -> None:
    parameters = inspect.signature(function).parameters
    # "*" as in the function's own list: what has to be passed by name is no parameter of a C function.
    names = [f"{'*' * (each.kind not in _POSITIONAL)}{name}" for name, each in parameters.items()]
    wanted = [each.name for each in signature.parameters]
    if names != wanted:
        raise HotreloadError(
            "E-USAGE",
            f"the signature's parameters are not those of {function.__name__}",
            found=", ".join(wanted) or "none",
            expected=", ".join(names) or "none",
            fix="name the same parameters in the same order",
        )


class _Calls(threading.local):
    """The calls under way in this thread, the innermost last: arguments, input struct and output cell of each, or what
    its Python fallback raised."""

    def __init__(self) -> None:
        self.stack: list[tuple[tuple[Any, ...], bytes, Any] | BaseException] = []


class TypedSlot:
    """A slot with a signature; `slot` makes it. Call it like the function that it was made of.

    Attributes:
        symbol: The slot's name.
        signature: Its signature.
        fallback: The Python function.
    """

    fallback: Function

    def __init__(self, runtime: Runtime, symbol: str, signature: Signature) -> None:
        self.symbol = symbol
        self.signature = signature
        self._runtime = runtime
        self._calls = _Calls()
        self._implementations: list[Any] = []
        self._arguments = Arguments(signature)
        self._pack = self._arguments.pack
        self._count = len(signature.parameters)
        self._result = _Result(signature.result)
        runtime.describe(described(symbol, signature))
        self._slot: Slot = runtime.register_fallback(symbol, self._call_fallback)

    def redefine(self, function: Function, signature: Signature) -> None:
        """Replaces the Python function; what runs in the slot stays.

        Raises:
            HotreloadError: ``E-USAGE``: the signature is another one, which modules built for this one would not fit.
        """
        if replace(signature, name="") != replace(self.signature, name=""):
            raise HotreloadError(
                "E-USAGE",
                f"the slot {self.symbol!r} has another signature in this process",
                found=signature.prototype(),
                expected=self.signature.prototype(),
                fix="restart the process, or take another name for the slot",
            )
        self.fallback = function
        functools.update_wrapper(self, function)

    @property
    def header(self) -> str:
        """The C header for implementations."""
        return header(self.symbol, self.signature)

    @property
    def numba(self) -> str:
        """The signature of a Numba function for `implement`: ``@numba.cfunc(step.numba)``."""
        from hotreload.adopt import numba_signature

        return numba_signature(self.signature)

    def write_header(self, path: str | os.PathLike[str]) -> None:
        """Writes the header, unless the file holds it already: an unchanged file causes no rebuild."""
        text = self.header
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123 (any path-like)
                if file.read() == text:
                    return
        except OSError:
            pass
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)

    def implement(self, function: Any, name: str = "") -> Report:
        """Swaps in a native function of this process. It has the C parameters that `header` shows.

        Args:
            function: Of Numba's ``@cfunc``, a capsule of Cython's ``cdef api`` (``module.__pyx_capi__["step"]``, which
                needs ``noexcept nogil``), or a ctypes or cffi function pointer.
            name: Tells it from others, where it has no name of its own.

        Raises:
            HotreloadError: ``E-USAGE``: it is no native function, or has another signature; ``E-BUILD``: the C compiler
                fails.
            Rejected: As `Runtime.load_module`.
        """
        from hotreload.adopt import adopt

        report = adopt(self._runtime, self.symbol, self.signature, function, name)
        self._implementations.append(function)  # calls may be inside it for ever
        return report

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Calls what runs in the slot, with the GIL released in native code.

        Raises:
            TypeError: An argument is not what the signature says.
            CallFailed: The native implementation returned a status other than 0.
        """
        if named or len(arguments) != self._count:
            arguments = self._bind(arguments, named)
        try:
            state, given, _views = self._pack(*arguments)
        except Refusal as error:
            raise self._arguments.explain(arguments, error) from None
        cell = self._result.new()
        raw = native.pointer(cell, native.WRITABLE) if self._result.is_struct else cell
        stack = self._calls.stack
        stack.append((arguments, given, cell))
        try:
            status = self._slot.call_pointers(state, given, raw)
        finally:
            call = stack.pop()
        if status:
            raise call if isinstance(call, BaseException) else CallFailed(self.symbol, status)
        return self._result.value(cell)

    def _bind(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        bound = inspect.signature(self.fallback).bind(*arguments, **named)
        bound.apply_defaults()
        return tuple(bound.arguments.values())

    def _call_fallback(self, state: int, given: int, result: int) -> int:
        """What the slot calls while no module implements it."""
        stack = self._calls.stack
        call = stack[-1] if stack else None
        if not isinstance(call, tuple) or native.address(native.pointer(call[1])) != given:
            raise HotreloadError(
                "E-USAGE", f"{self.symbol} is typed", fix="call the function that @hotreload.slot made"
            )
        arguments, _, cell = call
        try:
            self._result.fill(cell, self.fallback(*arguments))
        except BaseException as error:  # crosses C as a status, and is raised again behind it
            stack[-1] = error
            return _FAILED
        return 0

    def __repr__(self) -> str:
        return f"<hotreload.slot {self.symbol!r}: {self.signature.prototype()}>"


# ---- layouts ----


def described(symbol: str, signature: Signature) -> native.DescribedSlot:
    """What the slot takes, as modules describe it (the header has the macros)."""
    return native.DescribedSlot(
        symbol,
        _described(signature.state.type) if signature.state else None,
        _described_input(symbol, signature),
        _described(signature.result) if signature.result else None,
        tuple(map(_described, signature.structs)),
    )


def _described(kind: Scalar | Struct) -> native.Described:
    if isinstance(kind, Scalar):
        return native.Described(kind.name, kind.size, kind.size)
    fields = tuple(
        native.DescribedField(each.name, each.declared, each.offset, each.size, each.type.name) for each in kind.fields
    )
    return native.Described(kind.name, kind.size, max(each.type.size for each in kind.fields), fields)


def _described_input(symbol: str, signature: Signature) -> native.Described | None:
    members = signature.members()
    if not members:
        return None
    fields = []
    for number, (kind, name, code) in enumerate(members):
        offset = struct.calcsize("@" + "".join(each for _, _, each in members[:number]) + f"0{code}")
        size = struct.calcsize(f"@{code}")
        declared = kind.strip()
        fields.append(native.DescribedField(name, declared, offset, size, "" if code == "P" else declared))
    align = max(field.size for field in fields)
    return native.Described(f"{identifier(symbol)}_input", signature.packer().size, align, tuple(fields))


# ---- results ----


class _Result:
    """The output: a cell for it, and the Python value in a cell."""

    def __init__(self, kind: Scalar | Struct | None) -> None:
        self._kind = kind
        self.new: Callable[[], Any]
        self.value: Callable[[Any], Any]
        self.is_struct = isinstance(kind, Struct)
        if kind is None:
            self.new, self.value = native.null, (lambda _: None)
        elif isinstance(kind, Scalar):
            self.new, self.value = native.cell_maker(kind.name), native.cell_value
        elif isinstance(kind.described_by, type):
            self.new, self.value = kind.described_by, (lambda cell: cell)
        else:
            import importlib

            zeros = importlib.import_module("numpy").zeros
            self.new, self.value = functools.partial(zeros, (), kind.described_by), (lambda cell: cell[()])

    def fill(self, cell: Any, value: Any) -> None:
        """What the Python function returned, as the native one would have put it."""
        kind = self._kind
        if isinstance(kind, Scalar):
            cell[0] = value
        elif kind is not None:
            if not is_struct(value, kind):
                raise TypeError(f"the result is a {kind.name}, not {type(value).__name__}")
            native.fill(cell, memoryview(value).tobytes())
