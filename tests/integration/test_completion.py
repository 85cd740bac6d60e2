"""Shell completion in real shells, beside real hosts."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import RequireTool
from documents import reader_environment
from integration.harness import Bench
from integration.terminal import Terminal

from hotreload import commands


def offered(bench: Bench, *words: str, cwd: Path | None = None) -> list[str]:
    """What is offered for the last of the words."""
    variables = {
        commands.COMPLETE_VARIABLE: "bash_complete",
        "COMP_WORDS": " ".join(["hotreload", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        bench.command(), env={**bench.environment(), **variables}, capture_output=True, text=True, check=True, cwd=cwd
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_live_names(bench: Bench) -> None:
    game = bench.host("game", "game.draw", "game.tick")
    bench.host("server", "net.read")
    assert bench.call("load", "--host", "game", bench.module(1, "art", slots={"game.draw": "1"})).code == 0
    assert sorted(offered(bench, "slots", "--host", "")) == ["game", "server"]
    assert offered(bench, "slots", "--host", "g") == ["game"]
    assert offered(bench, "slots", "--host", str(game.pid)[:2]) != []
    assert offered(bench, "slots", "game.") == ["game.draw", "game.tick"]
    assert offered(bench, "slots", "--host", "server", "") == ["net.read"]
    assert offered(bench, "rollback", "") == ["art"]
    assert offered(bench, "rollback", "--host", "server", "") == []


def test_pids_tell_hosts_of_one_name_apart(bench: Bench) -> None:
    pids = {str(bench.host("twin").pid) for _ in range(2)}
    assert set(offered(bench, "events", "--host", "")) == {"twin"} | pids


def test_codes(bench: Bench) -> None:
    assert offered(bench, "explain", "E-NO-") == ["E-NO-MANIFEST", "E-NO-HOST", "E-NO-SLOT", "E-NO-PREVIOUS"]
    assert offered(bench, "explain", "lay") == ["E-LAYOUT"]


def test_the_past_of_this_project(bench: Bench) -> None:
    """Names and versions of `history` and `rollback --to` are those of the project that one stands in."""
    bench.host("game", "game.draw", "game.tick")
    ids = {}
    for name, symbol in (("art", "game.draw"), ("rules", "game.tick")):
        project = bench.work / name
        project.mkdir()
        (project / "hotreload.toml").touch()
        assert bench.call("load", bench.module(1, name, slots={symbol: "1"}), cwd=project).code == 0
        (entry,) = bench.call("history", "--json", cwd=project).json[0]
        ids[name] = entry["module"]["build_id"][:8]
    assert offered(bench, "history", "", cwd=bench.work / "art") == ["art"]
    assert offered(bench, "rollback", "--to", "", cwd=bench.work / "art") == [ids["art"]]
    assert offered(bench, "rollback", "--to", "", cwd=bench.work / "rules") == [ids["rules"]]
    assert sorted(offered(bench, "history", "", cwd=bench.home)) == ["art", "rules"], "everything, outside of all"


def test_nothing_runs(bench: Bench) -> None:
    assert offered(bench, "rollback", "") == [] and offered(bench, "slots", "--host", "") == []


def test_a_stopped_host_does_not_hold_up_the_prompt(bench: Bench) -> None:
    stopped = bench.host("stopped")
    bench.host("game")
    os.kill(stopped.pid, signal.SIGSTOP)
    try:
        assert offered(bench, "slots", "--host", "") == ["game"]
    finally:
        os.kill(stopped.pid, signal.SIGCONT)


def test_slots_of_the_names_given(bench: Bench) -> None:
    host = bench.host("game", "a", "b", "c")
    assert bench.call("load", bench.module(3, slots={"c": "3"})).code == 0
    found = [each["symbol"] for each in bench.slots(host)]
    assert found == ["a", "b", "c"]
    (told,) = bench.call("slots", "--json", "c", "a").json[0]
    assert [(each["symbol"], each["version"]) for each in told["slots"]] == [("a", 0), ("c", 1)]
    assert 0 < told["slots"][1]["calls_on_version"] < told["slots"][1]["calls"]
    done = bench.call("slots", "a", "nothing")
    assert done.code == 1 and "E-NO-SLOT" in done.err and "nothing" in done.err


# ---- in a shell ----


def test_bash_completes(bench: Bench) -> None:
    bench.host("game", "game.draw")
    script = """
        eval "$(hotreload completions bash)"
        COMP_WORDS=(hotreload slots game.d) COMP_CWORD=2
        $(complete -p hotreload | sed 's/.*-F \\([^ ]*\\).*/\\1/') hotreload
        echo "${COMPREPLY[@]}"
    """
    environment = {**reader_environment(bench.home, bench.run), "XDG_STATE_HOME": str(bench.state)}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "game.draw\n" and done.stderr == ""


def starting_line(bench: Bench, shell: str) -> str:
    """What the help tells people to put where the shell starts."""
    told = bench.call("completions", "--help").out
    (line,) = (line for line in told.splitlines() if f"hotreload completions {shell}" in line)
    return line.rpartition("  ")[0].strip()


def shell_environment(bench: Bench) -> dict[str, str]:
    environment = {**reader_environment(bench.home, bench.run), "XDG_STATE_HOME": str(bench.state)}
    return {**environment, "HOME": str(bench.home), "ZDOTDIR": str(bench.home), "XDG_CONFIG_HOME": str(bench.home)}


@pytest.mark.parametrize("before", ["", "autoload -Uz compinit && compinit -u -D"], ids=["plain", "compinit"])
def test_zsh_completes(before: str, bench: Bench, require_tool: RequireTool) -> None:
    """As a person presses Tab, with a fresh ~/.zshrc and with one that has set completion up."""
    shell = require_tool("zsh")
    bench.host("game", "game.draw", "net::read")
    line = starting_line(bench, "zsh")
    (bench.home / ".zshrc").write_text(f"skip_global_compinit=1\nPROMPT='ready> '\n{before}\n{line}\n")
    terminal = Terminal([shell, "-i"], 80, 24, shell_environment(bench))
    try:
        terminal.shows("ready>")
        terminal.press("hotreload slots ga\t")
        terminal.shows("ready> hotreload slots game.draw")
        terminal.press("net\t")
        terminal.shows("ready> hotreload slots game.draw net::read")
        terminal.press("\x15hotreload roll\t")
        terminal.shows("ready> hotreload rollback")
        assert len([line for line in terminal.lines if line]) == 1, terminal.text
    finally:
        terminal.close()


def test_fish_completes(bench: Bench, require_tool: RequireTool) -> None:
    shell = require_tool("fish")
    bench.host("game", "game.draw", "net::read")
    (bench.home / "fish").mkdir()
    (bench.home / "fish" / "config.fish").write_text(starting_line(bench, "fish") + "\n")
    script = "complete -C 'hotreload slots ga'; complete -C 'hotreload slots net'; complete -C 'hotreload roll'"
    done = subprocess.run(
        [shell, "-c", script], env=shell_environment(bench), capture_output=True, text=True, check=True, timeout=60
    )
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == ["game.draw", "net::read", "rollback"]
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(shell: str, bench: Bench) -> None:
    done = bench.call("completions", shell)
    assert done.code == 0 and commands.COMPLETE_VARIABLE in done.out and f"{shell}_complete" in done.out


def test_unknown_shell(bench: Bench) -> None:
    assert bench.call("completions", "csh").code == 2
