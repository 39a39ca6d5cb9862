"""results/index.html: every result in one file that needs nothing else."""

import base64
import json
from html import escape
from pathlib import Path

from experiments.framework import store
from functional_dl import pages

STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
TEMPLATE = '{% include "head.html" %}\n<body>\n{{ body | safe }}\n</body>\n</html>\n'
MARK = {True: ("yes", "borne out"), False: ("no", "not borne out")}


def write(results: Path) -> Path:
    """Builds the page from every results/*/result.json that is complete."""
    path = results / "index.html"
    store.write_file(path, render(results))
    return path


def render(results: Path) -> str:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("[!.]*/result.json"))]
    held = sum(entry["verdict"] for entry in found)
    rows = "".join(_overview_row(entry) for entry in found)
    sections = "".join(_section(entry, results / entry["name"]) for entry in found)
    book = '<p><a href="book/index.html">The book</a> explains what they test.</p>' if _has_book(results) else ""
    body = f"""<header>
<h1>functional_dl: experiments</h1>
<p>Each experiment states one claim, measures, and says whether the numbers bear it out:
<strong>{held} of {len(found)}</strong> do. Run them again with <code>python -m experiments</code>.</p>
{book}
<div class="scroll"><table class="overview">
<thead><tr><th>experiment</th><th class="wide">claim</th><th>verdict</th><th class="number">seconds</th></tr></thead>
<tbody>{rows}</tbody></table></div>
</header>
<main>{sections}</main>
"""
    return pages.render(TEMPLATE, title="functional_dl: experiments", text="", style=STYLE, body=body)


def _has_book(results: Path) -> bool:
    return (results / "book" / "index.html").exists()


def _badge(entry: dict) -> str:
    if entry["status"] == "failed":
        return '<span class="badge no">failed to run</span>'
    kind, words = MARK[entry["verdict"]]
    return f'<span class="badge {kind}">{words}</span>'


def _overview_row(entry: dict) -> str:
    name = escape(entry["name"])
    return (
        f'<tr><td><a href="#{name}">{name}</a></td><td class="wide">{escape(entry["claim"])}</td>'
        f'<td>{_badge(entry)}</td><td class="number">{entry["seconds"]:.1f}</td></tr>'
    )


def _section(entry: dict, directory: Path) -> str:
    name = escape(entry["name"])
    parts = [
        f'<section id="{name}"><h2>{name} {_badge(entry)}</h2>',
        f'<p class="claim">{escape(entry["claim"])}</p>',
    ]
    if entry["status"] == "failed":
        parts.append(f'<p class="error">{escape(entry["error"])}</p><p>Traceback: {name}/traceback.txt</p>')
    else:
        parts += [
            _checks(entry["checks"]),
            _pages(entry),
            _numbers(entry["numbers"]),
            "".join(_picture(picture, directory) for picture in entry["pictures"]),
            _table(entry["table"]),
        ]
    parts += [_about(entry["about"]), _settings(directory), "</section>"]
    return "\n".join(parts)


def _checks(checks: list[dict]) -> str:
    items = "".join(
        f'<li class="{MARK[check["holds"]][0]}"><span class="sign" aria-label="{MARK[check["holds"]][1]}">'
        f"{'✓' if check['holds'] else '✗'}</span> {escape(check['statement'])}: "
        f"<strong>{escape(check['measured'])}</strong></li>"
        for check in checks
    )
    return f'<ul class="checks">{items}</ul>'


def _numbers(numbers: dict) -> str:
    cards = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(_cell(value))}</dd></div>" for name, value in numbers.items()
    )
    return f'<dl class="numbers">{cards}</dl>'


def _pages(entry: dict) -> str:
    """A link to the first of the result's own pages, which links to the others."""
    pages = entry.get("pages", [])
    if not pages:
        return ""
    return f'<p><a href="{escape(entry["name"])}/{escape(pages[0])}">Look at it: {len(pages)} pages</a></p>'


def _picture(picture: dict, directory: Path) -> str:
    image = base64.b64encode((directory / picture["file"]).read_bytes()).decode()
    caption = escape(picture["caption"])
    return (
        f'<figure><img src="data:image/png;base64,{image}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )


def _table(table: dict) -> str:
    first = table["rows"][0] if table["rows"] else table["columns"]
    columns = zip(table["columns"], first, strict=True)
    head = "".join(f"<th{_align(cell)}>{escape(str(column))}</th>" for column, cell in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td{_align(cell)}>{escape(_cell(cell))}</td>" for cell in row) + "</tr>"
        for row in table["rows"]
    )
    body = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    if len(table["rows"]) <= 12:
        return body
    return f"<details><summary>Table of {len(table['rows'])} rows</summary>{body}</details>"


def _about(about: str) -> str:
    paragraphs = "".join(f"<p>{escape(part)}</p>" for part in about.split("\n\n"))
    return f"<details><summary>How it is measured</summary>{paragraphs}</details>"


def _settings(directory: Path) -> str:
    text = (directory / "config.json").read_text(encoding="utf-8")
    return f"<details><summary>Settings and environment</summary><pre>{escape(text)}</pre></details>"


def _align(cell) -> str:
    return ' class="number"' if isinstance(cell, (int, float)) and not isinstance(cell, bool) else ""


def _cell(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    return "" if value is None else str(value)
