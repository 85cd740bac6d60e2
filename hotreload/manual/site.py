"""Pages of the manual: Markdown to HTML in one plain frame, links between sources turned into links between pages."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterable
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

STYLE = """\
body { max-width: 56rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #222; }
pre { background: #f5f5f2; padding: .7rem; overflow-x: auto; } code { font-size: .9em; } a { color: #0550ae; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { border: 1px solid #ccc; padding: .3rem .6rem; text-align: left; vertical-align: top; }
.side { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; } img { max-width: 100%; }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #ddd; } pre { background: #222; }
  a { color: #79b8ff; } td, th { border-color: #444; } }
"""
_WIDE = "@media (min-width: 60rem) { body { max-width: 80rem; } }\n"


def escape(text: str) -> str:
    """Text for HTML."""
    return html.escape(text, quote=True)


def slug(text: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


class Site:
    """The pages in one directory.

    Args:
        out: Where they are written.
        root: The checkout that the sources' links are relative to.
    """

    def __init__(self, out: Path, root: Path) -> None:
        self._out = out
        self._root = root.resolve()
        self._titles: dict[str, str] = {}
        self._sources: dict[Path, str] = {}
        self._waiting: list[tuple[Path, str, str]] = []
        self._markdown = MarkdownIt("commonmark", {"html": True}).enable("table")

    def markdown(self, source: Path, name: str, title: str = "", *, after: str = "") -> None:
        """Adds a Markdown file as a page; it is written by `index`, when the pages that it may link to are known.

        Args:
            source: The file.
            name: The page's, relative to the site.
            title: Its title; the first heading by default.
            after: HTML for below that heading.
        """
        text = source.read_text(encoding="utf-8")
        self._titles[name] = title or text.partition("\n")[0].lstrip("# ")
        self._sources[source.resolve()] = name
        self._waiting.append((source.resolve(), name, after))

    def page(self, name: str, title: str, body: str) -> None:
        """Writes a page."""
        self._titles[name] = title
        path = self._out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        home = os.path.relpath(self._out / "index.html", path.parent)
        wide = _WIDE if name.startswith("migrating") else ""
        heading = "" if "<h1" in body else f"<h1>{escape(title)}</h1>\n"
        path.write_text(
            f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width"><title>{escape(title)}: hotreload</title>\n'
            f'<style>\n{STYLE}{wide}</style>\n<p><a href="{home}">hotreload</a></p>\n{heading}{body}</html>\n',
            encoding="utf-8",
        )

    def index(self, *, rust: bool) -> Path:
        """Writes the Markdown pages and the first page; returns that."""
        for source, name, after in self._waiting:
            self.page(name, self._titles[name], self._render(source, name, after))
        hand = [name for name in self._titles if "/" not in name and name not in ("cli.html", "c.html")]
        examples = [name for name in self._titles if name.startswith("examples/")]
        generated = ["cli.html", "c.html", *(["rust/hotreload/index.html"] if rust else []), "codes/index.html"]
        self._titles.setdefault("rust/hotreload/index.html", "The Rust crate")
        lists = [("To read", hand), ("References", generated), ("Examples", examples)]
        schema = '<li><a href="event.json">The JSON schema of events</a></li>'
        body = "".join(
            f"<h2>{title}</h2><ul>{self._items(names)}{schema if title == 'References' else ''}</ul>\n"
            for title, names in lists
        )
        self.page("index.html", "hotreload", body)
        return self._out / "index.html"

    def _items(self, names: Iterable[str]) -> str:
        return "".join(f'<li><a href="{name}">{escape(self._titles[name])}</a></li>' for name in names)

    def _render(self, source: Path, name: str, after: str) -> str:
        tokens = self._markdown.parse(source.read_text(encoding="utf-8"))
        for number, token in enumerate(tokens):
            if token.type == "heading_open":
                token.attrSet("id", slug(tokens[number + 1].content.replace("`", "")))
            for child in token.children or ():
                self._turn(child, source, name)
        body: str = self._markdown.renderer.render(tokens, self._markdown.options, {})
        head, end, rest = body.partition("</h1>")
        return f"{head}{end}\n{after}{rest}" if end else after + body

    def _turn(self, token: Token, source: Path, name: str) -> None:
        """Turns a link to a source into one to its page; what else it links to in the checkout is copied."""
        attribute = {"link_open": "href", "image": "src"}.get(token.type)
        target = str(token.attrGet(attribute) or "") if attribute else ""
        if not attribute or not target or re.match(r"[a-z]+:|#", target):
            return
        path, mark, anchor = target.partition("#")
        file = (source.parent / path).resolve()
        page = self._sources.get(file) or self._sources.get(file / "README.md") or self._copy(file)
        token.attrSet(attribute, os.path.relpath(page, Path(name).parent) + mark + anchor)

    def _copy(self, file: Path) -> str:
        """A file of the checkout, beside the pages; one that is missing is left to the link checker."""
        if not file.is_relative_to(self._root):
            return str(file)
        name = f"files/{file.relative_to(self._root)}"
        if file.is_dir():
            return self._listing(file, name)
        if file.is_file():
            (self._out / name).parent.mkdir(parents=True, exist_ok=True)
            (self._out / name).write_bytes(file.read_bytes())
        return name

    def _listing(self, directory: Path, name: str) -> str:
        pages = [(file, page) for file, page in self._sources.items() if file.is_relative_to(directory)]
        here = f"{name}/index.html"
        items = "".join(
            f'<li><a href="{os.path.relpath(page, Path(here).parent)}">{escape(self._titles[page])}</a></li>'
            for _, page in pages
        )
        self.page(here, directory.name, f"<ul>{items}</ul>")
        del self._titles[here]
        return here
