"""The pane of the host's own output."""

from __future__ import annotations

from hotreload.reporters.panes import Pane
from hotreload.reporters.screen import Line, Run, cut, cut_start
from hotreload.reporters.view.scene import Scene
from hotreload.reporters.wording import clean


def child_pane(scene: Scene, inner: int) -> Pane | None:
    child = scene.state.child
    if child is None or not (child.pid or child.lines):
        return None
    title: list[Run] = [("title", "output "), ("", cut(clean(" ".join(child.command)), max(10, inner // 2)))]
    if child.exit_code is None:
        title.append(("faint", f"  pid {child.pid}"))
    else:
        title.append(("bad" if child.exit_code else "warn", f"  ✗ {exit_text(child.exit_code)}"))
    note: list[Run] = [("faint", cut_start(clean(str(child.log)), inner // 3))] if child.log and inner >= 70 else []

    def draw(rows: int) -> list[Line]:
        return [[("", clean(line))] for line in child.lines[-rows:]] or [[("faint", "no output yet")]]

    return Pane(title, note, 4, 2, min(5, max(2, len(child.lines))), 12, draw, stretches=True)


def exit_text(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exited with {code}"
