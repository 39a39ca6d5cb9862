"""Integrals over regions of two to six dimensions."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl import arguments
from functional_dl.integrals import definite, result, rules
from functional_dl.integrals.definite import integrate, tolerance
from functional_dl.integrals.integrand import PLACE, integrand, jax_function
from functional_dl.integrals.result import Integral
from functional_dl.precision import double

CHEAP = 2**21  # nodes of a product rule that are not worth a thought
LARGEST_DIMENSION = 6


def integrate_region(
    f: Callable[..., Any],
    bounds: Sequence[Any],
    *,
    args: tuple[Any, ...] = (),
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

    A product rule, with as many nodes on each axis as lines through the region require: Gauss's, or the double
    exponential one where ends are singular or infinite.  Its error is the difference from a product rule of other
    nodes, plus rounding; and randomised quasi-random points must agree.  Where lines do not settle (peaks, jumps and
    kinks inside), or a product has too many nodes, f is approximated by factors of one variable each, on panels that
    end at the kinks and jumps found; their integral is exact, and the mean of the rest over such points is added, with
    an error of eight standard errors of 16 replicates plus a term for what no point can have seen.

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
    Source: Genz 1984 for the families that the tests use; Owen 1997 for the scrambled nets;
    Oseledets and Tyrtyshnikov 2010 for the factors.
    Example:
      >>> triangle = integrals.integrate_region(lambda x, y: x * y, [(0.0, 1.0), (0.0, lambda x: x)])
      >>> round(float(triangle.value), 6)
      0.125
    """
    arguments.function("f", f)
    rtol, atol = tolerance("rtol", rtol), tolerance("atol", atol)
    evaluations = arguments.integer("evaluations", evaluations, 10_000)
    with double():
        limits, infinite = _limits(bounds)
        if len(limits) == 1:
            (lower, upper), args = limits[0](), tuple(args)
            found = integrate(f, lower, upper, args=args, rtol=rtol, atol=atol)
        else:
            found = _of_box(f, limits, infinite, args, evaluations, rtol, atol)
    return result.handed_out(found)


def _of_box(f, limits, infinite, args, evaluations, rtol, atol) -> Integral:
    """Over more than one variable."""
    from functional_dl.integrals.box import Box  # of what only a region needs, nothing is imported before

    args = tuple(jax.tree_util.tree_map(jnp.asarray, args))
    made = integrand("f", jax_function("f", f, *[PLACE] * len(limits), *args), args, len(limits))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree_util.tree_leaves(args)):
        raise TypeError("args: expected concrete numbers, got traced ones; integrate_region is not a JAX function")
    region = Box(lambda *x: made.vector(*x, *args), limits, infinite, made.size)
    with np.errstate(all="ignore"):
        value, error, code, count = _integrate(region, evaluations, made.eps, rtol, atol)
    hard = jnp.asarray(code in result.SERIOUS)
    flat = jnp.asarray(value), jnp.asarray(error)
    return definite.finish(made, flat, jnp.asarray(code), hard, jnp.asarray(jnp.nan), jnp.asarray(count), rtol, atol)


def volume_under_surface(f: Callable[..., Any], bounds: Sequence[Any], **settings: Any) -> Integral:
    """The volume between z = f(x, y) and the plane z = 0, over a region of the plane: int |f|.

    Args:
      f: x, y -> real number.
      bounds, settings: as for `integrate_region`, two variables.
    Example:
      >>> round(float(integrals.volume_under_surface(lambda x, y: x * y, [(0.0, 1.0), (0.0, 1.0)]).value), 6)
      0.25
    """
    arguments.function("f", f)
    if len(bounds) != 2:
        raise ValueError(f"bounds: expected two pairs, one for x and one for y, got {len(bounds)}")
    return integrate_region(lambda x, y: jnp.abs(f(x, y)), bounds, **settings)


def _integrate(region: Any, budget: int, eps: float, rtol: float, atol: float):
    """(value (K,), error (K,), code, evaluations), of a Box."""
    from functional_dl.integrals import box, divergence, lines, product, sampling

    values, total = box.point_values(region), box.tensor_sum(region)
    enough = lambda found: np.all(found.error <= np.maximum(atol, rtol * np.abs(found.value)))
    sample = sampling.plain_mean(region, values, min(sampling.POINTS, budget // 64))
    if not sample.finite:
        return sample.value, np.full(region.size, np.inf), result.NOT_FINITE, sample.evaluations
    through = lines.through(region, values, sample.best)
    if divergence.diverges(region, values, through):
        return sample.value, np.full(region.size, np.inf), result.DIVERGES, sample.evaluations + through.evaluations
    tops = values(box.plain(region), box.place(region, box.plain(region), through.tops))
    highest = max(float(np.max(np.abs(tops))), sample.highest)
    if divergence.unseen(region, values, highest):
        code = result.UNSEEN if highest == 0 else result.MISSED
        return sample.value, np.full(region.size, np.inf), code, sample.evaluations + through.evaluations
    kinds, sizes, settled, used = product.sizes(region, values, through)
    count = sample.evaluations + through.evaluations + used

    def by_product_rule():
        nonlocal count
        value, error, used = product.rule(region, total, kinds, product.within(sizes, 0.6 * budget), eps)
        count += used
        missed = np.any(np.abs(value - sample.value) > sample.error + error)
        return _Found(value, np.where(np.isfinite(error) & ~missed, error, np.inf))

    tried = []
    if settled and math.prod(sizes) <= min(CHEAP, 0.6 * budget):
        tried.append(by_product_rule())
        if enough(tried[0]):
            return *tried[0], result.UNRESOLVED, count
    # Where lines do not settle, two product rules may agree by chance: only means have an error that can be trusted.
    mean = sampling.mean_around_factors(region, values, kinds, through, budget, enough)
    count += mean.evaluations
    tried.append(_Found(mean.value, mean.error))
    if settled and len(tried) == 1 and not enough(tried[0]):
        tried.append(by_product_rule())
    best = min(tried, key=lambda found: np.max(found.error))
    return *best, result.SAMPLED if best.value is mean.value else result.UNRESOLVED, count


class _Found(NamedTuple):
    value: np.ndarray
    error: np.ndarray


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


def _pair_function(name: str, fun: Callable[..., Any], k: int) -> Callable[..., Any]:
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
