"""The arguments of a typed call: Python objects in, the slot's state and packed input struct out, arrays uncopied.

The function that does it is written out for each signature, as `dataclasses` writes ``__init__``: a loop over the
parameters takes four times as long, and this is on the path of every call.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from hotreload import native
from hotreload.signature import Form, Parameter, Signature, Struct, scalar_in

Packed = tuple[Any, bytes, Any]
"""The state's pointer, the input struct, and what has to stay alive during the call."""


class Arguments:
    """Packs the arguments of calls of one signature."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._buffers = {each.name: _Buffer(each) for each in signature.parameters if each.form is not Form.VALUE}
        self.pack: Callable[..., Packed] = self._written()

    def explain(self, arguments: Sequence[Any], error: Exception) -> TypeError:
        """The exception for arguments that `pack` refused: it names the parameter, where it can be told."""
        for parameter, argument in zip(self._signature.parameters, arguments, strict=False):
            buffer = self._buffers.get(parameter.name)
            if buffer is not None:
                try:
                    buffer.view(argument)
                except TypeError as found:
                    return found
        return TypeError(f"{self._signature.prototype()}: {error}")

    def _written(self) -> Callable[..., Packed]:
        names: dict[str, Any] = {
            "hr_pack": self._signature.packer().pack,
            "hr_null": native.null(),
            "hr_memoryview": memoryview,
            "hr_int": int,
            **native.BUFFER_NAMES,
        }
        lines = [f"def pack({', '.join(each.name for each in self._signature.parameters)}):"]
        for name, buffer in self._buffers.items():
            names |= {f"hr_seen_{name}": buffer.seen, f"hr_view_of_{name}": buffer.view}
            writable = not buffer.parameter.const
            lines += [
                f" if {name}.__class__ is hr_seen_{name}.kind and {name}.dtype is hr_seen_{name}.dtype"
                f" and {buffer.shape_fits(name)}:",
                f"  hr_view_{name} = {name}",
                " else:",
                f"  hr_view_{name} = hr_view_of_{name}({name})",
                f" hr_pointer_{name} = hr_from_buffer(hr_bytes, hr_view_{name}, {writable})",
            ]
        values = [value for each in self._signature.inputs for value in _values(each)]
        state = "hr_pointer_state" if self._signature.state else "hr_null"
        pointers = "".join(f"hr_pointer_{name}, " for name in self._buffers)
        lines.append(f" return {state}, hr_pack({', '.join(values)}), ({pointers})")
        exec("\n".join(lines), names)  # names come from a regular expression for identifiers
        written: Callable[..., Packed] = names["pack"]
        return written


def _values(each: Parameter) -> list[str]:
    """The expressions for a parameter's members of the input struct."""
    if each.form is Form.VALUE:
        return [each.name]
    lengths = [f"hr_view_{each.name}.shape[{i}]" for i in range(each.dimensions)]
    return [f"hr_int(hr_cast(hr_uintptr, hr_pointer_{each.name}))", *lengths]


class _Seen:
    """The class and the dtype of the numpy array that fitted last: one of the same needs no second look. (numpy has one
    object for each plain dtype. What has no dtype is looked at each time.)"""

    def __init__(self) -> None:
        self.kind: object = None
        self.dtype: object = None


class _Buffer:
    """What a parameter wants of the buffer that it is given."""

    def __init__(self, parameter: Parameter) -> None:
        self.parameter = parameter
        self.seen = _Seen()

    def shape_fits(self, name: str) -> str:
        """The expression that tells whether a numpy array has the shape that is wanted."""
        dimensions = self.parameter.dimensions
        return f"{name}.ndim == {dimensions}" if dimensions else f"{name}.size == 1"

    def view(self, argument: Any) -> memoryview:
        """A view of an argument that fits; raises TypeError, which tells what is wrong, for any other."""
        try:
            view = memoryview(argument)
        except TypeError:
            raise self._error(f"{type(argument).__name__}, which has no buffer") from None
        self._check_type(argument, view)
        if not view.c_contiguous:
            raise self._error("not contiguous; pass a copy (numpy.ascontiguousarray)")
        if view.readonly and not self.parameter.const:
            raise self._error("read-only, and the implementation writes to it")
        dimensions = self.parameter.dimensions
        if view.ndim != dimensions if dimensions else view.nbytes != view.itemsize:
            raise self._error(f"of shape {view.shape}")
        if hasattr(argument, "dtype") and hasattr(argument, "ndim"):
            self.seen.kind, self.seen.dtype = type(argument), argument.dtype
        return view

    def _check_type(self, argument: Any, view: memoryview) -> None:
        wanted = self.parameter.type
        found = getattr(argument, "dtype", None)
        if isinstance(wanted, Struct):
            if not is_struct(argument, wanted):
                raise self._error(f"of type {found or type(argument).__name__}")
        elif scalar_in(view.format, view.itemsize) is not wanted:
            raise self._error(f"of type {found or repr(view.format)}")

    def _error(self, found: str) -> TypeError:
        return TypeError(f"{self.parameter}: the argument is {found}")


def is_struct(argument: Any, wanted: Struct) -> bool:
    """Structs are told apart by what describes them: their buffers' formats do not name their type."""
    made = wanted.described_by
    if isinstance(made, type):
        kind: Any = type(argument)
        while hasattr(kind, "_length_"):
            kind = kind._type_
        return kind is made
    return bool(getattr(argument, "dtype", None) == made)


Refusal = (TypeError, ValueError, AttributeError, BufferError, OverflowError, struct.error)
"""What `Arguments.pack` raises."""
