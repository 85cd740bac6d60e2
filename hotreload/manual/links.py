"""Finds links that lead nowhere in a folder of HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//")


class _Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.append(value)
            elif value and name in ("id", "name"):
                self.anchors.add(value)


def dead(directory: Path) -> list[str]:
    """Every link to a file or an anchor that is not there, as ``page: link``. Other sites are not asked."""
    directory = directory.resolve()
    pages = {path: _parse(path) for path in sorted(directory.rglob("*.html"))}
    return [
        f"{path.relative_to(directory)}: {link}"
        for path, page in pages.items()
        for link in page.links
        if not _ELSEWHERE.match(link) and not _leads_somewhere(path, link, pages, directory)
    ]


def _parse(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _leads_somewhere(path: Path, link: str, pages: dict[Path, _Page], directory: Path) -> bool:
    name, _, anchor = link.partition("#")
    target = (path.parent / unquote(name.partition("?")[0])).resolve() if name else path.resolve()
    if target.is_dir():
        target = target / "index.html"
    if not target.is_file():
        return False
    page = pages.get(target)
    # rustdoc marks lines of its source views by itself.
    known = page is None or anchor in page.anchors or unquote(anchor) in page.anchors
    return not anchor or known or directory / "rust" / "src" in target.parents
