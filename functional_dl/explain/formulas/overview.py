"""An explanation in ten seconds: its outline with costs, and what the checks found."""

from __future__ import annotations

from functional_dl.explain.explanation import Explanation, Group
from functional_dl.explain.formulas.ledger import quantity, share


def render(explanation: Explanation) -> str:
    """A text of a screen."""
    e, ledger = explanation, explanation.ledger
    total = ledger.forward_flops + ledger.backward_flops
    inputs = ", ".join(typed(e, n) for n in e.inputs[:6]) + (", ..." if len(e.inputs) > 6 else "")
    outputs = ", ".join(typed(e, n) for n in e.outputs[:4])
    lines = [
        f"{e.name}({inputs}) -> {outputs}",
        f"{len(e.steps)} steps; value {quantity(ledger.forward_flops, 'FLOP')}, "
        f"cotangents {quantity(ledger.backward_flops, 'FLOP')} (together {ledger.ratio:.2f} times the value); "
        f"{quantity(ledger.residual_bytes, 'B')} kept, {quantity(ledger.peak_bytes, 'B')} at most",
        checks(e),
        "",
    ]
    lines += _outline(e, e.groups, 0, total)
    if e.loose:
        loose = [step for step in e.steps if not step.group]
        costs = sum(step.flops + step.backward_flops for step in loose)
        lines.append(_row("its own steps", len(loose), costs, total, 0))
    return "\n".join(lines)


def typed(e: Explanation, number: int) -> str:
    """A value's name and type: x: float32[3, 4]."""
    value = e.values[number]
    return f"{value.name}: {value.dtype}[{', '.join(map(str, value.shape))}]"


def checks(e: Explanation) -> str:
    """How the checks came out, in a sentence."""
    done = [step for step in e.all_steps().values() if step.check is not None]
    failed = [step for step in done if step.check is not None and not step.check.passed]
    if not done:
        return "no step checked"
    if not failed:
        worst = max(step.check.error for step in done if step.check is not None)
        return f"all {len(done)} rules agree with their oracles at these numbers (largest error {worst:.1e})"
    names = ", ".join(f"step {step.index} ({step.title})" for step in failed[:3])
    return f"{len(failed)} of {len(done)} rules disagree with an oracle: {names}"


def _outline(e: Explanation, groups: tuple[Group, ...], depth: int, total: int) -> list[str]:
    lines = []
    for group in groups:
        lines.append(_row(group.name, len(group.all_steps()), group.flops + group.backward_flops, total, depth))
        if depth < 1:
            lines += _outline(e, group.children, depth + 1, total)
    return lines


def _row(name: str, count: int, costs: int, total: int, depth: int) -> str:
    return f"{'  ' * depth + name:<32}{count:>5} steps {quantity(costs, 'FLOP'):>12} {share(costs, total):>8}"
