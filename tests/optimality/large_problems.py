"""Problems of many variables with optima from elsewhere: closed forms, SciPy's banded and dual solves."""

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.optimality import Problem
from functional_dl.optimality.projections import simplex as on_simplex


def obstacle(n):
    """A string under a load above an obstacle: f = u'Au/2 - b'u, A = (n + 1) tridiag(-1, 2, -1), u >= lower."""
    t = np.arange(1, n + 1) / (n + 1)
    lower = -0.3 - 0.2 * np.cos(9 * t)

    def energy(u):
        ends = jnp.concatenate([jnp.zeros(1), u, jnp.zeros(1)])
        return (n + 1) * jnp.sum(jnp.diff(ends) ** 2) / 2 + 8.0 / (n + 1) * jnp.sum(u)

    return Problem(energy, bounds=(lower, np.full(n, np.inf))), jnp.zeros(n)


def obstacle_by_policies(n):
    """The same by policy iteration on a banded matrix: of min(Au - b, u - lower) = 0, row by row, which holds."""
    from scipy.linalg import solve_banded

    t = np.arange(1, n + 1) / (n + 1)
    lower, load = -0.3 - 0.2 * np.cos(9 * t), np.full(n, -8.0 / (n + 1))
    apply = lambda u: (n + 1) * (2 * u - np.append(0, u[:-1]) - np.append(u[1:], 0))
    u = lower.copy()
    for _ in range(n):
        touching = apply(u) - load > (n + 1) * (u - lower)
        band = np.zeros((3, n))
        band[1] = np.where(touching, 1.0, 2 * (n + 1))
        band[0, 1:] = np.where(touching, 0.0, -(n + 1))[:-1]
        band[2, :-1] = np.where(touching, 0.0, -(n + 1))[1:]
        after = solve_banded((1, 1), band, np.where(touching, lower, load))
        if np.max(np.abs(after - u)) < 1e-13:
            break
        u = after
    return u


def projection(n):
    """The point of the simplex nearest to c."""
    c = jnp.array(np.random.default_rng(0).normal(size=n))
    problem = Problem(lambda x: jnp.sum((x - c) ** 2) / 2, lambda x: jnp.sum(x) - 1, bounds=(0.0, None))
    return problem, jnp.full(n, 1.0 / n), on_simplex(c)


def rosenbrock(n):
    """The chain; its least value 0 is at ones."""
    chain = lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    return Problem(chain, bounds=(-2.0, 2.0)), jnp.full(n, 0.8).at[::2].set(1.1), jnp.ones(n)


def entropy(n, moments):
    """The density of greatest entropy with given moments: min sum x log x, A x / n = b; and x by its dual."""
    from scipy.optimize import minimize

    t = np.linspace(0, 1, n)
    rows = np.cos(np.pi * np.outer(np.arange(moments), t))
    density = np.exp(-10 * (t - 0.3) ** 2) + 0.2
    b = rows @ (density / density.sum())
    x_of = lambda lam: np.exp(-1 - lam @ rows)
    dual = minimize(
        lambda lam: (np.mean(x_of(lam)) + lam @ b, b - rows @ x_of(lam) / n),
        np.zeros(moments),
        jac=True,
        hess=lambda lam: (rows * x_of(lam)) @ rows.T / n,
        method="trust-exact",
        options={"gtol": 1e-11},
    )
    a, right = jnp.asarray(rows / np.sqrt(n)), jnp.asarray(b * np.sqrt(n))
    problem = Problem(lambda x: jnp.sum(x * jnp.log(x)), lambda x: a @ x - right, bounds=(1e-9, None))
    return problem, jnp.ones(n), x_of(dual.x)


def discs(n):
    """n / 2 points of the plane, each in a disc and as far as possible along a direction of its own: g is not affine.

    max sum d_i . p_i subject to |p_i - c_i|^2 <= r_i^2 has p_i = c_i + r_i d_i / |d_i|.
    """
    rng = np.random.default_rng(2)
    center, ahead, r = rng.normal(size=(n // 2, 2)), rng.normal(size=(n // 2, 2)), rng.uniform(0.5, 2, size=n // 2)
    best = center + r[:, None] * ahead / np.linalg.norm(ahead, axis=1, keepdims=True)
    problem = Problem(
        lambda p: -jnp.sum(jnp.asarray(ahead) * p.reshape(-1, 2)),
        inequalities=lambda p: jnp.sum((p.reshape(-1, 2) - jnp.asarray(center)) ** 2, axis=1) - jnp.asarray(r**2),
        bounds=(-10.0, 10.0),
    )
    return problem, jnp.zeros(n), best.ravel()


def separable(curvatures, bounds=(-1.0, 1.0), linear=0.0):
    """sum curvature_i x_i^2 / 2 + linear x_1: what a point is can be read off."""
    c = jnp.asarray(curvatures)
    return Problem(lambda x: jnp.sum(c * x**2) / 2 + linear * x[0], bounds=bounds)


def entangled(x):
    """A smooth f without structure, for derivatives."""
    return jnp.sum(jax.nn.softplus(x)) + jnp.sum(jnp.sin(x[1:] * x[:-1]))
