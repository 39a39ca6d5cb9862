"""The first stage: is the output fun's, and has what the pullback returns the form of the primals?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.tree_util import tree_flatten, tree_flatten_with_path, tree_structure

from functional_dl.check import reference
from functional_dl.check.function import is_complex, is_inexact, widen
from functional_dl.check.reference import positive_like, random_like
from functional_dl.check.report import Finding, without_index
from functional_dl.check.vjp.subject import BackwardPass, leaves_of, lost

TRIALS = 3
ROUNDED = 8  # last places that a primal may be off by, where fun is ill-conditioned


@dataclass(frozen=True)
class Form:
    """A pass by its form.

    Fields:
      pullback: of one forward pass.
      cts: lists of cotangents of the differentiable outputs, in their dtypes.
      findings: faults of form, and outputs that are not fun's.
      comparisons: how many numbers were compared.
      wrong: positions of the leaves whose cotangents cannot be compared; None if none can.
    """

    pullback: Callable[..., Any]
    cts: list[list[Any]]
    findings: list[Finding]
    comparisons: int
    wrong: frozenset[int] | None


def form_of(subject: BackwardPass) -> Form:
    """One forward pass and one call of its pullback."""
    out, pullback = subject.forward()
    findings, comparisons = _output(subject, out)
    cts = _cotangents(subject)
    if any(f.index is None for f in findings):
        return Form(pullback, cts, findings, comparisons, None)
    more, wrong = _returned(subject, pullback(subject.ct_tree(cts[0])))
    return Form(pullback, cts, [*findings, *more], comparisons, wrong)


def _output(subject: BackwardPass, out: Any) -> tuple[list[Finding], int]:
    """Findings where the output of fun_vjp is not fun's, and the number of entries compared."""
    function = subject.function
    outs, tree = tree_flatten(out)
    if tree != function.out_tree:
        message = f"fun_vjp returns an output of the tree {tree}, fun {function.out_tree}."
        return [without_index("primal", "", message)], 0
    found, comparisons, rounded = [], 0, None
    for mine, theirs, path in zip(function.outs, outs, function.out_paths):
        theirs = np.asarray(theirs)
        if theirs.shape != mine.shape:
            message = f"{path}: fun_vjp returns shape {theirs.shape}, fun {mine.shape}."
            found.append(without_index("primal", "", message))
            continue
        if function.canonical(theirs.dtype) != function.canonical(mine.dtype):
            message = f"{path}: fun_vjp returns dtype {theirs.dtype}, fun {mine.dtype}."
            found.append(without_index("primal", "", message))
        a, e = widen(theirs), widen(mine)
        allowed, wrong = np.zeros(e.shape), a != e
        if is_inexact(mine):
            typical = float(np.sqrt(np.mean(np.abs(e[np.isfinite(e)]) ** 2))) if np.isfinite(e).any() else 0.0
            unit = max(lost(max([mine, *function.point], key=reference.eps)), subject.least)
            allowed = unit * (np.abs(np.where(np.isfinite(e), e, 0)) + typical)
            wrong = ~((np.abs(a - e) <= allowed) | (a == e) | (np.isnan(a) & np.isnan(e)))
            if wrong.any():  # seen again with the rounding of terms that cancel
                rounded = _moved_outputs(subject) if rounded is None else rounded
                allowed = allowed + rounded[path]
                wrong = wrong & ~(np.abs(a - e) <= allowed)
        comparisons += e.size
        if wrong.any():
            index = tuple(int(i) for i in np.argwhere(wrong)[np.argmax(np.abs((a - e)[wrong]))])
            message = f"{path}: {int(wrong.sum())} of {e.size} entries of fun_vjp's output differ from fun's."
            error, limit = float(abs(a[index] - e[index])), float(allowed[index])
            found.append(
                Finding("primal", "", message, index, e[index].item(), a[index].item(), error, limit, ("primal",))
            )
    return found, comparisons


def _moved_outputs(subject: BackwardPass) -> dict[str, np.ndarray]:
    """What the differentiable outputs change by when the primals are rounded another way, by eight last places."""
    function = subject.function
    here = function.wide_outs
    change = [np.zeros(y.shape) for y in here]
    for _ in range(6):
        moved = function.evaluate(reference.rounded_point(function, ROUNDED, subject.rng))
        off = [np.nan_to_num(np.abs(a - b), nan=0.0, posinf=0.0) for a, b in zip(moved, here)]
        change = [np.maximum(c, o) for c, o in zip(change, off)]
    return {function.out_paths[i]: c for i, c in zip(function.out_active, change)}


def _cotangents(subject: BackwardPass) -> list[list[Any]]:
    """Lists of cotangents of the differentiable outputs, in their dtypes."""
    function, rng = subject.function, subject.rng
    # the last of one sign: sums do not cancel, and show the digits that they lose
    draws = [*[random_like] * (TRIALS - 1), positive_like]
    found = [[subject.own(draw(y, rng), y) for y in function.own_outs] for draw in draws]
    if subject.ct is None:
        return found
    leaves, tree = tree_flatten(subject.ct)
    if tree != function.out_tree:
        raise ValueError(f"ct: expected the output's tree {function.out_tree}, got {tree}")
    for i in function.out_active:
        shape = np.shape(function.outs[i])
        if np.shape(leaves[i]) != shape:
            raise ValueError(f"ct: expected shape {shape} for {function.out_paths[i]}, got {np.shape(leaves[i])}")
    return [*found, [subject.own(widen(leaves[i]), function.outs[i]) for i in function.out_active]]


def _returned(subject: BackwardPass, bars: Any) -> tuple[list[Finding], frozenset[int] | None]:
    """Count, trees, shapes and dtypes: the findings, and the leaves that cannot be compared (None if none can)."""
    function = subject.function
    count = len(function.primals)
    if not isinstance(bars, tuple | list):
        wanted = f"expected a tuple of {count} cotangent(s), one for each primal"
        message = f"The pullback returns {type(bars).__name__}; {wanted}."
        return [without_index("structure", "", message)], None
    if len(bars) != count:
        message = f"The pullback returns {len(bars)} cotangent(s) for {count} primal(s)."
        return [without_index("structure", "", message)], None
    found: list[Finding] = []
    wrong: set[int] = set()
    first = 0
    for p, (bar, primal) in enumerate(zip(bars, function.primals)):
        with_paths, tree = tree_flatten_with_path(primal)
        places = range(first, first + len(with_paths))
        first = places.stop
        if bar is None:
            continue
        own = leaves_of(bar, primal)
        if own is None:
            message = f"The cotangent has the tree {tree_structure(bar)}, its primal {tree}."
            found.append(without_index("structure", f"args[{p}]", message))
            wrong.update(places)
            continue
        for i, value in zip(places, own):
            if value is not None and i in function.active:
                fault, comparable = _leaf(function, i, value)
                found += [fault] if fault is not None else []
                wrong.update([] if comparable else [i])
    return found, frozenset(wrong)


def _leaf(function: Any, i: int, value: Any) -> tuple[Finding | None, bool]:
    """A fault of a leaf's shape or dtype, and whether its numbers can be compared all the same."""
    x, path = function.leaves[i], function.paths[i]
    got, expected = np.shape(value), np.shape(x)
    if got != expected:
        message = f"The cotangent has shape {got}, its primal {expected}.{_shape_hint(got, expected)}"
        return without_index("structure", path, message), False
    dtype = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
    if function.canonical(dtype) == x.dtype:
        return None, True
    comparable = is_inexact(value) and is_complex(widen(value)) == np.iscomplexobj(widen(x))
    return without_index("dtype", path, f"The cotangent has dtype {dtype}, its primal {x.dtype}."), comparable


def _shape_hint(got: Sequence[int], expected: Sequence[int]) -> str:
    if sorted(got) == sorted(expected):
        return " The axes are permuted."
    if len(got) > len(expected) and got[len(got) - len(expected) :] == expected:
        return " Leading axes are not summed over."
    return ""
