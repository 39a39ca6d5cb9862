"""What a backward pass itself must lose: its own program, in float32 at least, rounded at random.

Every result of an equation is multiplied by 1 + u r, with u a rounding of the caller's dtype and r between -1 and 1.
What the cotangents change by over several such runs is what rounding does to this way of writing the pass: terms that
cancel in it lose their digits, however well-conditioned the derivative is.

Source: Parker, Monte Carlo Arithmetic, UCLA CSD-970002, 1997.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_unflatten

from functional_dl.check import equations
from functional_dl.check.function import jit, own_copy, widen
from functional_dl.check.vjp.subject import BackwardPass, active_leaves
from functional_dl.precision import nan_allowed

RUNS = 8
FLUSHED = 4.0  # times the smallest normal number: what is added must not be flushed itself
SIGMAS = 6.0  # times the root mean square over the runs: what is allowed
EXACT = {
    "reshape", "transpose", "broadcast_in_dim", "slice", "squeeze", "gather", "select_n", "neg", "rev", "copy", "stack",
    "concatenate", "pad", "dynamic_slice", "stop_gradient", "max", "min", "step", "expand_dims", "real", "imag",
}  # fmt: skip


class Lost(NamedTuple):
    """What each entry of a leaf may lose: by rounding, and by underflow, among numbers whose squares underflow.

    Where a result is zero, what is added may turn a condition: that says nothing of larger numbers.
    """

    rounded: np.ndarray
    flushed: np.ndarray


def losses(subject: BackwardPass, cts: Sequence[Sequence[Any]]) -> list[list[Lost] | None]:
    """For each differentiable leaf and list of cotangents, what each entry may lose; None where it is not known."""
    function, rng = subject.function, subject.rng
    nothing: list[list[Lost] | None] = [None] * len(function.active)
    kinds = [jnp.finfo(x.dtype) for x in [*function.point, *function.own_outs]]
    coarsest = max(kinds, key=lambda kind: float(kind.eps))
    units = float(coarsest.eps), float(coarsest.smallest_subnormal) / 2  # less than eps is lost in the dtype itself
    tiny = 0.0 if coarsest.dtype == jnp.float16 else float(coarsest.tiny)
    point = [_fine(np.asarray(x)) for x in function.point]
    fixed = [x if i in function.active else own_copy(x) for i, x in enumerate(function.leaves)]

    def own_dtypes(cts):
        return [np.asarray(c).astype(y.dtype) for c, y in zip(cts, function.own_outs)]

    def pulled(*values):
        leaves = list(fixed)
        for i, x in zip(function.active, values):
            leaves[i] = x
        _, pullback = subject.fun_vjp(*tree_unflatten(function.tree, leaves))
        bars = active_leaves(function, pullback(subject.ct_tree(values[len(point) :])))
        return [jnp.zeros(x.shape, x.dtype) if bar is None else bar for bar, x in zip(bars, point)]

    try:
        with nan_allowed():
            program = equations.listing(pulled, [*point, *[_fine(c) for c in own_dtypes(cts[0])]])
            if program is None:
                return nothing
            run = jit(lambda args, phases, apart, unit: _rounded(program, args, phases, apart, unit), function.entries)

            def spread(args, right, unit):
                squares = [np.zeros(bar.shape) for bar in right]
                for n in range(RUNS):  # every second time all entries of an array alike: equal numbers are rounded so
                    moved = run(args, rng.uniform(0, 2 * np.pi, len(program.steps)), float(n % 2), unit)
                    squares = [s + np.abs(widen(m) - r) ** 2 / RUNS for s, m, r in zip(squares, moved, right)]
                return [SIGMAS * np.sqrt(s) for s in squares]

            found = []
            for own in cts:
                args = [*point, *[_fine(c) for c in own_dtypes(own)]]
                right = [widen(bar) for bar in run(args, np.full(len(program.steps), np.nan), 0.0, units)]
                rounded, flushed = spread(args, right, units), spread(args, right, (0.0, FLUSHED * tiny))
                found.append([Lost(r, np.minimum(f, np.sqrt(tiny))) for r, f in zip(rounded, flushed)])
    except Exception:  # a pass that JAX cannot trace
        return nothing
    return [[own[k] for own in found] for k in range(len(point))]


def _fine(x: np.ndarray) -> np.ndarray:
    """x in float32, if its dtype is coarser."""
    return x.astype(np.float32) if jnp.finfo(x.dtype).bits < 32 else x


def _rounded(program, args, phases, apart, unit):
    """The outputs with every result rounded at random; phases of NaN round nothing."""

    def apply(n, step, values):
        outs = step.fun(*values)
        return outs if step.name in EXACT else [_moved(y, phases[n], apart, unit, n) for y in outs]

    values = equations.run(program, args, apply)
    return [values[name] for name in program.outputs]


def _moved(y, phase, apart, unit, n):
    if not hasattr(y, "dtype") or not jnp.issubdtype(y.dtype, jnp.inexact) or jnp.finfo(y.dtype).bits < 32:
        return y
    angles = np.random.default_rng(n).uniform(0, 2 * np.pi, np.shape(y))
    relative, absolute = unit
    part = jnp.nan_to_num(jnp.cos(phase + apart * angles))
    return (y * (1 + relative * part) + absolute * part).astype(y.dtype)
