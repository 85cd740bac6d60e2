"""What shell completion offers for arguments: names of living hosts, their slots and modules, and codes.

A person waits at the prompt: a host that does not answer at once is left out, and whatever fails offers nothing.
Imported with every command, so what it needs is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from hotreload.history import Entry
    from hotreload.model import Snapshot

PATIENCE_SECONDS = 0.3

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def codes(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Codes; also where their E- was left out."""
    from hotreload.codes import codes as all_codes

    wanted = incomplete.upper()
    begin = wanted if wanted.startswith("E") else f"E-{wanted}"
    return _offer(((name, code.text) for name, code in all_codes().items()), begin)


def hosts(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of running hosts, and their pids once digits are typed or where a name is not unique."""
    found = [each.host for each in _snapshots()]
    names = [host.name for host in found]
    pids = [(str(host.pid), host.name) for host in found if incomplete[:1].isdigit() or names.count(host.name) > 1]
    return _offer([*((host.name, f"pid {host.pid}") for host in found), *pids], incomplete)


def slots(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Symbols of slots of the hosts that ``--host`` has named, or of all."""
    found = ((slot.symbol, f"v{slot.version} in {each.host.name}") for each in _chosen(context) for slot in each.slots)
    return _offer(found, incomplete)


def modules(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the modules that are live in these hosts."""
    found = (
        (record.module.name, f"v{record.module.version} in {each.host.name}")
        for each in _chosen(context)
        for record in each.modules
        if record.state == "live"
    )
    return _offer(found, incomplete)


def past_modules(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of modules in the history of this project."""
    return _offer(((entry.module.name, f"v{entry.module.version}") for entry in _past()), incomplete)


def versions(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of retained modules, the newest first; of the one that is named already, or of all of this project."""
    named = context.params.get("module")
    kept = [each for each in reversed(_past()) if each.retained and named in (None, each.module.name)]
    return _offer(((e.module.short_id, f"{e.module.name} v{e.module.version}") for e in kept), incomplete)


def _past() -> list[Entry]:
    """The history of the project that one stands in, as `hotreload history` shows it; outside of all, everything."""
    from pathlib import Path

    from hotreload.history import History, of_project, project_of

    entries = History().entries()
    return of_project(entries, project_of(Path.cwd())) or entries


def _chosen(context: click.Context) -> list[Snapshot]:
    wanted = context.params.get("wanted") or ()
    return [each for each in _snapshots() if not wanted or each.host.name in wanted or str(each.host.pid) in wanted]


def _snapshots() -> list[Snapshot]:
    import time

    from hotreload.errors import HotreloadError
    from hotreload.hosts import Finder

    try:
        links = Finder().connect(patience=PATIENCE_SECONDS)
        return [link.snapshot(time.monotonic()) for link in links]
    except (HotreloadError, OSError):
        return []


def _offer(names: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    """Each name once, with the first of its helps."""
    chosen: dict[str, str] = {}
    for name, text in names:
        if name.startswith(incomplete):
            chosen.setdefault(name, text)
    return [CompletionItem(name, help=text) for name, text in chosen.items()]
