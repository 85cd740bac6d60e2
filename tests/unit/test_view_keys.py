"""What each key does, and that the footer offers exactly the keys that do something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from scenes import EFFECTS, HOST, NOW, REJECTED, SYNTH, attached, many, rejected, session, slot, synth, view

from hotreload.meter import HostView
from hotreload.model import EventKind, Host
from hotreload.reporters.ui import Sort, Ui, bindings, focus, ordered, press, selected_row
from hotreload.session import (
    Build,
    BuildPhase,
    Clear,
    Command,
    Dismiss,
    HostState,
    Quit,
    Rebuild,
    RollBack,
    State,
    TogglePause,
)

MIXER = Host(48300, "mixer", NOW - 40)
VIEWS = {HOST.pid: synth()}


def after(
    keys: str, state: State | None = None, hosts: Mapping[int, HostView] | None = None, ui: Ui | None = None
) -> Ui:
    """The Ui after some keys, separated by spaces."""
    result = ui or Ui()
    for key in keys.split():
        result, _ = press(result, key, state or session(), VIEWS if hosts is None else hosts)
    return result


def sent(key: str, state: State, hosts: Mapping[int, HostView] | None = None, ui: Ui | None = None) -> Command | None:
    return press(ui or Ui(), key, state, VIEWS if hosts is None else hosts)[1]


def selected(ui: Ui, found: HostView | None = None) -> str:
    found = found or VIEWS[HOST.pid]
    row = selected_row(found, ui, ordered(found, ui))
    assert row is not None
    return found.snapshot.slots[row].symbol


def offered(state: State, hosts: Mapping[int, HostView] | None = None, ui: Ui | None = None) -> dict[str, str]:
    shown = bindings(ui or Ui(), state, VIEWS if hosts is None else hosts)
    return {binding.sign: binding.label for binding in shown if binding.shown}


# ---- commands ----


@pytest.mark.parametrize(
    ("key", "command"),
    [("q", Quit()), ("p", TogglePause()), ("r", Rebuild()), ("c", Clear()), ("b", RollBack(HOST.pid)), ("x", None)],
)
def test_commands(key: str, command: Command | None) -> None:
    assert sent(key, session()) == command


def test_rebuild_needs_a_build_command() -> None:
    assert sent("r", session(build=None)) is None
    assert "r" not in offered(session(build=None))
    running = session(build=Build("make", BuildPhase.RUNNING))
    assert offered(running)["r"] == "rebuild again"


def test_clear_needs_something_to_clear() -> None:
    assert sent("c", session(records=())) is None
    ui, _ = press(Ui(scroll=5), "c", session(), VIEWS)
    assert ui.scroll == 0


def test_roll_back_is_of_the_selected_slot_s_module() -> None:
    assert sent("b", session(), ui=Ui(selected="fx.reverb")) == RollBack(HOST.pid, "fx")
    assert offered(session(), ui=Ui(selected="fx.reverb"))["b"] == "roll back fx"
    # A slot that runs built-in code has nothing to take back; nothing else may be taken back in its place.
    assert sent("b", session(), ui=Ui(selected="fx.limiter")) is None
    # A selection that the filter hides is none.
    assert sent("b", session(), ui=Ui(selected="fx.limiter", filter="synth")) == RollBack(HOST.pid)


def test_roll_back_is_of_the_module_that_is_pinned_because_it_differs() -> None:
    differs = replace(REJECTED, kind=EventKind.LAYOUT, code="E-LAYOUT", host=HOST)
    assert sent("b", session(rejection=differs)) == RollBack(HOST.pid, "synth")
    assert offered(session(rejection=differs))["b"] == "roll back synth"
    assert sent("b", session(rejection=differs), ui=Ui(selected="fx.reverb")) == RollBack(HOST.pid, "fx")
    assert sent("b", session(rejection=REJECTED)) == RollBack(HOST.pid)
    elsewhere = replace(differs, host=replace(HOST, pid=1))
    assert sent("b", session(rejection=elsewhere)) == RollBack(HOST.pid)


def test_roll_back_needs_a_host_and_a_module() -> None:
    assert sent("b", State(), {}) is None
    assert sent("b", session(), {HOST.pid: synth(alive=False)}) is None
    gone = session(hosts={HOST.pid: HostState(HOST, attached=False, since=NOW, gone="killed")})
    assert sent("b", gone) is None
    built_in = view([slot("a")], [lambda second: 1])
    assert sent("b", session(), {HOST.pid: built_in}) is None


# ---- looking around ----


def test_the_cursor_starts_at_the_newest_swap_and_follows_it() -> None:
    assert selected(Ui()) == "synth.render_block"
    later = view([slot("a", 0, 1, SYNTH, since=NOW - 9), slot("b", 1, 1, EFFECTS, since=NOW - 1)], [abs, abs])
    assert selected(Ui(), later) == "b"
    assert selected(Ui(), view([slot("b"), slot("a")], [abs, abs])) == "a"


def test_arrows_and_letters_move_the_cursor_and_stop_at_the_ends() -> None:
    assert selected(after("up")) == selected(after("k")) == "seq.next_step"
    assert selected(after("down j")) == "ui.on_key" == selected(after("down j j j j j"))
    assert selected(after("home")) == selected(after("g")) == "fx.limiter"
    assert selected(after("end")) == selected(after("G")) == "ui.on_key"


def test_the_selection_survives_sorting_and_filtering() -> None:
    ui = after("s", ui=Ui(selected="fx.reverb"))
    assert selected(ui) == "fx.reverb" and ui.sort is Sort.RATE
    assert selected(replace(ui, filter="fx")) == "fx.reverb"
    assert selected(replace(ui, filter="synth")) == "synth.render_block"


def test_sort_goes_round() -> None:
    assert [after("s " * turns).sort for turns in range(5)] == [*Sort, Sort.NAME]


def test_sorting_by_speed_is_highest_first_then_by_name() -> None:
    found = view([slot("c"), slot("b"), slot("a")], [lambda second: 5, lambda second: 9, lambda second: 5])
    assert [found.snapshot.slots[row].symbol for row in ordered(found, Ui(sort=Sort.RATE))] == ["b", "a", "c"]


def test_details_open_and_close() -> None:
    assert after("enter").details and not after("enter enter").details and not after("enter esc").details


def test_filter_is_typed_edited_kept_and_cleared() -> None:
    ui = after("/ F X backspace x")
    assert ui.filter == "Fx" and ui.filtering
    # Letters are text here, not commands.
    assert after("/ q p b").filter == "qpb"
    assert press(ui, "q", session(), VIEWS)[1] is None
    kept = after("enter", ui=ui)
    assert kept.filter == "Fx" and not kept.filtering
    assert after("esc", ui=kept).filter == ""
    dropped = after("esc", ui=ui)
    assert dropped.filter == "" and not dropped.filtering
    assert after("/ backspace").filter == ""
    assert selected(after("/ f x down")) == "fx.reverb"


def test_escape_closes_one_thing_at_a_time() -> None:
    state = rejected()
    ui = Ui(details=True, help=True, filter="s", selected="synth.voice_tick", scroll=2)
    order = ["help", "details", "scroll"]
    for name in order:
        ui, command = press(ui, "esc", state, VIEWS)
        assert not getattr(ui, name) and command is None
    assert sent("esc", state, ui=ui) == Dismiss()
    ui = after("esc", session(), ui=ui)
    assert ui.filter == "" and ui.selected is None
    ui = after("esc", session(), ui=replace(ui, selected="synth.voice_tick"))
    assert ui == Ui()
    assert press(Ui(), "esc", session(), VIEWS) == (Ui(), None) and "Esc" not in offered(session())


def test_help_takes_the_keys() -> None:
    assert after("?").help and not after("? ?").help
    assert sent("p", session(), ui=Ui(help=True)) is None
    assert sent("q", session(), ui=Ui(help=True)) == Quit()
    assert after("? j page-down k").help_page == 1 and after("? down ?") == Ui()


def test_events_scroll_and_stop_at_the_oldest() -> None:
    assert after("page-up").scroll == 5 and after("page-up page-up page-up").scroll == 7
    assert after("page-up page-down").scroll == 0
    assert offered(session(), ui=Ui(scroll=5))["PgDn"] == "newer" and "PgDn" not in offered(session())


# ---- hosts ----


def test_tab_goes_round_the_hosts_and_forgets_the_selection() -> None:
    state = session(hosts=attached(HOST, MIXER))
    assert focus(state, {}, Ui()) == MIXER.pid
    ui = after("tab", state, {}, Ui(selected="x"))
    assert ui.host == HOST.pid and ui.selected is None
    assert after("tab tab", state, {}).host == MIXER.pid
    assert after("shift-tab", state, {}, Ui(host=HOST.pid)).host == MIXER.pid
    assert after("tab").host is None and "Tab" not in offered(session())


def test_the_newest_attached_host_is_shown_first_then_the_last_that_is_gone() -> None:
    old = HostState(HOST, attached=True, since=NOW - 50)
    gone = HostState(MIXER, attached=False, since=NOW - 1, gone="killed")
    assert focus(State(hosts={HOST.pid: old, MIXER.pid: gone}), {}, Ui()) == HOST.pid
    lost = replace(old, attached=False)
    assert focus(State(hosts={HOST.pid: lost, MIXER.pid: gone}), {}, Ui()) == MIXER.pid
    assert focus(State(), {}, Ui()) is None
    assert focus(State(), VIEWS, Ui()) == HOST.pid


def test_a_successor_takes_the_place_of_the_chosen_host() -> None:
    gone = HostState(HOST, attached=False, since=NOW - 9, gone="killed")
    successor = HostState(Host(9, HOST.name), attached=True, since=NOW - 1)
    other = HostState(MIXER, attached=True, since=NOW)
    chosen = Ui(host=HOST.pid)
    assert focus(State(hosts={HOST.pid: gone, 9: successor, MIXER.pid: other}), {}, chosen) == 9
    assert focus(State(hosts={HOST.pid: gone, MIXER.pid: other}), {}, chosen) == HOST.pid
    assert focus(State(hosts={MIXER.pid: other}), {}, chosen) == MIXER.pid


# ---- the footer ----


def test_every_key_that_is_offered_does_something_and_no_other_letter_does() -> None:
    named = {"Esc": "esc", "Enter": "enter", "Tab": "tab", "PgDn": "page-down", "↑↓": "up"}
    states = (session(), rejected(), session(build=None, records=()), State(), session(hosts=attached(HOST, MIXER)))
    for state in states:
        for hosts in ({}, VIEWS, {HOST.pid: many(3)}):
            for ui in (Ui(), Ui(help=True), Ui(filter="s"), Ui(details=True), Ui(scroll=3), Ui(selected="fx.reverb")):
                signs = offered(state, hosts, ui)
                for sign in signs:
                    result, command = press(ui, named.get(sign, sign), state, hosts)
                    assert command is not None or result != ui, (sign, ui)
                for letter in set("qpbrsc/?") - set(signs):
                    toggles_help = letter == "?" and ui.help
                    assert press(ui, letter, state, hosts) == (ui, None) or toggles_help, (letter, ui)


def test_nothing_is_offered_that_needs_a_host_while_there_is_none() -> None:
    assert offered(State(), {}) == {"q": "quit", "?": "help", "p": "pause"}


def test_the_footer_names_what_pause_will_do() -> None:
    assert offered(session(paused=True))["p"] == "resume"
