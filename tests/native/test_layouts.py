"""Layout checks in a real host: what is refused runs nothing, what grows into a reserve owns its room from then on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cbuild
import pytest

HERE = Path(__file__).resolve().parent

# The constructor would show that code of the module ran.
MODULE = """
#include "shape.h"
#include <hotreload/patch.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
__attribute__((constructor)) static void started(void) { if (getchar_of_nobody) puts("a constructor ran"); }
static int32_t tick(void *state, const void *input, void *output) {
    (void)input, (void)output;
    if (CRASHES) *(volatile int *)16 = 1;
    return ((Shape *)state)->value + VERSION;
}
HR_MODULE("shape", VERSION, HR_PATCH("shape.tick", tick))
""".replace("getchar_of_nobody", "LOUD")

# To the struct with an id in front, and back.
MIGRATION = """
static int32_t forth(void *host, const void *from, void *to) {
    const HostShape *old = from;
    Shape *shape = to;
    (void)host;
    if (old->value == FAILS_AT) return 5;
    if (old->value == 8 && WRONG) {
        memset(to, 0xEE, sizeof *shape);
        *(int32_t *)from = -1; /* a copy, whatever it promises */
        if (WRONG == 1) *(volatile int *)16 = 1;
        for (;;) usleep(1000);
    }
    shape->id = old->value * 100;
    shape->value = old->value;
    shape->at = old->at;
    return 0;
}
HR_QUIET static int32_t back(void *host, const void *from, void *to) {
    const Shape *old = from;
    HostShape *shape = to;
    (void)host;
    shape->value = old->value;
    shape->at = old->at;
    return old->id != old->value * 100;
}
"""
FORTH = 'HR_MODULE_MIGRATIONS(HR_MIGRATION("Shape", &host_layout, 0, forth))\n'
BOTH = FORTH.replace("forth))", 'forth), HR_MIGRATION("Shape", 0, &host_layout, back))')

DESCRIPTION = 'HR_MODULE_LAYOUT(SHAPE_TYPES, HR_TAKES("shape.tick", Shape, void, void))\n'


MACROS = (("HR_PATCH", "tick"), ("HR_TAKES", "Shape, void, void"))


class Host:
    """layout_host, asked line by line."""

    def __init__(self, program: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, line: str) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def load(self, module: Path) -> str:
        return self.ask(f"load {module}")

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shim = cbuild.build_shim(tmp_path_factory.mktemp("shim"))
    return shim.host(HERE / "layout_host.c", shim.archive.parent / "layout_host", "-I", str(HERE))


@pytest.fixture
def host(program: Path) -> Iterator[Host]:
    made = Host(program)
    yield made
    made.close()


def module(
    directory: Path,
    version: int,
    shape: int,
    *,
    described: bool = True,
    loud: bool = False,
    migrations: str = "",
    fails_at: int = 0,
    crashes: bool = False,
    wrong: int = 0,
    slots: tuple[str, ...] = ("shape.tick",),
) -> Path:
    source = MODULE + (DESCRIPTION if described else "") + (MIGRATION + migrations if migrations else "")
    patches, takes = (", ".join(f'{macro}("{slot}", {more})' for slot in slots) for macro, more in MACROS)
    source = source.replace('HR_PATCH("shape.tick", tick)', patches)
    source = source.replace('HR_TAKES("shape.tick", Shape, void, void)', takes)
    defines = (f"-DVERSION={version}", f"-DSHAPE={shape}", f"-DLOUD={int(loud)}", f"-DFAILS_AT={fails_at}")
    defines = (*defines, f"-DCRASHES={int(crashes)}", f"-DWRONG={wrong}", "-D_DEFAULT_SOURCE", "-I", str(HERE))
    return cbuild.build_module(directory / f"shape-{version}-{shape}.so", source, *defines)


def test_an_equal_layout_is_accepted(host: Host, tmp_path: Path) -> None:
    assert host.load(module(tmp_path, 1, 0)) == "ok"
    assert host.ask("tick") == "8 9 10"


def test_a_difference_is_refused_before_any_code_runs(host: Host, tmp_path: Path) -> None:
    answer = host.load(module(tmp_path, 1, 3, loud=True))
    code, reason, found, expected = answer.split(" | ")
    assert code == "E-LAYOUT", "and no constructor's line came before it"
    assert reason == (
        "structs shared with the host differ: Shape resized, Shape.id added, Shape.value moved, Shape.at moved"
    )
    assert found == "Shape: 40 bytes, align 8, id int64_t @0 (8), value int32_t @8 (4), at Point @12 (8)"
    assert expected == "Shape: 28 bytes, align 4, no id, value int32_t @0 (4), at Point @4 (8)"
    assert host.ask("tick") == "7 8 9", "the fallback still runs"


def test_a_nested_difference_is_refused(host: Host, tmp_path: Path) -> None:
    answer = host.load(module(tmp_path, 1, 4))
    assert answer.startswith("E-LAYOUT | ") and "Point.x retyped, Point.y retyped" in answer


def test_growth_owns_its_room(host: Host, tmp_path: Path) -> None:
    """Both fit the host's reserve, but the second would find the first one's data where it expects its own."""
    grown = module(tmp_path, 1, 1)
    assert host.load(grown) == "ok"
    answer = host.load(module(tmp_path, 2, 2))
    assert answer.startswith("E-LAYOUT | structs shared with the host differ: Shape.radius removed, Shape.sides added")
    assert host.load(module(tmp_path, 3, 0)) == "ok", "taking the edit back is no difference"
    assert host.load(module(tmp_path, 4, 2)).startswith("E-LAYOUT"), "the room is still the first one's"
    assert host.load(module(tmp_path, 5, 1)) == "ok"
    assert host.ask("tick") == "12 13 14"


def test_refused_growth_owns_nothing(host: Host, tmp_path: Path) -> None:
    assert host.load(module(tmp_path, 1, 3)).startswith("E-LAYOUT")
    assert host.load(module(tmp_path, 2, 2)) == "ok"


def test_what_is_not_described_is_not_checked(program: Path, host: Host, tmp_path: Path) -> None:
    assert host.load(module(tmp_path, 1, 3, described=False)) == "ok"
    plain = Host(program, "plain")
    assert plain.load(module(tmp_path, 2, 3)) == "ok"
    plain.close()


# ---- migration ----


def started(program: Path, mode: str) -> Iterator[Host]:
    made = Host(program, mode)
    yield made
    made.close()


@pytest.fixture
def keeper(program: Path) -> Iterator[Host]:
    """A host that has registered its three shapes."""
    yield from started(program, "state")


def test_state_is_migrated_and_back(keeper: Host, tmp_path: Path) -> None:
    assert keeper.load(module(tmp_path, 1, 3, migrations=BOTH)) == "ok"
    assert keeper.ask("size") == "40 1"
    assert keeper.ask("tick") == "8 9 10", "every shape has its value, in its new place"
    assert keeper.ask("rollback") == "ok"
    assert keeper.ask("size") == "28 2"
    assert keeper.ask("tick") == "7 8 9"


def test_after_a_migration_the_new_layout_is_the_hosts(keeper: Host, tmp_path: Path) -> None:
    assert keeper.load(module(tmp_path, 1, 3, migrations=FORTH)) == "ok"
    assert keeper.load(module(tmp_path, 2, 3)) == "ok", "no migration is needed, and none runs"
    assert keeper.ask("tick") == "9 10 11"
    answer = keeper.load(module(tmp_path, 3, 0))
    assert answer.startswith("E-LAYOUT | ") and "Shape.id removed" in answer
    assert keeper.ask("rollback") == "ok", "to code of the same layout"
    assert keeper.ask("tick") == "8 9 10"


def test_a_roll_back_without_a_migration_back_is_refused(keeper: Host, tmp_path: Path) -> None:
    assert keeper.load(module(tmp_path, 1, 3, migrations=FORTH)) == "ok"
    assert keeper.ask("rollback") == (
        "E-MIGRATE | Shape has been migrated, and nothing migrates it back | "
        "no HR_MIGRATION of Shape to the layout before, in shape | a migration in each direction"
    )
    assert (keeper.ask("tick"), keeper.ask("size")) == ("8 9 10", "40 1")


def test_a_failing_migration_leaves_old_state_and_old_code(keeper: Host, tmp_path: Path) -> None:
    answer = keeper.load(module(tmp_path, 1, 3, migrations=BOTH, fails_at=9))
    assert answer == "E-MIGRATE | the migration of Shape in shape v1 returned 5 | status 5 | status 0"
    assert (keeper.ask("tick"), keeper.ask("size")) == ("7 8 9", "28 0")
    assert keeper.load(module(tmp_path, 2, 3, migrations=BOTH)) == "ok"
    assert keeper.ask("tick") == "9 10 11"


def test_a_failing_migration_back_leaves_new_state_and_new_code(keeper: Host, tmp_path: Path) -> None:
    strange = BOTH.replace("&host_layout, back", "&host_layout, forth")  # sees its own kind as the old one
    assert keeper.load(module(tmp_path, 1, 3, migrations=strange, fails_at=700)) == "ok"
    assert keeper.ask("rollback").startswith("E-MIGRATE | the migration of Shape in shape v1 returned 5")
    assert (keeper.ask("tick"), keeper.ask("size")) == ("8 9 10", "40 1")


def test_a_host_that_gives_no_room(program: Path, tmp_path: Path) -> None:
    for stubborn in started(program, "stubborn"):
        answer = stubborn.load(module(tmp_path, 1, 3, migrations=BOTH))
        assert answer.startswith("E-MIGRATE | the host gave Shape no room for 120 bytes (it has 84)")
        assert (stubborn.ask("tick"), stubborn.ask("size")) == ("7 8 9", "28 0")


def test_state_that_is_not_registered_is_not_migrated(host: Host, tmp_path: Path) -> None:
    assert host.load(module(tmp_path, 1, 3, migrations=BOTH)).startswith("E-LAYOUT | ")


def test_a_migration_from_another_layout_does_not_serve(keeper: Host, tmp_path: Path) -> None:
    assert keeper.load(module(tmp_path, 1, 1)) == "ok", "Shape has grown since the migration was written"
    assert keeper.load(module(tmp_path, 2, 3, migrations=BOTH)).startswith("E-LAYOUT | ")


def test_all_that_takes_the_state_changes_together(program: Path, tmp_path: Path) -> None:
    for two in started(program, "two"):
        answer = two.load(module(tmp_path, 1, 3, migrations=BOTH))
        code, reason, found, _ = answer.split(" | ")
        assert (code, reason) == ("E-MIGRATE", "shape.draw still takes Shape in its old layout")
        assert found == "shape.draw runs the host's fallback"
        assert (two.ask("tick"), two.ask("size")) == ("7 8 9", "28 0")
        assert two.load(module(tmp_path, 2, 3, migrations=BOTH, slots=("shape.tick", "shape.draw"))) == "ok"
        answer = two.load(module(tmp_path, 3, 3))
        assert answer == "ok", "shape.draw is kept, and fits"
        assert two.ask("rollback") == "ok"
        assert two.ask("rollback") == "ok"
        assert (two.ask("tick"), two.ask("size")) == ("7 8 9", "28 2")


def test_forth_and_back_many_times(keeper: Host, tmp_path: Path) -> None:
    for version in range(1, 11):
        assert keeper.load(module(tmp_path, version, 3, migrations=BOTH)) == "ok"
        assert keeper.ask("tick") == f"{7 + version} {8 + version} {9 + version}"
        assert keeper.ask("rollback") == "ok"
        assert keeper.ask("tick") == "7 8 9"
    assert keeper.ask("size") == "28 20"


def tool(*words: str | Path) -> tuple[int, str]:
    """Exit code and output of a command of the tool."""
    command = [sys.executable, "-m", "hotreload", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("mode", ["serve", "safe"])
def test_tools_migrate_at_safe_points_only(mode: str, program: Path, tmp_path: Path) -> None:
    path = module(tmp_path, 1, 3, migrations=BOTH)
    for served in started(program, mode):
        code, text = tool("load", "--json", "--host", str(served.process.pid), path)
        answer = json.loads(text)
        if mode == "safe":
            assert (code, answer["event"]) == (0, "swap"), answer
            assert served.ask("tick") == "8 9 10"
        else:
            assert (code, answer["code"]) == (3, "E-MIGRATE"), answer
            assert "HR_SERVE_SAFE_POINT" in answer["fix"]
            assert served.ask("tick") == "7 8 9"


def test_old_code_never_meets_migrated_state_after_a_crash(program: Path, tmp_path: Path) -> None:
    """The guard rolls back in the middle of a call, which is no safe point: the state stays, and so does its code."""
    for served in started(program, "safe"):
        path = module(tmp_path, 1, 3, migrations=BOTH, crashes=True)
        code, text = tool("load", "--guard", "--json", "--host", str(served.process.pid), path)
        assert (code, json.loads(text)["event"]) == (0, "swap")
        assert served.ask("tick") == "-38 -38 -38", "HR_UNRESOLVED: neither the fallback nor a crash of the host"
        assert served.ask("size") == "40 1"
        path = module(tmp_path, 2, 3)
        code, text = tool("load", "--json", "--host", str(served.process.pid), path)
        assert code == 0, text
        assert served.ask("tick") == "9 10 11"


def test_what_migrates_is_not_tried_and_says_so(program: Path, tmp_path: Path) -> None:
    """A trial's copy would call the new code with state in its old layout."""
    for served in started(program, "safe"):
        host = ("--host", str(served.process.pid))
        path = module(tmp_path, 1, 3, migrations=BOTH, crashes=True)
        code, text = tool("load", "--trial", "--guard", "--json", *host, path)
        told = json.loads(text)
        assert (code, told["event"]) == (0, "swap") and "untried" in told["warnings"], told
        assert served.ask("size") == "40 1"


@pytest.mark.parametrize(
    ("wrong", "code", "verb", "found"),
    [(1, "E-CRASH", "crashed", "SIGSEGV, address 0x10, thread"), (2, "E-HANG", "hung", "no return within")],
)
def test_a_migration_that_crashes_is_one_that_fails(
    wrong: int, code: str, verb: str, found: str, program: Path, tmp_path: Path
) -> None:
    """With the guard. It has seen copies only, and one object was made already."""
    for served in started(program, "safe"):
        path = module(tmp_path, 1, 3, migrations=BOTH, wrong=wrong)
        host = ("--host", str(served.process.pid))
        status, text = tool("load", "--guard", "--hang-seconds", "0.3", "--json", *host, path)
        told = json.loads(text)
        assert (status, told["event"], told["code"]) == (3, "reject", code)
        assert told["reason"] == f"shape v1 {verb} in the migration of Shape; the state is as it was"
        assert told["found"].startswith(found)
        assert (served.ask("tick"), served.ask("size")) == ("7 8 9", "28 0")
        told = json.loads(tool("load", "--json", *host, path)[1])
        assert told.get("code") == "E-QUARANTINED", told
        assert tool("load", *host, module(tmp_path, 2, 3, migrations=BOTH))[0] == 0
        assert (served.ask("tick"), served.ask("size")) == ("9 10 11", "40 1")


def test_watch_tells_every_field(program: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "out"
    outputs.mkdir()
    for served in started(program, "serve"):
        command = [sys.executable, "-m", "hotreload", "watch", "--json", "--host", str(served.process.pid), outputs]
        watch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert watch.stdout
        events = (json.loads(line) for line in watch.stdout)
        assert next(each for each in events if each["event"] == "attach")
        module(outputs, 1, 3)
        told = next(each for each in events if each["event"] == "reject")
        watch.send_signal(signal.SIGINT)
        watch.communicate(timeout=60)
        assert told["code"] == "E-LAYOUT"
        assert {"type": "Shape", "field": "id"}.items() <= next(
            row for row in told["layout"] if row["changes"] == ["added"]
        ).items()


# ---- tools ----


def test_inspect_prints_layouts(tmp_path: Path) -> None:
    path = module(tmp_path, 1, 3, migrations=BOTH)
    code, text = tool("inspect", "--json", path)
    told = json.loads(text)
    assert code == 0
    shape = next(each for each in told["layouts"] if each["name"] == "Shape")
    assert (shape["kind"], shape["size"], shape["align"]) == ("struct", 40, 8)
    assert shape["fields"][0] == {"name": "id", "type": "int64_t", "offset": 0, "size": 8}
    assert told["takes"] == [{"symbol": "shape.tick", "state": "Shape", "input": "void", "output": "void"}]
    assert told["migrates"] == ["Shape", "Shape"]
    assert told["exports"] == ["HOTPATCH_LAYOUT_V1", "HOTPATCH_MIGRATE_V1"]
    code, text = tool("inspect", path)
    assert code == 0
    assert all(words in text for words in ("Shape (struct)", "align 8", "shape.tick takes state Shape, input void"))
    code, text = tool("inspect", module(tmp_path, 2, 0, described=False))
    assert code == 0 and "layouts: not described" in text


def test_inspect_against_another_module(tmp_path: Path) -> None:
    before, grown, other = (module(tmp_path, 1, shape) for shape in (0, 1, 3))
    code, text = tool("inspect", "--json", grown, "--against", before)
    against = json.loads(text)["against"]
    assert (code, against["verdict"], against["types"], against["slots"]) == (0, "compatible", 3, 1)
    radius = next(row for row in against["rows"] if row["field"] == "radius")
    assert radius == {
        "type": "Shape",
        "field": "radius",
        "changes": ["added"],
        "refused": False,
        "host": None,
        "module": {"type": "float", "offset": 12, "size": 4},
    }
    code, text = tool("inspect", before, "--against", before)
    assert code == 0 and "layouts: equal to those of" in text
    code, text = tool("inspect", other, "--against", before)
    assert code == 3 and "E-LAYOUT: differ from those of" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["~", "Shape", "28", "bytes,", "align", "4", "40", "bytes,", "align", "8", "resized,", "realigned"] in lines
    assert ["+", "id", "(absent)", "int64_t", "@", "0,", "8", "added"] in lines
    assert ["~", "value", "int32_t", "@", "0,", "4", "int32_t", "@", "8,", "4", "moved"] in lines
    code, text = tool("inspect", "--json", before, "--against", module(tmp_path, 2, 0, described=False))
    assert code == 0 and json.loads(text)["against"]["verdict"] == "not described"


def test_inspect_against_a_running_host(program: Path, tmp_path: Path) -> None:
    for served in started(program, "serve"):
        pid = str(served.process.pid)
        code, text = tool("inspect", "--json", module(tmp_path, 1, 2), "--against", pid)
        assert (code, json.loads(text)["against"]["verdict"]) == (0, "compatible")
        assert served.load(module(tmp_path, 1, 1)) == "ok"
        code, text = tool("inspect", "--json", module(tmp_path, 1, 2), "--against", pid)
        assert (code, json.loads(text)["against"]["verdict"]) == (3, "E-LAYOUT"), "the room is taken by now"


def test_a_refused_load_tells_every_field(program: Path, tmp_path: Path) -> None:
    for served in started(program, "serve"):
        code, text = tool("load", "--json", "--host", str(served.process.pid), module(tmp_path, 1, 3))
        told = json.loads(text)
        assert (code, told["code"]) == (3, "E-LAYOUT")
        changes = {(row["type"], row["field"]): row["changes"] for row in told["layout"]}
        assert changes[("Shape", "id")] == ["added"] and changes[("Shape", "value")] == ["moved"]


def test_slots_say_what_is_checked(program: Path, tmp_path: Path) -> None:
    for served in started(program, "serve"):
        pid = str(served.process.pid)

        def layout(pid: str = pid) -> str:
            (host,) = json.loads(tool("slots", "--json", "--host", pid)[1])
            (slot,) = host["slots"]
            return str(slot["layout"])

        assert layout() == "host"
        assert served.load(module(tmp_path, 1, 0)) == "ok"
        assert layout() == "checked" and "checked" in tool("slots", "--host", pid)[1]
        assert served.load(module(tmp_path, 2, 0, described=False)) == "ok"
        assert "not in the module" in tool("slots", "--host", pid)[1]
