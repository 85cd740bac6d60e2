"""Compares the types that a module shares with a host where one of the two does not describe them: by debug info.

A type counts as shared when both have a complete one of that name, declared in a file of the same name; in Rust, which
does not tell files, in the same modules. What both describe is left to the shim, which compares it before any code of
the module runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hotreload import native
from hotreload.dwarf import DECLARED, Definition, NoDebugInfo
from hotreload.errors import HotreloadError
from hotreload.host_files import SILENT, libraries_of
from hotreload.model import Comparison, Failure, LayoutField, Layouts, LayoutType
from hotreload.type_cache import TypeCache

NAMES_MOST = 3
"""Types that are not found are named one by one up to so many."""
FIX = "build host and module from the same header and start the host again; --no-debug-info swaps without this check"


@dataclass(frozen=True, slots=True)
class Question:
    """A host and a module for it."""

    host: Path
    """The host's program; ``/proc/PID/exe`` of one that runs."""
    host_layout: bytes
    """What it describes; empty: nothing."""
    module: Path
    build_id: str
    functions: tuple[int, ...]
    """Virtual addresses of the module's implementations."""
    symbols: tuple[str, ...]
    layout: bytes
    """What the module describes."""
    migrations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it: the comparison of what could be compared, and why the rest could not."""

    comparison: Comparison | None = None
    failure: Failure | None = None
    """Set where the module is to be refused."""
    missing: tuple[tuple[str, str], ...] = ()
    """Types (empty: all) that were not compared, each with the reason."""


def compare(question: Question, cache: TypeCache) -> Answer:
    """Reads what it needs of both files. Never raises for what is in them."""
    host, module = _described(question.host_layout), _described(question.layout)
    if all_described(host, module, question.symbols):
        return Answer()
    ours = {each.name: each for each in module.types}
    theirs = {each.name: each for each in host.types}
    try:
        read = cache.of_functions(question.module, question.build_id, question.functions)
    except NoDebugInfo as error:
        if not ours:
            return Answer(missing=(("", f"the module: {error}"),))
        read = ()
    sides: dict[str, LayoutType | Definition] = {**{each.name: each for each in read}, **ours}
    skipped = (ours.keys() & theirs.keys()) | set(question.migrations)
    wanted = [name for name in sides if name not in skipped and _counts(sides[name])]
    declared = [each.name for each in read if each.kind == DECLARED and each.name not in theirs]
    found, unread = _of_host(question.host, [*declared, *(name for name in wanted if name not in theirs)], cache)
    if unread and not any(found.values()) and not theirs.keys() & set(wanted):
        return Answer(missing=tuple(("", reason) for reason in unread))
    unknown = [(name, "the module's debug info only declares it") for name in declared if found.get(name)]
    if unread:  # the module's own types are not the host's; but what could not be read may have them
        unknown += _not_found([name for name in wanted if name not in theirs and not found.get(name)], unread)
    return _judge([(sides[name], theirs.get(name) or found.get(name, ())) for name in wanted], unknown)


def _of_host(host: Path, names: Sequence[str], cache: TypeCache) -> tuple[dict[str, tuple[Definition, ...]], list[str]]:
    """The types of these names in a host's program, and of those that it does not have in its libraries; and why some
    of these could not be looked at, for people: only where a name was not found."""
    if not names:
        return {}, []
    found: dict[str, tuple[Definition, ...]] = {}
    unread: list[str] = []

    def look(path: Path, called: str) -> None:
        try:
            more, reasons = cache.named(path, [name for name in names if not found.get(name)])
        except NoDebugInfo as error:
            reasons = (str(error),)
        else:
            found.update(more)
        unread.extend(f"{called}: {reason}" for reason in reasons)

    look(host, "the host")
    if all(found.get(name) for name in names):
        return found, []
    silent: list[str] = []
    for each in libraries_of(host):
        called = f"{each.path.name} of the host"
        if each.reason == SILENT:
            silent.append(called)
        elif each.reason:
            unread.append(f"{called}: {each.reason}")
        else:
            look(each.path, called)
    if silent:
        more = f" and {len(silent) - 1} more of its libraries have" if silent[1:] else " has"
        unread.append(f"{silent[0]}{more} no debug info")
    return found, [] if all(found.get(name) for name in names) else unread


def _not_found(names: Sequence[str], unread: Sequence[str]) -> list[tuple[str, str]]:
    said = f"not found in what the host tells; {'; '.join(unread)}"
    if len(names) <= NAMES_MOST:
        return [(name, said) for name in names]
    return [("", f"{len(names)} types of the module: {said}")]


def all_described(host: Layouts, module: Layouts, symbols: Iterable[str]) -> bool:
    """Whether both tell everything that these slots take: nothing is left to look for."""
    told = [{symbol for symbol, *takes in side.takes if all(takes)} for side in (host, module)]
    return all(symbol in told[0] and symbol in told[1] for symbol in symbols)


def _described(packed: bytes) -> Layouts:
    return native.layouts(packed) if packed else Layouts((), ())


def _counts(each: LayoutType | Definition) -> bool:
    return each.kind in ("struct", "union", "enum")


Pair = tuple["LayoutType | Definition", "LayoutType | tuple[Definition, ...]"]


def _judge(pairs: Iterable[Pair], unknown: Iterable[tuple[str, str]]) -> Answer:
    host, module, missing = [], [], list(unknown)
    for ours, theirs in pairs:
        chosen: LayoutType | Definition | None
        chosen, reason = _choose(ours, theirs) if isinstance(theirs, tuple) else (theirs, "")
        if reason:
            missing.append((ours.name, reason))
        if chosen is None:
            continue
        both = _aligned(chosen, ours)
        host.append(both[0])
        module.append(both[1])
    if not host:
        reason = "" if missing else "they have no complete type in common"
        return Answer(missing=(*missing, *([("", reason)] if reason else [])))
    try:
        packed = native.packed(host), native.packed(module)
        comparison, failure = native.compare(*packed), native.layout_failure(*packed)
    except HotreloadError as error:
        return Answer(missing=(*missing, ("", error.reason)))
    if failure:
        reason = failure.reason.replace("structs shared with the host differ", "debug info: structs of the host differ")
        failure = replace(failure, reason=reason, fix=FIX, layout=comparison.rows)
    return Answer(comparison, failure, tuple(missing))


def _choose(ours: LayoutType | Definition, theirs: tuple[Definition, ...]) -> tuple[Definition | None, str]:
    """The host's type of that name, and why there is none that can be compared; neither: the host has none."""
    if isinstance(ours, Definition) and ours.file:
        near = tuple(each for each in theirs if each.file in (ours.file, ""))
        if theirs and not near:
            files = ", ".join(sorted({each.file for each in theirs}))
            return None, f"declared in {ours.file} here and in {files} there; one header for both would tell"
        theirs = near
    if isinstance(ours, Definition) and ours.scope:
        theirs = _of_scope(ours.scope, theirs)
    if isinstance(ours, Definition) and (equal := [each for each in theirs if _same(each, ours)]):
        return equal[0], ""
    different = [each for at, each in enumerate(theirs) if not any(_same(each, other) for other in theirs[:at])]
    if len(different) > 1:
        return None, f"the host has {len(different)} different types of that name"
    return (different[0], "") if different else (None, "")


def _of_scope(scope: str, theirs: tuple[Definition, ...]) -> tuple[Definition, ...]:
    """A Rust type is the same crate's; where a file is part of two crates, the one in the same modules of the other."""

    def modules(path: str) -> list[str]:
        return path.split("::")[1:]

    equal = tuple(each for each in theirs if each.scope in (scope, ""))
    return equal or tuple(each for each in theirs if modules(each.scope) == modules(scope))


def _same(one: Definition, other: Definition) -> bool:
    def bare(each: Definition) -> tuple[object, ...]:
        members = tuple(replace(member, also=()) for member in each.members)
        return each.kind, each.size, each.align, members

    return bare(one) == bare(other)


# ---- two ways to say the same ----


def _aligned(host: LayoutType | Definition, module: LayoutType | Definition) -> tuple[LayoutType, LayoutType]:
    """Both as descriptions, without differences that are only in how they are told: typedefs, alignments that follow
    from the fields, sizes that are not told, fields that one side has chosen not to list."""
    sides = _typed(host), _typed(module)
    one, other = (_fields(side, origin) for side, origin in zip(sides, (host, module), strict=True))
    for name in one.keys() & other.keys():
        one[name], other[name] = _agree(one[name], other[name])
    if sides[0].partial or sides[1].partial:
        one, other = ({name: side[name] for name in side if name in one and name in other} for side in (one, other))
    first, second = (replace(side, fields=tuple(each for each, _ in fields.values()))
                     for side, fields in zip(sides, (one, other), strict=True))  # fmt: skip
    return _less(first, host, module), _less(second, module, host)


def _less(side: LayoutType, origin: LayoutType | Definition, other: LayoutType | Definition) -> LayoutType:
    """With the alignment that a description tells, where it is less than what the fields want: debug info does not tell
    of a packed struct whose fields lie as they would anyway."""
    if isinstance(origin, LayoutType) or origin.fixed or isinstance(other, Definition) or side.size != other.size:
        return side
    return replace(side, align=min(side.align, other.align))


def _typed(side: LayoutType | Definition) -> LayoutType:
    if isinstance(side, LayoutType):
        return side
    return LayoutType(side.name, side.kind, side.size, side.align or 1, ())


_Fields = dict[tuple[str, int], tuple[LayoutField, tuple[str, ...]]]
"""By name and how many fields of that name came before; with the other names of their types."""


def _fields(side: LayoutType, origin: LayoutType | Definition) -> _Fields:
    found: _Fields = {}
    members = origin.fields if isinstance(origin, LayoutType) else origin.members
    for each in members:
        count = sum(1 for name, _ in found if name == each.name)
        size = each.size
        if side.kind != "enum":
            if each.offset > side.size:
                continue
            size = min(size, side.size - each.offset)  # an empty base may lie at the end
        field = LayoutField(each.name, each.type, each.offset, size, each.number)
        found[each.name, count] = field, () if isinstance(each, LayoutField) else each.also
    return found


def _agree(
    one: tuple[LayoutField, tuple[str, ...]], other: tuple[LayoutField, tuple[str, ...]]
) -> tuple[tuple[LayoutField, tuple[str, ...]], tuple[LayoutField, tuple[str, ...]]]:
    (first, also), (second, besides) = one, other
    if _bare(second.type) in map(_bare, also):
        first = replace(first, type=second.type)
    elif _bare(first.type) in map(_bare, besides):
        second = replace(second, type=first.type)
    if _bare(first.type) == _bare(second.type) and 0 in (first.size, second.size):
        size = max(first.size, second.size)
        first, second = replace(first, size=size), replace(second, size=size)
    return (first, also), (second, besides)


def _bare(text: str) -> str:
    words = text.replace("*", " * ").split()
    return "".join(word for word in words if word not in ("const", "volatile", "struct", "union", "enum", "class"))
