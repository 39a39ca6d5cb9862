"""Docstrings as HTML: paragraphs, formulas that stand by themselves, arguments with their descriptions, examples."""

import html
import inspect
import re

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonConsoleLexer

ITEM = re.compile(r"^(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*):\s+", re.MULTILINE)


def prose(text: str) -> str:
    """Paragraphs; indented ones, and lines that are a formula, as they are set in the docstring."""
    written = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        if not paragraph.strip():
            continue
        if paragraph.startswith("    ") or _formula(paragraph):
            written.append(f'<pre class="formula">{html.escape(inspect.cleandoc(paragraph))}</pre>')
        else:
            written.append(f"<p>{_line(paragraph)}</p>")
    return "\n".join(written)


def items(text: str) -> str:
    """The text of a section: a list where it describes names, each on a line of its own."""
    found = list(ITEM.finditer(text))
    if not found or found[0].start() != 0:
        return prose(text)
    ends = [match.start() for match in found[1:]] + [len(text)]
    shown = "".join(
        f"<li><code>{html.escape(match[1])}</code>: {_line(text[match.end() : end])}</li>"
        for match, end in zip(found, ends)
    )
    return f'<ul class="items">{shown}</ul>'


def session(example: str) -> str:
    """A doctest, coloured."""
    return highlight(example, PythonConsoleLexer(), HtmlFormatter(nowrap=True))


def _formula(paragraph: str) -> bool:
    """A short paragraph whose lines are equations: few words, and a sign between two sides."""
    words = re.findall(r"[A-Za-z]{4,}", paragraph)
    return bool(re.search(r"[=<>~]", paragraph)) and len(words) <= 1 + len(re.findall(r"[=<>~+*/^|()]", paragraph)) // 3


def _line(text: str) -> str:
    shown = html.escape(" ".join(text.split()))
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", shown)
