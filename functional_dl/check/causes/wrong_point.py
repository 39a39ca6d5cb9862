"""The derivative is evaluated at the wrong value."""

import numpy as np

from functional_dl.check.evidence import Evidence, Hypothesis


def test(evidence: Evidence) -> Hypothesis | None:
    """actual = the right pullback at primals of which some are replaced by the output, by zero, or by each other; or,
    entry by entry, a slope that depends on the entry's value and is another function of it than the derivative."""
    function = evidence.function
    if function.traceable and evidence.reference.source == "autodiff":
        for what, moved in _points(evidence):
            try:
                guesses = [evidence.pull_at(moved, t.cts) for t in evidence.trials]
            except Exception:  # fun is not defined there
                continue
            if evidence.explains(guesses):
                return Hypothesis(
                    "transpose" if what.startswith("the transpose") else "wrong_point",
                    "zero or negative point" if what.startswith(("-", "zero")) else "another point",
                    f"The cotangent is the right one at {what}.",
                )
    return _other_slope(evidence)


def _points(evidence):
    point, paths = evidence.function.wide_point, [evidence.function.paths[i] for i in evidence.function.active]
    for j, x in enumerate(point):
        for y in evidence.outs:
            if y.shape == x.shape and y.dtype == x.dtype:
                yield f"the output in place of {paths[j]}", [y if i == j else p for i, p in enumerate(point)]
        for m, other in enumerate(point):
            if m != j and other.shape == x.shape and other.dtype == x.dtype:
                yield f"{paths[m]} in place of {paths[j]}", [other if i == j else p for i, p in enumerate(point)]
        if x.ndim >= 2 and x.shape[-1] == x.shape[-2]:
            turned = np.swapaxes(x, -1, -2)
            yield f"the transpose of {paths[j]}", [turned if i == j else p for i, p in enumerate(point)]
        yield f"zero in place of {paths[j]}", [0 * x if i == j else p for i, p in enumerate(point)]
        yield f"-{paths[j]} in place of {paths[j]}", [-x if i == j else p for i, p in enumerate(point)]
    for j, x in enumerate(point):
        for y in evidence.outs:
            if y.shape == x.shape and y.dtype == x.dtype:
                again = evidence.function.evaluate([y if i == j else p for i, p in enumerate(point)])
                for z in again:
                    if z.shape == x.shape:
                        yield f"fun(fun(x)) in place of {paths[j]}", [z if i == j else p for i, p in enumerate(point)]


def _other_slope(evidence):
    if not evidence.elementwise or not evidence.bad.mean() > 0.8 or evidence.x.size < 4:
        return None
    slopes = [a / t.cts[0] for a, t in zip(evidence.actual, evidence.trials)]
    spread = np.max(np.abs(slopes[0] - slopes[-1]))
    if not np.isfinite(spread) or spread > 1e-2 * np.max(np.abs(slopes[0])):
        return None  # not linear in ct with one slope an entry
    if np.ptp(np.real(slopes[0])) <= 1e-6 * np.max(np.abs(slopes[0])):
        return None
    return Hypothesis(
        "wrong_point",
        "another slope",
        "Entry by entry the cotangent is ct times a slope that varies with the value but is not the derivative there: "
        "the formula was given another value (the output for the input, or the other way round).",
    )
