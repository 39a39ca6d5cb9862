"""Causes by which the derivative is another one: of another case, or at another value."""

from collections.abc import Iterator

import numpy as np

from functional_dl.check.evidence import Evidence, Hypothesis
from functional_dl.check.simulation.program import has_conditions


def wrong_branch(evidence: Evidence) -> Hypothesis | None:
    """Entries are right, or zero where they should not be, or not zero where they should be, and a condition on a value
    parts the right from the wrong."""
    a, e, bad = evidence.actual, evidence.expected, evidence.bad
    if bad.size < 2 or not evidence.elementwise or not has_conditions(evidence):
        return None
    killed = np.all([x == 0 for x in a], axis=0) & bad
    alive = np.all([np.abs(x) <= t for x, t in zip(e, evidence.tolerance)], axis=0) & bad
    if (killed | alive)[bad].all() and killed.any() and alive.any() and bad.mean() > 0.5:
        # an exchange of two arguments that are nowhere both used looks the same, and is rarer
        message = (
            f"The cotangent is zero at {int(killed.sum())} entries where it should not be, and not zero at "
            f"{int(alive.sum())} where it should: a mask is inverted."
        )
        return Hypothesis("wrong_branch", "zeros exchanged", message)
    if bad.all() or not bad.any():
        return None
    # at 0 and 1 powers and their local agree, whatever the formula
    telling = ~bad & ~np.isin(np.abs(evidence.x), (0.0, 1.0))
    split = _split(evidence, bad) if telling.any() else None
    if split is None:
        return None
    what = "zero" if killed[bad].all() else "not zero" if alive[bad].all() else "with another derivative"
    clear = min(int(bad.sum()), int((~bad).sum())) >= 3
    certain = what != "with another derivative" or _one_derivative(evidence, bad)
    ground = ("split by a value" if clear else "split of few") if certain else "split with another derivative"
    message = (
        f"The cotangent is right at {int((~bad).sum())} entries and {what} at {int(bad.sum())}, exactly where {split}."
    )
    return Hypothesis("wrong_branch", ground, message)


def _one_derivative(evidence, bad) -> bool:
    """Whether the wrong entries all have one derivative, actual / ct."""
    local = [(x / t.cts[0])[bad] for x, t in zip(evidence.actual, evidence.trials)]
    return bool(np.ptp(np.real(local)) <= 1e-2 * (np.max(np.abs(local)) + 1e-300))


def _split(evidence, bad) -> str | None:
    """An interval of some value of the leaf's shape that holds the wrong entries and no right one."""
    values = [(name, np.abs(v)) if np.iscomplexobj(v) else (name, v) for name, v in evidence.values]
    values = [(name, v) for name, v in values if v.shape == bad.shape]
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


def wrong_point(evidence: Evidence) -> Hypothesis | None:
    """actual = the right pullback at primals of which some are replaced by the output, by zero, or by each other; or,
    entry by entry, a factor that depends on the entry's value and is another function of it than the derivative."""
    if not evidence.function.traceable or evidence.reference.source != "autodiff":
        return _other_derivative(evidence)
    for what, j, value in _points(evidence):
        moved = [value if i == j else p for i, p in enumerate(evidence.function.wide_point)]
        try:
            fits = evidence.fits(lambda cts, moved=moved: evidence.pull_at(moved, cts))
        except Exception:  # fun is not defined there
            continue
        if fits:
            cause = "transpose" if what.startswith("the transpose") else "wrong_point"
            ground = "zero or negative point" if what.startswith(("-", "zero")) else "another point"
            return Hypothesis(cause, ground, f"The cotangent is the right one at {what}.")
    return _other_derivative(evidence)


def _points(evidence) -> Iterator[tuple[str, int, np.ndarray]]:
    """What a leaf may have been taken for: a description, the leaf, the other value."""
    point, paths = evidence.function.wide_point, [evidence.function.paths[i] for i in evidence.function.active]
    alike = lambda x, others: [y for y in others if y.shape == x.shape and y.dtype == x.dtype]
    for j, x in enumerate(point):
        for y in alike(x, evidence.outs):
            yield f"the output in place of {paths[j]}", j, y
        for m, other in enumerate(point):
            if m != j and alike(x, [other]):
                yield f"{paths[m]} in place of {paths[j]}", j, other
        if x.ndim >= 2 and x.shape[-1] == x.shape[-2]:
            yield f"the transpose of {paths[j]}", j, np.swapaxes(x, -1, -2)
        yield f"zero in place of {paths[j]}", j, np.zeros_like(x)
        yield f"-{paths[j]} in place of {paths[j]}", j, -x
    for j, x in enumerate(point):
        for y in alike(x, evidence.outs):
            for z in evidence.function.evaluate([y if i == j else p for i, p in enumerate(point)]):
                if z.shape == x.shape:
                    yield f"fun(fun(x)) in place of {paths[j]}", j, z


def _other_derivative(evidence) -> Hypothesis | None:
    if not evidence.elementwise or not evidence.bad.mean() > 0.8 or evidence.x.size < 4:
        return None
    local = [a / t.cts[0] for a, t in zip(evidence.actual, evidence.trials)]
    spread = np.max(np.abs(local[0] - local[-1]))
    if not np.isfinite(spread) or spread > 1e-2 * np.max(np.abs(local[0])):
        return None  # not linear in ct with one factor an entry
    if np.ptp(np.real(local[0])) <= 1e-6 * np.max(np.abs(local[0])):
        return None
    message = (
        "Entry by entry the cotangent is ct times a factor that varies with the value but is not the derivative there: "
        "the formula was given another value (the output for the input, or the other way round)."
    )
    return Hypothesis("wrong_point", "another derivative", message)
