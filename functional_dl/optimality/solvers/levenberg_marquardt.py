r"""Levenberg and Marquardt's method within a trust region, for residuals that may carry a loss and bounds.

    F(x) = c^2 / 2 sum_i rho((r_i / c)^2),    psi_i = rho' r_i = dF/dr_i,    psi'_i = rho' + 2 (r_i / c)^2 rho'',

    linear    rho(z) = z
    soft_l1   rho(z) = 2 (sqrt(1 + z) - 1)
    huber     rho(z) = z where z <= 1, 2 sqrt(z) - 1 beyond
    cauchy    rho(z) = log(1 + z)
    arctan    rho(z) = arctan(z)

each written in a = |r_i| / c, so that no square overflows.  With rows and residuals weighted so that J' r is the
gradient of F each iteration solves

    min |J p + r|   subject to   |D p| <= radius,   lower <= x + p <= upper,      D_j the greatest |J_j| so far,

which is (J' J + lambda D^2) p = -J' r for a lambda >= 0: by a factorisation J D^-1 = Q R and the singular values of R,
with lambda from Newton's method on 1 / |D p|, directions of which J says nothing left out; or by LSMR (lsmr.py), which
forms no matrix.  Variables at a bound that the gradient points out of are held; those that the step carries to a bound
are held there and the others are solved for again.  The second derivative r'' along p, where it is small beside p,
bends the step along the valley: p - (J' J + lambda D^2)^-1 J' r'' / 2 (geodesic acceleration).  A step is taken where F
falls; how much it falls, compared with the model of p, rules the radius.
Source: More 1978; Nocedal and Wright 2006, sections 4.3 and 10.3; Transtrum and Sethna 2012; Triggs,
McLauchlan, Hartley, Fitzgibbon 2000, section 4 (the losses; their names are SciPy's).
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from functional_dl.aliases import Array, Scalar
from functional_dl.optimality.measures import largest, norm

LEAST_WEIGHT = 0.1  # of a row, as a share of rho': the weight psi' is 0 or negative for outliers
ACCELERATION = 0.75  # |D a| / |D p| up to which the second derivative bends a step
REJECTED = 60  # trials one after another that end the search


# ---- losses --------------------------------------------------------------------------------------------------------

Loss: TypeAlias = Literal["linear", "soft_l1", "huber", "cauchy", "arctan"]
Parts: TypeAlias = tuple[Array, Array, Array]


def linear(a: Array) -> Parts:
    return a**2, jnp.ones_like(a), jnp.ones_like(a)


def soft_l1(a: Array) -> Parts:
    root = jnp.hypot(jnp.ones_like(a), a)
    return 2 * a * (a / (root + 1)), 1 / root, root**-3


def huber(a: Array) -> Parts:
    inside, beyond = a <= 1, jnp.maximum(a, 1)
    return jnp.where(inside, a**2, 2 * a - 1), 1 / beyond, jnp.where(inside, 1.0, 0.0).astype(a.dtype)


def cauchy(a: Array) -> Parts:
    root = jnp.hypot(jnp.ones_like(a), a)
    share = root**-2
    return jnp.where(a < 1, jnp.log1p(a**2), 2 * jnp.log(root)), share, share * (2 * share - 1)


def arctan(a: Array) -> Parts:
    share = 1 / (1 + a**4)
    return lax.atan(a**2), share, share * (4 * share - 3)


LOSSES: dict[str, Callable[[Array], Parts]] = {
    "linear": linear, "soft_l1": soft_l1, "huber": huber, "cauchy": cauchy, "arctan": arctan
}  # fmt: skip
"""name -> a function of a that gives rho, rho' and rho' + 2 a^2 rho''."""


# ---- the search ----------------------------------------------------------------------------------------------------


class Objective(NamedTuple):
    """residual: vector -> vector; loss: |r| / scale -> (rho, rho', psi'), and the scale; bounds, infinite for none;
    unit: what residuals are counted in."""

    residual: Callable[[Array], Array]
    loss: Callable[[Array], tuple[Array, Array, Array]]
    scale: Array
    lower: Array
    upper: Array
    unit: Array | float = 1.0

    def costs(self, r: Array) -> Array:
        """The terms of F."""
        return self.scale**2 / 2 * self.loss(jnp.abs(r) / self.scale)[0]

    def fall(self, r: Array, r_new: Array) -> Scalar:
        """F(r) - F(r_new), term by term."""
        return jnp.sum(self.costs(r) - self.costs(r_new))

    def weights(self, r: Array) -> tuple[Array, Array, Array]:
        """rho', psi', and the weight of a row of the model, psi' where that is clearly positive."""
        _, of_r, curved = self.loss(jnp.abs(r) / self.scale)
        return of_r, curved, jnp.maximum(curved, LEAST_WEIGHT * of_r)

    def within(self, x: Array) -> Array:
        return jnp.clip(x, self.lower, self.upper)

    def free(self, x: Array, gradient: Array) -> Array:
        """Variables that can move, and are not held at a bound by the gradient."""
        held = ((x <= self.lower) & (gradient > 0)) | ((x >= self.upper) & (gradient < 0))
        return ~(held | (self.lower == self.upper))

    def values(self, x: Array) -> tuple[Array, Array]:
        """r and J."""
        r, push = jax.linearize(self.residual, x)
        return r, jax.vmap(push, out_axes=1)(jnp.eye(x.size, dtype=x.dtype))


class State(NamedTuple):
    """An iterate: point, residuals, Jacobian (no rows where none is formed), D, radius, |r| before the last step,
    counts, whether it ended."""

    x: Array
    r: Array
    J: Array
    D: Array
    radius: Array
    before: Array
    iterations: Array
    rejected: Array
    ended: Array


class Model(NamedTuple):
    """|J p + r| at a point, in q = D p.

    Fields:
      D; gradient, of F; rounding (m,): what that of x (of 1, its natural size, where it is smaller) makes of r.
      c: r, in coordinates that serve push: q -> J p.
      solve: (c, free, radius) -> q, |the part of c in the range of J|, bend: what a second derivative adds to q.
    """

    D: Array
    gradient: Array
    rounding: Array
    c: Array
    push: Callable[[Array], Array]
    solve: Callable[..., Any]


def start(x: Array, r: Array, J: Array, scales: Array) -> State:
    """scales: D, zeros where it is to be found."""
    zero, none = jnp.zeros((), int), jnp.zeros((), x.dtype)
    return State(x, r, J, scales, none, none + jnp.inf, zero, zero, jnp.zeros((), bool))


def lengths(J: Array) -> Array:
    """|J_j| of each column."""
    return jax.vmap(norm, 1)(J)


def or_one(values: Array) -> Array:
    """The values, 1 where they are not positive."""
    return jnp.where(values > 0, values, 1)


def triangle(r: Array, J: Array) -> tuple[Array, Array]:
    """R (n + 1, n) and Q' r of [J, r] = Q [R, Q' r], with rows of zeros where J has few."""
    n = J.shape[1]
    both = jnp.linalg.qr(jnp.concatenate([J, r[:, None]], axis=1), mode="r")
    both = jnp.pad(both, ((0, n + 1 - len(both)), (0, 0)))
    return both[:, :n], both[:, n]


def split(R: Array, c: Array, rows: int) -> tuple[Array, Array, Array]:
    """Singular values of R, 0 where they are rounding, right vectors as rows, and c in terms of the left ones."""
    u, s, v = jnp.linalg.svd(R, full_matrices=False)
    rounding = 4 * max(rows, len(s)) * jnp.finfo(s.dtype).eps * largest(s)
    return jnp.where(s > rounding, s, 0.0), v, u.T @ c


def dense(objective: Objective, x: Array, r: Array, J: Array, D: Array, fixed: bool) -> Model:
    """With J's factors."""
    of_r, _, of_j = objective.weights(r)
    root = jnp.sqrt(of_j)
    rows = root[:, None] * J
    D = D if fixed else jnp.maximum(D, lengths(rows))
    unit = or_one(D)
    R, c = triangle(of_r / or_one(root) * r, rows / unit[None])

    def solve(c, free, radius):
        s, v, b = split(jnp.where(free[None], R, 0.0), c, len(r))
        damping = _damping(s, b, radius)

        def bend(second):
            pull = v @ jnp.where(free, (root * second) @ rows / unit, 0.0)
            return -jnp.where(free, (jnp.where(s > 0, pull, 0.0) / or_one(s**2 + damping)) @ v, 0.0) / 2

        return -(s * b / or_one(s**2 + damping)) @ v, jnp.linalg.norm(jnp.where(s > 0, b, 0.0)), bend

    rounding = jnp.finfo(x.dtype).eps * (jnp.abs(J) @ jnp.maximum(jnp.abs(x), 1))
    return Model(D, (of_r * r) @ J, rounding, c, lambda q: R @ q, solve)


def run(objective: Objective, state: State, model: Callable[..., Model], tolerance: Array, limit: Array) -> State:
    """Iterate until the residual has a part in the range of J below a tenth of the tolerance, or no step helps.

    Args:
      model: of a point; `dense` with `fixed` given, or the one of lsmr.py.
    """

    def going(state):
        return ~state.ended & (state.iterations < limit)

    return lax.while_loop(going, lambda state: _iterate(objective, state, model, tolerance), state)


def _iterate(objective: Objective, state: State, model, tolerance) -> State:
    x, r = state.x, state.r
    D, gradient, rounding, c, push, solve = model(objective, x, r, state.J, state.D)
    unit, size = or_one(D), jnp.linalg.norm(D * x)
    radius = jnp.where(state.radius > 0, state.radius, jnp.where(size > 0, size, jnp.linalg.norm(c)))
    low, high = (objective.lower - x) * unit, (objective.upper - x) * unit

    def attempt(carry):
        """Solve for the free variables; hold those that go beyond a bound."""
        q, free, _, first, _ = carry
        held = jnp.where(free, 0.0, q)
        left = jnp.sqrt(jnp.maximum(radius**2 - held @ held, radius**2 / 100))
        moved, rest, bend = solve(c + push(held), free, left)
        moved = jnp.where(free, moved, held)
        beyond = free & ((moved < low) | (moved > high))
        # r'' along q: the bend belongs to the last attempt, which is the one that keeps within the bounds
        along = moved / unit
        second = jax.jvp(lambda x: jax.jvp(objective.residual, (x,), (along,))[1], (x,), (along,))[1]
        return (
            jnp.clip(moved, low, high),
            free & ~beyond,
            bend(second),
            jnp.where(first < 0, rest, first),
            jnp.any(beyond),
        )

    none = jnp.zeros((), x.dtype)
    begin = jnp.zeros_like(x), objective.free(x, gradient), jnp.zeros_like(x), none - 1, none == 0
    q, _, bend, offset, _ = lax.while_loop(lambda carry: carry[-1], attempt, begin)
    linear = push(q)
    predicted = -(c @ linear) - linear @ linear / 2
    small = jnp.linalg.norm(bend) <= ACCELERATION * jnp.linalg.norm(q)  # False for NaN
    q = jnp.where(small, jnp.clip(q + bend, low, high), q)

    tried = objective.within(x + q / unit)
    r_new, J_new = objective.values(tried) if len(state.J) else (objective.residual(tried), state.J)
    sound = jnp.all(jnp.isfinite(r_new)) & jnp.all(jnp.isfinite(J_new))
    actual = jnp.where(sound, objective.fall(r, r_new), -jnp.inf)
    gain = jnp.where(predicted > 0, actual / or_one(predicted), -1.0)
    good = (gain > 1e-4) & (actual > 0)
    length = jnp.linalg.norm(q)
    radius = jnp.where(gain < 0.25, jnp.minimum(length, radius) / 4, radius)
    radius = jnp.where(gain > 0.75, jnp.maximum(radius, 2 * length), radius)
    rejected = jnp.where(good, 0, state.rejected + 1)
    take = lambda new, old: jnp.where(good, new, old)
    eps = jnp.finfo(x.dtype).eps
    # residuals are done with that are orthogonal to the range of J, or all rounding
    done = (offset <= 0.1 * tolerance * jnp.linalg.norm(c)) | jnp.all(jnp.abs(r) <= rounding)
    # what the model promises is below rounding of F: whether it falls cannot be told
    lost = predicted <= eps * jnp.sum(objective.costs(r))
    stuck = lost | (rejected > REJECTED) | (~good & (radius <= 0.1 * eps * size)) | (length == 0)
    return State(
        take(tried, x), take(r_new, r), take(J_new, state.J), D, radius, take(norm(r), state.before),
        state.iterations + 1, rejected, done | stuck,
    )  # fmt: skip


def _damping(s, b, radius):
    """lambda >= 0 with |s b / (s^2 + lambda)| <= radius about, by Newton's method on 1 / |.| from the left."""

    def step(damping):
        p = s * b / or_one(s**2 + damping)
        size = jnp.linalg.norm(p)
        return size, jnp.sum(p**2 / or_one(s**2 + damping)) / or_one(size)

    def body(carry):
        damping, count, size, slope = carry
        damping = damping + (size - radius) / radius * size / or_one(slope)
        return damping, count + 1, *step(damping)

    none = jnp.zeros((), s.dtype)
    unfit = lambda carry: (carry[2] > 1.1 * radius) & (carry[1] < 50)
    return lax.while_loop(unfit, body, (none, jnp.zeros((), int), *step(none)))[0]
