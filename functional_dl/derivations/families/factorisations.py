"""What is found by solving: the Cholesky factor, and the solution of a linear system."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.notation import drawing, normal, outer, pulled_back, regular, spd
from functional_dl.derivations.step import Oracle, Step

DIFFERENTIAL = "the differential of the factor"


def factor(a: Array) -> Array:
    """L of the symmetric part of A."""
    return jnp.linalg.cholesky((a + a.T) / 2, symmetrize_input=False)


def half(m: Array) -> Array:
    """Phi: the lower triangle, half of the diagonal."""
    return jnp.tril(m) - jnp.diag(jnp.diag(m)) / 2


def symmetric(m: Array) -> Array:
    return (m + m.T) / 2


def inner(l: Array, da: Array) -> Array:
    """L^{-1} dA L^{-T}."""
    left = solve_triangular(l, da, lower=True)
    return solve_triangular(l, left.T, lower=True).T


def differential(l: Array, da: Array) -> Array:
    """dL = L Phi(L^{-1} dA L^{-T})."""
    return l @ half(inner(l, da))


def entries(fun: Callable[..., Any], n: int) -> Array:
    """fun of the symmetric part of E_ij, for every (i, j)."""
    basis = jnp.eye(n * n).reshape(n * n, n, n)
    return jax.vmap(lambda e: fun(symmetric(e)))(basis).reshape(n, n)


def direction(a: Array) -> Array:
    """A symmetric dA to try the lemma with."""
    return symmetric(jnp.cos(a) + jnp.flip(a, 0))


def closed(a: Array, ct: Array) -> Array:
    """sym(L^{-T} Phi(L^T L_bar) L^{-1})."""
    l = factor(a)
    left = solve_triangular(l, half(l.T @ ct), lower=True, trans=1)
    return symmetric(solve_triangular(l, left.T, lower=True, trans=1).T)


CHOLESKY = Derivation(
    "cholesky",
    "The Cholesky factor",
    r"A = L L^\top \quad\Rightarrow\quad \bar A = \operatorname{sym}\!\left( L^{-\top} \Phi(L^\top \bar L)\, L^{-1}"
    r" \right),"
    r"\quad \Phi = \text{lower triangle, half of the diagonal}",
    (
        Step(
            r"dL\, L^\top + L\, dL^\top, \quad dL = L\, \Phi(M),\; M = L^{-1} dA\, L^{-\top}",
            r"what the candidate dL gives for $d(L L^\top)$, by the product rule; it is lower triangular",
            lambda a, ct: (
                differential(factor(a), direction(a)) @ factor(a).T
                + factor(a) @ differential(factor(a), direction(a)).T
            ),
            chain=DIFFERENTIAL,
        ),
        Step(
            r"= L \left( \Phi(M) + \Phi(M)^\top \right) L^\top",
            "L and its transpose are taken out",
            lambda a, ct: (
                factor(a)
                @ (half(inner(factor(a), direction(a))) + half(inner(factor(a), direction(a))).T)
                @ factor(a).T
            ),
            chain=DIFFERENTIAL,
        ),
        Step(
            r"= L M L^\top",
            r"M is symmetric, and $\Phi$ takes one triangle and half of the diagonal",
            lambda a, ct: factor(a) @ inner(factor(a), direction(a)) @ factor(a).T,
            chain=DIFFERENTIAL,
        ),
        Step(r"= dA", "M undone: the candidate is the differential", lambda a, ct: direction(a), chain=DIFFERENTIAL),
        Step(
            r"\bar A_{ij} = \sum_{k,l} \bar L_{kl} \lim_{h \to 0} \frac{L_{kl}(A + h \operatorname{sym} E_{ij})"
            r" - L_{kl}(A)}{h}",
            "the definition of the cotangent; A is read as its symmetric part",
            pulled_back(factor),
            chain="A",
        ),
        Step(
            r"= \left\langle \bar L,\; L\, \Phi(L^{-1} \operatorname{sym}(E_{ij})\, L^{-\top}) \right\rangle",
            r"the lemma, with $dA = \operatorname{sym}(E_{ij})$",
            lambda a, ct: entries(lambda e: jnp.vdot(ct, differential(factor(a), e)), a.shape[0]),
            kind="limit",
            chain="A",
        ),
        Step(
            r"= \left\langle \Phi(L^\top \bar L),\; L^{-1} \operatorname{sym}(E_{ij})\, L^{-\top} \right\rangle",
            r"L goes over as $L^\top$; $\Phi$ multiplies entry by entry and is its own adjoint",
            lambda a, ct: entries(lambda e: jnp.vdot(half(factor(a).T @ ct), inner(factor(a), e)), a.shape[0]),
            chain="A",
        ),
        Step(
            r"= \left\langle L^{-\top} \Phi(L^\top \bar L)\, L^{-1},\; \operatorname{sym}(E_{ij}) \right\rangle",
            r"$L^{-1}$ and $L^{-\top}$ go over transposed",
            lambda a, ct: entries(
                lambda e: jnp.vdot(jnp.linalg.inv(factor(a)).T @ half(factor(a).T @ ct) @ jnp.linalg.inv(factor(a)), e),
                a.shape[0],
            ),
            chain="A",
        ),
        Step(
            r"\bar A = \operatorname{sym}\!\left( L^{-\top} \Phi(L^\top \bar L)\, L^{-1} \right)",
            "taking the symmetric part is its own adjoint; two triangular solves, no inverse",
            closed,
            chain="A",
        ),
    ),
    "Smith 1995; Murray 2016",
    drawing(spd(3), lambda key: jnp.tril(normal(3, 3)(key))),
    fun=factor,
    arguments=("A",),
    oracles=(Oracle("the direction itself", lambda a, ct: direction(a), DIFFERENTIAL),),
    point="A, shape (3, 3), symmetric and positive definite, and the cotangent of L, lower triangular",
)


def solve(a: Array, b: Array) -> Array:
    return jnp.linalg.solve(a, b)


SOLVE = Derivation(
    "linear_solve",
    "The solution of a linear system",
    r"A x = b \quad\Rightarrow\quad \bar b = A^{-\top} \bar x, \quad \bar A = -\bar b\, x^\top",
    (
        Step(
            r"\bar b_i = \sum_k \bar x_k \lim_{h \to 0} \frac{x_k(b + h e_i) - x_k(b)}{h}",
            "the definition of the cotangent",
            pulled_back(solve, 1),
            chain="b",
        ),
        Step(
            r"= \sum_k \bar x_k\, (A^{-1})_{ki}",
            "x is linear in b",
            lambda a, b, ct: jnp.einsum("k,ki->i", ct, jnp.linalg.inv(a)),
            kind="limit",
            chain="b",
        ),
        Step(
            r"\bar b : \; A^\top \bar b = \bar x",
            "one more solve, with the transpose",
            lambda a, b, ct: jnp.linalg.solve(a.T, ct),
            chain="b",
        ),
        Step(
            r"\bar A_{ij} = \sum_k \bar x_k \lim_{h \to 0} \frac{x_k(A + h E_{ij}) - x_k(A)}{h}",
            "the definition of the cotangent",
            pulled_back(solve, 0),
            chain="A",
        ),
        Step(
            r"= -\sum_k \bar x_k \left( A^{-1} E_{ij}\, x \right)_k",
            r"$dA\, x + A\, dx = 0$, the equation differentiated: $dx = -A^{-1} dA\, x$",
            lambda a, b, ct: -jnp.einsum("k,ki,j->ij", ct, jnp.linalg.inv(a), solve(a, b)),
            kind="limit",
            chain="A",
        ),
        Step(
            r"\bar A = -\bar b\, x^\top",
            r"$A^{-\top} \bar x = \bar b$, which is there already",
            lambda a, b, ct: -outer(jnp.linalg.solve(a.T, ct), solve(a, b)),
            chain="A",
        ),
    ),
    "Giles 2008, section 2.2.3",
    drawing(regular(3), normal(3), normal(3)),
    fun=solve,
    arguments=("A", "b"),
    point="A, shape (3, 3), regular; b, shape (3,); the cotangent of x",
)

DERIVATIONS = (CHOLESKY, SOLVE)
