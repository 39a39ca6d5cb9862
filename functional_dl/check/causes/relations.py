"""Causes by which the whole cotangent is related to the right one: a number, a conjugate, another argument's."""

from typing import Any

import numpy as np

from functional_dl.check import reference
from functional_dl.check.evidence import Evidence, Hypothesis
from functional_dl.check.function import is_complex

SHORT = 4  # lengths of axes up to which other numbers than n and 1/n are not made of them: any factor is near one
# relative errors, of the leaf's typical size, below which a fault is one of digits
# (a value of 8 bits, as bfloat16 has them, somewhere on the way)
LOST = {"float64": 1e-2, "float32": 1e-2, "float16": 0.15, "bfloat16": 0.25}


def nonfinite(evidence: Evidence) -> Hypothesis | None:
    """Some actual entry is NaN or infinite where the expected one is finite."""
    count = max(int((~np.isfinite(a) & np.isfinite(e)).sum()) for a, e in zip(evidence.actual, evidence.expected))
    if not count:
        return None
    kinds = {("NaN" if np.isnan(v) else "inf") for a in evidence.actual for v in a[~np.isfinite(a)].reshape(-1)[:1000]}
    message = f"{count} of {evidence.x.size} entries are {' and '.join(sorted(kinds))}; the right ones are finite."
    return Hypothesis("nonfinite", "not finite", message)


def kink(evidence: Evidence) -> Hypothesis | None:
    """Every wrong entry lies at a kink, where gradients at points close by differ.

    Whether a value is a generalised derivative is settled before a fault is diagnosed: what arrives here is none.
    """
    return Hypothesis("kink", "outside the subdifferential", evidence.kinked) if evidence.kinked else None


def zero(evidence: Evidence) -> Hypothesis | None:
    """max |actual| = 0 while some |expected| is not."""
    if any(np.any(a != 0) for a in evidence.actual):
        return None
    largest = max(float(np.max(np.abs(e), initial=0.0)) for e in evidence.expected)
    message = f"The cotangent is zero everywhere; it should be as large as {largest:.6g}: the argument matters."
    return Hypothesis("zero", "all zero", message)


def sign(evidence: Evidence) -> Hypothesis | None:
    """actual = -expected."""
    if not evidence.explains([-e for e in evidence.expected]):
        return None
    return Hypothesis("sign", "negative", "The cotangent is the negative of the right one (factor -1).")


def scale(evidence: Evidence) -> Hypothesis | None:
    """actual = c expected with one c for all entries and all trials, c not 1, -1 or 0."""
    c = factor(evidence)
    near = 16 * reference.eps(evidence.function.point[evidence.k])  # so near 1, it is the rounding
    if c is None or abs(c) < 1e-6 or abs(c - 1) < near or abs(c + 1) < max(near, 1e-3):
        return None
    if not evidence.explains([c * e for e in evidence.expected]):
        return None
    number = f"({c:.6g})" if np.iscomplexobj(c) else f"{c:.6g}"
    message = f"The cotangent is {number} times the right one{name_of(c, sizes_of(evidence))}."
    return Hypothesis("scale", "a multiple", message)


def factor(evidence: Evidence) -> complex | float | None:
    """The c of actual = c expected that fits all trials best; None where nothing is expected at all."""
    top = sum(np.vdot(e, a) for a, e in zip(evidence.actual, evidence.expected))
    bottom = sum(np.vdot(e, e).real for e in evidence.expected)
    if not bottom or not np.isfinite(top):
        return None
    c = top / bottom
    if np.iscomplexobj(c) and abs(c.imag) <= 1e-6 * abs(c):
        c = c.real
    return c if np.iscomplexobj(c) else float(c)


def sizes_of(evidence: Evidence) -> dict[int, str]:
    """Numbers that a factor may be made of: lengths of axes and numbers of entries."""
    sizes: dict[int, str] = {}
    leaves = len(evidence.function.active)
    for name, array in [*evidence.values[leaves:], *evidence.values[:leaves]]:
        for axis, n in enumerate(array.shape):
            sizes.setdefault(n, f"axis {axis} of {name}")
        sizes.setdefault(array.size, f"the entries of {name}")
        if array.ndim > 1:
            sizes.setdefault(array.size // max(array.shape[-1], 1), f"the rows of {name}")
    return {n: what for n, what in sizes.items() if n > 1}


def name_of(c: Any, sizes: dict[int, str]) -> str:
    """' = 1/32, the length of axis 0 of ...' where c is such a number; "" where it is none."""
    if np.iscomplexobj(c):
        return ""
    size, minus = abs(c), "-" if c < 0 else ""
    simple = {2.0: "2", 0.5: "1/2", 3.0: "3", 1 / 3: "1/3", 4.0: "4", 0.25: "1/4"}
    for n, what in sizes.items():
        named = {float(n): f"{n}", 1 / n: f"1/{n}"}
        named |= {} if n <= SHORT else {
            n**0.5: f"sqrt({n})", n**-0.5: f"1/sqrt({n})",
            2.0 / n: f"2/{n}", n / 2: f"{n}/2", float(n - 1): f"{n} - 1",
            n / (n - 1): f"{n}/({n} - 1)", (n - 1) / n: f"({n} - 1)/{n}",
        }  # fmt: skip
        for value, text in named.items():
            if abs(size - value) <= 2e-3 * value:
                also = f" (or {minus}{simple[value]})" if value in simple else ""
                return f" = {minus}{text}{also}, with {n} the length of {what}"
    for value, text in (simple | {np.log(2): "log 2", 1 / np.log(2): "1/log 2", np.pi: "pi"}).items():
        if abs(size - value) <= 2e-3 * value:
            return f" = {minus}{text}"
    return ""


def swapped(evidence: Evidence) -> Hypothesis | None:
    """actual of this argument = expected of another of the same shape."""
    function, k = evidence.function, evidence.k
    for j, other in enumerate(function.active):
        if j == k or function.wide_point[j].shape != evidence.shape:
            continue
        if evidence.explains([t.expected[j] for t in evidence.trials]):
            back = all(
                abs(t.actual[j] - t.expected[k]).max(initial=0.0)
                <= 3 * max(t.tolerance[j].max(initial=0.0), t.tolerance[k].max(initial=0.0))
                for t in evidence.trials
            )
            message = f"The cotangent is that of {function.paths[other]}{', and the other way round' if back else ''}."
            return Hypothesis("swapped", "another argument's", message)
    return None


def missing_conjugate(evidence: Evidence) -> Hypothesis | None:
    """actual = the right cotangent with conjugate primals, conjugate ct, or conjugate result, in any combination."""
    point = evidence.function.wide_point
    if not any(is_complex(x) for x in [*point, *evidence.outs]):
        return None
    choices = [
        ("the result", lambda cts: np.conj(evidence.pull(cts))),
        ("the incoming cotangent", lambda cts: evidence.pull([np.conj(c) for c in cts])),
        ("the incoming cotangent and the result", lambda cts: np.conj(evidence.pull([np.conj(c) for c in cts]))),
    ]
    if evidence.function.traceable and evidence.reference.source == "autodiff":
        subsets = [[j] for j in range(len(point))] + ([list(range(len(point)))] if len(point) > 1 else [])
        for chosen in subsets:
            moved = [np.conj(x) if j in chosen else x for j, x in enumerate(point)]
            names = ", ".join(evidence.function.paths[evidence.function.active[j]] for j in chosen)
            choices.append((f"the saved {names}", lambda cts, moved=moved: evidence.pull_at(moved, cts)))
    for what, guess in choices:
        if evidence.fits(guess):
            message = f"The cotangent is right except for a conjugate of {what}."
            return Hypothesis("missing_conjugate", "a conjugate", message)
    if not is_complex(evidence.x) or evidence.x.size == 0:
        return None
    real = all(
        np.all(np.abs(a.real - e.real) <= t) for a, e, t in zip(evidence.actual, evidence.expected, evidence.tolerance)
    )
    if real and all(np.allclose(a.imag, -e.imag, rtol=1e-3) for a, e in zip(evidence.actual, evidence.expected)):
        return Hypothesis("missing_conjugate", "sign of the imaginary part", "The imaginary part has the wrong sign.")
    return None


def not_transposed(evidence: Evidence) -> Hypothesis | None:
    """actual = J ct, of an output with as many entries as the argument: a rotation by the same angle, a sum that
    runs the same way, W for W^T."""
    outs = evidence.outs
    if len(outs) != 1 or outs[0].size != evidence.x.size or evidence.x.size < 2 or evidence.elementwise:
        return None
    if not evidence.function.traceable or outs[0].dtype != evidence.x.dtype:
        return None

    def pushed(cts):
        return evidence.reference.push(evidence.k, cts[0].reshape(evidence.shape))[0].reshape(evidence.shape)

    if not evidence.fits(pushed) or evidence.explains(evidence.expected):
        return None
    message = "The cotangent is J ct, the derivative in the direction of the incoming cotangent: it should be J^T ct."
    return Hypothesis("not_transposed", "the Jacobian itself", message)


def precision(evidence: Evidence) -> Hypothesis | None:
    """The error is far above rounding, far below the cotangent, and not proportional to it."""
    if not all(np.isfinite(a).all() for a in evidence.actual):
        return None
    dtype, worst = reference.dtype_name(evidence.function.point[evidence.k]), evidence.relative_error
    if worst > LOST.get(dtype, 0.1):
        return None
    message = (
        f"The cotangent is right only to {worst:.1g} of its size; {dtype} and this function allow "
        f"{max(float(np.median(t)) for t in evidence.tolerance):.1g} per entry."
    )
    return Hypothesis("precision", "digits", message)
