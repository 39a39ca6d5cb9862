"""Reading a chapter: its head, and its body as prose and fenced blocks in turn.

A chapter begins with a head in TOML between lines of `+++`: `title`, and `question`, which the chapter answers.  Blocks
are fenced by three backquotes and named by the first word after them:

    python             a cell; its output stands below it.  `python picture CAPTION` shows a figure and folds the code.
    derivation NAME    a derivation of the library, `derivation NAME folded` with its lines closed at first; without a
                       name, one that the block writes out (TOML)
    experiment NAME    an experiment's claim, verdict and pictures; the body names the pictures
    moving NAME CAPTION  a moving picture, moving/NAME.js; the body is a cell whose value is its numbers
    exercise           a question whose answer the build checks (TOML)

Any other block is shown as it is.  In prose, `$...$` is LaTeX and `{{ ... }}` a value of the cells above.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from experiments.book.faults import BuildError, Fault

BLOCK = re.compile(r"^```(\w+)?[ \t]*(.*?)\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
HEAD = re.compile(r"\A\+\+\+\n(.*?)^\+\+\+\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Prose:
    """Markdown between two blocks, and the line of the file on which it begins."""

    text: str
    line: int


@dataclass(frozen=True)
class Block:
    """A fenced block: its kind, the rest of its first line, its body, the line on which it begins, and its number
    among the blocks of its kind."""

    kind: str
    rest: str
    body: str
    line: int
    number: int

    @property
    def place(self) -> str:
        """How a message names it: cell 3 (line 41)."""
        return f"{'cell' if self.kind == 'python' else self.kind} {self.number} (line {self.line})"


@dataclass(frozen=True)
class Source:
    """A chapter as it is written."""

    name: str
    title: str
    question: str
    parts: tuple[Prose | Block, ...]


def read(path: Path) -> Source:
    """Raises BuildError where the head is missing or says less than it must."""
    text = path.read_text(encoding="utf-8")
    head = HEAD.match(text)
    if head is None:
        raise BuildError([Fault(path.stem, "head (line 1)", "expected TOML between two lines of +++")])
    try:
        said = tomllib.loads(head[1])
    except tomllib.TOMLDecodeError as error:
        raise BuildError([Fault(path.stem, "head (line 1)", str(error))]) from None
    for field in ("title", "question"):
        if not isinstance(said.get(field), str):
            raise BuildError([Fault(path.stem, "head (line 1)", f"expected {field} = '...'")])
    return Source(path.stem, said["title"], said["question"], _parts(text, head.end()))


def _parts(text: str, start: int) -> tuple[Prose | Block, ...]:
    parts: list[Prose | Block] = []
    counts: dict[str, int] = {}
    for match in BLOCK.finditer(text, start):
        parts.append(Prose(text[start : match.start()], _line(text, start)))
        kind = match[1] or "text"
        counts[kind] = counts.get(kind, 0) + 1
        parts.append(Block(kind, match[2].strip(), match[3], _line(text, match.start()), counts[kind]))
        start = match.end()
    parts.append(Prose(text[start:], _line(text, start)))
    return tuple(part for part in parts if isinstance(part, Block) or part.text.strip())


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
