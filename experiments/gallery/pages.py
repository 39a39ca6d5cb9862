"""The gallery's pages as text: an index of all derivations, and a page an example."""

from pathlib import Path
from typing import Any

from experiments.gallery.examples import EXAMPLES
from functional_dl import derivations, explain, pages
from functional_dl.derivations import families
from functional_dl.derivations.show import chain_title
from functional_dl.explain.explanation import Explanation

HERE = Path(__file__).parent


def build(reports: dict[str, Any], explanations: dict[str, Explanation]) -> dict[str, str]:
    """index.html and the examples' pages, file name -> text."""
    return {"index.html": index(reports), **{f"{name}.html": e.to_html() for name, e in explanations.items()}}


def explanations() -> dict[str, Explanation]:
    """Each example explained."""
    return {example.name: explain.explain(example.fun, *example.arguments()) for example in EXAMPLES}


def index(reports: dict[str, Any]) -> str:
    """All derivations that were verified, with what each line was held to."""
    mathematics, mathematics_style = pages.mathematics()
    own = lambda name: (HERE / name).read_text(encoding="utf-8")
    return pages.render(
        own("index.html"),
        title="functional_dl: derivations",
        text="\n".join(map(str, reports.values())),
        style=mathematics_style + own("index.css"),
        scripts=[mathematics, own("index.js")],
        families=_families(reports),
        examples=EXAMPLES,
        count=len(reports),
        lines=sum(len(report.steps) for report in reports.values()),
        comparisons=sum(len(report.comparisons) for report in reports.values()),
        wrong=sum(not report.passed for report in reports.values()),
    )


def _families(reports: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for family, members in families.load().items():
        entries = [_entry(derivation, reports[derivation.name]) for derivation in members if derivation.name in reports]
        if entries:
            found.append({"title": family.replace("_", " ").capitalize(), "entries": entries})
    return found


def _entry(derivation: derivations.Derivation, report: derivations.Verification) -> dict[str, Any]:
    chains = []
    for chain, places in derivation.chains.items():
        title = chain_title(derivation, chain) if len(derivation.chains) > 1 else ""
        chains.append({"title": title, "lines": [_line(derivation.steps[i], i + 1, report) for i in places]})
    worst = max((c.error for c in report.comparisons), default=0.0)
    return {"derivation": derivation, "report": report, "chains": chains, "worst": _short(worst)}


def _line(step: derivations.Step, number: int, report: derivations.Verification) -> dict[str, Any]:
    held = [
        {"against": c.against, "error": _short(c.error), "tolerance": _short(c.tolerance), "passed": c.passed}
        for c in report.of_line(number)
    ]
    worst = max((c for c in report.of_line(number)), key=lambda c: (not c.passed, c.error), default=None)
    return {
        "number": number,
        "latex": step.latex,
        "reason": step.reason,
        "held": held,
        "passed": all(c["passed"] for c in held),
        "worst": "" if worst is None else _short(worst.error),
    }


def _short(error: float) -> str:
    return f"{error:.1e}" if error else "0"
