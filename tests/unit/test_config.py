"""hotreload.toml: what it may say, who wins, where it is found, and how a mistake in it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotreload import config
from hotreload.commands.dev import wanted_options
from hotreload.config import Config, from_environment, load, merge, parse, strangers
from hotreload.errors import EXIT_USAGE, ConfigError
from hotreload.model import Busy, Guard, HostOptions

EVERYTHING = """
prepare = "cmake -S . -B build"
build = "make"
watch = ["build", "more/x.so"]
host = "build/host --port '80 80'"
hosts = "game"
sources = ["src"]
busy = "restart"
restart = false
restart_on = ["host.py"]
editor = "vi +{line} {file}"
poll = true
on_swap = "echo swap"
on_reject = "echo reject"
bell = true
notify = true
guard = true
unload = "quiescent"
debug_info = false
[env]
LEVEL = "3"
"""


def test_every_key() -> None:
    values = parse(EVERYTHING, "x")
    assert set(values) == set(Config.__dataclass_fields__)
    merged, _ = merge(("x", values))
    assert merged == Config(
        prepare="cmake -S . -B build",
        build="make",
        watch=("build", "more/x.so"),
        host=("build/host", "--port", "80 80"),
        hosts=("game",),
        sources=("src",),
        env={"LEVEL": "3"},
        busy=Busy.RESTART,
        restart=False,
        restart_on=("host.py",),
        editor="vi +{line} {file}",
        poll=True,
        on_swap="echo swap",
        on_reject="echo reject",
        bell=True,
        notify=True,
        guard=True,
        unload="quiescent",
        debug_info=False,
    )


def test_what_is_about_swapping_may_stand_in_a_table() -> None:
    assert parse("[swap]\nguard = true\nunload = 'never'\n", "x") == {"guard": True, "unload": "never"}
    with pytest.raises(ConfigError, match="unknown key 'swap'"):
        parse("[swap]\nhost = 'x'\n", "x")


@pytest.mark.parametrize(
    ("asked", "known", "wanted"),
    [
        (HostOptions(), Config(), HostOptions()),
        (HostOptions(), Config(guard=True, unload="quiescent"), HostOptions(guard=Guard(), unload=True)),
        (HostOptions(), Config(unload="never"), HostOptions(unload=False)),
        (HostOptions(unload=False, budget=9), Config(guard=True, unload="quiescent"),
         HostOptions(guard=Guard(), unload=False, budget=9)),
        (HostOptions(guard=Guard(calls=7)), Config(guard=True), HostOptions(guard=Guard(calls=7))),
    ],
)  # fmt: skip
def test_the_command_line_before_the_file_option_by_option(
    asked: HostOptions, known: Config, wanted: HostOptions
) -> None:
    assert wanted_options(asked, known) == wanted


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("build = 'x'\nwacht = ['a']", "x:2", "unknown key 'wacht'"),
        ("\n[env.more]\nA = 'b'", "x", "env must be a table of texts"),
        ("build = 3", "x:1", "build must be a text"),
        ("restart = 'yes'", "x:1", "restart must be true or false"),
        ("watch = [1]", "x:1", "watch must be a list of texts"),
        ("unload = true", "x:1", "unload must be one of quiescent, never"),
        ("busy = 'later'", "x:1", "busy must be one of queue, restart, ignore"),
        ("build = ", "x", "at end of document"),
        ("build = 1 2", "x", "at line 1"),
    ],
)
def test_mistakes(text: str, place: str, reason: str) -> None:
    with pytest.raises(ConfigError) as told:
        parse(text, "x")
    assert told.value.code == "E-CONFIG" and told.value.exit_code == EXIT_USAGE
    assert told.value.reason.startswith(place) and reason in told.value.reason


def test_an_unknown_key_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as told:
        parse("biuld = 'make'", "hotreload.toml")
    assert told.value.fix == "write build" and "watch" in told.value.expected
    with pytest.raises(ConfigError) as told:
        parse("zzzzzzz = 1", "hotreload.toml")
    assert told.value.fix == "remove it"


def test_later_layers_win_key_by_key() -> None:
    whole, origins = merge(
        ("user", parse("build = 'a'\nbusy = 'ignore'\n[env]\nA = '1'\nB = '1'", "user")),
        ("project", parse("build = 'b'\n[env]\nB = '2'", "project")),
    )
    assert (whole.build, whole.busy, whole.env) == ("b", Busy.IGNORE, {"A": "1", "B": "2"})
    assert origins == {"build": "project", "busy": "user", "env": "project"}


def test_environment() -> None:
    found = from_environment(
        {
            "HOTRELOAD_BUILD": "make x",
            "HOTRELOAD_WATCH": "out:more",
            "HOTRELOAD_HOST": "./host 'a b'",
            "HOTRELOAD_RESTART": "0",
            "HOTRELOAD": "python -m hotreload",
            "HOTRELOAD_LIBS": "-lx",
            "HOTRELOAD_SERVER_ADDRESS": "x",
            "BUILD": "no",
        }
    )
    assert found == {"build": "make x", "watch": ("out", "more"), "host": ("./host", "a b"), "restart": False}
    with pytest.raises(ConfigError, match=r"\$HOTRELOAD_BUSY: busy must be one of"):
        from_environment({"HOTRELOAD_BUSY": "now"})


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("HOTRELOAD_BIULD", "write $HOTRELOAD_BUILD, or unset it"),
        ("HOTRELOAD_WATCHES", "write $HOTRELOAD_WATCH, or unset it"),
        ("HOTRELOAD_DEBUGINFO", "write $HOTRELOAD_DEBUG_INFO, or unset it"),
        ("HOTRELOAD_ENV", "write the table [env] of hotreload.toml"),
    ],
)
def test_a_variable_that_is_nearly_a_key_is_told_with_the_nearest(name: str, fix: str) -> None:
    with pytest.raises(ConfigError) as told:
        from_environment({name: "x"})
    assert told.value.reason.startswith(f"${name}: unknown key") and told.value.fix == fix


def test_variables_of_others_are_no_error() -> None:
    environment = {f"HOTRELOAD_{name}": "x" for name in ("LIBS", "SERVER_ADDRESS", "CONFIG", "BUILD")}
    assert from_environment(environment) == {"build": "x"}
    assert strangers(environment) == ("HOTRELOAD_SERVER_ADDRESS",)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "project" / "deep" / "deeper").mkdir(parents=True)
    return tmp_path / "home"


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_layers_of_files(home: Path, tmp_path: Path) -> None:
    project, deep = home / "project", home / "project" / "deep"
    user = put(home / ".config" / "hotreload" / "config.toml", "build = 'user'\nbusy = 'ignore'\neditor = 'user'")
    put(project / "hotreload.toml", "build = 'project'\nbusy = 'restart'\nwatch = 'out'\nhost = 'h'")
    more = put(tmp_path / "more.toml", "watch = 'more'\nhost = 'more'")
    environment = {"HOTRELOAD_CONFIG": str(more), "HOTRELOAD_HOST": "variable"}
    found = load(deep / "deeper", environment, {"hosts": ("flag",)})
    assert found.directory == project
    assert found.files == (user, project / "hotreload.toml", more)
    known = found.config
    assert (known.editor, known.build, known.busy) == ("user", "project", Busy.RESTART)
    assert (known.watch, known.host, known.hosts) == (("more",), ("variable",), ("flag",))
    assert found.origins["hosts"] == "the command line" and found.origins["host"] == "the environment"


def test_not_beyond_the_repository(home: Path) -> None:
    put(home / "project" / "hotreload.toml", "build = 'outer'")
    inner = home / "project" / "deep"
    (inner / ".git").mkdir()
    found = load(inner / "deeper", {}, {})
    assert found.config == Config() and found.directory == inner / "deeper"
    assert inner / "deeper" / "hotreload.toml" in found.awaited, "it counts as soon as somebody writes it"


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("pyproject.toml", "tool.hotreload"),
        ("Cargo.toml", "package.metadata.hotreload"),
        ("Cargo.toml", "workspace.metadata.hotreload"),
    ],
)
def test_tables_of_other_files(home: Path, name: str, table: str) -> None:
    put(home / "project" / name, f"[{table}]\nbuild = 'it'\n")
    put(home / "project" / "deep" / name, "[other]\nbuild = 'no'\n")  # nearer, and not ours
    found = load(home / "project" / "deep", {}, {})
    assert found.config.build == "it" and found.directory == home / "project"


def test_hotreload_toml_is_nearest_among_its_neighbours(home: Path) -> None:
    put(home / "project" / "pyproject.toml", "[tool.hotreload]\nbuild = 'no'\n")
    put(home / "project" / "hotreload.toml", "build = 'it'\n")
    assert load(home / "project", {}, {}).config.build == "it"


def test_a_neighbour_that_is_no_toml_is_not_our_business(home: Path) -> None:
    put(home / "project" / "Cargo.toml", "[broken")
    assert load(home / "project", {}, {}).config == Config()


def test_a_missing_named_file_is_told(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml cannot be read"):
        load(home, {}, {}, file=home / "nothing.toml")
    assert config.FILE == "hotreload.toml"
