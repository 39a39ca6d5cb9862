r"""Nonlinear least squares: the parameters of a model that fit data best, certified, with what they are known to.

    minimise F(x) = c^2 / 2 sum_i rho((r_i(x) / c)^2)   subject to   lower <= x <= upper,

F = |r|^2 / 2 for the linear loss.  The search is Levenberg and Marquardt's (levenberg_marquardt.py), polished by
Newton's method on F; what it ends with is judged by the certificate of certificate/fit.py.  Where that finds a lower
point, as it does off a plateau or a saddle, the search goes on from there.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.scipy.special import betainc

from functional_dl import arguments
from functional_dl.aliases import Array, PyTree, Scalar
from functional_dl.optimality.certificate.fit import CLEAR, geometry, judge, polish
from functional_dl.optimality.certificate.verdict import Status
from functional_dl.optimality.measures import largest, norm, reachable
from functional_dl.optimality.problem import point
from functional_dl.optimality.solvers import levenberg_marquardt, lsmr
from functional_dl.optimality.solvers.levenberg_marquardt import LOSSES, Loss, Objective, lengths, or_one

Step: TypeAlias = Literal["qr", "lsmr"]
STEPS = {"qr": (levenberg_marquardt.dense, geometry), "lsmr": (lsmr.model, lsmr.geometry)}
KEPT = 64  # compiled programs
ROUNDS = 8  # how often a search goes on from a lower point that its certificate found
STARTS = 8  # where the search from x0 does not end in a minimum
REASONS = {
    Status.CONVERGED: "converged: {second}",
    Status.STUCK: "stuck: no step lowers the cost further, but it is not certified: {offset}",
    Status.LIMIT: "stuck: not certified after max_iterations: {offset}",
    Status.PLATEAU: "stuck on a plateau: the residual does not change near x along some direction, but farther away",
    Status.NOT_A_MINIMUM: "stuck: stationary, but not a minimum: the cost falls along a direction",
    Status.NOT_FINITE: "stuck: the residual or its derivative is not finite at the start",
}


class FitCertificate(NamedTuple):
    """What is known about the point.

    Fields:
      offset: the greatest |g . v| / (|J v| |r|) over directions v of the free variables: the share of the residual that
        a linear model could still remove.
      rounding: the share that rounding of residuals and derivatives accounts for.
      step: the greatest Newton step that remains, relative to the variable (or to its natural size, where it is 0).
      perfect: the residual is 0 to rounding.
      curvature: the least eigenvalue of the Hessian relative to J' J: positive at a strict minimum.
      rank: of J on the variables that are not at a bound, -1 where no matrix is formed; free: how many these are.
    """

    offset: Scalar
    rounding: Scalar
    step: Scalar
    perfect: Array
    curvature: Scalar
    rank: Array
    free: Array


class LeastSquares(NamedTuple):
    """A fit.

    Fields:
      x; residual: r(x); cost: F(x).
      status: a number of optimality.Status; `converged` is whether it is CONVERGED, `reason` says it in words.
      certificate: of x, whatever the outcome.
      covariance (n, n) of the raveled x: s^2 (J' J)^-1, s^2 = |r|^2 / (m - n) with m residuals and n free variables;
        for other losses s^2 = sum psi^2 / (m - n) / mean(psi'), with rows weighted by psi'.  0 for variables held at a
        bound; infinite where the data do not determine a variable, or where m <= n.  None with step="lsmr".
      iterations: of all searches.
    """

    x: PyTree
    residual: PyTree
    cost: Scalar
    status: Array
    certificate: FitCertificate
    covariance: Array | None
    iterations: Array

    @property
    def converged(self) -> Array:
        """Whether x is certified: stationary, and no plateau; lower points were looked for where curvature is not
        clearly positive.  Or the residual is 0."""
        return self.status == Status.CONVERGED.value

    @property
    def reason(self) -> str:
        """The outcome in words; outside jit, for one fit."""
        found, status = self.certificate, Status(int(self.status))
        offset = (
            f"a linear model could remove {float(found.offset):.2g} of the residual "
            f"(rounding: {float(found.rounding):.2g}), by a step of {float(found.step):.2g} of the variables' size"
        )
        strict = float(found.curvature) > CLEAR
        second = f"{'a strict minimum' if strict else 'stationary, second order undecided'}: {offset}"
        return REASONS[status].format(
            offset=offset, second="a perfect fit, the residual is 0 to rounding" if bool(found.perfect) else second
        )

    @property
    def standard_errors(self) -> PyTree:
        """The roots of the covariance's diagonal, like x.

        Raises:
          ValueError: step was "lsmr".
        """
        if self.covariance is None:
            raise ValueError('covariance: expected step="qr", which forms it, got step="lsmr"')
        errors = jnp.sqrt(jnp.diagonal(self.covariance, axis1=-2, axis2=-1))
        leaves, structure = jax.tree.flatten(self.x)
        sizes = [int(np.prod(leaf.shape[self.cost.ndim :])) for leaf in leaves]
        parts = jnp.split(errors, np.cumsum(sizes)[:-1], axis=-1)
        return jax.tree.unflatten(structure, [p.reshape(leaf.shape) for p, leaf in zip(parts, leaves, strict=True)])

    def interval(self, level: float = 0.95) -> tuple[PyTree, PyTree]:
        """Ends of confidence intervals of each variable, x -+ t s_j with Student's t of m - n degrees of freedom.

        Raises:
          ValueError: level is not between 0 and 1.
        """
        arguments.within("level", level, 0.0, 1.0, open_right=True)
        errors = self.standard_errors
        count = sum(int(np.prod(leaf.shape[self.cost.ndim :])) for leaf in jax.tree.leaves(self.residual))
        t = _student(level, (count - self.certificate.free).astype(self.cost.dtype))
        spread = lambda x, e: jnp.where(e == 0, 0.0, jnp.reshape(t, t.shape + (1,) * (e.ndim - t.ndim)) * e).astype(
            x.dtype
        )
        wide = jax.tree.map(spread, self.x, errors)
        return jax.tree.map(jnp.subtract, self.x, wide), jax.tree.map(jnp.add, self.x, wide)


def least_squares(
    residual: Callable[..., PyTree],
    x0: PyTree,
    args: tuple[Any, ...] = (),
    *,
    bounds: tuple[Any, Any] | None = None,
    loss: Loss = "linear",
    loss_scale: float | Array = 1.0,
    x_scale: PyTree = None,
    step: Step = "qr",
    tolerance: float = 1e-8,
    max_iterations: int = 500,
    starts: int | None = None,
) -> LeastSquares:
    r"""min_x  c^2 / 2 sum_i rho((r_i(x) / c)^2)  subject to  lower <= x <= upper: a local minimum, certified.

    Args:
      residual: (x, *args) -> a pytree of real numbers, r; it needs two derivatives, forward.
      x0: a real pytree to start from; it is moved between the bounds.
      args: what the residual reads besides, the data: fits to other data of the same shapes use the program that is
        compiled already.  Without args each call compiles, as what changes may stand in the residual's closure.
      bounds: (lower, upper), each a number, a pytree like x, or None.
      loss: rho: "linear", "soft_l1", "huber", "cauchy" or "arctan"; loss_scale: c, the size of a residual from which on
        it counts less (SciPy's f_scale).
      x_scale: typical sizes of the variables, a number or a pytree like x; None: from the columns of J as the search
        meets them, so that units do not matter.
      step: "qr" factors J; "lsmr" forms no matrix.
      tolerance: of the offset (see FitCertificate); max_iterations: of each run.
      starts: from how many points to search, x0 the first and the others about it; the lowest certified minimum is
        returned.  None: from x0, and from up to 7 others only where that does not end in one.
    Returns:
      LeastSquares.  Runs under jit and vmap.  A hard problem raises nothing: `converged` is False, `reason` says why.
    Raises:
      ValueError: unknown loss or step, bounds that cross or do not fit, no residuals or no variables, a number that has
        to be positive is not.  TypeError: x0 or the residual is not real and floating.
    Numerics: in the dtype of x0.  float32 tells an offset from 0 down to about 1e-5, and what rounding of the residuals
      leaves of it (certificate.rounding) counts as 0.
    Kinks: |r| beyond c bends huber's psi; there one of its derivatives is taken.
    Source: More 1978; Bates and Watts 1988; Huber 1981, chapter 7.
    Example:
      >>> x = jnp.array([1.0, 2.0, 3.0, 4.0])
      >>> fit = optimality.least_squares(lambda p: p[0] * x + p[1] - (2 * x + 1), jnp.zeros(2))
      >>> fit.x.round(3).tolist(), bool(fit.converged)
      ([2.0, 1.0], True)
    """
    arguments.function("residual", residual)
    arguments.lookup("loss", loss, LOSSES)
    arguments.lookup("step", step, STEPS)
    arguments.positive("tolerance", arguments.number("tolerance", tolerance))
    arguments.positive("loss_scale", arguments.number("loss_scale", loss_scale))
    max_iterations = arguments.integer("max_iterations", max_iterations)
    starts = None if starts is None else arguments.integer("starts", starts)
    x0 = point(x0)
    vector = ravel_pytree(x0)[0]
    if vector.size == 0:
        raise ValueError("x0: expected at least one variable, got none")
    shape = jax.eval_shape(residual, x0, *args)
    for leaf in jax.tree.leaves(shape):
        arguments.floating_leaf("residual", leaf)
    if not sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shape)):
        raise ValueError(f"residual: expected at least one number, got {shape}")
    lower, upper = (_side(bounds, k, x0, vector) for k in (0, 1))
    low, high = arguments.concrete(lower), arguments.concrete(upper)
    if low is not None and high is not None and not np.all(low <= high):
        raise ValueError(f"bounds: expected lower <= upper, got {bounds!r}")
    scale = None if x_scale is None else arguments.positive("x_scale", _like("x_scale", x_scale, x0, vector))
    numbers = (lower, upper, scale, jnp.asarray(loss_scale, vector.dtype), reachable(tolerance, vector), max_iterations)
    options = residual, loss, step, starts
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((x0, args, numbers)))
    if traced:
        return _fit(*options)(x0, args, numbers)
    # without args, what changes may stand in the residual's closure: a program of an earlier call may be another's
    try:
        fit = _kept(*options) if args else _compiled(*options)
    except TypeError:  # the residual is an object that does not hash
        fit = _compiled(*options)
    return fit(x0, args, numbers)


def _compiled(*options):
    return jax.jit(_fit(*options))


_kept = lru_cache(maxsize=KEPT)(_compiled)


def _fit(residual, loss, step, starts):
    """The search, as a function of arrays alone."""

    def fit(x0, args, numbers):
        lower, upper, scale, loss_scale, tolerance, limit = numbers
        vector, unflatten = ravel_pytree(x0)
        flat = lambda v: ravel_pytree(residual(unflatten(v), *args))[0].astype(v.dtype)
        within = jnp.clip(vector, lower, upper)
        r, J = (
            Objective(flat, levenberg_marquardt.linear, loss_scale, lower, upper).values(within)
            if step == "qr"
            else (flat(within), None)
        )
        # residuals and variables in units of their own, powers of two: their squares neither overflow nor vanish
        of_r = _power_of_two(largest(r))
        at_zero = jnp.linalg.norm(r / of_r) / or_one(lengths(J / of_r)) if J is not None else jnp.ones_like(vector)
        of_x = _power_of_two(jnp.where(within != 0, jnp.abs(within), at_zero) if scale is None else scale)
        scale_of_loss = loss_scale / of_r if loss != "linear" else jnp.ones_like(of_r)
        counted = lambda v: flat(of_x * v) / of_r
        objective = Objective(counted, LOSSES[loss], scale_of_loss, lower / of_x, upper / of_x, of_r)
        search = _search(objective, step, None if scale is None else of_x / scale, tolerance, limit)
        end = _from_many(objective, search, within / of_x, starts)
        x, model = end.x * of_x, end.model
        r = flat(x)
        certificate = FitCertificate(
            model.offset / or_one(model.size),
            end.rounding,
            end.step,
            end.perfect,
            model.curvature[0],
            model.rank,
            jnp.sum(model.free),
        )
        shapes = jax.eval_shape(residual, x0, *args)
        like = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return LeastSquares(
            unflatten(x), ravel_pytree(like)[1](r.astype(ravel_pytree(like)[0].dtype)), end.cost * of_r * of_r,
            end.status, certificate, _covariance(objective, end, of_x) if step == "qr" else None, end.iterations,
        )  # fmt: skip

    return fit


class _End(NamedTuple):
    """What a search from one start ends with."""

    x: Array
    r: Array
    cost: Array
    model: Any
    rounding: Array
    step: Array
    perfect: Array
    status: Array
    iterations: Array


def _search(objective: Objective, step, scales, tolerance, limit):
    """x -> _End: runs, each polished and judged, from where the last one's certificate found a lower point."""
    step_model, certified = STEPS[step]
    fixed = scales is not None

    def model(*point):
        return step_model(*point, fixed=fixed)

    def values(x):
        return objective.values(x) if step == "qr" else (objective.residual(x), jnp.zeros((0, x.size), x.dtype))

    @jax.jit
    def search(x, before):
        """before: |r| before x, infinite where x is the caller's."""
        x = objective.within(x)
        r, J = values(x)
        sound = jnp.all(jnp.isfinite(r)) & jnp.all(jnp.isfinite(J))

        @jax.jit
        def round_from(x, r, J, before):
            """before: |r| of the point from which this start was found."""
            state = levenberg_marquardt.start(x, r, J, jnp.zeros_like(x) if scales is None else scales)
            state = state._replace(before=before)
            state = levenberg_marquardt.run(objective, state, model, tolerance, limit)
            x, r, J, found = polish(objective, certified, state.x, state.r, state.J)
            known = judge(objective, x, r, found, state.before, tolerance)
            minimum = known.perfect | known.strict | ~(known.falls | known.plateau)
            return x, r, J, found, known, state.iterations, known.stationary & minimum

        def body(carry):
            (x, r, J, *_), before, count, total, _ = carry
            end = round_from(x, r, J, before)
            known = end[4]
            again = known.stationary & ~end[-1] & known.falls
            r, J = values(known.lower)
            again = again & jnp.all(jnp.isfinite(r)) & jnp.all(jnp.isfinite(J)) & (count + 1 < ROUNDS)
            moved = jax.tree.map(lambda new, old: jnp.where(again, new, old), (known.lower, r, J), end[:3])
            return (*moved, *end[3:]), norm(end[1]), count + 1, total + end[5], again

        shapes = jax.eval_shape(round_from, x, r, J, before)
        empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        zero = jnp.zeros((), int)
        begin = (x, r, J, *empty[3:]), before, zero, zero, sound
        (x, r, _, found, known, iterations, minimum), _, _, total, _ = lax.while_loop(lambda c: c[-1], body, begin)
        status = jnp.where(iterations >= limit, Status.LIMIT.value, Status.STUCK.value)
        status = jnp.where(known.stationary, Status.NOT_A_MINIMUM.value, status)
        status = jnp.where(known.stationary & known.plateau, Status.PLATEAU.value, status)
        status = jnp.where(minimum, Status.CONVERGED.value, status)
        status = jnp.where(sound, status, Status.NOT_FINITE.value)
        cost = jnp.where(sound, jnp.sum(objective.costs(r)), jnp.inf)
        return _End(x, r, cost, found, known.rounding, known.step, known.perfect, status, total)

    return search


def _from_many(objective: Objective, search, x, starts):
    """The best end of several starts: certified before others, then the lowest."""
    count = STARTS if starts is None else starts
    far = jnp.full((), jnp.inf, x.dtype)
    shapes = jax.eval_shape(search, x, far)
    worst = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    worst = worst._replace(x=x, cost=jnp.full((), jnp.inf, x.dtype), status=worst.status + Status.NOT_FINITE.value)

    def body(carry):
        best, k = carry
        # a start of our own where r and J are 0 may stand where residuals are too small to be told from 0
        end = search(_start(x, k), jnp.where(k == 0, far, 0.0))
        rank = lambda end: end.status == Status.CONVERGED.value
        lower = end.cost < best.cost * (1 - 1e-6)
        better = (k == 0) | (rank(end) & ~rank(best)) | ((rank(end) == rank(best)) & lower)
        total = best.iterations + end.iterations
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), end, best)
        return best._replace(iterations=total), k + 1

    def going(carry):
        best, k = carry
        return (k < count) & ((starts is not None) | (best.status != Status.CONVERGED.value))

    return lax.while_loop(going, body, (worst, jnp.zeros((), int)))[0]


def _start(x, k):
    """The k-th start: each variable multiplied by a power of its own, from 1/2 to 2, then from 1/4 to 4, ..., every
    second time with its own sign; x itself for k = 0.  1 is the natural size of variables here."""
    spread = 2 * np.modf(np.arange(1, x.size + 1) * 0.6180339887498949)[0] - 1
    phase = jnp.asarray(spread, x.dtype) + k.astype(x.dtype) * 0.7548776662466927
    spread = 2 * (phase - jnp.floor(phase)) - 1
    size = jnp.where(x == 0, 1.0, x) * jnp.exp2(spread * ((k + 1) // 2).astype(x.dtype))
    turned = jnp.where((k % 2 == 0) & (spread < 0), -size, size)
    return jnp.where(k == 0, x, jnp.where((x == 0) & (k % 2 == 1), spread, turned))


def _covariance(objective: Objective, end: _End, of_x: Array) -> Array:
    """s^2 (J' J)^-1 in the caller's units."""
    r, free = end.r, end.model.free
    of_psi, _, of_j = objective.weights(r)
    freedom = (r.size - jnp.sum(free)).astype(r.dtype)
    square = jnp.sum((of_psi * r) ** 2) / or_one(freedom) / or_one(jnp.mean(of_j))
    unknown = ~jnp.isfinite(jnp.diag(end.model.inverse)) | (freedom <= 0)
    diagonal = jnp.eye(len(free), dtype=bool)
    found = jnp.where(
        unknown[None] | unknown[:, None], jnp.where(diagonal, jnp.inf, jnp.nan), square * end.model.inverse
    )
    return jnp.where(free[None] & free[:, None], found * of_x[None] * of_x[:, None], 0.0)


def _student(level: float, freedom: Array) -> Array:
    """t with P(|T| <= t) = level, infinite for no degrees of freedom: by bisection for u = t^2 / (freedom + t^2),
    P = I_u(1/2, freedom / 2)."""
    half = or_one(freedom) / 2

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        below = betainc(jnp.full_like(half, 0.5), half, middle) < level
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    low, high = lax.fori_loop(0, 60, halve, (jnp.zeros_like(half), jnp.ones_like(half)))
    u = (low + high) / 2
    return jnp.where(freedom > 0, jnp.sqrt(2 * half * u / (1 - u)), jnp.inf)


def _side(bounds, k, x0, vector):
    """One side of the bounds as a vector."""
    if bounds is not None and not (isinstance(bounds, tuple) and len(bounds) == 2):
        raise ValueError(f"bounds: expected a pair (lower, upper), got {bounds!r}")
    if bounds is None or bounds[k] is None:
        return jnp.full_like(vector, (-jnp.inf, jnp.inf)[k])
    return _like("bounds", bounds[k], x0, vector)


def _like(name, value, x0, vector):
    """A number for all variables, or a pytree like x, as a vector."""
    if jax.tree.structure(value) == jax.tree.structure(x0):
        spread = []
        for part, x in zip(
            map(partial(arguments.real, name), jax.tree.leaves(value)), jax.tree.leaves(x0), strict=True
        ):
            if part.shape not in ((), x.shape):
                raise ValueError(f"{name}: expected a number or shape {x.shape}, got shape {part.shape}")
            spread.append(jnp.broadcast_to(part.astype(x.dtype), x.shape))
        return ravel_pytree(spread)[0]
    if np.ndim(value) == 0:
        return jnp.full_like(vector, arguments.real(name, value).astype(vector.dtype))
    raise ValueError(f"{name}: expected numbers or pytrees like x, got {value!r}")


def _power_of_two(values: Array) -> Array:
    """The power of two next to positive values, 1 where a value is 0 or not finite."""
    usual = (values > 0) & jnp.isfinite(values)
    most = jnp.finfo(values.dtype).maxexp - 8
    exponent = jnp.round(jnp.log2(jnp.where(usual, values, 1.0)))
    return jnp.where(usual, jnp.ldexp(jnp.ones_like(values), jnp.clip(exponent, -most, most).astype(int)), 1.0)
