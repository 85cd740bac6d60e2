"""The demo's script: what is edited, in which order, and what must be seen for it to count as shown.

A pure machine, like the session: ``advance(play, seen, now) -> (play, acts)``. Whoever runs the demo feeds it what
happens (records, lines that the host prints, the time) and performs the acts it asks for. Nothing here touches a file,
so that every way a scene can fail is tested without building anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum

from hotreload.errors import HotreloadError
from hotreload.model import ChangeKind, EventKind, Record

SCENE_SECONDS = 20.0
"""How long a scene may wait for what it expects."""
SHOW_SECONDS = 55.0
"""How long all of them together may take."""
CUT_SHARE = 0.6
"""How much of a module is left when the demo cuts it off."""

# ---- what the demo plays with ----


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces ``old``, which occurs once in the example's source as shipped, by ``new``."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Example:
    """An example as the demo uses it. All paths are relative to the example's directory."""

    name: str
    prepare: tuple[tuple[str, ...], ...]
    """Commands that build everything, run in the example's directory."""
    build: tuple[str, ...]
    """The command that builds the module again, run there too."""
    host: str
    """Served under the example's name."""
    module: str
    source: str
    """The file that a user edits, and the demo too."""
    slot: str
    progress: str
    """Finds in the host's lines the number, as group 1, that must never become smaller."""
    first: str
    """Found in the host's lines while the module as shipped is live; empty where no line shows it."""
    edited: str
    """The same after the good edit."""
    good: tuple[Edit, ...]
    abi: Edit
    """Makes the manifest claim another ABI."""
    broken: Edit
    """Makes the compiler give up."""


_C_ABI = "/* the manifest of a future hotreload */\n#undef HR_ABI_MAGIC_V1\n#define HR_ABI_MAGIC_V1 0x48505432\n\n"

_RUST_ABI = """\
/// The manifest of a future hotreload.
#[no_mangle]
pub static HOTPATCH_MODULE_V1: [u64; 7] = [0x0038_0001_4850_5432, 0, 0, 0, 0, 0, 0];
"""
_CARGO = ("cargo", "build", "--quiet", "--release", "--manifest-path")

EXAMPLES = {
    example.name: example
    for example in (
        Example(
            name="counter-c",
            prepare=(("make", "-s"),),
            build=("make", "-s", "build/counter.so"),
            host="build/host",
            module="build/counter.so",
            source="patch.c",
            slot="counter.add",
            progress=r"\bcount=(-?\d+)",
            first=r"\bstep=\+10$",
            edited=r"\bstep=\+500$",
            good=(Edit("#define STEP 10\n", "#define STEP 500\n"),),
            abi=Edit("HR_MODULE(", f"{_C_ABI}HR_MODULE("),
            broken=Edit("self->count += STEP;", "self->count += STPE;"),
        ),
        Example(
            name="counter-rust",
            prepare=(
                (*_CARGO, "counter-patch/Cargo.toml"),
                (*_CARGO, "counter-host/Cargo.toml"),
            ),
            build=(*_CARGO, "counter-patch/Cargo.toml"),
            host="counter-host/target/release/counter-host",
            module="counter-patch/target/release/libcounter_patch.so",
            source="counter-patch/src/lib.rs",
            slot="counter.step",
            progress=r"\bvalue (-?\d+)",
            first=r"\(implementation 3\)",
            edited=r"\(implementation 4\)",
            good=(
                Edit("const STEP: i64 = 100;", "const STEP: i64 = 5000;"),
                Edit("implementation: 3 }", "implementation: 4 }"),
            ),
            abi=Edit('hotreload::patch_module!("counter", 3, [described("counter.step", step)]);', _RUST_ABI),
            broken=Edit("counter.steps += 1;", "counter.setps += 1;"),
        ),
        Example(
            name="flame",
            prepare=(("make", "-s"),),
            build=("make", "-s", "build/flame.so"),
            host="build/host",
            module="build/flame.so",
            source="patch.c",
            slot="flame.update",
            progress=r"\bframes=(\d+)",
            first=r"\bsparks=[1-9]\d?\b",
            edited=r"\bsparks=[1-9]\d\d",
            good=(
                Edit("#define PALETTE   fire", "#define PALETTE   ghost"),
                Edit("#define SPARKS    24.0f", "#define SPARKS    400.0f"),
            ),
            abi=Edit("HR_MODULE(", f"{_C_ABI}HR_MODULE("),
            broken=Edit("burn(host, tick->dt);", "burn(host, tick->td);"),
        ),
    )
}


def edited(source: str, edits: tuple[Edit, ...]) -> str:
    """The source as shipped with all edits made.

    Raises:
        HotreloadError: A text to be replaced does not occur exactly once: example and script have drifted apart.
    """
    for edit in edits:
        if source.count(edit.old) != 1:
            raise HotreloadError("E-DEMO", f"the example has changed: {edit.old!r} must occur once in its source")
        source = source.replace(edit.old, edit.new)
    return source


# ---- acts: what the play asks for ----


@dataclass(frozen=True, slots=True)
class Narrate:
    """Put the text among the events."""

    text: str


@dataclass(frozen=True, slots=True)
class Write:
    """Save the source with these edits; the module is then built as after any save."""

    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """Overwrite the module in place with its first ``share``, as an interrupted copy does."""

    share: float = CUT_SHARE


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Roll the host back."""


@dataclass(frozen=True, slots=True)
class End:
    """The show is over."""


Act = Narrate | Write | Cut | TakeBack | End

# ---- scenes ----


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing that the demo does, and what must be seen then."""

    title: str
    """What it shows, for the summary."""
    says: str
    """Told before it happens."""
    act: Act | None
    kind: EventKind
    code: str
    """The record's code; empty accepts any success, ``"!"`` any failure."""
    shows: str
    """Found in a line that the host prints afterwards; empty accepts any line with a progress number."""
    then: str
    """Told once it has been seen."""


def scenes(example: Example) -> tuple[Scene, ...]:
    """The script for an example."""
    good, source = example.good, example.source
    changes = ", ".join(map(_change, good))
    return (
        Scene(
            title="the first build goes live",
            says=f"{example.host} starts with its built-in code, and is brought to {example.module}",
            act=None,  # a session begins with a build by itself
            kind=EventKind.SWAP,
            code="",
            shows=example.first,
            then="the new code runs, in the same process, on the same state",
        ),
        Scene(
            title="an edit goes live",
            says=f"editing {source}: {changes}",
            act=Write(good),
            kind=EventKind.SWAP,
            code="",
            shows=example.edited,
            then="saved, built, swapped; the host never stopped",
        ),
        Scene(
            title="another ABI is refused",
            says=f"editing {source}: a manifest of another ABI",
            act=Write((*good, example.abi)),
            kind=EventKind.REJECT,
            code="E-ABI",
            shows=example.edited,
            then="refused before any of it ran; nothing was swapped",
        ),
        Scene(
            title="a truncated file is refused",
            says=f"cutting {example.module} off at {CUT_SHARE:.0%}, as an interrupted copy would",
            act=Cut(),
            kind=EventKind.REJECT,
            code="E-TRUNCATED",
            shows=example.edited,
            then="dlopen of this file would have killed the host; it was never opened",
        ),
        Scene(
            title="a compile error changes nothing",
            says=f"editing {source}: a typo",
            act=Write((*good, example.broken)),
            kind=EventKind.BUILD,
            code="!",
            shows=example.edited,
            then="the build failed; everything goes on",
        ),
        Scene(
            title="the same code is not swapped again",
            says=f"mending {source}",
            act=Write(good),
            kind=EventKind.SAME,
            code="",
            shows=example.edited,
            then="built to the very bytes that run already: no swap",
        ),
        Scene(
            title="the edit is rolled back",
            says="rolling back",
            act=TakeBack(),
            kind=EventKind.ROLLBACK,
            code="",
            shows=example.first,
            then="the code before the edit runs again, on today's state",
        ),
    )


def _change(edit: Edit) -> str:
    """The edit of a constant in few words: ``STEP 10 -> 500``."""
    before, after = (text.replace("#define", "").split() for text in (edit.old, edit.new))
    return f"{' '.join(before)} -> {after[-1]}"


# ---- the play ----


class Phase(Enum):
    """Where in its scene the play is."""

    ANNOUNCED = "announced"
    WAITING = "waiting for the record"
    PROVING = "waiting for the host to show it"
    HOLDING = "leaving time to look"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds to leave for reading before and after each act."""

    before: float
    after: float


UNHURRIED = Pace(before=1.5, after=2.5)
"""For people."""
BRISK = Pace(before=0.0, after=0.1)
"""For logs and tests."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a scene ended; ``seen`` is what was seen, or what went wrong."""

    title: str
    seen: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Play:
    """How far the show is. Times are ``time.monotonic()``, in seconds."""

    example: Example
    scenes: tuple[Scene, ...]
    pace: Pace
    began: float
    since: float
    index: int = 0
    phase: Phase = Phase.ANNOUNCED
    progress: int | None = None
    """The newest number that the host printed."""
    seen: str = ""
    outcomes: tuple[Outcome, ...] = ()

    @property
    def scene(self) -> Scene:
        """The present scene, or the last one."""
        return self.scenes[min(self.index, len(self.scenes) - 1)]

    @property
    def passed(self) -> bool:
        """Whether everything was shown."""
        return len(self.outcomes) == len(self.scenes) and all(outcome.passed for outcome in self.outcomes)


Step = tuple[Play, tuple[Act, ...]]


def begin(example: Example, pace: Pace, now: float) -> Step:
    """The play before its first scene, and the first acts."""
    # The first scene has nothing to wait for: the session's own start brings it about.
    play = Play(example, scenes(example), pace, began=now, since=now, phase=Phase.WAITING)
    return play, (Narrate(play.scene.says),)


def advance(play: Play, seen: Record | str | None, now: float) -> Step:
    """What follows when ``seen`` happens: a record of our host or build, a line that the host printed, or just time."""
    if play.phase is Phase.OVER:
        return play, ()
    if isinstance(seen, Record):
        play, acts = _on_record(play, seen, now)
    elif isinstance(seen, str):
        play, acts = _on_line(play, seen, now)
    else:
        play, acts = play, ()
    later, more = _on_time(play, now)
    return later, acts + more


def _on_record(play: Play, record: Record, now: float) -> Step:
    scene = play.scene
    if play.phase is Phase.WAITING and _is_expected(play, record):
        return replace(play, phase=Phase.PROVING, since=now, seen=_summary(record)), ()
    if trouble := _trouble(play.phase, scene, record):
        return _fail(play, trouble)
    return play, ()


def _is_expected(play: Play, record: Record) -> bool:
    scene = play.scene
    if record.kind is not scene.kind or not _code_fits(scene.code, record.code):
        return False
    return scene.kind not in (EventKind.SWAP, EventKind.ROLLBACK) or _changes(record, play.example.slot)


def _code_fits(wanted: str, code: str) -> bool:
    if wanted == "!":
        return failed(code)
    return code == wanted if wanted else not failed(code)


def failed(code: str) -> bool:
    """Whether a record's code tells of a failure."""
    return code.startswith("E-") or code == "failed"  # the latter is a build's


def _changes(record: Record, slot: str) -> bool:
    return any(c.symbol == slot and c.kind is ChangeKind.SWAPPED and c.before != c.after for c in record.changes)


_NEVER_UNASKED = (EventKind.SWAP, EventKind.ROLLBACK, EventKind.CRASH, EventKind.DETACH)


def _trouble(phase: Phase, scene: Scene, record: Record) -> str:
    """Why the record ends the show, or nothing."""
    if record.kind in _NEVER_UNASKED:
        return f"unexpected {_summary(record)}"
    waits_for_good_news = phase is Phase.WAITING and scene.kind not in (EventKind.REJECT, EventKind.BUILD)
    if waits_for_good_news and record.kind in (EventKind.REJECT, EventKind.BUILD) and failed(record.code):
        return f"instead of {scene.kind.value}: {_summary(record)}"
    return ""


def _summary(record: Record) -> str:
    changes = ", ".join(f"{c.symbol} v{c.before}→v{c.after}" for c in record.changes if c.before != c.after)
    spent = record.us.get("total", 0) / 1000
    total = f"{spent:.{2 if spent < 10 else 0}f} ms" if "total" in record.us else ""
    parts = (record.kind.value, record.code if failed(record.code) else "", changes, total)
    return " ".join(part for part in parts if part)


def _on_line(play: Play, line: str, now: float) -> Step:
    found = re.search(play.example.progress, line)
    if not found:
        return play, ()
    progress = int(found.group(1))
    if play.progress is not None and progress < play.progress:
        return _fail(play, f"the host went back from {play.progress} to {progress}")
    play = replace(play, progress=progress)
    if play.phase is Phase.PROVING and re.search(play.scene.shows, line):
        shown = replace(play, phase=Phase.HOLDING, since=now, seen=f"{play.seen}; host: {line.strip()}")
        return shown, (Narrate(play.scene.then),)
    return play, ()


def _on_time(play: Play, now: float) -> Step:
    waited = now - play.since
    if play.phase is Phase.OVER:
        return play, ()
    if now - play.began >= SHOW_SECONDS:
        return _fail(play, f"the show took longer than {SHOW_SECONDS:.0f} s")
    if play.phase is Phase.ANNOUNCED and waited >= play.pace.before:
        return replace(play, phase=Phase.WAITING, since=now), (play.scene.act,) if play.scene.act else ()
    if play.phase in (Phase.WAITING, Phase.PROVING) and waited >= SCENE_SECONDS:
        return _fail(play, f"not seen within {SCENE_SECONDS:.0f} s: {_missing(play)}")
    if play.phase is Phase.HOLDING and waited >= play.pace.after:
        return _next_scene(play, now)
    return play, ()


def _missing(play: Play) -> str:
    scene = play.scene
    if play.phase is Phase.PROVING:
        return f"a line of the host like {scene.shows!r}"
    return " ".join(part for part in (scene.kind.value, scene.code.strip("!")) if part)


def _next_scene(play: Play, now: float) -> Step:
    outcome = Outcome(play.scene.title, play.seen, passed=True)
    play = replace(play, outcomes=(*play.outcomes, outcome), index=play.index + 1, since=now, seen="")
    if play.index == len(play.scenes):
        return replace(play, phase=Phase.OVER), (Narrate("that was all; the host never stopped"), End())
    return replace(play, phase=Phase.ANNOUNCED), (Narrate(play.scene.says),)


def give_up(play: Play, why: str) -> Step:
    """The play when an act could not be performed."""
    return (play, ()) if play.phase is Phase.OVER else _fail(play, why)


def _fail(play: Play, why: str) -> Step:
    outcome = Outcome(play.scene.title, why, passed=False)
    over = replace(play, phase=Phase.OVER, outcomes=(*play.outcomes, outcome))
    return over, (Narrate(f"the demo failed: {why}"), End())
