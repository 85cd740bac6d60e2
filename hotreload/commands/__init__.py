"""The command line: which commands there are, and the one place where every failure becomes an exit code.

    0 done    1 error    2 usage    3 rejected    4 no host, or host gone    130 interrupted

Each command lives in a file of its own in this package, as ``command`` (a click command), imported only when it is
asked for; it returns None or an exit code. ``--version`` and ``--help`` answer before click is imported, which would
take longer than the interpreter itself.
"""

from __future__ import annotations

import os
import sys

from hotreload import __version__, errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    import click

COMMANDS = {
    "new": "Create a project: a host, a patch module, or both.",
    "init": "Make an existing project one that `hotreload dev` knows.",
    "dev": "Build on every save, and bring the running host to the newest code.",
    "watch": "Watch build outputs and swap every good one into the running hosts.",
    "load": "Load modules into the running hosts, once.",
    "rollback": "Take back the newest swap, or one module; or bring back a version.",
    "ps": "List the running hosts.",
    "slots": "List slots, versions and calls of the running hosts.",
    "events": "Tell what has happened in the running hosts, and what happens.",
    "history": "List what was swapped and rolled back, across the lives of hosts.",
    "metrics": "Serve slots, versions, swaps, refusals and calls for Prometheus.",
    "inspect": "Check a module without running any of it.",
    "autopsy": "Tell what a host that died was doing, and which slot to suspect.",
    "doctor": "Check this machine: compilers, kernel, directories, limits.",
    "explain": "Say what a code such as E-ABI means, and what to do.",
    "completions": "Print the script that lets a shell complete names and options.",
    "demo": "Run an example: a program that changes while it runs.",
    "config": "Print the flags and files to build a host against hotreload.",
}
"""Every command with its one line of help, in the order shown. The commands' own help begins with the same line."""

COMPLETE_VARIABLE = "_HOTRELOAD_COMPLETE"
"""Set by click's shell completion scripts."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code. ``arguments`` are those after the program's name."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _answer(given)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        code = errors.EXIT_ERROR
    except KeyboardInterrupt:
        code = errors.EXIT_INTERRUPTED
    except errors.HotreloadError as error:
        _report(error, as_json=_wants_json(given))
        code = error.exit_code
    return code


def help_text() -> str:
    """The text of ``hotreload --help``."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {line}" for name, line in COMMANDS.items())
    return f"""\
Usage: hotreload COMMAND [ARGUMENTS]...

  Swap functions of a running native program, without losing its state.

Commands:
{commands}

Options:
  --version  Show the version and exit.
  --help     Show this text, or that of a command, and exit.
"""


def _answer(arguments: list[str]) -> int:
    if COMPLETE_VARIABLE not in os.environ:
        if arguments[:1] == ["--version"]:
            sys.stdout.write(f"hotreload {__version__}\n")
            return errors.EXIT_OK
        if arguments[:1] in (["--help"], ["-h"]):
            sys.stdout.write(help_text())
            return errors.EXIT_OK
        if not arguments:
            sys.stderr.write(help_text())
            return errors.EXIT_USAGE
    return _run(arguments)


def _run(arguments: list[str]) -> int:
    import click

    program = group()
    if COMPLETE_VARIABLE in os.environ:
        program.main(arguments, "hotreload", COMPLETE_VARIABLE)
    try:
        # Not click's main(): it decides on exit codes of its own for interrupts and broken pipes.
        with program.make_context("hotreload", arguments) as context:
            result = program.invoke(context)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.Abort:
        return errors.EXIT_INTERRUPTED
    except click.ClickException as error:
        return _usage(error, as_json=_wants_json(arguments))
    return result if isinstance(result, int) else errors.EXIT_OK


def group() -> click.Group:
    """The click group, whose commands are imported when they are asked for."""
    from importlib import import_module

    import click
    from click.shell_completion import CompletionItem

    class LazyGroup(click.Group):
        def list_commands(self, ctx: click.Context) -> list[str]:
            return list(COMMANDS)

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            if cmd_name not in COMMANDS:
                return None
            command: click.Command = import_module(f"{__name__}.{cmd_name}").command
            command.short_help = COMMANDS[cmd_name]
            return command

        def resolve_command(
            self, ctx: click.Context, args: list[str]
        ) -> tuple[str | None, click.Command | None, list[str]]:
            if not args[0].startswith("-") and args[0] not in COMMANDS:
                ctx.fail(_no_such_command(args[0]))
            return super().resolve_command(ctx, args)

        def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
            # click's own would import every command to see whether it is hidden.
            return [CompletionItem(name, help=line) for name, line in COMMANDS.items() if name.startswith(incomplete)]

        def get_help(self, ctx: click.Context) -> str:
            return help_text().rstrip("\n")

    return LazyGroup(
        "hotreload",
        options_metavar="",
        subcommand_metavar="COMMAND [ARGUMENTS]...",
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _no_such_command(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, COMMANDS, n=1)
    return f"No such command {name!r}." + (f" Did you mean {close[0]!r}?" if close else "")


def _wants_json(arguments: list[str]) -> bool:
    """True when our own part of the line, which ends at ``--``, has ``--json``."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in own


def _report(error: errors.HotreloadError, *, as_json: bool) -> None:
    """Writes the error to standard error, which keeps standard output for data also with ``--json``."""
    fields = {"found": error.found, "expected": error.expected, "fix": error.fix}
    if as_json:
        import json

        text = json.dumps({"code": error.code, "reason": error.reason, **fields})
    else:
        label = max(map(len, fields))
        lines = [f"  {name + ':':{label + 1}} {value}" for name, value in fields.items() if value]
        text = "\n".join([str(error), *lines])
    sys.stdout.flush()
    sys.stderr.write(text + "\n")


def _usage(error: click.ClickException, *, as_json: bool) -> int:
    if as_json:
        _report(errors.HotreloadError("E-USAGE", error.format_message()), as_json=True)
    else:
        error.show()
    return errors.EXIT_USAGE


def _discard_output() -> None:
    # The reader of our output has gone, which is its right. The interpreter flushes once more at its exit and would
    # complain: let that go nowhere.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
