"""The C header of a typed slot: what the author of a native implementation includes. A signature in, C text out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hotreload.signature import Signature, Struct

_INDENT = "    "


def identifier(symbol: str) -> str:
    """A slot's symbol as a C identifier: ``kernel.step`` is ``kernel_step``."""
    name = re.sub(r"\W", "_", symbol, flags=re.ASCII)
    return f"_{name}" if name[:1].isdigit() else name


def header(symbol: str, signature: Signature) -> str:
    """The header for a slot: its structs, its input struct, and the macro that makes an entry of a plain function."""
    name = identifier(symbol)
    parts = [
        _comment(symbol, name, signature),
        f"#ifndef HOTRELOAD_SLOT_{name}\n#define HOTRELOAD_SLOT_{name}\n",
        "#include <hotreload/patch.h>\n",
        "#include <assert.h>\n#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n",
        *(_struct(each) for each in signature.structs),
        _input(name, signature),
        _takes(symbol, name, signature),
        _entry(name, signature),
        "#endif\n",
    ]
    return "\n".join(part for part in parts if part)


def declaration(function: str, signature: Signature) -> str:
    """The plain C function of a signature: ``double step(double *x, int64_t x_len, double dt)``."""
    result = signature.result.name if signature.result else "void"
    listed = ", ".join(f"{kind}{name}" for kind, name in c_parameters(signature))
    return f"{result} {function}({listed or 'void'})"


def c_parameters(signature: Signature) -> list[tuple[str, str]]:
    """The plain C function's parameters, in order: type with a trailing space or star, and name."""
    found = []
    for each in signature.parameters:
        found.append((each.declared, each.name))
        found += [("int64_t ", name) for name in each.lengths]
    return found


def _comment(symbol: str, name: str, signature: Signature) -> str:
    function = signature.name
    lines = [
        f"/* The slot {_quotable(symbol)} of a Python host: {signature.prototype()}",
        " *",
        f' *     #include "{name}.h"',
        f" *     static {declaration(function, signature)} {{ ... }}",
        f" *     {name.upper()}({function})",
        f' *     HR_MODULE("{_quotable(symbol.split(".")[0])}", 1, HR_PATCH("{_quotable(symbol)}", {function}_entry))',
        f" *     HR_MODULE_LAYOUT({name.upper()}_TYPES, {name.upper()}_TAKES)",
        " *",
        " * Written by hotreload from the signature; change that instead. */",
    ]
    return "\n".join(lines)


def _quotable(text: str) -> str:
    """For a string literal inside a comment."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("*/", "*\\/")


def _described(name: str, fields: Sequence[tuple[str, str, str]]) -> list[str]:
    """A struct and its description (describe.h): for each field its C type, its name, and an array's bounds."""
    listed = [f"{_INDENT}F({', '.join(filter(None, (name, field, kind.strip(), bounds)))})"
              for kind, field, bounds in fields]  # fmt: skip
    width = max(map(len, listed), default=0)
    return [
        f"#define {name}_FIELDS(F) \\",
        " \\\n".join(f"{line:{width}}" for line in listed).rstrip(),
        f"HR_STRUCT({name}, {name}_FIELDS)",
        f"HR_LAYOUT({name}, {name}_FIELDS)",
    ]


def _struct(each: Struct) -> str:
    lines = [f"#ifndef HOTRELOAD_STRUCT_{each.name}", f"#define HOTRELOAD_STRUCT_{each.name}"]
    fields = [(field.type.name, field.name, "".join(f"[{length}]" for length in field.shape)) for field in each.fields]
    lines += _described(each.name, fields)
    # Outside: another slot's header may have brought another struct of that name.
    check = f'static_assert(sizeof({each.name}) == {each.size}, "{each.name} differs from the Python host\'s");\n'
    return "\n".join([*lines, "#endif", check])


def _input(name: str, signature: Signature) -> str:
    members = signature.members()
    if not members:
        return ""
    lines = _described(f"{name}_input", [(kind, member, "") for kind, member, _ in members])
    size = f'static_assert(sizeof({name}_input) == {signature.packer().size}, "the compiler lays it out otherwise");'
    return "\n".join([*lines, size, ""])


def _takes(symbol: str, name: str, signature: Signature) -> str:
    state = signature.state.type.name if signature.state else "void"
    given = f"{name}_input" if signature.members() else "void"
    result = signature.result.name if signature.result else "void"
    types = " ".join(f"HR_TYPE({each.name})" for each in signature.structs)
    return (
        "/* For HR_MODULE_LAYOUT: a module built for another signature is refused. */\n"
        f"{f'#define {name.upper()}_TYPES {types}'.rstrip()}\n"
        f'#define {name.upper()}_TAKES HR_TAKES("{_quotable(symbol)}", {state}, {given}, {result})\n'
    )


def _entry(name: str, signature: Signature) -> str:
    own = {member for each in signature.inputs for member in (each.name, *each.lengths)}
    given = ", ".join(f"hr_in->{member}" if member in own else f"({kind.strip()})hr_state"
                      for kind, member in c_parameters(signature))  # fmt: skip
    call = f"hr_function({given})"
    result = signature.result.name if signature.result else ""
    body = [f"const {name}_input *hr_in = (const {name}_input *)hr_input;" if own else "(void)hr_input;"]
    body += ["(void)hr_state;"] if signature.state is None else []
    body += [f"*({result} *)hr_output = {call};"] if result else ["(void)hr_output;", f"{call};"]
    lines = [
        f"#define {name.upper()}(hr_function)",
        f"{_INDENT}static int32_t hr_function##_entry(void *hr_state, const void *hr_input, void *hr_output) {{",
        *(f"{_INDENT * 2}{line}" for line in [*body, "return 0;"]),
    ]
    width = max(map(len, lines)) + 1
    macro = "\n".join(f"{line:{width}}\\" for line in lines)
    comment = (
        "/* Defines the entry <function>_entry of a plain function. An entry of your own may return a status other\n"
        " * than 0: an exception in the caller. */"
    )
    return f"{comment}\n{macro}\n{_INDENT}}}\n"
