"""Derivatives from values alone, with an error that is not understated.

Central differences D(h) = (f(x + h v) - f(x - h v)) / (2 h) = f'(x; v) + c_1 h^2 + c_2 h^4 + ...; from D at ever
narrower steps the powers of h are eliminated one after the other (Richardson).  Of the table of extrapolates the entry
is taken that agrees best with its neighbours and with all that is nearer to the limit, its error being that
disagreement and the rounding of the values, enlarged.

Source: Ridders, Accurate computation of F'(x) and F'(x)F''(x), Adv. Eng. Softw. 4 (1982) 75.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import tree_flatten, tree_unflatten

from functional_dl.aliases import PyTree
from functional_dl.check.function import Function, is_complex, pairing, widen
from functional_dl.estimates import Estimate, extrapolated_rows

# h, relative to the size of x: wide ones, where smooth functions are judged; then far narrower ones, so that a
# pole, a kink or a bend as near as 1e-8 is not overlooked
STEPS = 2.0 ** -np.array([4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 20, 24, 28])
FEWEST = 5  # of them, below which a function is evaluated too coarsely to be differenced
SAFETY = 4.0
UNSEEN = 1e-4
EPS = float(np.finfo(np.float64).eps)


class DirectionalDerivative(NamedTuple):
    """A derivative along a line from both sides; at a kink the two differ, and `value` is not one number."""

    value: np.ndarray
    error: np.ndarray
    left: np.ndarray
    right: np.ndarray
    kink: np.ndarray  # whether left and right differ by more than their errors

    @property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Where a generalised derivative along the line lies, errors included."""
        low = np.where(self.kink, np.minimum(self.left, self.right), self.value)
        high = np.where(self.kink, np.maximum(self.left, self.right), self.value)
        return low - self.error, high + self.error


def derivative(
    values: Callable[[float], np.ndarray], eps: float = EPS, steps: np.ndarray = STEPS, terms: float = 0.0
) -> DirectionalDerivative:
    """Derivative at 0 of a function of one number, whose values are arrays of float64, entry by entry.

    eps: the relative precision in which the values are computed.  Where it leaves too few steps, errors are infinite.
    steps: the distances from 0 at which values are taken, from the widest to the narrowest.
    terms: the size of what the values are sums of, where that cancels: their rounding is relative to it.
    """
    h = np.extract(64 * eps <= steps, steps)
    if h.size < FEWEST:
        here = np.asarray(values(0.0), np.float64)
        zero, endless = np.zeros(here.shape), np.full(here.shape, np.inf)
        return DirectionalDerivative(zero, endless, zero, zero, np.zeros(here.shape, bool))
    with np.errstate(all="ignore"):
        here = np.asarray(values(0.0), np.float64)
        ahead = np.stack([values(t) for t in h])
        behind = np.stack([values(-t) for t in h])
        # an output that is the same infinity, or NaN, at all steps does not depend on the step
        still = ~np.isfinite(here) & np.all(_same(ahead, here) & _same(behind, here), axis=0)
        here, ahead, behind = (np.where(still, 0.0, values) for values in (here, ahead, behind))
        column = h.reshape(-1, *[1] * here.ndim)
        size = np.maximum(np.maximum(np.abs(ahead), np.abs(behind)), np.maximum(np.abs(here), terms))
        noise = _noise(ahead - behind, column)
        rounding = np.maximum(eps * size, noise) / column
        value, error = _extrapolate((ahead - behind) / (2 * column), rounding, column**2)
        right, right_error = _extrapolate((ahead - here) / column, 2 * rounding, column)
        left, left_error = _extrapolate((here - behind) / column, 2 * rounding, column)
        gap = np.abs(right - left)
        kink = gap > 10 * (right_error + left_error) + 1e-6 * (np.abs(left) + np.abs(right))
        error = np.where(kink, np.maximum(left_error, right_error), error)
        # what changes that much from the narrowest step to the next is not seen by any of them
        change = np.max(np.maximum(np.abs(ahead - here), np.abs(behind - here)), axis=0)
        error = np.where((noise > UNSEEN * change) & (noise > 0.01 * UNSEEN * np.max(size, axis=0)), np.inf, error)
    return DirectionalDerivative(value, error, left, right, kink)


def _same(a, b):
    return (a == b) | (np.isnan(a) & np.isnan(b))


def _noise(odd, h):
    """Of f(h) - f(-h), odd in h, what is not linear at the narrowest steps.

    Where nothing is left of it there though it was not nothing before, f moves in jumps: the largest is taken.
    """
    ratio = h[:-1] / h[1:]
    unlike = np.abs(odd[:-1] - ratio * odd[1:]) / np.sqrt(1 + ratio**2)
    noise = 2 * np.max(unlike[-2:], axis=0)
    still = (odd[-1] == 0) & (odd[-2] == 0)
    return np.where(still, np.maximum(noise, np.max(unlike[h[1:, ...].reshape(-1) <= 2.0**-8], axis=0)), noise)


def _extrapolate(quotients, rounding, powers):
    """The best entry of the table, and its error; quotients are a series in `powers` of h.

    Wide steps may agree among themselves and be wrong, where a pole or a kink is nearer than they: what the narrower
    steps contradict, by more than their own errors, is not taken.
    """

    def factor(j):
        return np.concatenate([np.full_like(powers[:j], 2.0), powers[:-j] / powers[j:]])

    rows, errors = extrapolated_rows(quotients, rounding, factor)
    best, best_error = rows[-1], errors[-1]
    for k in range(len(rows) - 2, 0, -1):
        agrees = np.ones(np.shape(best), bool)
        for m in range(k + 1, len(rows)):
            agrees &= ~(np.abs(rows[k] - rows[m]) > SAFETY * (errors[k] + errors[m]))
        better = agrees & (errors[k] < best_error)
        best, best_error = np.where(better, rows[k], best), np.where(better, errors[k], best_error)
    # quotients that move apart to the last have no limit that these steps can tell
    last, before = np.abs(quotients[-1] - quotients[-2]), np.abs(quotients[-2] - quotients[-3])
    apart = (last > 1.2 * before) & (last > 8 * rounding[-1])
    return best, np.where(apart, np.inf, SAFETY * best_error)


def along(function: Function, direction: Sequence[np.ndarray], ct: Sequence[np.ndarray]) -> DirectionalDerivative:
    """<ct, f'(x; v)> for the direction v, one array for each differentiable leaf."""

    def value(t):
        moved = [x + t * v for x, v in zip(function.wide_point, direction)]
        return np.asarray(pairing(ct, function.evaluate(moved)))

    outs = function.evaluate(function.wide_point)
    terms = pairing([np.abs(c) for c in ct], [np.where(np.isfinite(y), np.abs(y), 0.0) for y in outs])
    return derivative(value, function.eps, terms=terms)


def of_entry(function: Function, k: int, index: tuple[int, ...]) -> DirectionalDerivative:
    """The derivatives of all real entries of the outputs by one entry of the k-th differentiable leaf, a real one."""
    step = function.scales[k][index]

    def value(t):
        active = list(function.wide_point)
        active[k] = active[k].copy()
        active[k][index] += t * step
        return np.concatenate([_real(y) for y in function.evaluate(active)])

    found = derivative(value, function.eps)
    return DirectionalDerivative(
        found.value / step, found.error / step, found.left / step, found.right / step, found.kink
    )


def estimate_jvp(fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Estimate:
    r"""f'(x) v from values of f alone: lim (f(x + h v) - f(x)) / h.

    Args:
      fun: function of pytrees of arrays (of JAX or NumPy), evaluated in double precision where it allows that.
      primals, tangents: sequences of pytrees, as for `jax.jvp`.
    Returns:
      Estimate(value, error), pytrees of the output's structure; entries without a derivative get an infinite error.
    Example:
      >>> slope = check.estimate_jvp(jnp.exp, (1.0,), (1.0,))
      >>> f"{slope.value:.9f}", bool(abs(slope.value - np.e) <= slope.error)
      ('2.718281828', True)
    """
    function = Function(fun, primals)
    leaves, tree = tree_flatten(tuple(tangents))
    if tree != function.tree:
        raise ValueError(f"tangents: expected the primals' tree {function.tree}, got {tree}")
    direction = [widen(leaves[i]) for i in function.active]
    for x, v, path in zip(function.wide_point, direction, [function.paths[i] for i in function.active]):
        if x.shape != v.shape:
            raise ValueError(f"tangents: {path} has shape {x.shape}, its tangent {v.shape}")
    # a step of length 1 is as long as x
    length = max([float(np.max(np.abs(v) / s, initial=0.0)) for v, s in zip(direction, function.scales)] + [0.0])
    if length == 0:
        outs = [np.zeros(np.shape(y)) for y in function.outs]
        return Estimate(*(tree_unflatten(function.out_tree, outs) for _ in range(2)))

    def value(t):
        outs = function.evaluate([x + t / length * v for x, v in zip(function.wide_point, direction)])
        return np.concatenate([_real(y) for y in outs])

    found = derivative(value, function.eps)
    error = np.where(found.kink, np.inf, found.error)
    values, errors = list(function.outs), list(function.outs)
    for i, like, part in zip(function.out_active, function.own_outs, parts(function.own_outs)):
        values[i] = _unreal(found.value[part] * length, like)
        errors[i] = np.abs(_unreal(error[part] * length, like))
    for i, y in enumerate(function.outs):
        if i not in function.out_active:
            values[i] = np.zeros(y.shape, jax.float0)
            errors[i] = np.zeros(y.shape)
    return Estimate(tree_unflatten(function.out_tree, values), tree_unflatten(function.out_tree, errors))


def estimate_vjp(fun: Callable[..., Any], primals: Sequence[Any], ct: PyTree) -> Estimate:
    r"""f'(x)^T ct from values of f alone: entry i is d/dt <ct, f(x + t e_i)> at t = 0.

    Costs about 28 evaluations of fun for each entry of the primals.

    Args:
      fun, primals: as for `estimate_jvp`.
      ct: cotangent, of the output's tree; leaves of integer outputs are ignored.
    Returns:
      Estimate(value, error), tuples with one pytree for each primal; at a kink the error covers both sides.
    Example:
      >>> x_bar, y_bar = check.estimate_vjp(lambda x, y: x**2 * y, (3.0, 2.0), 1.0).value
      >>> f"{x_bar:.9f}", f"{y_bar:.9f}"
      ('12.000000000', '9.000000000')
    """
    function = Function(fun, primals)
    cts, tree = tree_flatten(ct)
    if tree != function.out_tree:
        raise ValueError(f"ct: expected the output's tree {function.out_tree}, got {tree}")
    jacobian, error = numeric_jacobian(function)
    flat = np.concatenate([real_ct(widen(cts[i])) for i in function.out_active])
    values = [np.zeros(np.shape(x), jax.float0) for x in function.leaves]
    errors = [np.zeros(np.shape(x)) for x in function.leaves]
    for i, like, rows in zip(function.active, function.point, parts(function.point)):
        values[i] = unreal_ct(jacobian[rows] @ flat, like)
        errors[i] = np.abs(unreal_ct(error[rows] @ np.abs(flat), like))
    return Estimate(tree_unflatten(function.tree, values), tree_unflatten(function.tree, errors))


def numeric_jacobian(function: Function) -> tuple[np.ndarray, np.ndarray]:
    """J^T as an array (real entries of the primals, real entries of the outputs), and its error; a complex number
    counts as two."""
    rows, errors = [], []
    for k, (x, scale) in enumerate(zip(function.wide_point, function.scales)):
        for unit in (1.0, 1.0j) if is_complex(x) else (1.0,):
            for i in np.ndindex(x.shape):
                step = scale[i]

                def value(t, i=i, k=k, x=x, unit=unit, step=step):
                    moved = x.copy()
                    moved[i] += t * step * unit
                    active = list(function.wide_point)
                    active[k] = moved
                    return np.concatenate([_real(y) for y in function.evaluate(active)])

                found = derivative(value, function.eps)
                half = np.where(found.kink, np.abs(found.right - found.left) / 2, 0.0)
                middle = np.where(found.kink, (found.right + found.left) / 2, found.value)
                rows.append(middle / step)
                errors.append((found.error + half) / step)
    return np.array(rows), np.array(errors)


def numbers(x: Any) -> int:
    """How many real numbers an array holds."""
    return x.size * (2 if is_complex(x) else 1)


def parts(arrays: Sequence[Any]) -> list[slice]:
    """Where the real numbers of each array stand among those of all, of each all real parts first."""
    ends = np.cumsum([0, *map(numbers, arrays)]).tolist()
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def _real(y) -> np.ndarray:
    """The entries of y as real numbers: all real parts, then all imaginary ones."""
    y = np.asarray(y).reshape(-1)
    return np.concatenate([y.real, y.imag]) if np.iscomplexobj(y) else np.asarray(y, np.float64)


def _unreal(entries, like):
    if is_complex(like):
        half = entries.size // 2
        entries = entries[:half] + 1j * entries[half:]
    return entries.reshape(like.shape)


def real_ct(ct: Any) -> np.ndarray:
    """As `_real`, for the pairing Re(ct * y) = ct_r y_r - ct_i y_i."""
    ct = np.asarray(ct).reshape(-1)
    return np.concatenate([ct.real, -ct.imag]) if np.iscomplexobj(ct) else np.asarray(ct, np.float64)


def unreal_ct(entries: np.ndarray, like: Any) -> np.ndarray:
    """The cotangent, of the shape of `like`, whose real numbers these are."""
    if is_complex(like):
        half = entries.size // 2
        entries = entries[:half] - 1j * entries[half:]
    return entries.reshape(like.shape)
