"""``hotreload completions``: the script that lets a shell complete commands, options, hosts, slots and modules."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from hotreload.commands import COMMANDS, COMPLETE_VARIABLE, group, options
from hotreload.errors import EXIT_OK

HELP = f"""{COMMANDS["completions"]}

Names of hosts, slots and modules are those that run at the moment. Put one of these where your shell starts:

\b
  eval "$(hotreload completions bash)"         ~/.bashrc
  eval "$(hotreload completions zsh)"          ~/.zshrc
  hotreload completions fish | source          ~/.config/fish/config.fish
"""


@click.command(name="completions", help=HELP)
@click.argument("shell", type=options.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(group(), {}, "hotreload", COMPLETE_VARIABLE).source()
    click.echo(_with_compinit(script) if shell == "zsh" else script)
    return EXIT_OK


def _with_compinit(script: str) -> str:
    """A fresh ~/.zshrc has not set completion up, and every shell would begin with "command not found: compdef"."""
    first, rest = script.split("\n", 1)  # `#compdef`, which has to be the first line of a file in $fpath
    return f"{first}\n(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit -i }}\n{rest}"
