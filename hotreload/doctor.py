"""What of this machine helps or hinders hotreload: one `Check` each, with a cure where something is amiss.

A check looks at one thing and tries it for real where that is harmless (a lease is taken, a module is built, loaded and
called in a process of its own); it never changes anything.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import os
import platform
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from hotreload import hosts, native, sources
from hotreload.errors import HotreloadError
from hotreload.model import Failure
from hotreload.mounts import Mount, mount_of

WATCHES_WANTED = 8192
INSTANCES_WANTED = 128
MAPPINGS_WANTED = 65530
"""The kernel's default; a resident version takes 4 to 5 of them."""
FILES_WANTED = 256
ADDRESSES_WANTED = 2 << 30
SPACE_WANTED = 100 << 20
FILE_WANTED = 64 << 20
_MEMBARRIER = {"x86_64": 324, "aarch64": 283}
_PRIVATE_EXPEDITED = 1 << 3

MODULE = """\
#include <hotreload/patch.h>
static int32_t answer(void *state, const void *in, void *out) { (void)state, (void)in, (void)out; return 42; }
HR_MODULE("doctor", 1, HR_PATCH("doctor.answer", answer))
"""
PROGRAM = """\
import sys, hotreload
runtime = hotreload.Runtime()
slot = runtime.register_fallback("doctor.answer", lambda state, given, result: 0)
report = runtime.load_module(sys.argv[1])
assert slot() == 42
print(report.us["total"])
"""


class Level(Enum):
    """How a check came out. Only ``FAIL`` keeps hotreload from working."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``fix`` is empty where all is well."""

    name: str
    level: Level
    found: str
    fix: str = ""


def examine(tool: str, directories: Sequence[Path]) -> Iterator[Check]:
    """All checks, in the order shown. ``tool`` is the command line's version, ``directories`` hold build outputs."""
    yield from (_versions(tool), _system(), _compiler(), *_other_languages(), _linker(), _swap())
    yield from (_inotify(), _membarrier(), _black_box(), _runtime_directory(), _state_directory())
    for directory in directories:
        yield from (_outputs(directory), _file_system(directory), _leases(directory))
    yield from (_staging(), _space(), _umask(), _addresses(), _mappings(), _files(), _file_size(), _cores())


# ---- the tool, compilers ----


def _versions(tool: str) -> Check:
    shim = native.version()
    found = f"hotreload {tool}, shim {shim}, Python {platform.python_version()}"
    if shim != tool:
        return Check("version", Level.FAIL, found, "install hotreload-native again: its parts are of two versions")
    return Check("version", Level.OK, found)


def _system() -> Check:
    found = f"{platform.system()} {platform.release()} {platform.machine()}, {' '.join(platform.libc_ver()) or 'libc'}"
    if platform.system() == "Linux" and platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc":
        return Check("system", Level.OK, found)
    return Check("system", Level.WARN, found, "only Linux on x86-64 with glibc is tested")


def _compiler() -> Check:
    found = compiler()
    if found is None:
        fix = "install one (Debian, Ubuntu: apt-get install gcc), or set CC"
        return Check("C compiler", Level.FAIL, "none", fix)
    return Check("C compiler", Level.OK, f"{found}: {_first_line([found, '--version'])}")


def compiler() -> str | None:
    """The C compiler: ``$CC``, else cc, gcc or clang."""
    return next(filter(None, (shutil.which(name) for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"))), None)


def _other_languages() -> Iterator[Check]:
    """What is missing here harms only those who write in it."""
    for name, programs in (("C++ compiler", ("c++", "g++", "clang++")), ("Rust", ("cargo",)), ("Zig", ("zig",))):
        path = next(filter(None, map(shutil.which, programs)), None)
        command = [path] if path else zig_package() if name == "Zig" else []
        version = [*command, "version" if name == "Zig" else "--version"]
        told = f"{' '.join(command)}: {_first_line(version)}" if command else f"none; only {name} code needs it"
        yield Check(name, Level.OK, told)


def zig_package() -> list[str]:
    """How Zig is called where it came as a Python package (ziglang); empty where it did not."""
    return [sys.executable, "-m", "ziglang"] if importlib.util.find_spec("ziglang") else []


def _linker() -> Check:
    fast = [name for name in ("mold", "ld.lld") if shutil.which(name)]
    if fast:
        option = "mold" if "mold" in fast else "lld"
        return Check("linker", Level.OK, f"{' and '.join(fast)}; use it with -fuse-ld={option}")
    fix = "a faster linker shortens every rebuild of a large module: apt-get install mold, and link with -fuse-ld=mold"
    return Check("linker", Level.WARN, "no fast one", fix)


def _swap() -> Check:
    """The whole way, in a process of its own: build a module, check it, load it, call it."""
    program = compiler()
    if program is None:
        return Check("swap", Level.WARN, "not tried without a C compiler", "install one")
    with tempfile.TemporaryDirectory(prefix="hotreload-doctor-") as scratch:
        module = Path(scratch) / "doctor.so"
        failure = _build(program, module) or _verdict(module)
        if failure:
            return Check("swap", Level.FAIL, failure, "see the compiler's message; `hotreload explain` tells of codes")
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(module)], capture_output=True, text=True, check=False, timeout=60
        )
    if done.returncode != 0:
        last = done.stderr.strip().rpartition("\n")[2].removeprefix("hotreload.errors.")
        code = last.split(":")[1].strip() if last.count(":") > 1 else ""
        fix = f"hotreload explain {code}" if code.startswith("E-") else "see the other lines of this list"
        return Check("swap", Level.FAIL, last or f"the program ended with {done.returncode}", fix)
    return Check("swap", Level.OK, f"a module was built, loaded in {int(done.stdout) / 1000:.2f} ms and called")


def _build(program: str, module: Path) -> str:
    source = module.with_suffix(".c")
    source.write_text(MODULE, encoding="utf-8")
    flags = ["-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-Bsymbolic", *sources.shim().cflags()]
    command = [program, *flags, str(source), "-o", str(module)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        return f"{program} cannot build a module: {done.stderr.strip().partition(chr(10))[0]}"
    module.chmod(0o755)  # the umask has a check of its own
    return ""


def _verdict(module: Path) -> str:
    found = native.inspect(module)
    return f"{found.code}: {found.reason}" if isinstance(found, Failure) else ""


# ---- the kernel ----


def _inotify() -> Check:
    watches, instances = (_number(f"/proc/sys/fs/inotify/max_user_{name}") for name in ("watches", "instances"))
    found = f"{watches} watches, {instances} instances"
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    if descriptor < 0:
        found = f"{found}; none to be had: {os.strerror(ctypes.get_errno())}"
        return Check("inotify", Level.WARN, found, f"outputs are polled; {_sysctl('instances', INSTANCES_WANTED * 4)}")
    os.close(descriptor)
    if watches < WATCHES_WANTED:
        return Check("inotify", Level.WARN, found, _sysctl("watches", 65536))
    if instances < INSTANCES_WANTED:
        return Check("inotify", Level.WARN, found, _sysctl("instances", INSTANCES_WANTED))
    return Check("inotify", Level.OK, found)


def _sysctl(name: str, value: int) -> str:
    return f"sysctl fs.inotify.max_user_{name}={value} (for good: in /etc/sysctl.d)"


def _membarrier() -> Check:
    number = _MEMBARRIER.get(platform.machine())
    known = ctypes.CDLL(None, use_errno=True).syscall(number, 0, 0, 0) if number else -1
    if known > 0 and known & _PRIVATE_EXPEDITED:
        return Check("membarrier", Level.OK, "private expedited")
    fix = "slot calls take a fence until a kernel (4.14 or newer) or a seccomp profile that allows membarrier is used"
    return Check("membarrier", Level.WARN, "refused", fix)


def _black_box() -> Check:
    try:
        os.close(os.memfd_create("hotreload-doctor", os.MFD_CLOEXEC))
    except OSError as error:
        fix = "allow memfd_create in the sandbox or seccomp profile: hosts keep their black box in such memory"
        return Check("black box", Level.FAIL, f"memfd_create: {error.strerror}", fix)
    return Check("black box", Level.OK, "shared memory can be made")


def _cores() -> Check:
    pattern = _read("/proc/sys/kernel/core_pattern").strip() or "unknown"
    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    found = f"core pattern {pattern}, limit {_size(soft)}"
    if soft == 0 and not pattern.startswith("|"):
        return Check("core dumps", Level.WARN, found, "ulimit -c unlimited, to see where a host died")
    return Check("core dumps", Level.OK, found)


# ---- limits ----


def _addresses() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    found = f"address space {_size(soft)}"
    if soft != resource.RLIM_INFINITY and soft < ADDRESSES_WANTED:
        return Check("memory", Level.WARN, found, "ulimit -v unlimited: old modules stay mapped")
    return Check("memory", Level.OK, found)


def _mappings() -> Check:
    most = _number("/proc/sys/vm/max_map_count")
    found = f"{most} a process, enough for some {most // 5} resident versions"
    if most < MAPPINGS_WANTED:
        return Check("mappings", Level.WARN, found, f"sysctl vm.max_map_count={MAPPINGS_WANTED}")
    return Check("mappings", Level.OK, found)


def _files() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{_size(soft)} descriptors" if soft == resource.RLIM_INFINITY else f"{soft} descriptors"
    if soft != resource.RLIM_INFINITY and soft < FILES_WANTED:
        return Check("files", Level.WARN, found, f"ulimit -n {FILES_WANTED * 4}")
    return Check("files", Level.OK, found)


def _file_size() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    found = f"files may have {_size(soft)}"
    if soft != resource.RLIM_INFINITY and soft < FILE_WANTED:
        return Check("file size", Level.WARN, found, "ulimit -f unlimited: black box and staged copies are files")
    return Check("file size", Level.OK, found)


def _umask() -> Check:
    mask = os.umask(0o077)
    os.umask(mask)
    if mask & 0o022 != 0o022:
        fix = "umask 022 where you build: outputs that others may write are refused (E-DENIED)"
        return Check("umask", Level.WARN, f"{mask:03o}", fix)
    return Check("umask", Level.OK, f"{mask:03o}")


# ---- directories and file systems ----


def _runtime_directory() -> Check:
    try:
        return Check("runtime directory", Level.OK, str(native.runtime_directory()))
    except HotreloadError as error:
        found = f"{error}{f' ({error.found})' if error.found else ''}"
        return Check("runtime directory", Level.FAIL, found, error.fix or "set XDG_RUNTIME_DIR to a directory of yours")


def _state_directory() -> Check:
    directory = hosts.state_directory()
    present = _nearest(directory)
    if not os.access(present, os.W_OK | os.X_OK):
        fix = f"make {present} yours, or set XDG_STATE_HOME: modules are staged there"
        return Check("state directory", Level.FAIL, f"{present} cannot be written", fix)
    mode = stat.S_IMODE(present.stat().st_mode)
    if present == directory and mode & 0o077:
        return Check("state directory", Level.FAIL, f"{present}: mode {mode:04o}", f"chmod 700 {present} (E-DENIED)")
    return Check("state directory", Level.OK, str(directory))


def _outputs(directory: Path) -> Check:
    present = _nearest(directory)
    info = present.stat()
    name = f"outputs {directory}"
    if info.st_uid not in (os.geteuid(), 0):
        return Check(name, Level.WARN, f"belongs to user {info.st_uid}", "build into a directory of yours (E-DENIED)")
    if _open_to_others(info):
        fix = f"chmod go-w {present}: what lies in it is refused (E-DENIED)"
        return Check(name, Level.WARN, f"mode {info.st_mode & 0o7777:04o}", fix)
    return Check(name, Level.OK, "only you can write there")


def _open_to_others(info: os.stat_result) -> bool:
    return bool(info.st_mode & 0o022) and not info.st_mode & stat.S_ISVTX


def _file_system(directory: Path) -> Check:
    mount = mount_of(_nearest(directory))
    kind = mount.kind or "unknown"
    if mount.remote:
        fix = "outputs are polled four times a second; build on a local disk for swaps within milliseconds"
        return Check(f"file system {directory}", Level.WARN, kind, fix)
    return Check(f"file system {directory}", Level.OK, kind)


def _staging() -> Check:
    directory = hosts.state_directory()
    return staging(directory, mount_of(_nearest(directory)))


def staging(directory: Path, mount: Mount) -> Check:
    """Whether modules can be run from the directory that they are staged in."""
    if "noexec" in mount.options:
        fix = "set XDG_STATE_HOME to a directory on a file system that is mounted without noexec"
        return Check("staging", Level.FAIL, f"{directory} is mounted noexec", fix)
    if mount.remote:
        fix = "set XDG_STATE_HOME to a local directory: a lost server kills a host that runs a module from it"
        return Check("staging", Level.WARN, mount.kind, fix)
    return Check("staging", Level.OK, mount.kind or "unknown")


def _space() -> Check:
    present = _nearest(hosts.state_directory())
    free = shutil.disk_usage(present).free
    if free < SPACE_WANTED:
        return Check("space", Level.WARN, f"{_size(free)} in {present}", "free some: each version is staged there")
    return Check("space", Level.OK, f"{_size(free)} in {present}")


def _leases(directory: Path) -> Check:
    """Whether a lease tells that a writer has finished. The file has no name: nobody who watches sees it."""
    name = f"leases {directory}"
    try:
        taken = _take_lease(_nearest(directory))
    except OSError as error:
        return Check(name, Level.OK, f"not tried: {error.strerror}")
    if taken:
        return Check(name, Level.OK, "served")
    return Check(name, Level.WARN, "refused", "an output is taken after 150 ms without change; a local disk is faster")


def _take_lease(directory: Path) -> bool:
    writer = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
    try:
        reader = os.open(f"/proc/self/fd/{writer}", os.O_RDONLY)
    finally:
        os.close(writer)
    try:
        fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    finally:
        os.close(reader)
    return True


# ---- small helpers ----


def _nearest(path: Path) -> Path:
    absolute = path.absolute()
    return next((each for each in (absolute, *absolute.parents) if each.is_dir()), Path("/"))


def _first_line(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not answer ({type(error).__name__})"
    return (done.stdout or done.stderr).partition("\n")[0].strip()


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""


def _number(path: str) -> int:
    text = _read(path).strip()
    return int(text) if text.isdigit() else 0


def _size(count: float) -> str:
    if count == resource.RLIM_INFINITY:
        return "unlimited"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
