"""The only caller of the cffi extension: C values in and out of it, values of `hotreload.model` for everybody else.

What decides (preflight, the settle rule, loading, reading a black box) is the shim's C code; nothing is parsed here a
second time. All calls release the GIL.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from hotreload._shim import ffi, lib
from hotreload.errors import HotreloadError, NoHost, Rejected
from hotreload.model import (
    OK,
    SAME,
    UNTRIED,
    Change,
    ChangeKind,
    Comparison,
    Entry,
    EventKind,
    Failure,
    Fault,
    Host,
    HostOptions,
    LayoutField,
    LayoutRow,
    Layouts,
    LayoutSide,
    LayoutType,
    Manifest,
    Module,
    ModuleRecord,
    Record,
    Remains,
    Report,
    Residents,
    SlotRecord,
    SlotState,
    Snapshot,
    ThreadRecord,
    Times,
)

STEPS = ("stage", "preflight", "layout", "same", "open", "check", "on_load", "commit", "trial", "total")
UNRESOLVED: int = lib.HR_UNRESOLVED
"""What calling a slot without any implementation returns."""

STATUS_NUMBERS = 256
"""Above every hr_status."""

_WARNINGS = {
    lib.HR_WARN_NODELETE: "nodelete",
    lib.HR_WARN_UNIQUE: "unique-symbols",
    lib.HR_WARN_TLS_DESTRUCTOR: "tls-destructors",
    lib.HR_WARN_INTERPOSABLE: "interposable",
    lib.HR_WARN_EXECSTACK: "executable-stack",
    lib.HR_WARN_NO_BUILD_ID: "no-build-id",
    lib.HR_WARN_STATIC_TLS: "static-tls",
    lib.HR_WARN_UNTRIED: UNTRIED,
}
_CHANGES = {
    lib.HR_CHANGE_SWAPPED: ChangeKind.SWAPPED,
    lib.HR_CHANGE_UNDECLARED: ChangeKind.UNDECLARED,
    lib.HR_CHANGE_KEPT: ChangeKind.KEPT,
}
_SLOT_STATES = {
    lib.HR_SLOT_FALLBACK: SlotState.FALLBACK,
    lib.HR_SLOT_LIVE: SlotState.LIVE,
    lib.HR_SLOT_UNDECLARED: SlotState.UNDECLARED,
    lib.HR_SLOT_PROBATION: SlotState.PROBATION,
}
_DESCRIBED = {
    0: "",
    lib.HR_SLOT_HOST_DESCRIBES: "host",
    lib.HR_SLOT_MODULE_DESCRIBES: "module",
    lib.HR_SLOT_HOST_DESCRIBES | lib.HR_SLOT_MODULE_DESCRIBES: "checked",
}
_MODULE_STATES = {
    lib.HR_MODULE_LIVE: "live",
    lib.HR_MODULE_RETIRED: "retired",
    lib.HR_MODULE_UNLOADED: "unloaded",
}
_EVENTS = {
    lib.HR_EVENT_SWAP: EventKind.SWAP,
    lib.HR_EVENT_REJECT: EventKind.REJECT,
    lib.HR_EVENT_SAME: EventKind.SAME,
    lib.HR_EVENT_ROLLBACK: EventKind.ROLLBACK,
    lib.HR_EVENT_RETIRE: EventKind.RETIRE,
    lib.HR_EVENT_UNLOAD: EventKind.UNLOAD,
    lib.HR_EVENT_CRASH: EventKind.CRASH,
    lib.HR_EVENT_FIRST_CALL: EventKind.CALLED,
    lib.HR_EVENT_BLOCKED: EventKind.BLOCKED,
    lib.HR_EVENT_BUDGET: EventKind.BUDGET,
}


def version() -> str:
    """The shim's version."""
    return _text(lib.hr_version())


def _text(chars: Any) -> str:
    return ffi.string(chars).decode("utf-8", "replace")


def _bits(value: int) -> tuple[str, ...]:
    return tuple(word for bit, word in _WARNINGS.items() if value & bit)


def _failure(status: int, raw: Any) -> Failure:
    reason = _text(raw.reason) or _text(lib.hr_status_text(status))
    fix = _text(raw.fix) or _text(lib.hr_status_fix(status))
    return Failure(_text(lib.hr_status_code(status)), reason, _text(raw.found), _text(raw.expected), fix)


def code_text(code: int) -> str:
    """The stable code of a status number."""
    return _text(lib.hr_status_code(code))


def statuses() -> dict[str, tuple[str, str]]:
    """What the shim can refuse with: each code's meaning and general cure, in the order of their numbers."""
    numbers = (number for number in range(STATUS_NUMBERS) if number not in (lib.HR_OK, lib.HR_SAME))
    named = ((code_text(number), number) for number in numbers)
    return {
        code: (_text(lib.hr_status_text(number)), _text(lib.hr_status_fix(number)))
        for code, number in named
        if code != "E-UNKNOWN"
    }


def error_of(failure: Failure) -> HotreloadError:
    """The exception that tells a failure: `NoHost` for hosts, `Rejected` for modules, else the root."""
    kind = HotreloadError
    if failure.code in ("E-NO-HOST", "E-HOST-GONE"):
        kind = NoHost
    elif failure.code not in _NOT_ABOUT_MODULES:
        kind = Rejected
    return kind(failure.code, failure.reason, found=failure.found, expected=failure.expected, fix=failure.fix)


_NOT_ABOUT_MODULES = frozenset(
    {"E-PROTOCOL", "E-DUPLICATE", "E-NO-SLOT", "E-NO-PREVIOUS", "E-LIMIT", "E-MEMORY", "E-USAGE", "E-UNKNOWN"}
)


def runtime_directory() -> Path:
    """The directory of the hosts' sockets, made and checked. Raises HotreloadError (E-DENIED, E-IO)."""
    path = ffi.new("char[]", lib.HR_PATH_SIZE)
    raw = ffi.new("hr_failure *")
    status = lib.hr_runtime_directory(path, lib.HR_PATH_SIZE, raw)
    if status != lib.HR_OK:
        failure = _failure(status, raw)
        raise HotreloadError(
            failure.code, failure.reason, found=failure.found, expected=failure.expected, fix=failure.fix
        )
    return Path(_text(path))


# ---- build outputs ----


def settled(path: Path) -> Failure | None:
    """None when no writer has the output any more; ``E-TRUNCATED`` when one has; else why it cannot be taken."""
    raw = ffi.new("hr_failure *")
    status = lib.hr_settled(os.fsencode(path), raw)
    return None if status == lib.HR_OK else _failure(status, raw)


def inspect(path: Path) -> Manifest | Failure:
    """Reads an output, never mapping it, and preflights it. No byte of it runs."""
    raw = ffi.new("hr_failure *")
    found = ffi.new("hr_manifest **")
    status = lib.hr_inspect(os.fsencode(path), raw, found)
    if status != lib.HR_OK:
        return _failure(status, raw)
    try:
        return _manifest(found[0], str(path))
    finally:
        lib.hr_manifest_free(found[0])


def _manifest(raw: Any, path: str) -> Manifest:
    entries = ffi.cast("hr_manifest_entry *", raw.entries)
    return Manifest(
        module=Module(_text(raw.name), raw.version, _text(raw.build_id), path, raw.content),
        entries=tuple(
            Entry(_text(entries[i].name), entries[i].function, entries[i].flags) for i in range(raw.entry_count)
        ),
        address=raw.address,
        on_load=raw.on_load,
        on_unload=raw.on_unload,
        warnings=_bits(raw.warnings),
        layout=_packed(raw.layout),
        migrations=tuple(_text(raw.migrations[i].type) for i in range(raw.migration_count)),
        unload={0: "", 1 + lib.HR_UNLOAD_QUIESCENT: "quiescent"}.get(raw.unload, "never"),
    )


# ---- layouts ----

_TYPE_KINDS = {
    lib.HR_TYPE_STRUCT: "struct",
    lib.HR_TYPE_UNION: "union",
    lib.HR_TYPE_ENUM: "enum",
    lib.HR_TYPE_SCALAR: "scalar",
    lib.HR_TYPE_VOID: "void",
}
_NUMBER_WORDS = {
    lib.HR_NUMBER_BOOL: "bool",
    lib.HR_NUMBER_CHAR: "char",
    lib.HR_NUMBER_I8: "i8",
    lib.HR_NUMBER_U8: "u8",
    lib.HR_NUMBER_I16: "i16",
    lib.HR_NUMBER_U16: "u16",
    lib.HR_NUMBER_I32: "i32",
    lib.HR_NUMBER_U32: "u32",
    lib.HR_NUMBER_I64: "i64",
    lib.HR_NUMBER_U64: "u64",
    lib.HR_NUMBER_F32: "f32",
    lib.HR_NUMBER_F64: "f64",
}
_LAYOUT_CHANGES = {
    lib.HR_FIELD_ADDED: "added",
    lib.HR_FIELD_REMOVED: "removed",
    lib.HR_FIELD_MOVED: "moved",
    lib.HR_FIELD_RESIZED: "resized",
    lib.HR_FIELD_RETYPED: "retyped",
    lib.HR_FIELD_REALIGNED: "realigned",
    lib.HR_FIELD_MIGRATED: "migrated",
}


def _packed(layout: Any) -> bytes:
    if not layout:
        return b""
    data, size = ffi.new("void **"), ffi.new("uint64_t *")
    if lib.hr_layout_pack(layout, data, size) != lib.HR_OK:
        raise HotreloadError("E-MEMORY", "out of memory")
    try:
        return bytes(ffi.buffer(data[0], size[0]))
    finally:
        lib.hr_layout_bytes_free(data[0])


def _unpacked(packed: bytes) -> Any:
    raw, found = ffi.new("hr_failure *"), ffi.new("hr_layout_v1 **")
    status = lib.hr_layout_unpack(packed, len(packed), raw, found)
    if status != lib.HR_OK:
        raise error_of(_failure(status, raw))
    return ffi.gc(found[0], lib.hr_layout_free)


def layouts(packed: bytes) -> Layouts:
    """What a description says. Raises HotreloadError (E-PROTOCOL, E-ABI): the bytes are none."""
    raw = _unpacked(packed)
    return Layouts(
        types=tuple(_layout_type(raw.types[i]) for i in range(raw.type_count)),
        takes=tuple(_takes(raw.entries[i]) for i in range(raw.entry_count)),
    )


def _layout_type(raw: Any) -> LayoutType:
    fields = (raw.fields[i] for i in range(raw.field_count))
    return LayoutType(
        name=_text(raw.name),
        kind=_TYPE_KINDS.get(raw.kind, "unknown"),
        size=raw.size,
        align=raw.align,
        fields=tuple(
            LayoutField(
                _text(each.name),
                _text(each.type),
                _offset(each.offset, raw.kind),
                each.size,
                _NUMBER_WORDS.get(each.flags, ""),
            )
            for each in fields
        ),
        partial=bool(raw.flags & lib.HR_TYPE_PARTIAL),
    )


def packed(types: Sequence[LayoutType]) -> bytes:
    """The bytes of a description of these types, for `compare`. Raises HotreloadError (E-USAGE): it is invalid."""
    kinds, numbers = ({word: number for number, word in known.items()} for known in (_TYPE_KINDS, _NUMBER_WORDS))
    kept: list[Any] = []

    def text(value: str) -> Any:
        kept.append(ffi.new("char[]", value.encode()))
        return kept[-1]

    def field(each: LayoutField) -> tuple[Any, ...]:
        number = numbers.get(each.number, 0)
        return text(each.name), text(each.type), ffi.NULL, each.offset % 2**64, each.size, number, 0

    pointers = []
    for each in types:
        fields = ffi.new("hr_layout_field_v1[]", [field(one) for one in each.fields])
        flags = lib.HR_TYPE_PARTIAL if each.partial else 0
        head = (text(each.name), each.size, each.align, kinds[each.kind], flags, len(each.fields), fields)
        pointers.append(ffi.new("hr_layout_type_v1 *", head))
        kept += (fields, pointers[-1])
    listed = ffi.new("hr_layout_type_v1 *[]", pointers)
    version, size = lib.HR_LAYOUT_VERSION_V1, lib.HR_LAYOUT_STRUCT_SIZE_V1
    whole = ffi.new("hr_layout_v1 *", (lib.HR_LAYOUT_MAGIC_V1, version, size, len(types), 0, listed, ffi.NULL))
    raw, copy = ffi.new("hr_failure *"), ffi.new("hr_layout_v1 **")
    status = lib.hr_layout_copy(whole, raw, copy)
    if status != lib.HR_OK:
        raise error_of(_failure(status, raw))
    return _packed(ffi.gc(copy[0], lib.hr_layout_free))


def _offset(raw: int, kind: int) -> int:
    """An enumerator's value may be negative."""
    return raw - 2**64 if kind == lib.HR_TYPE_ENUM and raw >= 2**63 else raw


def _takes(raw: Any) -> tuple[str, str, str, str]:
    state, given, result = (_text(each.name) if each else "" for each in (raw.state, raw.input, raw.output))
    return _text(raw.symbol), state, given, result


def compare(host: bytes, module: bytes) -> Comparison:
    """What the host's code and the module's would each find in the same memory; from two descriptions' bytes.

    Raises HotreloadError (E-PROTOCOL, E-ABI): the bytes are no description.
    """
    sides = _unpacked(host), _unpacked(module)
    raw = _compared(*sides)
    rows = ffi.cast("hr_layout_row *", raw.rows)
    kinds = {_text(sides[0].types[i].name): sides[0].types[i].kind for i in range(sides[0].type_count)}
    return Comparison(raw.type_count, raw.entry_count, tuple(_layout_row(rows[i], kinds) for i in range(raw.row_count)))


def layout_failure(host: bytes, module: bytes) -> Failure | None:
    """The comparison as the refusal that a host would give (``E-LAYOUT``), without its rows; None: compatible."""
    sides = _unpacked(host), _unpacked(module)
    raw, failure = _compared(*sides), ffi.new("hr_failure *")
    return _failure(lib.hr_layout_explain(raw, sides[0], failure), failure) if raw.refused else None


def _compared(host: Any, module: Any) -> Any:
    found = ffi.new("hr_layout_comparison **")
    if lib.hr_layout_compare(host, module, found) == lib.HR_E_MEMORY:
        raise HotreloadError("E-MEMORY", "out of memory")
    return ffi.gc(found[0], lib.hr_comparison_free)


def _layout_row(raw: Any, kinds: dict[str, int]) -> LayoutRow:
    kind = 0 if raw.argument else kinds.get(_text(raw.type), 0)
    return LayoutRow(
        type=_text(raw.type),
        field=_text(raw.field),
        host=_layout_side(raw.host, kind),
        module=_layout_side(raw.module, kind),
        changes=tuple(word for bit, word in _LAYOUT_CHANGES.items() if raw.change & bit),
        refused=bool(raw.refused),
        argument=bool(raw.argument),
    )


def _layout_side(raw: Any, kind: int) -> LayoutSide | None:
    if not raw.present:
        return None
    return LayoutSide(_text(raw.type) if raw.type else "", _offset(raw.offset, kind), raw.size, raw.align)


# ---- reports ----


def _report(raw: Any) -> Report:
    changes = ffi.cast("hr_change *", raw.changes)
    failed = raw.status not in (lib.HR_OK, lib.HR_SAME)
    return Report(
        code=_text(lib.hr_status_code(raw.status)),
        module=Module(_text(raw.module), raw.module_version, _text(raw.build_id), _text(raw.path), raw.content),
        generation=raw.generation,
        changes=tuple(
            Change(_text(changes[i].symbol), getattr(changes[i], "from"), changes[i].to, _change_kind(changes[i].kind))
            for i in range(raw.change_count)
        ),
        failure=_failure(raw.status, raw.failure) if failed else None,
        us=dict(zip(STEPS, ffi.unpack(raw.us, lib.HR_STEPS), strict=True)),
        staged=_text(raw.staged),
        warnings=_bits(raw.warnings),
    )


def _change_kind(number: int) -> ChangeKind:
    try:
        return _CHANGES[number]
    except KeyError:
        raise protocol_error(f"the host tells a change of the unknown kind {number}") from None


# ---- the wire ----

HELLO: int = lib.HR_MSG_HELLO
LOAD: int = lib.HR_MSG_LOAD
PREPARE: int = lib.HR_MSG_PREPARE
COMMIT: int = lib.HR_MSG_COMMIT
ABORT: int = lib.HR_MSG_ABORT
ROLLBACK: int = lib.HR_MSG_ROLLBACK
LAYOUTS: int = lib.HR_MSG_LAYOUTS
OPTIONS: int = lib.HR_MSG_OPTIONS
HEADER_SIZE = ffi.sizeof("hr_message")
PATHS_MAX: int = lib.HR_WIRE_PATHS_MAX


@dataclass(frozen=True, slots=True)
class Reply:
    """A host's answer: a code, and one report for each module."""

    code: str
    failure: Failure | None
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class Welcome:
    """A host's answer to hello. ``client`` marks the events that this connection causes."""

    pid: int
    name: str
    version: str
    client: int
    generation: int


def message(kind: int, body: bytes, number: int) -> bytes:
    """A request as it goes over the socket."""
    head = ffi.new("hr_message *")
    head.magic, head.version, head.kind = lib.HR_WIRE_MAGIC, lib.HR_WIRE_VERSION, kind
    head.length, head.id = len(body), number
    return bytes(ffi.buffer(head)) + body


def hello_body() -> bytes:
    body = ffi.new("hr_hello *")
    body.tool = f"hotreload {version()}".encode()
    return bytes(ffi.buffer(body))


def paths_body(paths: Sequence[str]) -> bytes:
    """Raises HotreloadError: ``E-IO`` for a path that is too long, ``E-LIMIT`` for too many of them."""
    return _paths_body(tuple(paths))


@lru_cache(maxsize=4)  # the hosts of a transaction, one after the other, are sent the same
def _paths_body(paths: tuple[str, ...]) -> bytes:
    if len(paths) > PATHS_MAX:
        raise HotreloadError("E-LIMIT", f"a transaction holds at most {PATHS_MAX} modules", found=str(len(paths)))
    head = ffi.new("hr_paths *", {"count": len(paths), "paths": len(paths)})
    data = bytearray(ffi.buffer(head, ffi.offsetof("hr_paths", "paths")))
    for path in paths:
        data += _path(path).ljust(lib.HR_PATH_SIZE, b"\0")
    return bytes(data)


def options_body(asked: HostOptions) -> bytes:
    body = ffi.new("hr_options_request *")
    if asked.guard:
        body.named |= lib.HR_OPTION_GUARD
        body.options.probation_calls = asked.guard.calls
        body.options.probation_ms = round(asked.guard.seconds * 1000)
        body.options.hang_ms = round(asked.guard.hang_seconds * 1000)
    if asked.trial_seconds is not None:
        body.named |= lib.HR_OPTION_TRIAL
        body.options.trial_ms = round(asked.trial_seconds * 1000)
    if asked.sample_every is not None:
        body.named |= lib.HR_OPTION_SAMPLE
        body.options.sample_every = asked.sample_every
    if asked.unload is not None:
        body.named |= lib.HR_OPTION_UNLOAD
    if asked.budget is not None:
        body.named |= lib.HR_OPTION_BUDGET
        body.options.budget_bytes = asked.budget
    body.options.flags = body.named if asked.unload is not False else body.named & ~lib.HR_OPTION_UNLOAD
    return bytes(ffi.buffer(body))


def rollback_body(module: str | None) -> bytes:
    """Raises HotreloadError (E-USAGE) for what cannot be a module's name."""
    body = ffi.new("hr_rollback_request *")
    body.module = _name(module) if module else b""
    return bytes(ffi.buffer(body))


def _path(path: str) -> bytes:
    """A path for C, which would take a cut one for another file's."""
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise Rejected("E-IO", "the module's path holds a zero byte", found=repr(path), fix="name an existing file")
    if len(encoded) >= lib.HR_PATH_SIZE:
        raise Rejected("E-IO", "the module's path is too long", found=path, fix="use a shorter path")
    return encoded


def _name(name: str) -> bytes:
    """A slot's, module's or host's name for C; what it cannot hold there is no name. The shim checks the rest."""
    encoded = name.encode("utf-8", "replace")
    if b"\0" in encoded or len(encoded) > lib.HR_NAME_MAX or encoded != name.encode("utf-8", "surrogatepass"):
        expected = f"1 to {lib.HR_NAME_MAX} bytes of UTF-8"
        raise HotreloadError("E-USAGE", "the name is invalid", found=repr(name), expected=expected)
    return encoded


def parse_header(data: bytes) -> tuple[int, int, int]:
    """Of an answer: the request's kind, the length of the body, the request's number. Raises HotreloadError
    (E-PROTOCOL) for anything but a whole header of this version's answers."""
    if len(data) != HEADER_SIZE:
        raise protocol_error("the answer's header is cut")
    head = ffi.cast("hr_message *", ffi.from_buffer(data))
    if head.magic != lib.HR_WIRE_MAGIC or head.length > lib.HR_WIRE_LENGTH_MAX or not head.kind & lib.HR_MSG_REPLY:
        raise protocol_error("the answer is no message of a hotreload host")
    if head.version != lib.HR_WIRE_VERSION:
        raise protocol_error(f"the host speaks version {head.version}, this tool {lib.HR_WIRE_VERSION}")
    return head.kind & ~lib.HR_MSG_REPLY, head.length, head.id


def protocol_error(reason: str) -> HotreloadError:
    """What a host says makes no sense."""
    return HotreloadError("E-PROTOCOL", reason, fix=_text(lib.hr_status_fix(lib.HR_E_PROTOCOL)))


def parse_welcome(body: bytes) -> Welcome:
    """Raises HotreloadError (E-PROTOCOL): the host's shim is another version, or no shim."""
    if len(body) != ffi.sizeof("hr_welcome"):
        raise protocol_error("the host's welcome has an unexpected size")
    raw = ffi.cast("hr_welcome *", ffi.from_buffer(body))
    return Welcome(raw.pid, _text(raw.name), _text(raw.version), raw.client, raw.generation)


def parse_layouts(body: bytes) -> bytes:
    """The host's description, empty where it declares none.

    Raises HotreloadError: ``E-PROTOCOL``: the host's shim knows nothing of layouts, or its answer makes no sense.
    """
    fixed = ffi.sizeof("hr_reply")
    if len(body) < fixed:
        raise protocol_error("the host's reply is cut")
    raw = ffi.cast("hr_reply *", ffi.from_buffer(body))
    if raw.status != lib.HR_OK:
        raise error_of(_failure(raw.status, raw.failure))
    return body[fixed:]


def parse_reply(body: bytes) -> Reply:
    """Raises HotreloadError (E-PROTOCOL): the reply is cut, or says what no shim says."""
    fixed = ffi.sizeof("hr_reply")
    if len(body) < fixed:
        raise protocol_error("the host's reply is cut")
    data = ffi.from_buffer(body)
    raw = ffi.cast("hr_reply *", data)
    reports, at, least = [], fixed, ffi.offsetof("hr_report", "changes")
    for _ in range(raw.count):
        size = ffi.cast("hr_report *", data + at).size if at + least <= len(body) else 0
        report = ffi.cast("hr_report *", data + at)
        if size < least or at + size > len(body) or least + report.change_count * ffi.sizeof("hr_change") > size:
            raise protocol_error("a report of the host is cut")
        reports.append(_report(report))
        at += size
    if at != len(body):
        raise protocol_error("the host's reply is longer than its reports")
    failed = raw.status not in (lib.HR_OK, lib.HR_SAME)
    return Reply(
        _text(lib.hr_status_code(raw.status)), _failure(raw.status, raw.failure) if failed else None, tuple(reports)
    )


# ---- the black box ----


class Box:
    """A host's black box, readable while the host runs and after it died.

    Args:
        fd: Its descriptor; the caller keeps and closes it.
        host: Whose it is.

    Raises:
        HotreloadError: ``E-PROTOCOL``: it is none, or another version's.
    """

    def __init__(self, fd: int, host: Host) -> None:
        made = ffi.new("hr_box_reader **")
        raw = ffi.new("hr_failure *")
        status = lib.hr_box_open(fd, made, raw)
        if status != lib.HR_OK:
            raise protocol_error(_failure(status, raw).reason)
        self._reader = ffi.gc(made[0], lib.hr_box_close)
        self._header = ffi.new("hr_box *")
        self._sequence = -1
        self._slots: tuple[SlotRecord, ...] = ()
        self._modules: tuple[ModuleRecord, ...] = ()
        self._room = self._count = 0
        lib.hr_box_header(self._reader, self._header)
        name = host.name or _text(self._header.name)
        self.host = Host(host.pid, name, self._header.started / 1e9, host.version or _text(self._header.version_text))

    def snapshot(self, now: float, *, alive: bool = True) -> Snapshot:
        """What the box says now. ``now`` is ``time.monotonic()``; ``alive`` tells that the host still runs."""
        header = self._header
        lib.hr_box_header(self._reader, header)
        if header.sequence != self._sequence:
            self._read_records()
        calls, in_flight = self._read_calls()
        return Snapshot(
            time=now,
            host=self.host,
            generation=header.generation,
            alive=alive,
            slots=self._slots,
            modules=self._modules,
            calls=calls,
            in_flight=in_flight,
            blocked=self._blocked() if header.blocked_thread else "",
            times=self._read_times() if header.sample_every else (),
            residents=Residents(
                header.resident_modules, header.resident_bytes, header.resident_mappings, header.budget_bytes
            ),
        )

    def events(self, after: int, most: int = 64) -> tuple[int, list[tuple[int, Record]]]:
        """Up to ``most`` events after number ``after``, oldest first.

        Returns:
            The number of the last one looked at (``after`` when there is none), and the events as (origin, record);
            those of unknown kinds are left out.
        """
        raw = ffi.new("hr_event[]", most)
        count = lib.hr_box_events(self._reader, after, raw, most)
        known = (raw[i] for i in range(count) if raw[i].kind in _EVENTS)
        return int(raw[count - 1].number) if count else after, [(each.origin, self._event(each)) for each in known]

    def threads(self) -> list[ThreadRecord]:
        """The threads that call slots; those beyond the shards are left out."""
        raw = ffi.new("hr_box_thread[]", lib.HR_BOX_SHARDS)
        count = lib.hr_box_threads(self._reader, raw, lib.HR_BOX_SHARDS)
        return [ThreadRecord(each.thread, each.slot, bool(each.inside), each.epoch) for each in raw[0:count]]

    def program(self) -> tuple[str, str]:
        """The host's file, and the directory in which it was started."""
        lib.hr_box_header(self._reader, self._header)
        return _text(self._header.program), _text(self._header.directory)

    def newest_event(self) -> int:
        """The number of the newest event; 0 when there is none."""
        lib.hr_box_header(self._reader, self._header)
        return int(self._header.event_count)

    def close(self) -> None:
        ffi.release(self._reader)

    def _read_records(self) -> None:
        header = self._header
        count = header.slot_count
        if count > self._room or self._room == 0:
            self._room = max(64, count * 2)
            self._raw_slots = ffi.new("hr_box_slot[]", self._room)
            self._raw_calls = ffi.new("uint64_t[]", self._room)
            self._raw_in_flight = ffi.new("uint32_t[]", self._room)
        raw_modules = ffi.new("hr_box_module[]", max(1, header.module_count))
        modules = lib.hr_box_modules(self._reader, raw_modules, header.module_count)
        slots = lib.hr_box_slots(self._reader, self._raw_slots, count)
        by_record = {i + 1: self._module_record(raw_modules[i]) for i in range(modules) if raw_modules[i].state}
        rows = [
            (i, self._raw_slots[i])
            for i in range(1, slots)
            if self._raw_slots[i].state in _SLOT_STATES and self._raw_slots[i].runtime == header.runtime
        ]
        self._slots = tuple(self._slot_record(i, raw, by_record) for i, raw in rows)
        self._modules = tuple(record for i, record in by_record.items() if raw_modules[i - 1].runtime == header.runtime)
        self._sequence = header.sequence
        self._count = slots

    def _read_calls(self) -> tuple[list[int], list[int]]:
        # Not the header's count: it may have grown since the records were read, past the room made then.
        count = lib.hr_box_calls(self._reader, self._raw_calls, self._raw_in_flight, self._count)
        calls = ffi.unpack(self._raw_calls, count)
        busy = ffi.unpack(self._raw_in_flight, count)
        return (
            [calls[slot.index] - slot.calls_base for slot in self._slots],
            [busy[slot.index] for slot in self._slots],
        )

    def _read_times(self) -> list[tuple[Times, Times]]:
        raw = ffi.new("hr_times[]", 2 * self._count)
        count = lib.hr_box_times_of(self._reader, self._raw_slots, raw, self._count)
        pairs = ffi.unpack(raw, 2 * count)
        return [(_times(pairs[2 * slot.index]), _times(pairs[2 * slot.index + 1])) for slot in self._slots if count]

    def _slot_record(self, index: int, raw: Any, modules: dict[int, ModuleRecord]) -> SlotRecord:
        module = modules.get(raw.module)
        return SlotRecord(
            symbol=_text(raw.symbol),
            index=index,
            version=raw.version,
            state=_SLOT_STATES[raw.state],
            module=module.module if module else None,
            generation=raw.generation,
            swaps=raw.swaps,
            swapped_at=raw.swapped_at / 1e9,
            calls_base=raw.calls_base,
            calls_at_swap=raw.calls_at_swap,
            first_called=raw.first_called / 1e9 if raw.first_version == raw.version else 0.0,
            epoch=raw.epoch,
            described=_DESCRIBED[raw.flags & (lib.HR_SLOT_HOST_DESCRIBES | lib.HR_SLOT_MODULE_DESCRIBES)],
        )

    def _module_record(self, raw: Any) -> ModuleRecord:
        return ModuleRecord(
            module=Module(_text(raw.name), raw.version, _text(raw.build_id), _text(raw.path), raw.content),
            state=_MODULE_STATES.get(raw.state, "retired"),
            reason=_text(raw.reason),
            generation=raw.generation,
            loaded_at=raw.loaded_at / 1e9,
            bytes=raw.bytes,
            staged=_text(raw.staged),
            resident=raw.resident,
            mappings=raw.mappings,
        )

    def _blocked(self) -> str:
        header = self._header
        symbol = next((slot.symbol for slot in self._slots if slot.index == header.blocked_slot), "")
        where = f" in {symbol}" if symbol else ""
        waited = max(0, int(time.time() - header.blocked_since / 1e9))
        return f"thread {header.blocked_thread}{where} has held back a grace period for {waited} s"

    def _event(self, raw: Any) -> Record:
        kind = _EVENTS[raw.kind]
        failure = _failure(raw.status, raw.failure) if raw.status not in (lib.HR_OK, lib.HR_SAME) else None
        if failure is None and raw.failure.reason[0] != b"\0":  # no failure, but something to say
            texts = (_text(getattr(raw.failure, name)) for name in ("reason", "found", "expected", "fix"))
            failure = Failure("", *texts)
        module = Module(_text(raw.module), raw.module_version, _text(raw.build_id), _text(raw.path), raw.content)
        return Record(
            kind=kind,
            time=raw.time / 1e9,
            host=self.host,
            module=module if module.name or module.path else None,
            changes=_changes(_text(raw.changes), first_call=kind is EventKind.CALLED),
            code=failure.code if failure else "",
            reason=failure.reason if failure else "",
            fix=failure.fix if failure else "",
            found=failure.found if failure else "",
            expected=failure.expected if failure else "",
            us={"total": raw.us},
            fault=self._fault(raw.fault, raw.content) if raw.fault.kind != lib.HR_FAULT_NONE else None,
        )

    def _fault(self, raw: Any, content: int) -> Fault:
        lib.hr_box_header(self._reader, self._header)
        self._read_records()  # the module may be newer than the last snapshot
        staged = next((each.staged for each in self._modules if each.module.content == content), "")
        try:
            name = signal.Signals(raw.signal).name
        except ValueError:
            name = f"signal {raw.signal}" if raw.signal else ""
        return Fault(name, _text(raw.symbol), raw.thread, raw.address, raw.offset, raw.restored, staged)


def remains() -> list[Remains]:
    """The black boxes that dead hosts have left, the newest first; removes those that are too old."""
    raw = ffi.new("hr_remains[]", lib.HR_REMAINS_KEPT)
    count = lib.hr_remains_list(raw, lib.HR_REMAINS_KEPT)
    return [Remains(Path(_text(each.path)), each.pid, each.started / 1e9) for each in raw[0:count]]


def open_remains(found: Remains) -> Box:
    """A dead host's black box. Raises HotreloadError (``E-PROTOCOL``), OSError."""
    fd = os.open(found.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return Box(fd, Host(found.pid, ""))
    finally:
        os.close(fd)


def symbol_at(path: Path, address: int) -> str:
    """What lies at a virtual address of an ELF file: a function, an object, a literal; else the offset."""
    text = ffi.new("char[]", 160)
    lib.hr_symbol_at(os.fsencode(path), address, text, 160)
    return _text(text)


def _times(raw: Any) -> Times:
    return Times(raw.version, raw.samples, raw.p50_ns, raw.p99_ns)


def _changes(lines: str, *, first_call: bool) -> tuple[Change, ...]:
    """A first call's lines tell the version and when, which the record's own numbers say well enough."""
    # Not splitlines(): a name may hold U+0085 or U+2028. What a damaged box holds instead of numbers is left out.
    fields = (line.rsplit("\t", 2) for line in lines.split("\n"))
    return tuple(
        Change(each[0], int(each[1]), int(each[1] if first_call else each[2]))
        for each in fields
        if len(each) == 3 and each[1].isascii() and each[1].isdigit() and each[2].isascii() and each[2].isdigit()
    )


# ---- a host in this process ----


class RuntimeHandle:
    """One ``hr_runtime`` of this process. Values in, values out; E-USAGE after `free`."""

    def __init__(self, *, default: bool) -> None:
        self._address = ffi.NULL
        self._freed = False
        if not default:
            made = ffi.new("hr_runtime **")
            check(lib.hr_runtime_new(made), "the runtime cannot be made")
            self._address = made[0]

    @property
    def _raw(self) -> Any:
        """Null stands for the default runtime, and so must not stand for one that was freed."""
        if self._freed:
            raise HotreloadError("E-USAGE", "the runtime is closed", fix="make another Runtime")
        return self._address

    def free(self) -> None:
        """Gives the runtime's slots back; nobody may be inside one."""
        if not self._freed and self._address != ffi.NULL:
            lib.hr_runtime_free(self._address)
        self._freed = True

    def set_context(self, address: int) -> None:
        lib.hr_set_context(self._raw, ffi.cast("void *", address))

    def generation(self) -> int:
        return int(lib.hr_generation(self._raw))

    def declare(self, slot: SlotHandle) -> None:
        check(lib.hr_declare(self._raw, slot.raw), f"slot {slot.symbol!r} cannot be declared")

    def describe(self, slot: DescribedSlot) -> None:
        """Tells what a slot takes: a module that was built for something else is refused (``E-LAYOUT``). Raises
        HotreloadError (E-USAGE): another slot has a type of the same name that differs."""
        keep: list[Any] = []
        entry = ffi.new("hr_layout_entry_v1 *")
        entry.symbol = _kept_text(slot.symbol, keep)
        taken = (slot.state, slot.given, slot.result)
        entry.state, entry.input, entry.output = (_raw_type(each, keep) for each in taken)
        types = ffi.new("hr_layout_type_v1 *[]", [_raw_type(each, keep) for each in slot.types])
        layout = ffi.new("hr_layout_v1 *")
        layout.magic, layout.version = lib.HR_LAYOUT_MAGIC_V1, lib.HR_LAYOUT_VERSION_V1
        layout.struct_size, layout.entry_count, layout.entries = ffi.sizeof("hr_layout_v1"), 1, entry
        layout.type_count, layout.types = len(slot.types), types
        raw = ffi.new("hr_failure *")
        status = lib.hr_declare_layout(self._raw, layout, raw)
        if status != lib.HR_OK:
            raise error_of(_failure(status, raw))

    def find(self, slot: SlotHandle) -> None:
        check(lib.hr_find(self._raw, _name(slot.symbol), slot.raw), f"there is no slot {slot.symbol!r}")

    def symbols(self) -> list[str]:
        return [name for name, _ in self._each(lib.hr_each_symbol)]

    def modules(self) -> list[tuple[str, int]]:
        return self._each(lib.hr_each_module)

    def _each(self, function: Any) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []

        def visit(_: Any, name: Any, number: int) -> None:
            found.append((_text(name), number))

        callback = ffi.callback("void(void *, const char *, uint64_t)", visit)
        function(self._raw, callback, ffi.NULL)
        return found

    def load(self, paths: Sequence[str]) -> tuple[Report, ...]:
        """One transaction over the modules; reports for all of them, whatever becomes of it."""
        if not paths:
            return ()
        encoded = [ffi.new("char[]", _path(path)) for path in paths]
        raw_paths = ffi.new("const char *[]", encoded)
        raw = ffi.new("hr_report *[]", len(paths))
        transaction = ffi.new("hr_transaction **")
        status = lib.hr_prepare(self._raw, raw_paths, len(paths), raw, transaction)
        try:
            if status == lib.HR_OK:
                status = lib.hr_commit(transaction[0], raw)
            if raw[0] == ffi.NULL:
                check(status, "the modules cannot be loaded")
            return tuple(_report(raw[i]) for i in range(len(paths)))
        finally:
            for i in range(len(paths)):
                lib.hr_report_free(raw[i])

    def rollback(self, module: str | None) -> tuple[Report, ...]:
        raw = ffi.new("hr_report ***")
        count = ffi.new("uint32_t *")
        status = lib.hr_rollback(self._raw, _name(module) if module else ffi.NULL, raw, count)
        try:
            if count[0] == 0:
                check(status, "nothing can be rolled back")
            return tuple(_report(raw[0][i]) for i in range(count[0]))
        finally:
            lib.hr_reports_free(raw[0], count[0])

    def serve(self, name: str, *, poll: bool, safe_point: bool) -> None:
        flags = (lib.HR_SERVE_POLL if poll else 0) | (lib.HR_SERVE_SAFE_POINT if safe_point else 0)
        raw = ffi.new("hr_failure *")
        status = lib.hr_serve(self._raw, _name(name), flags, raw)
        if status != lib.HR_OK:
            failure = _failure(status, raw)
            raise HotreloadError(
                failure.code, failure.reason, found=failure.found, expected=failure.expected, fix=failure.fix
            )


@dataclass(frozen=True, slots=True)
class DescribedField:
    """A field of a `Described`; ``number`` is the name of its elements' number type, such as ``int32_t``, or empty."""

    name: str
    type: str
    offset: int
    size: int
    number: str


@dataclass(frozen=True, slots=True)
class Described:
    """A struct, or without fields a number, as a slot takes it."""

    name: str
    size: int
    align: int
    fields: tuple[DescribedField, ...] = ()


@dataclass(frozen=True, slots=True)
class DescribedSlot:
    """What a slot takes; None: there is no such argument. ``types`` are further structs, such as those behind its
    pointers."""

    symbol: str
    state: Described | None
    given: Described | None
    result: Described | None
    types: tuple[Described, ...] = ()


_NUMBERS = {
    "bool": lib.HR_NUMBER_BOOL, "float": lib.HR_NUMBER_F32, "double": lib.HR_NUMBER_F64,
    "int8_t": lib.HR_NUMBER_I8, "int16_t": lib.HR_NUMBER_I16, "int32_t": lib.HR_NUMBER_I32,
    "int64_t": lib.HR_NUMBER_I64, "uint8_t": lib.HR_NUMBER_U8, "uint16_t": lib.HR_NUMBER_U16,
    "uint32_t": lib.HR_NUMBER_U32, "uint64_t": lib.HR_NUMBER_U64,
}  # fmt: skip


def _raw_type(described: Described | None, keep: list[Any]) -> Any:
    raw = ffi.new("hr_layout_type_v1 *")
    keep.append(raw)
    if described is None:
        raw.name, raw.align, raw.kind = _kept_text("void", keep), 1, lib.HR_TYPE_VOID
        return raw
    raw.name, raw.size, raw.align = _kept_text(described.name, keep), described.size, described.align
    raw.kind = lib.HR_TYPE_STRUCT if described.fields else lib.HR_TYPE_SCALAR
    raw.field_count = len(described.fields)
    fields = ffi.new("hr_layout_field_v1[]", max(1, len(described.fields)))
    keep.append(fields)
    for into, field in zip(fields, described.fields, strict=False):
        into.name, into.type = _kept_text(field.name, keep), _kept_text(field.type, keep)
        into.offset, into.size, into.flags = field.offset, field.size, _NUMBERS.get(field.number, 0)
    raw.fields = fields
    return raw


def _kept_text(text: str, keep: list[Any]) -> Any:
    keep.append(ffi.new("char[]", text.encode()))
    return keep[-1]


class SlotHandle:
    """One ``hr_slot`` and whatever has to stay alive with it.

    Raises:
        TypeError: ``fallback`` is neither a function pointer nor a callable.
        HotreloadError: ``E-USAGE``: the symbol is invalid.
    """

    def __init__(self, symbol: str, fallback: Any = None) -> None:
        self.symbol = symbol
        self._symbol = ffi.new("char[]", _name(symbol))
        # Both: a cast pointer does not keep alive what it was made from, and ctypes frees its callbacks.
        self._source = fallback
        self._fallback = ffi.NULL if fallback is None else _function(fallback)
        self.raw = ffi.new("hr_slot *", {"symbol": self._symbol, "fallback": self._fallback})

    def call(self, state: Any, given: Any, result: Any) -> int:
        """Calls the slot; the GIL is released. Each argument is a pointer from `pointer`."""
        status: int = lib.hr_call_slot(self.raw, state, given, result)
        return status


class ClosedSlot(SlotHandle):
    """What a slot becomes with the end of its runtime: its place in the dispatch table belongs to others then."""

    def call(self, state: Any, given: Any, result: Any) -> int:
        raise HotreloadError("E-USAGE", f"the runtime of slot {self.symbol!r} is closed", fix="make another Runtime")


def _function(fallback: Any) -> Any:
    """A C function from a cffi or ctypes function pointer, an address, or a Python callable."""
    if isinstance(fallback, int) and not isinstance(fallback, bool):
        return ffi.cast("hr_patch_fn", fallback)
    if isinstance(fallback, _CDATA):
        return ffi.cast("hr_patch_fn", fallback)
    address = ctypes_address(fallback)
    if address is not None:
        return ffi.cast("hr_patch_fn", address)
    if not callable(fallback):
        raise TypeError(f"a fallback is a function pointer or a callable, not {type(fallback).__name__}")
    return ffi.callback("int32_t(void *, const void *, void *)", _call_python(fallback), error=-1)


_CDATA = type(ffi.NULL)


def ctypes_address(value: Any) -> int | None:
    """The address of a ctypes function pointer; None for anything else."""
    import ctypes

    # The common base of all ctypes function pointers has no public name.
    if not isinstance(value, ctypes.CFUNCTYPE(None).__mro__[1]):
        return None
    return ctypes.cast(value, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


def _call_python(function: Callable[[int, int, int], int | None]) -> Callable[[Any, Any, Any], int]:
    def call(state: Any, given: Any, result: Any) -> int:
        return function(*(int(ffi.cast("uintptr_t", each)) for each in (state, given, result))) or 0

    return call


def pointer(value: Any, writable: object = None) -> Any:
    """A pointer to a buffer's bytes, without a copy, for a ``void *`` parameter. None is null, an int an address, cffi
    pointers and arrays pass through. The buffer stays as it is while the pointer lives.

    Args:
        value: The buffer.
        writable: `WRITABLE`, or None where bytes are only read. (Positional: this is on the path of every call.)

    Raises:
        TypeError: It has no contiguous buffer, or a read-only one where bytes are written.
    """
    if value is None:
        return _NULL
    if isinstance(value, _CDATA):
        return value
    if isinstance(value, int):
        return ffi.cast(_VOID, value)
    try:
        return _from_buffer(_BYTES, value, writable is WRITABLE)
    except (BufferError, ValueError) as error:
        kind = "writable " if writable is WRITABLE else ""
        raise TypeError(f"{type(value).__name__} is no {kind}contiguous buffer") from error


WRITABLE = object()
_NULL, _from_buffer = ffi.NULL, ffi.from_buffer
# Types, not their names: a name is looked up at every call.
_VOID, _BYTES = ffi.typeof("void *"), ffi.typeof("char[]")


def address(raw: Any) -> int:
    """The address that a pointer from `pointer` holds."""
    return int(ffi.cast("uintptr_t", raw))


cell_value: Callable[[Any], Any] = itemgetter(0)
"""The value of a cell of `cell_maker`."""


def null() -> Any:
    """The null pointer."""
    return _NULL


def cell_maker(kind: str) -> Callable[[], Any]:
    """Makes cells of one C number of that type, zero at first; ``cell[0]`` is its value."""
    return partial(ffi.new, ffi.typeof(f"{kind} *"))


def fill(cell: Any, data: bytes) -> None:
    """Copies bytes into a writable buffer of that size."""
    ffi.memmove(_from_buffer(_BYTES, cell, True), data, len(data))  # noqa: FBT003 (positional only)


def function_type(value: Any) -> tuple[str, ...] | None:
    """The C names of a cffi function pointer's result and parameters; None for anything else."""
    if not isinstance(value, _CDATA):
        return None
    kind = ffi.typeof(value)
    return (kind.result.cname, *(each.cname for each in kind.args)) if kind.kind == "function" else None


BUFFER_NAMES: Mapping[str, Any] = {
    "hr_from_buffer": ffi.from_buffer,
    "hr_bytes": ffi.typeof("char[]"),
    "hr_cast": ffi.cast,
    "hr_uintptr": ffi.typeof("uintptr_t"),
}
"""What code that is written at run time (`hotreload.arguments`) needs to get the address of a buffer."""
_kept: list[SlotHandle] = []


def keep(handle: SlotHandle) -> None:
    """Keeps a declared slot's memory and callback for the life of the process: C may call them at any time."""
    _kept.append(handle)


def stop() -> None:
    """Stops serving this process."""
    lib.hr_stop()


def poll(timeout: float) -> int:
    """Serves what is waiting, in this thread; waits up to ``timeout`` seconds. Returns how many requests."""
    return int(lib.hr_poll(round(min(max(0.0, timeout), 1e6) * 1000)))  # C would wait for ever below zero


def safepoint() -> None:
    """Where a host that asked for safe points lets a swap happen."""
    lib.hr_safepoint_reached()


def check(status: int, what: str) -> None:
    """Raises the exception that a status other than ok or same stands for."""
    if status in (lib.HR_OK, lib.HR_SAME):
        return
    reason = f"{what}: {_text(lib.hr_status_text(status))}"
    raise error_of(Failure(_text(lib.hr_status_code(status)), reason, fix=_text(lib.hr_status_fix(status))))


__all__ = ["OK", "SAME", "Box", "Reply", "RuntimeHandle", "SlotHandle", "Welcome", "inspect", "settled"]
