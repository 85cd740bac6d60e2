"""Builds every peer's program and the modules for it, into ``tests/bench/peers/build`` (ignored by git)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
BUILD = HERE / "build"
PROGRAMS = BUILD / "programs"
MODULES = BUILD / "modules"
TARGET = BUILD / "target"
"""Named ``target``: libhotpatch looks for a directory of this name above its build."""
RELEASE = TARGET / "release"

FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", str(ROOT / "shim" / "include"))
MODULE_FLAGS = ("-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-Bsymbolic")

FAULTS = {"crash": "c", "hang": "h", "wrong-struct": "s", "missing-symbol": "u", "hold": "d"}
"""What a module may do wrong (module.c has the same letters); ``hold`` is no fault: b sleeps."""

C = "c"
RUST_KINDS = {"dylib": "peermodule", "libhotpatch": "peerhotpatch", "subsecond": "peersubsecond"}


@dataclass(frozen=True)
class Peer:
    """One peer as it is run.

    Attributes:
        name: In results and on the command line.
        label: For readers, with its version.
        program: The executable.
        kind: Of its modules: ``c``, or a key of `RUST_KINDS`.
        watches: It notices new builds by itself.
        output: The file name under which its module appears.
        directory: Where that is; None: a scratch directory of the run.
        same_calls_as: Another peer whose call path is the same code, measured there.
        one_thread: Made for programs that call from one thread.
        swaps: How many the latency measure takes of it, of 200 asked for; for those that wait by design.
        pause_ms: Random pause between swaps, so that they do not fall into step with its polling.
    """

    name: str
    label: str
    program: Path
    kind: str = C
    watches: bool = False
    output: str = "module.so"
    directory: Path | None = None
    same_calls_as: str = ""
    one_thread: bool = False
    swaps: int = 200
    pause_ms: int = 5
    environment: Mapping[str, str] = field(default_factory=dict)

    def module(self, name: str) -> Path:
        """``1``, ``2``, or a fault: the file that this peer would load."""
        return MODULES / f"{self.kind}-{name}.so"


PEERS = (
    Peer("hotreload", "hotreload, C", PROGRAMS / "hotreload"),
    Peer("hotreload-watch", "hotreload watch", PROGRAMS / "hotreload-watched", watches=True, same_calls_as="hotreload",
         pause_ms=20),
    Peer("hotreload-rust", "hotreload, Rust", RELEASE / "hotreload-peer"),
    Peer("hotreload-compatible", "hotreload as hotpatch-rs", RELEASE / "compatible-peer"),
    Peer("hotpatch-rs", "hotpatch-rs 0.1.0", RELEASE / "hotpatch-rs-peer"),
    Peer("hot-lib-reloader", "hot-lib-reloader 0.8.2, 500 ms", RELEASE / "hot-lib-reloader-shipped", kind="dylib",
         watches=True, output="libpeermodule.so", swaps=40, pause_ms=100),
    Peer("hot-lib-reloader-1ms", "hot-lib-reloader 0.8.2, 1 ms", RELEASE / "hot-lib-reloader-smallest", kind="dylib",
         watches=True, output="libpeermodule.so", same_calls_as="hot-lib-reloader", pause_ms=20),
    Peer("libhotpatch", "libhotpatch 1.2.0", RELEASE / "libhotpatch-peer", kind="libhotpatch", watches=True,
         output="libpeerhotpatch.so", directory=RELEASE, swaps=100, pause_ms=200),
    Peer("subsecond", "subsecond 0.7.10", RELEASE / "subsecond-peer", kind="subsecond"),
    Peer("libloading", "libloading 0.8.9", RELEASE / "libloading-peer"),
    Peer("stat-poll", "stat poller (cr.h's way, ours)", PROGRAMS / "stat-poll", watches=True, same_calls_as="dlopen",
         one_thread=True, pause_ms=33),
    Peer("inotify", "inotify loop and dlopen (ours: the floor)", PROGRAMS / "inotify", watches=True,
         same_calls_as="dlopen", pause_ms=20),
    Peer("dlopen", "plain dlopen", PROGRAMS / "dlopen"),
    Peer("dlopen-copy", "copy and dlopen", PROGRAMS / "dlopen-copy", same_calls_as="dlopen"),
)  # fmt: skip


def run(command: Sequence[str | Path], **settings: str) -> str:
    """Runs a build command; its messages are the exception's text when it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          env={**os.environ, **settings})  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def cc() -> str:
    return os.environ.get("CC", "cc")


def compile_module(output: Path, *flags: str) -> None:
    run([cc(), *FLAGS, *MODULE_FLAGS, *flags, "-o", output, HERE / "module.c"])
    output.chmod(0o755)


def build_c_programs() -> None:
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    harness = HERE / "harness.c"
    shim = sorted((ROOT / "shim" / "src").glob("*.c"))
    threads = ("-lpthread", "-ldl")
    run([cc(), *FLAGS, "-o", PROGRAMS / "dlopen", HERE / "dlopen.c", harness, *threads])
    run([cc(), *FLAGS, "-DCOPYING", "-o", PROGRAMS / "dlopen-copy", HERE / "dlopen.c", harness, *threads])
    run([cc(), *FLAGS, "-DPOLLING", "-o", PROGRAMS / "stat-poll", HERE / "dlopen.c", harness, *threads])
    run([cc(), *FLAGS, "-DINOTIFY", "-o", PROGRAMS / "inotify", HERE / "dlopen.c", harness, *threads])
    run([cc(), *FLAGS, "-o", PROGRAMS / "hotreload", HERE / "hotreload.c", harness, *shim, *threads])
    run([cc(), *FLAGS, "-DWATCHED", "-o", PROGRAMS / "hotreload-watched", HERE / "hotreload.c", harness, *shim,
         *threads])  # fmt: skip
    run([cc(), *FLAGS, "-o", PROGRAMS / "growth", HERE / "growth.c", *shim, *threads])


def build_c_modules() -> None:
    MODULES.mkdir(parents=True, exist_ok=True)
    for version in ("1", "2"):
        compile_module(MODULES / f"c-{version}.so", f"-DVERSION={version}")
    for name, letter in FAULTS.items():
        version = "1" if name == "hold" else "2"
        more = [f"-DFAULT_{letter.upper()}=1"] if letter in "us" else []
        compile_module(MODULES / f"c-{name}.so", f"-DVERSION={version}", f"-DFAULT='{letter}'", *more)
    compile_module(MODULES / "c-wrong-magic.so", "-DVERSION=2", "-DFAULT='m'")
    compile_module(MODULES / "c-foreign.so", "-DVERSION=2", "-DFAULT='n'", "-DFAULT_F")


def cargo(*arguments: str, **settings: str) -> None:
    run(["cargo", "build", "--quiet", "--release", "--manifest-path", HERE / "rust" / "Cargo.toml",
         "--target-dir", TARGET, *arguments], **settings)  # fmt: skip


def build_rust() -> None:
    """The peers once, then each kind of module once for each version and fault."""
    cargo(STEP_VERSION="1", STEP_FAULT="n")
    variants = {"1": ("1", "n"), "2": ("2", "n")}
    variants |= {name: ("1" if name == "hold" else "2", letter) for name, letter in FAULTS.items()}
    packages = [argument for kind in RUST_KINDS for argument in ("-p", f"module-{kind}")]
    for name, (version, letter) in variants.items():
        cargo(*packages, STEP_VERSION=version, STEP_FAULT=letter)
        for kind, library in RUST_KINDS.items():
            built = MODULES / f"{kind}-{name}.so"
            built.unlink(missing_ok=True)
            shutil.copyfile(RELEASE / f"lib{library}.so", built)
            built.chmod(0o755)
    for kind in RUST_KINDS:
        # Any library without what the peer looks for: the C one.
        shutil.copyfile(MODULES / "c-foreign.so", MODULES / f"{kind}-foreign.so")


def truncate_modules() -> None:
    """The first 60 % of each version 2, as a reader finds a file that is still being written."""
    for kind in (C, *RUST_KINDS):
        whole = MODULES / f"{kind}-2.so"
        if whole.exists():
            data = whole.read_bytes()
            (MODULES / f"{kind}-truncated.so").write_bytes(data[: len(data) * 6 // 10])


def build(peers: Sequence[Peer]) -> list[Peer]:
    """Builds what these peers need. Without cargo the Rust peers are left out: returns those that can run."""
    build_c_programs()
    build_c_modules()
    rust = [peer for peer in peers if peer.program.is_relative_to(RELEASE)]
    if rust and shutil.which("cargo"):
        build_rust()
        rust = []
    truncate_modules()
    return [peer for peer in peers if peer not in rust]


def patch_addresses(module: Path) -> str:
    """Of ``main``, ``a`` and ``b``, in hexadecimal: what the Dioxus CLI would tell subsecond's host."""
    symbols = {line.split()[-1]: line.split()[0] for line in run(["nm", "-D", "--defined-only", module]).splitlines()}
    return ",".join(symbols.get(name, "0") for name in ("main", "a", "b"))
