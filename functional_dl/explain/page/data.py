"""What the page shows, as plain data: the explanation's numbers, formulas and texts."""

from __future__ import annotations

import re
from typing import Any

from functional_dl.explain.explanation import Check, Explanation, Group, Step, Summary, Value

MOST_SOURCE = 20_000  # characters of the function's text


def collect(explanation: Explanation) -> dict[str, Any]:
    """Everything that the page knows."""
    e = explanation
    texts: dict[str, int] = {}
    steps = [_step(step, texts) for step in e.steps]
    return {
        "name": e.name,
        "source": e.source[:MOST_SOURCE],
        "inputs": list(e.inputs),
        "outputs": list(e.outputs),
        "arguments": _arguments(e),
        "ledger": {
            "forward": e.ledger.forward_flops,
            "backward": e.ledger.backward_flops,
            "ratio": e.ledger.ratio,
            "kept": e.ledger.residual_bytes,
            "peak": e.ledger.peak_bytes,
            "xla": e.ledger.xla_flops,
        },
        "checks": _checks(e),
        "values": {number: _value(value) for number, value in e.values.items()},
        "steps": steps,
        "groups": [_group(group) for group in e.groups],
        "loose": list(e.loose),
        "derivations": list(texts),
    }


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


def _step(step: Step, texts: dict[str, int]) -> dict[str, Any]:
    return {
        "index": step.index,
        "primitive": step.primitive,
        "title": step.title,
        "label": step.label,
        "source": list(step.source),
        "line": step.line,
        "group": list(step.group),
        "inputs": list(step.inputs),
        "outputs": list(step.outputs),
        "forward": step.forward_latex,
        "backward": list(step.backward_latex),
        "derivation": texts.setdefault(step.derivation, len(texts)),
        "linear": step.linear,
        "flops": step.flops,
        "backwardFlops": step.backward_flops,
        "kept": step.bytes_kept,
        "check": None if step.check is None else _check(step.check),
        "fanIns": [{"value": m.value, "terms": list(m.terms), "latex": m.latex} for m in step.fan_ins],
        "trips": step.trips,
        "arguments": list(step.arguments),
        "body": [_step(inner, texts) for inner in step.body],
    }


def _check(check: Check) -> dict[str, Any]:
    return {"passed": bool(check.passed), "error": check.error, "tolerance": check.tolerance, "oracle": check.oracle}


def _group(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "steps": list(group.steps),
        "children": [_group(child) for child in group.children],
        "flops": group.flops,
        "backwardFlops": group.backward_flops,
        "kept": group.bytes_kept,
    }


def _value(value: Value) -> dict[str, Any]:
    return {
        "name": value.name,
        "latex": value.latex,
        "label": value.label,
        "shape": [str(size) if not isinstance(size, int) else size for size in value.shape],
        "dtype": value.dtype,
        "bytes": value.bytes,
        "role": value.role,
        "kept": value.kept,
        "differentiated": value.differentiated,
        "summary": _summary(value.summary),
        "cotangent": _summary(value.ct_summary),
        "text": value.text,
        "cotangentText": value.ct_text,
    }


def _summary(summary: Summary | None) -> dict[str, Any] | None:
    if summary is None:
        return None
    return {
        "norm": summary.norm,
        "low": summary.low,
        "high": summary.high,
        "mean": summary.mean,
        "nonfinite": summary.nonfinite,
        "special": summary.special,
    }
