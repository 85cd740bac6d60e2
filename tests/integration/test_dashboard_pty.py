"""The dashboard through a real pseudo-terminal: what a terminal of this size shows, and what keys and resizes do."""

from __future__ import annotations

import os
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from integration.terminal import PATIENCE, Terminal

PROGRAM = Path(__file__).with_name("dashboard_program.py")
ENTERED, LEFT = b"\x1b[?1049h", b"\x1b[?1049l"


@contextmanager
def terminal(
    scene: str, tmp_path: Path, width: int, height: int, environment: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    command = [sys.executable, PROGRAM, scene, tmp_path / "log"]
    found = Terminal(command, width, height, environment or {})
    try:
        yield found
    finally:
        found.close()


def log(tmp_path: Path) -> list[str]:
    path = tmp_path / "log"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def test_full_screen_of_100_by_30(tmp_path: Path) -> None:
    with terminal("rejected", tmp_path, 100, 30) as found:
        found.shows("synth v7")
        lines = found.lines
        assert lines[0].startswith("╭─ hotreload · synth  pid 48213") and lines[0].endswith("● attached ─╮")
        assert lines[-2].startswith("╰─ generation 9") and lines[-2].endswith("rollbacks ─╯")
        assert all(line[0] in "╭│├┃╰" and line[99] in "╮│┤┃╯" for line in lines[:-1])
        assert "✗ synth v8 e81012f4 rejected, nothing was swapped" in found.text
        assert "expected  abi_version 0x0001" in found.text and "found     abi_version 0x0002" in found.text
        # The counters move although no key was pressed.
        before = [line for line in found.lines if "fx.limiter" in line]
        found.until(lambda now: [line for line in now.lines if "fx.limiter" in line] != before)
        # Colour: the rejection is red, the table's cursor is not.
        row = next(index for index, line in enumerate(found.lines) if "rejected, nothing" in line)
        assert found.screen.buffer[row][5].fg == "red" and found.screen.buffer[row][5].bold
        found.press("q")
        assert found.ended() == 0
    assert log(tmp_path) == ["Quit()"]


def test_keys_change_the_screen_and_reach_the_session(tmp_path: Path) -> None:
    with terminal("rejected", tmp_path, 100, 30) as found:
        found.shows("▸ synth.render_block")
        found.press("\x1b[B")
        found.shows("▸ synth.voice_tick")
        found.press("kkk")
        found.shows("▸ fx.reverb")
        found.shows("b roll back fx")
        found.press("b")
        found.shows("the previous code is back")
        found.press("s")
        found.shows("sort calls/s")
        found.press("/voi")
        found.shows("slots 1 of 6")
        found.press("\r")
        found.shows("/ filter")
        found.press("\x1b")
        found.shows("slots 1 of 6")
        found.hides("nothing was swapped")
        found.press("\x1b")
        found.shows("slots 6")
        found.press("\r")
        found.shows("earlier changes")
        found.press("?")
        found.shows("quarantine")
        found.press("?")
        found.press("p")
        found.shows("PAUSED")
        found.press("c")
        found.shows("nothing has happened yet")
        found.press("q")
        assert found.ended() == 0
    expected = ["RollBack(pid=48213, module='fx')", "Dismiss()", "TogglePause()", "Clear()", "Quit()"]
    assert log(tmp_path) == expected


def test_an_escape_sequence_may_arrive_in_pieces(tmp_path: Path) -> None:
    with terminal("normal", tmp_path, 100, 30) as found:
        found.shows("▸ synth.render_block")
        found.press("\x1b[")
        found.press("A")
        found.shows("▸ seq.next_step")


def test_compact_screen_of_60_by_15(tmp_path: Path) -> None:
    with terminal("rejected", tmp_path, 60, 15) as found:
        found.shows("synth v7")
        assert found.lines[0].startswith("hotreload · synth  pid 48213") and found.lines[0].endswith("● attached")
        assert "✗ synth v8 e81012f4 rejected" in found.text and "E-ABI" in found.text
        assert "fix       rebuild the module" in found.text and "╭" not in found.text
        found.press("\x1b")
        found.hides(" rejected ")
        found.press("G")
        found.shows("▸ ui.on_key")
        found.press("?")
        found.shows("page 1 of ")
        found.press("k")  # the page before the first is the last
        found.shows("it ran before")


def test_one_line_form_of_30_by_5(tmp_path: Path) -> None:
    with terminal("rejected", tmp_path, 30, 5) as found:
        found.shows("synth v7")
        assert found.lines[0] == "✗ E-ABI synth v8 e81012f4"
        assert found.lines[1].startswith("● synth v7 ")
        found.press("\x1b")
        found.until(lambda now: now.lines[0].startswith("● synth v7 "))
        found.press("q")
        assert found.ended() == 0


def test_a_resize_is_followed_through_all_forms(tmp_path: Path) -> None:
    with terminal("many", tmp_path, 100, 30) as found:
        found.shows("slots 1000")
        assert found.lines[0].startswith("╭─")
        found.resize(60, 15)
        found.until(lambda now: now.lines[0].startswith("hotreload · synth") and now.lines[-1].startswith(" q quit"))
        found.resize(30, 5)
        found.until(lambda now: now.lines[0].startswith("● synth") and now.lines[-1].startswith(" q quit"))
        found.resize(120, 40)
        found.until(lambda now: now.lines[0].endswith("─╮") and now.lines[-1].startswith(" q quit"))
        assert len(found.lines[0]) == 120 and "LAST 30 S" in found.text


def test_a_size_in_the_environment_does_not_stop_resizes(tmp_path: Path) -> None:
    with terminal("normal", tmp_path, 100, 30, {"COLUMNS": "50", "LINES": "10"}) as found:
        found.until(lambda now: len(now.lines[0]) == 100 and now.lines[-1].startswith(" q quit"))
        found.resize(90, 25)
        found.until(lambda now: len(now.lines[0]) == 90 and now.lines[-1].startswith(" q quit"))


def test_no_color_is_respected_and_says_as_much(tmp_path: Path) -> None:
    with terminal("rejected", tmp_path, 100, 30, {"NO_COLOR": "1"}) as found:
        found.shows("synth v7")
        used = {cell.fg for row in found.screen.buffer.values() for cell in row.values()}
        assert used == {"default"}
        assert "✗ live" in found.text and "● live" in found.text and "rejected" in found.text
    with terminal("rejected", tmp_path, 100, 30) as found:
        found.shows("synth v7")
        assert {"red", "green", "cyan"} <= {cell.fg for row in found.screen.buffer.values() for cell in row.values()}


def test_an_encoding_without_box_characters_gets_ascii(tmp_path: Path) -> None:
    with terminal("rejected", tmp_path, 100, 30, {"PYTHONIOENCODING": "ascii"}) as found:
        found.shows("synth v7")
        assert found.raw.isascii()
        assert found.lines[0].startswith("+- hotreload . synth") and "x synth v8 e81012f4 rejected" in found.text


def test_the_terminal_is_given_back(tmp_path: Path) -> None:
    with terminal("normal", tmp_path, 100, 30) as found:
        found.shows("synth v7")
        during = termios.tcgetattr(found.slave)
        assert not during[3] & termios.ECHO and not during[3] & termios.ICANON
        assert found.raw.count(ENTERED) == 1 and LEFT not in found.raw
        found.press("q")
        found.until(lambda now: b"the program has ended" in now.raw)
        assert termios.tcgetattr(found.slave) == found.attributes
        assert found.raw.index(LEFT) < found.raw.index(b"the program has ended")
        assert b"\x1b[?25h" in found.raw
        assert found.ended() == 0


def test_ctrl_c_interrupts_and_still_gives_the_terminal_back(tmp_path: Path) -> None:
    with terminal("normal", tmp_path, 100, 30) as found:
        found.shows("synth v7")
        found.press("\x03")
        found.until(lambda now: LEFT in now.raw and b"KeyboardInterrupt" in now.raw)
        assert termios.tcgetattr(found.slave) == found.attributes
        assert found.ended() != 0


def test_ctrl_z_does_not_leave_a_broken_terminal_behind(tmp_path: Path) -> None:
    with terminal("normal", tmp_path, 100, 30) as found:
        found.shows("▸ synth.render_block")
        found.press("\x1aj")
        found.shows("▸ synth.voice_tick")


def test_a_program_that_forgets_to_close_still_gives_the_terminal_back(tmp_path: Path) -> None:
    with terminal("normal", tmp_path, 100, 30, {"FORGET": "1"}) as found:
        found.shows("synth v7")
        found.press("q")
        found.until(lambda now: LEFT in now.raw)
        assert found.process.wait(PATIENCE) == 0
        assert termios.tcgetattr(found.slave) == found.attributes


def test_a_terminal_that_vanishes_ends_the_session(tmp_path: Path) -> None:
    """With SIGHUP ignored (nohup, a dropped connection) nothing else tells the program."""
    with terminal("normal", tmp_path, 100, 30, {"IGNORE_HANGUP": "1"}) as found:
        found.shows("synth v7")
        os.close(found.slave)
        os.close(found.master)
        found.slave = found.master = -1
        found.process.wait(PATIENCE)
    assert log(tmp_path) == ["Quit()"]


@pytest.mark.parametrize("unset", [{}, {"NO_COLOR": "1"}])
def test_a_pipe_gets_plain_lines(tmp_path: Path, unset: Mapping[str, str]) -> None:
    result = subprocess.run(
        [sys.executable, str(PROGRAM), "rejected", str(tmp_path / "log")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "TZ": "UTC", "PYTHONIOENCODING": "utf-8", **unset},
        timeout=60,
        check=True,
    )
    lines = result.stdout.decode().splitlines()
    assert "\x1b" not in result.stdout.decode() and result.stderr == b""
    assert lines[0] == "13:52:31 attach    synth pid 48213  6 slots, shim 0.1.0"
    assert len(lines) == 11 and "REJECT" in lines[-2] and "fix: rebuild the module" in lines[-2]
