"""The Rust crate, its demo, and modules and hosts exchanged with the published ``hotpatch-rs`` 0.1.0."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import RequireTool, skip_here

REPOSITORY = Path(__file__).resolve().parents[2]
CRATE = REPOSITORY / "shim" / "rust"
EXAMPLE = REPOSITORY / "examples" / "counter-rust"
FEATURES = {
    "default": [],
    "macros": ["--features", "macros"],
    "off": ["--features", "off,macros"],
    "module": ["--no-default-features"],
}

TOOL = (sys.executable, "-m", "hotreload")
needs_tool = pytest.mark.skipif(
    find_spec("hotreload._shim") is None and os.environ.get("CI") != "true", reason="the Python package is not built"
)


@pytest.fixture(autouse=True, scope="session")
def cargo(require_tool: Callable[..., Path]) -> Path:
    """Every test here needs cargo."""
    return require_tool("cargo")


def run(*command: str | Path, cwd: Path, target: Path | None = None, **environment: str) -> str:
    """Runs a command to its success and returns its output, both streams."""
    variables = {**os.environ, **environment}
    variables.pop("CARGO_TARGET_DIR", None)
    if target is not None:
        variables["CARGO_TARGET_DIR"] = str(target)
    # What a group can write is refused (E-DENIED): the builds must not depend on the caller's umask.
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        umask=0o022,
    )
    assert done.returncode == 0, f"{command} in {cwd}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="session")
def target(cargo: Path, pytestconfig: pytest.Config) -> Path:
    """One cargo target directory for all packages, kept between runs: few builds."""
    assert pytestconfig.cache is not None
    return pytestconfig.cache.mkdir("rust-target")


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shim and the example, side by side as in the repository, to build in."""
    copy = tmp_path_factory.mktemp("tree")
    skip = shutil.ignore_patterns("target", "build")
    shutil.copytree(REPOSITORY / "shim", copy / "shim", ignore=skip)
    shutil.copytree(EXAMPLE, copy / "examples" / "counter-rust", ignore=skip)
    return copy


# ---- the crate ----


@pytest.mark.parametrize("features", ["macros", "off"])
def test_the_crate_passes_its_own_tests(features: str, target: Path) -> None:
    output = run("cargo", "test", *FEATURES[features], cwd=CRATE, target=target)
    passed = sum(int(count) for count in re.findall(r"test result: ok\. (\d+) passed", output))
    assert passed >= {"macros": 60, "off": 11}[features], output


@pytest.mark.parametrize("features", ["off", "module"])
def test_clippy_has_nothing_to_say(features: str, target: Path) -> None:
    """With the others it runs in ``make lint``, before every commit."""
    kinds = ["--lib"] if features == "module" else ["--workspace", "--all-targets"]
    run("cargo", "clippy", *kinds, *FEATURES[features], "--", "-D", "warnings", cwd=CRATE, target=target)


@pytest.mark.parametrize("features", FEATURES)
def test_the_documentation_builds_without_warnings(features: str, target: Path) -> None:
    run("cargo", "doc", "--no-deps", *FEATURES[features], cwd=CRATE, target=target, RUSTDOCFLAGS="-D warnings")


def test_the_sources_are_formatted(require_tool: RequireTool) -> None:
    require_tool("rustfmt")
    run("cargo", "fmt", "--check", cwd=CRATE)
    for package in sorted(path.parent for path in EXAMPLE.glob("*/Cargo.toml")):
        run("cargo", "fmt", "--check", cwd=package)


ATTRIBUTES = {
    "host": """
        #[hotreload::slot("counter.add")]
        fn add(total: &mut i64, amount: i64) -> Result<i64, i32> {
            *total += amount;
            Ok(*total)
        }

        fn main() {
            add::declare().unwrap();
            // SAFETY: the patch takes what the slot gives.
            unsafe { hotreload::serve("attributes", hotreload::Serving::default()) }.unwrap();
            let mut total = 0;
            loop {
                match add(&mut total, 1) {
                    Ok(total) => println!("value {total}"),
                    Err(status) => println!("status {status}"),
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    """,
    "patch": """
        #[hotreload::module("counter", 1)]
        mod patches {
            #[patch("counter.add")]
            fn add(total: &mut i64, amount: i64) -> i64 {
                *total += STEP * amount;
                assert!(STEP != 500, "a patch that panics");
                *total
            }
            const STEP: i64 = 10;
        }
    """,
}


@needs_tool
def test_attributes_in_a_running_host(target: Path, tmp_path: Path, runtime_home: Path) -> None:
    """A host and a patch module written with the attributes alone: edit, build, swap; a panic is the host's error."""
    for name, source in ATTRIBUTES.items():
        package = tmp_path / name
        (package / "src").mkdir(parents=True)
        (package / "src" / ("main.rs" if name == "host" else "lib.rs")).write_text(source)
        manifest = f'[package]\nname = "attributes-{name}"\nversion = "0.1.0"\nedition = "2021"\n'
        manifest += '[lib]\ncrate-type = ["cdylib"]\n' if name == "patch" else ""
        defaults = "false" if name == "patch" else "true"
        manifest += f'[dependencies]\nhotreload = {{ path = "{CRATE}", default-features = {defaults}, '
        (package / "Cargo.toml").write_text(manifest + 'features = ["macros"] }\n[workspace]\n')
    run("cargo", "build", cwd=tmp_path / "host", target=target)
    host = subprocess.Popen(
        [target / "debug/attributes-host"],
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime_home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        kept = values_until_step(host, 1)[1]
        source = tmp_path / "patch/src/lib.rs"
        for step in (1000, 500, 2000):
            source.write_text(re.sub(r"i64 = \d+", f"i64 = {step}", source.read_text()))
            run("cargo", "build", cwd=source.parents[1], target=target)
            module = target / "debug/libattributes_patch.so"
            run(*TOOL, "load", module, cwd=REPOSITORY, XDG_RUNTIME_DIR=str(runtime_home))
            if step == 500:
                assert host.stdout is not None
                assert any(line == "status -131\n" for line in host.stdout), "its panic is the host's to handle"
            else:
                before, after = values_until_step(host, step)
                assert before >= kept, "the state is kept"
                kept = after
    finally:
        host.kill()
        host.communicate()


# ---- the demo ----


def readme_commands(start: str) -> str:
    """The indented block of the example's README that begins with ``start``, as a shell script."""
    lines = (EXAMPLE / "README.md").read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.strip().startswith(start))
    block = []
    for line in lines[first:]:
        if not line.startswith("    "):
            break
        block.append(line.strip())
    return "\n".join(block)


def test_the_commands_of_the_readme_run_the_demo(tree: Path) -> None:
    output = run("sh", "-ec", readme_commands("cd examples/counter-rust/counter-patch-v1"), cwd=tree)
    # (step, value, implementation): the fallback adds 1, v1 adds 10, v2 subtracts 1.
    steps = [
        tuple(map(int, line))
        for line in re.findall(r"^step (\d+): value (-?\d+) \(implementation (\d)\)$", output, re.M)
    ]
    values = [1, 2, 3, 13, 23, 33, 32, 31, 30]
    assert steps == [(number, value, (number - 1) // 3) for number, value in enumerate(values, 1)], output
    assert re.search(r"loaded counter v1 .*generation 1; the counter stays at 3\b", output)
    assert re.search(r"loaded counter v2 .*generation 2; the counter stays at 33\b", output)


def test_a_refused_module_leaves_the_demo_running(tree: Path, target: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.so"
    bad.write_bytes(b"no library")
    bad.chmod(0o644)
    output = run("cargo", "run", "--", bad, cwd=tree / "examples/counter-rust/counter-host", target=target)
    assert "E-NOT-ELF" in output
    assert output.count("(implementation 0)") == 6


def test_a_module_with_other_types_is_refused_by_the_demo(tree: Path, target: Path) -> None:
    example = tree / "examples/counter-rust"
    shared = example / "shared-abi" / "src" / "lib.rs"
    before = shared.read_text()
    shared.write_text(before.replace("pub steps: u64", "pub steps: u32"))
    try:
        run("cargo", "build", cwd=example / "counter-patch-v1", target=target)
    finally:
        shared.write_text(before)
    output = run("cargo", "run", "--", target / "debug/libcounter_patch_v1.so",
                 cwd=example / "counter-host", target=target)  # fmt: skip
    assert "E-LAYOUT" in output and "Counter" in output, output
    assert output.count("(implementation 0)") == 6


@pytest.fixture
def served(tree: Path, target: Path, runtime_home: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """The example's host without arguments, and its runtime directory."""
    run("cargo", "build", cwd=tree / "examples/counter-rust/counter-host", target=target)
    host = subprocess.Popen(
        [target / "debug/counter-host"],
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime_home), "COUNTER_INTERVAL_MS": "5"},
        stdout=subprocess.PIPE,
        text=True,
    )
    yield host, runtime_home
    host.kill()
    host.wait()
    assert host.stdout is not None
    host.stdout.close()


def test_the_host_without_arguments_is_served_and_steps(served: tuple[subprocess.Popen[str], Path]) -> None:
    host, runtime = served
    assert host.stdout is not None
    assert host.stdout.readline() == f"counter-rust runs as process {host.pid}\n"
    assert (runtime / "hotreload" / f"{host.pid}.sock").is_socket()
    lines = [host.stdout.readline() for _ in range(3)]
    assert lines == [f"step {number}: value {number} (implementation 0)\n" for number in (1, 2, 3)]


def edit(source: Path, step: int) -> None:
    """What the user does: another number for the one constant."""
    source.write_text(re.sub(r"STEP: i64 = \d+", f"STEP: i64 = {step}", source.read_text()))


def values_until_step(host: subprocess.Popen[str], step: int) -> tuple[int, int]:
    """Reads the host's lines up to the first two whose values differ by ``step``; returns those values."""
    assert host.stdout is not None
    end = time.monotonic() + 60
    last = 0
    for line in host.stdout:
        found = re.search(r"value (-?\d+)", line)
        value = int(found[1]) if found else 0
        if value - last == step:
            return last, value
        assert time.monotonic() < end, f"no step of {step}; the last line: {line}"
        last = value
    raise AssertionError(f"the host ended before a step of {step}")


@needs_tool
def test_hotreload_load_reaches_the_running_host(
    served: tuple[subprocess.Popen[str], Path], tree: Path, target: Path
) -> None:
    host, runtime = served
    package = tree / "examples/counter-rust/counter-patch"
    kept = 0
    for step in (1000, 7777):
        edit(package / "src/lib.rs", step)
        run("cargo", "build", "--release", cwd=package, target=target)
        module = target / "release/libcounter_patch.so"
        run(*TOOL, "load", module, cwd=REPOSITORY, XDG_RUNTIME_DIR=str(runtime))
        before, after = values_until_step(host, step)
        assert before >= kept, "the counter's value is kept"
        kept = after


@needs_tool
def test_the_call_path_written_in_rust_counts(served: tuple[subprocess.Popen[str], Path]) -> None:
    host, runtime = served
    assert host.stdout is not None

    def last_step(lines: Iterable[str]) -> int:
        return max(int(number) for line in lines for number in re.findall(r"^step (\d+):", line))

    before = last_step(host.stdout.readline() for _ in range(20))
    listing = run(*TOOL, "slots", "--json", cwd=REPOSITORY, XDG_RUNTIME_DIR=str(runtime))
    (entry,) = (entry for entry in json.loads(listing) if entry["host"]["pid"] == host.pid)
    (slot,) = entry["slots"]
    host.kill()
    after = last_step(host.stdout)
    assert slot["symbol"] == "counter.step"
    assert before <= slot["calls"] <= after + 1  # killed between the call and its line


@pytest.fixture
def watching(served: tuple[subprocess.Popen[str], Path], tree: Path) -> Iterator[subprocess.Popen[str]]:
    """``hotreload watch target/release --json`` in the package that is edited, before its first build."""
    watcher = subprocess.Popen(
        [*TOOL, "watch", tree / "examples/counter-rust/counter-patch/target/release", "--json"],
        cwd=REPOSITORY,
        env={**os.environ, "XDG_RUNTIME_DIR": str(served[1])},
        stdout=subprocess.PIPE,
        text=True,
    )
    silence = threading.Timer(120, watcher.kill)  # ends a test that waits for an event which never comes
    silence.start()
    yield watcher
    silence.cancel()
    watcher.send_signal(signal.SIGINT)
    try:
        watcher.wait(timeout=60)
    finally:
        watcher.kill()
        assert watcher.stdout is not None
        watcher.stdout.close()


@needs_tool
def test_watch_brings_every_cargo_build_into_the_running_host(
    served: tuple[subprocess.Popen[str], Path], watching: subprocess.Popen[str], tree: Path
) -> None:
    host, _ = served
    package = tree / "examples/counter-rust/counter-patch"
    assert watching.stdout is not None
    events = (json.loads(line) for line in watching.stdout)
    assert next(event for event in events if event["event"] == "attach")["host"]["pid"] == host.pid
    kept = 0
    for version, step in enumerate((2000, 3333, 4444), 1):
        edit(package / "src/lib.rs", step)
        run("cargo", "build", "--release", cwd=package)
        seen = []
        for event in events:
            seen.append(event)
            if event["event"] == "swap":
                break
        verdicts = [event["event"] for event in seen if event["event"] in {"swap", "same", "reject", "rollback"}]
        assert verdicts == ["swap"], seen
        assert seen[-1]["slots"] == [{"symbol": "counter.step", "from": version - 1, "to": version}]
        before, after = values_until_step(host, step)
        assert before >= kept, "the counter's value is kept"
        kept = after


# ---- the published hotpatch-rs ----

HOST = """
use core::ffi::c_void;
use hotpatch_rs::{HotpatchError, HotpatchRuntime, ModuleLoadReport, ABI_MAGIC_V1};

unsafe extern "C" fn add(state: *mut c_void, input: *const c_void, output: *mut c_void) -> i32 {
    let state = &mut *(state as *mut i64);
    *state += *(input as *const i64);
    *(output as *mut i64) = *state;
    0
}

fn call(runtime: &HotpatchRuntime) -> hotpatch_rs::Result<()> {
    let mut output = 0_i64;
    let status = unsafe { runtime.call_typed("counter.add", &1_i64, &mut output)? };
    println!("status {status} output {output}");
    Ok(())
}

fn main() -> Result<(), HotpatchError> {
    let mut state = 0_i64;
    let runtime = HotpatchRuntime::new();
    runtime.set_host_context(&mut state as *mut i64 as *mut c_void);
    runtime.register_fallback("counter.add", add)?;
    println!("magic {ABI_MAGIC_V1:#x}");
    call(&runtime)?;
    for path in std::env::args().skip(1) {
        match runtime.load_module(&path) {
            Ok(ModuleLoadReport { module_name, module_version, symbols, generation, .. }) => {
                println!("{module_name} {module_version} {symbols:?} {generation}")
            }
            Err(HotpatchError::LibraryLoad { .. }) => println!("LibraryLoad"),
            Err(HotpatchError::MissingExport { symbol, .. }) => println!("MissingExport {symbol}"),
            Err(other) => println!("{other:?}"),
        }
        call(&runtime)?;
    }
    println!("{:?} {:?}", runtime.list_symbols(), runtime.loaded_modules());
    Ok(())
}
"""

MODULE = """
IMPORT
use core::ffi::c_void;

unsafe extern "C" fn add(state: *mut c_void, input: *const c_void, output: *mut c_void) -> i32 {
    let state = &mut *(state as *mut i64);
    *state += 10 * *(input as *const i64);
    *(output as *mut i64) = *state;
    0
}

unsafe extern "C" fn extra(_: *mut c_void, _: *const c_void, _: *mut c_void) -> i32 {
    7
}

#[allow(dead_code)]
const FITS: PatchFn = extra;

hotpatch_module!("counter", 2, [("counter.add", add), ("counter.extra", extra)]);
"""

IMPORT = "use hotpatch_rs::{hotpatch_module, PatchFn};"
PUBLISHED = 'hotpatch-rs = "=0.1.0"'


def package(directory: Path, name: str, dependency: str, source: str, main: bool) -> Path:
    """Writes a package with one dependency."""
    (directory / "src").mkdir(parents=True)
    kind = "" if main else '[lib]\ncrate-type = ["cdylib"]\n'
    head = f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n\n'
    (directory / "Cargo.toml").write_text(f"{head}{kind}[dependencies]\n{dependency}\n")
    (directory / "src" / ("main.rs" if main else "lib.rs")).write_text(source)
    return directory


def ours(name: str = "hotpatch-rs", options: str = "") -> str:
    renamed = "" if name == "hotreload" else 'package = "hotreload", '
    return f'{name} = {{ {renamed}path = "{CRATE}"{options} }}'


@pytest.fixture(scope="session")
def published(cargo: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips, but for CI, where crates.io cannot be reached and nothing is cached."""
    probe = package(tmp_path_factory.mktemp("probe"), "probe", PUBLISHED, "fn main() {}", main=True)
    done = subprocess.run(["cargo", "fetch"], cwd=probe, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        skip_here(f"hotpatch-rs 0.1.0 cannot be fetched from crates.io: {done.stdout.strip()[-200:]}")


@pytest.fixture(scope="session")
def modules(published: None, target: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One module source built against the published crate and, changing one line, against ours."""
    variants = {
        "published": (PUBLISHED, IMPORT),
        "ours-renamed": (ours(), IMPORT),
        "ours-import": (ours("hotreload"), IMPORT.replace("hotpatch_rs", "hotreload::hotpatch_rs")),
        "ours-alias": (ours("hotreload"), f"use hotreload as hotpatch_rs;\n{IMPORT}"),
        "ours-small": (ours(options=", default-features = false"), IMPORT),
    }
    built = {}
    for name, (dependency, line) in variants.items():
        directory = tmp_path_factory.mktemp(name)
        package(directory / "it", f"module-{name}", dependency, MODULE.replace("IMPORT", line), main=False)
        run("cargo", "build", "--release", cwd=directory / "it", target=target)
        built[name] = target / f"release/libmodule_{name.replace('-', '_')}.so"
    return built


@pytest.fixture(scope="session")
def hosts(published: None, target: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One host source on both crates: the dependency alone differs."""
    for name, dependency in {"theirs": PUBLISHED, "ours": ours()}.items():
        directory = package(tmp_path_factory.mktemp(name) / "it", f"host-{name}", dependency, HOST, main=True)
        run("cargo", "build", "--release", cwd=directory, target=target)
    return {name: target / f"release/host-{name}" for name in ("theirs", "ours")}


@pytest.mark.parametrize("module", ["published", "ours-renamed", "ours-import", "ours-alias", "ours-small"])
def test_modules_and_hosts_of_both_crates_fit(hosts: dict[str, Path], modules: dict[str, Path], module: str) -> None:
    outputs = {name: run(host, modules[module], cwd=REPOSITORY) for name, host in hosts.items()}
    assert outputs["ours"] == outputs["theirs"]
    assert outputs["ours"].splitlines() == [
        "magic 0x48505431",
        "status 0 output 1",
        'counter 2 ["counter.add", "counter.extra"] 1',
        "status 0 output 11",
        '["counter.add", "counter.extra"] [("counter", 2)]',
    ]


def test_both_hosts_refuse_alike(hosts: dict[str, Path], tmp_path: Path) -> None:
    text = tmp_path / "text.so"
    text.write_bytes(b"no library")
    text.chmod(0o644)
    compiler = shutil.which("cc")
    assert compiler is not None, "the crate was built, so there is a C compiler"
    empty = tmp_path / "empty.so"
    run(compiler, "-shared", "-fPIC", "-x", "c", "/dev/null", "-o", empty, cwd=tmp_path)
    outputs = {name: run(host, tmp_path / "none.so", text, empty, cwd=tmp_path) for name, host in hosts.items()}
    assert outputs["ours"] == outputs["theirs"]
    assert "LibraryLoad" in outputs["ours"]
    assert "MissingExport HOTPATCH_MODULE_V1" in outputs["ours"]


@pytest.mark.parametrize("module", ["ours-renamed", "ours-import"])
def test_a_module_carries_nothing_of_the_shim(hosts: dict[str, Path], modules: dict[str, Path], module: str) -> None:
    """With default features, too: a second shim in a module would be dead weight with thread-local storage."""
    text_of_the_shim = b"E-TRUNCATED"
    assert text_of_the_shim in hosts["ours"].read_bytes()
    assert text_of_the_shim not in modules[module].read_bytes()
