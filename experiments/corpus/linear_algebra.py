"""Inverse, solve, determinant, Cholesky factor, eigenvalues, norms."""

import jax.numpy as jnp

from experiments.corpus.case import WIDE, Fault, operation


def _matrix(draw):
    return (draw.cast(draw.rng.normal(size=(4, 4)) + 3 * jnp.eye(4)),)


@operation(
    _matrix,
    dtypes=WIDE,
    no_minus=Fault("sign"),
    not_transposed=Fault("transpose", also=("wrong_point",), note="-B ct B in place of -B^T ct B^T"),
    one_factor=Fault("missing_term", also=("unknown", "wrong_point"), note="-B^T ct: a factor, not a term"),
    of_input=Fault("wrong_point", note="A in place of its inverse"),
)
def inverse(fault):
    def fun(a):
        return jnp.linalg.inv(a)

    def fun_vjp(a):
        b = fun(a)

        def pullback(ct):
            m = a if fault == "of_input" else b
            m = m if fault == "not_transposed" else m.T
            bar = m @ ct if fault == "one_factor" else m @ ct @ m
            return (bar if fault == "no_minus" else -bar,)

        return b, pullback

    return fun, fun_vjp


@operation(
    lambda d: (*_matrix(d), d.normal(4, 4)),
    dtypes=WIDE,
    no_minus=Fault("sign", 0),
    not_transposed=Fault("wrong_point", (0, 1), also=("transpose",), note="A in place of A^T in the adjoint system"),
    outer_transposed=Fault("transpose", 0),
    right_hand_side=Fault("wrong_point", 0, note="b in place of the solution"),
    iterations=Fault("precision", (0, 1), note="the adjoint system solved by a few steps of an iteration"),
)
def solve(fault):
    def fun(a, b):
        return jnp.linalg.solve(a, b)

    def fun_vjp(a, b):
        x = fun(a, b)

        def adjoint(ct):
            m = a if fault == "not_transposed" else a.T
            if fault == "iterations":
                guess = jnp.linalg.inv(m.astype(jnp.float32).round(2)).astype(m.dtype)
                return guess @ (2 * ct - m @ (guess @ ct))
            return jnp.linalg.solve(m, ct)

        def pullback(ct):
            b_bar = adjoint(ct)
            a_bar = -b_bar @ (b if fault == "right_hand_side" else x).T
            if fault == "no_minus":
                a_bar = -a_bar
            return (a_bar.T if fault == "outer_transposed" else a_bar), b_bar

        return x, pullback

    return fun, fun_vjp


@operation(
    _matrix,
    dtypes=WIDE,
    not_transposed=Fault("transpose"),
    logarithm=Fault("scale", note="log det's derivative: the factor det is left out"),
    ignores_ct=Fault("ignored_cotangent"),
)
def determinant(fault):
    def fun(a):
        return jnp.linalg.det(a)

    def fun_vjp(a):
        def pullback(ct):
            inverse = jnp.linalg.inv(a)
            bar = inverse if fault == "not_transposed" else inverse.T
            if fault != "logarithm":
                bar = fun(a) * bar
            return (bar if fault == "ignores_ct" else ct * bar,)

        return fun(a), pullback

    return fun, fun_vjp


def _positive(draw):
    a = draw.rng.normal(size=(4, 4))
    return (draw.cast(a @ a.T + 2 * jnp.eye(4)),)


@operation(
    _positive,
    dtypes=WIDE,
    diagonal_whole=Fault("scale", also=("unknown", "missing_term", "wrong_branch"),
            note="Phi's half on "
            "the diagonal is forgotten"),
    not_symmetrised=Fault("missing_term", also=("transpose", "unknown"), note="half of the symmetrised result"),
    upper=Fault("transpose", also=("wrong_branch", "wrong_point", "unknown")),
)  # fmt: skip
def cholesky(fault):
    def fun(a):
        return jnp.linalg.cholesky((a + a.T) / 2)

    def fun_vjp(a):
        l = fun(a)

        def pullback(ct):
            p = jnp.tril(l.T @ ct)
            if fault == "upper":
                p = jnp.triu(l.T @ ct)
            if fault != "diagonal_whole":
                p = p - jnp.diag(jnp.diag(p)) / 2
            s = jnp.linalg.solve(l.T, jnp.linalg.solve(l.T, p.T).T)
            return (s / 2 if fault == "not_symmetrised" else (s + s.T) / 2,)

        return l, pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 4), d.normal(4)),
    one_side=Fault("missing_term", 1, note="A x without A^T x"),
    doubled=Fault(
        "missing_term", 1, also=("wrong_point", "transpose", "unknown"), note="2 A x: as if A were symmetric"
    ),
    outer=Fault("ignored_cotangent", 0),
    scaled=Fault("scale", 0),
)
def quadratic_form(fault):
    def fun(a, x):
        return x @ a @ x

    def fun_vjp(a, x):
        def pullback(ct):
            x_bar = ct * (a @ x + a.T @ x)
            if fault == "one_side":
                x_bar = ct * (a @ x)
            if fault == "doubled":
                x_bar = 2 * ct * (a @ x)
            a_bar = jnp.outer(x, x) * (1 if fault == "outer" else ct)
            return (2 * a_bar if fault == "scaled" else a_bar), x_bar

        return fun(a, x), pullback

    return fun, fun_vjp


@operation(
    _positive,
    dtypes=WIDE,
    transposed=Fault("transpose", also=("wrong_point", "unknown"), note="V^T diag(ct) V"),
    random_shift=Fault(
        "unknown", also=("missing_term",), note="eigenvectors of another, slightly shifted matrix, with signs lost"
    ),
    half=Fault("scale"),
)
def eigenvalues(fault):
    def fun(a):
        return jnp.linalg.eigvalsh((a + a.T) / 2)

    def fun_vjp(a):
        def pullback(ct):
            _, v = jnp.linalg.eigh((a + a.T) / 2)
            if fault == "random_shift":
                v = jnp.abs(v)
            if fault == "transposed":
                v = v.T
            bar = (v * ct) @ v.T
            return (bar / 2 if fault == "half" else bar,)

        return fun(a), pullback

    return fun, fun_vjp
