"""Every command's ``--json`` has a published schema that its answers keep to."""

from __future__ import annotations

import json

import click
import pytest
from integration.harness import Bench, answer_schemas, check_answer

from hotreload import commands

NO_COMMANDS = {"error", "suggest"}
"""Parts of the schema that are no command's own: what is told on standard error, and what `dev --suggest` tells."""


@pytest.mark.parametrize("command", sorted(answer_schemas().keys() - NO_COMMANDS))
def test_every_answer_has_a_published_schema(command: str, bench: Bench) -> None:
    """It is printed, and what a real host answers, or the error, keeps to it."""
    done = bench.call(command, "--schema")
    assert done.code == 0 and json.loads(done.out)["$id"] == f"urn:hotreload:answers:1:{command}"
    bench.host()
    module = bench.module(1)
    assert bench.call("load", "--json", module).code == 0
    further = {"inspect": [module], "autopsy": ["1"]}.get(command, [])
    done = bench.call(command, "--json", *further)
    for answer in done.json:
        check_answer(command, answer)
    if not done.out:
        check_answer("error", json.loads(done.err))


def test_dev_tells_the_schema_of_its_events_and_of_its_suggestions(bench: Bench) -> None:
    events, suggestions = (bench.call("dev", *more, "--schema") for more in ([], ["--suggest"]))
    assert events.code == suggestions.code == 0
    assert json.loads(events.out) == json.loads(bench.call("events", "--schema").out)
    assert json.loads(suggestions.out)["$id"] == "urn:hotreload:answers:1:suggest"


def test_every_json_option_has_a_schema() -> None:
    """Of commands whose answers are no events, `events --schema` describes those."""
    events = {"watch", "dev", "events", "load", "rollback"}
    group = commands.group()
    context = click.Context(group)
    asked = {
        name: {option for each in command.params for option in each.opts}
        for name in commands.COMMANDS
        if (command := group.get_command(context, name)) is not None
    }
    with_json = {name for name, options in asked.items() if "--json" in options}
    assert with_json - events == answer_schemas().keys() - NO_COMMANDS
    assert {name for name, options in asked.items() if "--schema" in options} == (with_json - events) | {
        "dev",
        "events",
    }
