"""results/index.html, a card for each experiment, and results/NAME.html, everything about one.

Pictures and data are the files of results/NAME/; the pages ask for nothing else.
"""

import functools
import json
import os
import re
from datetime import date
from pathlib import Path
from typing import Any

from experiments.framework import store
from functional_dl import pages

HERE = Path(__file__).resolve().parent
TEMPLATES = HERE / "templates"
ROOT = HERE.parents[1]
CHAPTERS = ROOT / "experiments" / "book" / "chapters"
THEME = ROOT / "experiments" / "book" / "templates" / "theme.js"


def write(results: Path, everything: bool = False) -> Path:
    """The front page of every complete results/*/result.json, and the pages of those that are new, or of all."""
    entries = [_entry(path) for path in sorted(results.glob("[!.]*/result.json"))]
    names = [entry["name"] for entry in entries]
    for at, entry in enumerate(entries):
        path, made = results / f"{entry['name']}.html", results / entry["name"] / "result.json"
        if everything or not path.exists() or path.stat().st_mtime < made.stat().st_mtime:
            around = [names[at - 1] if at else None, names[at + 1] if at + 1 < len(names) else None]
            store.write_file(path, one(results, entry, *around))
    path = results / "index.html"
    store.write_file(path, front(results, entries))
    return path


def front(results: Path, entries: list[dict[str, Any]]) -> str:
    """All experiments as cards."""
    failed = sum(entry["status"] == "failed" for entry in entries)
    held = sum(entry["verdict"] for entry in entries)
    filters = [
        ("all", "all", len(entries)),
        ("yes", "borne out", held),
        ("no", "not borne out", len(entries) - held - failed),
    ]
    filters += [("failed", "failed to run", failed)] if failed else []
    shown = [entry | {"text": _text(entry), "figure": _figure(entry)} for entry in entries]
    made = f"Made on {date.today().isoformat()}."
    return _render(
        "front.html", title="Experiments of functional_dl", entries=shown, held=held, filters=filters, made=made,
        book=_has_book(results),
    )  # fmt: skip


def one(results: Path, entry: dict[str, Any], before: str | None = None, after: str | None = None) -> str:
    """Everything about one experiment."""
    name = entry["name"]
    folder, source = results / name, ROOT / "experiments" / f"{name}.py"
    config = (folder / "config.json").read_text(encoding="utf-8")
    environment = json.loads(config)["environment"]
    failed = entry["status"] == "failed"
    return _render(
        "experiment.html", title=f"{name}: an experiment of functional_dl", entry=entry, before=before, after=after,
        book=_has_book(results), results=_place(results), config=config,
        traceback=(folder / "traceback.txt").read_text(encoding="utf-8") if failed else "",
        versions=f"JAX {environment['packages']['jax']}, Python {environment['python']}, {environment['cores']} cores",
        code=source.read_text(encoding="utf-8") if source.is_file() else "", source=f"experiments/{name}.py",
        chapters=[(title, f"book/{file}.html" if (results / "book" / f"{file}.html").exists() else "")
                  for file, title, experiments, _ in _chapters() if name in experiments],
        derived=[(derived, "derivations/index.html" if (results / "derivations" / "index.html").exists() else "")
                 for _, _, experiments, derivations in _chapters() if name in experiments for derived in derivations],
    )  # fmt: skip


def _entry(path: Path) -> dict[str, Any]:
    entry = {"pictures": [], "pages": [], "checks": [], "numbers": {}} | store.read_json(path)
    return entry | {"pictures": [{"dark": "", "pdf": ""} | picture for picture in entry["pictures"]]}


def _figure(entry: dict[str, Any]) -> tuple[str, str] | None:
    """The one figure that matters, (what it is, the figure): the first check that does not hold, or the first."""
    checks = sorted(entry["checks"], key=lambda check: check["holds"])
    return (checks[0]["statement"], checks[0]["measured"]) if checks else None


def _text(entry: dict[str, Any]) -> str:
    """What is searched."""
    words = [entry["name"], entry["claim"], *entry["numbers"]]
    words += [part for check in entry["checks"] for part in (check["statement"], check["measured"])]
    return " ".join(words).lower()


@functools.cache
def _chapters() -> list[tuple[str, str, list[str], list[str]]]:
    """(file, title, experiments, derivations) of each chapter of the book."""
    found = []
    for path in sorted(CHAPTERS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        title = re.search(r'^title = "(.+)"$', text, re.MULTILINE)
        named = lambda kind: re.findall(rf"^```{kind} (\w+)", text, re.MULTILINE)
        found.append((path.stem, title[1] if title else path.stem, named("experiment"), named("derivation")))
    return found


def _place(results: Path) -> str:
    """The folder as a command names it: from the current one, if it lies below."""
    path = os.path.relpath(results)
    return str(results.resolve()) if path.startswith("..") else path


def _has_book(results: Path) -> bool:
    return (results / "book" / "index.html").exists()


@functools.cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        loader=jinja2.ChoiceLoader([jinja2.FileSystemLoader(TEMPLATES), jinja2.FunctionLoader(pages.asset)]),
    )  # fmt: skip
    environment.filters |= {"cell": _cell, "merge": lambda a, b: a | b}
    return environment


def _render(template: str, **values: Any) -> str:
    own = lambda path: path.read_text(encoding="utf-8")
    theme, script = own(THEME), own(TEMPLATES / "results.js")
    policy = pages.policy(theme, script).replace("img-src data:", "img-src 'self' file: data:")
    style = pages.asset("tokens.css") + own(TEMPLATES / "results.css")
    shared = {"policy": policy, "style": style, "theme": theme, "script": script}
    return _environment().get_template(template).render(**shared, **values)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    return "" if value is None else str(value)
