"""`hotreload init` and `dev` on projects as they are found in the world, not one line of which is written for them."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path

import pytest
from conftest import ROOT, RequireTool
from integration.harness import Bench
from integration.test_dev import edit

FIRST_BUILD_SECONDS = 240.0

CMAKE = {
    "CMakeLists.txt": """\
        cmake_minimum_required(VERSION 3.16)
        project(words VERSION 1.2.0 LANGUAGES C)
        set(CMAKE_C_STANDARD 99)
        option(WORDS_TESTS "Build the tests" ON)
        add_subdirectory(lib)
        add_subdirectory(app)
        if(WORDS_TESTS)
          enable_testing()
          add_subdirectory(tests)
        endif()
        """,
    "lib/CMakeLists.txt": """\
        add_library(words SHARED words.c)
        target_include_directories(words PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/include)
        install(TARGETS words)
        """,
    "lib/include/words.h": "#pragma once\nint words_in(const char *text);\n",
    "lib/words.c": """\
        #include <words.h>

        int words_in(const char *text) {
            int words = 0, inside = 0;
            for (; *text; text++) {
                if (*text == ' ') inside = 0;
                else if (!inside) inside = 1, words++;
            }
            return words;
        }
        """,
    "app/CMakeLists.txt": """\
        add_executable(words-server main.c)
        target_link_libraries(words-server PRIVATE words)
        install(TARGETS words-server)
        """,
    "app/main.c": """\
        #include <stdio.h>
        #include <unistd.h>
        #include <words.h>

        int main(void) {
            for (int round = 0;; round++) {
                printf("round %d: %d words\\n", round, words_in("the quick brown fox"));
                fflush(stdout);
                usleep(50000);
            }
        }
        """,
    "tests/CMakeLists.txt": """\
        add_executable(words-test test.c)
        target_link_libraries(words-test PRIVATE words)
        add_test(NAME words COMMAND words-test)
        """,
    "tests/test.c": '#include <words.h>\nint main(void) { return words_in("a b") != 2; }\n',
}

MESON = {
    "meson.build": """\
        project('clock', 'c')
        executable('clock', 'clock.c')
        """,
    "clock.c": """\
        #include <stdio.h>
        #include <unistd.h>
        int main(void) {
            for (;;) {
                puts("tick");
                fflush(stdout);
                usleep(50000);
            }
        }
        """,
}

CARGO = {
    "Cargo.toml": """\
        [workspace]
        members = ["game/*", "tools/bench"]
        resolver = "2"
        """,
    "game/engine/Cargo.toml": """\
        [package]
        name = "engine"
        version = "0.3.0"
        edition = "2021"
        """,
    "game/engine/src/lib.rs": """\
        //! Nothing here knows of hotreload.
        pub mod physics;
        """,
    "game/engine/src/physics.rs": """\
        pub const GRAVITY: i64 = 10;
        pub fn fall(height: &mut i64) -> i64 {
            *height += GRAVITY;
            GRAVITY
        }
        """,
    "game/logic/Cargo.toml": """\
        [package]
        name = "logic"
        version = "0.3.0"
        edition = "2021"
        [lib]
        crate-type = ["cdylib"]
        [dependencies]
        engine = { path = "../engine" }
        hotreload = { path = "@RUST@", default-features = false }
        """,
    "game/logic/src/lib.rs": """\
        fn fall(height: &mut i64, (): &(), speed: &mut i64) -> i32 {
            *speed = engine::physics::fall(height);
            0
        }
        hotreload::patch_module!("logic", 1, [("game.fall", fall)]);
        """,
    "game/app/Cargo.toml": """\
        [package]
        name = "app"
        version = "0.3.0"
        edition = "2021"
        [dependencies]
        hotreload = { path = "@RUST@" }
        """,
    "game/app/src/main.rs": """\
        use hotreload::{serve, Serving, Slot};
        fn still(_: &mut i64, (): &(), speed: &mut i64) -> i32 {
            *speed = 0;
            0
        }
        static FALL: Slot<i64, (), i64> = Slot::new(c"game.fall", still);
        fn main() -> Result<(), hotreload::Error> {
            FALL.declare()?;
            // SAFETY: the module takes these types.
            unsafe { serve("game", Serving::default())? };
            let (mut height, mut speed) = (0, 0);
            loop {
                FALL.call(&mut height, &(), &mut speed);
                println!("height={height} speed={speed}");
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
        """,
    "tools/bench/Cargo.toml": """\
        [package]
        name = "bench"
        version = "0.1.0"
        edition = "2021"
        """,
    "tools/bench/src/main.rs": "fn main() {}\n",
}

# A project that knows hotreload, with what such projects have: directories, options, tests, rules to install.
RING = {
    "lib/ring.h": "#pragma once\nstruct ring { int head, size; };\nint ring_step(struct ring *ring, int by);\n",
    "lib/ring.c": """\
        #include "ring.h"
        int ring_step(struct ring *ring, int by) { return ring->head = (ring->head + by) % ring->size; }
        """,
    "src/main.c": """\
        #include <hotreload/hotreload.h>
        #include <stdio.h>
        #include <unistd.h>
        #include "ring.h"
        static int32_t step(void *state, const void *input, void *output) {
            *(int *)output = ring_step(state, *(const int *)input);
            return 0;
        }
        static hr_slot slot = HR_SLOT("ring.step", step);
        int main(void) {
            struct ring ring = {0, 1000};
            hr_declare(NULL, &slot);
            hr_serve(NULL, "ringd", 0, NULL);
            for (;; usleep(50000)) {
                int by = 1, at = 0, before = ring.head;
                hr_call(&slot, &ring, &by, &at);
                printf("stepped %d\\n", (at - before + 1000) % 1000);
                fflush(stdout);
            }
        }
        """,
    "plugins/fast.c": """\
        #include <hotreload/patch.h>
        #include "ring.h"
        static int32_t step(void *state, const void *input, void *output) {
            struct ring *ring = state;
            (void)input;
            *(int *)output = ring->head = (ring->head + 10) % ring->size;
            return 0;
        }
        HR_MODULE("fast", 1, HR_PATCH("ring.step", step))
        """,
    "tests/test_ring.c": '#include "ring.h"\nint main(void) { struct ring r = {0, 2}; return ring_step(&r, 3) - 1; }\n',
}
RING_CMAKE = {
    **RING,
    "CMakeLists.txt": """\
        cmake_minimum_required(VERSION 3.20)
        project(ring VERSION 0.9.2 LANGUAGES C)
        include(GNUInstallDirs)
        include(CTest)
        option(RING_PLUGINS "Build the plugins" ON)
        set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib/ring)
        find_package(hotreload REQUIRED)
        add_library(ring STATIC lib/ring.c)
        target_include_directories(ring PUBLIC lib)
        add_executable(ringd src/main.c)
        target_link_libraries(ringd PRIVATE ring hotreload::hotreload)
        install(TARGETS ringd DESTINATION ${CMAKE_INSTALL_BINDIR})
        if(RING_PLUGINS)
          add_library(fast MODULE plugins/fast.c)
          target_include_directories(fast PRIVATE lib)
          target_link_libraries(fast PRIVATE hotreload::hotreload)
          set_target_properties(fast PROPERTIES PREFIX "" C_VISIBILITY_PRESET hidden)
        endif()
        if(BUILD_TESTING)
          add_executable(test_ring tests/test_ring.c)
          target_link_libraries(test_ring PRIVATE ring)
          add_test(NAME ring COMMAND test_ring)
        endif()
        """,
}
RING_MESON = {
    **RING,
    "meson.build": """\
        project('ring', 'c', version: '0.9.2', default_options: ['warning_level=2', 'c_std=gnu11'])
        hotreload = dependency('hotreload')
        inc = include_directories('lib')
        subdir('lib')
        executable('ringd', 'src/main.c', link_with: ring, include_directories: inc, dependencies: hotreload,
          install: true)
        if get_option('plugins')
          subdir('plugins')
        endif
        test('ring', executable('test_ring', 'tests/test_ring.c', link_with: ring, include_directories: inc))
        """,
    "meson_options.txt": "option('plugins', type: 'boolean', value: true)\n",
    "lib/meson.build": "ring = static_library('ring', 'ring.c')\n",
    "plugins/meson.build": """\
        shared_module('fast', 'fast.c', name_prefix: '', include_directories: inc,
          dependencies: hotreload.partial_dependency(compile_args: true), gnu_symbol_visibility: 'hidden',
          link_args: '-Wl,-Bsymbolic', install: true, install_dir: get_option('libdir') / 'ring')
        """,
}
RING_MAKE = {
    **RING,
    "config.mk": "PREFIX ?= /usr/local\nCPPFLAGS += -I$(TOP)/lib $(shell $(HOTRELOAD) config --cflags)\nQ = @\n",
    "Makefile": """\
        TOP := $(CURDIR)
        export TOP
        include config.mk
        all: out/bin/ringd
        \t$(MAKE) -C plugins
        out/bin/ringd: obj/main.o obj/ring.o
        \t@mkdir -p $(@D)
        \t@echo "  LD    $@"
        \t$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(shell $(HOTRELOAD) config --libs)
        obj/%.o: src/%.c
        \t@mkdir -p $(@D)
        \t$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<
        obj/%.o: lib/%.c
        \t@mkdir -p $(@D)
        \t$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<
        install: all
        \tinstall -d $(DESTDIR)$(PREFIX)/bin
        \tinstall out/bin/ringd $(DESTDIR)$(PREFIX)/bin
        .PHONY: all install
        """,
    "plugins/Makefile": """\
        include ../config.mk
        FLAGS = -shared -fPIC -fvisibility=hidden -Wl,-Bsymbolic \\
        \t-Wl,--build-id
        ../out/plugins/fast.so: fast.c
        \t@mkdir -p ../out/plugins && echo "  SO    $@"
        \t$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(FLAGS) -o $@ $<
        """,
}


def lay(bench: Bench, files: dict[str, str]) -> Path:
    """Writes a project."""
    project = bench.work / "project"
    for name, text in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = textwrap.dedent(text).replace("@RUST@", str(ROOT / "shim" / "rust"))
        path.write_text(whole, encoding="utf-8")
    return project


def told(bench: Bench, project: Path, *arguments: str) -> str:
    """What a successful ``hotreload init`` says."""
    done = bench.call("init", *arguments, cwd=project)
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "next: hotreload dev"
    return done.out


def test_cmake(bench: Bench, require_tool: RequireTool) -> None:
    """Without any slot the host is started again for every change of its code, of a shared library of it too."""
    require_tool("cmake")
    project = lay(bench, CMAKE)
    said = told(bench, project)
    assert "recognised: CMake project" in said and "host:  build/app/words-server" in said
    assert {name: (project / name).read_text() for name in CMAKE} == {
        name: textwrap.dedent(text) for name, text in CMAKE.items()
    }, "no file of the project was changed"

    dev = bench.dev(project, "--plain")
    dev.says(": 4 words", patience=FIRST_BUILD_SECONDS)
    edit(project / "lib" / "words.c", "words = 0,", "words = 40,")
    at = dev.says("its own code has changed")
    dev.says("round 0: 44 words", at)
    edit(project / "app" / "main.c", '"round', '"lap')
    dev.says("lap 0: 44 words", dev.says("its own code has changed", at + 1))
    edit(project / "lib" / "words.c", "words = 40,", "wrods = 40,")
    dev.says("failed with exit code 2: lib/words.c:7:")
    assert dev.interrupt() == 130


def test_cmake_that_was_configured_elsewhere(bench: Bench, require_tool: RequireTool) -> None:
    require_tool("cmake")
    project = lay(bench, CMAKE)
    subprocess.run(["cmake", "-S", ".", "-B", "out/debug"], cwd=project, check=True, capture_output=True)
    assert "host:  out/debug/app/words-server" in told(bench, project)
    assert not (project / "build").exists()


def test_meson(bench: Bench, require_tool: RequireTool) -> None:
    require_tool("meson")
    require_tool("ninja")
    project = lay(bench, MESON)
    assert "recognised: Meson project" in told(bench, project)
    dev = bench.dev(project, "--plain")
    dev.says("host | tick", patience=FIRST_BUILD_SECONDS)
    edit(project / "clock.c", '"tick"', '"tock"')
    dev.says("host | tock")


def test_make(bench: Bench, require_tool: RequireTool) -> None:
    require_tool("make")
    project = lay(bench, {"Makefile": "bin/clock: clock.c\n\tmkdir -p bin\n\tcc -o $@ clock.c\n", **MESON})
    (project / "meson.build").unlink()
    said = told(bench, project, "--host", "bin/clock")
    assert "recognised: Make project" in said and "host:  bin/clock" in said
    dev = bench.dev(project, "--plain")
    dev.says("host | tick")
    dev.interrupt()
    (project / "hotreload.toml").unlink()
    assert "host:  bin/clock" in told(bench, project), "what was built is found"


@pytest.mark.parametrize(
    ("tool", "files", "watch", "host"),
    [
        ("cmake", RING_CMAKE, "build/lib/ring", "build/ringd"),
        ("meson", RING_MESON, "build/plugins", "build/ringd"),
        ("make", RING_MAKE, "out/plugins", "out/bin/ringd"),
    ],
)
def test_a_project_that_knows_hotreload(
    bench: Bench, require_tool: RequireTool, tool: str, files: dict[str, str], watch: str, host: str
) -> None:
    """Nothing is built, no variable is set: the build tool is asked, told where hotreload is, and edits are swapped."""
    require_tool(tool)
    project = lay(bench, files)
    said = told(bench, project)
    assert f"  watch: {watch}\n  host:  {host}\n" in said and "the project needs" not in said
    assert {name for name in files if (project / name).read_text() != textwrap.dedent(files[name])} == set()
    assert not (project / "out").exists(), "make was only asked"
    dev = bench.dev(project, "--plain")
    dev.says("stepped 10", patience=FIRST_BUILD_SECONDS)
    edit(project / "plugins" / "fast.c", "head + 10", "head + 500")
    dev.says("stepped 500")
    assert not [line for line in dev.output.lines if "its own code" in line]
    edit(project / "plugins" / "fast.c", "head + 500", "haed + 500")
    dev.says(": plugins/fast.c:6:")
    edit(project / "plugins" / "fast.c", "haed + 500", "head + 20")
    at = dev.says("stepped 20")
    edit(project / "src" / "main.c", '"stepped', '"walked')
    dev.says("walked 20", dev.says("its own code has changed", at))


def test_a_tool_that_fails_says_why(bench: Bench, require_tool: RequireTool) -> None:
    """What was wrong, not the end of a long advice; and once it is right, what the failure left is in no one's way."""
    require_tool("meson")
    wrong = {**RING_MESON, "meson.build": RING_MESON["meson.build"].replace("('hotreload')", "('nowhere')")}
    project = lay(bench, wrong)
    done = bench.call("init", cwd=project)
    assert done.code == 2 and 'found:    meson.build:2:0: ERROR: Dependency "nowhere" not found' in done.err
    assert (project / "build").is_dir() and not (project / "hotreload.toml").exists()
    (project / "meson.build").write_text(textwrap.dedent(RING_MESON["meson.build"]))
    assert "host:  build/ringd" in told(bench, project)


def test_inside_of_a_project(bench: Bench, require_tool: RequireTool) -> None:
    """A directory of a project has its CMakeLists.txt too: the project is where it begins."""
    require_tool("cmake")
    project = lay(bench, {**CMAKE, "lib/include/README": ""})
    assert "E-CONFIG" in bench.call("init", cwd=project / "lib").err, "no repository, no looking around"
    (project / ".git").mkdir()
    assert f"recognised: CMake project in {project}\n" in told(bench, project / "lib" / "include")
    assert (project / "hotreload.toml").is_file() and not (project / "lib" / "build").exists()


def test_a_cmake_that_fails_says_why(bench: Bench, require_tool: RequireTool) -> None:
    require_tool("cmake")
    project = lay(bench, {"CMakeLists.txt": "project(a C)\nfind_package(nowhere REQUIRED)\n"})
    done = bench.call("init", cwd=project)
    assert done.code == 2 and "found:    CMake Error at CMakeLists.txt:2 (find_package):" in done.err


def test_make_that_tells_nothing(bench: Bench, require_tool: RequireTool) -> None:
    require_tool("make")
    said = told(bench, lay(bench, {"Makefile": "all:\n\tgzip -o x y; install -o root a b; cc -c -o a.o a.c\n"}))
    assert "`make -n` names no program: build once" in said and "host:  not known" in said


def test_cargo_workspace(bench: Bench, require_tool: RequireTool) -> None:
    require_tool("cargo")
    project = lay(bench, CARGO)
    said = told(bench, project / "game" / "app")
    assert "recognised: Cargo project" in said and "host:  target/debug/app" in said
    assert (project / "hotreload.toml").is_file(), "it belongs to the workspace"
    dev = bench.dev(project / "game", "--plain")
    dev.says(" speed=10", patience=FIRST_BUILD_SECONDS)
    edit(project / "game/engine/src/physics.rs", "i64 = 10;", "i64 = 500;")
    dev.says(" speed=500", patience=FIRST_BUILD_SECONDS)
    assert not [line for line in dev.output.lines if "its own code" in line], "the host does not use the engine"
    edit(project / "game/engine/src/physics.rs", "*height += GRAVITY;", "*height += GRAVTY;")
    dev.says("game/engine/src/physics.rs:3:16: cannot find value `GRAVTY` in this scope", patience=FIRST_BUILD_SECONDS)
    assert dev.interrupt() == 130


def test_nothing_is_overwritten(bench: Bench) -> None:
    project = lay(bench, {"Makefile": "all:\n", "hotreload.toml": "build = 'mine'\n"})
    done = bench.call("init", cwd=project)
    assert done.code == 1 and "E-EXISTS" in done.err
    assert (project / "hotreload.toml").read_text() == "build = 'mine'\n"


@pytest.mark.parametrize("files", [{}, {"Cargo.toml": "[package]\nname = 3\n"}])
def test_what_is_no_project_is_told(bench: Bench, files: dict[str, str], require_tool: RequireTool) -> None:
    if files:
        require_tool("cargo")
    project = lay(bench, {"README": "", **files})
    done = bench.call("init", cwd=project)
    assert done.code == 2 and "E-CONFIG" in done.err
    assert not (project / "hotreload.toml").exists()
