"""The pane of the last refusal."""

from __future__ import annotations

from collections.abc import Sequence

from hotreload.model import EventKind, LayoutRow, Record
from hotreload.reporters.layouts import comparison_lines
from hotreload.reporters.panes import Pane, labelled
from hotreload.reporters.screen import Line, Run, cut, wrap
from hotreload.reporters.view.scene import Scene
from hotreload.reporters.view.slots import is_rejected, module_text
from hotreload.reporters.wording import clean, clock, failure_code, module_title, outcome

_LAYOUT_ROWS = 10
"""Lines of a table of fields; beyond them only their number."""


def rejection_pane(scene: Scene, inner: int) -> Pane | None:
    rejection = scene.state.rejection
    if rejection is None:
        return None
    code = failure_code(rejection)
    title: list[Run] = [("bad", f"✗ {rejected_name(rejection)} {_verdict(rejection)}, {outcome(rejection)}")]
    when = f"{clock(rejection.time)}, {scene.ago(rejection.time)}"
    note: list[Run] = [("bad", code), ("frame.bad", " · "), ("", when)]
    if inner < 70:
        title = [("bad", f"✗ {rejected_name(rejection)} {_verdict(rejection)}")]
        note = [("bad", code)]
    lines = _rejection_lines(scene, rejection, inner)
    least = min(4, len(lines))

    def draw(rows: int) -> list[Line]:
        if rows >= len(lines):
            return lines
        fewer = min(len(rejection.layout), _LAYOUT_ROWS) - (len(lines) - rows) - 1  # fields, and a line for the rest
        if rejection.layout and fewer > 1:
            return _rejection_lines(scene, rejection, inner, fewer)[:rows]
        return _rejection_brief(rejection, inner, rows)

    return Pane(title, note, 1, least, len(lines), len(lines), draw, "frame.bad")


def _verdict(record: Record) -> str:
    if record.kind is EventKind.LAYOUT:
        return "differs from its host"
    if record.kind is not EventKind.CRASH:
        return "rejected"
    return "hung" if record.code == "E-HANG" else "crashed"


def rejected_name(rejection: Record) -> str:
    return module_title(rejection.module) if rejection.module else "build output"


def _rejection_lines(scene: Scene, rejection: Record, inner: int, fields: int = _LAYOUT_ROWS) -> list[Line]:
    lines: list[Line] = [[("strong", text)] for text in wrap(clean(rejection.reason), inner, 3)]
    if rejection.layout:
        lines += _layout_lines(rejection.layout, inner, fields)
    else:
        lines += labelled("expected", rejection.expected, inner, "good", 8)
        lines += labelled("found", rejection.found, inner, "badly", 8)
    lines += labelled("fix", _cure(rejection), inner, "", 3)
    if still := _still_runs(scene, rejection):
        lines += labelled("still", still, inner, "", 1)
    return lines


def _layout_lines(rows: Sequence[LayoutRow], inner: int, most: int) -> list[Line]:
    """The fields that differ: name, the host's side, the module's side."""
    table = comparison_lines(rows)
    shown = table[:most]
    name, side = max(len(line.name) for line in shown), (max(inner - 4, 30)) // 3
    name = min(name, side)
    lines: list[Line] = [[("faint", f"  {'':{name}}  {'host':{side}} module")]]
    for line in shown:
        tone = "badly" if line.refused else "good" if line.change else "faint"
        text = f"{line.mark or ' '} {cut(line.name, name):{name}}  {cut(line.host, side):{side}} "
        lines.append([(tone, cut(text + line.module, inner))])
    if more := len(table) - len(shown):
        lines.append([("faint", f"  {more} more lines: hotreload inspect --against")])
    return lines


def _rejection_brief(rejection: Record, inner: int, rows: int) -> list[Line]:
    """One line each: why, what was expected and found, the cure. Three rows take the difference in one."""
    lines: list[Line] = [[("strong", cut(clean(rejection.reason), inner))]]
    lines += labelled("expected", rejection.expected, inner, "good", 1)
    lines += labelled("found", rejection.found, inner, "badly", 1)
    if len(lines) == 3 and rows < 4:
        texts = (clean(rejection.expected), clean(rejection.found))
        lines[1:] = [[("faint", "expected "), ("good", texts[0]), ("faint", ", found "), ("badly", texts[1])]]
    return lines + labelled("fix", _cure(rejection), inner, "", 1)


def _cure(rejection: Record) -> str:
    """What is done about it here, where a key does what elsewhere a command does."""
    return "b rolls it back" if rejection.kind is EventKind.LAYOUT else rejection.fix


def _still_runs(scene: Scene, rejection: Record) -> str:
    """Which code the slots of a rejected module go on with."""
    if scene.view is None or rejection.kind is EventKind.LAYOUT:
        return ""
    slots = [slot for slot in scene.view.snapshot.slots if is_rejected(slot, rejection)]
    if not slots:
        return ""
    names = ", ".join(clean(slot.symbol) for slot in slots[:2]) + (f" and {len(slots) - 2} more" if slots[2:] else "")
    return f"{names} run{'s' if len(slots) == 1 else ''} {module_text(slots[0])}, as before"
