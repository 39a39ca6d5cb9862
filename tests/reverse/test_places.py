"""Indexing as it is written in models, and the places where JAX refuses, loses cotangents, or where entries tie."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import reverse

X = np.array([[0.5, -1.0, 2.0, 0.25], [1.5, 0.75, -0.5, 3.0], [-2.0, 1.25, 0.1, 0.9]])
INDEX = np.array([2, 0, 2, -1])

PROGRAMS = {
    "take_along_axis": lambda x: jnp.take_along_axis(x, jnp.argsort(x, axis=1), axis=1),
    "mixed": lambda x: x[jnp.array([0, 2, 2]), 1:3],
    "outer": lambda x: x[jnp.array([0, 2])[:, None], jnp.array([1, 1, 3])[None, :]],
    "mask": lambda x: x[np.array([True, False, True])],
    "traced scalar": lambda x: jax.jit(lambda x, i: x[i] * x[i + 1])(x, 1),
    "set": lambda x: x.at[:, INDEX].set(jnp.sin(x)),
    "add": lambda x: x.at[:, INDEX].add(jnp.sin(x)),
    "multiply": lambda x: x.at[1].multiply(jnp.sin(x[0])),
    "min": lambda x: x.at[:, INDEX].min(jnp.sin(x)),
    "max": lambda x: x.at[:, INDEX].max(jnp.sin(x)),
    "take": lambda x: jnp.take(x, INDEX, axis=1),
    "take with fill": lambda x: jnp.take(x, jnp.array([1, 7]), axis=1, mode="fill", fill_value=0.5),
    "roll": lambda x: jnp.roll(x, 2, axis=1),
    "roll by a tracer": lambda x: jax.jit(lambda x, n: jnp.roll(x, n, axis=1))(x, 3),
    "repeat": lambda x: jnp.repeat(x, 3, axis=0),
    "repeat unevenly": lambda x: jnp.repeat(x, np.array([0, 2, 1]), axis=0),
    "one_hot": lambda x: jnp.sum(jax.nn.one_hot(jnp.array([1, 3, 0]), 4, dtype=x.dtype) * jax.nn.log_softmax(x), 1),
    "segment_sum": lambda x: jax.ops.segment_sum(x, jnp.array([1, 0, 1]), 3),
    "segment_max": lambda x: jax.ops.segment_max(x, jnp.array([1, 0, 1]), 2),
    "dynamic index": lambda x: lax.dynamic_index_in_dim(x, 1, 1) * x,
    "dynamic update": lambda x: lax.dynamic_update_index_in_dim(x, jnp.sin(x[0]), 2, 0),
    "diagonal": lambda x: jnp.diagonal(x) ** 2,
    "tile": lambda x: jnp.tile(x, (2, 2)) ** 2,
    "split": lambda x: jnp.split(x, 2, axis=1)[0] * jnp.split(x, 2, axis=1)[1],
    "delete": lambda x: jnp.delete(x, 1, axis=1) ** 2,
    "triu": lambda x: jnp.triu(x) ** 2,
    "batched index": lambda x: jax.vmap(lambda r, i: r[i] ** 2)(x, jnp.array([3, 0, 1])),
    "batched update": lambda x: jax.vmap(lambda r, i: r.at[i].set(r[0] * r[1]))(x, jnp.array([3, 0, 1])),
    "batched slice": lambda x: jax.vmap(lambda r, i: lax.dynamic_slice(r, (i,), (2,)) ** 2)(x, jnp.array([3, 0, 1])),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.sampled(4)
def test_indexing_equals_jax_to_second_order(name):
    def loss(x):
        return jnp.sum(jnp.cos(PROGRAMS[name](x)))

    def slope(grad):
        return lambda x: jnp.sum(jnp.sin(grad(loss)(x)))

    @jax.jit
    def both(x):
        first = reverse.grad(loss)(x), jax.grad(loss)(x)
        return first, (reverse.grad(slope(reverse.grad))(x), jax.grad(slope(jax.grad))(x))

    x = jnp.asarray(X)
    first, second = both(x)
    np.testing.assert_allclose(*first, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(*second, rtol=1e-12, atol=1e-13)
    if name in ("mixed", "set"):
        np.testing.assert_allclose(reverse.grad(loss)(x), first[1], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("kind", ["min", "max"])
def test_ties_of_scatter_extrema_share_as_jax_has_them(kind):
    def fun(x, u):
        return getattr(x.at[jnp.array([0, 0, 1, 1, 2])], kind)(u)

    x, u = jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.array([1.0, 1.0, 2.0, 5.0, 3.0])
    ct = jnp.array([1.0, 10.0, 100.0, 1000.0])
    for ours, theirs in zip(reverse.vjp(fun, x, u)[1](ct), jax.vjp(fun, x, u)[1](ct), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)


@pytest.mark.parametrize("kind", ["min", "max"])
def test_scatter_extrema_at_clipped_places(kind):
    """JAX reads these places with another mode than it writes them, and so loses the update's cotangent."""

    def fun(x, u):
        return getattr(x.at[jnp.array([1, 9])], kind)(u, mode="clip")

    sign = 1.0 if kind == "max" else -1.0
    x, u = sign * jnp.array([1.0, 2.0, 3.0, 4.0]), sign * jnp.array([1.0, 5.0])
    x_bar, u_bar = reverse.vjp(fun, x, u)[1](jnp.array([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(x_bar, [1.0, 2.0, 3.0, 0.0])
    np.testing.assert_array_equal(u_bar, [0.0, 4.0])


def scattered_product(x, u, index):
    """The same by arithmetic alone: y_j = x_j prod_i (u_i if p(i) = j else 1)."""
    for i, j in enumerate(index):
        x = jnp.where(jnp.arange(x.shape[0]) == j, x * u[i], x)
    return x


@pytest.mark.parametrize("zeros", list(itertools.product([False, True], repeat=3)))
@pytest.mark.sampled(3)
def test_scatter_mul_with_repeated_places_and_zeros(zeros):
    """jax.grad refuses; the products of the other factors are exact, to the second order too."""
    index = np.array([2, 0, 2, 2, 5])
    x = jnp.array([1.5, -2.0, 0.5])
    u = jnp.array([3.0, 0.25, -1.5, 2.0, 7.0])
    u = u.at[jnp.array([0, 2, 3])].multiply(jnp.where(jnp.array(zeros), 0.0, 1.0))

    def fun(x, u):
        return x.at[index].multiply(u, mode="drop")

    def plain(x, u):
        return scattered_product(x, u, index)

    ct = jnp.array([1.0, 10.0, 100.0])

    @jax.jit
    def both(x, u):
        def first(vjp, fun):
            return vjp(fun, x, u)[1](ct)

        def second(vjp, fun):
            return vjp(lambda x, u: vjp(fun, x, u)[1](ct), x, u)[1]((x, jnp.cos(u)))

        return [(order(reverse.vjp, fun), order(jax.vjp, plain)) for order in (first, second)]

    for (ours, theirs), rtol in zip(both(x, u), (1e-14, 1e-13), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol)


def test_apply_at_one_place():
    """jax.grad refuses at[].apply."""
    x = jnp.asarray(X[0])
    bar = reverse.grad(lambda x: jnp.sum(x.at[1].apply(jnp.sin) ** 2))(x)
    np.testing.assert_allclose(bar, jax.grad(lambda x: jnp.sum(x.at[1].set(jnp.sin(x[1])) ** 2))(x), rtol=1e-14)
    bar = reverse.grad(lambda x: jnp.sum(x.at[1:3].apply(lambda z: z * z * z)))(x)
    np.testing.assert_allclose(bar, [1.0, 3.0, 12.0, 1.0], rtol=1e-14)
    twice = reverse.grad(lambda x: jnp.sum(reverse.grad(lambda x: jnp.sum(x.at[1:3].apply(lambda z: z * z * z)))(x)))
    np.testing.assert_allclose(twice(x), [0.0, -6.0, 12.0, 0.0], rtol=1e-14)


def test_apply_at_repeated_places_is_the_function_of_the_function():
    x = jnp.array([0.5, 0.25, 2.0])

    def fun(x):
        return jnp.sum(x.at[jnp.array([1, 1, 0, 1, 7])].apply(jnp.sin))

    s = [0.25, math.sin(0.25), math.sin(math.sin(0.25))]
    expected = [math.cos(0.5), math.cos(s[0]) * math.cos(s[1]) * math.cos(s[2]), 1.0]
    np.testing.assert_allclose(fun(x), math.sin(0.5) + math.sin(s[2]) + 2.0, rtol=1e-14)
    np.testing.assert_allclose(reverse.grad(fun)(x), expected, rtol=1e-14)


def test_many_ties_are_counted_exactly_in_half_precision():
    """1000 updates tie: a count kept in bfloat16 would stop at 256."""
    u = jnp.ones(1000, jnp.bfloat16)
    _, pull = reverse.vjp(lambda u: jnp.zeros(1, jnp.bfloat16).at[jnp.zeros(1000, int)].max(u), u)
    [bar] = pull(jnp.ones(1, jnp.bfloat16))
    np.testing.assert_allclose(bar.astype(jnp.float64), 1e-3, rtol=2**-8)


def test_gather_costs_no_more_than_jax_makes_it():
    def loss(x):
        return jnp.sum(jnp.sin(x[jnp.array([[2, 0, 2], [1, 1, 0]])]))

    x = jnp.ones((3, 8))
    ours, theirs = (jax.jit(g(loss)).lower(x).compile().cost_analysis()["flops"] for g in (reverse.grad, jax.grad))
    assert ours <= theirs
