"""The fuzz targets' first inputs: valid ones, and one for every code that the target can answer with."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import cbuild
from preflight_lib import PT_DYNAMIC, Elf

from hotreload import native
from hotreload._shim import ffi, lib
from hotreload.model import Manifest

SMALL = ("-nostdlib", "-Wl,-z,noseparate-code", "-Wl,-z,max-page-size=4096", "-Wl,--hash-style=gnu", "-s")
"""Without libc and padding: what is mutated are tables, not empty pages."""

PREFLIGHT_CODES = frozenset(
    ("ok", "E-NOT-ELF", "E-ARCH", "E-TRUNCATED", "E-NO-MANIFEST", "E-ABI", "E-MANIFEST", "E-STATIC-TLS")
)
WIRE_CODES = PREFLIGHT_CODES | {
    *("same", "welcome", "E-IO", "E-DENIED", "E-SYMBOLS", "E-ON-LOAD", "E-QUARANTINED", "E-PROTOCOL"),
    *("E-NO-PREVIOUS", "E-ABORTED", "E-LAYOUT", "E-MIGRATE"),
}
BOX_CODES = frozenset(("ok", "E-PROTOCOL"))
LAYOUT_CODES = frozenset(("ok", "E-LAYOUT", "E-PROTOCOL", "E-ABI"))


def module(directory: Path, name: str, *, returns: int = 0, flags: Sequence[str] = SMALL, **parts: str) -> Path:
    """A module "m" with the slots m.one and m.two; its content depends on ``returns``."""
    slots = {"m.one": f"return {returns};", "m.two": "return 2;"}
    source = cbuild.module_source("m", 1, slots, **parts)
    return cbuild.build_module(directory / f"{name}.so", source, *flags)


def _without_manifest(directory: Path) -> Path:
    source = '__attribute__((visibility("default"))) int nothing(void) { return 0; }\n'
    return cbuild.build_module(directory / "no-manifest.so", source, *SMALL)


def _put(elf: Elf, name: str, offset: int, kind: str, value: int) -> bytes:
    """Changes a field of HOTPATCH_MODULE_V1 in the file."""
    address = elf.get("Q", elf.symbol("HOTPATCH_MODULE_V1") + 8)
    elf.put(kind, elf.offset_of(address) + offset, value)
    return bytes(elf)


DESCRIBED = """
#define POINT_FIELDS(F) F(Point, x, float) F(Point, y, float)
HR_STRUCT(Point, POINT_FIELDS)
HR_LAYOUT(Point, POINT_FIELDS)
#define SHAPE_FIELDS(F) F(Shape, at, Point, [2]) F(Shape, next, struct Shape *) F(Shape, spare, hr_reserve, [24])
HR_STRUCT(Shape, SHAPE_FIELDS)
HR_LAYOUT(Shape, SHAPE_FIELDS)
HR_HOST_LAYOUT(before, HR_TYPE(Point) HR_TYPE(Shape), HR_TAKES("m.one", Shape, void, void))
static int32_t forth(void *host, const void *from, void *to) { return host || from || to; }
HR_MODULE_LAYOUT(HR_TYPE(Point), HR_TAKES("m.one", Shape, int, hr_unchecked))
HR_MODULE_MIGRATIONS(HR_MIGRATION("Shape", &before, 0, forth))
"""
"""Everything that HOTPATCH_LAYOUT_V1 and HOTPATCH_MIGRATE_V1 can hold."""

GROWN = DESCRIBED.replace("spare, hr_reserve, [24])", "id, int64_t) F(Shape, spare, hr_reserve, [16])")
"""The same, and Shape has grown into its reserve."""

DIFFERENT = """
#define POINT_FIELDS(F) F(Point, x, double) F(Point, y, double)
HR_STRUCT(Point, POINT_FIELDS)
HR_LAYOUT(Point, POINT_FIELDS)
HR_MODULE_LAYOUT(HR_TYPE(Point), HR_TAKES("m.one", hr_unchecked, hr_unchecked, hr_unchecked))
"""
"""Another Point than the wire target's."""

MIGRATED = (
    DIFFERENT
    + """
#define OLD_FIELDS(F) F(OldPoint, x, float) F(OldPoint, y, float)
HR_STRUCT(OldPoint, OLD_FIELDS)
HR_LAYOUT_AS(OldPoint, "Point", OLD_FIELDS)
HR_HOST_LAYOUT(before, HR_TYPE(OldPoint), HR_TAKES("m.one", hr_unchecked, hr_unchecked, hr_unchecked))
static int32_t forth(void *host, const void *from, void *to) { return host || from == to; }
HR_MODULE_MIGRATIONS(HR_MIGRATION("Point", &before, 0, forth))
"""
)
"""The same, with the way there; the target has no room for it."""


def modules(directory: Path) -> Mapping[str, bytes]:
    """The bytes of modules, by name: sound ones, and for every code of preflight one that it refuses with that."""
    directory.mkdir(parents=True, exist_ok=True)
    plain = module(directory, "plain")
    elf = plain.read_bytes()
    arm = bytearray(elf)
    arm[18:20] = (183).to_bytes(2, "little")
    return {
        "plain": elf,
        "hooks": module(directory, "hooks", on_load="return 0;", on_unload="return 0;").read_bytes(),
        "relr": module(directory, "relr", flags=(*SMALL, "-Wl,-z,pack-relative-relocs")).read_bytes(),
        "sysv": module(directory, "sysv", flags=(*SMALL, "-Wl,--hash-style=sysv")).read_bytes(),
        "described": module(directory, "described", extra=DESCRIBED).read_bytes(),
        "libc": module(directory, "libc", flags=("-s",)).read_bytes(),
        "not-elf": b"#!/bin/sh\n",
        "arch": bytes(arm),
        "cut": elf[: len(elf) // 2],
        "no-manifest": _without_manifest(directory).read_bytes(),
        "magic": _put(Elf(plain), "magic", 0, "I", 0x48505432),
        "entries": _put(Elf(plain), "entries", 24, "I", 0x7FFFFFFF),
        "static-tls": module(
            directory,
            "static-tls",
            extra='static __thread int tls __attribute__((tls_model("initial-exec")));',
            on_load="return ++tls;",
        ).read_bytes(),
        "no-dynamic": _no_dynamic(Elf(plain)),
        "names-nowhere": _names_nowhere(elf),
    }


def _names_nowhere(elf: bytes) -> bytes:
    """Section 0, which is none, as the table of the sections' names, far outside of the file. Found by the fuzzer."""
    changed = bytearray(elf)
    (sections,) = struct.unpack_from("<Q", changed, 0x28)  # e_shoff
    struct.pack_into("<H", changed, 0x3E, 0)  # e_shstrndx
    struct.pack_into("<IIQQQQ", changed, sections, 0, 3, 0, 0, 0x4200000000, 1 << 40)  # SHT_STRTAB, offset and size
    return bytes(changed)


def _no_dynamic(elf: Elf) -> bytes:
    for header in elf.segments(PT_DYNAMIC):
        elf.set_segment(header, "type", 0)
    return bytes(elf)


def layouts(directory: Path) -> Mapping[str, bytes]:
    """Two descriptions, a host's and a module's, by name."""
    directory.mkdir(parents=True, exist_ok=True)
    everything = _layout(module(directory, "all", extra=DESCRIBED))
    grown = _layout(module(directory, "grown", extra=GROWN))
    other = _layout(module(directory, "other", extra=DIFFERENT))
    magic = bytes([other[0] ^ 1]) + other[1:]
    return {
        "same": _pair(everything, everything),
        "grown": _pair(everything, grown),
        "different": _pair(everything, other),
        "cut": _pair(everything[: len(everything) // 2], other),
        "magic": _pair(everything, magic),
        "nothing": _pair(b"", b""),
        "struct-struct": _pair(_renamed(everything, b"Point", b"struct struct Point"), everything),
    }


def _renamed(layout: bytes, name: bytes, new: bytes) -> bytes:
    """The description with another text where its types and fields call themselves so."""
    before = layout.index(b"\0" + name + b"\0") + 1
    return layout.replace(before.to_bytes(8, "little"), len(layout).to_bytes(8, "little")) + new + b"\0"


def _layout(path: Path) -> bytes:
    manifest = native.inspect(path)
    assert isinstance(manifest, Manifest) and manifest.layout, manifest
    return manifest.layout


def _pair(host: bytes, module: bytes) -> bytes:
    return len(host).to_bytes(4, "little") + host + module


def message(
    kind: int, body: bytes = b"", *, magic: int = lib.HR_WIRE_MAGIC, version: int = lib.HR_WIRE_VERSION
) -> bytes:
    """One message of the wire."""
    head = ffi.new("hr_message *", {"magic": magic, "version": version, "kind": kind, "length": len(body), "id": 7})
    return bytes(ffi.buffer(head)) + body


def paths(*names: Path) -> bytes:
    """The body of a load or prepare request."""
    body = ffi.new("hr_paths *", {"count": len(names), "paths": len(names)})
    for index, name in enumerate(names):
        ffi.memmove(body.paths[index], str(name).encode(), len(str(name).encode()))
    return bytes(ffi.buffer(body))[: ffi.sizeof("hr_paths") + len(names) * lib.HR_PATH_SIZE]


def load(*names: Path) -> bytes:
    """A request to load modules."""
    return message(lib.HR_MSG_LOAD, paths(*names))


def requests(directory: Path) -> Mapping[str, bytes]:
    """What a peer sends over one connection, by name. ``directory`` keeps the modules that it names."""
    built = {name: directory / f"{name}.so" for name in modules(directory)}
    for name, data in modules(directory).items():
        built[name].write_bytes(data)
        built[name].chmod(0o755)
    other = module(directory, "other", returns=4)
    veto = module(directory, "veto", returns=5, on_load="return 7;")
    missing = module(directory, "missing", returns=6, extra="extern int nobody(void);", on_load="return nobody();")
    different = module(directory, "different", returns=9, extra=DIFFERENT)
    migrated = module(directory, "migrated", returns=10, extra=MIGRATED)
    shared = module(directory, "shared", returns=8)
    shared.chmod(0o777)
    rollback = message(lib.HR_MSG_ROLLBACK, bytes(ffi.sizeof("hr_rollback_request")))
    prepare = message(lib.HR_MSG_PREPARE, paths(built["hooks"]))
    return {
        "hello": message(lib.HR_MSG_HELLO, bytes(ffi.sizeof("hr_hello"))),
        "status": message(lib.HR_MSG_STATUS) * 3,
        "layouts": message(lib.HR_MSG_LAYOUTS),
        "strange-kind": message(99),
        "strange-version": message(lib.HR_MSG_STATUS, version=9),
        "strange-magic": message(lib.HR_MSG_STATUS, magic=1),
        "nothing-prepared": message(lib.HR_MSG_COMMIT),
        "no-previous": rollback,
        **{f"load-{name}": load(path) for name, path in built.items()},
        "same": load(built["plain"]) * 2,
        "several": load(built["hooks"], built["arch"]),
        "burnt": load(other) + rollback + load(other),
        "veto": load(veto),
        "different": load(different),
        "migrated": load(migrated),
        "missing": load(missing),
        "shared": load(shared),
        "absent": load(directory / "absent.so"),
        "commit": prepare + message(lib.HR_MSG_COMMIT),
        "abort": prepare + message(lib.HR_MSG_ABORT),
        "left-prepared": prepare,
        "half": prepare[: len(prepare) // 2],
    }


def boxes() -> Mapping[str, bytes]:
    """Black boxes, by name: a small sound one, and ones that contradict themselves."""
    capacity, stride = 4, 4096
    sizes = {name: ffi.sizeof(f"hr_box_{name}") for name in ("slot", "module")} | {"event": ffi.sizeof("hr_event")}
    offsets, at = {}, lib.HR_BOX_HEADER_SIZE
    for name, count in (("slot", capacity), ("module", 2), ("event", 2)):
        offsets[name], at = at, at + count * sizes[name]
    times_at, times_size = at + 2 * stride, ffi.sizeof("hr_box_times")
    size = times_at + 2 * capacity * times_size
    header = ffi.new("hr_box *", {"magic": lib.HR_BOX_MAGIC, "version": lib.HR_BOX_VERSION, "size": size})
    header.header_size = lib.HR_BOX_HEADER_SIZE
    header.slots_offset, header.modules_offset = offsets["slot"], offsets["module"]
    header.events_offset = offsets["event"]
    header.shards_offset, header.shard_stride = at, stride
    header.times_offset, header.times_size, header.sample_every = times_at, times_size, 256
    header.slot_size, header.module_size, header.event_size = sizes["slot"], sizes["module"], sizes["event"]
    header.slot_capacity, header.module_capacity, header.event_capacity, header.shard_capacity = capacity, 2, 2, 2
    header.slot_count, header.module_count, header.shard_count, header.event_count = 2, 1, 1, 2
    sound = bytearray(size)
    sound[: ffi.sizeof("hr_box")] = bytes(ffi.buffer(header))
    slot = ffi.new("hr_box_slot *", {"symbol": b"m.one", "version": 3, "module": 1, "state": lib.HR_SLOT_LIVE})
    sound[offsets["slot"] + sizes["slot"] : offsets["slot"] + 2 * sizes["slot"]] = bytes(ffi.buffer(slot))
    for number in (1, 2):
        event = ffi.new("hr_event *", {"number": number, "kind": lib.HR_EVENT_SWAP, "module": b"m"})
        place = offsets["event"] + (number - 1) * sizes["event"]
        sound[place : place + sizes["event"]] = bytes(ffi.buffer(event))
    header.shards_offset = size
    outside = bytes(ffi.buffer(header)) + bytes(sound[ffi.sizeof("hr_box") :])
    return {"sound": bytes(sound), "outside": outside, "cut": bytes(sound[:5000]), "small": bytes(sound[:100])}


def endless(box: bytes) -> bytes:
    """The box, as if its host had written as many events as a number can tell."""
    at = ffi.offsetof("hr_box", "event_count")
    return box[:at] + b"\xff" * 8 + box[at + 8 :]


def write(directory: Path, seeds: Mapping[str, bytes]) -> list[Path]:
    """Writes each input into a file of its own and returns them in order."""
    directory.mkdir(parents=True, exist_ok=True)
    files = [directory / name for name in seeds]
    for file, data in zip(files, seeds.values(), strict=True):
        file.write_bytes(data)
    return files
