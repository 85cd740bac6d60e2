"""The signature of a typed slot: a C prototype as text in, parameters with their types and layouts out.

    double step(double x[], const double v[], double dt)

A parameter is a scalar (``double dt``), one element behind a pointer (``particle *p``) or an array of any length
(``double x[]``, ``double grid[][]`` for two dimensions, row-major). ``const`` says that the implementation only reads.
A parameter named ``state`` becomes the slot's state, all others are the members of one input struct (`members`).

C's own notation was preferred to numpy's or Numba's: it is what the author of the native kernel reads and writes.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hotreload.errors import HotreloadError


@dataclass(frozen=True, slots=True)
class Scalar:
    """A C number. ``code`` is its letter in Python's `struct` module and, but for integers, in the buffer protocol."""

    name: str
    code: str
    size: int
    numba: str
    kind: str
    """``i`` signed, ``u`` unsigned, ``f`` floating, ``b`` boolean."""


SCALARS: Mapping[str, Scalar] = {
    each.name: each
    for each in (
        Scalar("bool", "?", 1, "boolean", "b"),
        Scalar("int8_t", "b", 1, "int8", "i"),
        Scalar("int16_t", "h", 2, "int16", "i"),
        Scalar("int32_t", "i", 4, "int32", "i"),
        Scalar("int64_t", "q", 8, "int64", "i"),
        Scalar("uint8_t", "B", 1, "uint8", "u"),
        Scalar("uint16_t", "H", 2, "uint16", "u"),
        Scalar("uint32_t", "I", 4, "uint32", "u"),
        Scalar("uint64_t", "Q", 8, "uint64", "u"),
        Scalar("float", "f", 4, "float32", "f"),
        Scalar("double", "d", 8, "float64", "f"),
    )
}
_ALIASES = {"int": "int32_t", "unsigned": "uint32_t", "size_t": "uint64_t", "_Bool": "bool"}
_KINDS = {**dict.fromkeys("bhilqn", "i"), **dict.fromkeys("BHILQN", "u"), "f": "f", "d": "f", "?": "b"}
LENGTH = SCALARS["int64_t"]
"""The type of an array's lengths. Signed, as in numpy and Numba: a loop that counts down ends."""


@dataclass(frozen=True, slots=True)
class Field:
    """A member of a struct; ``shape`` is empty but for fixed arrays (``double v[3]`` is ``(3,)``)."""

    name: str
    type: Scalar
    offset: int
    shape: tuple[int, ...] = ()

    @property
    def declared(self) -> str:
        """Its type: ``double``, ``float[3]``."""
        return self.type.name + "".join(f"[{length}]" for length in self.shape)

    @property
    def size(self) -> int:
        """In bytes, of all elements."""
        return self.type.size * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Struct:
    """A C struct, described by a numpy dtype or a `ctypes.Structure`."""

    name: str
    fields: tuple[Field, ...]
    size: int
    described_by: Any = field(compare=False)


Type = Scalar | Struct


class Form(Enum):
    """How a parameter reaches the implementation."""

    VALUE = "value"
    POINTER = "pointer"
    ARRAY = "array"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a prototype."""

    name: str
    type: Type
    form: Form = Form.VALUE
    const: bool = False
    dimensions: int = 0
    """Of an array."""

    @property
    def lengths(self) -> tuple[str, ...]:
        """The names of an array's lengths: ``x_len``, or ``grid_len0`` and ``grid_len1`` and so on."""
        if self.dimensions < 2:
            return (f"{self.name}_len",) * self.dimensions
        return tuple(f"{self.name}_len{i}" for i in range(self.dimensions))

    def __str__(self) -> str:
        """As in the prototype."""
        if self.form is Form.ARRAY:
            return f"{self.declared.rstrip('*')}{self.name}{'[]' * self.dimensions}"
        return f"{self.declared}{self.name}"

    @property
    def declared(self) -> str:
        """Type and star of the C parameter: ``const double *``."""
        return f"{'const ' if self.const else ''}{self.type.name} {'' if self.form is Form.VALUE else '*'}"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a prototype says. ``result`` is None for void."""

    name: str
    result: Type | None
    parameters: tuple[Parameter, ...]
    structs: tuple[Struct, ...] = ()

    @property
    def state(self) -> Parameter | None:
        """The parameter that becomes the slot's state."""
        return next((each for each in self.parameters if each.name == "state"), None)

    @property
    def inputs(self) -> tuple[Parameter, ...]:
        """All other parameters."""
        return tuple(each for each in self.parameters if each.name != "state")

    def members(self) -> tuple[tuple[str, str, str], ...]:
        """The input struct: for each member its C type with a trailing space or star, its name, and its code."""
        found: list[tuple[str, str, str]] = []
        for each in self.inputs:
            code = each.type.code if isinstance(each.type, Scalar) and each.form is Form.VALUE else "P"
            # A const value would make the struct impossible to assign to in C.
            declared = f"{each.type.name} " if each.form is Form.VALUE else each.declared
            found.append((declared, each.name, code))
            found += [(f"{LENGTH.name} ", name, LENGTH.code) for name in each.lengths]
        return tuple(found)

    def packer(self) -> struct.Struct:
        """Packs the input struct's members as the C compiler lays them out, with the padding at its end."""
        codes = "".join(code for _, _, code in self.members())
        largest = max(codes, key=lambda code: struct.calcsize(f"@{code}"), default="")
        return struct.Struct(f"@{codes}{'0' + largest if largest else ''}")

    def prototype(self) -> str:
        """The signature as text again, in one form for one meaning."""
        shown = ", ".join(map(str, self.parameters))
        return f"{self.result.name if self.result else 'void'} {self.name}({shown or 'void'})"


# ---- reading a prototype ----

_PROTOTYPE = re.compile(r"\s*(?P<result>.+?)\s*\b(?P<name>[A-Za-z_]\w*)\s*\((?P<parameters>.*)\)\s*;?\s*", re.DOTALL)
_PARAMETER = re.compile(
    r"(?P<before>const\b\s*)?(?:struct\s+)?(?P<type>\w+)\s*(?P<after>\bconst\b\s*)?(?P<star>\*)?\s*"
    r"(?P<name>\b[A-Za-z_]\w*)\s*(?P<array>(?:\[\s*\]\s*)*)"
)
_EXAMPLE = "a C prototype such as 'double step(double x[], const double v[], double dt)'"
_C_WORDS = frozenset(
    {
        "auto",
        "break",
        "case",
        "char",
        "const",
        "continue",
        "default",
        "do",
        "double",
        "else",
        "enum",
        "extern",
        "float",
        "for",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "register",
        "restrict",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "typedef",
        "union",
        "unsigned",
        "void",
        "volatile",
        "while",
    }
)


def parse(text: str, structs: Mapping[str, Any] | None = None) -> Signature:
    """Reads a prototype.

    Args:
        text: The prototype.
        structs: For each struct's name a numpy structured dtype (``align=True``) or a `ctypes.Structure` subclass.

    Raises:
        HotreloadError: ``E-USAGE``: it cannot be read, or names what is not known.
    """
    found = _PROTOTYPE.fullmatch(text)
    if not found:
        raise _usage("the signature cannot be read", repr(text), _EXAMPLE)
    known = {name: _struct(name, made) for name, made in (structs or {}).items()}
    listed = found["parameters"].strip()
    parts = [] if listed in ("", "void") else [part.strip() for part in listed.split(",")]
    parameters = tuple(_parameter(part, known) for part in parts)
    names = [name for each in parameters for name in (each.name, *each.lengths)]
    for name in names:
        if names.count(name) > 1 or name in _C_WORDS or name.startswith("hr_"):
            raise _usage("a parameter's name is taken", f"{name!r} in {text!r}", "another name for each")
    result = re.sub(r"^struct\s+", "", found["result"])
    return Signature(found["name"], None if result == "void" else _type(result, known), parameters, (*known.values(),))


def _parameter(text: str, known: Mapping[str, Struct]) -> Parameter:
    found = _PARAMETER.fullmatch(text)
    if not found or (found["star"] and found["array"]):
        raise _usage(
            "a parameter cannot be read", repr(text), "'double dt', 'double x[]' or 'double *total', const or not"
        )
    kind = _type(found["type"], known)
    const = bool(found["before"] or found["after"])
    dimensions = found["array"].count("[")
    form = Form.ARRAY if dimensions else Form.POINTER if found["star"] else Form.VALUE
    if isinstance(kind, Struct) and form is Form.VALUE:
        raise _usage("a struct is passed by a pointer", text, f"'const {kind.name} *{found['name']}'")
    if found["name"] == "state" and (form is not Form.POINTER or const):
        raise _usage("the state is passed by a pointer", text, f"'{kind.name} *state'")
    return Parameter(found["name"], kind, form, const and form is not Form.VALUE, dimensions)


def _type(name: str, known: Mapping[str, Struct]) -> Type:
    name = _ALIASES.get(name, name)
    found = SCALARS.get(name) or known.get(name)
    if found is None:
        listed = ", ".join([*SCALARS, *known])
        raise _usage("the type is not known", name, listed, "name a struct's type in structs={...}")
    return found


def _usage(reason: str, found: str, expected: str, fix: str = "") -> HotreloadError:
    return HotreloadError("E-USAGE", reason, found=found, expected=expected, fix=fix)


# ---- structs, as numpy and ctypes describe them ----


def _struct(name: str, made: Any) -> Struct:
    if not re.fullmatch(r"[A-Za-z_]\w*", name) or name in _C_WORDS or name in SCALARS:
        raise _usage("a struct's name cannot be one", name, "a C identifier")
    if getattr(made, "fields", None):  # a numpy dtype; numpy itself is not needed here
        fields = tuple(_dtype_field(name, each, *made.fields[each][:2]) for each in made.names)
        size, align = int(made.itemsize), "np.dtype([...], align=True)"
    elif isinstance(made, type) and hasattr(made, "_fields_"):
        fields = tuple(_ctypes_field(name, made, *each) for each in made._fields_)
        size, align = _sizeof(made), "a ctypes.Structure without _pack_"
    else:
        raise _usage(f"the struct {name} is not described", repr(made), "a structured numpy dtype, a ctypes.Structure")
    natural = _natural(fields)
    if natural != (*(each.offset for each in fields), size):
        shown = ", ".join(f"{each.name} at {each.offset}" for each in fields)
        raise _usage(f"the struct {name} is not laid out as C does it", f"{shown}, {size} bytes", align)
    return Struct(name, fields, size, made)


def _dtype_field(struct_name: str, name: str, kind: Any, offset: int) -> Field:
    base, shape = kind.subdtype or (kind, ())
    found = scalar_of(base.kind if base.kind in "uifb" else "", base.itemsize) if base.isnative else None
    return _field(struct_name, name, found, repr(base), int(offset), tuple(map(int, shape)))


def _ctypes_field(struct_name: str, made: Any, name: str, kind: Any, *bits: int) -> Field:
    shape: tuple[int, ...] = ()
    base = kind
    while hasattr(base, "_length_"):
        shape, base = (*shape, base._length_), base._type_
    code = getattr(base, "_type_", "")
    is_number = isinstance(code, str) and not bits
    found = scalar_of(_KINDS.get(code, ""), _sizeof(base)) if is_number else None
    return _field(struct_name, name, found, repr(kind), getattr(made, name).offset, shape)


def _field(struct_name: str, name: str, found: Scalar | None, shown: str, offset: int, shape: tuple[int, ...]) -> Field:
    if found is None:
        raise _usage(f"{struct_name}.{name} has a type that a signature cannot hold", shown, ", ".join(SCALARS))
    if not name.isidentifier() or not name.isascii() or name in _C_WORDS:
        raise _usage(f"a field of {struct_name} has no name in C", repr(name), "a C identifier")
    return Field(name, found, offset, shape)


def _sizeof(made: Any) -> int:
    import ctypes

    return ctypes.sizeof(made)


def _natural(fields: Sequence[Field]) -> tuple[int, ...]:
    """Where C puts the fields, and the struct's size."""
    offsets, at, largest = [], 0, 1
    for each in fields:
        at = -(-at // each.type.size) * each.type.size
        offsets.append(at)
        at += each.size
        largest = max(largest, each.type.size)
    return (*offsets, -(-at // largest) * largest)


def scalar_of(kind: str, size: int) -> Scalar | None:
    """The scalar of that kind and size."""
    return next((each for each in SCALARS.values() if (each.kind, each.size) == (kind, size)), None)


def scalar_in(code: str, size: int) -> Scalar | None:
    """The scalar that a buffer's format names; None for anything else, such as numbers of the other byte order."""
    plain = code[1:] if code[:1] in ("@", "=", "<") else code
    return scalar_of(_KINDS.get(plain, ""), size)
