r"""Least squares without a matrix: steps by LSMR, the certificate's model by products with J, J' and the Hessian.

LSMR bidiagonalises J by products (Golub and Kahan) and takes the p of the k-th Krylov space with the least
|J' (J p + r)|.  |p| grows from step to step, so in a trust region the search ends where its path meets the boundary.
The least eigenvalue of the scaled Hessian comes from Lanczos' method (curvature.py) with its vectors kept and made
orthogonal again; where they span all, it is exact, else it is bounded from below.
Source: Fong and Saunders 2011; Kuczynski and Wozniakowski 1992.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.aliases import Array, Scalar
from functional_dl.optimality.certificate.curvature import CHANCE
from functional_dl.optimality.certificate.fit import Geometry, rows
from functional_dl.optimality.measures import norm
from functional_dl.optimality.solvers.levenberg_marquardt import Model, Objective, or_one

DRAWS = 8  # random signs by which lengths of columns are estimated
PRODUCTS = 200  # of LSMR in a step
VECTORS = 48  # of Lanczos' method


def model(objective: Objective, x: Array, r: Array, J: Array, D: Array, *, fixed: bool) -> Model:
    """As levenberg_marquardt.dense, by products."""
    of_r, _, of_j = objective.weights(r)
    root = jnp.sqrt(of_j)
    push, pull = _products(objective, x)
    D = D if fixed else jnp.maximum(D, _columns(lambda s: pull(root * s), r))
    unit = or_one(D)
    forth, back = lambda q: root * push(q / unit), lambda u: pull(root * u) / unit

    def solve(c, free, radius):
        mask = jnp.where(free, 1.0, 0.0).astype(x.dtype)
        q, offset, _ = lsmr(lambda q: forth(mask * q), lambda u: mask * back(u), c, x, radius)
        return q, offset, lambda second: jnp.full_like(x, jnp.nan)

    reach = jnp.maximum(jnp.abs(x), 1)
    return Model(D, pull(of_r * r), jnp.finfo(x.dtype).eps * rows(push, reach), of_r / or_one(root) * r, forth, solve)


def geometry(objective: Objective, x: Array, r: Array, J: Array) -> Geometry:
    """As fit.geometry, of what products tell."""
    of_r, _, of_j = objective.weights(r)
    root = jnp.sqrt(of_j)
    push, pull = _products(objective, x)
    length = _columns(lambda s: pull(root * s), r)
    weighted, gradient = of_r / or_one(root) * r, pull(of_r * r)
    size = norm(weighted)
    # as in fit.geometry: a column that moves the residual by nothing is none
    length = jnp.where(length * jnp.maximum(jnp.abs(x), 1) > jnp.finfo(x.dtype).eps ** 2 * size, length, 0.0)
    unit = or_one(length)
    free = objective.free(x, gradient)
    mask = jnp.where(free, 1.0, 0.0).astype(x.dtype)
    forth, back = lambda q: root * push(mask * q / unit), lambda u: mask * pull(root * u) / unit
    newton, offset, _ = lsmr(forth, back, weighted, x, jnp.full((), jnp.inf, x.dtype))

    def slope(x):
        r, pull = jax.vjp(objective.residual, x)
        return pull(objective.weights(r)[0] * r)[0]

    product = lambda v: mask * jax.jvp(slope, (x,), (mask * v / unit,))[1] / unit
    lower, vector = _least(product, mask)
    infinite = jnp.full((), jnp.inf, x.dtype)
    rank = jnp.where(jnp.any(free & (length > 0)), -1, 0)
    return Geometry(
        jnp.maximum(offset, largest_share(gradient, unit, free)), size, free, rank, infinite, lower[None],
        jnp.where(free, vector / unit, 0.0)[None], newton / unit, jnp.zeros((0, 0), x.dtype),
    )  # fmt: skip


def largest_share(gradient: Array, unit: Array, free: Array) -> Scalar:
    """max |g_j| / |J_j|: a lower bound of the offset, which LSMR gives from below too."""
    return jnp.max(jnp.where(free, jnp.abs(gradient) / unit, 0.0), initial=0.0)


def lsmr(
    forth: Callable[[Array], Array], back: Callable[[Array], Array], r: Array, like: Array, radius: Array
) -> tuple[Array, Scalar, Array]:
    """min |forth(q) + r| in |q| <= radius: q, |forth(q)|, and how many products it took."""
    eps = jnp.finfo(r.dtype).eps
    beta = norm(r)
    u = -r / or_one(beta)
    v = back(u)
    alpha = norm(v)
    v = v / or_one(alpha)
    one, zero = jnp.ones((), r.dtype), jnp.zeros((), r.dtype)
    first = alpha * beta

    def step(state):
        q, u, v, h, bar, (alpha, zeta, alphabar, rho, rhobar, cbar, sbar), count, _ = state
        u = forth(v) - alpha * u
        beta = norm(u)
        u = u / or_one(beta)
        v = back(u) - beta * v
        alpha = norm(v)
        v = v / or_one(alpha)
        before, before_bar = rho, rhobar
        rho = jnp.hypot(alphabar, beta)
        c, s = alphabar / or_one(rho), beta / or_one(rho)
        theta, alphabar, thetabar = s * alpha, c * alpha, sbar * rho
        rhobar = jnp.hypot(cbar * rho, theta)
        cbar, sbar = cbar * rho / or_one(rhobar), theta / or_one(rhobar)
        now, zeta = cbar * zeta, -sbar * zeta
        bar = h - thetabar * rho / or_one(before * before_bar) * bar
        moved = q + now / or_one(rho * rhobar) * bar
        h = v - theta / or_one(rho) * h
        # where the path meets the boundary: |q + t d| = radius
        d, far = moved - q, norm(moved) > radius
        a, b, gap = d @ d, q @ d, jnp.where(far, radius**2 - q @ q, 0.0)
        t = jnp.maximum(gap, 0) / or_one(b + jnp.sqrt(jnp.maximum(b**2 + a * gap, 0.0)))
        q = jnp.where(far, q + t * d, moved)
        ended = far | (jnp.abs(zeta) <= 10 * eps * first) | (rho * rhobar == 0) | ~jnp.isfinite(alpha)
        return q, u, v, h, bar, (alpha, zeta, alphabar, rho, rhobar, cbar, sbar), count + 1, ended

    begin = jnp.zeros_like(like), u, v, v, jnp.zeros_like(like), (alpha, first, alpha, one, one, one, zero)
    limit = min(PRODUCTS, 4 * like.size + 8)
    q, *_, count, _ = lax.while_loop(
        lambda state: ~state[-1] & (state[-2] < limit), step, (*begin, jnp.zeros((), int), first == 0)
    )
    return q, norm(forth(q)), count


def _products(objective: Objective, x: Array) -> tuple[Any, Any]:
    _, push = jax.linearize(objective.residual, x)
    transposed = jax.linear_transpose(push, x)
    return push, lambda u: transposed(u)[0]


def _columns(pull: Callable[[Array], Array], r: Array) -> Array:
    """|J_j|, about: E (J' s)_j^2 = |J_j|^2 for random signs s."""
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size=(DRAWS, r.size))
    found = lax.map(pull, jnp.asarray(signs, r.dtype))
    most = or_one(jnp.max(jnp.abs(found), axis=0))
    total = (found / most[None]) ** 2
    return most * jnp.sqrt(jnp.mean(total, axis=0))


def _least(product: Callable[[Array], Array], mask: Array) -> tuple[Scalar, Array]:
    """A lower bound of the least eigenvalue on the free variables (or the value, where it is negative), relative to the
    greatest; and the vector that comes nearest to it."""
    n, dtype = mask.size, mask.dtype
    count = min(VECTORS, n)
    v = mask * jnp.asarray(np.random.default_rng(0).normal(size=n), dtype)
    v = v / or_one(norm(v))

    def step(carry, k):
        basis, v = carry
        basis = basis.at[k].set(v)
        w = product(v)
        row = basis @ w
        for _ in range(2):
            w = w - basis.T @ (basis @ w)
        beta = norm(w)
        v = jnp.where(beta > 1e-10 * norm(row), w / or_one(beta), 0.0)
        return (basis, v), row

    (basis, rest), rows = lax.scan(step, (jnp.zeros((count, n), dtype), v), jnp.arange(count))
    used = jnp.sum(basis**2, axis=1) > 0.5
    # each row holds its products with the vectors before it
    T = jnp.where(used[None] & used[:, None], rows + rows.T - jnp.diag(jnp.diag(rows)), 0.0)
    sound = jnp.all(jnp.isfinite(T))
    values, vectors = jnp.linalg.eigh(jnp.where(sound, T, 0.0))
    inside = jnp.sum(vectors**2 * jnp.where(used, 1.0, 0.0).astype(dtype)[:, None], axis=0) > 0.5
    low, high = jnp.min(jnp.where(inside, values, jnp.inf)), jnp.max(jnp.where(inside, values, -jnp.inf))
    vector = vectors[:, jnp.argmin(jnp.where(inside, values, jnp.inf))] @ basis
    root = np.log(1.648 * np.sqrt(n) / CHANCE) / (2 * count - 1)
    share = min(root**2, 0.25) if n > count else 0.0
    complete = ~used[-1] | (norm(rest) == 0)
    bound = jnp.where(complete, low, low - share / (1 - 2 * share) * (high - low))
    relative = jnp.where(low < 0, low, bound) / or_one(jnp.maximum(jnp.abs(high), jnp.abs(low)))
    return jnp.where(sound, relative, jnp.nan), vector
