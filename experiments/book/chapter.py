"""A chapter executed: its cells run, its lines verified, its exercises checked, and all of it as HTML."""

import functools
import html
import importlib
import importlib.util
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

from experiments.book import exercises, figures, lines
from experiments.book.cells import CellError, Session, default_settings
from experiments.book.faults import Fault
from experiments.book.markdown import VALUE, Writer, python
from experiments.book.source import Block, Prose, Source
from experiments.book.templates import render
from functional_dl import pages

MOVING = Path(__file__).parent / "moving"


@dataclass
class Chapter:
    """What the site is made of.

    Fields:
      name, title, question: of the source.
      body: HTML.  headings: (level, title, place).
      sections: for the search, (place, heading, text).
      derivations: verdicts, (title, lines, comparisons).  experiments: names.
      moving: scripts that the page needs.
      copies: pictures of experiments, file in the site -> where it is.
      cells: for the notebook, ("markdown" or "code", text, output).
      uses: public names that the chapter's code calls.
      faults: what is wrong; without any, the page is right.
    """

    name: str
    title: str
    question: str
    body: str = ""
    headings: list[tuple[int, str, str]] = field(default_factory=list)
    sections: list[tuple[str, str, str]] = field(default_factory=list)
    derivations: list[tuple[str, int, int]] = field(default_factory=list)
    experiments: list[str] = field(default_factory=list)
    exercises: int = 0
    moving: list[str] = field(default_factory=list)
    copies: dict[str, Path] = field(default_factory=dict)
    cells: list[tuple[str, str, str]] = field(default_factory=list)
    uses: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def execute(source: Source, results: Path, public: dict[str, str] | None = None) -> Chapter:
    """Runs a chapter.  All of its faults are found, not the first alone; a cell that fails ends the cells."""
    with default_settings():
        return _Run(source, results, public or {}).run()


class _Run:
    def __init__(self, source: Source, results: Path, public: dict[str, str]) -> None:
        self.source, self.results = source, results
        self.writer = Writer(public)
        self.session = Session(source.name)
        self.chapter = Chapter(source.name, source.title, source.question)
        self.broken = False  # a cell failed: what comes after it cannot be judged
        self.handlers: dict[str, Callable[[Block], str]] = {
            "python": self.cell,
            "derivation": self.derivation,
            "experiment": self.experiment,
            "moving": self.moving,
            "exercise": self.exercise,
        }

    def run(self) -> Chapter:
        written = []
        for part in self.source.parts:
            if self.broken:
                break
            written.append(self.prose(part) if isinstance(part, Prose) else self.block(part))
        chapter = self.chapter
        chapter.body = "\n".join(written)
        chapter.headings = self.writer.headings.found
        chapter.sections = _sections(chapter)
        chapter.uses = _uses("\n".join(self.session.cells))
        return chapter

    def fault(self, place: str, message: str) -> str:
        self.chapter.faults.append(Fault(self.source.name, place, message))
        return ""

    def prose(self, prose: Prose) -> str:
        def value(match: re.Match) -> str:
            try:
                return str(self.session.value(match[1]))
            except CellError as error:
                return self.fault(f"text (line {prose.line})", f"{{{{{match[1]}}}}}: {error}")

        text = VALUE.sub(value, prose.text).strip()
        self.chapter.cells.append(("markdown", text, ""))
        return self.writer.write(text)

    def block(self, block: Block) -> str:
        try:
            handler = self.handlers.get(block.kind, self.plain)
            return handler(block)
        except Exception as error:
            said = str(error) if isinstance(error, CellError | ValueError) else f"{type(error).__name__}: {error}"
            if block.kind in ("python", "moving"):
                self.broken = True
            return self.fault(block.place, said)

    def plain(self, block: Block) -> str:
        return f"<pre><code>{html.escape(block.body)}</code></pre>"

    def cell(self, block: Block) -> str:
        kind, _, caption = block.rest.partition(" ")
        if block.rest and kind != "picture":
            raise ValueError(f"expected python or python picture CAPTION, got python {block.rest}")
        code = block.body.rstrip("\n")
        with matplotlib.rc_context(figures.RC):
            outcome = self.session.run(code)
        if kind != "picture":
            self.chapter.cells.append(("code", code, outcome.text))
            return render("cell.html", code=python(code), output=outcome.text)
        if not hasattr(outcome.value, "savefig"):
            raise ValueError(f"expected a figure as the value of the last line, got {type(outcome.value).__name__}")
        self.chapter.cells.append(("code", code, ""))
        picture = figures.to_svg(outcome.value, _words(caption), f"p{block.number}")
        return render("picture.html", picture=picture, caption=self.writer.line(caption), code=python(code))

    def derivation(self, block: Block) -> str:
        name, _, option = block.rest.partition(" ")
        if option not in ("", "folded"):
            raise ValueError(f"expected derivation NAME or derivation NAME folded, got derivation {block.rest}")
        if name:
            shown = _of_library(name)
        else:
            shown = lines.of_chapter(block.body, self.session.names, f"{self.source.name}_{block.number}")
        if shown.wrong:
            self.fault(f"{block.place}: {shown.derivation.title}", shown.wrong)
        d, report = shown.derivation, shown.report
        self.chapter.derivations.append((d.title, len(d.steps), len(report.comparisons)))
        self.chapter.cells.append(("markdown", d.to_markdown(), ""))
        place = self.writer.headings.add(4, d.title)
        return render(
            "derivation.html", d=d, report=report, place=place, chains=shown.chains(), line=self.writer.line,
            python=python, called=shown.called, own=not name, folded=bool(option),
        )  # fmt: skip

    def experiment(self, block: Block) -> str:
        name = block.rest
        claim = _claim(name)
        self.chapter.experiments.append(name)
        path = self.results / name / "result.json"
        entry = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        if entry is not None and entry["status"] != "done":
            entry = None
        pictures = []
        if entry is not None:
            wanted = block.body.split() or [entry["pictures"][0]["file"].removesuffix(".png")]
            for picture in entry["pictures"]:
                if picture["file"].removesuffix(".png") in wanted:
                    file = f"pictures/{name}_{picture['file']}"
                    self.chapter.copies[file] = self.results / name / picture["file"]
                    pictures.append({"file": file, "caption": picture["caption"]})
        return render("experiment.html", name=name, claim=claim, entry=entry, pictures=pictures, cell=_cell)

    def moving(self, block: Block) -> str:
        name, _, caption = block.rest.partition(" ")
        if not (MOVING / f"{name}.js").exists():
            raise ValueError(f"no moving picture {name!r}")
        code = block.body.rstrip("\n")
        outcome = self.session.run(code)
        if not isinstance(outcome.value, dict):
            raise ValueError(f"expected a dictionary of numbers, got {type(outcome.value).__name__}")
        if name not in self.chapter.moving:
            self.chapter.moving.append(name)
        self.chapter.cells.append(("code", code, ""))
        return render(
            "moving.html", name=name, caption=self.writer.line(caption), words=_words(caption), code=python(code),
            data=pages.island(_plain(outcome.value)),
        )  # fmt: skip

    def exercise(self, block: Block) -> str:
        exercise = exercises.read(block.body, self.session.value)
        self.chapter.exercises += 1
        number = self.chapter.exercises
        self.chapter.cells.append(
            ("markdown", f"**Exercise {number}.** {exercise.question}\n\n*Solution.* {exercise.solution}", "")
        )
        return render("exercise.html", exercise=exercise, number=number, write=self.writer.write, line=self.writer.line)


@functools.cache
def _of_library(name: str) -> lines.Shown:
    return lines.of_library(name)


def _claim(name: str) -> str:
    """An experiment's claim.  Raises ValueError for an unknown name."""
    if importlib.util.find_spec(f"experiments.{name}") is None:
        raise ValueError(f"no experiment {name!r}")
    return importlib.import_module(f"experiments.{name}").CLAIM


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(data: Any) -> Any:
    """Numbers and lists, of what cells return."""
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if hasattr(data, "tolist"):
        return _plain(data.tolist())
    return float(f"{data:.7g}") if isinstance(data, float) else data


def _words(text: str) -> str:
    """A caption as an image's description: without marks."""
    return re.sub(r"[$`*\\{}]", "", text)


def _sections(chapter: Chapter) -> list[tuple[str, str, str]]:
    """The text between headings, for the search."""
    found = []
    places = [(m.start(), m[1]) for m in re.finditer(r'<h[23] id="([^"]+)"', chapter.body)]
    titles = {place: title for _, title, place in chapter.headings}
    bounds = [(0, ""), *places]
    for (start, place), (end, _) in zip(bounds, [*bounds[1:], (len(chapter.body), "")]):
        part = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", chapter.body[start:end], flags=re.DOTALL)
        text = html.unescape(re.sub(r"<[^>]+>", " ", part))
        found.append((place, titles.get(place, chapter.title), " ".join(text.split())))
    return found


def _uses(code: str) -> list[str]:
    """room.name of every public name that code calls by its room."""
    import functional_dl

    found = set()
    for room, name in re.findall(r"\b(\w+)\.(\w+)", code):
        module = getattr(functional_dl, room, None)
        if inspect.ismodule(module) and name in getattr(module, "__all__", ()):
            found.add(f"{room}.{name}")
    return sorted(found)
