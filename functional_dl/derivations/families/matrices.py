"""Matrix functions: product, quadratic form, inverse, determinant and its logarithm."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.notation import drawing, normal, outer, pulled_back, regular
from functional_dl.derivations.step import Oracle, Step


def entries(fun: Callable[..., Any], shape: Any) -> Any:
    """The matrix whose entry (i, j) is fun(E_ij), E_ij being 1 at (i, j) and 0 elsewhere."""
    basis = jnp.eye(shape[0] * shape[1]).reshape(shape[0] * shape[1], *shape)
    return jax.vmap(fun)(basis).reshape(shape)


MATRIX_PRODUCT = Derivation(
    "matrix_product",
    "The product of two matrices",
    r"C = A B \quad\Rightarrow\quad \bar A = \bar C B^\top, \quad \bar B = A^\top \bar C",
    (
        Step(
            r"\bar A_{ij} = \sum_{k,l} \bar C_{kl} \lim_{h \to 0} \frac{C_{kl}(A + h E_{ij}) - C_{kl}(A)}{h}",
            "the definition of the cotangent",
            pulled_back(jnp.matmul, 0),
            chain="A",
        ),
        Step(
            r"= \sum_{k,l} \bar C_{kl} \sum_m \delta_{ki} \delta_{mj} B_{ml}",
            r"$C_{kl} = \sum_m A_{km} B_{ml}$ is linear in A",
            lambda a, b, ct: jnp.einsum("kl,ki,mj,ml->ij", ct, jnp.eye(a.shape[0]), jnp.eye(a.shape[1]), b),
            kind="limit",
            chain="A",
        ),
        Step(
            r"= \sum_l \bar C_{il} B_{jl}",
            "the Kronecker deltas pick k = i and m = j",
            lambda a, b, ct: jnp.sum(ct[:, None, :] * b[None, :, :], -1),
            chain="A",
        ),
        Step(r"\bar A = \bar C B^\top", "as a matrix product", lambda a, b, ct: ct @ b.T, chain="A"),
        Step(
            r"\bar B_{ij} = \sum_{k,l} \bar C_{kl} \lim_{h \to 0} \frac{C_{kl}(B + h E_{ij}) - C_{kl}(B)}{h}",
            "the definition of the cotangent",
            pulled_back(jnp.matmul, 1),
            chain="B",
        ),
        Step(
            r"= \sum_{k,l} \bar C_{kl} \sum_m A_{km} \delta_{mi} \delta_{lj}",
            "C is linear in B",
            lambda a, b, ct: jnp.einsum("kl,km,mi,lj->ij", ct, a, jnp.eye(b.shape[0]), jnp.eye(b.shape[1])),
            kind="limit",
            chain="B",
        ),
        Step(
            r"\bar B = A^\top \bar C",
            "the Kronecker deltas pick m = i and l = j",
            lambda a, b, ct: a.T @ ct,
            chain="B",
        ),
    ),
    "Giles 2008, section 2.2.1",
    drawing(normal(2, 3), normal(3, 4), normal(2, 4)),
    fun=jnp.matmul,
    arguments=("A", "B"),
    point="A, shape (2, 3); B, shape (3, 4); the cotangent of C, shape (2, 4)",
)


def form(x: Array, a: Array) -> Any:
    return x @ a @ x


QUADRATIC_FORM = Derivation(
    "quadratic_form",
    "The quadratic form",
    r"q = x^\top A x \quad\Rightarrow\quad \bar x = \bar q\,(A + A^\top)\,x, \quad \bar A = \bar q\,x x^\top",
    (
        Step(
            r"\bar x_i = \bar q \lim_{h \to 0} \frac{q(x + h e_i) - q(x)}{h}",
            "the definition of the cotangent",
            pulled_back(form, 0),
            chain="x",
        ),
        Step(
            r"= \bar q \lim_{h \to 0} \left[ e_i^\top A x + x^\top A e_i + h\, e_i^\top A e_i \right]",
            "multiplied out; the term without h cancels, h is divided off",
            Limit(lambda h, x, a, ct: ct * (a @ x + x @ a + h * jnp.diag(a))),
            chain="x",
        ),
        Step(
            r"= \bar q \sum_j (A_{ij} + A_{ji})\, x_j",
            "h tends to 0",
            lambda x, a, ct: ct * jnp.einsum("ij,j->i", a + a.T, x),
            kind="limit",
            chain="x",
        ),
        Step(
            r"\bar x = \bar q\,(A + A^\top)\,x",
            "as a matrix product: 2 A x where A is symmetric, and only there",
            lambda x, a, ct: ct * ((a + a.T) @ x),
            chain="x",
        ),
        Step(
            r"\bar A_{ij} = \bar q \lim_{h \to 0} \frac{q(A + h E_{ij}) - q(A)}{h}",
            "the definition of the cotangent",
            pulled_back(form, 1),
            chain="A",
        ),
        Step(
            r"= \bar q\, x^\top E_{ij}\, x",
            "q is linear in A",
            lambda x, a, ct: ct * entries(lambda e: x @ e @ x, a.shape),
            kind="limit",
            chain="A",
        ),
        Step(
            r"\bar A = \bar q\,x x^\top", r"$x^\top E_{ij}\, x = x_i x_j$", lambda x, a, ct: ct * outer(x, x), chain="A"
        ),
    ),
    "Petersen and Pedersen 2012, section 2.4",
    drawing(normal(3), normal(3, 3), normal()),
    fun=form,
    arguments=("x", "A"),
    point="x, shape (3,); A, shape (3, 3), not symmetric; the cotangent of q, a number",
)


def inverse(a: Array) -> Any:
    return jnp.linalg.inv(a)


INVERSE = Derivation(
    "matrix_inverse",
    "The inverse of a matrix",
    r"Y = A^{-1} \quad\Rightarrow\quad \bar A = -Y^\top \bar Y\, Y^\top",
    (
        Step(
            r"\bar A_{ij} = \sum_{k,l} \bar Y_{kl} \lim_{h \to 0} \frac{\left[ (A + h E_{ij})^{-1}"
            r" - A^{-1} \right]_{kl}}{h}",
            "the definition of the cotangent",
            pulled_back(inverse),
        ),
        Step(
            r"= \sum_{k,l} \bar Y_{kl} \lim_{h \to 0} \frac{\left[ (A + h E_{ij})^{-1} (A - (A"
            r" + h E_{ij}))\, A^{-1} \right]_{kl}}{h}",
            r"$P^{-1} - Q^{-1} = P^{-1} (Q - P)\, Q^{-1}$",
            Limit(
                lambda h, a, ct: entries(
                    lambda e: jnp.vdot(ct, inverse(a + h * e) @ (a - (a + h * e)) @ inverse(a)) / h, a.shape
                )
            ),
        ),
        Step(
            r"= -\sum_{k,l} \bar Y_{kl} \lim_{h \to 0} \left[ (A + h E_{ij})^{-1} E_{ij}\, A^{-1} \right]_{kl}",
            "A cancels, h is divided off",
            Limit(lambda h, a, ct: -entries(lambda e: jnp.vdot(ct, inverse(a + h * e) @ e @ inverse(a)), a.shape)),
        ),
        Step(
            r"= -\sum_{k,l} \bar Y_{kl}\, Y_{ki}\, Y_{jl}",
            "the inverse is continuous where the matrix is regular",
            lambda a, ct: -jnp.einsum("kl,ki,jl->ij", ct, inverse(a), inverse(a)),
            kind="limit",
        ),
        Step(r"\bar A = -Y^\top \bar Y\, Y^\top", "as matrices", lambda a, ct: -inverse(a).T @ ct @ inverse(a).T),
    ),
    "Giles 2008, section 2.2.3",
    drawing(regular(3), normal(3, 3)),
    fun=inverse,
    arguments=("A",),
    point="A, shape (3, 3), regular, and the cotangent of Y",
)


def minors(a: Array) -> Any:
    """The determinants of A without row i and column j, with their signs: the cofactors C_ij."""
    n = a.shape[0]
    keep = [[k for k in range(n) if k != i] for i in range(n)]
    return jnp.stack(
        [
            jnp.stack(
                [(-1.0) ** (i + j) * jnp.linalg.det(a[jnp.asarray(keep[i])][:, jnp.asarray(keep[j])]) for j in range(n)]
            )
            for i in range(n)
        ]
    )


DETERMINANT = Derivation(
    "determinant",
    "The determinant",
    r"d = \det A \quad\Rightarrow\quad \bar A = \bar d\, \det(A)\, A^{-\top}",
    (
        Step(
            r"\bar A_{ij} = \bar d \lim_{h \to 0} \frac{\det(A + h E_{ij}) - \det A}{h}",
            "the definition of the cotangent",
            pulled_back(jnp.linalg.det),
        ),
        Step(
            r"= \bar d \lim_{h \to 0} \frac{h\, C_{ij}}{h}, \quad C_{ij}"
            r" = (-1)^{i+j} \det A_{\setminus i, \setminus j}",
            "expanded along row i: the determinant is linear in the entry, with its cofactor as factor",
            Limit(lambda h, a, ct: ct * h * minors(a) / h),
        ),
        Step(r"= \bar d\, C_{ij}", "h cancels", lambda a, ct: ct * minors(a), kind="limit"),
        Step(
            r"= \bar d\, \det(A)\, (A^{-1})_{ji}",
            r"Cramer: $A^{-1} = C^\top / \det A$, for a regular matrix",
            lambda a, ct: ct * jnp.linalg.det(a) * inverse(a).T,
        ),
    ),
    "Jacobi 1841; Giles 2008, section 2.2.4",
    drawing(regular(3), normal()),
    fun=jnp.linalg.det,
    arguments=("A",),
    point="A, shape (3, 3), regular, and the cotangent of d, a number",
    notes=("The line before the last holds for singular matrices too.",),
)


def log_det(a: Array) -> Any:
    return jnp.linalg.slogdet(a)[1]


LOG_DETERMINANT = Derivation(
    "log_determinant",
    "The logarithm of the determinant",
    r"l = \ln |\det A| \quad\Rightarrow\quad \bar A = \bar l\, A^{-\top}",
    (
        Step(
            r"\bar A_{ij} = \bar l \lim_{h \to 0} \frac{\ln |\det(A + h E_{ij})| - \ln |\det A|}{h}",
            "the definition of the cotangent",
            pulled_back(log_det),
        ),
        Step(
            r"= \bar l \lim_{h \to 0} \frac{1}{h} \ln |\det(I + h A^{-1} E_{ij})|",
            "the determinant of a product is the product of the determinants",
            Limit(
                lambda h, a, ct: ct * entries(lambda e: log_det(jnp.eye(a.shape[0]) + h * inverse(a) @ e), a.shape) / h
            ),
        ),
        Step(
            r"= \bar l \lim_{h \to 0} \frac{1}{h} \ln |1 + h\, (A^{-1})_{ji}|",
            r"$E_{ij} = e_i e_j^\top$ has rank one, and $\det(I + u v^\top) = 1 + v^\top u$",
            Limit(lambda h, a, ct: ct * jnp.log(jnp.abs(1 + h * inverse(a).T)) / h),
        ),
        Step(
            r"\bar A = \bar l\, A^{-\top}",
            r"$\ln(1 + u)/u$ tends to 1",
            lambda a, ct: ct * inverse(a).T,
            kind="limit",
        ),
    ),
    "Giles 2008, section 2.2.4; Petersen and Pedersen 2012, section 2.1.4",
    drawing(regular(3), normal()),
    fun=log_det,
    arguments=("A",),
    oracles=(Oracle("jnp.linalg.solve", lambda a, ct: ct * jnp.linalg.solve(a.T, jnp.eye(a.shape[0])), "A", "last"),),
    point="A, shape (3, 3), regular, and the cotangent of l, a number",
)

DERIVATIONS = (MATRIX_PRODUCT, QUADRATIC_FORM, INVERSE, DETERMINANT, LOG_DETERMINANT)
