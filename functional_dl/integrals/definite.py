"""The definite integral of a function of one variable."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from functional_dl import arguments
from functional_dl.aliases import Array
from functional_dl.calculus import intervals
from functional_dl.integrals import compiled, core, derivative, features, host, oscillation, result, rounding
from functional_dl.integrals.integrand import Integrand, integrand
from functional_dl.integrals.result import Integral
from functional_dl.precision import double

PLAIN_SAMPLES = 2**12  # of a function that JAX cannot trace
PLAIN_INTERVALS = 400
OSCILLATORY = 1e-9  # the relative error from which an infinite integral is tried as an alternating series


def integrate(
    f: Callable[..., Any],
    a: ArrayLike,
    b: ArrayLike,
    *,
    points: Sequence[Any] | None = None,
    args: tuple[Any, ...] = (),
    rtol: float = 1e-8,
    atol: float = 1e-10,
    samples: int = core.Settings().samples,
    intervals: int = core.Settings().intervals,
) -> Integral:
    r"""The integral of f from a to b, with an error that is meant as a bound.

    The value is an adaptive Gauss rule's, after a substitution that tames singularities at the ends and infinite
    ranges.  The error adds up the rule's own estimate, the difference from another rule on another subdivision, the
    rounding of the integrand, of each of its operations and of its argument, and what may lie beyond the last node.
    An oscillatory tail that decays slowly is summed as an alternating series (not under jit and vmap).  Features
    narrower than about the range / samples, that show at none of 2 `samples` places, are looked for by interval
    arithmetic where the integrand's operations have it (not under jit and vmap); else they cannot be seen.

    Differentiable (jax.grad, jax.jvp, functional_dl.reverse) with respect to a, b, `args` and what f closes over, by
    Leibniz's rule; `jax.jit` and `jax.vmap` apply.

    Args:
      f: x, *args -> number, array or pytree of them, real or complex; JAX operations on the float64 number x; or
        NumPy's or Python's, which are called with one number after the other where JAX cannot trace them.
      a, b: the bounds, numbers; either may be infinite.  b < a changes the sign, b = a gives 0.
      points: places within the range where f jumps, has a kink or is singular; each piece is integrated on its own.
      args: further arguments of f.
      rtol, atol: `converged` wants every entry's error below max(atol, rtol |value|).  The work done does not depend
        on them: the value is always computed as accurately as rounding allows.
      samples: half the number of places at which f is sampled before it is integrated.
      intervals: how many intervals the subdivision may make.
    Returns:
      Integral(value, error, converged, ...), in float64 (see Integral for x64 off); where it is not converged, `reason`
      says why.
    Raises:
      TypeError: f is no function, or does not return numbers; a bound or a point is not a real number.
      ValueError: a bound is NaN, a point lies outside the range, a tolerance is negative.
    Kinks: kinks and jumps of f are found by bisection, the faster the fewer there are.
    Numerics: f is evaluated in float64, also where x64 is off.  A divergent integral or a principal value is
      reported as not converged; so is an integrand that is 0 wherever it was asked, unless it is proved to be 0.
    Source: Piessens et al. 1983 (QUADPACK); Takahasi and Mori 1974; Cohen, Rodriguez Villegas and Zagier 2000.
    Example:
      >>> area = integrals.integrate(jnp.sin, 0.0, jnp.pi)
      >>> round(float(area.value), 9), bool(area.converged)
      (2.0, True)
    """
    rtol, atol = tolerance("rtol", rtol), tolerance("atol", atol)
    samples, intervals = arguments.integer("samples", samples, 16), arguments.integer("intervals", intervals, 32)
    args = tuple(args)
    with double():
        moves = tuple(isinstance(bound, jax.core.Tracer) for bound in (a, b))
        a, b = bound("a", a), bound("b", b)
        edges = _edges(a, b, points)
        args = jax.tree_util.tree_map(jnp.asarray, args)
        made = integrand("f", f, args)
        settings = core.Settings(samples, intervals, eps=made.eps)
        flat, at, evaluations, code, hard = _pieces(made, moves, edges, a, b, args, settings)
        found = finish(made, flat, code, hard, at, evaluations, rtol, atol)
    return result.handed_out(found)


def _pieces(made: Integrand, moves, edges, a, b, args, settings):
    """Every piece between two edges, summed: (value, error), at, evaluations, code, refused."""
    if made.plain:
        return _plain_pieces(made, moves, edges, args, settings)
    converted, constants = jax.closure_convert(made.vector, jnp.zeros(()), *args)
    operands = (args, tuple(constants))
    values_at = lambda x, args, constants: converted(x, *args, *constants)
    jaxpr = jax.make_jaxpr(values_at)(jnp.zeros(()), *operands)
    moved_at = rounding.nudged(jaxpr)

    @jax.jit
    def run(edges, operands):
        flat = jax.tree_util.tree_leaves(operands)
        one = lambda ends: compiled.integrate(
            lambda x: values_at(x, *operands), ends[0], ends[1], settings, made.size, lambda p, x: moved_at(p, x, *flat)
        )
        return jax.lax.map(one, (edges[:-1], edges[1:]))

    edges, still = jax.lax.stop_gradient((edges, operands))
    if _traced(values_at, edges, still):
        found = jax.lax.stop_gradient(run(edges, still))
    else:
        flat = jax.tree_util.tree_leaves(still)
        sampler = host.Sampler(lambda x: values_at(x, *still), made.size, lambda p, x: moved_at(p, x, *flat))
        enclosure = intervals.Enclosure.of(jaxpr, flat)
        pieces = [_piece(sampler, ends[0], ends[1], settings, enclosure) for ends in itertools.pairwise(edges)]
        found = core.Core(*(jnp.asarray(np.stack(field)) for field in zip(*_padded(pieces))))
    worst = _worst(found)
    value = jnp.sum(found.value, axis=0)
    if jax.tree_util.tree_leaves(operands) or any(moves):
        value = derivative.value_of(
            values_at, moves, value, found.nodes.reshape(-1), found.weights.reshape(-1), (a, b), operands
        )
    flat = value, jnp.sum(found.error, axis=0)
    return flat, found.at[worst], jnp.sum(found.evaluations), found.code[worst], jnp.any(core.serious(jnp, found.code))


def _worst(found: core.Core) -> Array:
    """The piece that is worst."""
    return core.largest(jnp, jnp.where(core.serious(jnp, found.code), jnp.inf, jnp.max(found.error, axis=1)))


def _plain_pieces(made: Integrand, moves, edges, args, settings):
    """The same for a function that JAX cannot trace: it is called with one number after the other."""
    if any(moves) or any(isinstance(x, jax.core.Tracer) for x in jax.tree_util.tree_leaves((edges, args))):
        raise TypeError(
            f"f: expected a function of JAX where bounds or args are traced, JAX cannot trace this one ({made.plain})"
        )
    sampler = host.PlainSampler(lambda x: made.vector(x, *args), made.size)
    settings = settings._replace(samples=min(settings.samples, PLAIN_SAMPLES), intervals=PLAIN_INTERVALS)
    pieces = [_piece(sampler, ends[0], ends[1], settings) for ends in itertools.pairwise(edges)]
    found = core.Core(*(jnp.asarray(np.stack(field)) for field in zip(*_padded(pieces))))
    worst = _worst(found)
    flat = jnp.sum(found.value, axis=0), jnp.sum(found.error, axis=0)
    return flat, found.at[worst], jnp.sum(found.evaluations), found.code[worst], jnp.any(core.serious(jnp, found.code))


def _piece(sampler: host.Sampler, lower, upper, settings, enclosure=None) -> core.Core:
    """One piece; where an infinite one has no small error, the sum of its oscillatory tail may have one."""
    hidden = () if enclosure is None else features.hidden(enclosure, sampler, lower, upper)
    found = host.integrate(sampler, lower, upper, settings, hidden)
    if found.code == result.UNSEEN and enclosure is not None:
        most = features.bound_of_zero(enclosure, lower, upper)
        code = np.asarray(result.OK if most == 0 else result.UNSEEN)
        return found._replace(error=np.full_like(found.error, most), code=code)
    if (np.isfinite(lower) and np.isfinite(upper)) or np.all(found.error <= OSCILLATORY * np.abs(found.value)):
        return found
    halves = [(lower, 0.0), (0.0, upper)] if np.isinf(lower) and np.isinf(upper) else [(lower, upper)]
    tail = None
    for start, end in halves:
        half = oscillation.integrate(sampler, start, end, settings)
        if half is None or not np.all(half.error <= found.error):
            return found
        tail = half if tail is None else _together(tail, half)
    return tail or found


def _together(one: core.Core, other: core.Core) -> core.Core:
    """Two pieces as one."""
    worse = max((one, other), key=lambda half: np.max(half.error))
    return core.Core(
        one.value + other.value,
        one.error + other.error,
        worse.code,
        worse.at,
        one.evaluations + other.evaluations,
        np.concatenate([one.nodes, other.nodes]),
        np.concatenate([one.weights, other.weights]),
    )


def _traced(values_at, edges, operands) -> bool:
    """Whether a program is being traced: under jit and vmap nothing has numbers, and that of grad is taken off."""
    there = values_at(jnp.asarray(0.4873), *operands)
    return any(isinstance(x, jax.core.Tracer) for x in jax.tree_util.tree_leaves((there, edges, operands)))


def _padded(pieces):
    """Pieces whose rules have as many nodes, with nodes of weight 0."""
    most = max(len(piece.nodes) for piece in pieces)
    for piece in pieces:
        fill = most - len(piece.nodes)
        yield piece._replace(
            nodes=np.pad(piece.nodes, (0, fill), mode="edge"),
            weights=np.pad(piece.weights, (0, fill)),
            evaluations=np.int64(piece.evaluations),
        )


def finish(
    made: Integrand,
    flat: tuple[Array, Array],
    code: Array,
    hard: Array,
    at: Array,
    evaluations: Array,
    rtol: float,
    atol: float,
) -> Integral:
    """The caller's structure, and the verdict."""
    value, error = flat
    size = jax.lax.stop_gradient(jnp.abs(made_modulus(made, value)))
    enough = jnp.all(made_modulus(made, error) <= jnp.maximum(atol, rtol * size)) & ~hard & jnp.all(jnp.isfinite(value))
    code = jnp.where(enough, result.OK, jnp.where(code == result.OK, result.UNRESOLVED, code))
    at = jnp.where(enough, jnp.nan, at)
    return Integral(made.restore(value), made.restore_error(error), enough, code, at, evaluations)


def made_modulus(made: Integrand, flat: Array) -> Array:
    """The moduli of all entries as one vector."""
    leaves = jax.tree_util.tree_leaves(made.restore_error(jax.lax.stop_gradient(flat)))
    return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])


def _edges(a, b, points):
    """The bounds with the points between them, in the direction of integration."""
    if points is None or len(points) == 0:
        return jnp.stack([a, b])
    points = jnp.stack([bound(f"points[{k}]", point) for k, point in enumerate(points)])
    low, high = jnp.minimum(a, b), jnp.maximum(a, b)
    if not any(isinstance(x, jax.core.Tracer) for x in (points, low, high)):
        outside = np.asarray((points < low) | (points > high))
        if outside.any():
            raise ValueError(
                f"points: expected places between the bounds {float(low):g} and {float(high):g}, "
                f"got {np.asarray(points)[outside][0]:g}"
            )
    points = jnp.sort(jnp.clip(points, low, high))
    return jnp.concatenate([a[None], jnp.where(a <= b, points, points[::-1]), b[None]])


def bound(name: str, value: Any) -> Array:
    """A real number in float64, perhaps infinite.  Raises TypeError for anything else, ValueError for NaN."""
    if isinstance(value, str) or value is None or callable(value):
        raise TypeError(f"{name}: expected a number, got {value!r} ({type(value).__name__})")
    try:
        number = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected a number, got {value!r} ({type(value).__name__})") from error
    if jnp.issubdtype(number.dtype, jnp.complexfloating) or not jnp.issubdtype(number.dtype, jnp.number):
        raise TypeError(f"{name}: expected a real number, got dtype {number.dtype}")
    if number.shape != ():
        raise ValueError(f"{name}: expected one number, got shape {number.shape}; jax.vmap integrates over many")
    if not isinstance(number, jax.core.Tracer) and np.isnan(np.asarray(number)):
        raise ValueError(f"{name}: expected a number, got NaN")
    return number.astype(jnp.float64)


def tolerance(name: str, value: float) -> float:
    number = float(value)
    if not number >= 0:
        raise ValueError(f"{name}: expected a number >= 0, got {value}")
    return number
