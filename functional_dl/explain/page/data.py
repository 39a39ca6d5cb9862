"""What the page shows, as plain data: the explanation's records by their own names, and what is counted over them."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from functional_dl.explain.explanation import Explanation, Step

MOST_SOURCE = 20_000  # characters of the function's text


def collect(explanation: Explanation) -> dict[str, Any]:
    """Everything that the page knows."""
    e = explanation
    texts: dict[str, int] = {}  # derivations, each once
    return {
        "name": e.name,
        "source": e.source[:MOST_SOURCE],
        "inputs": list(e.inputs),
        "outputs": list(e.outputs),
        "arguments": _arguments(e),
        "ledger": _plain(dataclasses.replace(e.ledger, rows=()), texts),
        "checks": _checks(e),
        "values": {number: _plain(value, texts) for number, value in e.values.items()},
        "steps": _plain(e.steps, texts),
        "groups": _plain(e.groups, texts),
        "loose": list(e.loose),
        "derivations": list(texts),
    }


def _plain(record: Any, texts: dict[str, int]) -> Any:
    """A record as a dictionary; of a step's derivation the number of its text."""
    if isinstance(record, tuple):
        return [_plain(part, texts) for part in record]
    if not dataclasses.is_dataclass(record):
        number = record.item() if hasattr(record, "item") else record
        return number if number is None or isinstance(number, bool | int | float | str) else str(number)
    found = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    if isinstance(record, Step):
        found["derivation"] = texts.setdefault(record.derivation, len(texts))
    return {name: _plain(value, texts) for name, value in found.items()}


def _checks(e: Explanation) -> dict[str, Any]:
    done = [(i, step.check) for i, step in e.all_steps().items() if step.check is not None]
    return {
        "done": len(done),
        "failed": [i for i, check in done if not check.passed],
        "worst": max((check.error for _, check in done), default=0.0),
    }


def _arguments(e: Explanation) -> list[dict[str, Any]]:
    """The function's arguments: those that are a tree of arrays in one line."""
    found: dict[str, list[int]] = {}
    for number in e.inputs:
        label = e.values[number].label or e.values[number].name
        found.setdefault(re.split(r"[\[/]", label, maxsplit=1)[0], []).append(number)
    return [
        {"name": name, "values": numbers, "bytes": sum(e.values[n].bytes for n in numbers)}
        for name, numbers in found.items()
    ]
