"""`hotreload config` and the packages behind it: hosts in C, C++ and CMake really build, link and run against them.

Three layouts give the same answers: this environment's install, a wheel in an environment of its own, and `cmake
--install` without any Python.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hotreload import __version__

ROOT = Path(__file__).resolve().parents[2]
SHIM = ROOT / "shim"
OPTIONS = ("--cflags", "--libs", "--sources", "--include-dir", "--cmake-dir", "--pkg-config-dir", "--rust-dir")

# Prints the version and what a slot call gives: version 0 of the slot is the fallback.
HOST = """
#include <hotreload/hotreload.h>
#include <stdio.h>
static int32_t add(void *state, const void *input, void *output) {
    (void)output;
    return *(int *)state += *(const int *)input;
}
static hr_slot slot = HR_SLOT("counter.add", add);
int main(void) {
    int state = 40, input = 2;
    if (hr_declare(NULL, &slot) != HR_OK) return 1;
    printf("%s %d %s\\n", hr_version(), hr_call(&slot, &state, &input, NULL), hr_status_code(HR_E_ABI));
    return 0;
}
"""
OUTPUT = f"{__version__} 42 E-ABI\n"

CMAKE = """
cmake_minimum_required(VERSION 3.20)
project(host C)
find_package(hotreload {version} REQUIRED)
add_executable(host host.c)
target_link_libraries(host PRIVATE {target})
"""

RequireTool = Callable[..., Path]


def output_of(*words: str | Path, env: dict[str, str] | None = None) -> str:
    """The standard output of a command that must succeed."""
    variables = {**os.environ, **(env or {})}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}"
    return done.stdout


class Installed:
    """A Python that has hotreload installed, and the config command run by it."""

    def __init__(self, python: Path) -> None:
        self.python = python

    def config(self, *options: str) -> list[str]:
        # -I: neither the current directory nor PYTHONPATH may stand in for what is installed.
        return shlex.split(output_of(self.python, "-I", "-m", "hotreload", "config", *options))

    def path(self, option: str) -> Path:
        (found,) = self.config(option)
        return Path(found)


@pytest.fixture(scope="session")
def wheel_install(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment that has the built wheel and, of this one, the dependencies: no download, no editable install."""
    place = tmp_path_factory.mktemp("wheel")
    build = ["--no-build-isolation", "--no-deps", f"-Cbuild-dir={place / 'build'}", "--wheel-dir", place]
    output_of(sys.executable, "-m", "pip", "wheel", "--quiet", *build, ROOT)
    (wheel,) = place.glob("*.whl")
    assert "-cp310-abi3-" in wheel.name

    environment = place / "venv"
    output_of(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    output_of(sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-deps", "--no-index", wheel)
    # A path in a .pth file adds that directory, but runs none of the .pth files in it: ours is not seen twice.
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n", encoding="utf-8")
    return Installed(python)


@pytest.fixture(params=["here", "wheel"])
def installed(request: pytest.FixtureRequest) -> Installed:
    if request.param == "here":
        return Installed(Path(sys.executable))
    found: Installed = request.getfixturevalue("wheel_install")
    return found


@pytest.fixture
def host(tmp_path: Path) -> Path:
    source = tmp_path / "host.c"
    source.write_text(HOST, encoding="utf-8")
    return source


# ---- what it prints ----


def test_order_is_that_of_the_command_line() -> None:
    here = Installed(Path(sys.executable))
    include, cmake = here.config("--include-dir"), here.config("--cmake-dir")
    assert here.config("--include-dir", "--cmake-dir") == include + cmake
    assert here.config("--cmake-dir", "--include-dir") == cmake + include


def test_answers_name_what_exists(installed: Installed) -> None:
    assert (installed.path("--include-dir") / "hotreload" / "hotreload.h").is_file()
    assert (installed.path("--cmake-dir") / "hotreloadConfig.cmake").is_file()
    assert (installed.path("--pkg-config-dir") / "hotreload.pc").is_file()
    assert (installed.path("--rust-dir") / "Cargo.toml").is_file()
    sources = [Path(word) for word in installed.config("--sources")]
    assert [path.name for path in sources] == sorted(path.name for path in (SHIM / "src").glob("*.c"))
    assert all(path.is_file() for path in sources)
    assert f"-I{installed.path('--include-dir')}" in installed.config("--cflags")


def test_wheel_is_complete_and_on_its_own(wheel_install: Installed) -> None:
    inside = wheel_install.python.parents[1]
    for option in OPTIONS:
        paths = [word.removeprefix("-I") for word in wheel_install.config(option) if "/" in word]
        assert paths, option
        assert all(Path(path).is_relative_to(inside) for path in paths), option

    shim = wheel_install.path("--include-dir").parent
    for folder in ("include", "src", "rust", "cmake"):
        # What a build left in the checkout (target/, caches) is not to be shipped; what is written there is.
        wanted = {path for path in git_files(SHIM / folder) if path.suffix != ".pyc"}
        shipped = {path.relative_to(shim / folder) for path in (shim / folder).rglob("*") if path.is_file()}
        assert shipped == wanted, folder
    assert (shim.parent / "examples" / "counter-c" / "host.c").is_file()


def git_files(folder: Path) -> set[Path]:
    """The files of a folder that git knows or would add, relative to it."""
    listed = output_of("git", "-C", folder, "ls-files", "--cached", "--others", "--exclude-standard", "--", ".")
    return {Path(line) for line in listed.splitlines() if (folder / line).is_file()}


def test_wheel_runs(wheel_install: Installed) -> None:
    program = wheel_install.python.parent / "hotreload"
    assert output_of(program, "--version") == f"hotreload {__version__}\n"
    shown = output_of(
        wheel_install.python,
        "-I",
        "-c",
        "from hotreload._shim import ffi, lib; print(ffi.string(lib.hr_version()).decode())",
    )
    assert shown == f"{__version__}\n"


def test_extension_exports_its_entry_alone(wheel_install: Installed, require_tool: RequireTool) -> None:
    extension = wheel_install.path("--include-dir").parents[1] / "_shim.abi3.so"
    assert exports(extension, require_tool) == {"PyInit__shim"}


def test_json_names_everything() -> None:
    here = Installed(Path(sys.executable))
    everything = json.loads(output_of(here.python, "-m", "hotreload", "config", "--json"))
    assert list(everything) == [option.removeprefix("--") for option in OPTIONS]
    assert everything["cflags"] == here.config("--cflags")
    one = json.loads(output_of(here.python, "-m", "hotreload", "config", "--json", "--sources"))
    assert one == {"sources": here.config("--sources")}


def test_nothing_asked_is_a_usage_error() -> None:
    done = subprocess.run([sys.executable, "-m", "hotreload", "config"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "--cflags" in done.stderr


def test_paths_with_blanks_are_quoted(tmp_path: Path) -> None:
    """A checkout without any install, in a directory that a shell would take for two words."""
    place = tmp_path / "my projects"
    place.mkdir()
    (place / "hotreload").symlink_to(ROOT / "hotreload")
    (place / "shim").symlink_to(SHIM)
    program = (
        "import sys; from pathlib import Path; from hotreload import sources; from hotreload.commands import main\n"
        "sources._PACKAGE = Path(sys.argv[1]) / 'hotreload'; main(['config', '--include-dir', '--cmake-dir'])"
    )
    text = output_of(sys.executable, "-c", program, place)
    assert text == f"'{place}/shim/include' '{place}/shim/cmake'\n"


def test_checkout_without_library_says_what_to_do(tmp_path: Path) -> None:
    program = (
        "import sys, hotreload; from pathlib import Path; from hotreload.commands import main\n"
        "hotreload.__path__ = [sys.argv[1]]; main(['config', '--sources', '--libs'])\n"
        "sys.exit(main(['config', '--libs']))"
    )
    # __path__ is where an install is looked for; the modules are loaded before it points elsewhere.
    preload = "import hotreload.commands.config\n"
    done = subprocess.run(
        [sys.executable, "-c", preload + program, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout.endswith(" -pthread -ldl\n")
    assert "libhotreload.a" not in done.stdout
    assert done.stderr.startswith("E-IO: ")
    assert "--sources" in done.stderr


# ---- hosts ----


@pytest.mark.parametrize("options", [("--cflags", "--libs"), ("--cflags", "--sources", "--libs")], ids=" ".join)
def test_c_host(options: tuple[str, ...], installed: Installed, host: Path, cc: str) -> None:
    program = host.with_suffix("")
    output_of(cc, "-O2", "-Wall", "-Wextra", "-Werror", host, *installed.config(*options), "-o", program)
    assert output_of(program) == OUTPUT


def test_cpp_host(installed: Installed, host: Path, cxx: str) -> None:
    source = host.rename(host.with_suffix(".cpp"))
    program = source.with_suffix("")
    strict = ("-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
    output_of(cxx, *strict, source, *installed.config("--cflags", "--libs"), "-o", program)
    assert output_of(program) == OUTPUT


def test_archive_serves_inside_a_shared_library(installed: Installed, host: Path, cc: str) -> None:
    """Position independent: a host may itself be a plug-in."""
    library = host.with_suffix(".so")
    output_of(cc, "-shared", "-fPIC", host, *installed.config("--cflags", "--libs"), "-o", library)
    assert library.is_file()


def cmake_project(host: Path, target: str) -> Path:
    version = ".".join(__version__.split(".")[:2])
    (host.parent / "CMakeLists.txt").write_text(CMAKE.format(version=version, target=target), encoding="utf-8")
    return host.parent


def build_with_cmake(project: Path, cmake: Path, *options: str) -> Path:
    build = project / "build"
    output_of(cmake, "-S", project, "-B", build, *options)
    output_of(cmake, "--build", build)
    return build / "host"


def test_cmake_host(installed: Installed, host: Path, require_tool: RequireTool) -> None:
    project = cmake_project(host, "hotreload::hotreload")
    directory = installed.path("--cmake-dir")
    program = build_with_cmake(project, require_tool("cmake"), f"-Dhotreload_DIR={directory}")
    assert output_of(program) == OUTPUT


def test_pkg_config_of_a_wheel(wheel_install: Installed, host: Path, cc: str, require_tool: RequireTool) -> None:
    directory = wheel_install.path("--pkg-config-dir")
    build_with_pkg_config(directory, host, cc, require_tool("pkg-config"))


def build_with_pkg_config(directory: Path, host: Path, cc: str, pkg_config: Path, *link: str) -> None:
    variables = {"PKG_CONFIG_PATH": str(directory)}
    assert output_of(pkg_config, "--modversion", "hotreload", env=variables).strip() == __version__
    flags = output_of(pkg_config, "--cflags", "--libs", "hotreload", env=variables).split()
    program = host.with_suffix("")
    output_of(cc, host, *flags, *link, "-o", program)
    assert output_of(program) == OUTPUT


# ---- without Python ----


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory, require_tool: RequireTool) -> Path:
    """Where `cmake --install` put the shim alone."""
    place = tmp_path_factory.mktemp("install")
    cmake = require_tool("cmake")
    output_of(cmake, "-S", SHIM, "-B", place / "build")
    output_of(cmake, "--build", place / "build")
    output_of(cmake, "--install", place / "build", "--prefix", place / "prefix")
    return place / "prefix"


def library_directory(prefix: Path) -> Path:
    (found,) = prefix.rglob("libhotreload.so")
    return found.parent


def exports(library: Path, require_tool: RequireTool) -> set[str]:
    listed = output_of(require_tool("nm"), "--dynamic", "--defined-only", library)
    return {line.split()[-1] for line in listed.splitlines()}


@pytest.mark.parametrize("target", ["hotreload::hotreload", "hotreload::shared"])
def test_installed_cmake_package(target: str, prefix: Path, host: Path, require_tool: RequireTool) -> None:
    project = cmake_project(host, target)
    program = build_with_cmake(project, require_tool("cmake"), f"-DCMAKE_PREFIX_PATH={prefix}")
    assert output_of(program) == OUTPUT
    needed = output_of(require_tool("readelf"), "--dynamic", program)
    assert ("libhotreload.so" in needed) == (target == "hotreload::shared")


def test_installed_pkg_config(prefix: Path, host: Path, cc: str, require_tool: RequireTool) -> None:
    libraries = library_directory(prefix)
    path = f"-Wl,-rpath,{libraries}"
    build_with_pkg_config(libraries / "pkgconfig", host, cc, require_tool("pkg-config"), path)


def test_shared_library_exports_its_own_names_alone(prefix: Path, require_tool: RequireTool) -> None:
    names = exports(library_directory(prefix) / "libhotreload.so", require_tool)
    assert {"hr_declare", "hr_load", "hr_serve", "hr_dispatch", "hr_thread_shard"} <= names
    assert {name for name in names if not name.startswith("hr_")} == set()


def test_shared_library_has_a_soname(prefix: Path, require_tool: RequireTool) -> None:
    listed = output_of(require_tool("readelf"), "--dynamic", library_directory(prefix) / "libhotreload.so")
    (soname,) = re.findall(r"SONAME\).*\[(.*)\]", listed)
    assert soname == f"libhotreload.so.{__version__.split('.')[0]}"


def test_part_of_a_cmake_project(host: Path, require_tool: RequireTool) -> None:
    """add_subdirectory: no install rules and no Python of ours in somebody else's project."""
    project = cmake_project(host, "hotreload::hotreload")
    lists = project / "CMakeLists.txt"
    text = re.sub(r"find_package\(.*\)", f'add_subdirectory("{SHIM}" hotreload)', lists.read_text(encoding="utf-8"))
    lists.write_text(text, encoding="utf-8")
    assert output_of(build_with_cmake(project, require_tool("cmake"))) == OUTPUT
    assert not list((project / "build").rglob("hotreloadTargets*.cmake"))
