"""Derivatives of what an equation defines: through an argmin, and through a fixed point."""

import jax.numpy as jnp
from jax import lax

from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.notation import drawing, normal, outer, pulled_back, spd
from functional_dl.derivations.step import Step

NEWTON, SWEEPS = 12, 90


def symmetric(m: Array) -> Array:
    return (m + m.T) / 2


def condition(x: Array, theta: Array, a: Array) -> Array:
    """F(x, theta) = grad_x f = sym(A) x + x^3 - theta."""
    return symmetric(a) @ x + x**3 - theta


def hessian(x: Array, a: Array) -> Array:
    """F_x = sym(A) + 3 diag(x^2)."""
    return symmetric(a) + 3 * jnp.diag(x**2)


def argmin(theta: Array, a: Array) -> Array:
    """argmin_x 1/2 x^T A x + 1/4 sum x^4 - theta^T x, by Newton's method."""
    step = lambda _, x: x - jnp.linalg.solve(hessian(x, a), condition(x, theta, a))
    return lax.fori_loop(0, NEWTON, step, jnp.zeros_like(theta))


def adjoint(theta: Array, a: Array, ct: Array) -> Array:
    """u : F_x^T u = x_bar."""
    return jnp.linalg.solve(hessian(argmin(theta, a), a).T, ct)


def inverse_hessian(theta: Array, a: Array) -> Array:
    return jnp.linalg.inv(hessian(argmin(theta, a), a))


ARGMIN = Derivation(
    "argmin",
    "The derivative through an argmin: the implicit function theorem",
    r"x^*(\theta) = \operatorname*{argmin}_x f(x, \theta),\; F = \nabla_x f = 0 \quad\Rightarrow\quad"
    r" \bar\theta = -\left( \frac{\partial F}{\partial \theta} \right)^{\!\top} u, \quad"
    r" \left( \frac{\partial F}{\partial x} \right)^{\!\top} u = \bar x",
    (
        Step(
            r"\bar\theta_i = \sum_k \bar x_k \lim_{h \to 0} \frac{x^*_k(\theta + h e_i) - x^*_k(\theta)}{h}",
            r"the definition of the cotangent; $f = \frac12 x^\top A x + \frac14 \sum_k x_k^4 - \theta^\top x$",
            pulled_back(argmin, 0),
            chain="theta",
        ),
        Step(
            r"= -\sum_k \bar x_k \left[ \left( \frac{\partial F}{\partial x} \right)^{\!-1}"
            r" \frac{\partial F}{\partial \theta_i} \right]_k,"
            r" \quad F = A x + x^3 - \theta",
            r"$F(x^*(\theta), \theta) = 0$ for every $\theta$; differentiated, $F_x\, x^{*\prime} + F_\theta = 0$",
            lambda theta, a, ct: -jnp.einsum("k,kl,li->i", ct, inverse_hessian(theta, a), -jnp.eye(theta.size)),
            kind="limit",
            chain="theta",
        ),
        Step(
            r"= \left[ \left( A + 3 \operatorname{diag}(x^2) \right)^{-\top} \bar x \right]_i",
            r"$F_\theta = -I$ and $F_x = A + 3 \operatorname{diag}(x^2)$ at $x = x^*$",
            lambda theta, a, ct: inverse_hessian(theta, a).T @ ct,
            chain="theta",
        ),
        Step(
            r"\bar\theta = u, \quad \left( A + 3 \operatorname{diag}(x^2) \right)^\top u = \bar x",
            "one linear solve; how the solver got to x* does not matter",
            adjoint,
            chain="theta",
        ),
        Step(
            r"\bar A_{ij} = \sum_k \bar x_k \lim_{h \to 0} \frac{x^*_k(A + h \operatorname{sym} E_{ij}) - x^*_k(A)}{h}",
            "the definition of the cotangent; A is read as its symmetric part",
            pulled_back(argmin, 1),
            chain="A",
        ),
        Step(
            r"= -\sum_k \bar x_k \left[ \left( \frac{\partial F}{\partial x} \right)^{\!-1}"
            r" \operatorname{sym}(E_{ij})\, x \right]_k",
            r"the same theorem, with $\partial F / \partial A_{ij} = \operatorname{sym}(E_{ij})\, x$",
            lambda theta, a, ct: -symmetric(jnp.einsum("k,ki,j->ij", ct, inverse_hessian(theta, a), argmin(theta, a))),
            kind="limit",
            chain="A",
        ),
        Step(
            r"\bar A = -\operatorname{sym}(u\, x^\top)",
            "with the same u",
            lambda theta, a, ct: -symmetric(outer(adjoint(theta, a, ct), argmin(theta, a))),
            chain="A",
        ),
    ),
    "Griewank and Walther 2008, chapter 15; Blondel et al. 2022",
    drawing(normal(3), spd(3), normal(3)),
    fun=argmin,
    arguments=("theta", "A"),
    point="theta, shape (3,); A, shape (3, 3), symmetric and positive definite; the cotangent of x*",
)


def settle(w: Array, x: Array) -> Array:
    """z = tanh(W z + x), iterated until it stands."""
    return lax.fori_loop(0, SWEEPS, lambda _, z: jnp.tanh(w @ z + x), jnp.zeros_like(x))


def slope(w: Array, x: Array) -> Array:
    """D = diag(1 - z^2), as a vector."""
    return 1 - settle(w, x) ** 2


def moved(w: Array, x: Array) -> Array:
    """dz/dx = (I - D W)^{-1} D."""
    d = slope(w, x)
    return jnp.linalg.inv(jnp.eye(x.size) - d[:, None] * w) * d[None, :]


def fixed_adjoint(w: Array, x: Array, ct: Array) -> Array:
    """u : u = z_bar + W^T D u."""
    d = slope(w, x)
    return jnp.linalg.solve(jnp.eye(x.size) - w.T * d[None, :], ct)


def by_iteration(w: Array, x: Array, ct: Array) -> Array:
    """The same u as a fixed point of its own: u <- z_bar + W^T D u."""
    d = slope(w, x)
    return lax.fori_loop(0, SWEEPS, lambda _, u: ct + w.T @ (d * u), ct)


FIXED_POINT = Derivation(
    "fixed_point",
    "The derivative through a fixed point",
    r"z = \tanh(W z + x) \quad\Rightarrow\quad u = \bar z + W^\top D u,\; D = \operatorname{diag}(1 - z^2),\quad"
    r" \bar x = D u,\; \bar W = (D u)\, z^\top",
    (
        Step(
            r"\bar x_i = \sum_k \bar z_k \lim_{h \to 0} \frac{z_k(x + h e_i) - z_k(x)}{h}",
            "the definition of the cotangent",
            pulled_back(settle, 1),
            chain="x",
        ),
        Step(
            r"= \sum_k \bar z_k \left[ (I - D W)^{-1} D \right]_{ki}",
            r"the equation differentiated: $dz = D\,(W\, dz + dx)$",
            lambda w, x, ct: jnp.einsum("k,ki->i", ct, moved(w, x)),
            kind="limit",
            chain="x",
        ),
        Step(
            r"= (D u)_i, \quad (I - W^\top D)\, u = \bar z",
            r"transposed: $\left[ (I - D W)^{-1} D \right]^\top = D\,(I - W^\top D)^{-1}$",
            lambda w, x, ct: slope(w, x) * fixed_adjoint(w, x, ct),
            chain="x",
        ),
        Step(
            r"= (D u)_i, \quad u = \bar z + W^\top D u",
            "u is itself a fixed point, of a map that contracts where the first one does: no matrix need be formed",
            lambda w, x, ct: slope(w, x) * by_iteration(w, x, ct),
            chain="x",
        ),
        Step(
            r"\bar W_{ij} = \sum_k \bar z_k \lim_{h \to 0} \frac{z_k(W + h E_{ij}) - z_k(W)}{h}",
            "the definition of the cotangent",
            pulled_back(settle, 0),
            chain="W",
        ),
        Step(
            r"= \sum_k \bar z_k \left[ (I - D W)^{-1} D \right]_{ki} z_j",
            r"the equation differentiated: $dz = D\,(W\, dz + dW\, z)$",
            lambda w, x, ct: jnp.einsum("k,ki,j->ij", ct, moved(w, x), settle(w, x)),
            kind="limit",
            chain="W",
        ),
        Step(
            r"\bar W = (D u)\, z^\top",
            "with the same u",
            lambda w, x, ct: outer(slope(w, x) * by_iteration(w, x, ct), settle(w, x)),
            chain="W",
        ),
    ),
    "Bai, Kolter, Koltun 2019",
    drawing(normal(3, 3, scale=0.25), normal(3), normal(3)),
    fun=settle,
    arguments=("W", "x"),
    point="W, shape (3, 3), small; x, shape (3,); the cotangent of z",
)

DERIVATIONS = (ARGMIN, FIXED_POINT)
