"""H6, H7, H14, H15 and H16 of DESIGN.md section 6 with one piece of their handling taken out: its test fails.

The hazards before them show in `test_hazards` what a host without hotreload does. For these there is no such host, so
the shim itself is built without the piece.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cbuild
import pytest
import test_hazards as hazards
import test_unload as unload

IMPATIENCE_SECONDS = 2.0
"""How long these tests wait for what will not come."""


@dataclass(frozen=True)
class Piece:
    """Text of a source file that is taken out, and what then fails."""

    file: str
    text: str
    fails: Callable[..., None]
    """Of a `hazards.Bench`, or an `unload.World`."""


PIECES = {
    "H14: the child has counters and events of its own": Piece(
        "registry.c", "    hr_blackbox_forked();\n    hr_shards_forked();\n", hazards.test_h14_a_forked_child_is_its_own
    ),
    "H14: the child has no socket": Piece(
        "registry.c", "    hr_control_forked();\n", hazards.test_h14_a_forked_child_is_its_own
    ),
    "H14: the child has no copies": Piece(
        "registry.c", "    hr.stage_directory[0] = 0;\n", hazards.test_h14_a_forked_child_is_its_own
    ),
    "H15: a transaction ends with its connection": Piece(
        "control.c",
        "    hr_abort(client->transaction);\n",
        hazards.test_h15_a_prepared_transaction_ends_with_its_connection,
    ),
    "H15: what speaks another language is dropped": Piece(
        "control.c",
        "    if (head->magic != HR_WIRE_MAGIC) return false;\n",
        lambda bench: hazards.test_h15_garbage_is_dropped(bench, b"GET / HTTP/1.1\r\n\r\n" * 4),
    ),
    "H16: sockets and copies of dead hosts go at the next start": Piece(
        "control.c",
        "    remove_dead(directory);\n    hr_stage_remove_stale();\n",
        hazards.test_h16_a_dead_hosts_box_can_be_read_and_its_files_go_at_the_next_start,
    ),
    "H16: the socket goes at the end": Piece(
        "registry.c", "    hr_control_exit();\n", hazards.test_h16_an_orderly_end_leaves_nothing
    ),
    "H16: the copies go at the end": Piece(
        "registry.c", "    hr_stage_cleanup();\n", hazards.test_h16_an_orderly_end_leaves_nothing
    ),
}


UNLOADING = {
    "H6: what dlclose has left where it was is told": Piece(
        "unload.c",
        """    if (still) {
        module->handle = still;
        put_back(module);
        stays(target, "dlclose did nothing (NODELETE, unique symbols or TLS destructors)", "", true);
        return;
    }
""",
        lambda world: unload.test_says_why_dlclose_would_do_nothing(world, "-DHELD", "dlclose did nothing"),
    ),
    "H6: what dlclose would leave is known before": Piece(
        "unload.c",
        """    if (module->manifest->warnings & HR_WARN_NODELETE) return "it is linked with -z nodelete";\n""",
        lambda world: unload.test_says_why_dlclose_would_do_nothing(world, "-Wl,-z,nodelete", "nodelete"),
    ),
    "H7: what something points into stays": Piece(
        "unload.c",
        "        if (targets[i].hits) stays_pointed_at(&targets[i]);\n        else ",
        lambda world: unload.test_finds_pointers(world, unload.CALLBACK, "heap", "[heap]", "callback"),
    ),
    "H7: a handler that only the kernel knows of counts": Piece(
        "scan.c",
        "    hr_platform_each_handler(look_at_handler, scan);\n",
        lambda world: unload.test_finds_pointers(
            world, unload.CALLBACK, "signal", "the handler of signal 12", "callback"
        ),
    ),
}
"""Where modules are unloaded, which the others never are."""


def lacking(piece: Piece, shim: cbuild.Shim, directory: Path) -> cbuild.Shim:
    """The shim without the piece."""
    text = (cbuild.SOURCES / piece.file).read_text(encoding="utf-8")
    assert text.count(piece.text) == 1, "the sources have changed: adapt the piece"
    source = directory / piece.file
    source.write_text(text.replace(piece.text, ""), encoding="utf-8")
    archive = shutil.copy(shim.archive, directory / "libhotreload.a")
    changed = source.with_suffix(".o")
    flags = ("-O0", "-std=c11", "-fPIC", "-I", cbuild.INCLUDE, "-I", cbuild.SOURCES)
    cbuild.run([cbuild.cc(), "-c", *flags, "-o", changed, source])
    cbuild.run(["ar", "rs", archive, changed])
    return cbuild.Shim(archive, shim.shared, shim.flags)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cc: str) -> tuple[cbuild.Shim, Path]:
    """The shim and its viewer, quickly built, with its object files beside it."""
    directory = tmp_path_factory.mktemp("whole")
    shim = cbuild.build_shim(directory, "-O0")
    return shim, shim.host(cbuild.HOSTS / "viewer.c", directory / "viewer")


@pytest.fixture
def without(
    whole: tuple[cbuild.Shim, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Piece], hazards.Bench]]:
    """Returns ``without(piece)``: a bench whose hosts lack it."""
    shim, viewer = whole
    home = Path(tempfile.mkdtemp(prefix="hr-"))
    started: list[hazards.Bench] = []
    monkeypatch.setattr(hazards, "WAIT_S", IMPATIENCE_SECONDS)

    def build(piece: Piece) -> hazards.Bench:
        mutilated = lacking(piece, shim, tmp_path)
        host = mutilated.host(cbuild.HOSTS / "host.c", tmp_path / "host")
        started.append(hazards.Bench(hazards.Programs(mutilated, host, viewer), home, tmp_path))
        return started[-1]

    yield build
    for bench in started:
        for program in bench.started:
            program.__exit__(None, None, None)
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("name", PIECES)
def test_a_hazard_without_its_handling(name: str, without: Callable[[Piece], hazards.Bench]) -> None:
    piece = PIECES[name]
    bench = without(piece)
    with pytest.raises((Exception, pytest.fail.Exception)) as failure:
        piece.fails(bench)
    # What fails is an observation, not the scenery.
    assert isinstance(failure.value, (AssertionError, pytest.fail.Exception)), failure.value


@pytest.mark.parametrize("name", UNLOADING)
def test_unloading_without_its_handling(
    name: str, whole: tuple[cbuild.Shim, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unload, "WAIT_S", IMPATIENCE_SECONDS)
    piece = UNLOADING[name]
    keeper = lacking(piece, whole[0], tmp_path).host(cbuild.HOSTS / "keeper.c", tmp_path / "keeper")
    with tempfile.TemporaryDirectory(prefix="hr-") as directory:
        world = unload.World(unload.Built(keeper, tmp_path), Path(directory))
        with world.host, pytest.raises(AssertionError):
            piece.fails(world)
