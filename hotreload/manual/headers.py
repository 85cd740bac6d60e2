"""The reference of the C headers: every declaration with the comment above it, names linked to their declarations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hotreload.manual.site import escape

_COMMENT = re.compile(r"/\*(.*?)\*/", re.DOTALL)
_NAME = re.compile(r"\b((?:hr|HR|HOTPATCH|HOTRELOAD)_\w+)\b")
_SKIPPED = re.compile(
    r"#\s*(?:ifndef|ifdef|endif|include|if|else|elif|pragma|undef)\b.*|#define \w+_H|extern \"C\" \{|\}|/\* ---- .*"
)
_DECLARED = (
    re.compile(r"^#\s*define\s+(\w+)", re.MULTILINE),
    re.compile(r"^typedef\s.*?\b(\w+)\s*;\s*(?:/\*.*\*/)?\s*\Z", re.DOTALL),
    re.compile(r"^typedef struct \w+ (\w+);", re.MULTILINE),
    re.compile(r"\(\*(\w+)\)\s*\(", re.DOTALL),
    re.compile(r"^\s{4}(HR_\w+)\s*(?:=|,|$)", re.MULTILINE),
    re.compile(r"^[\w\s*]*?\b(hr_\w+)\s*\(", re.MULTILINE),
    re.compile(r"^(?:extern|static)\b[^(;]*?\b(hr_\w+)\s*(?:=|;|\[)", re.MULTILINE),
)


@dataclass(frozen=True, slots=True)
class Declaration:
    """A piece of a header: what it declares, its text, and the comment above it."""

    names: tuple[str, ...]
    text: str
    comment: str


def body(paths: Sequence[Path]) -> str:
    """All headers."""
    found = {path.name: parse(path.read_text(encoding="utf-8")) for path in paths}
    anchors: dict[str, str] = {}
    for name, (_, declarations) in found.items():
        for each in declarations:
            for symbol in each.names:
                anchors.setdefault(symbol, f"{name}-{symbol}")
    contents = "".join(f'<li><a href="#{name}">hotreload/{name}</a></li>' for name in found)
    return f"<ul>{contents}</ul>\n" + "\n".join(_header(name, *parts, anchors) for name, parts in found.items())


def parse(text: str) -> tuple[str, list[Declaration]]:
    """A header's first comment, and its declarations in order."""
    about = _COMMENT.match(text)
    rest = text[about.end() :] if about else text
    declarations = []
    for block in _blocks(rest):
        comment, lines = _above(block)
        kept = [line for line in lines if not _SKIPPED.fullmatch(line.strip()) or line.startswith("}")]
        code = "\n".join(kept).strip()
        if code and not code.startswith("/*"):
            declarations.append(Declaration(names(code), code, comment))
    return _plain(about[1]) if about else "", declarations


def _blocks(text: str) -> Iterator[str]:
    """The pieces between blank lines, or before a comment; what is inside braces stays together."""
    waiting: list[str] = []
    for piece in re.split(r"\n\s*\n|\n(?=/\*)", text.replace('extern "C" {', "")):
        waiting.append(piece)
        code = _COMMENT.sub("", "\n".join(waiting))
        if code.count("{") <= code.count("}"):
            yield "\n\n".join(waiting)
            waiting = []
    yield from waiting


def names(code: str) -> tuple[str, ...]:
    """What a piece of C declares: macros, types, enumerators, functions and variables."""
    found: dict[str, None] = {}
    inside = re.sub(r"\{.*\}", "{}", code, flags=re.DOTALL) if not code.startswith("typedef enum") else code
    for pattern in _DECLARED:
        for name in pattern.findall(inside):
            if name.startswith(("hr_", "HR_", "HOTPATCH_")) and not name.endswith("_H"):
                found.setdefault(name)
    return tuple(found)


def _above(block: str) -> tuple[str, list[str]]:
    """The comment that a block begins with, and its other lines."""
    text = block.strip("\n")
    comment = _COMMENT.match(text.lstrip())
    if comment is None or text.lstrip()[comment.end() :].split("\n", 1)[0].strip():
        return "", text.split("\n")
    return _plain(comment[1]), text.lstrip()[comment.end() :].split("\n")


def _plain(comment: str) -> str:
    return "\n".join(re.sub(r"^\s*\* ?", "", line).rstrip() for line in comment.strip().split("\n"))


def _header(name: str, about: str, declarations: Sequence[Declaration], anchors: dict[str, str]) -> str:
    parts = [f'<h2 id="{name}">hotreload/{name}</h2>', f"<pre>{_linked(about, anchors)}</pre>"]
    told: set[str] = set()
    for each in declarations:
        # Each name has one anchor: that of its first declaration.
        here = [symbol for symbol in each.names if anchors[symbol] == f"{name}-{symbol}" and symbol not in told]
        told.update(here)
        marks = "".join(f'<a id="{anchors[symbol]}"></a>' for symbol in here)
        words = " ".join(each.comment.split("\n"))
        parts.append(f"{marks}<pre>{_linked(each.text, anchors)}</pre>")
        if words:
            parts.append(f"<p>{_linked(words, anchors)}</p>")
    return "\n".join(parts)


def _linked(text: str, anchors: dict[str, str]) -> str:
    def link(match: re.Match[str]) -> str:
        anchor = anchors.get(match[1])
        return f'<a href="#{anchor}">{match[1]}</a>' if anchor else match[1]

    return _NAME.sub(link, escape(text))
