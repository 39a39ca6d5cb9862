"""The site of executed chapters: pages, scripts, styles, notebooks and the index of the search."""

import json
import platform
import shutil
import tempfile
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.book import links, notebook
from experiments.book.chapter import MOVING, Chapter
from experiments.book.contents import Part
from experiments.book.docstrings import items, prose, session
from experiments.book.faults import Fault
from experiments.book.markdown import Writer, python
from experiments.book.reference import Room
from experiments.book.templates import file, render
from functional_dl import pages

MAP = Path(__file__).parent / "map.md"
SCRIPTS = ("theme.js", "book.js", "plot.js")


def files(parts: Sequence[Part], chapters: dict[str, Chapter], rooms: Sequence[Room] = ()) -> dict[str, bytes]:
    """Address in the site -> content."""
    texts = _assets(chapters, rooms) | _pages(parts, chapters, rooms)
    texts |= {f"notebooks/{name}.ipynb": notebook.to_json(chapter) for name, chapter in chapters.items()}
    found = {address: text.encode() for address, text in texts.items()}
    for chapter in chapters.values():
        found |= {address: path.read_bytes() for address, path in chapter.copies.items()}
    return found


def dead_links(site: dict[str, bytes]) -> list[Fault]:
    pages = {address: content.decode() for address, content in site.items() if address.endswith(".html")}
    return [
        Fault(page.removesuffix(".html"), "link", f"{link} leads nowhere")
        for page, link in links.dead(pages, set(site))
    ]


def _pages(parts: Sequence[Part], chapters: dict[str, Chapter], rooms: Sequence[Room]) -> dict[str, str]:
    listed = _contents(parts, chapters, rooms)
    order = [entry for part in listed for entry in part["entries"]]
    line = Writer().line
    common = {"contents": listed, "line": line, "made": _made(), "moving": []}
    written = {}
    for part in listed:
        for entry in part["entries"]:
            at = order.index(entry)
            turn = {
                "before": order[at - 1] if at else None,
                "after": order[at + 1] if at + 1 < len(order) else None,
            }
            values = common | turn | {"here": entry["href"], "title": entry["title"], "part": part["title"]}
            if part["chapters"]:  # a room may have a chapter's name
                chapter = chapters[entry["name"]]
                written[entry["href"]] = render(
                    "chapter.html", **values | {"moving": chapter.moving}, root="", kind="chapter", body=chapter.body,
                    question=chapter.question, headings=chapter.headings, notebook=f"notebooks/{chapter.name}.ipynb",
                )  # fmt: skip
            else:
                room = next(room for room in rooms if room.name == entry["name"])
                written[entry["href"]] = render(
                    "reference.html", **values, root="../", kind="reference", room=room, headings=(),
                    question=room.summary, write=Writer(), python=python, session=session, prose=prose, items=items,
                    chapters_of=lambda name: [(c.name, c.title) for c in chapters.values() if name in c.uses],
                )  # fmt: skip
    written["index.html"] = render(
        "index.html", **common, here="index.html", title="The book", root="", kind="front", headings=(), before=None,
        after=order[0] if order else None, facts=_facts(chapters, rooms),
        map=Writer().write(MAP.read_text(encoding="utf-8")),
        reference=[entry for part in listed if not part["chapters"] for entry in part["entries"]],
    )  # fmt: skip
    return written


def _contents(parts: Sequence[Part], chapters: dict[str, Chapter], rooms: Sequence[Room]) -> list[dict[str, Any]]:
    listed, first = [], 1
    for part in parts:
        entries = [
            {"name": name, "title": chapters[name].title, "question": chapters[name].question, "href": f"{name}.html"}
            for name in part.chapters
            if name in chapters
        ]
        if entries:
            listed.append({"title": part.title, "entries": entries, "first": first, "chapters": True})
            first += len(entries)
    if rooms:
        entries = [
            {"name": room.name, "title": room.name, "question": room.summary, "href": f"reference/{room.name}.html"}
            for room in rooms
        ]
        listed.append({"title": "Reference", "entries": entries, "first": 1, "chapters": False})
    return listed


def _assets(chapters: dict[str, Chapter], rooms: Sequence[Room]) -> dict[str, str]:
    mathematics, mathematics_style = pages.mathematics()
    style = mathematics_style + pages.asset("tokens.css") + file("book.css")
    found = {"assets/temml.js": mathematics, "assets/book.css": style, "assets/search.js": _search(chapters, rooms)}
    found |= {f"assets/{name}": file(name) for name in SCRIPTS}
    found["assets/book.js"] = pages.asset("combobox.js") + found["assets/book.js"]
    moving = {name for chapter in chapters.values() for name in chapter.moving}
    return found | {f"assets/moving_{name}.js": (MOVING / f"{name}.js").read_text(encoding="utf-8") for name in moving}


def _search(chapters: dict[str, Chapter], rooms: Sequence[Room]) -> str:
    """A script that gives the index: a page read from a disk may not fetch a file, but may load a script."""
    entries = [
        [f"{chapter.name}.html" + (f"#{place}" if place else ""), chapter.title, heading, text]
        for chapter in chapters.values()
        for place, heading, text in chapter.sections
    ]
    entries += [
        [f"reference/{room.name}.html#{entry.name}", room.name, f"{room.name}.{entry.name}", entry.text]
        for room in rooms
        for entry in room.entries
    ]
    return f"window.BOOK_SEARCH = {json.dumps(entries, ensure_ascii=False, separators=(',', ':'))};\n"


def _facts(chapters: dict[str, Chapter], rooms: Sequence[Room]) -> str:
    cells = sum(kind == "code" for chapter in chapters.values() for kind, _, _ in chapter.cells)
    derivations = [found for chapter in chapters.values() for found in chapter.derivations]
    exercises = sum(chapter.exercises for chapter in chapters.values())
    text = (
        f"{len(chapters)} chapters: {cells} pieces of code were run, {len(derivations)} derivations verified "
        f"({sum(lines for _, lines, _ in derivations)} lines, {sum(c for _, _, c in derivations)} comparisons), "
        f"{exercises} exercises checked."
    )
    return text + (f" The reference has {sum(len(room.entries) for room in rooms)} names." if rooms else "")


def _made() -> str:
    return f"Built on {date.today().isoformat()} with JAX {version('jax')} and Python {platform.python_version()}."


def write(site: dict[str, bytes], target: Path) -> None:
    """Into target, which is replaced as a whole when all is written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        fresh.chmod(0o755)
        for address, content in site.items():
            path = fresh / address
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if target.exists():
            shutil.rmtree(target)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
