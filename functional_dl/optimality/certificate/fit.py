r"""Is a point of least squares a minimum?  What is left of the gradient, what curvature says, and what steps say.

With J = Q R of the free variables (columns of length 1) the part of the residual that a linear model could still remove
is |Q' r|; relative to |r| it is the greatest |g . v| / (|J v| |r|) over all directions v (the relative offset of Bates
and Watts), which no choice of units or parameters changes.  It is 0 to rounding where it is below what rounding of the
residuals, measured around x, and of J leave of it.

The Hessian of F is J' J + S, S = sum_i psi_i hess r_i.  With singular values s and right vectors V of R it is a
congruence away from

    M = diag(s / t)^2 + V S V' / (t t'),     t = s, but for directions in which J says less than S does:

1 + the least eigenvalue of S relative to J' J, where J' J decides.  M > 0 proves a strict minimum; where an eigenvalue
is negative or nothing, steps of all lengths along its vector and along the axes are tried.  A lower value refutes a
minimum; residuals that do not change near x but do farther away are those of a plateau, no minimum.
Source: Bates and Watts 1981; Dennis and Schnabel 1996, section 10.2.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.aliases import Array, Scalar
from functional_dl.optimality.measures import largest, norm
from functional_dl.optimality.solvers.levenberg_marquardt import Objective, lengths, or_one, split, triangle

CLEAR = 1e-3  # an eigenvalue of M beyond it is positive or negative
POLISHES = 8  # Newton steps at the end
NOISE = 16.0  # times the rounding measured, up to which residuals are rounding
CAP = 1e-3  # of |r|: more of a gradient is never put down to the rounding of an ill-conditioned J
SHORT = np.array([2.0**-10, 2.0**-6])
LONG = np.concatenate([[2.0**-3, 0.5], 1 - 2.0 ** -np.arange(2.0, 11.0, 2), 2.0 ** np.arange(0.0, 11.0, 2)])
LOWEST, AXES = 8, 16  # how many vectors and axes are tried


class Geometry(NamedTuple):
    """The model of F at a point.

    Fields:
      offset: |Q' r|, and size: |r|, weighted; free (n,); rank of J on the free variables.
      least: the least singular value above rounding; curvature: eigenvalues of M; vectors: rows, in x.
      newton: -hess^-1 g; inverse: of J' J on the free variables, infinite where J says nothing.
    """

    offset: Scalar
    size: Scalar
    free: Array
    rank: Array
    least: Scalar
    curvature: Array
    vectors: Array
    newton: Array
    inverse: Array


class Judged(NamedTuple):
    """What is known of a point.

    Fields:
      stationary; perfect: r = 0; strict: the Hessian is positive.
      falls: a lower point was found, and lower is the lowest of them; plateau.
      rounding: what it leaves of |Q' r| / |r|; step: the next one, relative to x.
    """

    stationary: Array
    perfect: Array
    strict: Array
    falls: Array
    plateau: Array
    lower: Array
    rounding: Scalar
    step: Scalar


def geometry(objective: Objective, x: Array, r: Array, J: Array) -> Geometry:
    of_r, curved, of_j = objective.weights(r)
    root = jnp.sqrt(of_j)
    weighted, rows = of_r / or_one(root) * r, root[:, None] * J
    eps, size = jnp.finfo(x.dtype).eps, norm(weighted)
    # a column is none where changing the variable by all of its size would move the residual by less than eps^2 of it
    length = lengths(rows)
    unit = or_one(jnp.where(length * jnp.maximum(jnp.abs(x), 1) > eps**2 * size, length, 0.0))
    free = objective.free(x, weighted @ rows)
    R, c = triangle(weighted, jnp.where(free[None], rows / unit[None], 0.0))
    s, v, b = split(R, c, len(r))
    b = jnp.where(s > 0, b, 0.0)
    push = jax.grad(lambda x: (of_r * r) @ objective.residual(x))
    S = jax.jacfwd(push)(x) + (J * (curved - of_j)[:, None]).T @ J
    S = v @ jnp.where(free[None] & free[:, None], S / unit[None] / unit[:, None], 0.0) @ v.T
    sound = jnp.all(jnp.isfinite(S))
    S = jnp.where(sound, (S + S.T) / 2, 0.0)
    # what S is off by is less than t^2 / 10^4
    off = size * _bending(objective, x, jnp.where(free, 1 / unit, 0.0)) + largest(S)
    floor = 100 * jnp.sqrt(x.size * eps * off)
    t = jnp.maximum(jnp.where(s > 0, s, jnp.sqrt(jnp.sqrt(eps))), floor)
    # the variables that are held make no direction: their part of M is the unit matrix
    held = jnp.where(free, 0.0, 1.0).astype(x.dtype)
    values, vectors = jnp.linalg.eigh(jnp.diag((s / t) ** 2) + S / t[None] / t[:, None] + (v * held[None]) @ v.T)
    values = jnp.where(sound, values, jnp.nan)
    newton = -(vectors @ ((vectors.T @ (s / t * b)) / jnp.where(values > CLEAR, values, jnp.inf)) / t) @ v
    directions = (vectors / t[:, None]).T @ v
    blind = (s == 0)[:, None] & (jnp.abs(v) > jnp.sqrt(eps)) & free[None]
    half = jnp.where(s > 0, 1 / or_one(s), 0.0)[:, None] * v / unit[None]
    none = jnp.any(blind, axis=0)
    inverse = jnp.where(none[None] & none[:, None] & jnp.eye(x.size, dtype=bool), jnp.inf, half.T @ half)
    inverse = jnp.where((none[None] | none[:, None]) & ~jnp.eye(x.size, dtype=bool), jnp.nan, inverse)
    return Geometry(
        norm(b), size, free, jnp.sum(s > 0),
        jnp.min(jnp.where(s > 0, s, jnp.inf)), values, jnp.where(free[None], directions / unit[None], 0.0),
        jnp.where(free, newton / unit, 0.0), inverse,
    )  # fmt: skip


def _bending(objective: Objective, x: Array, size: Array) -> Scalar:
    """How long the second derivative of the residual is along changes of the variables by +- size."""

    def along(signs):
        z = signs * size
        return jnp.linalg.norm(jax.jvp(lambda x: jax.jvp(objective.residual, (x,), (z,))[1], (x,), (z,))[1])

    signs = np.random.default_rng(2).choice([-1.0, 1.0], size=(2, x.size))
    return jnp.max(jax.vmap(along)(jnp.asarray(signs, x.dtype)))


def polish(
    objective: Objective, model: Callable[..., Geometry], x: Array, r: Array, J: Array
) -> tuple[Array, Array, Array, Geometry]:
    """Newton's method on F from x, with the Hessian, while it halves the offset: x, r, J and the model there."""
    model = jax.jit(partial(model, objective))
    shapes = jax.eval_shape(model, x, r, J)
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    best = x, r, J, empty._replace(offset=jnp.full((), jnp.inf, x.dtype))

    def body(carry):
        best, (x, r, J), count, _ = carry
        found = model(x, r, J)
        first = count == 0
        rise = -objective.fall(best[1], r)
        better = first | ((found.offset < best[3].offset / 2) & (rise <= 1e-8 * jnp.sum(objective.costs(r))))
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), (x, r, J, found), best)
        tried = objective.within(x + found.newton)
        r, J = objective.values(tried) if len(J) else (objective.residual(tried), J)
        sound = jnp.all(jnp.isfinite(r)) & jnp.all(jnp.isfinite(J)) & (found.curvature[0] > CLEAR)
        return best, (tried, r, J), count + 1, better & sound & (found.offset > 0)

    going = lambda carry: carry[3] & (carry[2] < POLISHES)
    return lax.while_loop(going, body, (best, (x, r, J), jnp.zeros((), int), jnp.ones((), bool)))[0]


def rounding_of(objective: Objective, x: Array) -> Array:
    """What each residual is off by: how far it departs from J's prediction over changes of x in its last places.

    Those are the last places of 1, the natural size, where x is smaller.
    """
    eps = jnp.finfo(x.dtype).eps
    r, push = jax.linearize(objective.residual, x)
    spread = 2 * np.modf(np.outer([1.0, 2, 3, 4], np.arange(1, x.size + 1)) * 0.6180339887498949)[0] - 1
    spread = jnp.asarray(spread * np.array([[2.0], [8.0], [32.0], [128.0]]), x.dtype)
    reach = jnp.maximum(jnp.abs(x), 1)

    def departure(step):
        moved = x + step
        return jnp.abs(objective.residual(moved) - r - push(moved - x))

    found = jnp.max(jax.vmap(departure)(eps * reach[None] * spread), axis=0)
    usual = rows(push, reach) + jnp.abs(r)
    # a jump is no rounding
    return jnp.where(found <= jnp.sqrt(eps) * usual, found, 0.0) + eps * usual


def rows(push: Callable[[Array], Array], reach: Array) -> Array:
    """sum_j |J_ij| reach_j of each row, about: the greatest |J v|_i of some v = +- reach."""
    signs = np.random.default_rng(3).choice([-1.0, 1.0], size=(4, reach.size))
    return jnp.max(jnp.abs(jax.vmap(push)(jnp.asarray(signs, reach.dtype) * reach[None])), axis=0)


def judge(objective: Objective, x: Array, r: Array, model: Geometry, before: Array, tolerance: Array) -> Judged:
    """before: |r| before the last step."""
    eps, tiny = jnp.finfo(x.dtype).eps, jnp.finfo(x.dtype).tiny
    each = rounding_of(objective, x)
    noise = norm(each)
    size = norm(r)
    # the caller's residuals, and not these in units of their own, are lost below the least number
    underflow = (size == 0) & (model.rank == 0) & (before < jnp.sqrt(tiny) / objective.unit)
    perfect = jnp.all(jnp.abs(r) <= NOISE * each) & ~underflow
    level = NOISE * noise + jnp.minimum(8 * eps / model.least, CAP) * model.size
    # where the residual falls towards what it has far away, it is orthogonal to J before x comes to rest
    step = jnp.max(jnp.abs(model.newton) / jnp.maximum(jnp.abs(x), 1))
    still = (model.offset <= tolerance * model.size + level) & (step <= jnp.sqrt(tolerance))
    stationary = (perfect | still) & jnp.isfinite(size) & ~underflow
    strict = model.curvature[0] > CLEAR

    def tried(_):
        return _trials(objective, x, r, model, noise)

    def untried(_):
        return x, jnp.zeros((), bool), jnp.zeros((), bool)

    lower, falls, plateau = lax.cond(stationary & ~perfect & ~strict, tried, untried, None)
    share = jnp.minimum(level / or_one(model.size), 1)
    return Judged(stationary, perfect, strict, falls, plateau, lower, share, step)


def _trials(objective, x, r, model, noise):
    """(the lowest point found, whether F is lower there, whether x lies on a plateau)."""
    lowest = jnp.where((model.curvature <= CLEAR)[:LOWEST, None], model.vectors[:LOWEST], 0.0)
    axes = jnp.where(model.free[None], jnp.eye(x.size, dtype=x.dtype)[:AXES], 0.0)
    directions = jnp.concatenate([lowest, axes])
    reach = jnp.maximum(jnp.abs(x), 1)
    directions = directions / or_one(jnp.max(jnp.abs(directions) / reach[None], axis=1, keepdims=True))
    steps = jnp.asarray(np.concatenate([SHORT, LONG]), x.dtype)

    def at(step):
        point = objective.within(x + step)
        moved = objective.residual(point)
        fall = objective.fall(r, moved)
        return jnp.where(jnp.isfinite(fall), fall, -jnp.inf), jnp.linalg.norm(moved - r)

    def along(direction):
        """Both ways, all lengths: falls and changes (2, lengths)."""
        return jax.vmap(jax.vmap(lambda t: at(t * direction)))(jnp.stack([steps, -steps]))

    falls, changes = lax.map(along, directions)
    best = jnp.unravel_index(jnp.argmax(falls), falls.shape)
    step = jnp.stack([steps, -steps])[best[1], best[2]] * directions[best[0]]
    least = 4 * model.offset**2 + NOISE * noise * (jnp.linalg.norm(r) + noise)
    # rounding grows with x; True for NaN
    changed = ~(changes <= NOISE * noise * (1 + jnp.stack([steps, steps]))[None])
    near, far = jnp.any(changed[..., : SHORT.size], axis=2), jnp.any(changed, axis=2)
    return objective.within(x + step), jnp.max(falls) > least, jnp.any(~near & far)
