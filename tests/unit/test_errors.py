"""The exception tree: what each stands for, and the exit code it means."""

from __future__ import annotations

import inspect
import re

import pytest

from hotreload import errors, native
from hotreload.errors import ConfigError, HotreloadError, NoHost, Rejected
from hotreload.model import Failure

FAILURE = {"found": "0x2", "expected": "0x1", "fix": "build it again"}


def test_an_error_carries_what_the_user_needs() -> None:
    error = HotreloadError("E-ABI", "the magic differs", **FAILURE)
    assert (error.code, error.reason) == ("E-ABI", "the magic differs")
    assert (error.found, error.expected, error.fix) == ("0x2", "0x1", "build it again")
    assert str(error) == "E-ABI: the magic differs"
    assert (HotreloadError("E-IO", "x").found, HotreloadError("E-IO", "x").fix) == ("", "")


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__
    told = dict(re.findall(r"(\w+) +exit (\d)", errors.__doc__))
    classes = {name: each for name, each in vars(errors).items() if inspect.isclass(each)}
    assert told == {name: str(each.exit_code) for name, each in classes.items()}
    assert all(issubclass(each, HotreloadError) for each in classes.values())


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("E-NO-HOST", NoHost),
        ("E-HOST-GONE", NoHost),
        ("E-PROTOCOL", HotreloadError),
        ("E-DUPLICATE", HotreloadError),
        ("E-NO-SLOT", HotreloadError),
        ("E-NO-PREVIOUS", HotreloadError),
        ("E-USAGE", HotreloadError),
        ("E-ABI", Rejected),
        ("E-QUARANTINED", Rejected),
        ("E-ABORTED", Rejected),
    ],
)
def test_a_failure_becomes_its_error(code: str, kind: type[HotreloadError]) -> None:
    error = native.error_of(Failure(code, "why", "found", "expected", "fix"))
    assert type(error) is kind
    assert (error.code, error.reason, error.found, error.expected, error.fix) == (
        code,
        "why",
        "found",
        "expected",
        "fix",
    )


def test_exit_codes() -> None:
    assert [each.exit_code for each in (HotreloadError, ConfigError, Rejected, NoHost)] == [1, 2, 3, 4]
    assert (errors.EXIT_OK, errors.EXIT_INTERRUPTED) == (0, 130)
