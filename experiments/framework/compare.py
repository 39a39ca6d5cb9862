"""Two runs beside each other: verdicts, figures, and what differs."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.framework import store

MISSING = "—"


@dataclass(frozen=True)
class Line:
    """One figure of an experiment in both runs."""

    experiment: str
    figure: str
    first: str
    second: str
    difference: str = ""


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Experiment -> its result.json, of a folder of results, or of one result.

    Raises:
      ValueError: there is none.
    """
    one = (folder / "result.json").is_file()
    folders = [folder] if one else [path.parent for path in folder.glob("[!.]*/result.json")]
    found: dict[str, dict[str, Any]] = {}
    for path in folders:
        run = store.read_json(path / "result.json") | store.read_json(path / "config.json")
        found[run["name"]] = run | {"folder": path}
    if not found:
        raise ValueError(f"{folder}: expected a folder with results, found none")
    return dict(sorted(found.items()))


def lines(first: dict[str, dict[str, Any]], second: dict[str, dict[str, Any]]) -> list[Line]:
    """What differs: verdicts, settings, versions, figures; seconds are not looked at."""
    found = []
    for name in sorted(first.keys() | second.keys()):
        a, b = (_figures(run[name]) if name in run else {} for run in (first, second))
        if not a or not b:
            found.append(Line(name, "verdict", a.get("verdict", MISSING), b.get("verdict", MISSING), "in one run only"))
            continue
        for figure in [*a, *(key for key in b if key not in a)]:
            x, y = a.get(figure, MISSING), b.get(figure, MISSING)
            if figure.startswith("made with ") and MISSING in (x, y):  # by a version that noted less
                continue
            if x != y and not (_is_nan(x) and _is_nan(y)):
                found.append(Line(name, figure, _text(x), _text(y), _difference(x, y)))
        difference = _metrics(first[name], second[name])
        if difference is not None:
            found.append(difference)
    return found


def _metrics(first: dict[str, Any], second: dict[str, Any]) -> Line | None:
    """How many records of metrics.jsonl differ, times left out."""
    timed = {*first.get("timed", ()), *second.get("timed", ())}

    def records(run: dict[str, Any]) -> list[str]:
        path = run["folder"] / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = ({k: v for k, v in json.loads(line).items() if k not in timed} for line in lines)
        return [json.dumps(record) for record in kept]

    a, b = records(first), records(second)
    different = sum(x != y for x, y in zip(a, b)) + abs(len(a) - len(b))
    if not different:
        return None
    return Line(first["name"], "metrics", f"{len(a)} records", f"{len(b)} records", f"{different} differ")


def same(first: dict[str, dict[str, Any]], second: dict[str, dict[str, Any]]) -> int:
    """How many experiments are the same in both."""
    different = {line.experiment for line in lines(first, second)}
    return len((first.keys() & second.keys()) - different)


def table(found: Sequence[Line], names: tuple[str, str], width: int | None = None) -> str:
    """The lines as a table that fits the terminal, or of any width."""
    rows = [("experiment", "figure", *names, "difference")]
    rows += [(line.experiment, line.figure, line.first, line.second, line.difference) for line in found]
    limit = width or max(80, shutil.get_terminal_size((160, 40)).columns)
    longest = max(20, (limit - 50) // 3)
    rows = [tuple(_short(cell, longest) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    text = ["  ".join(cell.ljust(size) for cell, size in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([text[0], "  ".join("─" * size for size in widths), *text[1:]])


def _figures(entry: dict[str, Any]) -> dict[str, Any]:
    """Name of a figure -> value: verdict, settings, versions, key figures, checks."""
    if entry["status"] == "failed":
        return {"verdict": "failed to run", "error": entry["error"]}
    found: dict[str, Any] = {"verdict": "borne out" if entry["verdict"] else "not borne out"}
    found |= {f"setting {name}": value for name, value in entry["settings"].items()}
    mark = entry.get("made_with", {"versions": {}})
    found |= {f"made with {name}": value for name, value in mark["versions"].items()}
    found |= {"made with code": mark["code"]} if "code" in mark else {}
    timed = set(entry.get("timed", ()))
    found |= {name: value for name, value in entry["numbers"].items() if name not in timed}
    for check in entry["checks"]:
        words = "holds" if check["holds"] else "does not hold"
        found[check["statement"]] = words if check["statement"] in timed else f"{check['measured']} ({words})"
    return found


def _difference(x: Any, y: Any) -> str:
    numbers = [v for v in (x, y) if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)):
        return ""
    share = f" ({(y - x) / abs(x):+.2%})" if x else ""
    return f"{y - x:+.3g}{share}"


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
