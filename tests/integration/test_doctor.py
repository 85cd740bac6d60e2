"""`hotreload doctor` on this machine, and on one that lacks something."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from integration.harness import Bench

from hotreload import doctor
from hotreload.mounts import Mount

NEEDED = (
    "version", "system", "C compiler", "C++ compiler", "Rust", "Zig", "linker", "swap", "inotify", "membarrier",
    "black box", "runtime directory", "state directory", "staging", "space", "umask", "memory", "mappings", "files",
    "file size", "core dumps",
)  # fmt: skip


def examine(bench: Bench, *before: str, **more: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code and checks by name; ``before`` are shell commands for its process."""
    line = " && ".join([*before, 'exec "$@"'])
    done = subprocess.run(
        ["/bin/bash", "-c", line, "doctor", *bench.command("doctor", "--json", bench.out)],
        capture_output=True, text=True, env=bench.environment(**more), cwd=bench.work, check=False, timeout=120,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, {each["check"]: each for each in json.loads(done.stdout)}


def test_a_machine_that_runs_these_tests_is_fit(bench: Bench) -> None:
    code, checks = examine(bench, "umask 022", "ulimit -c unlimited")
    assert code == 0, checks
    assert set(NEEDED) | {f"{kind} {bench.out}" for kind in ("outputs", "file system", "leases")} == set(checks)
    assert all(each["found"] for each in checks.values())
    assert all((each["state"] == "ok") == (not each["fix"]) for each in checks.values())
    assert "called" in checks["swap"]["found"], "a module was built, loaded and called for real"


def test_zig_may_be_a_python_package(bench: Bench) -> None:
    """As `hotreload new` finds it, and the build that it writes."""
    (package := bench.work / "site" / "ziglang").mkdir(parents=True)
    (package / "__main__.py").write_text("print('0.99.9')\n")
    (package / "__init__.py").touch()
    (tools := bench.work / "tools").mkdir()
    for name in ("cc", "ld", "as"):
        (tools / name).symlink_to(shutil.which(name) or name)
    _, checks = examine(bench, PATH=str(tools), PYTHONPATH=str(package.parent))
    assert checks["Zig"]["found"].endswith(" -m ziglang: 0.99.9")


def test_in_words(bench: Bench) -> None:
    done = bench.call("doctor", bench.out)
    assert done.code == 0, done
    assert "C compiler" in done.out and done.out.rstrip().endswith("fine") and "0 failed" in done.out


def test_what_only_hinders_is_a_warning(bench: Bench) -> None:
    bench.out.chmod(0o775)
    code, checks = examine(bench, "umask 002", "ulimit -n 200", "ulimit -c 0", "ulimit -v 1500000")
    assert code == 0, checks
    assert checks["umask"]["state"] == "warn" and "umask 022" in checks["umask"]["fix"]
    assert checks["files"]["state"] == "warn" and "ulimit -n" in checks["files"]["fix"]
    assert checks["memory"]["state"] == "warn" and "ulimit -v" in checks["memory"]["fix"]
    outputs = checks[f"outputs {bench.out}"]
    assert outputs["state"] == "warn" and f"chmod go-w {bench.out}" in outputs["fix"] and "0775" in outputs["found"]


def test_without_a_compiler(bench: Bench) -> None:
    code, checks = examine(bench, PATH="/nowhere:" + str(bench.work), CC="")
    assert code == 1
    assert checks["C compiler"]["state"] == "fail" and "apt-get install gcc" in checks["C compiler"]["fix"]
    assert checks["swap"]["state"] == "warn"


def test_a_compiler_that_does_not_work(bench: Bench) -> None:
    broken = bench.work / "broken-cc"
    broken.write_text("#!/bin/sh\necho 'no such target' >&2\nexit 1\n")
    broken.chmod(0o755)
    code, checks = examine(bench, CC=str(broken))
    assert code == 1
    assert checks["swap"]["state"] == "fail" and "no such target" in checks["swap"]["found"]


@pytest.mark.parametrize("which", ["runtime", "state"])
def test_directories_that_others_may_enter(bench: Bench, which: str) -> None:
    (bench.run if which == "runtime" else bench.state).joinpath("hotreload").mkdir(mode=0o777)
    (bench.run if which == "runtime" else bench.state).joinpath("hotreload").chmod(0o777)
    code, checks = examine(bench)
    assert code == 1
    found = checks[f"{which} directory"]
    assert found["state"] == "fail" and "0777" in found["found"] and "chmod 700" in found["fix"]
    if which == "state":
        assert checks["swap"]["state"] == "fail" and "E-DENIED" in checks["swap"]["found"]


@pytest.mark.parametrize(
    ("mount", "level", "words"),
    [
        (Mount("0:1", "tmpfs", frozenset({"rw", "noexec"})), doctor.Level.FAIL, "noexec"),
        (Mount("0:1", "nfs4", frozenset({"rw"})), doctor.Level.WARN, "XDG_STATE_HOME"),
        (Mount("0:1", "ext4", frozenset({"rw"})), doctor.Level.OK, ""),
    ],
    ids=["noexec", "remote", "local"],
)
def test_where_modules_are_staged(mount: Mount, level: doctor.Level, words: str) -> None:
    found = doctor.staging(Path("/somewhere"), mount)
    assert found.level is level and words in found.fix
