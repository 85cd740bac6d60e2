"""``hotreload metrics``: slots, versions, swaps, refusals and calls of all hosts for Prometheus."""

from __future__ import annotations

import signal
from threading import Event

import click

from hotreload.commands import COMMANDS, options
from hotreload.errors import EXIT_INTERRUPTED, EXIT_OK, HotreloadError

DEFAULT = "127.0.0.1:9477"
HELP = f"""{COMMANDS["metrics"]}

Follows the running hosts, and those that start later, and answers every scrape until it is interrupted. It listens on
this machine alone unless another address is given: what slots a program has is nobody else's business. Needs
prometheus-client (pip install 'hotreload-native[metrics]').
"""


@click.command(name="metrics", help=HELP)
@click.option("--listen", default=DEFAULT, show_default=True, metavar="ADDRESS:PORT",
              help="Where to listen; port 0 takes a free one.")  # fmt: skip
@click.option("--once", is_flag=True, help="Print one scrape and exit.")
@options.host
def command(listen: str, once: bool, wanted: tuple[str, ...]) -> int:
    address, port = parse(listen)
    try:
        from hotreload import metrics
    except ModuleNotFoundError as error:
        fix = "pip install 'hotreload-native[metrics]'"
        raise HotreloadError("E-NOT-INSTALLED", f"{error.name} is not installed", fix=fix) from error
    hosts = metrics.Hosts(wanted, trouble=lambda text: click.echo(text, err=True))
    try:
        hosts.start()
        if once:
            click.echo(metrics.text(hosts), nl=False)
            return EXIT_OK
        where, end = metrics.serve(hosts, address, port)
        click.echo(f"serving {where}")
        wait_for_signal()
        end()
        return EXIT_INTERRUPTED
    finally:
        hosts.close()


def parse(listen: str) -> tuple[str, int]:
    """``ADDRESS:PORT``, ``[ADDRESS]:PORT`` or ``:PORT``, which is this machine alone."""
    address, _, port = listen.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{listen!r} is not ADDRESS:PORT", param_hint="--listen")
    return address.strip("[]") or "127.0.0.1", int(port)


def wait_for_signal() -> None:
    ended = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
