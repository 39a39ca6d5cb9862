"""One integral over one range: an adaptive rule in the t of `substitution`, and what makes its error honest.

An adaptive rule's estimate compares rules on the same intervals, so both can miss the same thing.  Its value is
therefore held against: another rule on another subdivision of every interval; the trapezoidal rule over the search's
samples; the integrand at neighbouring floats, and with its operations moved by their rounding; a power law for what
lies beyond the outermost nodes.  The error is the sum of what they show.  The arithmetic here has no branch on values
and runs in numpy (`host`) as in compiled programs (`compiled`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from functional_dl.aliases import Array
from functional_dl.integrals import result, rules, search, substitution, tails
from functional_dl.integrals.substitution import Range

SPLIT = 0.381966011250105  # where the cross-check cuts every interval: nowhere near a node of the rule's halves
CHECK = 21  # nodes of the cross-check's rule on each part


class Settings(NamedTuple):
    """How much work is done; static."""

    samples: int = 2**14
    intervals: int = 2000
    target: float = 1e-13  # relative to the integral of |f|
    eps: float = 2.0**-52  # rounding unit of the integrand's values


class Core(NamedTuple):
    value: Any  # (K,)
    error: Any  # (K,)
    code: Any  # what is suspicious; whether the error is small enough is for the caller
    at: Any
    evaluations: Any
    nodes: Any  # (N,) x of a rule that is good for the integrand, for derivatives
    weights: Any  # (N,), signed by the direction of integration


class Mesh(NamedTuple):
    """What an adaptive rule leaves behind: intervals in t, those beyond the ones used of width 0."""

    value: Any  # (K,)
    error: Any  # its own estimate, a number or (K,)
    left: Any  # (intervals,)
    right: Any
    parts: Any  # (intervals, K)
    errors: Any  # (intervals,)
    evaluations: Any


def integrate(
    xp: Any,
    values: Callable[..., Any],
    adaptive: Callable[..., Any],
    lower: Any,
    upper: Any,
    settings: Settings,
    moved: Callable[..., Any] | None = None,
) -> Core:
    """The integral of `values: x (n,) -> (n, K)` from lower to upper; bounds may be infinite and in either order.

    Args:
      xp: numpy or jax.numpy.
      moved: x (n,) -> (patterns, n, K), values with every operation moved by its rounding.
      adaptive: (evaluate, found, settings) -> Mesh, where evaluate: t (n,) -> (values (n, K), finite (n,)).
    """
    sign = xp.where(lower <= upper, 1.0, -1.0)
    empty, nan = lower == upper, xp.isnan(lower) | xp.isnan(upper)
    span = Range(xp.minimum(lower, upper), xp.maximum(lower, upper), xp)

    def evaluate(t):
        x, dx, inside = substitution.to_x(span, t)
        g = values(x) * dx[:, None]
        finite = xp.isfinite(g)
        return xp.where(inside[:, None] & finite, g, 0.0), xp.all(finite, axis=1) | ~inside

    found = search.sample(evaluate, span, settings.samples)
    mesh = adaptive(evaluate, found, settings)
    check = _cross_check(values, evaluate, span, mesh, settings.eps)
    ends = [tails.tail(values, span, t, found.size, side) for t, side in ((found.t_lower, -1), (found.t_upper, 1))]
    rounding = check.rounding + _common_rounding(xp, moved, values, check)
    error = mesh.error + 2 * check.difference + rounding + ends[0].error + ends[1].error
    # the third opinion: the samples themselves
    apart = xp.abs(found.trapezoid - mesh.value)
    # what sits in intervals narrower than a few samples cannot be seen by them
    narrow = (mesh.right - mesh.left) < 8 * (found.t_upper - found.t_lower) / settings.samples
    unseen = xp.sum(xp.where(narrow[:, None], xp.abs(mesh.parts), 0.0), axis=0)
    missed = apart > 8 * (found.doubt + error + unseen + 1e-12 * found.size)
    error = xp.where(missed, error + apart, error)
    value = mesh.value + ends[0].mass + ends[1].mass
    code, at = _verdict(span, found, mesh, check, rounding, ends, missed)
    # zeros at all places that were asked prove nothing
    unseen = xp.all(found.size == 0) & xp.all(value == 0) & xp.all(error == 0) & ~empty
    code = xp.where(unseen & (code != result.NOT_FINITE), result.UNSEEN, code)
    bad = ~(xp.isfinite(value) & xp.isfinite(error))
    refused = (code == result.NOT_FINITE) | (code == result.DIVERGES_BELOW) | (code == result.DIVERGES_ABOVE)
    value = xp.where(empty, 0.0, xp.where(bad | nan, xp.nan, sign * value))
    error = xp.where(empty, 0.0, xp.where(bad | refused | nan, xp.inf, error))
    error = xp.where(xp.all(code == result.UNSEEN) & ~empty, xp.inf, error)
    code = xp.where(nan, result.NAN_BOUND, xp.where(empty, result.OK, code))
    evaluations = 2 * settings.samples + settings.samples // 8 + mesh.evaluations + check.nodes.shape[0]
    # the two ends that were cut off count as a node each, the integrand there times the distance
    nodes = xp.concatenate([check.nodes, xp.stack([end.place for end in ends])])
    weights = xp.concatenate([check.weights, xp.stack([end.weight for end in ends])])
    return Core(value, error, code, at, evaluations, nodes, xp.where(empty, 0.0, sign) * weights)


def _common_rounding(xp, moved, values, check):
    """(K,) by how much the rule moves with the integrand's operations, all nodes alike: twice the most of a few
    patterns of signs."""
    if moved is None:
        return 0.0
    apart = moved(check.nodes) - values(check.nodes)[None]
    apart = xp.where(xp.isfinite(apart), apart, 0.0)
    return 2 * xp.max(xp.abs(xp.einsum("pnk,n->pk", apart, check.weights)), axis=0)


class Check(NamedTuple):
    difference: Any  # (K,) sum over intervals of |this rule - the adaptive one|
    rounding: Any  # (K,) what the integrand moves between neighbouring floats, integrated
    hole: Any  # whether the integrand is not finite somewhere, and where
    hole_at: Any
    worst: Any  # t of the interval with the largest disagreement
    nodes: Any
    weights: Any


def _cross_check(values, evaluate, span: Range, mesh: Mesh, eps: float) -> Check:
    """Every interval in two unequal parts, Gauss's rule on each."""
    xp = span.xp
    unit, weight = map(xp.asarray, rules.gauss(CHECK))
    length = mesh.right - mesh.left
    shares = xp.concatenate([SPLIT * unit, SPLIT + (1 - SPLIT) * unit])
    t = mesh.left[:, None] + length[:, None] * shares[None, :]
    w = xp.concatenate([SPLIT * weight, (1 - SPLIT) * weight])[None, :] * length[:, None]
    g, finite = evaluate(t.reshape(-1))
    x, dx, inside = substitution.to_x(span, t.reshape(-1))
    beside = xp.nextafter(x, xp.where(x > 0, -xp.inf, xp.inf))
    moved = xp.abs(values(beside) * dx[:, None] - g)
    moved = xp.where(inside[:, None] & xp.isfinite(moved), moved, 0.0) + 4 * eps * xp.abs(g)
    shape = (*t.shape, g.shape[1])
    parts = xp.sum(g.reshape(shape) * w[:, :, None], axis=1)
    apart = xp.abs(parts - mesh.parts)
    rounding = xp.sum(moved.reshape(shape) * w[:, :, None], axis=(0, 1))
    edges = _at_the_edges(evaluate, mesh, g.reshape(shape), span)
    index = largest(xp, mesh.errors + xp.max(apart, axis=1))
    hole = largest(xp, ~finite)
    middle = (mesh.left[index] + mesh.right[index]) / 2
    return Check(xp.sum(apart, axis=0) + edges, rounding, ~xp.all(finite), x[hole], middle, x, w.reshape(-1) * dx)


def _at_the_edges(evaluate, mesh: Mesh, g, span: Range):
    """A bound on what hides between an interval's end and the node nearest to it, where no rule looks.

    Close to both ends, at distances falling by 4, the integrand is compared with what the polynomial through the
    check's nodes says there: sum |difference| times the distance.  (K,).
    """
    xp = span.xp
    near = 4.0 ** -np.arange(4, 24)
    unit, _ = rules.gauss(CHECK)
    left = xp.asarray(rules.interpolation(unit, near / SPLIT))
    right = xp.asarray(rules.interpolation(unit, 1 - near / (1 - SPLIT)))
    said = xp.concatenate(
        [xp.einsum("en,jnk->jek", left, g[:, :CHECK]), xp.einsum("en,jnk->jek", right, g[:, CHECK:])], axis=1
    )
    shares = xp.asarray(np.concatenate([near, 1 - near]))
    length = mesh.right - mesh.left
    t = mesh.left[:, None] + length[:, None] * shares[None, :]
    seen = evaluate(t.reshape(-1))[0].reshape(said.shape)
    weight = xp.asarray(np.concatenate([near, near]) * 4.0)
    return xp.einsum("jek,e,j->k", xp.abs(seen - said), weight, length)


def largest(xp: Any, x: Any) -> Any:
    """argmax of a vector.  A program's own argmax cannot be compiled in float64 where x64 is off."""
    if xp is np:
        return np.argmax(x)
    top = x == xp.max(x)
    return xp.min(xp.where(top, xp.arange(x.shape[0]), x.shape[0] - 1))


def _verdict(span: Range, found, mesh: Mesh, check: Check, rounding, ends, missed):
    """(code, at): the most telling of what was seen."""
    xp = span.xp
    where, _, _ = substitution.to_x(span, check.worst)
    index = largest(xp, mesh.errors)
    narrow = (mesh.right[index] - mesh.left[index]) < 1e-6 * (found.t_upper - found.t_lower)
    singular = narrow & (mesh.errors[index] > 1e-11 * xp.max(found.size))
    rough = xp.any(rounding > mesh.error + check.difference)
    code = xp.where(singular, result.SINGULAR, xp.where(rough, result.ROUNDING, result.UNRESOLVED))
    code = xp.where(xp.any(missed), result.MISSED, code)
    code = xp.where(ends[1].diverges, result.DIVERGES_ABOVE, code)
    code = xp.where(ends[0].diverges, result.DIVERGES_BELOW, code)
    code = xp.where(found.hole | check.hole, result.NOT_FINITE, code)
    where = xp.where(found.hole, found.hole_at, xp.where(check.hole, check.hole_at, where))
    return code, where


def serious(xp: Any, code: Array) -> Array:
    """Codes that refuse convergence whatever the error says."""
    return xp.isin(code, xp.asarray(np.array(result.SERIOUS)))
