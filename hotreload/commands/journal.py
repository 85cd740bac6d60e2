"""Enters what a command did into the history; a journal that cannot be written is no reason to fail."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from hotreload.history import History, project_of
from hotreload.model import OK, EventKind, Host, Record, Report


def enter(answers: Sequence[tuple[Host, Report]], kind: EventKind) -> None:
    """Enters every report that changed something."""
    project = project_of(Path.cwd())
    for host, report in answers:
        if report.code != OK:
            continue
        record = Record(kind, time.time(), host, report.module, report.changes)
        try:
            History().add(record, project, report.staged)
        except OSError as error:
            click.echo(f"not entered into the history: {error}", err=True)
            return
