"""The command line's frame: which commands there are, exit codes, errors, and what a quick answer must not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import click
import pytest

from hotreload import __version__, commands, errors

HEAVY = {
    "elftools",
    "click",
    "rich",
    "watchdog",
    "cffi",
    "_cffi_backend",
    "tomli",
    "dataclasses",
    "typing",
    "inspect",
    "pathlib",
}

FAILURE = {"found": "1", "expected": "2", "fix": "build it again"}


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Returns ``pretend(body)``: ``hotreload ps`` runs ``body`` from then on."""

    def install(body: Callable[[], object]) -> None:
        module = types.ModuleType("hotreload.commands.ps")

        @click.command()
        @click.option("--json", "as_json", is_flag=True)
        @click.argument("rest", nargs=-1)
        def command(as_json: bool, rest: tuple[str, ...]) -> object:
            return body()

        module.command = command  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return install


def failing(error: BaseException) -> Callable[[], object]:
    def body() -> object:
        raise error

    return body


@pytest.mark.parametrize("option", ["--version", "--help", "-h"])
def test_quick_answers_import_nothing_heavy(option: str) -> None:
    program = (
        "import sys; before = set(sys.modules)\n"
        "from hotreload.commands import main\n"
        f"code = main([{option!r}])\n"
        "print(*sorted(set(sys.modules) - before), file=sys.stderr); sys.exit(code)"
    )
    # -S: without site, whose .pth files may import anything before us.
    root = Path(commands.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"hotreload {__version__}\n" if option == "--version" else "Usage: hotreload COMMAND")
    assert "hotreload.commands" in done.stderr.split()
    assert not HEAVY & set(done.stderr.split())


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["--help"]) == errors.EXIT_OK
    shown = capsys.readouterr().out
    for name, line in commands.COMMANDS.items():
        assert f"  {name} " in shown
        assert line in shown


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main([]) == errors.EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == commands.help_text()


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_each_command_is_one_file(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(import_module(f"hotreload.commands.{name}").command, click.Command)
    assert commands.main([name, "--help"]) == errors.EXIT_OK
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: hotreload {name} ")
    assert commands.COMMANDS[name] in " ".join(shown.split())


def test_ps_without_the_host_asked_for_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert commands.main(["ps"]) == errors.EXIT_OK
    assert commands.main(["ps", "--host", "nobody"]) == errors.EXIT_NO_HOST
    assert "matches nobody" in capsys.readouterr().err


def test_the_usage_of_watch_names_the_host_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["watch"]) == errors.EXIT_USAGE
    found = capsys.readouterr().err
    assert "watch [OPTIONS] PATH... [-- HOST ARG...]\n" in found and "Missing argument 'PATH...'" in found


def test_misspelt_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["wacth"]) == errors.EXIT_USAGE
    assert "Did you mean 'watch'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.HotreloadError("E-IO", "no such file"), 1),
        (errors.ConfigError("E-USAGE", "no such key"), 2),
        (errors.Rejected("E-ABI", "magic differs"), 3),
        (errors.NoHost("E-NO-HOST", "no host is running"), 4),
        (click.UsageError("no such thing"), 2),
        (click.exceptions.Exit(3), 3),
        (click.Abort(), 130),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_exit_codes(
    error: BaseException, code: int, pretend: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(failing(error))
    assert commands.main(["ps"]) == code
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (3, 3)])
def test_a_command_returns_its_exit_code(result: int | None, code: int, pretend: Callable[..., None]) -> None:
    pretend(lambda: result)
    assert commands.main(["ps"]) == code


def test_error_text(pretend: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    pretend(failing(errors.Rejected("E-ABI", "magic differs", **FAILURE)))
    commands.main(["ps"])
    assert capsys.readouterr().err == (
        "E-ABI: magic differs\n  found:    1\n  expected: 2\n  fix:      build it again\n"
    )


def test_error_text_leaves_out_what_is_not_known(
    pretend: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(failing(errors.NoHost("E-NO-HOST", "no host is running")))
    commands.main(["ps"])
    assert capsys.readouterr().err == "E-NO-HOST: no host is running\n"


def test_error_as_json(pretend: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    pretend(failing(errors.Rejected("E-ABI", "magic differs", **FAILURE)))
    assert commands.main(["ps", "--json"]) == errors.EXIT_REJECTED
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err) == {"code": "E-ABI", "reason": "magic differs", **FAILURE}


def test_usage_error_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["wacth", "--json"]) == errors.EXIT_USAGE
    assert json.loads(capsys.readouterr().err)["code"] == "E-USAGE"


def test_json_of_the_host_is_not_ours(pretend: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    pretend(failing(errors.NoHost("E-NO-HOST", "gone")))
    commands.main(["ps", "--", "host", "--json"])
    assert capsys.readouterr().err == "E-NO-HOST: gone\n"


@pytest.mark.parametrize("arguments", [["--help"], ["config", "--help"]])
def test_closed_pipe_is_quiet(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "hotreload", *arguments], stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    assert done.stderr == b""
    assert done.returncode == errors.EXIT_ERROR


def test_completion_offers_the_commands() -> None:
    variables = {commands.COMPLETE_VARIABLE: "bash_complete", "COMP_WORDS": "hotreload ro", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "hotreload"], env={**os.environ, **variables}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "plain,rollback\n"
