"""Integrals over regions of two to six dimensions."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl import arguments
from functional_dl.integrals import box, definite, result, rules
from functional_dl.integrals.box import DOUBLE_EXPONENTIAL, SHARE, Axis, Box
from functional_dl.integrals.definite import integrate, tolerance
from functional_dl.integrals.integrand import integrand
from functional_dl.integrals.result import Integral

LADDER = (
    3, 4, 6, 8, 10, 12, 14, 16, 19, 22, 26, 32, 38, 45, 54, 64, 76, 90, 108, 128, 152, 180, 215, 256, 362, 512, 724,
    1024,
)  # fmt: skip
LINES = 24
TARGET = 1e-13
FEW = 64  # up to so many nodes Gauss's rule is taken without trying the other
REPLICATES = 16
LARGEST_DIMENSION = 6


def integrate_region(
    f: Callable,
    bounds: Sequence,
    *,
    args: tuple = (),
    rtol: float = 1e-8,
    atol: float = 1e-10,
    evaluations: int = 60_000_000,
) -> Integral:
    r"""The integral of f over a region of one to six dimensions.

        int_{a_1}^{b_1} int_{a_2(x_1)}^{b_2(x_1)} ... f(x_1, ..., x_d) dx_d ... dx_1

    The order is that of `bounds`, outermost first: f takes its variables in that order, and bounds may be functions of
    the variables before theirs.  (scipy.integrate.nquad has the innermost first.)  The unit ball:

        bounds = [(-1, 1), (lambda x: -sqrt(1 - x**2), lambda x: sqrt(1 - x**2)),
                  (lambda x, y: -sqrt(1 - x**2 - y**2), lambda x, y: sqrt(1 - x**2 - y**2))]

    A product rule, with as many nodes on each axis as lines through the region ask for: Gauss's, or the double
    exponential one where ends are singular or infinite.  Its error is the difference from a product rule of other
    nodes, plus rounding; and randomised quasi-random points must agree.  Where lines do not settle (jumps and
    kinks inside) the mean over such points is the value, with an error of eight standard errors of 16 replicates.

    Args:
      f: x_1, ..., x_d, *args -> number, array or pytree of them; JAX operations on float64 numbers.
      bounds: a pair (a, b) for each variable, or a function of the variables before to such a pair.  a and b are
        numbers, which may be infinite, or functions of the variables before.  b < a changes the sign.
      args: further arguments of f.
      rtol, atol: as for `integrate`.
      evaluations: about how often f may be evaluated.
    Returns:
      Integral.
    Raises:
      TypeError: f is no function; a bound is neither a number nor a function.
      ValueError: no bounds or more than six, bounds that are not pairs, a bound that is NaN.
    Source: Genz 1984 for the families that the tests use; Owen 1997 for the scrambled nets.
    """
    arguments.function("f", f)
    rtol, atol = tolerance("rtol", rtol), tolerance("atol", atol)
    evaluations = arguments.whole("evaluations", evaluations, 10_000)
    with jax.enable_x64(True):
        limits, infinite = _limits(bounds)
        if len(limits) == 1:
            (lower, upper), args = limits[0](), tuple(args)
            return integrate(f, lower, upper, args=args, rtol=rtol, atol=atol)
        args = tuple(jax.tree_util.tree_map(jnp.asarray, args))
        made = integrand("f", f, args, len(limits))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree_util.tree_leaves(args)):
            raise TypeError("args: expected concrete numbers, got traced ones; integrate_region is not a JAX function")
        region = Box(lambda *x: made.vector(*x, *args), limits, infinite, made.size)
        with np.errstate(all="ignore"):
            value, error, code, count = _integrate(region, evaluations, made.eps, rtol, atol)
        hard = jnp.asarray(code in (result.NOT_FINITE, result.MISSED))
        flat = jnp.asarray(value), jnp.asarray(error)
        return definite.finish(
            made, flat, jnp.asarray(code), hard, jnp.asarray(jnp.nan), jnp.asarray(count), rtol, atol
        )


def volume_under_surface(f: Callable, bounds: Sequence, **settings) -> Integral:
    """The volume between z = f(x, y) and the plane z = 0, over a region of the plane: int |f|.

    Args:
      f: x, y -> real number.
      bounds, settings: as for `integrate_region`, two variables.
    """
    arguments.function("f", f)
    if len(bounds) != 2:
        raise ValueError(f"bounds: expected two pairs, one for x and one for y, got {len(bounds)}")
    return integrate_region(lambda x, y: jnp.abs(f(x, y)), bounds, **settings)


def _integrate(region: Box, budget: int, eps: float, rtol: float, atol: float):
    """(value (K,), error (K,), code, evaluations)."""
    values, total = box.point_values(region), box.tensor_sum(region)
    sample = _quasi_random(region, values, min(2**12, budget // 64))
    if not sample.finite:
        return sample.mean, np.full(region.size, np.inf), result.NOT_FINITE, sample.count
    kinds, sizes, settled, count = _sizes(region, values, sample.best)
    count += sample.count
    if settled:
        value, error, used = _product_rule(region, total, kinds, _within(sizes, 0.6 * budget), eps)
        count += used
        missed = np.any(np.abs(value - sample.mean) > sample.error + error)
        if np.all(error <= np.maximum(atol, rtol * np.abs(value))) and not missed:
            return value, error, result.UNRESOLVED, count
    # Where lines do not settle, two product rules may agree by chance: only the mean has an error that can be trusted.
    more = _quasi_random(region, values, int(np.clip(budget / REPLICATES / 8, 2**12, 2**17)))
    count += more.count
    if settled and not missed and np.max(error) <= np.max(more.error):
        return value, np.where(np.isfinite(error), error, np.inf), result.UNRESOLVED, count
    return more.mean, np.where(np.isfinite(more.error), more.error, np.inf), result.SAMPLED, count


def _product_rule(region: Box, total, kinds, sizes, eps: float):
    """(value, error, evaluations) of a product rule, judged by one with an eighth fewer nodes on every axis."""
    fine = [_axis(region, k, kind, n) for k, (kind, n) in enumerate(zip(kinds, sizes))]
    coarse = [_axis(region, k, kind, n - max(1, n // 8)) for k, (kind, n) in enumerate(zip(kinds, sizes))]
    (value, size), (other, _) = total(fine), total(coarse)
    used = sum(math.prod(len(axis.nodes) for axis in axes) for axes in (fine, coarse))
    return value, 2 * np.abs(value - other) + 64 * eps * size, used


class _Sample:
    """Means over scrambled nets, in the reference coordinates."""

    def __init__(self, means, moduli, best, finite, count):
        self.mean = means.mean(axis=0)
        # 16 replicates: by Student's distribution eight standard errors are exceeded less than once in a million
        self.error = 8 * means.std(axis=0, ddof=1) / np.sqrt(len(means)) + 64 * np.finfo(float).eps * moduli
        self.best, self.finite, self.count = best, finite, count


def _quasi_random(region: Box, values, points: int) -> _Sample:
    from scipy.stats import qmc

    points = 2 ** int(np.log2(points))
    kinds = np.array([DOUBLE_EXPONENTIAL if endless else SHARE for endless in region.infinite])
    reach = _reach(region)
    low = np.where(kinds == SHARE, 0.0, -reach)
    scale = np.where(kinds == SHARE, 1.0, 2 * reach)
    means, moduli, best, largest, finite = [], [], [], -1.0, True
    for replicate in range(REPLICATES):
        unit = qmc.Sobol(region.ndim, scramble=True, rng=np.random.default_rng(replicate)).random(points)
        g = values(kinds, low + scale * unit) * np.prod(scale)
        finite &= bool(np.all(np.isfinite(g)))
        size = np.max(np.abs(np.where(np.isfinite(g), g, 0.0)), axis=1)
        if size.max() > largest:
            largest, best = size.max(), unit[np.argsort(size)[-4:]]
        means.append(g.mean(axis=0))
        moduli.append(np.abs(g).mean(axis=0))
    return _Sample(np.array(means), np.mean(moduli, axis=0), np.asarray(best), finite, REPLICATES * points)


def _reach(region: Box):
    return np.where(region.infinite, box.REACH[1], box.REACH[0])


def _axis(region: Box, k: int, kind: int, n: int) -> Axis:
    """n nodes on axis k."""
    if kind == SHARE:
        return Axis(kind, *rules.gauss(n))
    reach = _reach(region)[k]
    step = 2 * reach / n
    return Axis(kind, -reach + step * (np.arange(n) + 0.4871), np.full(n, step))


def _sizes(region: Box, values, best):
    """How many nodes of which rule each axis wants: those after which lines do not change."""
    lines = np.concatenate([best, np.random.default_rng(3).random((LINES - len(best), region.ndim))])
    reach = _reach(region)
    # lines are placed by shares of the way, in t where an axis is infinite
    placed = np.where(region.infinite, -reach + 2 * reach * lines, lines)
    count = 0

    def settle(k, kind):
        """The first size after which two more change nothing."""
        nonlocal count
        mixed = np.array([DOUBLE_EXPONENTIAL if endless else SHARE for endless in region.infinite])
        mixed[k] = kind
        found, quiet = [], 0
        for rung, n in enumerate(LADDER):
            axis = _axis(region, k, kind, n)
            points = np.repeat(placed, n, axis=0)
            points[:, k] = np.tile(axis.nodes, len(placed))
            g = values(mixed, points).reshape(len(placed), n, -1)
            count += len(points)
            found.append(np.einsum("lnk,n->lk", g, axis.weights))
            scale = np.maximum(np.max(np.abs(found[-1]), axis=0), np.finfo(float).tiny)
            quiet = quiet + 1 if rung and np.all(np.abs(found[-1] - found[-2]) <= TARGET * scale) else 0
            if quiet == 2:
                return LADDER[rung - (2 if region.ndim > 4 else 1)], True  # in many dimensions every node counts
        return 256, False

    kinds, sizes, settled = [], [], True
    for k in range(region.ndim):
        kind = DOUBLE_EXPONENTIAL if region.infinite[k] else SHARE
        n, good = settle(k, kind)
        if not region.infinite[k] and not (good and n <= FEW):
            other, other_good = settle(k, DOUBLE_EXPONENTIAL)
            if other_good and (not good or other < n):
                kind, n, good = DOUBLE_EXPONENTIAL, other, True
        kinds.append(kind)
        sizes.append(n)
        settled &= good
    return kinds, sizes, settled, count


def _within(sizes, budget):
    """Sizes whose product stays within the budget: the largest axis gives way first."""
    sizes = list(sizes)
    while math.prod(sizes) > budget:
        sizes[int(np.argmax(sizes))] = max(2, int(max(sizes) * 0.95) - 1)
    return sizes


def _limits(bounds):
    """One function of the earlier variables to (lower, upper) for each axis; and which axes are infinite."""
    try:
        bounds = list(bounds)
    except TypeError:
        raise TypeError(f"bounds: expected a list of pairs, got {bounds!r}") from None
    if not 1 <= len(bounds) <= LARGEST_DIMENSION:
        raise ValueError(f"bounds: expected one to {LARGEST_DIMENSION} pairs, got {len(bounds)}")
    limits, infinite = [], []
    for k, entry in enumerate(bounds):
        name = f"bounds[{k}]"
        if callable(entry):
            limits.append(_pair_function(name, entry, k))
            infinite.append(False)
            continue
        if isinstance(entry, str) or not hasattr(entry, "__len__") or len(entry) != 2:
            raise ValueError(f"{name}: expected a pair (a, b), got {entry!r}")
        ends = [end if callable(end) else definite.bound(f"{name}[{i}]", end) for i, end in enumerate(entry)]
        infinite.append(any(not callable(end) and not np.isfinite(float(end)) for end in ends))
        limits.append(_pair_function(name, lambda *x, e=ends: [end(*x) if callable(end) else end for end in e], k))
    return limits, infinite


def _pair_function(name: str, fun: Callable, k: int) -> Callable:
    promotion = rules.strictness()

    def limit(*x):
        with promotion():
            pair = fun(*x)
        if not hasattr(pair, "__len__") or len(pair) != 2:
            raise ValueError(f"{name}: expected a function to a pair (a, b), got {pair!r}")
        return tuple(jnp.asarray(end, jnp.float64) for end in pair)

    number = jax.ShapeDtypeStruct((), jnp.float64)
    try:
        shapes = jax.eval_shape(limit, *[number] * k)
    except TypeError as error:
        message = str(error).splitlines()[0]
        raise TypeError(f"{name}: expected functions of the {k} variable(s) before: {message}") from error
    for shape in shapes:
        if shape.shape != ():
            raise ValueError(f"{name}: expected numbers as bounds, got shape {shape.shape}")
    return limit
