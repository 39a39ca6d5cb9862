"""An explanation as Markdown, with formulas between dollars."""

from __future__ import annotations

from functional_dl.explain.explanation import Explanation, Step, Value
from functional_dl.explain.formulas import overview
from functional_dl.explain.formulas.ledger import quantity


def render(explanation: Explanation) -> str:
    """Head, arguments, the steps under headings of their groups, the backward pass's sums, the ledger."""
    e = explanation
    lines = [f"# Value and cotangents of `{e.name}`", ""]
    if e.source:
        lines += ["```python", e.source.rstrip(), "```", ""]
    lines += [overview.checks(e) + ".", "", "| value | | type | norm | cotangent's norm |", "|---|---|---|---:|---:|"]
    lines += [_value(e.values[n]) for n in dict.fromkeys((*e.inputs, *e.outputs))]
    lines.append("")
    steps = {step.index: step for step in e.steps}
    seen: tuple[str, ...] = ()
    for step in steps.values():
        lines += _headings(seen, step.group)
        seen = step.group
        lines += _step(e, step, 0)
    lines += ["## Costs", "", e.ledger.to_markdown(), ""]
    return "\n".join(lines)


def _headings(before: tuple[str, ...], group: tuple[str, ...]) -> list[str]:
    """Headings of the groups that begin here."""
    if not group and before:
        return ["## in the function itself", ""]
    same = 0
    while same < min(len(before), len(group)) and before[same] == group[same]:
        same += 1
    return [text for depth in range(same, len(group)) for text in (f"{'#' * min(depth + 2, 5)} {group[depth]}", "")]


def _step(e: Explanation, step: Step, depth: int) -> list[str]:
    pad = "  " * depth
    place = f" ({step.source[0]})" if step.source else ""
    lines = [f"{pad}- **{step.index}** `{step.title}`{place}", ""]
    inner = pad + "  "
    lines += [f"{inner}$${step.forward_latex}$$", ""]
    for formula in step.backward_latex:
        lines += [f"{inner}$${formula}$$", ""]
    if step.check is not None:
        mark = "agrees" if step.check.passed else "DISAGREES"
        lines += [
            f"{inner}{mark} with the {step.check.oracle}: error {step.check.error:.1e}, "
            f"{step.check.tolerance:.1e} allowed. {quantity(step.flops, 'FLOP')} forward, "
            f"{quantity(step.backward_flops, 'FLOP')} backward.",
            "",
        ]
    for fan_in in step.fan_ins:
        terms = ", ".join("the given cotangent" if t is None else f"step {t}" for t in fan_in.terms)
        lines += [f"{inner}Fan-in sum: $${fan_in.latex}$$ from {terms}.", ""]
    if step.body:
        lines += [f"{inner}Its program" + (f", {step.trips} times (the last pass):" if step.trips > 1 else ":"), ""]
        for below in step.body:
            lines += _step(e, below, depth + 1)
    return lines


def _value(value: Value) -> str:
    norms = [f"{s.norm:.4g}" if s is not None else "" for s in (value.summary, value.ct_summary)]
    shape = ", ".join(map(str, value.shape))
    label = f"`{value.label or value.name}`"
    return f"| ${value.latex}$ | {label} | {value.dtype}[{shape}] | {norms[0]} | {norms[1]} |"
