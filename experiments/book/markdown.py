"""Markdown to HTML: CommonMark with tables, formulas between dollar signs, links between chapters, headings."""

import html
import re
from dataclasses import dataclass, field
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

VALUE = re.compile(r"\{\{(.+?)\}\}", re.DOTALL)


@dataclass
class Headings:
    """A page's headings: (level, title, place on the page)."""

    found: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, level: int, title: str) -> str:
        place = re.sub(r"[^\w]+", "-", re.sub(r"\$[^$]*\$", "", title).lower()).strip("-") or "part"
        taken = {p for _, _, p in self.found}
        fresh = next(p for p in (place, *(f"{place}-{k}" for k in range(2, 99))) if p not in taken)
        self.found.append((level, title, fresh))
        return fresh


def python(code: str) -> str:
    """Code, coloured."""
    return highlight(code, PythonLexer(stripnl=False), HtmlFormatter(nowrap=True))


def formula(latex: str, display: bool = False) -> str:
    """LaTeX for the page's script to draw."""
    kind = "math display" if display else "math"
    return f'<span class="{kind}">{html.escape(latex.strip())}</span>'


class Writer:
    """Turns the prose of one page into HTML.

    Args:
      public: name in code -> address of its entry in the reference.
    """

    def __init__(self, public: dict[str, str] | None = None) -> None:
        self.headings = Headings()
        self.public = public or {}
        self.md = MarkdownIt("commonmark", {"html": False}).enable("table")
        self.md.inline.ruler.before("escape", "math", _math)
        self.md.add_render_rule("math", lambda _, tokens, i, *__: formula(tokens[i].content, bool(tokens[i].markup)))
        self.md.add_render_rule("code_inline", lambda _, tokens, i, *__: self._code(tokens, i))
        self.md.core.ruler.push("places", self._places)

    def write(self, text: str) -> str:
        return self.md.render(text)

    def line(self, text: str) -> str:
        """One line, without a paragraph around it."""
        return self.md.renderInline(text)

    def _code(self, tokens: Any, i: int) -> str:
        name = tokens[i].content
        shown = f"<code>{html.escape(name)}</code>"
        within = i > 0 and tokens[i - 1].type == "link_open"
        if name in self.public and not within:
            return f'<a class="api" href="{self.public[name]}">{shown}</a>'
        return shown

    def _places(self, state: Any) -> None:
        for k, token in enumerate(state.tokens):
            if token.type == "heading_open":
                place = self.headings.add(int(token.tag[1]), state.tokens[k + 1].content)
                token.attrSet("id", place)
            for child in token.children or ():
                if child.type == "link_open":
                    child.attrSet("href", re.sub(r"^(\w+)\.md(?=#|$)", r"\1.html", str(child.attrGet("href"))))


def _math(state: StateInline, silent: bool) -> bool:
    """$...$ and $$...$$; a backslash before the dollar sign makes it one."""
    if state.src[state.pos] != "$":
        return False
    marks = "$$" if state.src.startswith("$$", state.pos) else "$"
    end = state.src.find(marks, state.pos + len(marks))
    if end < 0 or end == state.pos + len(marks):
        return False
    if not silent:
        token = state.push("math", "", 0)
        token.content = state.src[state.pos + len(marks) : end]
        token.markup = "display" if marks == "$$" else ""
    state.pos = end + len(marks)
    return True
