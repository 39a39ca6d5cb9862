"""The cotangent is a constant multiple of the right one."""

from typing import Any

import numpy as np

from functional_dl.check import reference
from functional_dl.check.evidence import Evidence, Hypothesis

SHORT = 4  # lengths of axes up to which other numbers than n and 1/n are not made of them: any factor is near one


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


def test(evidence: Evidence) -> Hypothesis | None:
    """actual = c expected with one c for all entries and all trials, c not 1, -1 or 0."""
    c = factor(evidence)
    near = 16 * reference.eps(evidence.function.point[evidence.k])  # so near 1, it is the rounding
    if c is None or abs(c) < 1e-6 or abs(c - 1) < near or abs(c + 1) < max(near, 1e-3):
        return None
    if not evidence.explains([c * e for e in evidence.expected]):
        return None
    return Hypothesis(
        "scale", "a multiple", f"The cotangent is {_number(c)} times the right one{name_of(c, sizes_of(evidence))}."
    )


def _number(c) -> str:
    return f"({c:.6g})" if np.iscomplexobj(c) else f"{c:.6g}"


def sizes_of(evidence: Evidence) -> dict[int, str]:
    """Numbers that a factor may be made of: lengths of axes and numbers of entries."""
    sizes: dict[int, str] = {}
    arrays = [("the output", y) for y in evidence.outs] + [
        (evidence.function.paths[i], x) for i, x in zip(evidence.function.active, evidence.function.wide_point)
    ]
    for name, array in arrays:
        for axis, n in enumerate(array.shape):
            sizes.setdefault(n, f"axis {axis} of {name}")
        sizes.setdefault(array.size, f"the entries of {name}")
        if array.ndim > 1:
            sizes.setdefault(array.size // max(array.shape[-1], 1), f"the rows of {name}")
    sizes.pop(1, None)
    sizes.pop(0, None)
    return sizes


def name_of(c: Any, sizes: dict[int, str]) -> str:
    """' = 1/32, the length of axis 0 of ...' where c is such a number; "" where it is none."""
    if np.iscomplexobj(c):
        return ""
    size, sign = abs(c), "-" if c < 0 else ""
    simple = {2.0: "2", 0.5: "1/2", 3.0: "3", 1 / 3: "1/3", 4.0: "4", 0.25: "1/4"}
    for n, what in sizes.items():
        named = {float(n): f"{n}", 1 / n: f"1/{n}"}
        named |= {} if n <= SHORT else {
            n**0.5: f"sqrt({n})", n**-0.5: f"1/sqrt({n})",
            2.0 / n: f"2/{n}", n / 2: f"{n}/2", float(n - 1): f"{n} - 1",
            n / (n - 1) if n > 1 else 0.0: f"{n}/({n} - 1)",
            (n - 1) / n: f"({n} - 1)/{n}",
        }  # fmt: skip
        for value, text in named.items():
            if value > 0 and abs(size - value) <= 2e-3 * value:
                also = f" (or {sign}{simple[value]})" if value in simple else ""
                return f" = {sign}{text}{also}, with {n} the length of {what}"
    for value, text in (simple | {np.log(2): "log 2", 1 / np.log(2): "1/log 2", np.pi: "pi"}).items():
        if abs(size - value) <= 2e-3 * value:
            return f" = {sign}{text}"
    return ""
