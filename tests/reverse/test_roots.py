"""Solutions of equations, lax.custom_root, and primitives that are Python objects: equal to jax.vjp, and to numbers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.flatten_util import ravel_pytree

from functional_dl import reverse

A = jnp.array([[0.4, -0.3], [0.2, 0.5]])
B = jnp.array([0.7, -1.1])


def root(a):
    """sqrt(a)."""

    def solve(f, start):
        return lax.fori_loop(0, 30, lambda _, x: x - f(x) / (2 * x), start)

    return lax.custom_root(lambda x: x * x - a, 1.0, solve, lambda g, y: y / g(1.0))


def root_and_report(a):
    def solve(f, start):
        x = lax.fori_loop(0, 30, lambda _, x: x - f(x) / (2 * x), start)
        return x, {"residual": f(x)}

    return lax.custom_root(lambda x: x * x - a, 1.0, solve, lambda g, y: y / g(1.0), has_aux=True)


def contraction(f, start):
    return lax.fori_loop(0, 80, lambda _, x: jax.tree.map(lambda x, r: x - 0.2 * r, x, f(x)), start)


def system(jacobian):
    """4 x + A x + sin(x) / 2 = b, its tangent system solved with a Jacobian."""

    def solution(a, b):
        def residual(x):
            return 4 * x + a @ x + 0.5 * jnp.sin(x) - b

        return lax.custom_root(residual, jnp.zeros(2), contraction, lambda g, y: jnp.linalg.solve(jacobian(g)(y), y))

    return solution


def system_of_trees(a, b):
    def residual(x):
        return {"u": 2 * x["u"] - jnp.cos(x["v"]) - a, "v": 3 * x["v"] + 0.3 * x["u"] ** 2 - b}

    def tangent_solve(g, y):
        flat, unravel = ravel_pytree(y)
        matrix = jax.jacobian(lambda v: ravel_pytree(g(unravel(v)))[0])(flat)
        return unravel(jnp.linalg.solve(matrix, flat))

    start = {"u": jnp.zeros(2), "v": jnp.zeros(2)}
    return lax.custom_root(residual, start, contraction, tangent_solve)


PROGRAMS = {
    "root": (root, (jnp.float64(2.0),)),
    "root in a jit": (jax.jit(root), (jnp.float64(2.0),)),
    "root under vmap": (jax.vmap(root), (jnp.array([1.0, 2.0, 3.0]),)),
    "root in a scan": (lambda a: lax.scan(lambda c, x: (root(c + x), c), a, jnp.arange(3.0)), (jnp.float64(2.0),)),
    "root in a checkpoint": (jax.checkpoint(root), (jnp.float64(2.0),)),
    "derivative of the root": (jax.grad(root), (jnp.float64(2.0),)),
    "root with a report": (lambda a: root_and_report(a)[0], (jnp.float64(2.0),)),
    "system, jacfwd": (system(jax.jacfwd), (A, B)),
    "system, jacrev": (system(jax.jacrev), (A, B)),
    "system, reverse's jacrev": (system(reverse.jacrev), (A, B)),
    "system under vmap": (lambda a, b: jax.vmap(system(jax.jacfwd), (None, 0))(a, b), (A, jnp.stack([B, 2 * B]))),
    "system of trees": (system_of_trees, (B, 2 * B)),
    "ldexp": (lambda x: jnp.ldexp(x, jnp.array([[2], [-3]])) * x, (A,)),
    "ldexp under vmap": (jax.vmap(lambda x: jnp.ldexp(x, 3) * x), (A,)),
    "frexp": (lambda x: jnp.frexp(x)[0] * x, (A,)),
}


def ones(out):
    return jax.tree.map(jnp.ones_like, out)


def bars(vjp, fun, args):
    out, pullback = vjp(fun, *args)
    return pullback(ones(out))


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.sampled(4)
def test_equals_jax(name):
    fun, args = PROGRAMS[name]

    @jax.jit
    def to_order_two(*args):
        return [[bars(v, fun, args), bars(v, lambda *xs: bars(v, fun, xs), args)] for v in (jax.vjp, reverse.vjp)]

    expected, ours = to_order_two(*args)
    chex.assert_trees_all_close(ours, expected, rtol=1e-9, atol=1e-11)
    if name in ("root", "system of trees", "ldexp", "frexp"):
        eager = bars(reverse.vjp, fun, args)
        chex.assert_trees_all_close(eager, expected[0], rtol=1e-9, atol=1e-11)


def test_the_root_by_hand():
    """d sqrt(a)/da = 1 / (2 sqrt a) = 1/4 at 4, and then -1 / (4 a sqrt a), 3 / (8 a^2 sqrt a)."""
    first = reverse.grad(root)
    second, third = reverse.grad(first), reverse.grad(reverse.grad(first))
    np.testing.assert_allclose([first(4.0), second(4.0), third(4.0)], [1 / 4, -1 / 32, 3 / 256], rtol=1e-12)
    assert reverse.grad(lambda a: root_and_report(a)[1]["residual"])(4.0) == 0.0


@pytest.mark.skipif(jax.__version_info__ < (0, 12), reason="a class of JAX 0.12")
def test_users_objects():
    """Their rules, which multiply the true derivative so that they are seen to be used."""
    from jax.experimental import hijax  # of the class's interface

    class Sine(hijax.HiPrim):
        def __init__(self, aval):
            self.in_avals, self.out_aval, self.params = (aval,), aval, {}
            super().__init__()

        def expand(self, x):
            return jnp.sin(x)

    class TwoPasses(Sine):
        def vjp_fwd(self, nonzeros, x):
            return self(x), x

        def vjp_bwd_retval(self, x, ct):
            return (2 * jnp.cos(x) * ct,)

    class Accumulated(TwoPasses):
        def vjp_bwd(self, x, ct, total):
            total.accum(3 * jnp.cos(x) * ct)

    class Tangent(Sine):
        def jvp(self, primals, tangents):
            return self(*primals), 5 * jnp.cos(primals[0]) * tangents[0]

        lin, linearized = hijax.linearize_from_jvp
        vjp_fwd, vjp_bwd_retval = hijax.vjp_from_jvp

    for kind, factor in ((TwoPasses, 2), (Accumulated, 3), (Tangent, 5)):

        def fun(x, kind=kind):
            return jnp.sum(kind(jax.typeof(x))(x))

        for grad in (reverse.grad(fun), jax.jit(reverse.grad(fun)), reverse.grad(jax.jit(fun)), jax.grad(fun)):
            np.testing.assert_allclose(grad(B), factor * np.cos(B), rtol=1e-14)
    with pytest.raises(NotImplementedError, match="Sine not implemented: it has neither"):
        reverse.grad(lambda x: jnp.sum(Sine(jax.typeof(x))(x)))(B)
