"""A mask, condition or bound is inverted or misplaced."""

import numpy as np

from functional_dl.check.evidence import Evidence, Hypothesis
from functional_dl.check.simulation.program import has_conditions


def test(evidence: Evidence) -> Hypothesis | None:
    """Entries are right, or zero where they should not be, or not zero where they should be, and a condition on a value
    parts the right from the wrong."""
    a, e, bad = evidence.actual, evidence.expected, evidence.bad
    if bad.size < 2 or not evidence.elementwise or not has_conditions(evidence):
        return None
    killed = np.all([x == 0 for x in a], axis=0) & bad
    alive = np.all([np.abs(x) <= t for x, t in zip(e, evidence.tolerance)], axis=0) & bad
    if (killed | alive)[bad].all() and killed.any() and alive.any() and bad.mean() > 0.5:
        # an exchange of two arguments that are nowhere both used looks the same, and is rarer
        return Hypothesis(
            "wrong_branch",
            "zeros exchanged",
            f"The cotangent is zero at {int(killed.sum())} entries where it should not be, and not zero at "
            f"{int(alive.sum())} where it should: a mask is inverted.",
        )
    if bad.all() or not bad.any():
        return None
    # at 0 and 1 powers and their slopes agree, whatever the formula
    telling = ~bad & ~np.isin(np.abs(evidence.x), (0.0, 1.0))
    split = _split(evidence, bad) if telling.any() else None
    if split is None:
        return None
    what = "zero" if killed[bad].all() else "not zero" if alive[bad].all() else "of another slope"
    clear = min(int(bad.sum()), int((~bad).sum())) >= 3
    certain = what != "of another slope" or _own_slope(evidence, bad)
    ground = ("split by a value" if clear else "split of few") if certain else "split of another slope"
    return Hypothesis(
        "wrong_branch",
        ground,
        f"The cotangent is right at {int((~bad).sum())} entries and {what} at {int(bad.sum())}, exactly where {split}.",
    )


def _own_slope(evidence, bad) -> bool:
    """Whether the wrong entries all have one slope, actual / ct."""
    slopes = [(x / t.cts[0])[bad] for x, t in zip(evidence.actual, evidence.trials)]
    return bool(np.ptp(np.real(slopes)) <= 1e-2 * (np.max(np.abs(slopes)) + 1e-300))


def _split(evidence, bad) -> str | None:
    """An interval of some value of the leaf's shape that holds the wrong entries and no right one."""
    function = evidence.function
    values = [(function.paths[i], x) for i, x in zip(function.active, function.wide_point)]
    values += [("the output", y) for y in evidence.outs]
    values = [(name, np.abs(v)) if np.iscomplexobj(v) else (name, v) for name, v in values if v.shape == bad.shape]
    values += [(f"|{name}|", np.abs(v)) for name, v in values]
    for name, value in values:
        low, high = value[bad].min(), value[bad].max()
        good = value[~bad]
        if not np.any((good >= low) & (good <= high)):
            below, above = np.any(good < low), np.any(good > high)
            if below and above:
                return f"{name} lies in [{low:.4g}, {high:.4g}]"
            return f"{name} >= {low:.4g}" if below else f"{name} <= {high:.4g}"
    return None
